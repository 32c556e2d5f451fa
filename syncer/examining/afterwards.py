"""After a run has failed at a far end: what is wrong with the ways there now, in a few words for its hint.

Nobody logs in here and nothing is written: a passcode is not spent, and the next run finds all as it was.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from typing import Final

from syncer.errors import (
    CredentialsRefused,
    DeadlinePassed,
    EndpointUnreachable,
    NotThereYet,
    SourceMissing,
    Transient,
)
from syncer.examining.findings import Book, Finding
from syncer.examining.story import Ways, ways_of
from syncer.examining.ways import Clock, now
from syncer.report import Outcome
from syncer.settings.locations import Settings
from syncer.stop import StopSwitch
from syncer.threads import start

PATIENCE: Final = 10.0
"""Seconds for all ways together: what is not seen by then is not told."""

_AT_A_FAR_END: Final = (CredentialsRefused, EndpointUnreachable, NotThereYet, SourceMissing, Transient)
_POINTER: Final = "`syncer doctor` looks at each step"


def with_finding(
    outcome: Outcome,
    error: BaseException,
    settings: Settings,
    stop: StopSwitch,
    *,
    seconds: float = PATIENCE,
    clock: Clock = now,
) -> Outcome:
    """`outcome`, whose hint says which step to a far end fails now, or that `syncer doctor` looks at each of them.

    As it is where no far end has to do with it, and after a stop.  Only the hint changes; takes `seconds` at most.
    """
    if stop.thrown or not isinstance(error, _AT_A_FAR_END) or isinstance(error, DeadlinePassed):
        return outcome
    seen = _look(settings, stop, seconds, clock)
    if not seen:
        return outcome
    failed = next((finding for finding in seen if finding.verdict == "failed"), None)
    told = _POINTER
    if failed is not None and failed.seen not in outcome.message:
        told = f"`syncer doctor` would say: {failed.step} at {failed.at}: {failed.seen}"
    return replace(outcome, hint="; ".join(filter(None, (outcome.hint, told))))


def _look(settings: Settings, stop: StopSwitch, seconds: float, clock: Clock) -> list[Finding]:
    """What was seen on the ways within `seconds`; a thread's work, for nothing ends a look-up of a name."""
    limit, over = stop.bounded(seconds), threading.Event()
    book = Book(limit)

    def look() -> None:
        try:
            with suppress(Exception):  # the time is over, or somebody stops us
                reached = Ways(book, settings.network, clock)
                for way in ways_of(settings):
                    reached([way])
        finally:
            over.set()

    limit.on_throw(over.set)
    start(threading.Thread(target=look, name="afterwards", daemon=True))
    over.wait(seconds)
    return list(book.findings)
