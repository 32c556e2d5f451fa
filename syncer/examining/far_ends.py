"""What lies at the far ends: a source that lets us read, a destination that takes what a run writes, the registry.

What is written here is written below `.syncer/`, under names that nobody else has, and removed again.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Final

from syncer import stores
from syncer.errors import InternalError, OutOfSpace, SourceMissing, SyncerError, WrongBytes
from syncer.examining.findings import Book, Skipped
from syncer.manifest import CONTROL_FOLDER, Listing, ModelFile
from syncer.registration import Registration
from syncer.retry import Patience
from syncer.settings.locations import (
    ArchiveLocation,
    CosLocation,
    DestinationLocation,
    DirectoryLocation,
    ImageLocation,
    Network,
    RegistryLocation,
    S3Location,
    Settings,
    UploadedByHand,
)
from syncer.stores.oci.depot import open_depot
from syncer.stores.oci.documents import manifest_at
from syncer.stores.protocols import Body, Cut, Destination, Source

_AT_ONCE: Final = Patience(seconds=0.0)
_PROBE: Final = "doctor-"
_UNREACHED: Final = "nobody answered on the way there: see above"
_SOURCE_VARIABLE: Final = "S3_SYNC_SRC__PATH"


def look_at_source(book: Book, settings: Settings, *, reached: bool) -> Listing | None:
    """Whether the source can be listed and read; its listing where one was made."""
    location = settings.source
    why = "" if reached else _UNREACHED
    match location:
        case None:
            book.skip("list", "source", "no source is configured")
            return None
        case UploadedByHand():
            book.skip("list", location.uri, "the model was uploaded by hand: it is at the destination")
            return None
        case CosLocation(logs_in_once=True):
            why = "a one-time passcode works once, and is left for the run"
    at = location.uri
    if why:
        for step in ("list", "read"):
            book.skip(step, at, why)
        return None
    if isinstance(location, ImageLocation | ArchiveLocation):
        _look_at_image(book, location, settings.network, at=at, variable=_SOURCE_VARIABLE)
        return None
    with ExitStack() as opened:
        found: list[Listing] = []
        source: list[Source] = []

        def listed() -> str:
            source.append(opened.enter_context(closing(stores.open_source(location, settings.network))))
            opened.enter_context(book.stop.waking(source[0].interrupt))
            found.append(source[0].listing())
            return f"{len(found[0].files)} file(s), {found[0].total_bytes} bytes"

        if not book.look("list", at, listed):
            book.skip("read", at, "the listing failed")
            return None
        book.look("read", at, lambda: _read_one(source[0], found[0]))
        return found[0]


def _read_one(source: Source, listing: Listing) -> str:
    """The first byte of the smallest file that has one."""
    file = min((file for file in listing.files.values() if file.size), key=lambda file: file.size, default=None)
    if file is None:
        raise Skipped("all files are empty")
    _first_byte(source.read(file, 0, 1))
    return f"the first byte of {file.path}"


def _first_byte(body: Body) -> None:
    with closing(body):
        if body.readinto(memoryview(bytearray(1))) != 1:
            raise WrongBytes("no byte came", hint="look at the store")


def _look_at_image(
    book: Book, location: ImageLocation | ArchiveLocation, network: Network, *, at: str, variable: str
) -> None:
    """Whether an image can be read: its manifest and a byte of a layer; the layers are left for the run."""

    def looked() -> str:
        with closing(open_depot(location, network, variable=variable)) as depot, book.stop.waking(depot.interrupt):
            document = depot.manifest("")
            if document is None:
                raise SourceMissing(f"there is no image {at}", hint=f"check {variable}")
            _, manifest = manifest_at(document, depot.manifest, where=at)
            if layer := next((layer for layer in manifest.layers if layer.size), None):
                _first_byte(depot.read(layer.digest, 0, 1))
            return f"{len(manifest.layers)} layer(s), {document.digest}"

    book.look("read", at, looked)


def look_at_destination(
    book: Book, place: DestinationLocation, settings: Settings, *, reached: bool, wanted: Listing | None
) -> None:
    """Whether a destination is there, lists, takes, gives back and removes what a run leaves there, and has room."""
    at, steps = place.uri, _steps_at(place)
    if not reached:
        for step in steps:
            book.skip(step, at, _UNREACHED)
        return
    with ExitStack() as opened:
        destination: list[Destination] = []

        def prepared() -> str:
            destination.append(opened.enter_context(closing(stores.open_destination(place, settings.network))))
            opened.enter_context(book.stop.waking(destination[0].interrupt))
            destination[0].prepare()
            return steps["there"]

        if not book.look("there", at, prepared):
            for step in list(steps)[1:]:
                book.skip(step, at, "the step before it failed: there")
            return
        there: list[Listing] = []

        def listed() -> str:
            there.append(destination[0].listing())
            return f"{len(there[0].files)} file(s), {there[0].total_bytes} bytes"

        book.look("list", at, listed)
        if isinstance(place, S3Location | DirectoryLocation):
            _probe(book, place, destination[0], at=at)
        book.look("space", at, lambda: _space(destination[0], wanted, there))
    if (base := getattr(place, "base", None)) is not None:
        _look_at_image(book, base, settings.network, at=base.uri, variable="OCI_BASE_IMAGE")


def _steps_at(place: DestinationLocation) -> dict[str, str]:
    """What is looked at there, and what the first step proves."""
    match place:
        case S3Location():
            return {"there": "the bucket is there", **dict.fromkeys(("list", *_PROBES, "space"), "")}
        case DirectoryLocation():
            return {"there": "writable", **dict.fromkeys(("list", *_PROBES, "space"), "")}
        case ImageLocation():
            return {"there": "an upload was begun and given up", "list": "", "space": ""}
        case _:
            return {"there": "writable", "list": "", "space": ""}


_PROBES: Final = ("write", "read", "multipart", "delete")


@dataclass
class _Probe:
    """A small file and, for a bucket, one of two parts: written, read back, removed."""

    destination: Destination

    def __post_init__(self) -> None:
        self.mark = secrets.token_hex(8)
        self.small, self.large = f"{_PROBE}{self.mark}", f"{_PROBE}{self.mark}-parts"

    def write(self) -> str:
        """A file that is written only where there is none, as the lease is."""
        self.destination.control.write(self.small, self.mark.encode(), expected="")
        conditional = "" if self.destination.control.conditional else "; the store does not know conditional writes"
        return f"{CONTROL_FOLDER}/{self.small}{conditional}"

    def read(self) -> str:
        """The same bytes."""
        self._compare(self.small, self.mark.encode())
        return "the same bytes"

    def multipart(self) -> str:
        """Two parts, the first one as small as the store allows."""
        part = self.destination.limits.smallest_part
        content = (self.mark.encode() * (part // len(self.mark) + 1))[: part + 1]
        cut = Cut(len(content), part)
        upload = self.destination.begin(ModelFile(f"{CONTROL_FOLDER}/{self.large}", len(content), ""), cut)
        try:
            for index in range(cut.count):
                sink, start = upload.open_part(index), cut.offset(index)
                try:
                    sink.send(memoryview(content)[start : start + cut.length(index)])
                    sink.finish()
                except BaseException:
                    sink.cancel()
                    raise
            upload.finish()
        except BaseException:
            upload.abort()
            raise
        self._compare(self.large, content)
        return f"{cut.count} parts, {len(content)} bytes, the same bytes"

    def delete(self) -> str:
        """Both are gone afterwards, whatever happened to them before."""
        left = []
        failure: SyncerError | None = None
        for name in (self.small, self.large):
            try:
                self.destination.control.remove(name)
                gone = self.destination.control.read(name) is None
            except SyncerError as error:
                failure, gone = failure or error, False
            if not gone:
                left.append(f"{CONTROL_FOLDER}/{name}")
        if not left:
            return "nothing is left there"
        told = f"{' and '.join(left)} may be left there"
        if failure is None:
            raise InternalError(f"removed, and still there: {told}")
        raise failure.reworded(f"{failure.message}; {told}")

    def _compare(self, name: str, content: bytes) -> None:
        found = self.destination.control.read(name)
        if found is None or found[0] != content:
            raise WrongBytes(
                f"{CONTROL_FOLDER}/{name} is not what was written there",
                hint="look at the store, and at whatever lies between us and it",
            )


def _probe(book: Book, place: DestinationLocation, destination: Destination, *, at: str) -> None:
    if isinstance(place, DirectoryLocation) and not place.path.is_dir():
        for step in _PROBES:
            book.skip(step, at, "the folder is made by the first run")
        return
    probe = _Probe(destination)
    try:
        written = book.look("write", at, probe.write)
        if not written:
            book.skip("read", at, "nothing was written")
            book.skip("multipart", at, "nothing was written")
        else:
            book.look("read", at, probe.read)
            _multipart(book, place, probe.multipart, at=at)
    finally:
        book.look("delete", at, probe.delete) if not book.stop.thrown else _tidy(probe)


def _multipart(book: Book, place: DestinationLocation, work: Callable[[], str], *, at: str) -> None:
    if isinstance(place, S3Location):
        book.look("multipart", at, work)
    else:
        book.skip("multipart", at, "a folder knows no such thing")


def _tidy(probe: _Probe) -> None:
    """After a stop: remove what can be removed; the stop is what is told."""
    with ExitStack() as quiet:
        quiet.push(lambda kind, _error, _trace: kind is not None and issubclass(kind, SyncerError))
        probe.delete()


def _space(destination: Destination, wanted: Listing | None, there: list[Listing]) -> str:
    free = destination.free_bytes()
    if free is None:
        raise Skipped("nobody can tell; a quota shows when a write is refused")
    if wanted is None or not there:
        return f"{free} bytes free"
    had = there[0].files
    missing = sum(file.size for path, file in wanted.files.items() if path not in had or had[path].size != file.size)
    if missing > free:
        raise OutOfSpace(
            f"{missing} bytes are to be copied, {free} are free",
            hint="make the volume bigger or free space on it, or point S3_SYNC_DEST__PATH to another one",
        )
    return f"{free} bytes free, {missing} to be copied"


def look_at_registry(book: Book, location: RegistryLocation | None, network: Network, *, reached: bool) -> None:
    """Whether the Model Registry is one and lets us in; nothing is written there."""
    if location is None:
        book.skip("registry", "Model Registry", "nothing is to be registered")
        return
    if not reached:
        book.skip("registry", location.endpoint, _UNREACHED)
        return

    def checked() -> str:
        with closing(Registration(location, network, book.stop, patience=_AT_ONCE)) as registration:
            with book.stop.waking(registration.interrupt):
                registration.check()
            return "a Model Registry, and it lets us read"

    book.look("registry", location.endpoint, checked)
