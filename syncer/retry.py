"""The one retry policy: jittered exponential back-off, the other side's Retry-After first, bounded by time.

Three rings retry, each its own unit: the SDK a request, this module a part or a step, the Job a pod.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, TypeVar

import tenacity

from syncer.errors import SyncerError, Transient
from syncer.stop import StopSwitch

T = TypeVar("T")


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

PART = Patience(seconds=300.0, longest_asked=LONGEST_ASKED)
"""For one part or one small file: long enough for a store's restart, short enough for a Job's patience."""


SMALL_REQUEST = Patience(seconds=8.0, first_pause=0.2, longest_pause=2.0, fewest=2)
"""For control files, listings and the like; the job has patience with the whole of it, and the engine with bytes."""


def seconds_of(header: str) -> float | None:
    """A Retry-After header in seconds; its rare form as a date counts as none."""
    said = header.strip()
    return float(said) if said.isascii() and said.isdigit() else None


class _Policy(tenacity.wait.wait_base):
    def __init__(self, patience: Patience) -> None:
        self._jitter = tenacity.wait_random_exponential(
            multiplier=patience.first_pause, max=patience.longest_pause, min=patience.first_pause / 2
        )

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        pause = self._jitter(retry_state)
        if isinstance(error, Transient) and error.retry_after is not None:
            return max(pause, error.retry_after)
        return pause


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
    try:
        return work()  # nearly always all there is to it, tens of thousands of times in a run
    except SyncerError as error:
        if not worth_it(error) or stop.thrown:
            raise
        failed = error
    return _once_more(work, failed, begun, patience=patience, stop=stop, on_retry=on_retry, worth_it=worth_it)


def _once_more(
    work: Callable[[], T],
    failed: SyncerError | None,
    begun: float,
    *,
    patience: Patience,
    stop: StopSwitch,
    on_retry: Callable[[SyncerError, float], None] | None,
    worth_it: Callable[[SyncerError], bool],
) -> T:
    """`retrying` from the first failure on."""
    excused = 0.0

    def attempt() -> T:
        nonlocal failed
        if failed is not None:
            first, failed = failed, None
            raise first
        return work()

    def again(state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        return isinstance(error, SyncerError) and worth_it(error) and not stop.thrown

    def used_up(state: tenacity.RetryCallState) -> bool:
        nonlocal excused
        error = state.outcome.exception() if state.outcome else None
        asked_for = error.retry_after if isinstance(error, Transient) else None
        if asked_for is not None and asked_for <= patience.longest_asked:
            excused += max(0.0, state.upcoming_sleep - patience.longest_pause)
        if state.attempt_number < patience.fewest and state.upcoming_sleep < patience.seconds:
            return stop.thrown
        return stop.thrown or patience.clock() - begun - excused + state.upcoming_sleep >= patience.seconds

    def pause(seconds: float) -> None:
        (patience.sleep or stop.wait)(seconds)
        stop.check()

    def tell(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if on_retry is not None and isinstance(error, SyncerError):
            on_retry(error, state.upcoming_sleep)

    retryer = tenacity.Retrying(
        retry=again,
        stop=used_up,
        wait=_Policy(patience),
        sleep=pause,
        before_sleep=tell,
        reraise=True,
    )
    return retryer(attempt)
