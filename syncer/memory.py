"""The memory promise: every byte of model data that this process holds lies in a buffer of one budget.

Buffers are anonymous maps, so that giving one back really returns it, and are kept for reuse while there is room.
"""

from __future__ import annotations

import mmap
import threading
from dataclasses import dataclass, field
from typing import Final

from syncer.errors import InternalError

MiB: Final = 1 << 20
_SMALLEST: Final = 16 << 10


@dataclass(eq=False, slots=True)
class Buffer:
    """A reserved piece of memory; `view` has exactly the bytes asked for.  Give it back to its budget once."""

    capacity: int
    view: memoryview
    _map: mmap.mmap = field(repr=False)

    def narrow(self, size: int) -> None:
        """Let `view` have `size` bytes from now on, at most as many as were reserved."""
        self.view.release()
        self.view = memoryview(self._map)[:size]


class Waiting:
    """A place in the line for a buffer, which is there when its moment has come; `wake` ends a `wait` without it."""

    __slots__ = ("_awake", "buffer", "rank", "size")

    def __init__(self, size: int, rank: int) -> None:
        self.size = size
        self.rank = rank
        self.buffer: Buffer | None = None
        self._awake = threading.Event()

    def wait(self, seconds: float) -> None:
        """Until there is a buffer or somebody wakes us, at most for `seconds`."""
        self._awake.wait(seconds)
        self._awake.clear()

    def wake(self) -> None:
        """End `wait`: something has changed."""
        self._awake.set()


class MemoryBudget:
    """At most `limit` bytes of buffers, those kept for reuse included.  Safe from many threads; never blocks.

    One buffer may exceed the limit when nothing else is reserved, so that a budget smaller than a part still works.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.reserved = 0
        self._idle: dict[int, list[mmap.mmap]] = {}
        self._idle_bytes = 0
        self._line: list[Waiting] = []
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """How many wait in the line."""
        return len(self._line)

    def reserve(self, size: int) -> Buffer | None:
        """A buffer of `size` bytes, or None when that would break the promise now."""
        with self._lock:
            return self._reserve(size)

    def release(self, buffer: Buffer) -> None:
        """Take a buffer back; its view is void from here on."""
        buffer.view.release()
        with self._lock:
            self.reserved -= buffer.capacity
            if self.reserved < 0:
                raise InternalError("a buffer was given back twice")
            if self.reserved + self._idle_bytes + buffer.capacity <= self.limit:
                self._idle.setdefault(buffer.capacity, []).append(buffer._map)  # noqa: SLF001 - the budget made it
                self._idle_bytes += buffer.capacity
            self._serve()

    def queue(self, size: int, rank: int) -> Waiting:
        """Wait in the line for a buffer of `size` bytes: the lowest `rank` is served first.  `leave` it in any case."""
        waiting = Waiting(size, rank)
        with self._lock:
            self._line.append(waiting)
            self._serve()
        return waiting

    def leave(self, waiting: Waiting) -> Buffer | None:
        """Wait no longer; the buffer, if there was one for us by now."""
        with self._lock:
            if waiting in self._line:
                self._line.remove(waiting)
                self._serve()  # who wanted more than there was no longer holds up the others
        return waiting.buffer

    def _serve(self) -> None:
        while self._line:
            first = min(self._line, key=lambda waiting: waiting.rank)
            first.buffer = self._reserve(first.size)
            if first.buffer is None:
                return
            self._line.remove(first)
            first.wake()

    def _reserve(self, size: int) -> Buffer | None:
        capacity = _capacity(size)
        if self.reserved and self.reserved + capacity > self.limit:
            return None
        idle = self._idle.get(capacity)
        if idle:
            self._idle_bytes -= capacity
            area = idle.pop()
        else:
            self._drop_idle(self.limit - self.reserved - capacity)
            area = mmap.mmap(-1, capacity)
        self.reserved += capacity  # last: a map that the system refuses is not reserved
        return Buffer(capacity, memoryview(area)[:size], area)

    def _drop_idle(self, room: int) -> None:
        """Let idle buffers go until they fit into `room`.  Dropping the last reference unmaps."""
        for capacity in sorted(self._idle, reverse=True):
            while self._idle_bytes > max(0, room) and self._idle[capacity]:
                self._idle[capacity].pop()
                self._idle_bytes -= capacity


def _capacity(size: int) -> int:
    """Few distinct sizes, so that buffers find a second user: powers of two to 1 MiB, then whole MiB."""
    if size <= MiB:
        return max(_SMALLEST, 1 << max(0, size - 1).bit_length())
    return -(-size // MiB) * MiB
