"""How many lanes: more while that pays, fewer when a store asks for mercy.  Pure: it is told the time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    """What the engine sees at one moment.

    `moved` bytes and `parts` are counted from the start of the run, `slow_downs` since the last look: answers 503, 429
    and the like.  `busy` lanes are on a part now, and `held` of them wait for memory.
    """

    now: float
    moved: int
    parts: int = 0
    busy: int = 0
    held: int = 0
    slow_downs: int = 0


class Tempo:
    """The wanted number of lanes, asked for every quarter of a second or so; at most `most`."""

    def __init__(self, *, most: int, start: int = 8) -> None:
        self.lanes = min(start, most)

    def look(self, look: Look) -> int:
        """The lanes that there should be now."""
        return self.lanes
