"""The last phase's gate: wait until a destination is sealed, of the source and revision that one waits for."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from syncer import marker, stores
from syncer.errors import NotThereYet, SyncerError
from syncer.logs import logger
from syncer.settings.locations import Settings
from syncer.stop import StopSwitch


@dataclass(frozen=True)
class Awaited:
    """Which seal `wait` waits for; empty fields match any."""

    source: str = ""
    revision: str = ""

    def why_not(self, seal: marker.Seal | None) -> str:
        """Why `seal` is not the one, in words; empty when it is."""
        if seal is None:
            return "the destination is not sealed yet"
        if self.source and _plain(seal.source) != _plain(self.source):
            return f"the seal is of another source, {seal.source}"
        if self.revision and seal.revision != self.revision:
            return f"the seal is of another revision, {seal.revision or 'none'}"
        return ""


def wait(
    settings: Settings,
    stop: StopSwitch,
    awaited: Awaited,
    *,
    deadline: float | None,
    interval: float = 5.0,
    clock: Callable[[], float] = time.monotonic,
) -> marker.Seal:
    """Return when the destination is sealed as `awaited`; `NotThereYet` when `deadline` seconds have passed before."""
    log = logger(component="wait")
    destination = stores.open_destination(settings.destination, settings.network)
    stop.on_throw(destination.interrupt)
    begun = clock()
    told_at: float | None = None
    with closing(destination):
        while True:
            seal: marker.Seal | None = None
            try:
                seal = marker.read_seal(destination.control)
                reason = awaited.why_not(seal)
            except SyncerError as error:
                if not (error.retryable or isinstance(error, NotThereYet)):
                    raise
                reason = error.message
            if seal is not None and not reason:
                return seal
            waited = clock() - begun
            if deadline is not None and waited >= deadline:
                raise NotThereYet(
                    f"{destination.name}: {reason} after {waited:.0f} s",
                    hint="look at the job that synchronizes the model; --deadline says how long to wait",
                    stage="wait",
                )
            if told_at is None or clock() - told_at >= settings.reporting.progress_interval:
                log.info("model_awaited", destination=destination.name, reason=reason, waited_seconds=round(waited))
                told_at = clock()
            stop.wait(interval if deadline is None else min(interval, max(0.0, deadline - waited)))
            stop.check()


def _plain(source: str) -> str:
    """One spelling for the several that settings take for the same place."""
    for spelling, plain in (("s3a://", "s3://"), ("file://", "")):
        if source.startswith(spelling):
            source = plain + source[len(spelling) :]
    return source.rstrip("/")
