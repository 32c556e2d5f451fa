"""What becomes of a part's bytes between their arrival and the end of their part: they go through the file's digests.

A lane owns one buffer, its `Holding`, and reads into it.  Where the digests of a file need its bytes in order, each
part has a turn, and its `PartShare` of the file's `Window` sees to that:

- the lane whose part has the turn hashes what it has just sent, and reads into the same buffer again;
- a lane ahead of its turn leaves its full buffers in the window and goes on with others from the budget.  When there is
  none it waits: who is nearest to the turn is served first.  It also goes on when its turn comes, with the one buffer
  that it has, so the lane in turn never waits for memory, and every file gets on;
- whoever hashes the last byte of a part passes the turn on at once, before the destination has answered, and hashes the
  parts that are whole by then.

A part may break after that and be read again.  Its bytes are not hashed twice then, but must bring the digests from
their state at the part's beginning to the same state at its end; otherwise the destination would have bytes that nobody
has proved.

Where no digest needs order, and for a file of one part, there is no window: each part has a `Loose` share, and nobody
waits for anybody.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import Final, Protocol

from syncer.digests import FileHash, PartHash
from syncer.errors import InternalError, WrongBytes
from syncer.manifest import DigestName
from syncer.memory import Buffer, MemoryBudget, Waiting

LONGEST_WAIT_SECONDS: Final = 10.0
"""How long a lane waits for memory between two bytes of a part: stores close connections that are silent for 20 s."""
_LOOK_SECONDS: Final = 0.5


class Stalled(Exception):
    """There was no memory for too long: the part is to be read anew later."""


class Holding:
    """The one buffer that a lane owns.

    With `kept` it holds a whole part, whose bytes have to stay until the part ends: some stores ask for that.
    """

    __slots__ = ("_budget", "_buffer", "kept")

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._buffer: Buffer | None = None
        self.kept = False

    @property
    def buffer(self) -> Buffer:
        """The buffer, of a lane that has a part."""
        if self._buffer is None:
            raise InternalError("a lane without a buffer has a part")
        return self._buffer

    def fit(self, size: int, *, kept: bool) -> bool:
        """Own a buffer of `size` bytes from now on; False when that would break the memory promise now.

        A lane that owns one already is never left without: it keeps that where there is no other.
        """
        if kept or self.kept:
            self.drop()
        if self._buffer is None or len(self._buffer.view) != size:
            new = self._budget.reserve(size)
            if new is not None:
                self.drop()
                self._buffer = new
        self.kept = kept
        return self._buffer is not None

    def swap(self, new: Buffer | None) -> Buffer:
        """Own `new`; the old one is the caller's."""
        old, self._buffer = self.buffer, new
        return old

    def drop(self) -> None:
        """Own nothing."""
        if self._buffer is not None:
            buffer, self._buffer = self._buffer, None
            self._budget.release(buffer)


class PartShare(Protocol):
    """One part on its way through the digests; used by the lane that carries the part."""

    def begin(self) -> None:
        """The part is read from its first byte, for the first time or once more."""
        ...

    def room(self, left: int) -> memoryview:
        """Where the next bytes go, at most `left`."""
        ...

    def take(self, count: int, *, last: bool) -> None:
        """`count` bytes of the room have arrived and are sent; `last` when the part ends with them.

        May wait for memory.  Raises `WrongBytes` when a part that was read before has other bytes now.
        """
        ...

    def settle(self) -> None:
        """The part is whole at the destination."""
        ...

    def leave(self) -> None:
        """The lane is done with the part, whether it was settled or not."""
        ...


class Loose:
    """The share of a part that nobody waits for; see `PartShare`.  `digest` is None where nothing is computed."""

    def __init__(self, digest: FileHash | None, offset: int, holding: Holding) -> None:
        self._digest = digest
        self._offset = offset
        self._holding = holding
        self._part: PartHash | FileHash | None = None
        self._at = 0

    def begin(self) -> None:
        """See `PartShare`."""
        self._part = self._digest.part() if self._digest is not None else None
        self._at = 0

    def room(self, left: int) -> memoryview:
        """See `PartShare`."""
        return self._holding.buffer.view[self._at : self._at + left]

    def take(self, count: int, *, last: bool) -> None:
        """See `PartShare`."""
        if self._part is not None:
            self._part.update(self.room(count))
        if self._holding.kept:
            self._at += count

    def settle(self) -> None:
        """See `PartShare`."""
        if self._digest is not None and self._part is not None:
            self._digest.join(self._offset, self._part)

    def leave(self) -> None:
        """See `PartShare`."""


class _State(Enum):
    OPEN = "hashed by its lane, or by nobody yet"
    TAKEN = "whole, and being hashed by whoever passes the turn on"
    HASHED = "the turn has passed on"


class Window:
    """Puts the parts of one file in order for its digests.  Safe from many threads, one thread per part.

    `digest` is for whoever has the turn alone, and for all when the last part is settled.
    """

    def __init__(
        self, digest: FileHash, budget: MemoryBudget, path: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.digest = digest
        self.budget = budget
        self.path = path
        self.clock = clock
        self.turn = 0
        self.shares: dict[int, InOrder] = {}
        self.dropped = False
        self.changed = threading.Condition()

    def share(self, index: int, holding: Holding, check: Callable[[], None]) -> InOrder:
        """The share of part `index`; while it waits for memory `check` is called now and then, and may raise."""
        made = InOrder(self, index, holding, check)
        with self.changed:
            self.shares[index] = made
        return made

    def drop(self) -> None:
        """Give back what settled parts have left here: the file is given up."""
        with self.changed:
            self.dropped = True
            left = [share for share in self.shares.values() if share.settled and share.state is _State.OPEN]
            for share in left:
                del self.shares[share.index]
        for share in left:
            share.release()

    def pass_on(self) -> None:
        """The part in turn is hashed: hash what is whole behind it, and leave the turn to the first that is not."""
        while True:
            with self.changed:
                self.turn += 1
                share = self.shares.get(self.turn)
                if share is None:
                    return
                share.wake()
                if not share.whole:
                    return
                share.state = _State.TAKEN
            share.hash()
            with self.changed:
                share.state = _State.HASHED
                if share.settled:
                    del self.shares[share.index]
                self.changed.notify_all()


class InOrder:
    """See `PartShare`.  `whole`, `settled` and `state` change under the window's lock.

    The lane has the turn from the moment that it is `index`, unless the part was whole by then: that one is taken.
    """

    def __init__(self, window: Window, index: int, holding: Holding, check: Callable[[], None]) -> None:
        self.index = index
        self.whole = False
        self.settled = False
        self.state = _State.OPEN
        self._window = window
        self._holding = holding
        self._check = check
        self._waiting: Waiting | None = None
        # What waits to be hashed: full buffers, and these bytes of the lane's own.
        self._full: list[Buffer] = []
        self._first = 0
        self._end = 0
        # The digests at the part's beginning and at its end, and on the way between them when it is read once more.
        self._at_start: FileHash | None = None
        self._at_end: dict[DigestName, str] = {}
        self._again: FileHash | None = None

    # For the lane -----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """See `PartShare`."""
        with self._window.changed:
            while self.state is _State.TAKEN:
                self._window.changed.wait()
            self.whole = False
        self._first = self._end = 0
        if self.state is _State.HASHED:
            self._again = self._at_start.copy() if self._at_start is not None else None
            return
        self.release()
        if self._at_start is not None:
            self._window.digest, self._at_start = self._at_start, None

    def room(self, left: int) -> memoryview:
        """See `PartShare`."""
        return self._holding.buffer.view[self._end : self._end + left]

    def take(self, count: int, *, last: bool) -> None:
        """See `PartShare`."""
        window = self._window
        self._end += count
        if self.state is _State.HASHED:
            self._compare(last=last)
            return
        if last:
            with window.changed:
                self.whole = window.turn != self.index
        if window.turn == self.index and not self.whole:
            self.hash(last=last)
            if last:
                self.state = _State.HASHED
                window.pass_on()
        elif not last and self._end == len(self._holding.buffer.view):
            new = self._wait_for_memory(len(self._holding.buffer.view), longest=LONGEST_WAIT_SECONDS)
            if new is not None:
                self._full.append(self._holding.swap(new))
                self._first = self._end = 0
            else:
                self.hash(last=False)

    def settle(self) -> None:
        """See `PartShare`."""
        window, new = self._window, None
        if not self._holding.kept and self.state is _State.OPEN:
            new = self._wait_for_memory(len(self._holding.buffer.view))
        left = new
        with window.changed:
            while self.state is _State.TAKEN:
                window.changed.wait()
            self.settled = True
            if self.state is _State.OPEN:
                left = None
                own = self._holding.swap(new)
                own.narrow(self._end)
                self._full.append(own)
                self._first = self._end = 0
            if self.state is _State.HASHED or window.dropped:
                del window.shares[self.index]
        if left is not None:
            window.budget.release(left)
        if window.dropped:
            self.release()

    def leave(self) -> None:
        """See `PartShare`."""
        if not self.settled:
            self.begin()
            with self._window.changed:
                self._window.shares.pop(self.index, None)

    def _compare(self, *, last: bool) -> None:
        """Bytes that were hashed before have come again."""
        if self._again is None:
            raise InternalError("a part is read again that was never read")
        self._again.update(self._holding.buffer.view[self._first : self._end])
        self._next_room()
        if last and self._again.digests() != self._at_end:
            raise WrongBytes(
                f"{self._window.path}: part {self.index} has other bytes when it is read once more",
                hint="the file is damaged where it lies or on the way from there; compare it with its origin",
                path=self._window.path,
            )

    def _wait_for_memory(self, size: int, *, longest: float | None = None) -> Buffer | None:
        """An empty buffer, or None when the turn has come and none is needed.  `Stalled` after the `longest` wait."""
        window = self._window
        if (buffer := window.budget.reserve(size)) is not None:
            return buffer
        until = window.clock() + longest if longest is not None else None
        waiting = window.budget.queue(size, rank=self.index - window.turn)
        try:
            with window.changed:
                self._waiting = waiting
            while waiting.buffer is None and window.turn < self.index:
                if until is not None and window.clock() >= until:
                    raise Stalled
                waiting.wait(_LOOK_SECONDS)
                self._check()
        except BaseException:
            if (late := window.budget.leave(waiting)) is not None:
                window.budget.release(late)
            raise
        finally:
            self._waiting = None
        return window.budget.leave(waiting)

    # For whoever has the turn -----------------------------------------------------------------------------------------

    def hash(self, *, last: bool = True) -> None:
        """Hash what has arrived; these are the `last` bytes of the part, or more follow."""
        digest = self._window.digest
        if self._at_start is None:
            self._at_start = digest.copy()
        for buffer in self._full:
            digest.update(buffer.view)
        self.release()
        if self._end > self._first:
            digest.update(self._holding.buffer.view[self._first : self._end])
            self._next_room()
        if last:
            self._at_end = digest.digests()

    def wake(self) -> None:
        """What its lane waits for may be there."""
        if (waiting := self._waiting) is not None:
            waiting.wake()

    def release(self) -> None:
        """Give the full buffers back."""
        full, self._full = self._full, []
        for buffer in full:
            self._window.budget.release(buffer)

    def _next_room(self) -> None:
        """All bytes of the lane's buffer are hashed: it is empty, unless the bytes have to stay."""
        self._first = self._end = self._end if self._holding.kept else 0
