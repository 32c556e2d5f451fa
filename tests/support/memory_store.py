"""A store in memory that keeps the whole contract of `syncer.stores.protocols`: the reference, and the fastest one.

`MemoryVolume` is the service (keys, open uploads, versions, account of what was asked), `MemorySource` and
`MemoryDestination` are clients of one folder in it, as many as a test likes.
"""

import itertools
import threading
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from syncer.errors import (
    InternalError,
    NotThereYet,
    OutOfSpace,
    SourceChanged,
    SourceMissing,
    SyncerError,
    Transient,
    WrongBytes,
)
from syncer.manifest import CONTROL_FOLDER, Listing, Manifest, ModelFile, is_control_path
from syncer.stores.protocols import ControlConflict, Cut, ForeignFile, Limits, OpenUpload, Source


@dataclass(frozen=True)
class Stored:
    """One object."""

    data: bytes
    version: str
    content_type: str = ""


@dataclass
class OpenMultipart:
    """One unfinished upload, as the service holds it."""

    key: str
    file: ModelFile
    cut: Cut
    parts: dict[int, bytes] = field(default_factory=dict)


@dataclass
class MemoryVolume:
    """The service: `objects` by full key, `uploads` by id; `exists` is False for a bucket that nobody made yet.

    `requests` counts what was asked by kind (`list`, `read`, `begin`, `part`, `finish`, `abort`, `delete`, `look`,
    `control`), `bytes_read` and `bytes_sent` what crossed the border of the service for content.
    """

    capacity: int | None = None
    exists: bool = True
    objects: dict[str, Stored] = field(default_factory=dict)
    uploads: dict[str, OpenMultipart] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    bytes_read: int = 0
    bytes_sent: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)

    def put(self, key: str, data: bytes, *, content_type: str = "") -> str:
        """Store an object and return its version."""
        with self.lock:
            version = f"v{next(self._numbers)}"
            self.objects[key] = Stored(data, version, content_type)
            return version

    def fill(self, prefix: str, files: dict[str, bytes]) -> None:
        """Store many objects below a prefix."""
        for path, data in files.items():
            self.put(prefix + path, data)

    def open(self, key: str, file: ModelFile, cut: Cut) -> str:
        """Open an upload and return its id."""
        with self.lock:
            token = f"upload-{next(self._numbers)}"
            self.uploads[token] = OpenMultipart(key, file, cut)
            return token

    @property
    def used(self) -> int:
        """Bytes of objects and of the parts of open uploads."""
        return sum(len(stored.data) for stored in self.objects.values()) + sum(
            len(part) for upload in self.uploads.values() for part in upload.parts.values()
        )


class MemoryBody:
    """A range of an object.  `largest` bytes at once, as networks give less than is asked for."""

    def __init__(self, volume: MemoryVolume, data: bytes, *, largest: int = 64 * 1024, content_type: str = "") -> None:
        self.content_type = content_type
        self._volume = volume
        self._left = memoryview(data)
        self._largest = largest

    def readinto(self, buffer: memoryview) -> int:
        count = min(len(self._left), len(buffer), self._largest)
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        with self._volume.lock:
            self._volume.bytes_read += count
        return count

    def close(self) -> None:
        self._left = memoryview(b"")


class _Folder:
    """What both ends share: a folder of the service."""

    def __init__(self, volume: MemoryVolume, prefix: str = "model/") -> None:
        self.volume = volume
        self.prefix = prefix
        self.interrupted = threading.Event()
        self.closed = False

    @property
    def name(self) -> str:
        return f"memory://{self.prefix}"

    def interrupt(self) -> None:
        self.interrupted.set()

    def close(self) -> None:
        self.closed = True

    def _list(self, *, sealed_apart: bool = True) -> Listing:
        with self.volume.lock:
            self.volume.requests["list"] += 1
            keys = {key.removeprefix(self.prefix): it for key, it in self.volume.objects.items() if self._has(key)}
        return Listing.of(
            [_model_file(path, stored) for path, stored in keys.items() if not is_control_path(path)],
            control_paths=filter(is_control_path, keys) if sealed_apart else (),
        )

    def _has(self, key: str) -> bool:
        return key.startswith(self.prefix) and not key.endswith("/")

    def _open(self, file: ModelFile, start: int, length: int, gone: SyncerError) -> MemoryBody:
        if self.interrupted.is_set():
            raise Transient("interrupted")
        with self.volume.lock:
            self.volume.requests["read"] += 1
            stored = self.volume.objects.get(self.prefix + file.path)
        if stored is None:
            raise gone
        if file.version not in {"", stored.version} or file.size != len(stored.data):
            raise SourceChanged(f"{file.path} is another version now", path=file.path)
        return MemoryBody(self.volume, stored.data[start : start + length], content_type=stored.content_type)


class MemorySource(_Folder):
    """Implements `Source`; `only` makes it one exact object of the folder."""

    def __init__(self, volume: MemoryVolume, prefix: str = "model/", *, revision: str = "", only: str = "") -> None:
        super().__init__(volume, prefix)
        self.revision = revision
        self.only = only

    def _has(self, key: str) -> bool:
        return super()._has(key) and self.only in {"", key.removeprefix(self.prefix)}

    def listing(self) -> Listing:
        listing = self._list(sealed_apart=False)
        if not self.volume.exists or not listing.files:
            raise SourceMissing(f"there is nothing in {self.name}", hint="put a model there", store=self.name)
        return listing

    def look_again(self, file: ModelFile) -> ModelFile:
        with self.volume.lock:
            self.volume.requests["look"] += 1
            stored = self.volume.objects.get(self.prefix + file.path)
        if stored is None:
            raise SourceMissing(f"{file.path} is gone", path=file.path)
        return _model_file(file.path, stored)

    def read(self, file: ModelFile, start: int, length: int) -> MemoryBody:
        return self._open(file, start, length, SourceChanged(f"{file.path} is gone", path=file.path))


class MemoryDestination(_Folder):
    """Implements `Destination` and `SparesForeign`, with the semantics of multipart uploads."""

    def __init__(self, volume: MemoryVolume, prefix: str = "model/", *, limits: Limits | None = None) -> None:
        super().__init__(volume, prefix)
        self.limits = limits or Limits(most_parts=10_000, keeps_content_type=True)
        self.control = MemoryControl(volume, f"{prefix}{CONTROL_FOLDER}/")
        self.commits = 0
        self.vacant: set[str] = set()

    @property
    def uri(self) -> str:
        return self.name

    def prepare(self) -> None:
        if not self.volume.exists:
            raise NotThereYet(f"{self.name} is not there yet", hint="make it", store=self.name)

    def listing(self) -> Listing:
        return self._list()

    def name_problems(self, paths: Collection[str]) -> list[str]:
        return [f"{path!r} is empty or absolute" for path in sorted(paths) if not path or path.startswith("/")]

    def free_bytes(self) -> int | None:
        with self.volume.lock:
            return None if self.volume.capacity is None else self.volume.capacity - self.volume.used

    def open_uploads(self) -> list[OpenUpload]:
        nested = self._list()
        with self.volume.lock:
            self.volume.requests["list"] += 1
            found = [
                OpenUpload(upload.key.removeprefix(self.prefix), token)
                for token, upload in self.volume.uploads.items()
                if upload.key.startswith(self.prefix)
            ]
        return [upload for upload in found if nested.nested_above(upload.path) is None]

    def spare(self, paths: Collection[str]) -> None:
        self.vacant = set(paths)

    def begin(self, file: ModelFile, cut: Cut, *, resume: str = "") -> "MemoryUpload":
        key = self.prefix + file.path
        with self.volume.lock:
            self.volume.requests["begin"] += 1
            old = self.volume.uploads.get(resume)
            if old is not None and (old.key, old.cut, old.file.version) == (key, cut, file.version):
                return MemoryUpload(self, resume)
            if old is not None and old.key == key:
                del self.volume.uploads[resume]
            return MemoryUpload(self, self.volume.open(key, file, cut))

    def abort_upload(self, upload: OpenUpload) -> None:
        with self.volume.lock:
            self.volume.requests["abort"] += 1
            self.volume.uploads.pop(upload.token, None)

    def read(self, file: ModelFile, start: int, length: int) -> MemoryBody:
        return self._open(file, start, length, WrongBytes(f"{file.path} is gone", path=file.path))

    def delete(self, paths: Iterable[str]) -> None:
        with self.volume.lock:
            self.volume.requests["delete"] += 1
            for path in paths:
                self.volume.objects.pop(self.prefix + path, None)

    def commit(self, manifest: Manifest) -> None:
        self.commits += 1


class MemoryUpload:
    """Implements `Upload`."""

    def __init__(self, destination: MemoryDestination, token: str) -> None:
        self.token = token
        self._destination = destination
        self._volume = destination.volume
        self._open = self._volume.uploads[token]
        self.done = frozenset(self._open.parts)
        self._version = ""

    def open_part(self, index: int) -> "MemoryPart":
        if not 0 <= index < self._open.cut.count:
            raise InternalError(f"there is no part {index}")
        return MemoryPart(self._destination, self._open, index)

    def finish(self) -> str:
        with self._volume.lock:
            self._volume.requests["finish"] += 1
            if self._version:
                return self._version
            if len(self._open.parts) != self._open.cut.count:
                raise InternalError("finished before its parts")
            data = b"".join(self._open.parts[index] for index in range(self._open.cut.count))
            there = self._volume.objects.get(self._open.key)
            if self._open.file.path in self._destination.vacant and there is not None and there.data != data:
                raise ForeignFile(self._open.file.path, store=self._destination.name)
            self._destination.vacant.discard(self._open.file.path)
            self._version = self._volume.put(self._open.key, data, content_type=self._open.file.content_type)
            self._volume.uploads.pop(self.token, None)
            return self._version

    def abort(self) -> None:
        with self._volume.lock:
            if not self._version:
                self._volume.requests["abort"] += 1
                self._volume.uploads.pop(self.token, None)

    def suspend(self) -> None:
        """The service keeps the parts."""


class MemoryPart:
    """Implements `PartSink`."""

    keeps_views = False

    def __init__(self, destination: MemoryDestination, upload: OpenMultipart, index: int) -> None:
        self._destination = destination
        self._volume = destination.volume
        self._upload = upload
        self._index = index
        self._data = bytearray()

    def send(self, data: memoryview) -> None:
        if self._destination.interrupted.is_set():
            raise Transient("interrupted")
        with self._volume.lock:
            self._volume.bytes_sent += len(data)
            capacity = self._volume.capacity
            if capacity is not None and self._volume.used + len(self._data) + len(data) > capacity:
                raise OutOfSpace("the memory volume is full", hint="give it more", store=self._destination.name)
        self._data += data

    def finish(self) -> None:
        length = self._upload.cut.length(self._index)
        if len(self._data) != length:
            raise Transient(f"part {self._index} has {len(self._data)} bytes, not {length}")
        with self._volume.lock:
            self._volume.requests["part"] += 1
            self._upload.parts[self._index] = bytes(self._data)

    def cancel(self) -> None:
        self._data.clear()


class MemoryControl:
    """Implements `ControlFolder`; `supports_conditions=False` plays a store that has no conditional writes."""

    def __init__(self, volume: MemoryVolume, prefix: str, *, supports_conditions: bool = True) -> None:
        self.supports_conditions = supports_conditions
        self.conditional = True
        self._volume = volume
        self._prefix = prefix

    def read(self, name: str) -> tuple[bytes, str] | None:
        with self._volume.lock:
            self._volume.requests["control"] += 1
            stored = self._volume.objects.get(self._prefix + name)
        return None if stored is None else (stored.data, stored.version)

    def write(self, name: str, data: bytes, *, expected: str | None = None) -> str:
        with self._volume.lock:
            self._volume.requests["control"] += 1
            stored = self._volume.objects.get(self._prefix + name)
            if expected is not None:
                self.conditional = self.supports_conditions
                if self.conditional and expected != (stored.version if stored else ""):
                    raise ControlConflict(name)
            return self._volume.put(self._prefix + name, data)

    def remove(self, name: str) -> None:
        with self._volume.lock:
            self._volume.requests["control"] += 1
            self._volume.objects.pop(self._prefix + name, None)

    def names(self, below: str = "") -> list[str]:
        with self._volume.lock:
            self._volume.requests["control"] += 1
            start = self._prefix + below
            return sorted(key.removeprefix(self._prefix) for key in self._volume.objects if key.startswith(start))


class CopyingDestination(MemoryDestination):
    """A destination that also copies inside its service: the optional `ServerCopy`."""

    def copy_inside(self, source: Source, file: ModelFile) -> str | None:
        if not isinstance(source, MemorySource) or source.volume is not self.volume:
            return None
        stored = self.volume.objects.get(source.prefix + file.path)
        if stored is None or stored.version != file.version:
            raise SourceChanged(f"{file.path} is another version now", path=file.path)
        return self.volume.put(self.prefix + file.path, stored.data, content_type=stored.content_type)


def _model_file(path: str, stored: Stored) -> ModelFile:
    return replace(ModelFile(path, len(stored.data), stored.version), content_type=stored.content_type)
