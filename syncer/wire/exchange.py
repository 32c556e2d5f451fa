"""One request and its answer."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Final, NoReturn, Protocol, Self

from syncer.errors import InternalError, Transient
from syncer.wire.dialing import Connection, CutOff, Origin, head_bytes, refused_by
from syncer.wire.response import Response

_PROXY_WANTS_LOGIN: Final = 407
_SMALL: Final = 16 * 1024
"""A first piece of a body up to this many bytes travels together with the head."""


class Pool(Protocol):
    """Where an exchange gets its connection from and where it leaves it."""

    def take(self, origin: Origin, *, fresh: bool, idle: float) -> Connection:
        """A connection to `origin`: a kept one unless `fresh`, with `idle` seconds as its limit of silence."""
        ...

    def give(self, connection: Connection) -> None:
        """Take back a connection that is ready for another request."""
        ...

    def drop(self, connection: Connection) -> None:
        """Close a connection that is of no use any more."""
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """What goes into the head; `length` is the body's, None for none at all."""

    method: str
    target: str
    headers: dict[str, str]
    length: int | None

    def head(self, connection: Connection) -> bytes:
        """First line and headers for this connection; a plain proxy wants the whole URL."""
        origin, proxy = connection.origin, connection.proxy
        headers = {"Host": origin.authority, "Accept-Encoding": "identity"} | self.headers
        if self.length is not None:
            headers["Content-Length"] = str(self.length)
        if proxy is None or origin.scheme == "https":
            return head_bytes(self.method, self.target, headers)
        if proxy.authorization:
            headers["Proxy-Authorization"] = proxy.authorization
        return head_bytes(self.method, f"{origin}{self.target}", headers)


class Exchange:
    """One request on its way: `send` the body, then take the `answer`; or `cancel`."""

    def __init__(self, pool: Pool, origin: Origin, request: Request, idle: float, *, fresh: bool = False) -> None:
        self._pool = pool
        self._origin = origin
        self._request = request
        self._idle = idle
        self._fresh = fresh
        self._connection: Connection | None = None
        self._sent = 0
        self._early: Answer | None = None

    def send(self, data: memoryview) -> bool:
        """Send some of the body; False when the other side has answered already and wants no more: read `answer()`."""
        if self._early is not None:
            return False
        if self._connection is None:
            return self._start(data)
        try:
            self._connection.sock.sendall(data)
        except OSError as error:
            self._interrupted_send(error)
            return False
        self._sent += len(data)
        return True

    def answer(self) -> Answer:
        """The answer's status and headers, once the whole body was sent."""
        if self._connection is None and self._early is None:
            self._start(memoryview(b""))
        if (early := self._early) is not None:
            return early
        if self._sent != (self._request.length or 0):
            self.cancel()
            raise InternalError(f"{self._sent} of {self._request.length} bytes were sent before the answer was wanted")
        return self._read_answer()

    def cancel(self) -> None:
        """Give the request up; its connection is of no more use.  Silent and repeatable."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.drop(connection)

    def _start(self, data: memoryview) -> bool:
        fresh = self._fresh
        while True:
            connection = self._connection = self._pool.take(self._origin, fresh=fresh, idle=self._idle)
            try:
                self._push_first(connection, data)
            except OSError as error:
                if not connection.reused or connection.cut:
                    self._interrupted_send(error)
                    return False
                self._pool.drop(connection)
                fresh = True
            except BaseException:
                self.cancel()
                raise
            else:
                self._sent += len(data)
                return True

    def _push_first(self, connection: Connection, data: memoryview) -> None:
        head = self._request.head(connection)
        if len(data) <= _SMALL:
            connection.sock.sendall(head + data)
        else:
            connection.sock.sendall(head)
            connection.sock.sendall(data)

    def _interrupted_send(self, error: OSError) -> None:
        """An answer may be there already (403, and the connection closed): then that is what happened."""
        connection = self._connection
        if connection is None or connection.cut or not connection.is_readable():
            self._fail(f"while {self._sent} of {self._request.length} bytes were sent", error)
        answer = self._read_answer()
        answer.spoil()
        self._early = answer

    def _read_answer(self) -> Answer:
        connection = self._connection
        if connection is None:
            raise InternalError("the answer was read already")
        try:
            response = Response(connection.sock, method=self._request.method)
        except ConnectionError as error:
            if connection.reused and not connection.cut:
                self.cancel()
                raise Stale(f"{self._origin} had closed the connection") from error
            self._fail("before it answered", error)
        except (OSError, ValueError) as error:
            self._fail("before it answered", error)
        if response.status == _PROXY_WANTS_LOGIN and connection.proxy is not None:
            self.cancel()
            raise refused_by(connection.proxy, self._origin, "407")  # no store ever says that of itself
        self._connection = None
        return Answer(self._pool, connection, response)

    def _fail(self, what: str, error: BaseException) -> NoReturn:
        cut = self._connection is not None and self._connection.cut
        self.cancel()
        raise _broken(self._origin, what, error, cut=cut) from error


class Answer:
    """Status, headers and a body that is read into the caller's buffers.

    The connection goes back to the pool by itself when the last byte was read.  `length` is what the other side
    announced, None where it did not (chunked, or until it closes).
    """

    def __init__(self, pool: Pool, connection: Connection, response: Response) -> None:
        self.status = response.status
        self.headers = response.headers
        self.length: int | None = response.length
        self._pool = pool
        self._connection: Connection | None = connection
        self._response = response
        self._read = 0
        if response.ended:
            self._release()

    def header(self, name: str) -> str:
        """One header's value, empty if it is not there."""
        return self.headers.get(name)

    def readinto(self, buffer: memoryview) -> int:
        """Fill some of `buffer`; 0 when the body is complete, `Transient` when it ends before its length."""
        connection = self._connection
        if connection is None or not len(buffer):
            return 0
        try:
            count = self._response.readinto(buffer)
        except (OSError, ValueError) as error:
            self._fail(error)
        self._read += count
        if self._response.ended:
            if self.length is not None and self._read != self.length:
                self._fail(None)
            self._release()
        return count

    def read(self, limit: int = 64 * 1024 * 1024) -> bytes:
        """The whole body, which must not be longer than `limit` bytes; for small documents."""
        if self._connection is None:
            return b""
        data = bytearray()
        piece = memoryview(bytearray(min(limit, self.length or limit, 256 * 1024) or 1))
        while count := self.readinto(piece):
            data += piece[:count]
            if len(data) > limit:
                self.close()
                raise Transient(f"an answer of more than {limit} bytes where a small document was expected")
        return bytes(data)

    def spoil(self) -> None:
        """Do not use the connection again after this answer."""
        self._response.will_close = True

    def close(self) -> None:
        """Let go.  A connection with unread bytes is closed.  Silent and repeatable."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.drop(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._response.will_close:
            self._pool.drop(connection)
        else:
            self._pool.give(connection)

    def _fail(self, error: BaseException | None) -> NoReturn:
        connection = self._connection
        origin, cut = (connection.origin, connection.cut) if connection else (Origin("http", "?", 80), False)
        self.close()
        announced = "?" if self.length is None else self.length
        raise _broken(origin, f"after {self._read} of {announced} bytes", error, cut=cut) from error


class Stale(Transient):
    """A pooled connection was closed by the other side before it answered a single byte."""


def _broken(origin: Origin, what: str, error: BaseException | None, *, cut: bool) -> Transient:
    if cut:
        return CutOff(f"{origin}: stopped {what}")
    why = (
        "no byte within the time limit" if isinstance(error, (TimeoutError, BlockingIOError)) else type(error).__name__
    )
    return Transient(f"{origin} broke off {what}" + (f" ({why})" if error is not None else ""))
