"""An archive while it grows: blobs at places of their own, several at a time, each named when its digest is known.

The name of a blob is its digest, which stands before its bytes in a tar.  So a place is reserved first, as a member
called `unfinished`; the bytes follow, and the member gets its name when they are on the volume.  At any moment the file
is a tar that can be walked, which is how a later process finds what an earlier one got done.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from syncer.errors import InternalError
from syncer.stores.directory.place import share
from syncer.stores.oci.archive import BLOBS, MOST_MEMBERS
from syncer.stores.oci.documents import is_digest
from syncer.stores.oci.members import BLOCK, Damaged, Window, members

FILE_MODE: Final = 0o644
"""Readable by every user, so that a pod of another UID can push the archive on."""
GROWING_MODE: Final = 0o664
"""Until then the group may go on with it: the next pod may have another UID."""

_UNFINISHED: Final = "unfinished"
_END: Final = bytes(2 * BLOCK)
_COPY: Final = 1024 * 1024


@dataclass(frozen=True)
class Berth:
    """The place of one blob: its header at `header`, its `size` bytes from `start` on."""

    header: int
    size: int

    @property
    def start(self) -> int:
        """Where the first byte goes."""
        return self.header + BLOCK

    @property
    def end(self) -> int:
        """Where the next member begins."""
        return self.start + self.size + -self.size % BLOCK


def member_header(name: str, size: int) -> bytes:
    """The header of one member, always one block: what ustar cannot say of a size above 8 GiB GNU's form does."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, FILE_MODE
    return info.tobuf(tarfile.GNU_FORMAT)


def pieces_of(descriptor: int, start: int, size: int) -> Iterator[bytes]:
    """The bytes of an open file from `start` on, fewer than `size` only where it ends."""
    while size and (data := os.pread(descriptor, min(_COPY, size), start)):
        yield data
        start += len(data)
        size -= len(data)


class GrowingArchive:
    """The file at `path`, which need not exist yet.  Safe from many threads; raises OSError.

    Whoever looks changes nothing: until the first blob is reserved the file may be another process's, who is at it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1
        self._claimed = False
        self._end = 0
        self._blobs: dict[str, Berth] = {}
        self._free: list[Berth] = []
        self._lock = threading.Lock()

    @property
    def blobs(self) -> Mapping[str, Berth]:
        """The finished blobs by digest."""
        with self._lock:
            return dict(self._blobs)

    def recover(self) -> None:
        """Find what an earlier process left; nothing is made where there is nothing."""
        with self._lock:
            if self._descriptor < 0 and self.path.exists():
                self._open()

    def reserve(self, size: int) -> Berth:
        """A place for a blob of so many bytes: one that was given up where it fits exactly, else at the end."""
        with self._lock:
            self._claim()
            for free in self._free:
                if free.size == size:
                    self._free.remove(free)
                    return free
            berth = Berth(self._end, size)
            self._write(member_header(_UNFINISHED, size), berth.header)
            os.ftruncate(self._descriptor, berth.end)
            self._end = berth.end
            return berth

    def write(self, data: memoryview | bytes, at: int) -> None:
        """Write bytes at a place in the file."""
        self._write(data, at)

    def name(self, berth: Berth, digest: str) -> None:
        """The blob is whole: force it out, then give it its name, so that no name stands before its bytes."""
        os.fdatasync(self._descriptor)
        with self._lock:
            if digest in self._blobs:
                self._free.append(berth)  # written twice, as after a file whose end nobody heard of
                return
            self._write(member_header(BLOBS + digest.removeprefix("sha256:"), berth.size), berth.header)
            self._blobs[digest] = berth

    def give_up(self, berth: Berth) -> None:
        """The place is free again; a file without any blob goes."""
        with self._lock:
            self._free.append(berth)
            while last := next((free for free in self._free if free.end == self._end), None):
                self._free.remove(last)
                self._end = last.header
                os.ftruncate(self._descriptor, self._end)
            if not self._end:
                self._close()
                self.path.unlink(missing_ok=True)

    def add(self, content: bytes) -> str:
        """Add a small blob; its digest."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if digest not in self.blobs:
            berth = self.reserve(len(content))
            self.write(content, berth.start)
            self.name(berth, digest)
        return digest

    def read(self, digest: str) -> tuple[int, Berth] | None:
        """A descriptor of its own, which the caller closes, and the place of a blob in it."""
        with self._lock:
            berth = self._blobs.get(digest)
            return None if berth is None else (os.dup(self._descriptor), berth)

    def fits(self, wanted: Iterable[str]) -> bool:
        """Whether the file holds exactly these blobs, without gaps."""
        with self._lock:
            return not self._free and self._blobs.keys() == set(wanted)

    def copy_to(self, other: GrowingArchive, digest: str) -> None:
        """Copy a blob, which was proved when it got its name, into another archive."""
        found = self.read(digest)
        if found is None:
            raise InternalError(f"the blob {digest} is not in {self.path}")
        descriptor, berth = found
        try:
            other.fill(pieces_of(descriptor, berth.start, berth.size), berth.size, digest)
        finally:
            os.close(descriptor)

    def fill(self, pieces: Iterable[bytes], size: int, digest: str) -> bool:
        """Add a blob out of its pieces; False when they are not the blob with this size and digest."""
        berth = self.reserve(size)
        found = hashlib.sha256()
        at = berth.start
        try:
            for piece in pieces:
                if at + len(piece) > berth.start + size:
                    break
                found.update(piece)
                self.write(piece, at)
                at += len(piece)
        except BaseException:
            self.give_up(berth)
            raise
        if at != berth.start + size or f"sha256:{found.hexdigest()}" != digest:
            self.give_up(berth)
            return False
        self.name(berth, digest)
        return True

    def finish(self, files: Mapping[str, bytes]) -> None:
        """Add the last members and the end of the archive, and force everything out."""
        with self._lock:
            self._claim()
            at = self._end
            for name, content in files.items():
                data = member_header(name, len(content)) + content + bytes(-len(content) % BLOCK)
                self._write(data, at)
                at += len(data)
            self._write(_END, at)
            os.ftruncate(self._descriptor, at + len(_END))
            share(self._descriptor, FILE_MODE)
            with suppress(PermissionError):  # begun by a pod of another UID, and shared by it
                os.fchmod(self._descriptor, FILE_MODE)
            os.fsync(self._descriptor)

    def discard(self) -> None:
        """Remove the file."""
        self.close()
        with suppress(FileNotFoundError):
            self.path.unlink()

    def close(self) -> None:
        """Let go of the file, and leave it for a later process."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._claimed, self._end, self._blobs, self._free = -1, False, 0, {}, []

    def _claim(self) -> None:
        """The file is ours to change: the one that is there now, without what a crash left behind the last blob."""
        if self._claimed:
            return
        self._close()  # the one that was looked at may be a finished archive by now
        self._open()
        os.ftruncate(self._descriptor, self._end)
        self._claimed = True

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self.path, flags, GROWING_MODE)
        share(self._descriptor, GROWING_MODE)
        size = os.fstat(self._descriptor).st_size
        try:
            window = Window(lambda at, count: os.pread(self._descriptor, count, at), size, ahead=BLOCK)
            for member in members(window, most=MOST_MEMBERS):
                berth = Berth(member.offset - BLOCK, member.size)
                digest = f"sha256:{member.name.removeprefix(BLOBS)}"
                if member.name.startswith(BLOBS) and is_digest(digest) and berth.end <= size:
                    self._blobs[digest] = berth
                elif member.name == _UNFINISHED and berth.end <= size:
                    self._free.append(berth)
                else:
                    break  # the last members of an archive that was about to be put in its place
                self._end = berth.end
        except Damaged:
            pass  # a crash left it so: what comes before is sound

    def _write(self, data: memoryview | bytes, at: int) -> None:
        left = memoryview(data)
        while left:
            count = os.pwrite(self._descriptor, left, at)
            left = left[count:]
            at += count
