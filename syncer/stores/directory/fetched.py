"""A file that somebody else writes as a whole, by its path, where `upload.py` has us write it part by part."""

from __future__ import annotations

import os
from pathlib import Path

from syncer.errors import Transient
from syncer.manifest import ModelFile
from syncer.stores.directory.faults import shown
from syncer.stores.directory.parts import STATE
from syncer.stores.directory.place import Place, parts_of
from syncer.stores.directory.upload import DirectoryUpload, new_file
from syncer.stores.protocols import Cut


def begin_whole(place: Place, file: ModelFile, *, vacant: set[str]) -> FetchedFile:
    """An empty temporary file on the volume, that another writer fills; `vacant` as in `begin`."""
    parts_of(file.path)
    cut = Cut(file.size, max(1, file.size))
    with place.translated(file.path), place.folder(STATE, create=True) as state:
        token, descriptor = new_file(file, cut, state, allocated=0)
    return FetchedFile(place, file, cut, token=token, descriptor=descriptor, vacant=vacant)


class FetchedFile(DirectoryUpload):
    """An upload whose one part is written at `path` by somebody else; then `finish` or `abort` as of every upload.

    `path` leads to the open file itself (Linux), so that no link that is put on the way meanwhile leads elsewhere.
    """

    def __init__(
        self, place: Place, file: ModelFile, cut: Cut, *, token: str, descriptor: int, vacant: set[str]
    ) -> None:
        super().__init__(place, file, cut, token=token, descriptor=descriptor, done=frozenset({0}), vacant=vacant)
        self.path = Path(f"/proc/self/fd/{descriptor}")

    def finish(self) -> str:
        """Force the bytes out, put the file in its place and return its version; `Transient` for another size."""
        with self._lock:
            if self._open is not None and (size := os.fstat(self._open.descriptor).st_size) != self._file.size:
                raise Transient(
                    f"{shown(self._file.path)} was written with {size} bytes instead of {self._file.size}",
                    store=str(self._place.root),
                    path=self._file.path,
                )
        return super().finish()

    def suspend(self) -> None:
        """There is nothing to resume: whoever writes whole files starts them again."""
        self.abort()
