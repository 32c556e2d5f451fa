"""What the pod leaves to this process: the limits of its control groups, and the cores that it may run on.

Inside a container its own group is the root of what is mounted; on a host, and where the namespace is shared,
`/proc/self/cgroup` tells the path, and each group above counts as well (cgroups(7)).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_SYSTEM: Final = Path("/")
_V1_UNLIMITED: Final = 1 << 60
"""Version 1 says "no limit" for memory as a number of its page counter, near 2**63."""


def memory_limit(*, root: Path = _SYSTEM) -> int | None:
    """The tightest limit in bytes, or None where there is none."""
    limits = (
        _number(folder / ("memory.max" if unified else "memory.limit_in_bytes"))
        for folder, unified in _groups(root, "memory")
    )
    return min((limit for limit in limits if 0 < limit < _V1_UNLIMITED), default=None)


def in_use(*, root: Path = _SYSTEM) -> int:
    """Bytes of this process that count against the limit and cannot be dropped (`VmRSS`; 0 where nobody tells)."""
    for line in _text(root / "proc/self/status").splitlines():
        name, _, value = line.partition(":")
        if name == "VmRSS":
            return int(value.split()[0]) * 1024
    return 0


def processor_limit(*, root: Path = _SYSTEM) -> float | None:
    """The tightest limit in processors, or None where there is none.

    `cpu.max` is "$MAX $PERIOD" (https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu); version 1 has two files.
    """
    found = []
    for folder, unified in _groups(root, "cpu"):
        if unified:
            words = _text(folder / "cpu.max").split()
        else:
            words = [_text(folder / name).strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")]
        if len(words) == 2 and all(word.isascii() and word.isdecimal() for word in words) and int(words[1]):
            found.append(int(words[0]) / int(words[1]))
    return min(found, default=None)


def processors(*, root: Path = _SYSTEM) -> float:
    """How many processors this process may keep busy."""
    usable, limit = usable_processors(), processor_limit(root=root)
    return usable if limit is None else min(usable, limit)


def usable_processors() -> int:
    """How many processors this process may run on: those of the machine where only that is told, as on macOS."""
    return len(usable_cores()) or os.cpu_count() or 1


def usable_cores() -> frozenset[int]:
    """The processors that this thread may run on, by their numbers; none where nobody tells or chooses, as on macOS."""
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()


def _groups(root: Path, controller: str) -> Iterator[tuple[Path, bool]]:
    """The folders of the groups that this process is in, from its own upwards; whether each is of version 2."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and controller not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / (controller if controllers else "")
        folder = base / path.strip("/")
        for here in (folder, *folder.parents):
            yield here, not controllers
            if here == base:
                break


def _number(path: Path) -> int:
    text = _text(path).strip()
    return int(text) if text.isascii() and text.isdigit() else 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
