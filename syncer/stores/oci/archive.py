"""An image in a file: a tar of an OCI image layout, read where it lies and never unpacked.

The layout is that of the OCI image specification 1.1: `oci-layout`, `index.json` and `blobs/sha256/…`.
"""

from __future__ import annotations

import os
import stat
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from syncer.errors import ConfigurationError, CredentialsRefused, SourceChanged, SourceMissing, Transient, WrongBytes
from syncer.stores.directory.faults import shown
from syncer.stores.oci.depot import Document
from syncer.stores.oci.documents import (
    LARGEST_DOCUMENT,
    Descriptor,
    ImageIndex,
    identified,
    is_attachment,
    is_digest,
    read_document,
)
from syncer.stores.oci.images import INDEX_TYPE
from syncer.stores.oci.members import Damaged, Window, members
from syncer.stores.oci.reading import range_of

MOST_MEMBERS: Final = 200_000
BLOBS: Final = "blobs/sha256/"
_REF_NAME: Final = "org.opencontainers.image.ref.name"
_GZIP_MAGIC, _ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
T = TypeVar("T")


@dataclass(frozen=True)
class _Contents:
    """The archive as it was when it was looked through: where each blob lies in the open file."""

    descriptor: int
    found: os.stat_result
    blobs: dict[str, tuple[int, int]]
    index: bytes


class Archive:
    """Implements `Depot` for the file at `path`; `variable` is the setting that names it.

    The file stays open, so that one that is put in its place meanwhile changes nothing; writing *into* it is noticed.
    """

    def __init__(self, path: Path, *, variable: str = "S3_SYNC_SRC__PATH") -> None:
        self._path = path
        self._variable = variable
        self._contents: _Contents | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """`oci-archive:/path.tar`."""
        return f"oci-archive:{shown(str(self._path))[1:-1]}"

    def manifest(self, reference: str) -> Document | None:
        """The one image of the archive, or the document with this digest; tags mean nothing here."""
        if is_digest(reference):
            return self._document(reference, "")
        index = read_document(identified(self._open().index, INDEX_TYPE), where=self.name)
        if not isinstance(index, ImageIndex):
            raise WrongBytes(f"{self.name} has an index.json that is no index", hint="make the archive again")
        images = [entry for entry in index.manifests if not is_attachment(entry)]
        if len({entry.digest for entry in images}) != 1:
            raise self._not_one(images)
        found = self._document(images[0].digest, images[0].media_type)
        if found is None:
            raise self._incomplete(images[0].digest)
        return found

    def blob_size(self, digest: str) -> int | None:
        place = self._open().blobs.get(digest)
        return None if place is None else place[1]

    def read(self, digest: str, start: int, length: int) -> ArchiveBody:
        contents = self._open()
        place = contents.blobs.get(digest)
        if place is None:
            raise self._incomplete(digest)
        offset, size = place
        if start + length > size:
            raise WrongBytes(f"{self.name} has {size} bytes of {digest}, {start + length} belong there")
        with self._lock:
            if self._contents is not contents:
                raise Transient(f"{self.name} was closed meanwhile", store=self.name)
            # The body has a descriptor of its own, so that a close of the archive does not redirect a read.
            descriptor = os.dup(contents.descriptor)
        return ArchiveBody(descriptor, contents.found, start=offset + start, length=length, of=self)

    def place(self, digest: str) -> tuple[int, int, int] | None:
        """The open file, the first byte and the size of a blob in it; for copying while the archive is open."""
        contents = self._open()
        found = contents.blobs.get(digest)
        return None if found is None else (contents.descriptor, *found)

    def persistently(self, work: Callable[[], T]) -> T:
        """See `Depot`: a volume has no passing faults of seconds."""
        return work()

    def interrupt(self) -> None:
        """Nothing to wake: no call here waits for a network peer."""

    def close(self) -> None:
        with self._lock:
            contents, self._contents = self._contents, None
        if contents is not None:
            os.close(contents.descriptor)

    def changed(self) -> SourceChanged:
        """The error for an archive that somebody writes into."""
        return SourceChanged(
            f"{self.name} was changed while it was read",
            hint="let whoever writes there finish first",
            store=self.name,
        )

    def _document(self, digest: str, media_type: str) -> Document | None:
        size = self.blob_size(digest)
        if size is None:
            return None
        if size > LARGEST_DOCUMENT:
            raise WrongBytes(f"{self.name} has a manifest of {size} bytes", hint="make the archive again")
        document = identified(range_of(self, digest, 0, size), media_type)
        if document.digest != digest:
            raise WrongBytes(
                f"the bytes of {digest} in {self.name} have another digest",
                hint="the archive is damaged; make it again",
                stage="list",
                store=self.name,
            )
        return document

    def _open(self) -> _Contents:
        with self._lock:
            if self._contents is None:
                self._contents = self._look_through()
            return self._contents

    def _look_through(self) -> _Contents:
        """Open the file and find every blob in it; the content is left unread."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise self._refused(error) from error
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise ConfigurationError(
                    f"{shown(str(self._path))} is no file",
                    hint=f"{self._variable} must name an archive; make one with skopeo copy … oci-archive:NAME.tar",
                )
            blobs, index = self._find(descriptor, found.st_size)
        except OSError as error:
            os.close(descriptor)
            raise self._refused(error) from error
        except BaseException:
            os.close(descriptor)
            raise
        return _Contents(descriptor, found, blobs, index)

    def _find(self, descriptor: int, size: int) -> tuple[dict[str, tuple[int, int]], bytes]:
        blobs: dict[str, tuple[int, int]] = {}
        index: bytes | None = None
        names: set[str] = set()
        window = Window(lambda at, count: os.pread(descriptor, count, at), size, ahead=4096)
        try:
            for member in members(window, most=MOST_MEMBERS):
                name = member.name.removeprefix("./")
                if len(names) < 100:
                    names.add(name)
                if member.kind != "file":
                    continue
                digest = f"sha256:{name.removeprefix(BLOBS)}"
                if name.startswith(BLOBS) and is_digest(digest):
                    blobs[digest] = (member.offset, member.size)  # of two the later one counts, as when unpacked
                elif name == "index.json":
                    if member.size > LARGEST_DOCUMENT:
                        raise Damaged("its index.json is larger than any")
                    index = window.take(member.size)
        except Damaged as error:
            raise self._no_archive(os.pread(descriptor, 4, 0), str(error)) from error
        if index is None:
            raise self._no_layout(names)
        return blobs, index

    def _refused(self, error: OSError) -> Exception:
        where = shown(str(self._path))
        match error:
            case FileNotFoundError() | NotADirectoryError():
                return SourceMissing(
                    f"there is no archive {where}",
                    hint=f"check {self._variable} and that the volume is mounted there",
                    stage="list",
                    store=self.name,
                )
            case PermissionError():
                return CredentialsRefused(
                    f"{where}: {os.strerror(error.errno or 0)}; this process is UID {os.getuid()}",
                    hint="make the archive readable (mode 0644), or give the pod the volume's fsGroup",
                    store=self.name,
                )
            case _:
                return Transient(
                    f"{where}: {os.strerror(error.errno or 0)}", hint="look at the volume's health", store=self.name
                )

    def _no_archive(self, magic: bytes, why: str) -> ConfigurationError | WrongBytes:
        packed = "gzip" if magic.startswith(_GZIP_MAGIC) else "zstd" if magic.startswith(_ZSTD_MAGIC) else ""
        if packed:
            return ConfigurationError(
                f"{self.name} is compressed with {packed}",
                hint=f"unpack it first ({packed} -d), an archive is read where it lies",
            )
        return WrongBytes(
            f"{self.name} is no sound tar file: {why}", hint="make the archive again", stage="list", store=self.name
        )

    def _no_layout(self, names: set[str]) -> ConfigurationError:
        where = self.name
        if "manifest.json" in names or "repositories" in names:
            return ConfigurationError(
                f"{where} is an archive of docker save",
                hint="turn it into one of OCI's: skopeo copy docker-archive:OLD.tar oci-archive:NEW.tar",
            )
        return ConfigurationError(
            f"{where} holds no image: there is no index.json in it",
            hint=f"{self._variable} must name an archive that skopeo copy … oci-archive:NAME.tar has made",
        )

    def _not_one(self, images: list[Descriptor]) -> ConfigurationError:
        if not images:
            return ConfigurationError(f"{self.name} holds no image", hint="make the archive again")
        named = ", ".join(shown(entry.annotations.get(_REF_NAME, "") or entry.digest) for entry in images[:10])
        return ConfigurationError(
            f"{self.name} holds {len(images)} images: {named}",
            hint="make an archive of the one that is meant: skopeo copy oci-archive:OLD.tar:NAME oci-archive:NEW.tar",
        )

    def _incomplete(self, digest: str) -> WrongBytes:
        return WrongBytes(
            f"{self.name} has no blob {digest}, though the image needs it",
            hint="the archive is incomplete; make it again",
            stage="list",
            store=self.name,
        )


class RangeBody(ABC):
    """Implements `Body`: a range of an open file, which is closed with it; `_fill` knows what a failed read means."""

    def __init__(self, descriptor: int, *, start: int, length: int) -> None:
        self._descriptor = descriptor
        self._at = start
        self._left = length

    def readinto(self, buffer: memoryview) -> int:
        """Fill as much of `buffer` as the file gives at once."""
        if not self._left:
            return 0
        count = self._fill(buffer[: self._left])
        self._at += count
        self._left -= count
        return count

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @abstractmethod
    def _fill(self, view: memoryview) -> int:
        """Read what follows, at least one byte, into `view`; the count."""


class ArchiveBody(RangeBody):
    """Bytes of the archive, which must be the one that was looked through, before and after."""

    def __init__(self, descriptor: int, found: os.stat_result, *, start: int, length: int, of: Archive) -> None:
        super().__init__(descriptor, start=start, length=length)
        self._found = found
        self._archive = of

    def _fill(self, view: memoryview) -> int:
        try:
            count = os.preadv(self._descriptor, [view], self._at)
            now = os.fstat(self._descriptor)
        except OSError as error:
            raise Transient(
                f"{self._archive.name}: {os.strerror(error.errno or 0)}",
                hint="look at the volume's health",
                store=self._archive.name,
            ) from error
        if not count or (now.st_mtime_ns, now.st_size) != (self._found.st_mtime_ns, self._found.st_size):
            raise self._archive.changed()
        return count
