"""Runs in which nobody waits: pauses cost nothing, and yet every patience ends when it would in earnest.

Each thread has a clock that is ahead by all the pauses that it was asked for, and by the 25 s that a peer's silence
takes in earnest.  What is real is the silence itself, made short for the faults that need it, where the patience with
a part is short too: three silences, not ten.
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from syncer import attempts, bringing, job, lease, retry
from syncer.errors import SyncerError
from syncer.examining import afterwards
from syncer.examining.findings import Finding
from syncer.registration import registration
from syncer.stop import StopSwitch
from syncer.stores.s3 import service
from syncer.wire import exchange
from syncer.wire.dialing import Timeouts

SILENCE = 1.0
"""Seconds without a byte after which a peer counts as gone, where that is what a fault is about."""
QUIET = 60.0
"""The same where it is not: a busy machine must not be taken for a fault."""

_PATIENCES = (retry.PART, retry.SMALL_REQUEST, job.SOURCE_PATIENCE, attempts.LOGIN_PATIENCE, registration.PATIENCE)
_NEARLY_NOTHING = 0.002
_starts = itertools.count(1)


class _Clocks(threading.local):
    ahead = 0.0


_clocks = _Clocks()


def _now() -> float:
    return time.monotonic() + _clocks.ahead


def _skip(seconds: float) -> None:
    _clocks.ahead += seconds


def _wait(stop: StopSwitch, seconds: float) -> None:
    _skip(seconds)
    stop._event.wait(min(seconds, _NEARLY_NOTHING))


def _broken(real: Callable[..., SyncerError], earnest: float) -> Callable[..., SyncerError]:
    def broken(origin: object, what: str, error: BaseException | None, **more: Any) -> SyncerError:
        if isinstance(error, TimeoutError):
            _skip(earnest)
        return real(origin, what, error, **more)

    return broken


def _defaults(kind: type) -> tuple[Any, ...]:
    return kind.__init__.__defaults__ or ()  # type: ignore[misc]  # of the class itself, which is a dataclass


@contextmanager
def hurried(*, silent: bool = False) -> Iterator[None]:
    """As above, with the short limit of silence if `silent`; one run counts as one process to the lease."""
    limit = SILENCE if silent else QUIET
    started = f"run {next(_starts)}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StopSwitch, "wait", _wait)
        patch.setattr(exchange, "_broken", _broken(exchange._broken, Timeouts().idle))
        patch.setattr(Timeouts.__init__, "__defaults__", (QUIET, limit, 20.0))
        patch.setattr(service, "_SLOW_SECONDS", limit)
        patch.setattr(bringing, "time", SimpleNamespace(monotonic=_now))
        patch.setattr(lease, "process_started", lambda _pid: started)
        lease_defaults = tuple(_now if each is time.monotonic else each for each in _defaults(lease.Lease))
        patch.setattr(lease.Lease.__init__, "__defaults__", lease_defaults)
        # What is looked at after a failure has tests of its own, and would meet the same fault once more.
        patch.setattr(afterwards, "_look", lambda *_: [Finding("name", "the far end", "ok", "")])
        former = [(patience, vars(patience).copy()) for patience in _PATIENCES]
        try:
            for patience in _PATIENCES:
                vars(patience)["clock"] = _now  # they are frozen, and everybody's default
            if silent:
                vars(retry.PART)["seconds"] = 60.0
            yield
        finally:
            for patience, values in former:
                vars(patience).update(values)
