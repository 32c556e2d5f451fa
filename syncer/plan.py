"""What to copy, what to keep, what to remove and how to cut it.  Pure: values in, a value out.

The rules of "again and again" live here: a file whose recorded versions still hold on both sides is kept unread, a file
that is not ours is never overwritten or deleted silently, and nothing happens across somebody else's sealed folder.

A run either *is* the whole model (a sync: what the source no longer has is no part of it any more) or *joins* it: then
what the manifest has stays part of the model, the run's files come to it or replace it, and nothing is deleted, for a
joining run knows nothing of what else there should be.  The manifest then names the source of the run that joined last
and no revision, for nothing else would be true of the whole; a version that meant something at a former source alone is
forgotten, so that no later run takes it for one of its own source.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, Literal

from syncer.flight import Task
from syncer.manifest import BY_HAND, VOLUMES_OWN, FileRecord, Listing, Manifest, ModelFile
from syncer.memory import MiB
from syncer.stores.protocols import Cut, Limits

DEFAULT_PART: Final = 5 * MiB
"""The smallest that S3 takes: memory holds half a part for each lane on a file (`schedule.py`)."""
_MOST_PARTS_RESUMED: Final = 100_000
"""More parts than any sound cut has: a journal that says so is damaged, and believing it would cost the memory."""
_MD5_LIKE: Final = re.compile(r"[0-9a-f]{32}(-[0-9]+)?")
_TELLS_ITS_PLACE: Final = re.compile(r"[0-9]+@[0-9a-f]{12}")
"""The version of an uploaded file: its time, and which folder it was found by."""


class Why(StrEnum):
    """Why a file is copied or looked at, in the words of `syncer plan`."""

    NEW = "new"
    CHANGED = "changed"
    MISSING = "missing at the destination"
    UNFINISHED = "an earlier run did not finish it"
    RESUMED = "an earlier run left parts of it"
    FORCED = "FORCE is set"
    UNPROVED = "an earlier run did not read it back"
    UNKNOWN = "not ours and of the same size: compared"


@dataclass(frozen=True, slots=True)
class OpenFile:
    """An upload that an earlier run left open: where, the destination's token, and what it was cut from.

    A version means something at its own source alone: equal times and sizes in two folders are two files.
    """

    path: str
    token: str
    part_size: int
    size: int
    source_version: str
    source: str


@dataclass(frozen=True)
class Recovered:
    """What the journal of an unfinished run tells: the source it read, the paths it meant to write and got done."""

    source: str = ""
    planned: frozenset[str] = frozenset()
    finished: Mapping[str, FileRecord] = field(default_factory=dict)
    open_files: Mapping[str, OpenFile] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step(Task):
    """One file to copy or to compare, which the engine can take as it is; `existing` is what lies at its path now."""

    why: Why = field(kw_only=True)
    existing: ModelFile | None = None


@dataclass(frozen=True)
class Plan:
    """The whole run before its first byte.

    `foreign` are files in the way that are not ours and differ; `left` are records of earlier files that the source no
    longer has and that stay, because deleting is off; `prove` are files that an earlier run brought whole and was
    stopped before it had read them back.  `unfinished` are the paths of a run that never sealed, as far as a joining
    run knows nothing about them: nobody can say what the model is before that run has ended, though all may be written.
    """

    copy: tuple[Step, ...] = ()
    compare: tuple[Step, ...] = ()
    keep: tuple[FileRecord, ...] = ()
    delete: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    left: tuple[FileRecord, ...] = ()
    prove: tuple[Step, ...] = ()
    unfinished: tuple[str, ...] = ()

    @property
    def copy_bytes(self) -> int:
        """Bytes of the files to copy (a resumed file counts whole)."""
        return sum(step.file.size for step in self.copy)

    @property
    def changes_nothing(self) -> bool:
        """Whether the destination's content stays exactly as it is, and is proved."""
        return not (self.copy or self.delete or self.prove)


@dataclass(frozen=True)
class Options:
    """What the user asked for: `part_size` in bytes or None, `delete` as in the contract.

    `join` adds the source's files to the model that the manifest describes, instead of making them the model; then
    `delete` has no meaning.
    """

    part_size: int | None = None
    force: bool = False
    delete: Literal["off", "recorded", "all"] = "off"
    join: bool = False


def make_plan(
    wanted: Listing,
    there: Listing,
    *,
    source: str,
    previous: Manifest | None,
    recovered: Recovered,
    limits: Limits,
    options: Options,
) -> Plan:
    """Compare what the source has with what the destination has, remembering what we proved before.

    Never raises for what it finds: what must not be done is in `foreign` and `problems`.
    """
    copy: list[Step] = []
    compare: list[Step] = []
    keep: list[FileRecord] = []
    prove: list[Step] = []
    foreign: list[str] = []
    problems: list[str] = []
    known = _Known(source=source, previous=previous, recovered=recovered)
    for path in sorted(wanted.files):
        file = wanted.files[path]
        if (folder := there.nested_above(path)) is not None:
            problems.append(f"{path}: lies in {folder}/, which is sealed as a model of its own")
            continue
        cut = cut_file(file.size, limits=limits, part_size=options.part_size)
        if cut is None:
            problems.append(f"{path}: {file.size} bytes are more than this destination can hold in one file")
            continue
        existing = there.files.get(path)
        record = known.record(path)
        if not options.force and record is not None and existing and known.still_holds(record, file, existing):
            if record.awaits_proof:
                prove.append(Step(file, cut, why=Why.UNPROVED, existing=existing))
            else:
                keep.append(record)
        elif existing is None or options.force or known.ours(path, existing):
            copy.append(_copy_step(file, cut, existing=existing, known=known, options=options))
        elif existing.size != file.size:
            foreign.append(path)
        elif existing.version == file.version and _MD5_LIKE.fullmatch(file.version):
            keep.append(_by_listing(file, existing))
        else:
            compare.append(Step(file, cut, why=Why.UNKNOWN, existing=existing))
    joined = known.joined(wanted, there) if options.join else ()
    keep += joined
    part = wanted.files.keys() | {record.path for record in joined} if joined else wanted.files.keys()
    delete, left = _leftovers(part, there, known=known, mode="off" if options.join else options.delete)
    copy.sort(key=lambda step: (-step.file.size, step.file.path))
    return Plan(
        copy=tuple(copy),
        compare=tuple(compare),
        keep=tuple(keep),
        delete=delete,
        foreign=tuple(foreign),
        problems=tuple(problems),
        left=left,
        prove=tuple(prove),
        unfinished=known.unfinished(wanted) if options.join else (),
    )


def keep_all(there: Listing, previous: Manifest | None) -> tuple[FileRecord, ...]:
    """The plan for a model that was uploaded by hand: all stays, with the proof that an earlier run may have left."""
    known = _Known(source="", previous=previous, recovered=Recovered())
    records = []
    for path in sorted(there.files):
        file, record = there.files[path], known.record(path)
        records.append(record if record is not None and _untouched(record, file) else _by_listing(file, file))
    return tuple(records)


def cut_file(size: int, *, limits: Limits, part_size: int | None) -> Cut | None:
    """Cut `size` bytes into parts that `limits` allows, near `part_size`; None when no such cut exists."""
    if limits.largest_file is not None and size > limits.largest_file:
        return None
    part = max(part_size or DEFAULT_PART, limits.smallest_part)
    if limits.most_parts is not None:
        least = -(-size // limits.most_parts)
        if least > part:
            part = -(-least // MiB) * MiB
    if limits.largest_part is not None:
        part = min(part, limits.largest_part)
        if limits.most_parts is not None and part * limits.most_parts < size:
            return None
    return Cut(size, part, in_order=limits.parts_in_order)


class _Known:
    """What we know about a path from earlier runs: the journal of an unfinished one wins over the last manifest."""

    def __init__(self, *, source: str, previous: Manifest | None, recovered: Recovered) -> None:
        self._source = source
        self._previous = previous
        self._recovered = recovered

    def record(self, path: str) -> FileRecord | None:
        finished = self._recovered.finished.get(path)
        if finished is not None:
            return finished
        if self._previous is None:
            return None
        return self._previous.files.get(path) or self._previous.left.get(path)

    def was_planned(self, path: str) -> bool:
        """Whether an unfinished run was about to write `path`."""
        return path in self._recovered.planned

    def left_open(self, file: ModelFile) -> OpenFile | None:
        """The upload of exactly this version of this source's file that an unfinished run left, or None."""
        left = self._recovered.open_files.get(file.path)
        if left is None or (left.source, left.size, left.source_version) != (self._source, file.size, file.version):
            return None
        return left

    def ours(self, path: str, existing: ModelFile) -> bool:
        """Whether we wrote what is at `path` now, or were about to when an earlier run ended."""
        return self.was_planned(path) or self.recorded(path, existing) is not None

    def recorded(self, path: str, existing: ModelFile) -> FileRecord | None:
        """The record of a file of ours that is there as we left it, or None.

        What people uploaded by hand stays theirs, though the manifest tells of it: we have only looked at it.
        """
        record = self.record(path)
        if record is None or not _untouched(record, existing):
            return None
        return None if self._is_theirs(record) and path not in self._recovered.finished else record

    def joined(self, wanted: Listing, there: Listing) -> tuple[FileRecord, ...]:
        """The records of what stays part of the model beside the `wanted` files.

        What somebody replaced stays by its listing alone; what is gone is no part of the model any more.
        """
        content = self._previous.files if self._previous else {}
        paths = sorted(path for path in content if path not in wanted.files and path in there.files)
        return tuple(self._as_joined(path, there.files[path]) for path in paths)

    def unfinished(self, wanted: Listing) -> tuple[str, ...]:
        """What a run that never sealed was about to write, but for the `wanted` files."""
        return tuple(sorted(self._recovered.planned - wanted.files.keys()))

    def _as_joined(self, path: str, existing: ModelFile) -> FileRecord:
        record = self.record(path)
        if record is None or not _untouched(record, existing):
            return replace(_by_listing(existing, existing), source_version="")
        if self._same_source(path):
            return record
        lasts = _means_the_same_anywhere(record.source_version) and not self._is_theirs(record)
        return record if lasts else replace(record, source_version="")

    def _is_theirs(self, record: FileRecord) -> bool:
        """Whether people uploaded the file: of what has joined such a model, only the missing source version tells."""
        by_hand = self._previous is not None and self._previous.source == BY_HAND
        return record.proved_by == "listing" and (by_hand or not record.source_version)

    def still_holds(self, record: FileRecord, file: ModelFile, existing: ModelFile) -> bool:
        """Whether the proof in `record` covers today's source file and today's destination file."""
        if not _untouched(record, existing) or record.size != file.size:
            return False
        if file.digests:
            if any(record.digests.get(name) == value for name, value in file.digests.items()):
                return True
            if any(name in record.digests for name in file.digests):
                return False
        if record.source_version != file.version:
            return False
        return _means_the_same_anywhere(file.version) or self._same_source(file.path)

    def _same_source(self, path: str) -> bool:
        """Whether the record of `path` comes from this source: most versions mean something in one place alone."""
        if path in self._recovered.finished:
            recorded = self._recovered.source
        else:
            recorded = self._previous.source if self._previous else ""
        return recorded.rstrip("/") == self._source.rstrip("/")


def _means_the_same_anywhere(version: str) -> bool:
    """Whether equal versions are equal files, whatever sources they come from."""
    return bool(_MD5_LIKE.fullmatch(version) or _TELLS_ITS_PLACE.fullmatch(version))


def _untouched(record: FileRecord, existing: ModelFile) -> bool:
    return bool(record.destination_version) and (record.destination_version, record.size) == (
        existing.version,
        existing.size,
    )


def _by_listing(file: ModelFile, existing: ModelFile) -> FileRecord:
    """A record of a file that is equal as far as two listings can tell."""
    return FileRecord(
        path=file.path,
        size=file.size,
        digests=file.digests,
        proved_by="listing",
        source_version=file.version,
        destination_version=existing.version,
    )


def _copy_step(
    file: ModelFile,
    cut: Cut,
    *,
    existing: ModelFile | None,
    known: _Known,
    options: Options,
) -> Step:
    left_open = known.left_open(file)
    if left_open is not None and Cut(file.size, left_open.part_size).count <= _MOST_PARTS_RESUMED:
        # The parts that are there were cut this way, whatever the settings say today.
        cut = Cut(file.size, left_open.part_size)
        return Step(file, cut, resume=left_open.token, why=Why.RESUMED, existing=existing)
    if options.force:
        why = Why.FORCED
    elif existing is None:
        why = Why.NEW if known.record(file.path) is None else Why.MISSING
    elif known.was_planned(file.path):
        why = Why.UNFINISHED
    else:
        why = Why.CHANGED
    return Step(file, cut, why=why, existing=existing)


def _leftovers(
    wanted: Collection[str],
    there: Listing,
    *,
    known: _Known,
    mode: Literal["off", "recorded", "all"],
) -> tuple[tuple[str, ...], tuple[FileRecord, ...]]:
    """Paths to delete, and the records of our own earlier files that stay."""
    unwanted = sorted(path for path in there.files if path not in wanted)
    gone = [there.files[path] for path in unwanted if VOLUMES_OWN.isdisjoint(path.split("/"))]
    mine = {file.path: record for file in gone if (record := known.recorded(file.path, file)) is not None}
    match mode:
        case "all":
            return tuple(file.path for file in gone), ()
        case "recorded":
            return tuple(mine), ()
        case _:
            return (), tuple(mine.values())
