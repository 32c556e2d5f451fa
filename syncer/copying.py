"""The chapter between plan and seal: carry what the plan copies, and prove all of it at the destination."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace

from syncer import preflight
from syncer import verify as proof
from syncer.bandwidth import Throttle
from syncer.control_groups import processors
from syncer.errands import CopyErrand
from syncer.errors import InternalError, SyncerError, WrongBytes
from syncer.flight import Task
from syncer.journal import Journal
from syncer.logs import Log, logger
from syncer.manifest import FileRecord, Listing, ModelFile
from syncer.plan import Plan, cut_file
from syncer.progress import Progress, enter
from syncer.schedule import Sizing
from syncer.settings.locations import Settings
from syncer.stop import StopSwitch
from syncer.stores.protocols import Cut, Destination, Source
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
        throttle = Throttle(self.settings.transfer.bandwidth, self.stop)
        return Engine(sizing(self.settings), self.stop, progress, throttle=throttle)

    def cut(self, size: int) -> Cut | None:
        """How a file of `size` bytes is cut for the destination; None when it can hold no such file."""
        return cut_file(size, limits=self.destination.limits, part_size=self.settings.transfer.chunk_size)


def sizing(settings: Settings) -> Sizing:
    """How much at once, within what the user set."""
    transfer = settings.transfer
    return Sizing.choose(
        max_files=transfer.max_files,
        max_threads_per_file=transfer.max_threads_per_file,
        memory=transfer.memory,
        processors=processors(),
    )


def carry(run: Run, plan: Plan, journal: Journal) -> dict[str, FileRecord]:
    """Carry out `plan` but for its deletions; the records of what was copied and what was read back, by path."""
    return copy(run, plan.copy, journal, unproved=plan.prove)


def settle(
    run: Run, wanted: Listing, copied: dict[str, FileRecord], keep: Iterable[FileRecord], journal: Journal
) -> dict[str, FileRecord]:
    """Hold the destination's own listing against what `carry` has `copied`: the records of all that is there, by path.

    What is wrong is copied once more, and then it is `WrongBytes`.  The listing also tells the versions by which the
    next run knows these files again.
    """
    records = {record.path: record for record in keep}
    if not copied:
        return records
    enter(run.show, "proving")
    there = run.destination.listing()
    if wrong := proof.against_listing(copied, there).not_extra():
        run.log.warning("file_recopied", files=len(wrong), paths=wrong[:20])
        del there
        files = [wanted.files[path] for path in wrong]
        copied |= copy(run, [Task(file, cut) for file in files if (cut := run.cut(file.size))], journal)
        there = run.destination.listing()
        differences = proof.against_listing(copied, there)
        if differences.not_extra():
            raise replace(differences, extra=()).to_error()
    proof.refuse_changed(records, there)
    for path, record in copied.items():
        version = there.files[path].version
        records[path] = (
            record if record.destination_version == version else replace(record, destination_version=version)
        )
    return records


def copy(
    run: Run,
    steps: Sequence[Task],
    journal: Journal,
    *,
    unproved: Sequence[Task] = (),
    errand: CopyErrand | None = None,
) -> dict[str, FileRecord]:
    """Carry `steps` and prove what this process did not see whole; the records by path.

    An `errand` of its own may owe no record of some of them.
    """
    errand = errand or CopyErrand(run.source, run.destination, journal, cut=run.cut, digest=run.settings.digest)
    errand.unseen += unproved
    tasks = steps
    with closing(errand):
        try:
            while tasks or errand.unseen:
                progress = Progress(total_bytes=sum(task.file.size for task in tasks), total_files=len(tasks))
                enter(run.show, "copying")
                with run.show(progress):
                    run.engine(progress).run(errand, tasks)
                tasks = _read_back_unseen(run, errand)
        finally:
            # Also what a failing run got done is worth remembering; its own error is the one that counts.
            _quietly(run, journal.flush)
    preflight.refuse_appeared(errand.foreign, run.destination)
    if lost := [step.file.path for step in (*steps, *unproved) if errand.owes(step)]:
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
    enter(run.show, "proving")
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
        digests, failures = proof.of_unseen(run.engine(progress), run.destination, to_read, run.settings.digest)
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
