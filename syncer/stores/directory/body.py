"""Reading one range of one file, pinned to the version that was listed."""

from __future__ import annotations

import errno
import os
import stat

from syncer.errors import SourceChanged, Transient
from syncer.manifest import ModelFile
from syncer.stores.directory.faults import shown
from syncer.stores.directory.place import Place
from syncer.stores.directory.survey import LinkLeaves, open_file, version_of


class FileBody:
    """The range `start`, `length` of a file; size and modification time are compared before and after the reading.

    Raises FileNotFoundError when the file is gone, `SourceChanged` when it is another one now.
    """

    def __init__(self, place: Place, file: ModelFile, *, start: int, length: int) -> None:
        self._place = place
        self._file = file
        self._at = start
        self._left = length
        self.descriptor = -1
        try:
            self.descriptor = open_file(place, file.path)
        except FileNotFoundError:
            raise
        except (LinkLeaves, NotADirectoryError, IsADirectoryError) as error:
            raise self._changed() from error
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.ENXIO}:
                raise self._changed() from error
            with place.translated(file.path):
                raise
        try:
            self.check()
        except BaseException:
            self.close()
            raise

    def readinto(self, buffer: memoryview) -> int:
        """Fill as much of `buffer` as the file gives at once."""
        if not self._left:
            return 0
        with self._place.translated(self._file.path):
            count = os.preadv(self.descriptor, [buffer[: self._left]], self._at)
        if not count:
            self.check()
            raise Transient(
                f"{shown(self._file.path)} ended {self._left} bytes early",
                store=str(self._place.root),
                path=self._file.path,
            )
        self._at += count
        self._left -= count
        if not self._left:
            self.check()
        return count

    def close(self) -> None:
        """Let go of the file."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def check(self) -> None:
        """Raise `SourceChanged` unless the open file is still the listed version."""
        with self._place.translated(self._file.path):
            found = os.fstat(self.descriptor)
        same_version = self._file.version in {"", version_of(found)}
        if not stat.S_ISREG(found.st_mode) or found.st_size != self._file.size or not same_version:
            raise self._changed()

    def _changed(self) -> SourceChanged:
        return SourceChanged(
            f"{shown(self._file.path)} was changed after it was listed",
            hint="let whoever writes there finish first",
            store=str(self._place.root),
            path=self._file.path,
        )
