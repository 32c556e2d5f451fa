"""Which cores the lanes run on: all on one while they carry small files, else wherever the kernel puts them.

A small file is a fraction of a millisecond of the interpreter, which one thread at a time may have, and a few calls of
the system, at each of which it changes hands.  Between cores each change interrupts the other core, and whoever goes on
finds what it needs in the other one's cache: that makes every file half as dear again.  On one core it is an ordinary
switch.

Larger files take their time in digests, TLS and the kernel, which run beside the interpreter, and on all cores.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Final

from syncer.control_groups import usable_cores
from syncer.tempo import Look

_SMALL: Final = 128 * 1024
"""Bytes.  The SHA-256 of a file of this size takes less than the interpreter does."""
_MANY: Final = 200.0
"""Files a second: fewer leave the interpreter idle for most of the time."""
_STAY: Final = 5.0
"""Seconds until the kernel may choose another core: somebody else may have come to this one."""
_PROCESSOR: Final = 36
"""Where `stat` of a task tells its core, counted from behind the name: proc_pid_stat(5)."""


def core_of(thread: int) -> int | None:
    """The core that a thread of this process ran on last; None where nobody tells."""
    try:
        stat = Path(f"/proc/self/task/{thread}/stat").read_text("ascii", "replace")
        return int(stat.rpartition(")")[2].split()[_PROCESSOR])
    except (OSError, IndexError, ValueError):
        return None


def bind(thread: int, cores: Collection[int]) -> None:
    """Let a thread of this process run on these cores alone; raises OSError."""
    os.sched_setaffinity(thread, cores)


class Affinity:
    """Gathers the lanes and lets them go again; told of every look.  Where that is not allowed it does nothing."""

    def __init__(
        self,
        *,
        cores: Callable[[], frozenset[int]] = usable_cores,
        core_of: Callable[[int], int | None] = core_of,
        bind: Callable[[int, Collection[int]], None] = bind,
    ) -> None:
        self._cores = cores()
        self._core_of = core_of
        self._bind = bind
        self._last: Look | None = None
        # The lanes that are on the one core, that core, and since when it is the one.
        self._gathered: set[int] = set()
        self._core: int | None = None
        self._since = 0.0

    def look(self, look: Look, lanes: Iterable[int | None]) -> None:
        """`lanes` are the threads that carry nothing but small files, by the system's numbers."""
        last, self._last = self._last, look
        if last is None or len(self._cores) < 2:
            return
        parts, moved = look.parts - last.parts, look.moved - last.moved
        small = parts >= _MANY * (look.now - last.now) and moved <= parts * _SMALL
        threads = {lane for lane in lanes if lane is not None}
        if not (small and threads) or (self._core is not None and look.now - self._since >= _STAY):
            self._let_go()
        else:
            self._gather(threads, look.now)

    def _gather(self, threads: set[int], now: float) -> None:
        if self._core is None:
            self._core, self._since = self._core_of(min(threads)), now
        if self._core in self._cores:
            self._put(threads - self._gathered, {self._core})
            self._gathered = threads

    def _let_go(self) -> None:
        self._put(self._gathered, self._cores)
        self._gathered = set()
        self._core = None

    def _put(self, threads: Collection[int], cores: Collection[int]) -> None:
        for thread in threads:
            try:
                self._bind(thread, cores)
            except ProcessLookupError:
                pass  # it has ended meanwhile
            except OSError:
                self._cores = frozenset()  # a sandbox that does not have it: never mind
