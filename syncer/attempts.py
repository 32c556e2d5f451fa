"""Many attempts in one process: what elsewhere a new pod does, where a new pod could not log in again."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from syncer.errors import SyncerError
from syncer.logs import logger
from syncer.retry import Patience, retrying
from syncer.stop import StopSwitch

T = TypeVar("T")

LOGIN_PATIENCE = Patience(seconds=72 * 3600.0, first_pause=2.0, longest_pause=60.0)
"""For everything: as long as a session of IBM's can live; its end or S3_SYNC_DEADLINE may end it sooner."""


def on_one_login(attempt: Callable[[StopSwitch], T], stop: StopSwitch) -> T:
    """Call `attempt` until it succeeds or fails for good; then its last error is raised as it is.

    Each call gets a switch of its own: a lease that somebody took ends this attempt and not the run, as it would end
    one pod.
    """
    log = logger(component="job")

    def once() -> T:
        with stop.for_one_attempt() as ours:
            return attempt(ours)

    def tell(error: SyncerError, pause: float) -> None:
        log.warning("attempt_failed", reason=error.message, exit_code=error.exit_code, pause_seconds=round(pause, 1))

    return retrying(once, patience=LOGIN_PATIENCE, stop=stop, on_retry=tell, worth_it=_worth_a_pod)


def _worth_a_pod(error: SyncerError) -> bool:
    """Whether the Job would start another pod after `error`."""
    return error.exit_code in {os.EX_UNAVAILABLE, os.EX_TEMPFAIL}
