"""Which file the next free lane works on.  Pure bookkeeping: the engine holds the lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from syncer.flight import Flight, Task
from syncer.memory import MiB

LANES: Final = 8
MEMORY: Final = 64 * MiB
_MOST_LANES: Final = 64


@dataclass(frozen=True)
class Sizing:
    """How much at once: lanes over all files, files under way, lanes on one file, bytes of memory."""

    lanes: int = LANES
    files: int = LANES
    lanes_per_file: int = LANES
    memory: int = MEMORY

    @classmethod
    def choose(cls, *, max_files: int | None, max_threads_per_file: int | None, memory: int | None) -> Sizing:
        """The engine's own choice within what the user set: more lanes only if both legacy caps together ask for it."""
        wanted = (max_files or 1) * (max_threads_per_file or 1)
        lanes = max(LANES, min(wanted, _MOST_LANES)) if max_files and max_threads_per_file else LANES
        return cls(
            lanes=lanes,
            files=max_files or lanes,
            lanes_per_file=max_threads_per_file or lanes,
            memory=memory or MEMORY,
        )


class Schedule:
    """Large files first, a quarter of the lanes for small ones beside them, then more lanes for what is under way."""

    def __init__(self, sizing: Sizing, tasks: Sequence[Task]) -> None:
        by_size = sorted(tasks, key=lambda task: (-task.file.size, task.file.path))
        self.flights: list[Flight] = []
        self._sizing = sizing
        self._large = deque(task for task in by_size if _is_large(task))
        self._small = deque(task for task in by_size if not _is_large(task))

    @property
    def most_lanes(self) -> int:
        """Lanes that can find work at once, at most."""
        return min(self._sizing.lanes, sum(task.cut.count for task in (*self._large, *self._small)))

    @property
    def done(self) -> bool:
        """Whether every task was started and every flight has ended."""
        return not (self.flights or self._large or self._small)

    def choose(self) -> Flight | Task | None:
        """A flight to join, a task to start, or None when there is nothing to do for one more lane now."""
        sizing = self._sizing
        may_start = len(self.flights) < sizing.files
        small_lanes = sum(flight.lanes for flight in self.flights if not _is_large(flight.task))
        if may_start and self._small and small_lanes < max(1, sizing.lanes // 4):
            return self._small[0]
        if may_start and self._large:
            return self._large[0]
        open_ones = [
            flight
            for flight in self.flights
            if flight.undrawn
            and flight.given_up is None
            and flight.lanes < (1 if flight.relayed or flight.task.cut.in_order else sizing.lanes_per_file)
        ]
        if open_ones:
            return min(open_ones, key=lambda flight: (flight.lanes, -len(flight.undrawn)))
        return self._small[0] if may_start and self._small else None

    def start(self, flight: Flight) -> None:
        """`flight` is under way: its task, which was chosen, is taken off the list."""
        self._queue(flight.task).remove(flight.task)
        self.flights.append(flight)

    def end(self, flight: Flight, *, instead: Task | None = None) -> None:
        """`flight` is over; `instead` is to be done in its place, next."""
        self.flights.remove(flight)
        if instead is not None:
            self._queue(instead).appendleft(instead)

    def _queue(self, task: Task) -> deque[Task]:
        return self._large if _is_large(task) else self._small


def _is_large(task: Task) -> bool:
    return task.cut.count > 1
