"""One lane: a thread that carries one part after another, from a range of the source into a part of the destination.

Memory holds what has arrived and is not both sent and hashed, chunk by chunk (`window.py`).  A read that breaks goes on
at the byte it reached, while the destination's part stays open.  A write that breaks makes the part begin anew: it is
read again, and its share of the digests goes back to where it was.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from syncer.errors import ConfigurationError, Transient
from syncer.memory import MemoryBudget
from syncer.progress import Figures
from syncer.stores.protocols import UploadLost
from syncer.threads import NoThread, start
from syncer.window import Holding, Loose, PartShare

if TYPE_CHECKING:
    from syncer.bandwidth import Throttle
    from syncer.flight import Errand, Flight
    from syncer.stores.protocols import Body, PartSink


class NeedsWholeParts(Exception):
    """The destination wants to keep the bytes of a part until its end, and this lane has no memory for that."""


class Lane:
    """What belongs to one thread of the engine.

    `check` is called between two chunks and raises when the part is not wanted any more; `moved` is told of every
    chunk that is at the destination.  `bytes` counts what has arrived and `sent` what went out, whatever became of it.
    """

    def __init__(
        self,
        errand: Errand,
        budget: MemoryBudget,
        throttle: Throttle,
        check: Callable[[Flight], None],
        moved: Callable[[Flight, int], None],
        name: str,
    ) -> None:
        self.name = name
        self.holding = Holding(budget)
        self.bytes = 0
        self.sent = 0
        self._errand = errand
        self._throttle = throttle
        self._check = check
        self._moved = moved

    def share(self, flight: Flight, index: int) -> PartShare:
        """This lane's share of the digests of a file, for part `index`."""
        if flight.window is not None:
            return flight.window.share(index, self.holding, lambda: self._check(flight))
        return Loose(flight.digest, flight.task.cut.offset(index), self.holding)

    def carry(self, flight: Flight, index: int, share: PartShare) -> None:
        """Carry part `index` from its first byte to its end, once; what goes wrong is raised."""
        self._check(flight)
        length, at = flight.task.cut.length(index), 0
        share.begin()
        body = self._open(flight, index, 0) if length else None
        sink: PartSink | None = None
        try:
            sink = flight.opened.open_part(index)
            if sink.keeps_views and not self.holding.kept:
                raise NeedsWholeParts
            opened_at = 0
            while at < length and body is not None:
                self._check(flight)
                room = share.room(length - at)
                try:
                    count = self._throttle.read(body.readinto, room)
                    if not 0 < count <= len(room):  # an end before the end must not pass as a file
                        raise Transient("the source ended a part early", path=flight.task.file.path)
                except Transient:
                    if at == opened_at:
                        raise  # not a byte since it was opened: that is for the back-off
                    body.close()
                    opened_at = at
                    body = self._open(flight, index, at)
                    continue
                self.bytes += count
                sink.send(room[:count])
                self.sent += count
                at += count
                self._moved(flight, count)
                share.take(count, last=at == length)
            if not length:
                share.take(0, last=True)
            sink.finish()
        except BaseException:
            if sink is not None:
                sink.cancel()
            self._moved(flight, -at)
            share.begin()  # what it has in memory goes now, not after the pause
            raise
        finally:
            if body is not None:
                body.close()

    def _open(self, flight: Flight, index: int, at: int) -> Body:
        """The range of a part beyond its first `at` bytes."""
        self._check(flight)
        cut = flight.task.cut
        return self._errand.read(flight.task.file, cut.offset(index) + at, cut.length(index) - at)


def threads_of(lanes: Sequence[Lane], drive: Callable[[Lane], None]) -> list[threading.Thread]:
    """A running thread for each of `lanes`, one after another, as long as the pod may have one more."""
    running: list[threading.Thread] = []
    with suppress(NoThread):
        for lane in lanes:
            thread = threading.Thread(target=drive, args=(lane,), name=lane.name, daemon=True)
            start(thread)
            running.append(thread)
    return running


def figures(lanes: Sequence[Lane], parts: int, in_flight: int, budget: MemoryBudget) -> Figures:
    """What `lanes` have done between them, and hold."""
    now = tuple(lanes)
    return Figures(
        read_bytes=sum(lane.bytes for lane in now),
        sent_bytes=sum(lane.sent for lane in now),
        parts=parts,
        parts_in_flight=in_flight,
        memory_bytes=budget.reserved,
    )


def make_parts_fit(flight: Flight, memory: int) -> None:
    """Raise unless a part's memory can be reserved before it is drawn, as it is from now on.

    A file with a window begins anew: parts ahead of their turn may have all memory by now, and wait for one that
    would not get it any more; and a part whose turn has passed could not be held against its digest.
    """
    task = flight.task
    if task.cut.length(0) > memory // 2:
        raise ConfigurationError(
            f"a part of {task.cut.length(0)} bytes does not fit into the memory setting, and this store needs it whole",
            hint="raise S3_SYNC_TRANSFER_CONFIG__MEMORY to twice the part size and 16 MiB",
            path=task.file.path,
        )
    if flight.window is not None:
        raise UploadLost(f"{task.file.path}: the destination wants to see its parts whole")
