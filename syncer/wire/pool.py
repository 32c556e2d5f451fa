"""Connections to any number of origins, shared by all threads of one store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Final, TypeVar

from syncer.errors import SyncerError
from syncer.retry import Patience, retrying
from syncer.settings.locations import Network
from syncer.stop import StopSwitch
from syncer.wire.dialing import HURRY_SECONDS, Connection, CutOff, Dialer, Origin, Timeouts
from syncer.wire.exchange import Answer, Exchange, Request, Stale

_IDLE_KEPT: Final = 64
T = TypeVar("T")


class Wire:
    """Connections to any number of origins; safe from many threads.

    Everything that goes wrong on the way is `Transient`; a host that cannot be found, reached or spoken TLS to is
    `EndpointUnreachable`, one whose certificate nobody vouches for a `ConfigurationError`.  `store` names the store in
    errors, `hint` says which variable names the endpoint and `unchecked_by` which one switches the check of its
    certificate off, empty where none does.
    """

    def __init__(
        self,
        network: Network,
        *,
        validate_tls: bool = True,
        store: str = "",
        hint: str = "",
        unchecked_by: str = "",
        timeouts: Timeouts | None = None,
    ) -> None:
        self.timeouts = timeouts or Timeouts()
        self._dialer = Dialer(
            network,
            validate_tls=validate_tls,
            store=store,
            hint=hint,
            unchecked_by=unchecked_by,
            watch=self._watch,
            forget=self.drop,
        )
        self._stop = StopSwitch()
        self._lock = threading.Lock()
        self._live: set[Connection] = set()
        self._idle: dict[Origin, list[Connection]] = {}
        self._hurried = False
        self._closed = False

    def begin(
        self, method: str, origin: Origin, target: str, headers: Mapping[str, str], *, length: int, idle: float = 0.0
    ) -> Exchange:
        """Prepare a request with a body of `length` bytes that `Exchange.send` brings; nothing is sent yet.

        `idle` replaces the limit of silence, in seconds, for a request that is known to take longer.
        """
        return Exchange(self, origin, Request(method, target, dict(headers), length), idle or self.timeouts.idle)

    def ask(
        self,
        method: str,
        origin: Origin,
        target: str,
        headers: Mapping[str, str],
        *,
        body: bytes = b"",
        idle: float = 0.0,
        once: bool = False,
    ) -> Answer:
        """Send a request whose body is at hand (or empty) and return the answer, its body still unread.

        With `once` it travels over a connection of its own and is sent at most once, for what must not be received
        twice: then only `EndpointUnreachable` says that nobody has received it.
        """
        length = len(body) if body or method in {"PUT", "POST"} else None
        request = Request(method, target, dict(headers), length)
        exchange = Exchange(self, origin, request, idle or self.timeouts.idle, fresh=once)
        try:
            if body:
                exchange.send(memoryview(body))
            return exchange.answer()
        except Stale:
            exchange = Exchange(self, origin, request, idle or self.timeouts.idle, fresh=True)
            if body:
                exchange.send(memoryview(body))
            return exchange.answer()

    def persistently(
        self,
        work: Callable[[], T],
        *,
        patience: Patience,
        worth_it: Callable[[SyncerError], bool] = attrgetter("retryable"),
    ) -> T:
        """Outlast a passing fault in `work`, small requests over this wire; `interrupt` ends the pauses too."""
        return retrying(work, patience=patience, stop=self._stop, worth_it=worth_it)

    def interrupt(self) -> None:
        """End every request under way: threads blocked in them get `CutOff` at once.

        Later requests are possible (leases and reports are cleaned up after a stop) but get little patience.
        """
        self._stop.throw(CutOff("stopped"))
        self._cut_live()

    def close(self) -> None:
        """Close all connections; requests under way fail."""
        self._cut_live()
        with self._lock:
            self._closed = True
            idle = [connection for kept in self._idle.values() for connection in kept]
            self._idle.clear()
        for connection in idle:
            connection.close()

    def take(self, origin: Origin, *, fresh: bool, idle: float) -> Connection:
        """A connection to `origin`, registered so that `interrupt` finds it; a kept one unless `fresh`."""
        limit = min(idle, HURRY_SECONDS) if self._hurried else idle
        connection = None if fresh else self._kept(origin)
        if connection is None:
            connect = self.timeouts.connect
            connection = self._dialer.dial(origin, limit=min(connect, HURRY_SECONDS) if self._hurried else connect)
        connection.allow_silence(limit)
        return connection

    def give(self, connection: Connection) -> None:
        """Take back a connection that is ready for another request."""
        connection.reused = True
        connection.idle_since = time.monotonic()
        with self._lock:
            self._live.discard(connection)
            kept = self._idle.setdefault(connection.origin, [])
            if not self._closed and not connection.cut and len(kept) < _IDLE_KEPT:
                kept.append(connection)
                return
        connection.close()

    def drop(self, connection: Connection) -> None:
        """Close a connection that is of no use any more."""
        with self._lock:
            self._live.discard(connection)
        connection.close()

    def _cut_live(self) -> None:
        with self._lock:
            self._hurried = True
            connections = tuple(self._live)
            for connection in connections:
                connection.cut = True
        for connection in connections:
            connection.shut_down()

    def _watch(self, connection: Connection) -> None:
        with self._lock:
            self._live.add(connection)

    def _kept(self, origin: Origin) -> Connection | None:
        while True:
            with self._lock:
                kept = self._idle.get(origin)
                if not kept:
                    return None
                connection = kept.pop()
                self._live.add(connection)
            if connection.is_usable(self.timeouts.keep):
                return connection
            self.drop(connection)
