"""The whole story, from two locations to a sealed model: read this first.

`sync` lists both ends, plans, carries, proves, deletes what it may, registers and seals.  `plan` stops before the first
byte, `verify` and `register` start after the last one.  The functions raise the errors of `syncer.errors`; who calls
them reports.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace

from syncer import bringing, marker, registering, several, stores
from syncer import verify as proof
from syncer.attempts import on_one_login
from syncer.bandwidth import Throttle
from syncer.bringing import Brought
from syncer.copying import Show, sizing
from syncer.ends import Announcement, Ends
from syncer.errors import ConfigurationError, SourceMissing, SyncerError
from syncer.lease import Holder
from syncer.manifest import Listing
from syncer.plan import Plan
from syncer.progress import Progress, enter
from syncer.retry import LONGEST_ASKED, Patience, retrying
from syncer.settings.locations import (
    CosLocation,
    DestinationLocation,
    DirectoryLocation,
    Settings,
    Share,
    UploadedByHand,
)
from syncer.stop import StopSwitch
from syncer.stores.abilities import Seen
from syncer.stores.protocols import Destination, Source
from syncer.transfer import Engine

SOURCE_PATIENCE = Patience(seconds=60.0, first_pause=1.0, longest_pause=10.0, longest_asked=LONGEST_ASKED)
"""For a source that does not answer; the destination has a setting of its own."""


@dataclass(frozen=True)
class Result:
    """What a run achieved.

    `uris` are those of all destinations, in their order, and `digest` has one for each, separated by commas.  Files and
    bytes are the model's; what was copied and deleted counts at each destination.  `registry` has the ids of what was
    registered and `title` what it is called there, `bytes_before` what the original has where it was compressed.
    `skipped` says why there was nothing to do, and is empty otherwise.  `share` says which share of the work this was,
    if it was only one: then files and bytes are those of the share, and the model is not sealed yet.
    """

    source: str
    destination: str = ""
    uris: tuple[str, ...] = ()
    revision: str = ""
    digest: str = ""
    files: int = 0
    bytes: int = 0
    bytes_before: int = 0
    copied_bytes: int = 0
    copied_files: int = 0
    deleted_files: int = 0
    seconds: float = 0.0
    registry: Mapping[str, str] = field(default_factory=dict)
    title: str = ""
    skipped: str = ""
    share: str = ""

    @property
    def uri(self) -> str:
        """Where the model can be opened: the first of `uris`; empty when it is nowhere."""
        return self.uris[0] if self.uris else ""

    @property
    def reason(self) -> str:
        """What a synchronization came to, in one word."""
        if self.share:
            return "Shared"
        return "Synchronized" if self.copied_files or self.deleted_files else "UpToDate"


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
    if settings.share is not None and settings.share.index and not join:
        return _one_share(settings, settings.share, stop, show, begun=begun)
    if isinstance(settings.source, CosLocation) and settings.source.logs_in_once:
        return _with_one_passcode(settings, stop, show, begun=begun)
    with _opened(settings, stop, show, registers=True) as ends:
        return _attempt(ends, Holder(), begun=begun, join=join)


def plan(settings: Settings, stop: StopSwitch) -> dict[str, Plan]:
    """What `sync` would do now at each destination, by its URI; nothing is written anywhere, no lease is taken."""
    with _opened(settings, stop, _in_silence) as ends:
        foreseen = _as_it_is
        if settings.compression is not None:
            from syncer.bridge import foreseen
        seen, wanted = foreseen(ends, _list_source(ends))
        return {each.uri: bringing.look(seen.run(index), wanted) for index, each in enumerate(settings.destinations)}


def verify(settings: Settings, stop: StopSwitch, show: Show) -> dict[str, proof.Differences | SyncerError]:
    """Read everything at each destination back and compare it with the manifest there; what came of it by its URI.

    Of several destinations one that cannot be looked at is told of by its error, and keeps the others from nothing.
    """
    found: dict[str, proof.Differences | SyncerError] = {}
    for place in settings.destinations or (None,):
        try:
            with _destination_at(place, settings, stop) as destination:
                found[place.uri if place else ""] = _verify(settings, stop, show, destination)
        except SyncerError as error:
            if stop.thrown or place is None or not settings.further:
                raise
            found[place.uri] = error
    return found


def register(settings: Settings, stop: StopSwitch, *, version_from: str = "") -> Result:
    """Register the sealed model that lies at the destinations, and write the registry's ids into their seals."""
    if skipped := registering.left_out(settings):
        return Result(source="", skipped=skipped)
    with registering.opened(settings, stop) as registration:
        if registration is None:
            raise ConfigurationError("no Model Registry is configured", hint="set MODEL_REGISTRY_URL and MODEL_NAME")
        registration.check()
        with ExitStack() as opened:
            places = [
                (place, opened.enter_context(_destination_at(place, settings, stop))) for place in settings.destinations
            ]
            seal = registering.sealed_model(settings, places, registration, stop, version_from=version_from)
            return Result(
                source=seal.source,
                destination=", ".join(destination.name for _, destination in places),
                uris=tuple(registering.uri_of(place, destination) for place, destination in places),
                revision=seal.revision,
                digest=",".join(registering.digest_of(destination, seal) for _, destination in places),
                files=seal.files,
                bytes=seal.bytes,
                registry=seal.registry,
                title=registration.title,
            )


def compress(settings: Settings, stop: StopSwitch, show: Show) -> Result:
    """Compress the model in the source's folder to the destination's, both of them directories, and nothing else."""
    begun = time.monotonic()
    wanted, source, place = settings.compression, settings.source, settings.destination
    if wanted is None or not isinstance(source, DirectoryLocation) or not isinstance(place, DirectoryLocation):
        why = "SKIP_TASKS names compress" if "compress" in settings.skip else "COMPRESS_MODEL is false"
        return Result(source="", skipped=why)
    from syncer.compressing import folder

    desk = folder.Desk(settings, wanted, stop, show, variable="S3_SYNC_DEST__PATH")
    origin, listing = folder.origin_of(source.path, wanted)
    done = folder.compress(desk, source.path, place.path, origin, listing)
    return Result(
        source=origin.source,
        destination=str(place.path),
        uris=(place.uri,),
        revision=origin.revision,
        digest=done.manifest.fingerprint,
        files=len(done.manifest.files),
        bytes=done.bytes_after,
        bytes_before=done.bytes_before,
        copied_files=0 if done.kept else len(done.manifest.files),
        seconds=time.monotonic() - begun,
    )


@contextmanager
def open_destination(settings: Settings, stop: StopSwitch) -> Iterator[Destination]:
    """The destination, closed again whatever happens; a stop wakes whoever waits there for a silent peer."""
    with _destination_at(settings.destination, settings, stop) as destination:
        yield destination


def _verify(settings: Settings, stop: StopSwitch, show: Show, destination: Destination) -> proof.Differences:
    there = destination.listing()
    manifest = marker.read_manifest(destination.control, there)
    if manifest is None:
        raise SourceMissing(
            f"{destination.name} has no manifest: no run has proved anything there yet",
            hint="check the destination's path, or synchronize first",
            stage="verify",
        )
    progress = Progress(total_bytes=manifest.total_bytes, total_files=len(manifest.files))
    enter(show, "proving")
    engine = Engine(sizing(settings), stop, progress, throttle=Throttle(settings.transfer.bandwidth, stop))
    with show(progress):
        return proof.everything(engine, destination, manifest, there)


def _one_share(settings: Settings, share: Share, stop: StopSwitch, show: Show, *, begun: float) -> Result:
    """What a pod beside index 0 has to do: its share of the work, and nothing else."""
    from syncer import partaking

    opened = partaking.Ways(
        destination=lambda ours: _destination_at(settings.destination, settings, ours),
        ends=lambda changed, ours: _opened(changed, ours, show),
        list_source=_list_source,
    )
    part = partaking.take_part(settings, share, stop, opened)
    return Result(
        source=settings.source.uri if settings.source else "",
        skipped=part.skipped,
        destination=part.destination,
        revision=part.revision,
        files=part.files,
        bytes=part.bytes,
        copied_files=part.files,
        copied_bytes=part.bytes,
        seconds=time.monotonic() - begun,
        share=part.told,
    )


# The chapters of a synchronization -----------------------------------------------------------------------------------


def _with_one_passcode(settings: Settings, stop: StopSwitch, show: Show, *, begun: float) -> Result:
    """A run whose attempts open both ends anew, resume what the one before left, and take its login and lease over."""
    holder = Holder()
    sources: list[Source] = []
    seen = _nothing_seen(settings)

    def attempt(ours: StopSwitch) -> Result:
        with _opened(settings, ours, show, sources=sources, seen=seen, registers=True) as ends:
            return _attempt(ends, holder, begun=begun)

    return on_one_login(attempt, stop)


def _attempt(ends: Ends, holder: Holder, *, begun: float, join: bool = False) -> Result:
    """The whole of it; with a compression two legs of the same."""
    if ends.settings.compression is None:
        return _synchronize(ends, holder, begun=begun, join=join)
    from syncer import bridge

    wanted = _list_source(ends)
    _ask_registry(ends)
    with bridge.compressed(ends, wanted, fetch=lambda leg: _synchronize(leg, Holder(), begun=begun)) as bridged:
        result = _synchronize(bridged.ends, holder, begun=begun)
    return replace(result, bytes_before=bridged.bytes_before)


def _synchronize(ends: Ends, holder: Holder, *, begun: float, join: bool = False) -> Result:
    """From the listing of the source to the last seal."""
    if isinstance(ends.settings.source, UploadedByHand):
        _ask_registry(ends)
        bringing.await_destination(ends.run(0))
        wanted = _list_source(ends)
    else:
        wanted = _list_source(ends)  # first of all: a passcode lives for five minutes
        _ask_registry(ends)
    with ExitStack() as leases, registering.taken_back_on_failure(ends.registration):
        if len(ends.destinations) > 1:
            return _to_several(ends, wanted, holder, leases, begun=begun)
        brought = bringing.bring(ends.run(0), wanted, holder=holder, leases=leases, join=join)
        destination = brought.run.destination
        enter(ends.show, "registering")
        ids = registering.committed_model(ends.settings, destination, ends.registration, brought.manifest)
        return _result([bringing.seal(brought, ids, begun=begun)], ids, begun=begun)


def _to_several(ends: Ends, wanted: Listing, holder: Holder, leases: ExitStack, *, begun: float) -> Result:
    """All destinations, then the registry, whose ids go into their seals last."""
    done = several.bring_each(ends, wanted, list_source=_list_source, holder=holder, leases=leases, begun=begun)
    for brought in done if ends.registration is not None else ():
        brought.lease.confirm()  # what is registered must be what this run has left
    places = list(zip(ends.settings.destinations, ends.destinations, strict=True))
    manifest = done[0].manifest
    enter(ends.show, "registering")
    ids = registering.committed_model(ends.settings, ends.destinations[0], ends.registration, manifest, places=places)
    return _result([bringing.name_ids(brought, ids) for brought in done], ids, begun=begun)


def _result(done: Sequence[Brought], ids: Mapping[str, str], *, begun: float) -> Result:
    manifest = done[0].manifest
    enter(done[0].run.show, "finished")
    return Result(
        source=manifest.source,
        destination=", ".join(brought.run.destination.name for brought in done),
        uris=tuple(brought.run.destination.uri for brought in done),
        revision=manifest.known_revision,
        digest=",".join(brought.digest for brought in done),
        files=len(manifest.files),
        bytes=manifest.total_bytes,
        copied_bytes=sum(brought.copied_bytes for brought in done),
        copied_files=sum(brought.copied_files for brought in done),
        deleted_files=sum(brought.deleted_files for brought in done),
        seconds=time.monotonic() - begun,
        registry=ids,
    )


def _ask_registry(ends: Ends) -> None:
    if ends.registration is not None:
        ends.registration.check()


def _list_source(ends: Ends) -> Listing:
    source, log = ends.source, ends.log
    enter(ends.show, "listing")

    def tell(error: SyncerError, pause: float) -> None:
        log.warning("source_awaited", source=source.name, reason=error.message, pause_seconds=round(pause, 1))

    listing = retrying(source.listing, patience=SOURCE_PATIENCE, stop=ends.stop, on_retry=tell)
    log.info("source_listed", source=source.name, files=len(listing.files), bytes=listing.total_bytes)
    return listing


# Small things --------------------------------------------------------------------------------------------------------


def _nothing_seen(settings: Settings) -> Seen:
    """Who gives SHA-256 up for speed has no use for the MD5 of what a bucket takes, which costs twice as much."""
    return Seen(compares_md5=settings.digest == "sha256")


@contextmanager
def _opened(
    settings: Settings,
    stop: StopSwitch,
    show: Show,
    *,
    sources: list[Source] | None = None,
    seen: Seen | None = None,
    registers: bool = False,
) -> Iterator[Ends]:
    """Both ends, and the registry for who `registers`, closed again whatever happens.

    `sources` are those that were opened before, each of which has taken over the login of the one before it; `seen` is
    what is known of the stores since then.
    """
    location, sources, seen = settings.source, [] if sources is None else sources, seen or _nothing_seen(settings)
    if location is None:
        raise ConfigurationError("no source is configured", hint="set S3_SYNC_SRC__PATH in the model-source Secret")
    with ExitStack() as opened:
        places = settings.destinations or (None,)
        destinations = [opened.enter_context(_destination_at(place, settings, stop, seen)) for place in places]

        def open_source(destination: Destination) -> Source:
            former = sources[-1] if sources else None
            source = stores.open_source(location, settings.network, destination=destination, former=former)
            sources.append(source)
            opened.enter_context(closing(source))
            opened.enter_context(stop.waking(source.interrupt))
            return source

        def open_anew() -> Source:
            first = destinations[0]
            if isinstance(location, UploadedByHand):
                first = opened.enter_context(_destination_at(places[0], settings, stop, seen))
            return open_source(first)

        source = open_source(destinations[0])
        registration = opened.enter_context(registering.opened(settings if registers else None, stop))
        yield Ends(
            settings,
            stop,
            show,
            source,
            tuple(destinations),
            open_anew,
            registration=registration,
            announce=Announcement(registration),
        )


@contextmanager
def _destination_at(
    place: DestinationLocation | None, settings: Settings, stop: StopSwitch, seen: Seen | None = None
) -> Iterator[Destination]:
    destination = stores.open_destination(place, settings.network, seen=seen)
    with closing(destination), stop.waking(destination.interrupt):
        yield destination


def _as_it_is(ends: Ends, wanted: Listing) -> tuple[Ends, Listing]:
    return ends, wanted


@contextmanager
def _in_silence(_progress: Progress) -> Iterator[None]:
    yield
