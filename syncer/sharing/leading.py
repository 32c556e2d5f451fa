"""Index 0: it plans for all pods, carries its own share, waits for the others, and ends what only one can end.

It is the run of the lease.  A replacement of it finds the plan that the lost one has shared and goes on with it, so
that the other pods, which may be in the middle of their shares, notice nothing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from syncer import journal as state
from syncer.copying import Run, copy
from syncer.digests import joined
from syncer.errands import CopyErrand
from syncer.errors import NotThereYet, SyncerError
from syncer.flight import Task
from syncer.journal import Journal
from syncer.lease import SILENCE_SECONDS, Holder, Lease
from syncer.manifest import DigestName, FileRecord, Listing
from syncer.marker import parse_json
from syncer.plan import Plan, Step
from syncer.progress import enter
from syncer.retry import PART, retrying
from syncer.settings.locations import S3Location
from syncer.settings.rules import same_service
from syncer.shares import READ_BACK, RULE
from syncer.sharing import board
from syncer.sharing.board import SharedFile, SharedPlan
from syncer.sharing.carrying import COMBINES, carry_share, carry_steps, stretches_of
from syncer.stop import Clock
from syncer.stores.protocols import SparesForeign

_CHECKSUM: Final = re.compile(r"[0-9a-f]{16}")
_LOOKS: Final = 4
"""How often in the patience of a run the pods themselves are looked at: a request for each."""


def take_over(run: Run, wanted: Listing, lease: Lease, *, count: int) -> SharedPlan | None:
    """What an earlier run has shared here: its plan, if it is of this very work; else its pods are told to stop.

    Returns when no pod of another work writes here any more.  `count` is that of our own pods; 1 shares nothing.
    Raises before it takes away what a run has shared that has replaced this one meanwhile.
    """
    control = run.destination.control
    notice = board.read_notice(control)
    if notice is None:
        return None
    plan = board.read_plan(control, notice.run) if notice.run and notice.rule == RULE else None
    source, forced = run.source, run.settings.transfer.force
    if plan is not None and plan.is_of(
        wanted, source=source.name, revision=source.revision, count=count, forced=forced
    ):
        return plan
    lease.confirm()
    board.withdraw(control)
    _await_silence(run)
    lease.confirm()
    for name in control.names(state.SHARES):
        control.remove(name)
    control.remove(state.SHARE)
    return None


def _await_silence(run: Run, *, clock: Clock = time.monotonic) -> None:
    """Until no pod is at work on a share: each gives its lease back, or is silent for as long as a lost one."""
    control, begun = run.destination.control, clock()
    seen: dict[str, tuple[bytes, float]] = {}
    while True:
        alive = []
        for name in board.leases(control):
            found = control.read(name)
            if found is None or Holder.of(parse_json(found[0]) or {}).is_gone():
                continue
            data, since = seen.get(name, (b"", 0.0))
            if data != found[0]:
                seen[name] = data, since = found[0], clock()
            if clock() - since < SILENCE_SECONDS:
                alive.append(name)
        if not alive:
            return
        if clock() - begun > run.settings.wait_for_destination + SILENCE_SECONDS:
            raise NotThereYet(
                f"{len(alive)} pod(s) of another run are at work on their shares of {run.destination.name}",
                hint="let them finish or stop them; S3_SYNC_WAIT_FOR_DESTINATION says how long to wait for them",
                stage="lease",
            )
        run.stop.wait(board.POLL_SECONDS)
        run.stop.check()


@dataclass
class Leader:
    """Index 0 of a run that shares its work; `adopted` is the plan that it goes on with, None for one of its own.

    `clock` is for tests.
    """

    run: Run
    wanted: Listing
    lease: Lease
    journal: Journal
    count: int
    adopted: SharedPlan | None = None
    clock: Clock = time.monotonic

    def __post_init__(self) -> None:
        if self.adopted is not None:
            self.journal.run = f"{self.adopted.run}-leader-{self.journal.run}"

    def others(self) -> frozenset[str]:
        """The files that other pods may be at work on this moment: their open uploads are not left over."""
        if self.adopted is None:
            return frozenset()
        return frozenset(path for portion in self.adopted.portions[1:] for path in portion.whole) | self.adopted.cut

    def carry(self, plan: Plan) -> dict[str, FileRecord]:
        """Carry out `plan` together with the other pods; the same as `copying.carry`."""
        run, control = self.run, self.run.destination.control
        shared = self.adopted or self._planned(plan.copy)
        self.lease.confirm()
        if self.adopted is None:
            board.publish(control, shared, holder=self.lease.holder.identity)
        else:
            board.lead(control, shared, holder=self.lease.holder.identity)
        cuts = {path: each.cut for path, each in shared.files.items()}
        sizes = [portion.bytes(cuts) for portion in shared.portions]
        run.log.info(
            "work_shared",
            run=shared.run,
            pods=shared.count,
            files=len(shared.files),
            cut_files=len(shared.cut),
            smallest_share_bytes=min(sizes),
            largest_share_bytes=max(sizes),
            again=self.adopted is not None,
        )
        steps = {step.file.path: step for step in plan.copy}
        own = [steps[path] for path in shared.portions[0].whole if path in steps]
        was_done = board.read_done(control, shared.run, 0) is not None
        stretches = [] if was_done else [each for each in stretches_of(shared, 0) if each.file.path in steps]
        carried = carry_steps(run, self.journal, own, stretches)
        if not was_done:
            board.note_done(control, shared.run, 0, carried.told)
        run.log.info("share_carried", share=0, shares=shared.count, files=carried.files, bytes=carried.bytes)
        self._await_others(shared)
        return self._finish(shared, plan, carried.records)

    def _planned(self, steps: Sequence[Step]) -> SharedPlan:
        """A plan of our own, with an upload open for each file that several pods will send parts of."""
        run, name = self.run, self.journal.run
        files = {step.file.path: _shared(step) for step in steps}
        plan = SharedPlan(
            run=name,
            source=run.source.name,
            revision=run.source.revision,
            count=self.count,
            files=files,
            apart=run.destination.limits.parts_from_many and not _copies_inside(run),
            read_back=0.0 if run.settings.digest == COMBINES else READ_BACK,
            forced=run.settings.transfer.force,
        )
        self.journal.run = f"{name}-leader"
        errand = CopyErrand(run.source, run.destination, self.journal, cut=run.cut, digest=run.settings.digest)
        for step in steps:
            if step.file.path in plan.cut:
                token = self._open(errand, step)
                files[step.file.path] = replace(files[step.file.path], token=token)
        return plan

    def _open(self, errand: CopyErrand, step: Step) -> str:
        def tell(error: SyncerError, pause: float) -> None:
            self.run.log.warning(
                "part_retried", path=step.file.path, pause_seconds=round(pause, 2), error=error.message
            )

        upload = retrying(lambda: errand.begin(step), patience=PART, stop=self.run.stop, on_retry=tell)
        upload.suspend()
        return upload.token

    def _await_others(self, shared: SharedPlan) -> None:
        """Until all shares are done.  One that no pod is at work on for long is carried here.

        There is no limit to it: a lost pod is replaced, and when the cluster gives up on one for good it ends the Job,
        and this pod with it.
        """
        run, patience = self.run, max(self.run.settings.wait_for_destination, board.POLL_SECONDS)
        looked_at, told_at = self.clock(), float("-inf")
        enter(run.show, "waiting")
        seen: dict[int, tuple[bytes, float]] = {}
        while missing := sorted(frozenset(range(1, shared.count)) - self._done(shared)):
            now = self.clock()
            if now - told_at >= run.settings.reporting.progress_interval:
                run.log.info("shares_awaited", shares=shared.count, missing_shares=len(missing), missing=missing[:20])
                told_at = now
            if now - looked_at >= patience / _LOOKS:
                looked_at = now
                for index in missing:
                    beat = self._beat(shared, index)
                    data, since = seen.setdefault(index, (beat, now))
                    if data != beat:
                        seen[index] = beat, now
                    elif now - since >= (max(patience, SILENCE_SECONDS) if beat else patience):
                        self._stand_in(shared, index)
            run.stop.wait(board.POLL_SECONDS)
            run.stop.check()

    def _done(self, shared: SharedPlan) -> frozenset[int]:
        """The shares that are done; an outage of the store is no reason to begin anew."""
        control = self.run.destination.control
        return retrying(lambda: board.done(control, shared.run), patience=PART, stop=self.run.stop)

    def _beat(self, shared: SharedPlan, index: int) -> bytes:
        found = self.run.destination.control.read(board.lease_name(shared.run, index))
        return b"" if found is None else found[0]

    def _stand_in(self, shared: SharedPlan, index: int) -> None:
        """Carry a share that has no pod."""
        self.run.log.warning("share_adopted", share=index, reason="no pod has been at work on it for long")
        carry_share(self.run, shared, index, self.wanted, holder=self.lease.holder)

    def _finish(self, shared: SharedPlan, plan: Plan, copied: dict[str, FileRecord]) -> dict[str, FileRecord]:
        """What is left when all shares are done: to complete and read back the cut files, and whatever was left."""
        run = self.run
        done: Mapping[str, FileRecord] = state.finished_files(
            run.destination.control, source=shared.source, of=shared.run
        )
        whole = {step.file.path for step in plan.prove}
        left: list[Step] = []
        unproved: list[Step] = []
        for step in (*plan.copy, *plan.prove):
            path = step.file.path
            if path in copied:
                continue
            record = done.get(path)
            if record is not None and not record.awaits_proof:
                copied[path] = record
            elif record is not None or path in whole:
                unproved.append(step)
            else:
                left.append(_resumed(step, shared) if path in shared.cut else step)
        if isinstance(run.destination, SparesForeign) and not run.settings.transfer.force:
            run.destination.spare([step.file.path for step in left if step.existing is None])
        errand = _LastErrand(run, self.journal, self._checksums(shared))
        return copied | copy(run, left, self.journal, unproved=unproved, errand=errand)

    def _checksums(self, shared: SharedPlan) -> dict[str, str]:
        """The checksums of the cut files of which each stretch has one: they need not be read back."""
        if self.run.settings.digest != COMBINES:
            return {}
        found: dict[str, list[tuple[int, int, str]]] = {path: [] for path in shared.cut}
        for index in range(shared.count):
            told = (board.read_done(self.run.destination.control, shared.run, index) or {}).get("checksums")
            for stretch in stretches_of(shared, index):
                checksum = told.get(stretch.file.path) if isinstance(told, dict) else None
                if isinstance(checksum, str) and _CHECKSUM.fullmatch(checksum):
                    found[stretch.file.path].append((stretch.offset, stretch.size, checksum))
        sizes = {path: shared.files[path].file.size for path in found}
        whole = [path for path, those in found.items() if sum(size for _, size, _ in those) == sizes[path]]
        return {path: joined(found[path], sizes[path]) for path in whole}


class _LastErrand(CopyErrand):
    """Copies what is left; a file of which all bytes were seen by the pods that sent them is not read back."""

    def __init__(self, run: Run, journal: Journal, checksums: Mapping[str, str]) -> None:
        super().__init__(run.source, run.destination, journal, cut=run.cut, digest=run.settings.digest)
        self._checksums = checksums

    def done(self, task: Task, *, version: str, digests: dict[DigestName, str]) -> None:
        """See `CopyErrand`."""
        seen = self._checksums.get(task.file.path)
        super().done(task, version=version, digests=digests or ({COMBINES: seen} if seen else {}))


def _shared(step: Step) -> SharedFile:
    return SharedFile(step.file, step.cut.part_size, step.resume, vacant=step.existing is None)


def _resumed(step: Step, shared: SharedPlan) -> Step:
    """The step of a cut file, going on with the upload that all pods have sent parts to."""
    each = shared.files[step.file.path]
    return replace(step, cut=each.cut, resume=each.token)


def _copies_inside(run: Run) -> bool:
    """Whether the store may copy whole files by itself, which is cheaper than any share of one."""
    source, destination = run.settings.source, run.settings.destination
    return isinstance(source, S3Location) and isinstance(destination, S3Location) and same_service(source, destination)
