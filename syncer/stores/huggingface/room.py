"""How much memory a library may take that does its own buffering: a share of what the pod has left."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_MiB: Final = 1024 * 1024

MOST: Final = 128 * _MiB
"""More makes no download faster that was measured, and the whole process is to stay below 200 MiB."""
LEAST: Final = 48 * _MiB
"""With less the library waits for itself."""

_SYSTEM: Final = Path("/")
_V1_UNLIMITED: Final = 1 << 60
"""cgroup v1 says "no limit" as a number of its page counter, near 2**63."""


def room_for_library(*, root: Path = _SYSTEM) -> int:
    """Bytes for a library in this process: half of what the limit leaves, at most `MOST`; 0 for less than `LEAST`."""
    limit = memory_limit(root=root)
    room = MOST if limit is None else min(MOST, (limit - in_use(root=root)) // 2)
    return room if room >= LEAST else 0


def memory_limit(*, root: Path = _SYSTEM) -> int | None:
    """The tightest limit of the control groups that this process is in, or None where there is none.

    Inside a container its own group is the root of what is mounted; on a host, and where the namespace is shared,
    `/proc/self/cgroup` tells the path, and each group above counts as well (cgroups(7)).
    """
    limits = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if not controllers:
            base, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            base, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        folder = base / path.strip("/")
        for here in (folder, *folder.parents):
            limits.append(_number(here / name))
            if here == base:
                break
    return min((limit for limit in limits if 0 < limit < _V1_UNLIMITED), default=None)


def in_use(*, root: Path = _SYSTEM) -> int:
    """Bytes of this process that count against the limit and cannot be dropped (`VmRSS`; 0 where nobody tells)."""
    for line in _text(root / "proc/self/status").splitlines():
        name, _, value = line.partition(":")
        if name == "VmRSS":
            return int(value.split()[0]) * 1024
    return 0


def _number(path: Path) -> int:
    text = _text(path).strip()
    return int(text) if text.isascii() and text.isdigit() else 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
