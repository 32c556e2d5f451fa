"""The chapter between plan and seal: carry what the plan copies, and prove all of it at the destination."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace

from syncer import preflight
from syncer import verify as proof
from syncer.errands import CopyErrand
from syncer.errors import InternalError, SyncerError, WrongBytes
from syncer.flight import Task
from syncer.journal import Journal
from syncer.logs import Log, logger
from syncer.manifest import FileRecord, Listing, ModelFile
from syncer.plan import Plan, Step, cut_file
from syncer.progress import Progress
from syncer.schedule import Sizing
from syncer.settings.locations import Settings
from syncer.stop import StopSwitch
from syncer.stores.protocols import Destination, Source
from syncer.transfer import Engine

Show = Callable[[Progress], AbstractContextManager[object]]


@dataclass
class Run:
    """What a run's chapters about one destination share.

    With `in_place` the destination is the source too: people have uploaded the model there.  `announce` is called when
    it is settled that the destination can take the model, before anything changes there.
    """

    settings: Settings
    stop: StopSwitch
    show: Show
    source: Source
    destination: Destination
    in_place: bool = False
    announce: Callable[[], None] = lambda: None
    log: Log = field(default_factory=lambda: logger(component="job"))

    def engine(self, progress: Progress) -> Engine:
        """An engine with the settings of this run, which tells `progress`."""
        return Engine(sizing(self.settings), self.stop, progress)


def sizing(settings: Settings) -> Sizing:
    """How much at once, within what the user set."""
    transfer = settings.transfer
    return Sizing.choose(
        max_files=transfer.max_files,
        max_threads_per_file=transfer.max_threads_per_file,
        memory=transfer.memory,
    )


def carry(run: Run, plan: Plan, journal: Journal) -> dict[str, FileRecord]:
    """Carry out `plan` but for its deletions; the records of everything that is at the destination then, by path.

    The destination's own listing is held against what was copied: what is wrong there is copied once more, and then it
    is `WrongBytes`.  The listing also tells the versions by which the next run knows these files again.
    """
    steps = {step.file.path: step for step in (*plan.copy, *plan.prove)}
    copied = _copy(run, plan.copy, journal, unproved=plan.prove)
    there = run.destination.listing() if copied else Listing({})
    if wrong := proof.against_listing(copied, there).not_extra():
        run.log.warning("file_recopied", files=len(wrong), paths=wrong[:20])
        copied |= _copy(run, tuple(replace(steps[path], resume="") for path in wrong), journal)
        there = run.destination.listing()
        differences = proof.against_listing(copied, there)
        if differences.not_extra():
            raise replace(differences, extra=()).to_error()
    proof.refuse_changed(plan.keep if copied else (), there)
    settled = {path: replace(record, destination_version=there.files[path].version) for path, record in copied.items()}
    return {record.path: record for record in plan.keep} | settled


def _copy(
    run: Run, steps: tuple[Step, ...], journal: Journal, *, unproved: tuple[Step, ...] = ()
) -> dict[str, FileRecord]:
    """Carry `steps` and prove what this process did not see whole; the records by path."""
    limits, part_size = run.destination.limits, run.settings.transfer.chunk_size
    errand = CopyErrand(
        run.source, run.destination, journal, cut=lambda size: cut_file(size, limits=limits, part_size=part_size)
    )
    errand.unseen += [Task(step.file, step.cut) for step in unproved]
    tasks = [Task(step.file, step.cut, step.resume) for step in steps]
    with closing(errand):
        try:
            while tasks or errand.unseen:
                progress = Progress(total_bytes=sum(task.file.size for task in tasks), total_files=len(tasks))
                with run.show(progress):
                    run.engine(progress).run(errand, tasks)
                tasks = _read_back_unseen(run, errand)
        finally:
            # Also what a failing run got done is worth remembering; its own error is the one that counts.
            _quietly(run, journal.flush)
    preflight.refuse_appeared(errand.foreign, run.destination)
    if lost := [step.file.path for step in (*steps, *unproved) if step.file.path not in errand.records]:
        raise InternalError(f"{len(lost)} file(s) were planned and not copied, {lost[0]} among them")
    return errand.records


def _read_back_unseen(run: Run, errand: CopyErrand) -> list[Task]:
    """Prove files whose first bytes an earlier process sent by reading them back once.

    Returns those that are wrong and have to be copied again.
    """
    if not errand.unseen:
        return []
    tasks = {task.file.path: task for task in errand.unseen}
    errand.unseen.clear()
    run.log.info("verification_started", files=len(tasks), reason="this process did not see all of their bytes")
    there = run.destination.listing()
    wrong = []
    to_read = []
    for path, task in tasks.items():
        file = there.files.get(path)
        if file is None or file.size != task.file.size:
            wrong.append(task)
            continue
        errand.whole_but_unproved(task, version=file.version)
        to_read.append(ModelFile(path, file.size, file.version, task.file.digests))
    progress = Progress(total_bytes=sum(file.size for file in to_read), total_files=len(to_read))
    with run.show(progress):
        digests, failures = proof.read_back(run.engine(progress), run.destination, to_read)
    for path, found in digests.items():
        errand.proved(tasks[path], found)
    wrong += [tasks[path] for path in failures]
    again = [errand.again(task, failures.get(task.file.path) or _lost(task)) for task in wrong]
    return [task for task in again if task is not None]


def _lost(task: Task) -> WrongBytes:
    return WrongBytes(f"{task.file.path} is not at the destination as it was written", path=task.file.path)


def _quietly(run: Run, work: Callable[[], None]) -> None:
    try:
        work()
    except SyncerError as error:
        run.log.warning("journal_write_failed", error=error.message)
