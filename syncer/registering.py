"""The chapter between commit and seal: the registry learns of the model, and its ids go into the seal.

`registration/` knows the registry; what a job has to do with it is here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace

from syncer import marker
from syncer.errors import ConfigurationError, SourceMissing, SyncerError
from syncer.lease import Lease
from syncer.logs import logger
from syncer.manifest import Manifest, ModelFile
from syncer.registration import Registration, card, describe
from syncer.registration.description import artifact_uri
from syncer.registration.naming import version_name
from syncer.settings.locations import DestinationLocation, ImageLocation, Settings
from syncer.stop import StopSwitch
from syncer.stores.protocols import Destination, NamedByDigest

Place = tuple[DestinationLocation, Destination]
"""One destination of a run: what it was told, and what it opened."""


def uri_of(location: DestinationLocation, destination: Destination) -> str:
    """The destination's own URI; an image's by digest, also one that an earlier run has pushed."""
    if isinstance(location, ImageLocation) and isinstance(destination, NamedByDigest) and destination.digest:
        return replace(location, digest=destination.digest).uri
    return destination.uri


def digest_of(destination: Destination, seal: marker.Seal) -> str:
    """An image's own digest; of everything else the fingerprint of what is sealed there."""
    return (isinstance(destination, NamedByDigest) and destination.digest) or seal.fingerprint


def left_out(settings: Settings) -> str:
    """Why this process has nothing to register; empty where it has."""
    if "register" in settings.skip:
        return "SKIP_TASKS names register"
    if settings.share is not None and settings.share.index:
        return f"index 0 registers the model, and this is index {settings.share.index}: there is nothing left to do"
    return ""


@contextmanager
def opened(settings: Settings | None, stop: StopSwitch) -> Iterator[Registration | None]:
    """The registration of a run, closed again whatever happens; None where nothing is to be registered."""
    if settings is None or settings.registry is None:
        yield None
        return
    registration = Registration(settings.registry, settings.network, stop)
    with closing(registration), stop.waking(registration.interrupt):
        yield registration


@contextmanager
def taken_back_on_failure(registration: Registration | None) -> Iterator[None]:
    """What the run has announced in the registry is taken back when it fails, whatever the reason is."""
    try:
        yield
    except BaseException:
        if registration is not None:
            registration.abandon()
        raise


def committed_model(
    settings: Settings,
    destination: Destination,
    registration: Registration | None,
    manifest: Manifest,
    *,
    places: Sequence[Place] = (),
) -> Mapping[str, str]:
    """Register the model that `manifest` proves; the ids, none where nothing is to be registered.

    `places` are all committed destinations of a run that has several, `destination` with its location the first of
    them: its URI is the artifact's, and the model card is read there.
    """
    if registration is None:
        return {}
    if settings.destination is None:
        raise ConfigurationError("no destination is configured", hint="set S3_SYNC_DEST__PATH")
    location = places[0][0] if places else settings.destination
    told = card.read_card(*(_content(destination, manifest, name) for name in (card.CARD, card.CONFIG)))
    claim = settings.registry.claim if settings.registry else ""
    uris = tuple(artifact_uri(where, uri_of(where, each), claim=claim) for where, each in places)
    uri = uri_of(location, destination)
    return registration.complete(describe(location, uri, manifest, card=told, uris=uris, claim=claim))


def sealed_model(
    settings: Settings,
    places: Sequence[Place],
    registration: Registration,
    stop: StopSwitch,
    *,
    version_from: str = "",
) -> marker.Seal:
    """Register the model that lies sealed at all of `places`; the first one's seal, with the revision of the origin.

    Each seal has the ids now.  With `version_from` the version is called by the convention of `naming.py` instead of
    `MODEL_VERSION`.  Raises `SourceMissing` for a place that is not sealed, or that has another model than the first.
    """
    if not places:
        raise ConfigurationError("no destination is configured", hint="set S3_SYNC_DEST__PATH")
    with ExitStack() as leases:
        # In one order for all: two of us with the same places would wait for each other's leases else.
        for _, destination in sorted(places, key=lambda place: place[1].uri):
            leases.enter_context(
                Lease(destination.control, stop, patience=settings.wait_for_destination, told=_tell_of_lease)
            )
        found = [_sealed(destination) for _, destination in places]
        first, (seal, manifest) = places[0][1], found[0]
        for (_, destination), (_, other) in zip(places, found, strict=True):
            if _differ(manifest, other):
                raise SourceMissing(
                    f"{destination.name} has another model than {first.name}",
                    hint="synchronize both again, or leave one of them out",
                    stage="register",
                )
        if version_from:
            config = _content(first, manifest, card.CONFIG)
            registration.call_version(version_name(version_from, completed_at=seal.completed_at, config=config))
        ids = committed_model(settings, first, registration, manifest, places=places)
        for (_, destination), (mark, _) in zip(places, found, strict=True):
            if dict(mark.registry) != ids:
                marker.seal(destination.control, replace(mark, registry=ids))
        return replace(seal, registry=ids, revision=manifest.known_revision)


def _tell_of_lease(message: str) -> None:
    logger(component="register").warning("lease_awaited", reason=message)


def _sealed(destination: Destination) -> tuple[marker.Seal, Manifest]:
    seal, manifest = marker.read_seal(destination.control), marker.read_manifest(destination.control)
    if seal is None or manifest is None or seal.fingerprint != manifest.fingerprint:
        raise SourceMissing(
            f"{destination.name} is not sealed: no run has finished there",
            hint="check the destination's path, or synchronize first",
            stage="register",
        )
    return seal, manifest


def _differ(one: Manifest, other: Manifest) -> bool:
    """Whether two destinations hold different files.  Their fingerprints may differ: not all know the same digests."""
    if {path: record.size for path, record in one.files.items()} != {
        path: record.size for path, record in other.files.items()
    }:
        return True
    pairs = ((record.digests, other.files[path].digests) for path, record in one.files.items())
    return any(ours[name] != theirs[name] for ours, theirs in pairs for name in ours.keys() & theirs.keys())


def _content(destination: Destination, manifest: Manifest, path: str) -> bytes:
    """A small file of the model, as it lies at the destination; empty where it cannot be had: it only embellishes."""
    record = manifest.files.get(path)
    if record is None or not 0 < record.size <= card.LONGEST:
        return b""
    data = bytearray(record.size)
    view, done = memoryview(data), 0
    try:
        with closing(
            destination.read(ModelFile(path, record.size, record.destination_version), 0, record.size)
        ) as body:
            while count := body.readinto(view[done:]):
                done += count
    except SyncerError as error:
        logger(component="register").warning("card_missed", path=path, problem=error.message)
        return b""
    return bytes(data[:done])
