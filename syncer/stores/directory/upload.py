"""One file on its way into a folder: written beside its place, in any order, then put there as a whole."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final, Self

from syncer.errors import InternalError, SyncerError, Transient
from syncer.manifest import ModelFile
from syncer.stores.directory import placing
from syncer.stores.directory.faults import UNSUPPORTED, shown
from syncer.stores.directory.parts import (
    STATE,
    add_to_record,
    begin_record,
    is_token,
    needs_record,
    new_token,
    path_of,
    read_record,
    record_name,
)
from syncer.stores.directory.place import FILE_MODE, Place, parts_of, share
from syncer.stores.directory.survey import version_of
from syncer.stores.protocols import Cut, ForeignFile, UploadLost

BATCH: Final = 64 * 1024 * 1024
"""Bytes that are forced to the volume together before their parts count as done there."""

_OPEN: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


def begin(place: Place, file: ModelFile, cut: Cut, *, resume: str, vacant: set[str]) -> DirectoryUpload:
    """Go on with the upload `resume` where it is the same file cut the same way; else start one.

    At the paths in `vacant` nothing is replaced; a file of ours takes its path out of it.
    Raises `OutOfSpace` before the first byte of a file of several parts where the volume can tell.
    """
    parts_of(file.path)
    with place.translated(file.path), place.folder(STATE, create=True) as state:
        if is_token(resume):
            resumed = _resume(place, file, cut, token=resume, state=state, vacant=vacant)
            if resumed is not None:
                return resumed
        # One part is written as soon as it is begun: whether it fits shows then, for one call less a file.
        token, descriptor = new_file(file, cut, state, allocated=cut.size if cut.count > 1 else 0)
    return DirectoryUpload(place, file, cut, token=token, descriptor=descriptor, done=frozenset(), vacant=vacant)


def new_file(file: ModelFile, cut: Cut, state: int, *, allocated: int) -> tuple[str, int]:
    """A temporary file in the folder `state`, with `allocated` bytes promised: its token and its descriptor."""
    token = new_token(file.path)
    descriptor = os.open(token, _OPEN | os.O_CREAT | os.O_EXCL, FILE_MODE, dir_fd=state)
    try:
        share(descriptor, FILE_MODE)
        _allocate(descriptor, allocated)
        if needs_record(token, cut):
            begin_record(token, state, file=file, cut=cut)
    except BaseException:
        os.close(descriptor)
        remove(token, state)
        raise
    return token, descriptor


def remove(token: str, state: int) -> None:
    """Remove a temporary file and its record, if they are there.  Raises OSError."""
    for name in (token, record_name(token)):
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=state)


def _resume(
    place: Place, file: ModelFile, cut: Cut, *, token: str, state: int, vacant: set[str]
) -> DirectoryUpload | None:
    if path_of(token, state) not in {"", file.path}:
        return None  # somebody else's
    record = read_record(token, state)
    if record is None or not record.fits(file, cut):
        remove(token, state)
        return None
    try:
        descriptor = os.open(token, _OPEN, dir_fd=state)
    except FileNotFoundError:
        remove(token, state)
        return None
    found = os.fstat(descriptor)
    # With a second name it is in its place already, by a run that was killed in between: nobody writes there.
    if found.st_size != cut.size or found.st_nlink > 1:
        os.close(descriptor)
        remove(token, state)
        return None
    return DirectoryUpload(place, file, cut, token=token, descriptor=descriptor, done=record.done, vacant=vacant)


@functools.cache
def _fallocate() -> Callable[[int, int, int, int], int] | None:
    """fallocate(2) itself: posix_fallocate(3) writes to every block where the volume knows no such call (NFS, CIFS)."""
    try:
        call = ctypes.CDLL(None, use_errno=True).fallocate
    except (AttributeError, OSError):
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    call.restype = ctypes.c_int
    return call


def _allocate(descriptor: int, size: int) -> None:
    """Give the file its size and, where the volume can, its space."""
    call = _fallocate() if size else None
    if call is not None:
        while call(descriptor, 0, 0, size) != 0:
            number = ctypes.get_errno()
            if number == errno.EINTR:
                continue
            if number not in UNSUPPORTED:
                raise OSError(number, os.strerror(number))
            break
        else:
            return
    os.ftruncate(descriptor, size)


class SharedFile:
    """An open file that is closed when the last of its holders lets go, so that an abort cannot redirect a write."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._holders = 1
        self._lock = threading.Lock()

    def hold(self) -> Self:
        """One more holder."""
        with self._lock:
            self._holders += 1
        return self

    def let_go(self) -> None:
        """One holder less."""
        with self._lock:
            self._holders -= 1
            last = not self._holders
        if last:
            with suppress(OSError):  # what close could tell, fsync has told
                os.close(self.descriptor)


class DirectoryUpload:
    """Implements `Upload`; parts may be written side by side.

    A part counts as done for a later process when its bytes were forced to the volume.  After a failed force nobody
    knows what is there (the system reports a lost page once), so the upload then only ends in `abort`.
    """

    def __init__(
        self,
        place: Place,
        file: ModelFile,
        cut: Cut,
        *,
        token: str,
        descriptor: int,
        done: frozenset[int],
        vacant: set[str],
    ) -> None:
        self.done = done
        self.token = token
        self._place = place
        self._file = file
        self._cut = cut
        self._vacant = vacant
        self._open: SharedFile | None = SharedFile(descriptor)
        self._finished: set[int] = set(done)
        self._unsynced: set[int] = set()
        self._syncing = False
        self._recorded = needs_record(token, cut)
        self._lost = False
        self._version = ""
        self._lock = threading.Lock()

    def open_part(self, index: int) -> PartFile:
        """Begin part `index`."""
        with self._lock:
            if self._open is None or not 0 <= index < self._cut.count:
                raise InternalError(f"part {index} of {shown(self._file.path)} cannot be opened", path=self._file.path)
            file = self._open.hold()
        return PartFile(
            file,
            place=self._place,
            path=self._file.path,
            start=self._cut.offset(index),
            length=self._cut.length(index),
            whole=lambda: self._part_whole(index),
        )

    def finish(self) -> str:
        """Force the bytes out, put the file in its place and return its version."""
        with self._lock:
            if self._version:
                return self._version
            if self._open is None or len(self._finished) != self._cut.count:
                raise InternalError(f"{shown(self._file.path)} was finished before its parts", path=self._file.path)
            self._check_not_lost()
            with self._place.translated(self._file.path):
                self._force(os.fsync, self._open)
                self._version = self._put_in_place(self._open.descriptor)
            self._close()
            return self._version

    def abort(self) -> None:
        """Remove the temporary file."""
        with self._lock:
            self._drop()

    def suspend(self) -> None:
        """Leave the parts that are done for a resume; with none, or none that is sure, leave nothing."""
        with self._lock:
            if self._open is None:
                return
            with suppress(OSError, SyncerError):
                self._write_down(self._unsynced, self._open)
            if self._lost or not self._recorded or not self._finished:
                self._drop()
            else:
                self._close()

    def _part_whole(self, index: int) -> None:
        """A part was written; force a batch out without holding up those who write the next."""
        with self._lock:
            self._check_not_lost()
            self._finished.add(index)
            self._unsynced.add(index)
            enough = len(self._unsynced) * self._cut.part_size >= BATCH
            if not enough or not self._recorded or self._syncing or self._open is None:
                return
            batch, self._unsynced = self._unsynced, set()
            self._syncing = True
            file = self._open.hold()
        try:
            with self._place.translated(self._file.path):
                self._write_down(batch, file)
        finally:
            self._syncing = False
            file.let_go()

    def _write_down(self, batch: Collection[int], file: SharedFile) -> None:
        if not batch or not self._recorded:
            return
        self._force(os.fdatasync, file)
        with self._place.folder(STATE) as state:
            add_to_record(self.token, state, batch)

    def _force(self, sync: Callable[[int], None], file: SharedFile) -> None:
        try:
            sync(file.descriptor)
        except OSError:
            self._lost = True
            raise

    def _check_not_lost(self) -> None:
        if self._lost:
            # Trying again would not bring them back: the kernel reports a lost page once.
            raise UploadLost(
                f"the volume lost bytes of {shown(self._file.path)}; the file must start again",
                hint="look at the volume's health and free space",
                store=str(self._place.root),
                path=self._file.path,
            )

    def _put_in_place(self, descriptor: int) -> str:
        *folder, name = parts_of(self._file.path)
        share(descriptor, FILE_MODE)
        with self._place.folder(STATE) as state, self._place.folder(folder, create=True) as target:
            if self._file.path not in self._vacant:
                placing.put(self.token, name, state=state, target=target, ours=descriptor)
            elif not placing.put_new(self.token, name, state=state, target=target, ours=descriptor):
                raise ForeignFile(self._file.path, store=str(self._place.root))
            self._vacant.discard(self._file.path)
            self._place.touch(folder)
            if self._recorded:
                with suppress(FileNotFoundError):
                    os.unlink(record_name(self.token), dir_fd=state)
            return version_of(os.stat(name, dir_fd=target, follow_symlinks=False))

    def _drop(self) -> None:
        if self._open is None:
            return
        self._close()
        with suppress(OSError), self._place.folder(STATE) as state:
            remove(self.token, state)

    def _close(self) -> None:
        if self._open is not None:
            self._open.let_go()
            self._open = None


class PartFile:
    """Implements `PartSink`: one part, written at its offset."""

    keeps_views = False

    def __init__(
        self, file: SharedFile, *, place: Place, path: str, start: int, length: int, whole: Callable[[], None]
    ) -> None:
        self._file: SharedFile | None = file
        self._place = place
        self._path = path
        self._at = start
        self._left = length
        self._whole = whole

    def send(self, data: memoryview) -> None:
        """Write all of `data`."""
        if self._file is None or len(data) > self._left:
            raise InternalError(f"a part of {self._left} bytes cannot take {len(data)}", path=self._path)
        with self._place.translated(self._path):
            while data:
                count = os.pwrite(self._file.descriptor, data, self._at)
                data = data[count:]
                self._at += count
                self._left -= count

    def finish(self) -> None:
        """The part is whole; every so often this forces the bytes of a batch of parts to the volume."""
        if self._left:
            raise Transient(f"a part ended {self._left} bytes early", store=str(self._place.root), path=self._path)
        self.cancel()
        self._whole()

    def cancel(self) -> None:
        """Let go of the part; what was written of it counts for nothing."""
        if self._file is not None:
            self._file.let_go()
            self._file = None
