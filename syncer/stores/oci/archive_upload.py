"""One file on its way into an archive that grows: its layer is hashed as it is written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Final

from syncer.errors import InternalError, Transient
from syncer.manifest import ModelFile
from syncer.stores.directory.faults import shown
from syncer.stores.directory.place import Place
from syncer.stores.oci.archive import RangeBody
from syncer.stores.oci.growing import Berth, GrowingArchive
from syncer.stores.oci.layers import head, tail
from syncer.stores.protocols import Cut


class ArchiveUpload:
    """Implements `Upload`: parts in order, of which the last one may be sent again.

    There is no token: a file that was not finished starts again in a later process.
    """

    token: Final = ""
    done: Final[frozenset[int]] = frozenset()

    def __init__(
        self,
        growing: GrowingArchive,
        place: Place,
        file: ModelFile,
        cut: Cut,
        *,
        berth: Berth,
        finished: Callable[[ModelFile, str], None],
    ) -> None:
        first = head(file.path, cut.size)
        self._growing = growing
        self._place = place
        self._file = file
        self._cut = cut
        self._berth = berth
        self._data = berth.start + len(first)
        self._finished = finished
        # What is hashed up to the part that comes next, and up to the one before it.
        self._next = 0
        self._hashes = (hashlib.sha256(first), hashlib.sha256(first))
        self._version = ""
        self._over = False

    def open_part(self, index: int) -> ArchivePart:
        """Begin the next part, or the last one again."""
        if self._over or not max(0, self._next - 1) <= index <= self._next or index >= self._cut.count:
            raise InternalError(f"part {index} of {shown(self._file.path)} is out of turn", path=self._file.path)
        state = self._hashes[0] if index < self._next else self._hashes[1]
        return ArchivePart(self, index, state.copy(), length=self._cut.length(index))

    def finish(self) -> str:
        """Write what follows the bytes, give the layer its name and return its digest."""
        if self._version:
            return self._version
        if self._over or self._next != self._cut.count:
            raise InternalError(f"{shown(self._file.path)} was finished before its parts", path=self._file.path)
        after = tail(self._cut.size)
        digest = self._hashes[1].copy()
        digest.update(after)
        version = f"sha256:{digest.hexdigest()}"
        with self._place.translated(self._file.path):
            self._growing.write(after, self._data + self._cut.size)
            self._growing.name(self._berth, version)
        self._finished(self._file, version)
        self._over, self._version = True, version
        return version

    def abort(self) -> None:
        """Give the place back."""
        if not self._over:
            self._over = True
            self._growing.give_up(self._berth)

    def suspend(self) -> None:
        """There is nothing to go on with later."""
        self.abort()

    def write(self, index: int, at: int, data: memoryview) -> None:
        """Write bytes of part `index`, `at` bytes into it."""
        if self._over:
            raise InternalError(f"{shown(self._file.path)} was given up", path=self._file.path)
        with self._place.translated(self._file.path):
            self._growing.write(data, self._data + self._cut.offset(index) + at)

    def whole(self, index: int, state: hashlib._Hash) -> None:
        """Part `index` is written, and hashed into `state`."""
        before = self._hashes[0] if index < self._next else self._hashes[1]
        self._next, self._hashes = index + 1, (before, state)


class ArchivePart:
    """Implements `PartSink`."""

    keeps_views: Final = False

    def __init__(self, upload: ArchiveUpload, index: int, state: hashlib._Hash, *, length: int) -> None:
        self._upload: ArchiveUpload | None = upload
        self._index = index
        self._state = state
        self._left = length
        self._at = 0

    def send(self, data: memoryview) -> None:
        """Write and hash all of `data`."""
        if self._upload is None or len(data) > self._left:
            raise InternalError(f"a part of {self._left} bytes cannot take {len(data)}")
        self._upload.write(self._index, self._at, data)
        self._state.update(data)
        self._at += len(data)
        self._left -= len(data)

    def finish(self) -> None:
        """The part is whole."""
        if self._upload is None or self._left:
            raise Transient(f"a part ended {self._left} bytes early")
        self._upload.whole(self._index, self._state)
        self._upload = None

    def cancel(self) -> None:
        """What was written of it counts for nothing."""
        self._upload = None


class BerthBody(RangeBody):
    """A range of an archive that still grows."""

    def __init__(self, descriptor: int, place: Place, *, start: int, length: int) -> None:
        super().__init__(descriptor, start=start, length=length)
        self._place = place

    def _fill(self, view: memoryview) -> int:
        with self._place.translated():
            count = os.preadv(self._descriptor, [view], self._at)
        if not count:
            raise Transient("the partial archive ended early", store=str(self._place.root))
        return count
