"""The one retry policy: jittered exponential back-off, the other side's Retry-After first, bounded by time.

Three rings retry, each its own unit: the wire a small request, the engine a part, the Job a pod.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, TypeVar

from syncer.errors import SyncerError, Transient
from syncer.stop import StopSwitch

T = TypeVar("T")
_DOUBLINGS: Final = 40


@dataclass(frozen=True)
class Patience:
    """How long a unit of work is tried: first pause, longest pause and the whole, all in seconds.

    A pause of up to `longest_asked` that the other side asks for uses up no more of it than our own longest one: who
    limits rates does so in windows of minutes, and is neither away nor broken.

    `fewest` tries are made even where the first of them outlasts the whole: a connection that went silent takes 25 s,
    and says little about the next one.

    `clock` and `sleep` are for tests; in earnest the pause is the stop switch's own, so that a stop ends it.
    """

    seconds: float
    first_pause: float = 0.5
    longest_pause: float = 30.0
    longest_asked: float = 0.0
    fewest: int = 1
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] | None = None


LONGEST_ASKED: Final = 600.0
"""Seconds.  The windows of the Hugging Face Hub are five minutes; who asks for much more is left to the next pod."""

PART = Patience(seconds=300.0, longest_asked=LONGEST_ASKED, fewest=3)
"""For one part or one small file: long enough for a store's restart, short enough for a Job's patience.

On a slow link, or under a low limit of the bandwidth, a part that broke off may have taken longer than that: it is
tried again all the same.
"""


SMALL_REQUEST = Patience(seconds=8.0, first_pause=0.2, longest_pause=2.0, fewest=2)
"""For control files, listings and the like; the job has patience with the whole of it, and the engine with bytes."""


def seconds_of(header: str) -> float | None:
    """A Retry-After header in seconds; its rare form as a date counts as none."""
    said = header.strip()
    return float(said) if said.isascii() and said.isdigit() else None


def retrying(
    work: Callable[[], T],
    *,
    patience: Patience,
    stop: StopSwitch,
    on_retry: Callable[[SyncerError, float], None] | None = None,
    worth_it: Callable[[SyncerError], bool] = attrgetter("retryable"),
) -> T:
    """Call `work` until it succeeds, fails for good or `patience` is used up; then its last error is raised as it is.

    Only errors that are `worth_it`, by default those whose class says `retryable`, are tried again, and never after the
    stop switch was thrown: when that happens in a pause, its error is raised.  `on_retry` is told the error and the
    coming pause in seconds.
    """
    begun = patience.clock()
    excused = 0.0
    tries = 0
    while True:
        tries += 1
        try:
            return work()
        except SyncerError as error:
            if stop.thrown or not worth_it(error):
                raise
            pause = _pause(patience, tries)
            if isinstance(error, Transient) and error.retry_after is not None:
                pause = max(pause, error.retry_after)
                if error.retry_after <= patience.longest_asked:
                    excused += max(0.0, pause - patience.longest_pause)
            owed = tries < patience.fewest and pause < patience.seconds
            if not owed and patience.clock() - begun - excused + pause >= patience.seconds:
                raise
            if on_retry is not None:
                on_retry(error, pause)
        (patience.sleep or stop.wait)(pause)
        stop.check()


def _pause(patience: Patience, tries: int) -> float:
    """Seconds after so many tries: anything up to a bound that doubles, so that not all come back at once."""
    longest = min(patience.longest_pause, patience.first_pause * 2.0 ** min(tries - 1, _DOUBLINGS))
    return random.uniform(min(patience.first_pause / 2, longest), longest)  # noqa: S311 - nothing secret
