"""One destination's chapter, from its own listing to its seal: plan, carry, prove, delete what may go, commit, seal.

`job.py` has the story around it: the source is listed before, and the registry learns of the model between commit and
seal.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace

from syncer import journal as state
from syncer import marker, preflight
from syncer.copying import Run, carry, settle
from syncer.errors import NotThereYet, SyncerError
from syncer.journal import Journal
from syncer.lease import Holder, Lease
from syncer.manifest import Listing, Manifest
from syncer.plan import Options, Plan, Recovered, keep_all, make_plan
from syncer.progress import Progress, enter
from syncer.sharing.leading import Leader, take_over
from syncer.stores.protocols import KnownByTag, NamedByDigest, SparesForeign, TellsOrigin


@dataclass(frozen=True)
class Brought:
    """A destination that holds the whole model, proved and committed: what was done for it, in numbers.

    `seal` and `previous` are what lies there now: the seal is None where this run has removed it, or there was none.
    """

    run: Run
    lease: Lease
    manifest: Manifest
    seal: marker.Seal | None
    previous: Manifest | None
    copied_files: int
    copied_bytes: int
    deleted_files: int

    @property
    def digest(self) -> str:
        """The image's own digest where there is one, else the fingerprint of the content."""
        there = self.run.destination
        return there.digest if isinstance(there, NamedByDigest) else self.manifest.fingerprint


def bring(run: Run, wanted: Listing, *, holder: Holder, leases: ExitStack, join: bool = False) -> Brought:
    """Bring the destination to what `wanted` lists; the seal is left to who calls.

    The lease is entered into `leases`, for others may follow before the run is over.
    """
    enter(run.show, "waiting")
    if not run.in_place:
        await_destination(run)
    journal = Journal(run.destination.control, source=run.source.name)
    lease = Lease(
        run.destination.control,
        run.stop,
        patience=run.settings.wait_for_destination,
        every_beat=journal.flush,
        told=lambda message: run.log.warning("lease_awaited", reason=message),
        holder=holder,
    )
    journal.guard = lease.still_ours
    leases.enter_context(lease)
    return _bring(run, wanted, journal, lease, join=join)


def look(run: Run, wanted: Listing) -> Plan:
    """What `bring` would do, without a lease: nothing is written."""
    if not run.in_place:
        await_destination(run)
    there = run.destination.listing()
    return plan_for(run, wanted, there, previous=marker.read_manifest(run.destination.control, wanted, there))[0]


def seal(brought: Brought, ids: Mapping[str, str], *, begun: float) -> Brought:
    """Manifest, end of the state, and the marker as the last write; what stands already of these two is left alone."""
    run, manifest, there = brought.run, brought.manifest, brought.seal
    control = run.destination.control
    enter(run.show, "sealing")
    brought.lease.still_ours()  # the registry may have kept us for long
    if brought.previous != manifest:
        if there is not None:
            marker.unseal(control)  # a seal never stands over another manifest than its own
            there = None
        marker.write_manifest(control, manifest)
    # Also where all stands already: an image is sealed before its state goes, and a run may be killed in between; and
    # the last note of one that was suspended and replaced may come when all is over.
    state.clear(control)
    if there is not None and (there.fingerprint, there.source, there.revision) == (
        manifest.fingerprint,
        manifest.source,
        manifest.revision,
    ):
        run.log.info("seal_kept", completed_at=there.completed_at)
        return name_ids(brought, ids)
    now = dt.datetime.now(tz=dt.UTC)
    mark = marker.Seal(
        fingerprint=manifest.fingerprint,
        source=manifest.source,
        revision=manifest.revision,
        files=len(manifest.files),
        bytes=manifest.total_bytes,
        seconds=time.monotonic() - begun,
        completed_at=now.isoformat(timespec="seconds"),
        registry=ids,
        origin=manifest.origin,
    )
    marker.seal(control, mark)
    run.log.info("model_sealed", destination=run.destination.name, files=mark.files, bytes=mark.bytes)
    return replace(brought, seal=mark, previous=manifest)


def name_ids(brought: Brought, ids: Mapping[str, str]) -> Brought:
    """Write the registry's ids into the seal that stands, where it does not have them."""
    there = brought.seal
    if there is None or not ids or dict(there.registry) == ids:
        return brought
    mark = replace(there, registry=ids)
    marker.seal(brought.run.destination.control, mark)
    return replace(brought, seal=mark)


def await_destination(run: Run) -> None:
    """Bucket and endpoint may still be in the making: be patient with both, and with nothing else."""
    begun = time.monotonic()
    pause = 1.0
    while True:
        run.stop.check()
        try:
            run.destination.prepare()
        except SyncerError as error:
            waited = time.monotonic() - begun
            if not (error.retryable or isinstance(error, NotThereYet)):
                raise
            if waited + pause > run.settings.wait_for_destination:
                error.hint = error.hint or "S3_SYNC_WAIT_FOR_DESTINATION says how long to wait for it"
                raise
            run.log.warning("destination_awaited", reason=error.message, waited_seconds=round(waited))
            run.stop.wait(pause)
            pause = min(pause * 2, 10.0)
        else:
            return


def plan_for(
    run: Run, wanted: Listing, there: Listing, *, previous: Manifest | None, join: bool = False
) -> tuple[Plan, Recovered]:
    """What to do at the destination, and what an unfinished run has left there."""
    recovered = state.recover(run.destination.control, wanted, there)
    if run.in_place:
        return Plan(keep=keep_all(wanted, previous)), recovered
    settings, transfer = run.settings, run.settings.transfer
    # An image is exactly what its manifest says: what the source no longer has cannot stay in it.
    delete = "all" if isinstance(run.destination, NamedByDigest) else settings.delete
    options = Options(part_size=transfer.chunk_size, force=transfer.force, delete=delete, join=join)
    planned = make_plan(
        wanted,
        there,
        source=run.source.name,
        previous=previous,
        recovered=recovered,
        limits=run.destination.limits,
        options=options,
    )
    names = wanted.files.keys() | {record.path for record in planned.keep} if join else wanted.files.keys()
    problems = (*planned.problems, *run.destination.name_problems(names))
    theirs = run.destination.foreign() if isinstance(run.destination, KnownByTag) and not transfer.force else ""
    foreign = (*planned.foreign, theirs) if theirs else planned.foreign
    return replace(planned, problems=problems, foreign=foreign), recovered


def _bring(run: Run, wanted: Listing, journal: Journal, lease: Lease, *, join: bool) -> Brought:
    control = run.destination.control
    leader = _leader(run, wanted, journal, lease, join=join)
    enter(run.show, "planning")
    sealed, there = marker.read_seal(control), run.destination.listing()
    previous = marker.read_manifest(control, wanted, there)
    plan_, recovered = plan_for(run, wanted, there, previous=previous, join=join)
    del there  # tens of megabytes with a hundred thousand files, as each of these values: none lives for too long
    preflight.refuse_unfinished(plan_)
    preflight.refuse_unsafe(plan_, run.destination.name)
    if plan_.compare:
        run.log.info("files_compared", files=len(plan_.compare), reason="not ours, and perhaps the same")
        progress = Progress(
            total_bytes=2 * sum(step.file.size for step in plan_.compare), total_files=2 * len(plan_.compare)
        )
        with run.show(progress):
            plan_ = preflight.adopt_equal(plan_, run.engine(progress), run.source, run.destination)
    preflight.refuse_foreign(plan_, run.destination)
    preflight.refuse_full(plan_, run.destination)
    run.log.info(
        "plan_made",
        copy_files=len(plan_.copy),
        copy_bytes=plan_.copy_bytes,
        keep_files=len(plan_.keep),
        delete_files=len(plan_.delete),
        left_files=len(plan_.left),
    )
    run.announce()  # before the seal goes: the registry may still say no
    lease.still_ours()  # comparing may have taken long
    if not plan_.changes_nothing:
        marker.unseal(control)  # also a seal that we cannot read: it is not true any more
        if sealed is not None:
            run.log.info("seal_removed", reason="the folder is about to change")
        sealed = None
    _begin_writing(run, plan_, recovered, journal, leader)
    del recovered
    shares = leader is not None and (leader.adopted is not None or not plan_.changes_nothing)
    copied = leader.carry(plan_) if leader is not None and shares else carry(run, plan_, journal)
    copied_files, copied_bytes = len(plan_.copy), sum(copied[step.file.path].size for step in plan_.copy)
    plan_ = replace(plan_, copy=(), prove=())  # the records say it by now
    records = settle(run, wanted, copied, plan_.keep, journal)
    lease.confirm()
    if plan_.delete:
        run.destination.delete(plan_.delete)
        run.log.info("file_deleted", files=len(plan_.delete), paths=list(plan_.delete[:20]))
    manifest = Manifest(
        source=run.source.name,
        revision=run.source.revision,
        files=records,
        left={record.path: record for record in plan_.left},
        origin=run.source.origin if isinstance(run.source, TellsOrigin) else None,
    )
    run.destination.commit(manifest)
    return Brought(
        run,
        lease,
        manifest,
        seal=sealed,
        previous=previous,
        copied_files=copied_files,
        copied_bytes=copied_bytes,
        deleted_files=len(plan_.delete),
    )


def _leader(run: Run, wanted: Listing, journal: Journal, lease: Lease, *, join: bool) -> Leader | None:
    """What shares this run's work with other pods, if it is index 0 of several; nobody else writes here then."""
    share = run.settings.share
    pods = share.count if share is not None and not (join or run.in_place) else 1
    adopted = take_over(run, wanted, lease, count=pods)
    return Leader(run, wanted, lease, journal, pods, adopted) if pods > 1 else None


def _begin_writing(run: Run, plan_: Plan, recovered: Recovered, journal: Journal, leader: Leader | None) -> None:
    """Say what will be written where something will be, and see to what earlier runs have left open.

    What an adopted plan is about is said already, and other pods may take paths out of it this moment.
    """
    planned = {step.file.path for step in plan_.copy} | recovered.planned
    said = leader is not None and leader.adopted is not None and planned <= recovered.planned
    if not plan_.changes_nothing and not said:
        journal.open_run(planned)
    if planned:
        _abort_strays(run, plan_, recovered, planned, others=leader.others() if leader is not None else frozenset())
    if isinstance(run.destination, SparesForeign) and not run.settings.transfer.force:
        run.destination.spare([step.file.path for step in plan_.copy if step.existing is None])


def _abort_strays(run: Run, plan_: Plan, recovered: Recovered, planned: set[str], *, others: frozenset[str]) -> None:
    """Abort the open uploads of ours but for those that go on, and those at the files of `others`, who are at work."""
    resumed = {step.resume for step in plan_.copy if step.resume}
    remembered = [left for left in recovered.open_files.values() if left.path not in others]
    planned -= others
    strays = state.abort_strays(run.destination, planned=planned, resumed=resumed, remembered=remembered)
    if strays:
        run.log.info("upload_aborted", uploads=len(strays), paths=[stray.path for stray in strays[:20]])
