"""The way to one endpoint: proxy, name, connection and certificate, clock.  Nothing here logs in."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

from syncer.errors import ConfigurationError, CredentialsRefused, EndpointUnreachable, Transient
from syncer.examining.findings import Book, Skipped
from syncer.settings.locations import Network
from syncer.wire import Origin, Wire
from syncer.wire.proxies import proxy_for

LARGEST_SKEW: Final = timedelta(minutes=15)
"""What S3 allows between a signature's time and its own (`RequestTimeTooSkewed`)."""
Clock = Callable[[], datetime]


def now() -> datetime:
    """What our clock says."""
    return datetime.now(tz=UTC)


@dataclass(frozen=True)
class Way:
    """Where a run will go: `url`, the variable that names it, and the one that switches the check of TLS off."""

    url: str
    variable: str
    validate_tls: bool = True
    unchecked_by: str = ""


def look_at_way(book: Book, way: Way, network: Network, *, clock: Clock = now) -> bool:
    """All steps on the way, each only where the one before it went well; whether its end was reached."""
    try:
        origin, _ = Origin.split(way.url)
    except ValueError:
        book.look("name", _printable(way.url), lambda: _no_url(way))
        return False
    at, wire = str(origin), _wire(way, network)
    proxied = _Proxied(network, origin)
    steps: list[tuple[str, Callable[[], str]]] = [
        ("proxy", proxied.look),
        ("name", lambda: _name(proxied, way)),
        ("TLS" if origin.scheme == "https" else "connection", lambda: _connection(wire, origin, way)),
        ("clock", lambda: _clock(wire, origin, clock)),
    ]
    try:
        for index, (step, work) in enumerate(steps):
            with book.stop.waking(wire.interrupt):
                book.look(step, at, work)
            if book.findings[-1].verdict == "failed" and step != "clock":
                for later, _ in steps[index + 1 :]:
                    book.skip(later, at, f"the step before it failed: {step}")
                return False
        return True
    finally:
        wire.close()


class _Proxied:
    """Which host is dialled for an origin."""

    def __init__(self, network: Network, origin: Origin) -> None:
        self._network = network
        self._origin = origin
        self.host, self.port = origin.host, origin.port

    def look(self) -> str:
        """What `HTTP(S)_PROXY` and `NO_PROXY` mean for this origin."""
        origin = self._origin
        proxy = proxy_for(self._network, scheme=origin.scheme, host=origin.host, port=origin.port)
        if proxy is not None:
            self.host, self.port = proxy.host, proxy.port
            return f"through {proxy.host}:{proxy.port}" + (", with a login" if proxy.authorization else "")
        variable = f"{origin.scheme.upper()}_PROXY"
        if self._network.proxies.get(origin.scheme):
            return f"direct: {variable} is set, and NO_PROXY or loopback leaves this host out"
        raise Skipped(f"direct: {variable} is not set")


def _wire(way: Way, network: Network) -> Wire:
    hint = f"check {way.variable}, the network policies and proxies on the way to it"
    return Wire(network, validate_tls=way.validate_tls, hint=hint, unchecked_by=way.unchecked_by)


def _name(proxied: _Proxied, way: Way) -> str:
    try:
        found = socket.getaddrinfo(proxied.host, proxied.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise EndpointUnreachable(
            f"the host name {proxied.host} is not known", hint=f"check {way.variable} and the cluster's DNS"
        ) from error
    return f"{proxied.host} is {', '.join(dict.fromkeys(str(address[0]) for *_, address in found))}"


def _connection(wire: Wire, origin: Origin, way: Way) -> str:
    connection = wire.take(origin, fresh=True, idle=wire.timeouts.connect)
    seen = "connected; http, so nobody proves who answers"
    if isinstance(connection.sock, ssl.SSLSocket):
        seen = _certificate(connection.sock, way)
    wire.give(connection)
    return seen


def _certificate(sock: ssl.SSLSocket, way: Way) -> str:
    if not way.validate_tls:
        return f"{sock.version()}, the certificate is not checked ({way.unchecked_by}=false)"
    told: dict[str, Any] = sock.getpeercert() or {}
    parts = {key: value for part in told.get("issuer", ()) for key, value in part}
    issuer = parts.get("commonName") or parts.get("organizationName") or "?"
    return f"{sock.version()}, issued by {issuer}, valid until {told.get('notAfter', '?')}"


def _clock(wire: Wire, origin: Origin, clock: Clock) -> str:
    try:
        with wire.ask("HEAD", origin, "/", {}) as answer:
            theirs = parsedate_to_datetime(answer.header("Date"))
    except Transient as error:  # who breaks off a bare HEAD may answer what a run asks
        raise Skipped(f"no answer to tell it by: {error.message}") from None
    except ValueError:
        raise Skipped("the answer has no Date") from None
    skew = clock() - (theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC))
    seconds = round(abs(skew.total_seconds()))
    seen = f"our clock is {seconds} s {'ahead' if skew > timedelta(0) else 'behind'}" if seconds else "the same"
    if abs(skew) >= LARGEST_SKEW:
        raise CredentialsRefused(f"{seen}: signatures and tokens will be refused", hint="set the node's clock right")
    return seen


def _no_url(way: Way) -> str:
    raise ConfigurationError(
        f"{_printable(way.url)} is no http:// or https:// URL", hint=f"{way.variable} must name one"
    )


def _printable(url: str) -> str:
    """Without a login that somebody may have put into it."""
    return url.rpartition("@")[2]
