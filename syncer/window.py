"""The digest of a file whose parts arrive side by side.

SHA-256 needs the bytes in order.  Each part has a turn: whoever moves the part whose turn it is hashes the bytes as
they come; parts that are done before their turn wait here with their buffers, and whoever ends a turn hashes those
that follow.  The memory budget bounds how many can wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from syncer.digests import FileHash
from syncer.memory import Buffer


class Window:
    """Puts the parts of one file in order for its hash.  Safe from many threads, one thread per part.

    `release` gets every buffer back exactly once: after `complete`, or from `drop`.
    """

    def __init__(self, digest: FileHash, release: Callable[[Buffer], None]) -> None:
        self.digest = digest
        self._release = release
        self._turn = 0
        self._hashed = 0
        self._waiting: dict[int, Buffer] = {}
        self._dropped = False
        self._lock = threading.Lock()

    def advance(self, index: int, buffer: Buffer, filled: int) -> None:
        """Part `index` has its first `filled` bytes in `buffer`: hash the new ones if it is this part's turn."""
        # Only the thread that moves part `index` can end its turn, so the look needs no lock.
        if self._turn == index and filled > self._hashed:
            self.digest.update(buffer.view[self._hashed : filled])
            self._hashed = filled

    def complete(self, index: int, buffer: Buffer) -> None:
        """Part `index` is whole and sent; hash what is next in order, now or when its turn comes."""
        with self._lock:
            if self._dropped:
                self._release(buffer)
                return
            if index != self._turn:
                self._waiting[index] = buffer
                return
        current: Buffer | None = buffer
        while current is not None:
            self.advance(self._turn, current, len(current.view))
            self._release(current)
            with self._lock:
                self._hashed = 0
                self._turn += 1
                current = self._waiting.pop(self._turn, None)

    def drop(self) -> None:
        """Give the waiting buffers back: the file is given up.  Parts that complete later are let go at once."""
        with self._lock:
            self._dropped = True
            waiting, self._waiting = self._waiting, {}
        for buffer in waiting.values():
            self._release(buffer)
