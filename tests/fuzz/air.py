"""A wire without a network: what the far end says is a list of raw answers, byte for byte.

Everything above the socket is the program's own: the reader of answers, the pool, redirects, logins.  The last
answer is given again to whoever asks once more, so that a client which never stops asking is found out.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

from syncer.errors import EndpointUnreachable
from syncer.retry import Patience
from syncer.wire import Timeouts
from syncer.wire.dialing import Connection, Dialer, Origin
from tests.fuzz.mutation import NEXT

MOST_REQUESTS = 300
ONCE = Patience(seconds=0.0, sleep=lambda _seconds: None)
UNKEPT = Timeouts(keep=0.0)
"""Every request dials anew: a kept connection would be asked whether it can be read."""


class EndlessConversation(AssertionError):
    """A client that goes on asking."""


class Air:
    """The far end of all wires while `answering`."""

    def __init__(self) -> None:
        self._answers: list[bytes] = [b""]
        self._asked = 0
        self.sent = bytearray()

    @contextmanager
    def answering(self, conversation: bytes) -> Iterator[None]:
        """Everybody who dials gets the answers of `conversation`, in their order."""
        self._answers = conversation.split(NEXT)
        self._asked = 0
        self.sent.clear()
        with mock.patch.object(Dialer, "dial", lambda _dialer, origin, limit: self.connection(origin)):
            yield

    def connection(self, origin: Origin) -> Connection:
        """A connection that hears the next answer.  The name of the host is looked at as the system's resolver does."""
        try:
            origin.host.encode("idna")
        except UnicodeError as error:
            raise EndpointUnreachable("the host name is not known") from error
        self._asked += 1
        if self._asked > MOST_REQUESTS:
            raise EndlessConversation(f"{self._asked} requests")
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return _Thread(_Socket(self, answer), origin, None)  # type: ignore[arg-type]  # what is used of a socket


class Hall(Air):
    """A far end that answers each request for itself: `says` is given its method and target.  For many threads."""

    def __init__(self, says: Callable[[str, str], bytes]) -> None:
        super().__init__()
        self._says = says

    def connection(self, origin: Origin) -> Connection:
        """A connection whose answer depends on what is asked."""
        return _Thread(_Listening(self, self._says), origin, None)  # type: ignore[arg-type]  # see above


class _Thread(Connection):
    """A connection without a descriptor."""

    def allow_silence(self, seconds: float) -> None: ...

    def is_readable(self) -> bool:
        return False

    def shut_down(self) -> None: ...


class _Socket:
    """As much of a socket as the wire touches."""

    def __init__(self, air: Air, answer: bytes) -> None:
        self._air = air
        self._answer = answer

    def sendall(self, data: bytes | memoryview) -> None:
        self._air.sent += data

    def close(self) -> None:
        pass

    def recv(self, count: int) -> bytes:
        data, self._answer = self._answer[:count], self._answer[count:]
        return data

    def recv_into(self, buffer: memoryview) -> int:
        data = self.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Listening(_Socket):
    """Hears a request, and has its answer."""

    def __init__(self, air: Air, says: Callable[[str, str], bytes]) -> None:
        super().__init__(air, b"")
        self._says = says

    def sendall(self, data: bytes | memoryview) -> None:
        method, target, _ = bytes(data).split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        self._answer = self._says(method, target)
