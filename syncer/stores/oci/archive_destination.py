"""An image in a file as the place that a model goes to: written beside its place, and put there as a whole.

`.NAME.partial` grows beside the archive, and `.NAME.syncer/` holds the control files.  Neither is part of the archive,
which may be copied, moved or pushed as it is.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Collection, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from syncer.errors import ConfigurationError, WrongBytes
from syncer.logs import logger
from syncer.manifest import FileRecord, Listing, Manifest, ModelFile
from syncer.settings.locations import ArchiveLocation, Network
from syncer.stores.directory.control import DirectoryControl
from syncer.stores.directory.faults import existing, shown
from syncer.stores.directory.place import Place, sync_folder
from syncer.stores.oci.archive import Archive
from syncer.stores.oci.archive_upload import ArchiveUpload, BerthBody
from syncer.stores.oci.bases import VARIABLE as BASE_VARIABLE
from syncer.stores.oci.bases import BaseImage
from syncer.stores.oci.control import seal_of
from syncer.stores.oci.depot import Depot
from syncer.stores.oci.documents import Descriptor, manifest_at
from syncer.stores.oci.growing import GrowingArchive, pieces_of
from syncer.stores.oci.images import Base, build, dump, entry, manifest_of
from syncer.stores.oci.layers import FOLDER, data_offset, head, layer_size
from syncer.stores.oci.members import Damaged, Window, members
from syncer.stores.oci.names import name_problems, warn_of_layers
from syncer.stores.oci.reading import with_sha256
from syncer.stores.oci.streams import BlobReader
from syncer.stores.protocols import Body, ControlFolder, Cut, Limits, OpenUpload

VARIABLE: Final = "S3_SYNC_DEST__PATH"
_TOLD: Final = frozenset({"manifest.json", "complete.json"})
"""Control files that an archive stands for where its own folder has none."""
_LAYOUT: Final = {"imageLayoutVersion": "1.0.0"}
_DEEPEST: Final = 4096
_READ: Final = 1024 * 1024


@dataclass(frozen=True)
class _Image:
    """An image of ours, open; `seen` says which file it was."""

    seen: tuple[int, int, int]
    digest: str
    archive: Archive
    manifest: Manifest


class ArchiveDestination:
    """Implements `Destination` and `NamedByDigest`.  Files go side by side, the parts of one in order.

    The version of a file is the digest of its layer.  What an interrupted run got done stays in the partial archive,
    and is found by its digest.
    """

    limits = Limits(parts_in_order=True)

    def __init__(self, location: ArchiveLocation, network: Network) -> None:
        self._path = location.path
        self._base = location.base
        self._network = network
        self._place = Place(location.path.parent, variable=VARIABLE)
        name = location.path.name
        self._growing = GrowingArchive(self._beside(f".{name}.partial"))
        self._rebuilt = GrowingArchive(self._beside(f".{name}.rebuilt"))
        self._control = _Control(self, Place(self._beside(f".{name}.syncer"), variable=VARIABLE))
        self._grown: dict[str, ModelFile] | None = None
        self._deleted: set[str] = set()
        self._there: _Image | None = None
        self._lock = threading.Lock()
        self._log = logger(component="oci")

    @property
    def name(self) -> str:
        """`oci-archive:/path.tar`."""
        return f"oci-archive:{shown(str(self._path))[1:-1]}"

    @property
    def uri(self) -> str:
        """The same: an archive has no name by digest."""
        return self.name

    @property
    def digest(self) -> str:
        """The digest of the image that is there."""
        found = self._image()
        return found.digest if found else ""

    @property
    def control(self) -> ControlFolder:
        """The folder beside the archive."""
        return self._control

    def prepare(self) -> None:
        """Write into the archive's folder, or the nearest one above that exists, and leave nothing there."""
        with self._place.translated():
            here = existing(self._path.parent)
            if here != self._path.parent and here == here.parent:
                raise ConfigurationError(
                    f"nothing is mounted at {shown(str(self._path.parent))}",
                    hint=f"mount the volume there or correct {VARIABLE}",
                    path=self.name,
                )
            if not here.is_dir() or self._path.is_dir():
                raise ConfigurationError(
                    f"{shown(str(self._path if self._path.is_dir() else here))} is in the way of {self.name}",
                    hint=f"{VARIABLE} must name a file in a folder, such as oci-archive:/mnt/model.tar",
                    path=self.name,
                )
            with tempfile.TemporaryFile(dir=here):
                pass
        self._refuse_foreign()

    def listing(self) -> Listing:
        """The files of the archive that is there, and those that have come to the partial one."""
        manifest = self.manifest()
        files = {} if manifest is None else {path: _listed(record) for path, record in manifest.files.items()}
        with self._lock:
            files |= self._recovered()
            return Listing.of(file for path, file in files.items() if path not in self._deleted)

    def name_problems(self, paths: Collection[str]) -> list[str]:
        """See `names.py`."""
        warn_of_layers(paths, self.name)
        return name_problems(paths)

    def free_bytes(self) -> int | None:
        """What this process may still write."""
        with self._place.translated():
            found = os.statvfs(existing(self._path.parent))
            return found.f_bavail * found.f_frsize if found.f_blocks else None

    def open_uploads(self) -> list[OpenUpload]:
        """None: a file that was not finished starts again."""
        return []

    def begin(self, file: ModelFile, cut: Cut, *, resume: str = "") -> ArchiveUpload:
        """Reserve the file's place in the partial archive."""
        with self._place.translated(self._path.name):
            if not self._path.parent.exists():
                with self._place.folder(create=True):
                    pass
            with self._lock:
                self._recovered()
            berth = self._growing.reserve(layer_size(file.path, cut.size))
            self._growing.write(head(file.path, cut.size), berth.start)
        return ArchiveUpload(self._growing, self._place, file, cut, berth=berth, finished=self._finished)

    def abort_upload(self, upload: OpenUpload) -> None:
        """There is none."""

    def read(self, file: ModelFile, start: int, length: int) -> Body:
        """Read back: `file.version` is the digest of the layer."""
        offset = data_offset(file.path, file.size)
        if (grown := self._growing.read(file.version)) is not None:
            descriptor, berth = grown
            return BerthBody(descriptor, self._place, start=berth.start + offset + start, length=length)
        found = self._image()
        if found is not None and found.archive.blob_size(file.version) is not None:
            return found.archive.read(file.version, offset + start, length)
        raise WrongBytes(
            f"{shown(file.path)} is gone from {self.name}",
            hint="look for whoever else writes there, then run again",
            store=self.name,
            path=file.path,
        )

    def delete(self, paths: Iterable[str]) -> None:
        """Leave files out of the image that `commit` makes."""
        with self._lock:
            self._deleted.update(paths)

    def commit(self, manifest: Manifest) -> None:
        """Complete the image and put it in its place; nothing is written when it is there already."""
        with self._place.translated(self._path.name):
            records = {path: with_sha256(record, self.read) for path, record in manifest.files.items()}
            manifest = replace(manifest, files=records)
            if self._base is None:
                self._log.info(
                    "base_image_missed",
                    reason="KServe's sidecar mode needs a shell in the image; as a volume, or fetched, it serves",
                    hint=f"name a base image in {BASE_VARIABLE}",
                )
                self._write(manifest, (), None)
                return
            with closing(BaseImage(self._base, self._network)) as base:
                self._write(manifest, base.platforms(), base.depot)

    def interrupt(self) -> None:
        """Wake who waits for the lock of the control folder; no other call waits for anybody."""
        self._control.interrupt()

    def close(self) -> None:
        """Let go of the partial archive, and leave it for the next run."""
        with self._lock:
            self._growing.close()
            self._grown = None
            self._forget()

    def manifest(self) -> Manifest | None:
        """What the archive that is there says that was proved of it."""
        found = self._image()
        return found.manifest if found else None

    def _beside(self, name: str) -> Path:
        return self._path.with_name(name)

    def _image(self) -> _Image | None:
        """The image that is there, if it is one of ours; looked through once for as long as it is the same file."""
        with self._lock:
            try:
                found = self._path.stat()
            except OSError:
                self._forget()
                return None
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if self._there is None or self._there.seen != seen:
                self._forget()
                self._there = self._look_through(seen)
            return self._there

    def _look_through(self, seen: tuple[int, int, int]) -> _Image | None:
        archive = Archive(self._path, variable=VARIABLE)
        image = None
        try:
            document = archive.manifest("")
            if document is not None:
                manifest = manifest_of(manifest_at(document, archive.manifest, where=self.name)[1])
                image = _Image(seen, document.digest, archive, manifest) if manifest is not None else None
        except (ConfigurationError, WrongBytes):
            return None  # whatever it is, it is none of ours
        finally:
            if image is None:
                archive.close()
        return image

    def _forget(self) -> None:
        if self._there is not None:
            self._there.archive.close()
            self._there = None

    def _recovered(self) -> dict[str, ModelFile]:
        """The files in the partial archive, those of an earlier process included; under the lock."""
        if self._grown is None:
            with self._place.translated(self._path.name):
                self._growing.recover()
                self._grown = {}
                for digest in self._growing.blobs:
                    if (file := self._file_of(digest)) is not None:
                        self._grown[file.path] = file
        return self._grown

    def _file_of(self, digest: str) -> ModelFile | None:
        """The file whose layer a blob is, told by the layer itself; None for any other blob."""
        found = self._growing.read(digest)
        if found is None:
            return None
        descriptor, berth = found
        try:
            window = Window(lambda at, count: os.pread(descriptor, count, berth.start + at), berth.size)
            *_, last = members(window, most=_DEEPEST)
            path, size = last.name.removeprefix(f"{FOLDER}/"), last.size
            first = head(path, size)
            if layer_size(path, size) != berth.size or os.pread(descriptor, len(first), berth.start) != first:
                return None
            return ModelFile(path, size, digest)
        except (Damaged, UnicodeEncodeError, ValueError):
            return None
        finally:
            os.close(descriptor)

    def _refuse_foreign(self) -> None:
        if self._path.exists() and not self.digest:
            raise ConfigurationError(
                f"{self.name} is there already, and is no image of a model that this tool has made",
                hint=f"remove it, or let {VARIABLE} name another file",
                path=self.name,
            )

    def _finished(self, file: ModelFile, digest: str) -> None:
        with self._lock:
            self._recovered()[file.path] = ModelFile(file.path, file.size, digest)
            self._deleted.discard(file.path)

    def _write(self, manifest: Manifest, bases: tuple[Base, ...], depot: Depot | None) -> None:
        """The image in its place: the layers that are there, those of the base image, and what tells of them."""
        images, final = build(manifest, bases)
        found = self._image()
        if found is not None and found.digest == final.digest:
            self._start_over()
            return
        with self._lock:
            self._recovered()
        layers = [manifest.files[path].destination_version for path in sorted(manifest.files)]
        below = {layer.digest: layer for base in bases for layer in base.layers}
        for digest in sorted({*layers, *below} - self._growing.blobs.keys()):
            self._take_over(found.archive if found else None, digest, below.get(digest), depot)
        small = [*(image.config for image in images), *(image.document.content for image in images), final.content]
        wanted = {*layers, *below, *map(self._growing.add, small)}
        growing = self._in_order(wanted, layers)
        index = {"schemaVersion": 2, "manifests": [entry(final.content, final.media_type)]}
        growing.finish({"index.json": dump(index), "oci-layout": dump(_LAYOUT)})
        self._refuse_foreign()  # what has appeared since the first look
        growing.path.replace(self._path)
        with self._place.folder() as folder:
            sync_folder(folder)
        self._start_over()

    def _take_over(self, old: Archive | None, digest: str, below: Descriptor | None, depot: Depot | None) -> None:
        """Copy a layer out of the archive that is there, or one of the base image from where that lies."""
        place = old.place(digest) if old is not None else None
        if place is not None and self._growing.fill(pieces_of(*place), place[2], digest):
            return
        if below is not None and depot is not None:
            with closing(BlobReader(depot, digest, below.size)) as reader:
                if self._growing.fill(iter(lambda: reader.read(_READ), b""), below.size, digest):
                    return
            raise WrongBytes(f"{depot.name}: {digest} has other bytes than it says", store=depot.name)
        raise WrongBytes(
            f"the layer {digest} is not in {self.name} any more, or its bytes are others",
            hint="set S3_SYNC_TRANSFER_CONFIG__FORCE=true to copy everything anew",
            store=self.name,
        )

    def _in_order(self, wanted: set[str], layers: list[str]) -> GrowingArchive:
        """The archive with exactly the `wanted` blobs: where more or gaps are in the partial one, a copy without."""
        if self._growing.fits(wanted):
            return self._growing
        self._rebuilt.discard()
        for digest in [*layers, *sorted(wanted - set(layers))]:
            self._growing.copy_to(self._rebuilt, digest)
        return self._rebuilt

    def _start_over(self) -> None:
        """The image is in its place: nothing that led to it is needed any more."""
        with self._lock:
            self._growing.discard()
            self._rebuilt.discard()
            self._grown = None
            self._forget()
            self._deleted.clear()


class _Control(DirectoryControl):
    """The control folder; an archive that came without one still tells what was proved of it."""

    def __init__(self, destination: ArchiveDestination, place: Place) -> None:
        super().__init__(place)
        self._destination = destination

    def read(self, name: str) -> tuple[bytes, str] | None:
        found = super().read(name)
        if found is not None or name not in _TOLD:
            return found
        manifest = self._destination.manifest()
        if manifest is None:
            return None
        data = seal_of(manifest)[name]
        return data, hashlib.sha256(data).hexdigest()


def _listed(record: FileRecord) -> ModelFile:
    return ModelFile(record.path, record.size, record.destination_version, record.digests)
