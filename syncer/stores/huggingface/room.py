"""How much memory a library may take that does its own buffering: a share of what the pod has left."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from syncer.control_groups import in_use, memory_limit

_MiB: Final = 1024 * 1024

MOST: Final = 128 * _MiB
"""More makes no download faster that was measured, and the whole process is to stay below 200 MiB."""
LEAST: Final = 48 * _MiB
"""With less the library waits for itself."""

_SYSTEM: Final = Path("/")


def room_for_library(*, root: Path = _SYSTEM) -> int:
    """Bytes for a library in this process: half of what the limit leaves, at most `MOST`; 0 for less than `LEAST`."""
    limit = memory_limit(root=root)
    room = MOST if limit is None else min(MOST, (limit - in_use(root=root)) // 2)
    return room if room >= LEAST else 0
