"""The last phase's gate: wait until all destinations are sealed, of the source and revision that one waits for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Final

from syncer import marker, stores
from syncer.errors import NotThereYet, SyncerError
from syncer.logs import logger
from syncer.settings.locations import ArchiveLocation, DestinationLocation, ImageLocation, Settings
from syncer.stop import Clock, StopSwitch
from syncer.stores.protocols import Destination, NamedByDigest

_INTERVAL: Final = 5.0
"""Seconds between two looks."""


@dataclass(frozen=True)
class Awaited:
    """Which seal `wait` waits for; empty fields match any.

    A model that came by a pipeline's volume is known by where it was before, too.
    """

    source: str = ""
    revision: str = ""

    def why_not(self, seal: marker.Seal | None) -> str:
        """Why `seal` is not the one, in words; empty when it is."""
        if seal is None:
            return "the destination is not sealed yet"
        known = [(seal.source, seal.revision)]
        if seal.origin is not None:
            known.insert(0, (seal.origin.source, seal.origin.revision))
        if self.source:
            known = [(source, revision) for source, revision in known if _plain(source) == _plain(self.source)]
        if not known:
            return f"the seal is of another source, {seal.origin.source if seal.origin else seal.source}"
        if self.revision and self.revision not in {revision for _, revision in known}:
            return f"the seal is of another revision, {known[0][1] or 'none'}"
        return ""


@dataclass(frozen=True)
class Found:
    """A seal, and the digest by which the model is known there: an image's own, else the fingerprint."""

    seal: marker.Seal
    digest: str


def wait(
    settings: Settings, stop: StopSwitch, awaited: Awaited, *, deadline: float | None, clock: Clock = time.monotonic
) -> list[Found]:
    """Return when every destination is sealed as `awaited`; `NotThereYet` when `deadline` seconds have passed before.

    They are looked at one after another, and the deadline is for all of them together.
    """
    begun = clock()
    found = []
    for place in settings.destinations or (None,):
        left = None if deadline is None else max(0.0, deadline - (clock() - begun))
        found.append(_wait_for(place, settings, stop, awaited, deadline=left, clock=clock))
    return found


def _wait_for(
    place: DestinationLocation | None,
    settings: Settings,
    stop: StopSwitch,
    awaited: Awaited,
    *,
    deadline: float | None,
    clock: Clock,
) -> Found:
    log = logger(component="wait")
    begun = clock()
    told_at: float | None = None
    with ExitStack() as opened:
        destination = opened.enter_context(_opened(place, settings, stop))
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
                own = destination.digest if isinstance(destination, NamedByDigest) else ""
                return Found(seal, own or seal.fingerprint)
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
            stop.wait(_INTERVAL if deadline is None else min(_INTERVAL, max(0.0, deadline - waited)))
            stop.check()
            if isinstance(place, ImageLocation | ArchiveLocation):
                opened.close()  # what an image tells is a view of one moment
                destination = opened.enter_context(_opened(place, settings, stop))


@contextmanager
def _opened(place: DestinationLocation | None, settings: Settings, stop: StopSwitch) -> Iterator[Destination]:
    destination = stores.open_destination(place, settings.network)
    with closing(destination), stop.waking(destination.interrupt):
        yield destination


def _plain(source: str) -> str:
    """One spelling for the several that settings take for the same place."""
    for spelling, plain in (("s3a://", "s3://"), ("file://", "")):
        if source.startswith(spelling):
            source = plain + source[len(spelling) :]
    return source.rstrip("/")
