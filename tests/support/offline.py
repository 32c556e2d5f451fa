"""The tests talk to this machine alone, and this proves it: whoever reaches farther is told so at once.

Names of the reserved top-level domains `invalid` and `test` (RFC 2606) stay unknown, whatever a resolver would say.
"""

import contextlib
import ipaddress
import socket
import sys
from collections.abc import Iterator


class ReachedForTheNetworkError(BaseException):
    """Not an Exception: code under test that is patient with failing networks must not swallow it."""


class _Guard:
    """An audit hook cannot be taken away again, so that there is one, which is on or off."""

    def __init__(self) -> None:
        self.installed = False
        self.on = False

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.on:
            return
        match event, arguments:
            case "socket.connect", (socket.socket(), (str(host), int(), *_)) if not _is_here(host):
                raise ReachedForTheNetworkError(host)
            case "socket.getaddrinfo", (str(host), *_) if host.endswith((".invalid", ".test")):
                raise socket.gaierror(socket.EAI_NONAME, f"{host} is unknown by its very name")
            case "socket.getaddrinfo", (str(host), *_) if not _is_here(host):
                raise ReachedForTheNetworkError(host)


_guard = _Guard()


@contextlib.contextmanager
def loopback_only() -> Iterator[None]:
    """Refuse every connection of this process, and every look-up of a name, that is not on this machine."""
    if not _guard.installed:
        sys.addaudithook(_guard)
        _guard.installed = True
    before, _guard.on = _guard.on, True
    try:
        yield
    finally:
        _guard.on = before


def _is_here(host: str) -> bool:
    if host in ("", "localhost", socket.gethostname()) or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
