"""The contract of a store, in prose and types.  Read this before you write one.

A *source* lists a model's files and reads byte ranges of them.  A *destination* takes files part by part and makes each
visible whole or not at all.  Both are used from many threads at once.  All errors that leave a store are classes of
`syncer.errors`, translated in one place of the store; a broken stream, a short answer or a busy store is `Transient`, a
file that is not the listed version any more is `SourceChanged`.

The engine knows nothing else about stores, and `tests/contract/` holds every store to what is said here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from syncer.errors import ConfigurationError, Transient
from syncer.manifest import Listing, Manifest, ModelFile, Origin


@dataclass(frozen=True)
class Limits:
    """What one destination can take, sizes in bytes.

    `smallest_part` binds every part of a file but the last one.  `largest_file` is None where only the free
    space limits.  `keeps_content_type` says that it is worth to find a file's content type out.  `parts_in_order` says
    that the parts of one file come one after another; files still go side by side.  `parts_from_many` says that several
    processes may send parts of one upload at the same time, each of which knows its token.
    """

    smallest_part: int = 1
    largest_part: int | None = None
    most_parts: int | None = None
    largest_file: int | None = None
    keeps_content_type: bool = False
    parts_in_order: bool = False
    parts_from_many: bool = False


@dataclass(frozen=True, slots=True)
class Cut:
    """How one file is cut: every part has `part_size` bytes but the last, which has the rest; an empty file has one.

    `in_order` says that a part begins only when the one before it is whole.
    """

    size: int
    part_size: int
    in_order: bool = False

    @property
    def count(self) -> int:
        """Number of parts, at least one."""
        return max(1, -(-self.size // self.part_size))

    def offset(self, index: int) -> int:
        """First byte of part `index` (from 0)."""
        return index * self.part_size

    def length(self, index: int) -> int:
        """Bytes of part `index` (from 0)."""
        return min(self.part_size, self.size - index * self.part_size)


class Body(Protocol):
    """The bytes of one range, in order.

    `readinto` fills as much of `buffer` as it likes, at least one byte, and returns the count; 0 only when the range
    is complete.  A stream that ends early raises `Transient`, never returns 0: a short read must not pass as a file.
    """

    def readinto(self, buffer: memoryview) -> int: ...
    def close(self) -> None: ...


@runtime_checkable
class KnowsContentType(Protocol):
    """A body whose store told the content type together with the bytes, or empty if it did not.

    Buckets list no content types.  A file of one part is therefore opened for reading before its upload begins, and a
    file of many parts is looked at again (`Source.look_again`) first; both hand it on as `content_type`.
    """

    @property
    def content_type(self) -> str: ...


class Source(Protocol):
    """Where a model comes from.

    `name` is printable and holds no secret (`s3://bucket/folder/`).  `revision` is the resolved commit or digest where
    the source has such a thing, else empty; it is known after `listing()`.
    """

    @property
    def name(self) -> str: ...
    @property
    def revision(self) -> str: ...

    def listing(self) -> Listing:
        """Everything in the model's folder, complete, without control files and folder placeholders.

        Files of sealed folders inside it are content like all others; only paths with a `.syncer` component are not.
        Raises `SourceMissing` when the bucket or folder is not there or holds no file.
        """
        ...

    def look_again(self, file: ModelFile) -> ModelFile:
        """The file as it is now (another version, perhaps another size); `SourceMissing` when it is gone."""
        ...

    def read(self, file: ModelFile, start: int, length: int) -> Body:
        """Open `length` bytes from `start` of exactly the listed version; `SourceChanged` when that is gone.

        `length` is never 0.
        """
        ...

    def interrupt(self) -> None:
        """Wake every thread that is blocked in this store's network calls; they fail with `Transient`."""
        ...

    def close(self) -> None: ...


class PartSink(Protocol):
    """One part on its way.  Exactly one of `finish` and `cancel` ends it.

    `send` may be called any number of times and takes the bytes before it returns, unless `keeps_views` is True: then
    the views must stay unchanged until `finish` has returned.
    """

    @property
    def keeps_views(self) -> bool: ...

    def send(self, data: memoryview) -> None: ...

    def finish(self) -> None:
        """The store has the whole part and said so; its answer was checked where that is a digest."""
        ...

    def cancel(self) -> None:
        """Give the part up.  Silent, may be called after a failed `send` or `finish`."""
        ...


class Upload(Protocol):
    """One file on its way: nothing is visible before `finish`, everything after it.

    A file of one part may be visible, whole, when that part's `finish` returns (a bucket's PUT).

    `token` names the upload for a later process (empty when a new process has to start this file again); `done` are the
    parts, counted from 0, that an earlier process already left there.
    """

    @property
    def token(self) -> str: ...
    @property
    def done(self) -> frozenset[int]: ...

    def open_part(self, index: int) -> PartSink:
        """Begin part `index` of the cut; parts of one file in any order and side by side (see `Limits`)."""
        ...

    def finish(self) -> str:
        """Make the file visible as a whole and return its version as the next listing will show it.

        May be repeated after a `Transient`.  The version is empty where only a listing can tell it.
        """
        ...

    def abort(self) -> None:
        """Leave nothing behind.  Idempotent and silent."""
        ...

    def suspend(self) -> None:
        """Let go of handles but leave the parts for a resume.  Idempotent and silent."""
        ...


class UploadLost(Transient):
    """The store does not know the upload any more (a life-cycle rule, another process): the file starts again.

    Trying the same part again would not help; where nobody starts the file again, the next run does.
    """

    reason = "UploadLost"
    retryable = False


class ForeignFile(ConfigurationError):
    """Something that is not ours has appeared where nothing was when the run was planned."""

    def __init__(self, path: str, *, store: str) -> None:
        super().__init__(
            f"{store}: {path} has appeared since this run began, and is not ours",
            hint="set S3_SYNC_TRANSFER_CONFIG__FORCE=true to replace it, or choose another destination",
            path=path,
        )
        self.store = store


@dataclass(frozen=True)
class OpenUpload:
    """An unfinished upload that a destination shows: at `path`, known to it as `token`."""

    path: str
    token: str


class ControlFolder(Protocol):
    """Small files below `.syncer/` of one model's folder, by name (`complete.json`, `state/plan.json`).

    `write` is atomic.  With `expected` it is conditional where the store has such a thing: `""` means "only if absent",
    anything else "only if the version still is this"; a lost race raises `ControlConflict`.  Where the store has none
    (`conditional` is False after the first try), it just writes.
    """

    @property
    def conditional(self) -> bool: ...
    def read(self, name: str) -> tuple[bytes, str] | None: ...
    def write(self, name: str, data: bytes, *, expected: str | None = None) -> str: ...
    def remove(self, name: str) -> None: ...
    def names(self, below: str = "") -> list[str]: ...


class ControlConflict(Exception):
    """Somebody else wrote the control file in between."""


class Destination(Protocol):
    """Where a model goes to.

    `name` is printable without secrets, `uri` what other tools open (`s3://bucket/models/`, `file:///mnt/models/`).
    """

    @property
    def name(self) -> str: ...
    @property
    def uri(self) -> str: ...
    @property
    def limits(self) -> Limits: ...
    @property
    def control(self) -> ControlFolder: ...

    def prepare(self) -> None:
        """Make sure that the place exists and takes writes, without leaving anything there.

        `NotThereYet` for what may still come (bucket, endpoint), `CredentialsRefused`, `ConfigurationError` for what
        will not.
        """
        ...

    def listing(self) -> Listing:
        """Everything that is there now; an empty listing is fine here."""
        ...

    def name_problems(self, paths: Collection[str]) -> list[str]:
        """One line for each path that this destination cannot hold safely, each naming the path; else empty."""
        ...

    def free_bytes(self) -> int | None:
        """Bytes that may still be written, or None where nobody can tell."""
        ...

    def open_uploads(self) -> list[OpenUpload]:
        """Unfinished uploads anywhere below the folder, nested sealed folders excepted; empty if it cannot tell."""
        ...

    def begin(self, file: ModelFile, cut: Cut, *, resume: str = "") -> Upload:
        """Start the upload of one file, or go on with the one that `resume` names.

        A token that is unknown by now starts a new upload.  Raises `OutOfSpace`, `Transient`, `CredentialsRefused`.
        """
        ...

    def abort_upload(self, upload: OpenUpload) -> None:
        """Remove an unfinished upload of an earlier process.  Idempotent."""
        ...

    def read(self, file: ModelFile, start: int, length: int) -> Body:
        """Read back, like `Source.read`; `WrongBytes` when the file is gone."""
        ...

    def delete(self, paths: Iterable[str]) -> None:
        """Remove files; those that are gone already are fine."""
        ...

    def commit(self, manifest: Manifest) -> None:
        """Everything that makes the finished files, which `manifest` proves, last as this model.

        A directory syncs its folders; an image gets its manifest, and `uri` names it by digest from then on.
        """
        ...

    def interrupt(self) -> None:
        """Wake every thread that is blocked in this store's network calls; they fail with `Transient`."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class NamedByDigest(Protocol):
    """A destination whose committed model has a digest of its own, as an image has."""

    @property
    def digest(self) -> str:
        """`sha256:…` after `commit`, or of the image that is there; else empty."""
        ...


@runtime_checkable
class KnownByTag(Protocol):
    """A destination whose `commit` takes a name over, as that of an image, whatever it has led to before."""

    def foreign(self) -> str:
        """The digest of what the name leads to now, if no run of ours has made it; else empty."""
        ...


@runtime_checkable
class SparesForeign(Protocol):
    """The optional ability of a destination to put a file only where nothing is."""

    def spare(self, paths: Collection[str]) -> None:
        """Nothing lies at these paths: what appears there from now on is not replaced but is a `ForeignFile`.

        Each path counts until a file of ours is there.  What proves to be our own, or has the same bytes, is no
        `ForeignFile`: the answer to an earlier try may have been lost.
        """
        ...


@runtime_checkable
class TellsOrigin(Protocol):
    """The optional ability of a source to know where its files were before, and what was done to them since."""

    @property
    def origin(self) -> Origin | None:
        """Known after `listing()`; None where nobody has left word."""
        ...


@runtime_checkable
class ServerCopy(Protocol):
    """The optional ability to copy inside one service, without the bytes passing through this process."""

    def copy_inside(self, source: Source, file: ModelFile) -> str | None:
        """Copy the listed version and return the new file's version, or None when the service will not do it."""
        ...


@runtime_checkable
class Fetches(Protocol):
    """The optional ability of a source to write a whole file to a path, by a transfer of its own.

    Nobody here sees the bytes on their way, so that the file is read back at the destination afterwards.
    """

    def worth_fetching(self, file: ModelFile) -> bool:
        """Whether to try; asks nobody."""
        ...

    def fetch(self, file: ModelFile, into: Path, *, moved: Callable[[int], None]) -> bool:
        """Write all of `file` to `into`, which is emptied first; `moved` is told how many bytes have arrived.

        False when the file has to be `read`.  `Transient` for whatever goes wrong, also when `interrupt` ends it:
        nothing of `into` is of use then, and `read` is the way that tells more.
        """
        ...


class WholeFile(Protocol):
    """A file on its way that somebody else writes, at `path`: nothing is visible before `finish`."""

    @property
    def path(self) -> Path: ...

    def finish(self) -> str:
        """Like `Upload.finish`; `Transient` when the file does not have its size."""
        ...

    def abort(self) -> None:
        """Leave nothing behind.  Idempotent and silent."""
        ...


@runtime_checkable
class TakesWholeFiles(Protocol):
    """The optional ability of a destination to have a file written by its path."""

    def begin_whole(self, file: ModelFile) -> WholeFile:
        """An empty file on the destination's own file system.  Raises as `Destination.begin` does."""
        ...
