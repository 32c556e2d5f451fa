"""Runs one client as a process of its own and says what it cost.

CPU is user and system time of the process and of all descendants that it waited for.  Peak memory is that of the
largest process of them, as the kernel recorded it.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

WATCH_INTERVAL_SECONDS = 0.02
TAIL_BYTES = 2000


@dataclass(frozen=True)
class Cost:
    """What one run took: seconds, and bytes of memory.

    `peak_rss` is `ru_maxrss`, exact, but never below what the *parent* had when it forked.  `high_water` is the last
    `VmHWM` seen in /proc, free of that flaw, but blind for the last moments of a process; 0 where it was never seen.
    """

    wall: float
    user: float
    system: float
    peak_rss: int
    high_water: int
    status: int
    output: str

    @property
    def cpu(self) -> float:
        """User and system seconds together."""
        return self.user + self.system


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    cores: frozenset[int] | None = None,
    folder: Path | None = None,
    limit: float = 600,
) -> Cost:
    """Run `command` with exactly this environment, on these cores, in `folder`; it is killed after `limit` seconds.

    `status` is the exit code, negative for a signal; `output` the last lines of what it printed.
    """
    with tempfile.TemporaryFile() as printed:
        mine = os.sched_getaffinity(0)
        started = time.monotonic()
        os.sched_setaffinity(0, cores or mine)  # inherited; setting it afterwards would miss the first threads
        try:
            process = subprocess.Popen(
                command, env=dict(environment), cwd=folder, stdout=printed, stderr=subprocess.STDOUT
            )
        finally:
            os.sched_setaffinity(0, mine)
        ended = threading.Event()
        seen = [0]
        watcher = threading.Thread(target=_watch, args=(process.pid, ended, seen))
        watcher.start()
        alarm = threading.Timer(limit, process.kill)
        alarm.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()  # ours alone; a broken measurement leaves no client behind
            process.wait()
            raise
        finally:
            alarm.cancel()
            ended.set()
            watcher.join()
        wall = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        printed.seek(max(0, printed.seek(0, os.SEEK_END) - TAIL_BYTES))
        tail = printed.read().decode(errors="replace")
    peak = usage.ru_maxrss * 1024
    return Cost(wall, usage.ru_utime, usage.ru_stime, peak, seen[0], process.returncode, tail)


def _watch(pid: int, ended: threading.Event, seen: list[int]) -> None:
    """Keep the newest `VmHWM` of `pid` in `seen[0]`."""
    status = Path(f"/proc/{pid}/status")
    while not ended.wait(WATCH_INTERVAL_SECONDS):
        try:
            lines = status.read_text().splitlines()
        except OSError:
            return
        for line in lines:
            if line.startswith("VmHWM:"):
                seen[0] = max(seen[0], int(line.split()[1]) * 1024)
