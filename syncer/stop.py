"""The stop switch: one thing that every loop looks at, thrown by a signal, a deadline or the first permanent error.

It knows no store and no thread; whoever blocks somewhere registers how to be woken.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from syncer.errors import DeadlinePassed, SyncerError
from syncer.threads import start

Clock = Callable[[], float]


class StopSwitch:
    """Thrown once, never taken back; safe from many threads (not from signal handlers: entrypoint.py has a thread).

    `check()` raises the error the switch was thrown with, `wait(seconds)` is the only sleep in the project, and it ends
    early when the switch is thrown.  `deadline` is in seconds of `clock`.
    """

    def __init__(self, *, deadline: float | None = None, clock: Clock = time.monotonic) -> None:
        self._event = threading.Event()
        self._error: SyncerError | None = None
        self._deadline = deadline
        self._clock = clock
        self._wakers: list[Callable[[], None]] = []

    @property
    def thrown(self) -> bool:
        """Whether to stop; looks at the deadline too."""
        if self._deadline is not None and not self._event.is_set() and self._clock() >= self._deadline:
            self.throw(
                DeadlinePassed(
                    "the deadline of this run has passed",
                    hint="raise S3_SYNC_DEADLINE, or start it again: it resumes where it stopped",
                )
            )
        return self._event.is_set()

    @property
    def error(self) -> SyncerError | None:
        """What the switch was thrown with, or None."""
        return self._error

    def throw(self, error: SyncerError) -> None:
        """Stop everything because of `error`.  The first error stays."""
        if self._error is None:
            self._error = error
        self._event.set()
        for wake in tuple(self._wakers):
            wake()

    def check(self) -> None:
        """Raise the error the switch was thrown with, if it was."""
        if self.thrown and self._error is not None:
            raise self._error

    def wait(self, seconds: float) -> None:
        """Pause for at most `seconds`; return early when thrown.  Callers `check()` next."""
        if self._deadline is not None:
            seconds = min(seconds, max(0.0, self._deadline - self._clock()))
        self._event.wait(seconds)

    def on_throw(self, wake: Callable[[], None]) -> None:
        """Have `wake` called when the switch is thrown (at once if it was); it must be quick and never raise."""
        self._wakers.append(wake)
        if self._event.is_set():
            wake()

    @contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """`on_throw` for as long as the block lasts: a process that outlives many stores must not keep them all."""
        self.on_throw(wake)
        try:
            yield
        finally:
            self._wakers.remove(wake)

    def bounded(self, seconds: float | None) -> StopSwitch:
        """A switch that is thrown with this one, and by itself after `seconds`; this one where that is None."""
        if seconds is None:
            return self
        inner = StopSwitch(deadline=self._clock() + seconds, clock=self._clock)

        def pass_on() -> None:
            if self._error is not None:
                inner.throw(self._error)

        self.on_throw(pass_on)
        # Whoever is stuck in a call looks at no clock: the switch wakes them.
        timer = threading.Timer(seconds, lambda: inner.thrown)
        timer.daemon = True
        start(timer)
        return inner

    @contextmanager
    def for_one_attempt(self) -> Iterator[StopSwitch]:
        """A switch for one of several attempts: what stops all of them stops it, and not the other way round."""
        inner = StopSwitch(deadline=self._deadline, clock=self._clock)

        def pass_on() -> None:
            if self._error is not None:
                inner.throw(self._error)

        with self.waking(pass_on):
            yield inner
