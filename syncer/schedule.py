"""Which file the next free lane works on.  Pure bookkeeping: the engine holds the lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from syncer.flight import Flight, Task
from syncer.memory import MiB

LANES: Final = 4
"""Lanes to begin with, or one for each processor where the pod has fewer, but two at least.  At a near store more bring
nothing: they wait for each other at every call, and a lane ahead of its turn hashes from cold memory, which costs half
as much again."""
_FEWEST_LANES: Final = 2
_AS_BEFORE: Final = 8
"""Lanes for whoever sets both legacy caps to less: they bound it all the same."""
MOST_LANES: Final = 64
MEMORY: Final = 80 * MiB
_BESIDE: Final = 16 * MiB
"""What the setting holds besides buffers, at most: threads, connections with TLS, what their work leaves behind.  The
interpreter with all that is loaded is 40 MiB; so the whole process stays below 64 MiB by a setting of 32 MiB."""
_LARGEST_CHUNK: Final = MiB
_SMALLEST_CHUNK: Final = 16 << 10
_OWN: Final = 8
"""All lanes together own at most this fraction of the memory; the rest is for what waits for its turn."""
_AHEAD, _AFTER_A_STALL = 2, 3
"""A lane ahead of its turn is reckoned with two quarters of its part, which is what it holds in the mean.  More lanes
than that only share the memory out between parts that wait, and make all of them later.  With three quarters where a
lane has waited in vain: connections are that slow there that what was read and let go costs more than a lane less."""


@dataclass(frozen=True)
class Sizing:
    """How much at once: lanes to begin with and at most, files under way, lanes on one file, bytes of buffers."""

    lanes: int = LANES
    files: int = MOST_LANES
    lanes_per_file: int = MOST_LANES
    memory: int = MEMORY
    most: int = 0

    @classmethod
    def choose(
        cls, *, max_files: int | None, max_threads_per_file: int | None, memory: int | None, processors: float = LANES
    ) -> Sizing:
        """The engine's own choice within what the user set, on so many processors.

        Both legacy caps together are a number of lanes, too: more than we would begin with only if they ask for it.
        """
        most = MOST_LANES
        if max_files and max_threads_per_file:
            most = max(_AS_BEFORE, min(max_files * max_threads_per_file, MOST_LANES))
        return cls(
            lanes=most if max_files and max_threads_per_file else max(_FEWEST_LANES, min(LANES, ceil(processors))),
            files=max_files or most,
            lanes_per_file=max_threads_per_file or most,
            memory=max(memory // 2, memory - _BESIDE) if memory else MEMORY,
            most=most,
        )

    @property
    def most_lanes(self) -> int:
        """Never more lanes than this."""
        return self.most or self.lanes

    def chunk(self, lanes: int) -> int:
        """Bytes that each of `lanes` lanes reads at once, into the buffer that it owns."""
        chunk = _LARGEST_CHUNK
        while chunk > _SMALLEST_CHUNK and chunk * lanes * _OWN > self.memory:
            chunk //= 2
        return chunk


class Schedule:
    """Large files first, a quarter of the lanes for small ones beside them, then more lanes for what is under way.

    `lanes` is how many there should be, and changes while the run goes on.  Large files begin with the largest, small
    ones come in the order of their names, in which destinations look at what they have.
    """

    def __init__(self, sizing: Sizing, tasks: Sequence[Task]) -> None:
        self.lanes = sizing.lanes
        self.flights: dict[Flight, None] = {}
        self._sizing = sizing
        large = [task for task in tasks if _is_large(task)]
        self._large = deque(sorted(large, key=lambda task: (-task.file.size, task.file.path)))
        self._small = deque(sorted((task for task in tasks if not _is_large(task)), key=lambda task: task.file.path))
        self._open: dict[Flight, None] = {}
        self._small_lanes = 0
        self._parts = len(self._small) + sum(task.cut.count for task in large)
        self._window = sizing.memory - sizing.memory // _OWN

    @property
    def most_lanes(self) -> int:
        """Lanes that can find work at once, at most."""
        return min(self._sizing.most_lanes, self._parts)

    @property
    def done(self) -> bool:
        """Whether every task was started and every flight has ended."""
        return not (self.flights or self._large or self._small)

    @property
    def only_small(self) -> bool:
        """Whether no file of several parts is under way, or to begin."""
        return not self._large and not any(flight.large for flight in self.flights)

    @property
    def urgent(self) -> Flight | None:
        """A flight whose lanes all wait for a part that nobody carries."""
        return next((flight for flight in self._open if flight.awaited), None)

    def draw(self) -> Flight | None:
        """A flight for one more lane, begun or to begin, or None when there is nothing to do for it now."""
        flight = self._choose()
        if flight is not None:
            flight.lanes += 1
            self._small_lanes += not flight.large
        return flight

    def leave(self, flight: Flight) -> None:
        """A lane does not work on `flight` any more."""
        flight.lanes -= 1
        self._small_lanes -= not flight.large

    def give_back(self, flight: Flight) -> None:
        """`flight` was drawn by a lane that cannot work on it."""
        self.leave(flight)
        if flight.upload is None and not flight.lanes:
            self.end(flight, instead=flight.task)

    def put_back(self, flight: Flight, index: int) -> None:
        """Part `index` was drawn and is to be drawn again."""
        flight.put_back(index)
        self._open[flight] = None

    def end(self, flight: Flight, *, instead: Task | None = None) -> None:
        """`flight` is over; `instead` is to be done in its place, next."""
        del self.flights[flight]
        self._open.pop(flight, None)
        if instead is not None:
            (self._large if _is_large(instead) else self._small).appendleft(instead)

    def _choose(self) -> Flight | None:
        if self._open and (urgent := self.urgent) is not None:
            return urgent
        may_start = len(self.flights) < min(self._sizing.files, self.lanes)
        if may_start and self._small and self._small_lanes < max(1, self.lanes // 4):
            return self._start(self._small.popleft())
        if may_start and self._large:
            return self._start(self._large.popleft())
        if (joined := self._to_join()) is not None:
            return joined
        return self._start(self._small.popleft()) if may_start and self._small else None

    def _start(self, task: Task) -> Flight:
        flight = Flight(task)
        self.flights[flight] = None
        if flight.large:
            self._open[flight] = None
        return flight

    def _to_join(self) -> Flight | None:
        ahead = sum(_held(flight) * (flight.lanes - 1) for flight in self._open if flight.lanes)
        open_ones = [flight for flight in self._open if self._may_join(flight, self._window - ahead)]
        return min(open_ones, key=lambda flight: (flight.lanes, -len(flight.undrawn))) if open_ones else None

    def _may_join(self, flight: Flight, room: int) -> bool:
        if not flight.undrawn or flight.given_up is not None:
            return False
        if flight.lanes == 0:
            return True
        if flight.task.cut.in_order or flight.lanes >= self._sizing.lanes_per_file:
            return False
        if flight.window is None:
            return True
        return flight.window.turn != flight.stalled_at and _held(flight) <= room


def _held(flight: Flight) -> int:
    """Bytes that a lane ahead of its turn is reckoned with."""
    if flight.window is None:
        return 0
    return flight.task.cut.part_size * (_AHEAD if flight.stalled_at < 0 else _AFTER_A_STALL) // 4


def _is_large(task: Task) -> bool:
    return task.cut.count > 1
