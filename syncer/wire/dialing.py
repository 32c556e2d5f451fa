"""The way to a host: names, addresses, time limits, proxy tunnels, TLS."""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from syncer.errors import ConfigurationError, EndpointUnreachable, InternalError, Transient
from syncer.settings.locations import Network
from syncer.trust import Trust
from syncer.wire.proxies import DEFAULT_PORTS, Proxy, proxy_for

_LONGEST_HEAD: Final = 16 * 1024
HURRY_SECONDS: Final = 3.0
"""All the patience there is after `interrupt()`: a stopped run has ten seconds."""


@dataclass(frozen=True)
class Timeouts:
    """Seconds: to reach a host, without a single byte either way, and that an unused connection is worth keeping.

    The first two stay below a pod's grace period of 30 s.
    """

    connect: float = 5.0
    idle: float = 25.0
    keep: float = 20.0


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port of a URL."""

    scheme: str
    host: str
    port: int

    @classmethod
    def split(cls, url: str) -> tuple[Origin, str]:
        """An http(s) URL as origin and the rest, which is the request target; raises ValueError for any other."""
        parts = urlsplit(url)
        if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
            raise ValueError("not an http:// or https:// URL")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.scheme, parts.hostname, parts.port or DEFAULT_PORTS[parts.scheme]), target

    @property
    def authority(self) -> str:
        """`host` or `host:port`, as the Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


class CutOff(Transient):
    """Our own `interrupt()` ended the request; nobody below the engine should try again."""


class Connection:
    """A socket and what the pool knows of it."""

    __slots__ = ("_poll", "_silence", "cut", "idle_since", "origin", "proxy", "reused", "sock")

    def __init__(self, sock: socket.socket, origin: Origin, proxy: Proxy | None) -> None:
        self._poll: select.poll | None = None
        self._silence = 0.0
        self.sock = sock
        self.origin = origin
        self.proxy = proxy
        self.reused = False
        self.cut = False
        self.idle_since = 0.0

    def allow_silence(self, seconds: float) -> None:
        """Fail when the other side neither sends nor takes a byte for so long.

        Python's own time limit asks the kernel before each call whether it would block, and lets go of the interpreter
        twice for that.  So the kernel keeps it (SO_RCVTIMEO in socket(7)), and its `BlockingIOError` means what
        `TimeoutError` does.  Not over TLS, where Python takes that for a reason to try again at once, and asks only
        when nothing is there.
        """
        if seconds == self._silence:
            return
        self._silence = seconds
        if isinstance(self.sock, ssl.SSLSocket):
            self.sock.settimeout(seconds)
            return
        self.sock.settimeout(None)
        limit = struct.pack("@ll", int(seconds), max(1, int(seconds % 1 * 1e6)))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def is_readable(self) -> bool:
        """Whether something can be read without waiting: bytes, decrypted ones too, or the end."""
        if isinstance(self.sock, ssl.SSLSocket) and self.sock.pending():
            return True
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self.sock, select.POLLIN)
        return bool(self._poll.poll(0))

    def is_usable(self, keep: float) -> bool:
        """Whether an idle connection is young enough and the other side has neither closed it nor said anything."""
        return time.monotonic() - self.idle_since < keep and not self.is_readable()

    def shut_down(self) -> None:
        """Wake whoever is blocked on the socket, from another thread.

        Not `SSLSocket.shutdown`, which would make the blocked thread read the encrypted rest as if it were plain.
        """
        with suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket, silently."""
        with suppress(OSError):
            self.sock.close()


class Dialer:
    """Opens connections.  `store`, `hint` (which variable names the endpoint) and `unchecked_by` go into errors.

    `watch` is told of each socket before anything on it can block, `forget` of each that failed.
    """

    def __init__(
        self,
        network: Network,
        *,
        validate_tls: bool,
        store: str,
        hint: str,
        unchecked_by: str,
        watch: Callable[[Connection], None],
        forget: Callable[[Connection], None],
    ) -> None:
        self._network = network
        self._validate_tls = validate_tls
        self._store = store
        self._hint = hint
        self._unchecked_by = unchecked_by
        self._watch = watch
        self._forget = forget
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None

    def dial(self, origin: Origin, *, limit: float) -> Connection:
        """A new connection to `origin`; each address of the host is tried for `limit` seconds.

        Raises `EndpointUnreachable`, `ConfigurationError` for a certificate that nobody vouches for, `CutOff`.
        """
        proxy = proxy_for(self._network, scheme=origin.scheme, host=origin.host, port=origin.port)
        host, port = (proxy.host, proxy.port) if proxy else (origin.host, origin.port)
        at = f"the proxy {host}:{port}" if proxy else str(origin)
        try:
            addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise self._unreachable(f"the host name of {at} is not known") from error
        failure: OSError | None = None
        for family, kind, protocol, _, address in addresses:
            connection = Connection(socket.socket(family, kind, protocol), origin, proxy)
            self._watch(connection)
            try:
                connection.sock.settimeout(limit)
                self._connect(connection, address)
            except ssl.SSLCertVerificationError as error:
                self._forget(connection)
                raise self._distrusted(origin, error) from error
            except OSError as error:
                self._forget(connection)
                failure = error
            except BaseException:
                self._forget(connection)
                raise
            else:
                return connection
            if connection.cut:
                raise CutOff(f"{origin}: stopped while connecting", store=self._store) from failure
        why = "timed out" if isinstance(failure, TimeoutError) else (failure and failure.strerror) or "no address"
        raise self._unreachable(f"cannot connect to {at}: {why}") from failure

    def _connect(self, connection: Connection, address: object) -> None:
        sock, origin = connection.sock, connection.origin
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.connect(address)  # type: ignore[arg-type]  # what getaddrinfo gave
        if origin.scheme == "http":
            return
        if connection.proxy is not None:
            self._tunnel(connection, connection.proxy)
        with self._lock:
            if self._context is None:
                self._context = Trust(self._network.ca_files).context(verify=self._validate_tls)
        # An end without TLS's own good-bye may have been made by anybody on the way: it must not pass as a body's end.
        tls = self._context.wrap_socket(
            sock, server_hostname=origin.host, do_handshake_on_connect=False, suppress_ragged_eofs=False
        )
        connection.sock = tls
        tls.do_handshake()

    def _tunnel(self, connection: Connection, proxy: Proxy) -> None:
        place = f"{connection.origin.host}:{connection.origin.port}"
        headers = {"Host": place} | ({"Proxy-Authorization": proxy.authorization} if proxy.authorization else {})
        connection.sock.sendall(head_bytes("CONNECT", place, headers))
        # A tunnel's answer has no body; unbuffered, because the first bytes behind it belong to TLS.
        lines = bytearray()
        while not lines.endswith(b"\r\n\r\n") and len(lines) < _LONGEST_HEAD:
            byte = connection.sock.recv(1)
            if not byte:
                break
            lines += byte
        status = lines.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        if len(status) < 2 or not status[0].startswith("HTTP/") or not status[1].startswith("2"):
            said = status[1] if len(status) > 1 else "nothing"
            raise refused_by(proxy, connection.origin, said, store=self._store)

    def _unreachable(self, message: str, *, hint: str = "") -> EndpointUnreachable:
        return EndpointUnreachable(message, hint=hint or self._hint, store=self._store)

    def _distrusted(self, origin: Origin, error: ssl.SSLCertVerificationError) -> ConfigurationError:
        switch = f"; {self._unchecked_by}=false switches the check off" if self._unchecked_by else ""
        distrusted = ConfigurationError(
            f"the TLS certificate of {origin} is not trusted: {error.verify_message}",
            hint=f"name the CA file in AWS_CA_BUNDLE or mount it as ca-bundle.crt{switch}",
        )
        distrusted.store = self._store
        return distrusted


def refused_by(proxy: Proxy, origin: Origin, said: str, *, store: str = "") -> EndpointUnreachable:
    """The error for a proxy that answered instead of the origin."""
    return EndpointUnreachable(
        f"the proxy {proxy.host}:{proxy.port} does not lead to {origin}: it answered {said}",
        hint=f"check {origin.scheme.upper()}_PROXY, and add the host to NO_PROXY if it is inside the cluster",
        store=store,
    )


def head_bytes(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """A request's first line and headers as they travel."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    text = "\r\n".join(lines)
    if text.count("\r") != len(lines) - 1 or text.count("\n") != len(lines) - 1:
        raise InternalError("a line break inside a request's head")
    return (text + "\r\n\r\n").encode("latin-1")
