"""The chapter between commit and seal: the registry learns of the model, and its ids go into the seal.

`registration/` knows the registry; what a job has to do with it is here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace

from syncer import marker
from syncer.errors import ConfigurationError, SourceMissing, SyncerError
from syncer.lease import Holder, Lease
from syncer.logs import logger
from syncer.manifest import Manifest, ModelFile
from syncer.registration import Registration, card, describe
from syncer.registration.naming import version_name
from syncer.settings.locations import Settings
from syncer.stop import StopSwitch
from syncer.stores.protocols import Destination


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
    settings: Settings, destination: Destination, registration: Registration | None, manifest: Manifest
) -> Mapping[str, str]:
    """Register the model that `manifest` proves; the ids, none where nothing is to be registered."""
    if registration is None:
        return {}
    if settings.destination is None:
        raise ConfigurationError("no destination is configured", hint="set S3_SYNC_DEST__PATH")
    told = card.read_card(*(_content(destination, manifest, name) for name in (card.CARD, card.CONFIG)))
    return registration.complete(describe(settings.destination, destination.uri, manifest, card=told))


def sealed_model(
    settings: Settings,
    destination: Destination,
    registration: Registration,
    stop: StopSwitch,
    *,
    version_from: str = "",
) -> marker.Seal:
    """Register the model that lies sealed at the destination; its seal, which has the ids now.

    With `version_from` the version is called by the convention of `naming.py` instead of `MODEL_VERSION`.
    """
    control = destination.control
    with Lease(control, stop, patience=settings.wait_for_destination, holder=Holder()):
        seal, manifest = marker.read_seal(control), marker.read_manifest(control)
        if seal is None or manifest is None or seal.fingerprint != manifest.fingerprint:
            raise SourceMissing(
                f"{destination.name} is not sealed: no run has finished there",
                hint="check the destination's path, or synchronize first",
                stage="register",
            )
        if version_from:
            config = _content(destination, manifest, card.CONFIG)
            registration.call_version(version_name(version_from, completed_at=seal.completed_at, config=config))
        ids = committed_model(settings, destination, registration, manifest)
        if dict(seal.registry) != ids:
            seal = replace(seal, registry=ids)
            marker.seal(control, seal)
        return seal


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
