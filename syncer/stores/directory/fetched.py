"""A file that somebody else writes as a whole, by its path, where `upload.py` has us write it part by part."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from syncer.errors import Transient
from syncer.manifest import ModelFile
from syncer.stores.directory.faults import shown
from syncer.stores.directory.parts import STATE, begin_record, needs_record, new_token
from syncer.stores.directory.place import FILE_MODE, Place, parts_of, share
from syncer.stores.directory.upload import DirectoryUpload, remove
from syncer.stores.protocols import Cut

_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def begin_whole(place: Place, file: ModelFile) -> FetchedFile:
    """An empty temporary file on the volume, that another writer fills."""
    parts_of(file.path)
    cut = Cut(file.size, max(1, file.size))
    with place.translated(file.path), place.folder(STATE, create=True) as state:
        token = new_token(file.path)
        descriptor = os.open(token, _NEW, FILE_MODE, dir_fd=state)
        try:
            share(descriptor, FILE_MODE)
            if needs_record(token, cut):
                begin_record(token, state, file=file, cut=cut)
        except BaseException:
            os.close(descriptor)
            remove(token, state)
            raise
    return FetchedFile(place, file, cut, token=token, descriptor=descriptor)


class FetchedFile(DirectoryUpload):
    """An upload whose one part is written at `path` by somebody else; then `finish` or `abort` as of every upload.

    `path` leads to the open file itself (Linux), so that no link that is put on the way meanwhile leads elsewhere.
    """

    def __init__(self, place: Place, file: ModelFile, cut: Cut, *, token: str, descriptor: int) -> None:
        super().__init__(place, file, cut, token=token, descriptor=descriptor, done=frozenset({0}))
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
