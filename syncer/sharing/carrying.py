"""One pod's share: whole files as ever, and stretches of files whose other parts come by other pods."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from syncer import journal as state
from syncer.copying import Run, copy
from syncer.errands import CopyErrand
from syncer.errors import SyncerError
from syncer.flight import Task
from syncer.journal import Journal
from syncer.lease import Holder, Lease
from syncer.logs import logger
from syncer.manifest import DigestName, FileRecord, Listing, Manifest, ModelFile
from syncer.plan import Step, Why
from syncer.sharing import board
from syncer.sharing.board import SharedPlan
from syncer.stores.protocols import (
    Body,
    ControlFolder,
    Cut,
    Destination,
    PartSink,
    Source,
    SparesForeign,
    Upload,
    UploadLost,
)

COMBINES: Final[DigestName] = "crc64nvme"
"""The digest whose checksums of a file's stretches give that of the file: then nobody has to read it back."""


@dataclass(frozen=True)
class Stretch:
    """Parts of a cut file that lie side by side, from part `first` on, in the upload that `token` names."""

    file: ModelFile
    cut: Cut
    first: int
    count: int
    token: str

    @property
    def offset(self) -> int:
        """Its first byte."""
        return self.cut.offset(self.first)

    @property
    def size(self) -> int:
        """Its bytes."""
        return min(self.cut.size, self.cut.offset(self.first + self.count)) - self.offset

    def task(self, *, hashed: bool) -> Task:
        """The stretch as a file of its own, which the digests of the whole do not prove.

        It is `hashed` where its checksum joins those of the other stretches.
        """
        file = replace(self.file, size=self.size, digests={})
        return Task(file, Cut(self.size, self.cut.part_size), self.token, hashed=hashed)


class ShareErrand(CopyErrand):
    """Copies whole files, and sends the parts of `stretches` to uploads that index 0 has opened and will complete.

    What cannot be done to a stretch (its source changed, its upload is lost) is left to index 0, which copies what is
    missing when all shares are done.
    """

    def __init__(
        self,
        source: Source,
        destination: Destination,
        journal: Journal,
        *,
        cut: Callable[[int], Cut | None],
        stretches: Sequence[Stretch],
        digest: DigestName = "sha256",
    ) -> None:
        super().__init__(source, destination, journal, cut=cut, digest=digest)
        self.checksums: dict[str, str] = {}
        self._stretches: Final = {stretch.file.path: stretch for stretch in stretches}
        self._say = logger(component="share")

    def shortcut(self, task: Task, *, moved: Callable[[int], None]) -> bool:
        """See `CopyErrand`; nobody but this pod brings a stretch."""
        return task.file.path not in self._stretches and super().shortcut(task, moved=moved)

    def begin(self, task: Task) -> Upload:
        """See `CopyErrand`."""
        stretch = self._stretches.get(task.file.path)
        if stretch is None:
            return super().begin(task)
        self._journal.guard()
        upload = self._destination.begin(stretch.file, stretch.cut, resume=stretch.token)
        if upload.token != stretch.token:
            upload.abort()  # a new one, which nobody else would ever complete
            raise UploadLost(f"the upload of {stretch.file.path} is not known there any more", path=stretch.file.path)
        return _PartsOf(upload, stretch)

    def read(self, file: ModelFile, start: int, length: int) -> Body:
        """See `CopyErrand`."""
        stretch = self._stretches.get(file.path)
        if stretch is None:
            return super().read(file, start, length)
        return self._source.read(stretch.file, stretch.offset + start, length)

    def done(self, task: Task, *, version: str, digests: dict[DigestName, str]) -> None:
        """See `CopyErrand`; of a stretch the store knows, and its checksum is for index 0."""
        if task.file.path not in self._stretches:
            super().done(task, version=version, digests=digests)
        elif COMBINES in digests:
            self.checksums[task.file.path] = digests[COMBINES]

    def owes(self, task: Task) -> bool:
        """See `CopyErrand`; a stretch has no record."""
        return task.file.path not in self._stretches and super().owes(task)

    def again(self, task: Task, why: SyncerError) -> Task | None:
        """See `CopyErrand`."""
        if task.file.path not in self._stretches:
            return super().again(task, why)
        self._say.warning("stretch_abandoned", path=task.file.path, reason=why.message)
        return None


class _PartsOf:
    """A stretch of an upload that is not ours to end."""

    def __init__(self, upload: Upload, stretch: Stretch) -> None:
        self.token = upload.token
        self._upload = upload
        self._first = stretch.first
        here = range(stretch.first, stretch.first + stretch.count)
        self.done = frozenset(index - stretch.first for index in upload.done if index in here)

    def open_part(self, index: int) -> PartSink:
        return self._upload.open_part(self._first + index)

    def finish(self) -> str:
        return ""

    def abort(self) -> None:
        self._upload.suspend()

    def suspend(self) -> None:
        self._upload.suspend()


@dataclass(frozen=True)
class Carried:
    """What a share came to: the records of its whole files by path, and its bytes, those of stretches included.

    `checksums` are those of the stretches whose bytes this process has seen, by path, where such can be joined.
    """

    records: dict[str, FileRecord]
    bytes: int
    checksums: dict[str, str] = field(default_factory=dict)

    @property
    def files(self) -> int:
        """How many whole files it has."""
        return len(self.records)

    @property
    def told(self) -> dict[str, Any]:
        """What index 0 learns of it."""
        return {"bytes": self.bytes, "checksums": self.checksums}


def carry_steps(
    run: Run,
    journal: Journal,
    steps: Sequence[Step],
    stretches: Sequence[Stretch],
    unproved: Sequence[Step] = (),
) -> Carried:
    """Carry whole files and stretches side by side; `unproved` are files that are there and have not been read back.

    Raises as `copying.copy`.
    """
    errand = ShareErrand(
        run.source, run.destination, journal, cut=run.cut, stretches=stretches, digest=run.settings.digest
    )
    pieces = [stretch.task(hashed=run.settings.digest == COMBINES) for stretch in stretches]
    records = copy(run, [*pieces, *steps], journal, unproved=unproved, errand=errand)
    sizes = [step.file.size for step in steps]
    return Carried(records, sum(sizes) + sum(stretch.size for stretch in stretches), errand.checksums)


def stretches_of(plan: SharedPlan, index: int) -> list[Stretch]:
    """The stretches of share `index`."""
    files = plan.files
    return [
        Stretch(files[piece.path].file, files[piece.path].cut, piece.first, piece.count, files[piece.path].token)
        for piece in plan.portions[index].ranges
    ]


def carry_share(run: Run, plan: SharedPlan, index: int, wanted: Listing, *, holder: Holder) -> Carried | None:
    """Carry share `index` of `plan` under its lease, as one pod; None where another has done that before.

    `wanted` is the source's listing: what it does not have is left to index 0, whatever the plan says.  What comes of
    the share is at the destination and in the journal when this returns.
    """
    control = run.destination.control
    journal = _journal(run, plan, index)
    lease = _lease(run, plan, index, journal, holder=holder)
    journal.guard = lease.still_ours
    with lease:
        if board.read_done(control, plan.run, index) is not None:
            return None
        if not board.is_shared(control, plan.run):
            # Our turn came when all was over: nothing of ours may go into a folder that is sealed by now.
            raise board.PlanReplaced(run.destination.name)
        again = board.was_begun(control, plan.run, index)
        board.note_begun(control, plan.run, index)
        carried = _carry(run, plan, index, wanted, journal, again=again)
        lease.confirm()
        board.note_done(control, plan.run, index, carried.told)
    run.log.info("share_carried", share=index, shares=plan.count, files=carried.files, bytes=carried.bytes)
    return carried


def _lease(run: Run, plan: SharedPlan, index: int, journal: Journal, *, holder: Holder) -> Lease:
    """The lease of one share: only one pod at a time is at work on it.

    With each beat the journal is written, and the run is stopped when index 0 shares another work by now.
    """
    control = run.destination.control

    def beat() -> None:
        journal.flush()
        if not board.is_shared(control, plan.run):
            run.stop.throw(board.PlanReplaced(run.destination.name))

    return Lease(
        control,
        run.stop,
        # A share may take hours: who gave up on one that is carried would fail the Job after some tries.
        patience=math.inf,
        every_beat=beat,
        told=lambda message: run.log.warning("lease_awaited", reason=message),
        holder=holder,
        name=board.lease_name(plan.run, index),
        what=f"share {index} of {run.destination.name}",
    )


def _carry(run: Run, plan: SharedPlan, index: int, wanted: Listing, journal: Journal, *, again: bool) -> Carried:
    """The files and stretches of a share, `again` after a pod that did not end."""
    steps, unproved, kept = _steps(run, plan, index, wanted, again=again)
    if isinstance(run.destination, SparesForeign) and not run.settings.transfer.force:
        run.destination.spare([step.file.path for step in steps if step.existing is None])
    if again:
        resumed = {step.resume for step in steps if step.resume}
        paths = {step.file.path for step in steps}
        state.abort_strays(run.destination, planned=paths, resumed=resumed)
    stretches = [each for each in stretches_of(plan, index) if each.file.path in wanted.files]
    carried = carry_steps(run, journal, steps, stretches, unproved)
    journal.flush()
    run.destination.commit(Manifest(source=plan.source, revision=plan.revision, files=carried.records))
    return replace(carried, records=kept | carried.records)


def _journal(run: Run, plan: SharedPlan, index: int) -> Journal:
    """One pod's journal for one share: all records of a run begin with its name, those of a share with its number."""
    journal = Journal(run.destination.control, source=plan.source)
    journal.run = f"{_records_of(plan, index)}-{journal.run}"
    return journal


def _records_of(plan: SharedPlan, index: int) -> str:
    return f"{plan.run}-{index:05}"


def _steps(
    run: Run, plan: SharedPlan, index: int, wanted: Listing, *, again: bool
) -> tuple[list[Step], list[Step], dict[str, FileRecord]]:
    """What to copy of the whole files of a share, what to read back alone, and what is done.

    A step's `existing` is None where nothing may lie when the file comes: nothing did when the run was planned, and no
    pod that has had the share before can have put it there.
    """
    control = run.destination.control
    there, finished, ours = Listing({}), dict[str, FileRecord](), frozenset[str]()
    if again:
        there = run.destination.listing()
        finished = state.finished_files(control, source=plan.source, of=_records_of(plan, index))
        ours = state.planned_paths(control)
    steps: list[Step] = []
    unproved: list[Step] = []
    kept: dict[str, FileRecord] = {}
    for path in plan.portions[index].whole:
        shared, existing, record = plan.files[path], there.files.get(path), finished.get(path)
        if (listed := wanted.files.get(path)) is None:
            continue
        same = (listed.size, listed.version) == (shared.file.size, shared.file.version)
        file = listed if same else shared.file  # the listed one knows its digests, too
        free = shared.vacant and not (existing is not None and path in ours)
        step = Step(file, shared.cut, shared.token, why=Why.NEW, existing=None if free else existing or shared.file)
        if record is None or existing is None or not _as_written(record, existing):
            steps.append(_resumed(control, plan, step) if again and step.cut.count > 1 else step)
        elif record.awaits_proof:
            unproved.append(step)
        else:
            kept[path] = record
    return steps, unproved, kept


def _resumed(control: ControlFolder, plan: SharedPlan, step: Step) -> Step:
    """The step, going on with what a pod has left that had the share before."""
    left = state.open_file(control, step.file.path)
    known = (plan.source, step.file.size, step.file.version)
    if left is None or (left.source, left.size, left.source_version) != known:
        return step
    return replace(step, cut=Cut(left.size, left.part_size), resume=left.token, why=Why.RESUMED)


def _as_written(record: FileRecord, existing: ModelFile) -> bool:
    """Whether the file lies there as a pod has left it."""
    return bool(record.destination_version) and (record.destination_version, record.size) == (
        existing.version,
        existing.size,
    )
