"""The whole story, from two locations to a sealed model: read this first.

`sync` lists both ends, plans, carries, proves, deletes what it may, registers and seals.  `plan` stops before the first
byte, `verify` and `register` start after the last one.  The functions raise the errors of `syncer.errors`; who calls
them reports.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace

from syncer import journal as state
from syncer import marker, preflight, registering, stores
from syncer import verify as proof
from syncer.attempts import on_one_login
from syncer.copying import Run, Show, carry, sizing
from syncer.errors import ConfigurationError, NotThereYet, SourceMissing, SyncerError
from syncer.journal import Journal
from syncer.lease import Holder, Lease
from syncer.manifest import Listing, Manifest
from syncer.plan import Options, Plan, Recovered, keep_all, make_plan
from syncer.progress import Progress
from syncer.retry import LONGEST_ASKED, Patience, retrying
from syncer.settings.locations import CosLocation, Settings, UploadedByHand
from syncer.stop import StopSwitch
from syncer.stores.protocols import Destination, Source
from syncer.transfer import Engine

SOURCE_PATIENCE = Patience(seconds=60.0, first_pause=1.0, longest_pause=10.0, longest_asked=LONGEST_ASKED)
"""For a source that does not answer; the destination has a setting of its own."""


@dataclass(frozen=True)
class Result:
    """What a run achieved.

    `registry` has the ids of what was registered.  `skipped` says why there was nothing to do, and is empty otherwise.
    """

    source: str
    destination: str = ""
    uri: str = ""
    revision: str = ""
    digest: str = ""
    files: int = 0
    bytes: int = 0
    copied_bytes: int = 0
    copied_files: int = 0
    deleted_files: int = 0
    seconds: float = 0.0
    registry: Mapping[str, str] = field(default_factory=dict)
    skipped: str = ""


def sync(settings: Settings, stop: StopSwitch, show: Show, *, join: bool = False) -> Result:
    """Bring the destination to what the source has, prove it and seal it.

    With `join` the source's files come to the model that is there, instead of being the model.
    """
    begun = time.monotonic()
    source_name = settings.source.uri if settings.source else ""
    if settings.destination is None:
        return Result(source=source_name, skipped="no destination is configured, so there is nothing to look at")
    if skipped := settings.skip & {"download", "upload"}:
        return Result(source=source_name, skipped=f"SKIP_TASKS names {', '.join(sorted(skipped))}")
    if isinstance(settings.source, CosLocation) and settings.source.logs_in_once:
        return _with_one_passcode(settings, stop, show, begun=begun)
    with _opened(settings, stop, show, registers=True) as run:
        return _attempt(run, Holder(), begun=begun, join=join)


def plan(settings: Settings, stop: StopSwitch) -> Plan:
    """What `sync` would do now; nothing is written anywhere, and no lease is taken."""
    with _opened(settings, stop, _in_silence) as run:
        wanted = _list_source(run)
        _await_destination(run)
        previous = marker.read_manifest(run.destination.control)
        return _plan(run, wanted, run.destination.listing(), previous=previous)[0]


def verify(settings: Settings, stop: StopSwitch, show: Show) -> proof.Differences:
    """Read everything at the destination back and compare it with the manifest that lies there."""
    with open_destination(settings, stop) as destination:
        manifest = marker.read_manifest(destination.control)
        if manifest is None:
            raise SourceMissing(
                f"{destination.name} has no manifest: no run has proved anything there yet",
                hint="check the destination's path, or synchronize first",
                stage="verify",
            )
        there = destination.listing()
        progress = Progress(total_bytes=manifest.total_bytes, total_files=len(manifest.files))
        engine = Engine(sizing(settings), stop, progress)
        with show(progress):
            return proof.everything(engine, destination, manifest, there)


def register(settings: Settings, stop: StopSwitch, *, version_from: str = "") -> Result:
    """Register the sealed model that lies at the destination, and write the registry's ids into its seal."""
    if "register" in settings.skip:
        return Result(source="", skipped="SKIP_TASKS names register")
    with registering.opened(settings, stop) as registration:
        if registration is None:
            raise ConfigurationError("no Model Registry is configured", hint="set MODEL_REGISTRY_URL and MODEL_NAME")
        registration.check()
        with open_destination(settings, stop) as destination:
            seal = registering.sealed_model(settings, destination, registration, stop, version_from=version_from)
            return Result(
                source=seal.source,
                destination=destination.name,
                uri=destination.uri,
                revision=seal.revision,
                digest=seal.fingerprint,
                files=seal.files,
                bytes=seal.bytes,
                registry=seal.registry,
            )


@contextmanager
def open_destination(settings: Settings, stop: StopSwitch) -> Iterator[Destination]:
    """The destination, closed again whatever happens; a stop wakes whoever waits there for a silent peer."""
    destination = stores.open_destination(settings.destination, settings.network)
    with closing(destination), stop.waking(destination.interrupt):
        yield destination


# The chapters of a synchronization -----------------------------------------------------------------------------------


def _with_one_passcode(settings: Settings, stop: StopSwitch, show: Show, *, begun: float) -> Result:
    """A run whose attempts open both ends anew, resume what the one before left, and take its login and lease over."""
    former: Source | None = None
    holder = Holder()

    def attempt(ours: StopSwitch) -> Result:
        nonlocal former
        with _opened(settings, ours, show, former=former, registers=True) as run:
            former = run.source
            return _attempt(run, holder, begun=begun)

    return on_one_login(attempt, stop)


def _attempt(run: Run, holder: Holder, *, begun: float, join: bool = False) -> Result:
    """From two listings to the seal."""
    if isinstance(run.settings.source, UploadedByHand):
        _ask_registry(run)
        _await_destination(run)
        wanted = _list_source(run)
    else:
        wanted = _list_source(run)  # first of all: a passcode lives for five minutes
        _ask_registry(run)
        _await_destination(run)
    journal = Journal(run.destination.control, source=run.source.name)
    lease = Lease(
        run.destination.control,
        run.stop,
        patience=run.settings.wait_for_destination,
        every_beat=journal.flush,
        told=lambda message: run.log.warning("lease_awaited", reason=message),
        holder=holder,
    )
    with lease, registering.taken_back_on_failure(run.registration):
        return _synchronize(run, wanted, journal, lease, begun=begun, join=join)


def _synchronize(run: Run, wanted: Listing, journal: Journal, lease: Lease, *, begun: float, join: bool) -> Result:
    control = run.destination.control
    seal, previous = marker.read_seal(control), marker.read_manifest(control)
    plan_, recovered = _plan(run, wanted, run.destination.listing(), previous=previous, join=join)
    preflight.refuse_unfinished(plan_)
    preflight.refuse_unsafe(plan_, run.destination.name)
    if plan_.compare:
        run.log.info("files_compared", files=len(plan_.compare), reason="not ours, and perhaps the same")
        progress = Progress(
            total_bytes=2 * sum(step.file.size for step in plan_.compare), total_files=2 * len(plan_.compare)
        )
        with run.show(progress):
            plan_ = preflight.adopt_equal(plan_, run.engine(progress), run.source, run.destination)
    preflight.refuse_foreign(plan_)
    preflight.refuse_full(plan_, run.destination)
    run.log.info(
        "plan_made",
        copy_files=len(plan_.copy),
        copy_bytes=plan_.copy_bytes,
        keep_files=len(plan_.keep),
        delete_files=len(plan_.delete),
        left_files=len(plan_.left),
    )
    planned = {step.file.path for step in plan_.copy} | recovered.planned
    if run.registration is not None:
        run.registration.begin()  # before the seal goes: the registry may still say no
    if not plan_.changes_nothing:
        marker.unseal(control)  # also a seal that we cannot read: it is not true any more
        if seal is not None:
            run.log.info("seal_removed", reason="the folder is about to change")
        seal = None
        journal.open_run(planned)
    if planned:
        _abort_strays(run, plan_, recovered, planned)
    records = carry(run, plan_, journal)
    lease.confirm()
    if plan_.delete:
        run.destination.delete(plan_.delete)
        run.log.info("file_deleted", files=len(plan_.delete), paths=list(plan_.delete[:20]))
    run.destination.commit()
    manifest = Manifest(
        source=run.source.name,
        revision=run.source.revision,
        files=records,
        left={record.path: record for record in plan_.left},
    )
    ids = registering.committed_model(run.settings, run.destination, run.registration, manifest)
    _seal(run, manifest, seal=seal, previous=previous, ids=ids, begun=begun)
    return Result(
        source=run.source.name,
        destination=run.destination.name,
        uri=run.destination.uri,
        revision=run.source.revision,
        digest=manifest.fingerprint,
        files=len(records),
        bytes=manifest.total_bytes,
        copied_bytes=sum(records[step.file.path].size for step in plan_.copy),
        copied_files=len(plan_.copy),
        deleted_files=len(plan_.delete),
        seconds=time.monotonic() - begun,
        registry=ids,
    )


def _ask_registry(run: Run) -> None:
    if run.registration is not None:
        run.registration.check()


def _list_source(run: Run) -> Listing:
    def tell(error: SyncerError, pause: float) -> None:
        run.log.warning("source_awaited", source=run.source.name, reason=error.message, pause_seconds=round(pause, 1))

    listing = retrying(run.source.listing, patience=SOURCE_PATIENCE, stop=run.stop, on_retry=tell)
    run.log.info("source_listed", source=run.source.name, files=len(listing.files), bytes=listing.total_bytes)
    return listing


def _await_destination(run: Run) -> None:
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


def _plan(
    run: Run, wanted: Listing, there: Listing, *, previous: Manifest | None, join: bool = False
) -> tuple[Plan, Recovered]:
    control = run.destination.control
    recovered = state.recover(control)
    if isinstance(run.settings.source, UploadedByHand):
        return Plan(keep=keep_all(wanted, previous)), recovered
    settings, transfer = run.settings, run.settings.transfer
    options = Options(part_size=transfer.chunk_size, force=transfer.force, delete=settings.delete, join=join)
    planned = make_plan(
        wanted,
        there,
        source=run.source.name,
        previous=previous,
        recovered=recovered,
        limits=run.destination.limits,
        options=options,
    )
    names = wanted.files.keys() | {record.path for record in planned.keep}
    problems = (*planned.problems, *run.destination.name_problems(names))
    return replace(planned, problems=problems), recovered


def _abort_strays(run: Run, plan_: Plan, recovered: Recovered, planned: set[str]) -> None:
    resumed = {step.resume for step in plan_.copy if step.resume}
    remembered = recovered.open_files.values()
    strays = state.abort_strays(run.destination, planned=planned, resumed=resumed, remembered=remembered)
    if strays:
        run.log.info("upload_aborted", uploads=len(strays), paths=[stray.path for stray in strays[:20]])


def _seal(
    run: Run,
    manifest: Manifest,
    *,
    seal: marker.Seal | None,
    previous: Manifest | None,
    ids: Mapping[str, str],
    begun: float,
) -> None:
    """Manifest, end of the state, and the marker as the last write; nothing at all when all of it stands already."""
    control = run.destination.control
    if previous is None or previous.to_json() != manifest.to_json():
        if seal is not None:
            marker.unseal(control)  # a seal never stands over another manifest than its own
        marker.write_manifest(control, manifest)
    elif seal is not None and (seal.fingerprint, seal.source, seal.revision) == (
        manifest.fingerprint,
        manifest.source,
        manifest.revision,
    ):
        if ids and dict(seal.registry) != ids:
            marker.seal(control, replace(seal, registry=ids))
        run.log.info("seal_kept", completed_at=seal.completed_at)
        return
    state.clear(control)
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
    )
    marker.seal(control, mark)
    run.log.info("model_sealed", destination=run.destination.name, files=mark.files, bytes=mark.bytes)


# Small things --------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(
    settings: Settings, stop: StopSwitch, show: Show, *, former: Source | None = None, registers: bool = False
) -> Iterator[Run]:
    """Both ends, and the registry for who `registers`, closed again whatever happens."""
    if settings.source is None:
        raise ConfigurationError("no source is configured", hint="set S3_SYNC_SRC__PATH in the model-source Secret")
    with open_destination(settings, stop) as destination:
        source = stores.open_source(settings.source, settings.network, destination=destination, former=former)
        registry = registering.opened(settings if registers else None, stop)
        with closing(source), stop.waking(source.interrupt), registry as registration:
            yield Run(settings, stop, show, source, destination, registration)


@contextmanager
def _in_silence(_progress: Progress) -> Iterator[None]:
    yield
