"""Carries the requests of `huggingface_hub` over our own wire: one pool, one trust, one proxy rule, one interrupt.

The library takes its HTTP client from a factory that is global to the process, so that one source at a time may use it;
the factory is set while it does, and the library's own is put back behind it.  Versions 1 and 2 of the library are
built on different HTTP libraries (`httpx`, `httpx2`) with the same interface: it is asked which.

It takes its time to be imported, so that its first request is made `Ahead` of it.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from syncer.errors import InternalError
from syncer.stores.huggingface.hub import Hub, refusal_of
from syncer.stores.huggingface.refusals import Refusal
from syncer.threads import NoThread, start
from syncer.wire import Origin

_ONE_AT_A_TIME: Final = threading.Lock()
_OURS: Final = frozenset(
    {"host", "connection", "accept-encoding", "content-length", "transfer-encoding", "authorization", "user-agent"}
)
"""Headers that the wire or the Hub object says itself, the last two by our own rules."""
_LARGEST_ANSWER: Final = 32 * 1024 * 1024
"""Bytes.  What the Hub tells of a repository names each of its files, of which some have a hundred thousand."""
_NOT_HANDED_ON: Final = frozenset({"transfer-encoding", "connection", "keep-alive"})


class Carried(NamedTuple):
    """An answer as the library wants it: whole."""

    status: int
    headers: list[tuple[str, str]]
    content: bytes


class Ahead:
    """A GET of `url`, on its way in a thread of its own while the library is imported, which will make it.

    Should the library ask something else, nobody looks at the answer.
    """

    def __init__(self, hub: Hub, url: str) -> None:
        self._url = url
        self._outcome: Carried | BaseException | None = None
        self._thread = threading.Thread(target=self._ask, args=(hub, url), name="first request", daemon=True)
        try:
            start(self._thread)
        except NoThread:
            self._url = ""  # then the library asks by itself

    def take(self, url: str) -> Carried | None:
        """The answer, once, if it is about `url`; waits for it, and raises what came instead.  Else None."""
        if url != self._url:
            return None
        self._url = ""
        self._thread.join()
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    def _ask(self, hub: Hub, url: str) -> None:
        try:
            self._outcome = _answer(hub, url, {"Accept": "*/*"})
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to the thread that waits
            self._outcome = error


@contextmanager
def library_over(hub: Hub, ahead: Ahead | None = None) -> Iterator[None]:
    """Within it, each request of the library goes over `hub`'s wire, but for the one that has gone `ahead`.

    What fails on the way, and an answer that says "not now", is raised through the library as our own error: it retries
    its HTTP library's errors alone, sleeping for minutes, where our callers have a patience that can be interrupted.
    """
    from huggingface_hub import constants, set_client_factory
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils._http import default_client_factory

    http: Any = importlib.import_module(HfHubHTTPError.__bases__[0].__module__.partition(".")[0])

    def client() -> Any:
        # Nothing from the environment: no proxies, no netrc, no certificates but those of the wire.
        return http.Client(transport=_transport(http, hub, ahead), trust_env=False, timeout=None)

    with _ONE_AT_A_TIME:
        set_client_factory(client)
        # To tell who uses it, the library would ask the Hub for a list of tools (not our endpoint), and keep it in
        # the home directory.  The variable of this name is read when the library is imported: too late for a setting.
        telemetry, constants.HF_HUB_DISABLE_TELEMETRY = constants.HF_HUB_DISABLE_TELEMETRY, True
        try:
            yield
        finally:
            constants.HF_HUB_DISABLE_TELEMETRY = telemetry
            set_client_factory(default_client_factory)  # this closes the session that used ours


def _transport(http: Any, hub: Hub, ahead: Ahead | None) -> Any:
    class OverOurWire(http.BaseTransport):  # type: ignore[misc]  # its class is known when the library is
        def handle_request(self, request: Any) -> Any:
            carried = hub.persistently(lambda: _carry(hub, request, ahead))
            return http.Response(carried.status, headers=carried.headers, content=carried.content)

    return OverOurWire()


def _carry(hub: Hub, request: Any, ahead: Ahead | None) -> Carried:
    said = {name: value for name, value in request.headers.items() if name.lower() not in _OURS}
    if request.method != "GET":
        raise InternalError(f"the Hub's library wants to {request.method}")
    url = str(request.url)
    return (ahead and ahead.take(url)) or _answer(hub, url, said)


def _answer(hub: Hub, url: str, headers: Mapping[str, str]) -> Carried:
    answer, url = hub.follow(url, headers, what="ask the Hub")
    with answer:
        there = Origin.split(url)[0]
        if Refusal(answer.status).is_passing:
            raise hub.error(refusal_of(answer), what=f"ask {there}")
        if there != hub.origin and answer.status >= 400 and not answer.header("X-Error-Code"):
            # A mirror may redirect to the Hub; what is no Hub says nothing of what there is.
            raise hub.nonsense(f"it redirects to {there}, which answers HTTP {answer.status}", what="ask the Hub")
        if answer.header("Content-Encoding") not in {"", "identity"}:  # which nobody asked for, and may unpack to much
            raise hub.nonsense("a packed answer came", what=f"ask {there}")
        content = answer.read(_LARGEST_ANSWER)
    told = [(name, value) for name, value in answer.headers.items() if name.lower() not in _NOT_HANDED_ON]
    return Carried(answer.status, told, content)
