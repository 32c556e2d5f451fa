"""From one folder to another: the model in it, compressed, with everything else that the original had.

The result is put together in a folder of its own beside the place where it goes, read back, sealed and renamed: what
stands there is a whole compressed model, or what was there before.  The original is only read.  A result that stands
already, of the same files and by the same recipe, is kept.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from syncer import marker
from syncer import verify as proof
from syncer.compressing import child, recipe, room
from syncer.compressing.weights import CONFIG, is_replaced, read_weights
from syncer.copying import Show, sizing
from syncer.errors import ConfigurationError, SourceChanged, WrongBytes
from syncer.lease import Lease
from syncer.logs import Log, logger
from syncer.manifest import CONTROL_FOLDER, FileRecord, Listing, Manifest, Origin
from syncer.progress import Progress
from syncer.settings.locations import Compression, DirectoryLocation, Settings
from syncer.stop import StopSwitch
from syncer.stores.directory import DirectoryDestination, DirectorySource
from syncer.transfer import Engine

FOLDER_MODE: Final = 0o775
FILE_MODE: Final = 0o664
_INDEX: Final = "model.safetensors.index.json"


@dataclass(frozen=True)
class Compressed:
    """A folder with a compressed model; sizes in bytes, of all files.  `kept` says that it stood already."""

    manifest: Manifest
    bytes_before: int
    kept: bool = False

    @property
    def bytes_after(self) -> int:
        """What the compressed model has."""
        return self.manifest.total_bytes


@dataclass(frozen=True)
class Desk:
    """What everybody here works with."""

    settings: Settings
    wanted: Compression
    stop: StopSwitch
    show: Show
    variable: str = "S3_SYNC_SCRATCH_DIR"
    log: Log = field(default_factory=lambda: logger(component="compression"))


def origin_of(folder: Path, wanted: Compression) -> tuple[Origin, Listing]:
    """What a result made of the model in `folder` is, and what lies there.

    A folder that a run has sealed stands for the place that its files came from.
    """
    source = DirectorySource(DirectoryLocation(folder))
    listing = source.listing()
    told = source.origin
    known = marker.read_manifest(DirectoryDestination(DirectoryLocation(folder)).control)
    sealed = known is not None and not proof.against_listing(known.files, listing)
    inputs = known.fingerprint if known is not None and sealed else recipe.inputs_of(listing)
    place = Origin(source.name) if told is None else told
    return replace(place, recipe=recipe.recipe_of(wanted), inputs=inputs), listing


def compress(desk: Desk, original: Path, result: Path, origin: Origin, listing: Listing) -> Compressed:
    """Compress the model in `original`, which holds what `listing` says, to `result`; `origin` says what that is.

    Raises `ConfigurationError` for a model that cannot be compressed, and whatever the worker refuses.
    """
    before = listing.total_bytes
    if (standing := standing_at(DirectoryDestination(DirectoryLocation(result)), origin)) is not None:
        desk.log.info("compression_kept", folder=str(result), recipe=origin.recipe)
        return Compressed(standing, before, kept=True)
    child.refuse_without_library()
    _refuse_foreign(result, force=desk.settings.transfer.force)
    begun = time.monotonic()
    work = result.parent / f".{result.name}.compressing"
    with _leased(desk, work):
        _empty(work)
        try:
            needs = _look_ahead(desk, original, result.parent, listing)
            fresh, cache = work / "made", work / "cache"
            for folder in (fresh, cache):
                folder.mkdir(parents=True)
            task = child.task_of(desk.wanted, original=original, result=fresh, device_bytes=needs.device)
            child.work(task, child.environment(desk.wanted, desk.settings.network, cache), desk.stop, desk.log)
            _refuse_changed(original, listing)
            ready = work / "ready"
            _put_together(original, listing, fresh, ready)
            manifest = _seal(desk, ready, origin, begun=begun)
            _replace(result, ready, work / "old")
        finally:
            _empty(work)
    with suppress(OSError):
        shutil.rmtree(work)
    done = Compressed(manifest, before)
    desk.log.info(
        "model_compressed",
        recipe=origin.recipe,
        bytes_before=done.bytes_before,
        bytes_after=done.bytes_after,
        seconds=round(time.monotonic() - begun, 1),
    )
    return done


def standing_at(place: DirectoryDestination, origin: Origin) -> Manifest | None:
    """The manifest of the sealed model that lies at `place` whole and is of `origin`, else None."""
    manifest = marker.read_manifest(place.control)
    if manifest is None or manifest.origin != origin or marker.read_seal(place.control) is None:
        return None
    return None if proof.against_listing(manifest.files, place.listing()) else manifest


def _refuse_foreign(result: Path, *, force: bool) -> None:
    """Nothing that is not ours is overwritten: an empty folder is fine, and a model that a run has left there."""
    if force or not result.exists() or (result / CONTROL_FOLDER).is_dir():
        return
    if not result.is_dir() or any(result.iterdir()):
        raise ConfigurationError(
            f"{result} holds something that is no model of ours: it is not overwritten",
            hint="name another folder, or set S3_SYNC_TRANSFER_CONFIG__FORCE=true if it may go",
            path=str(result),
        )


def _leased(desk: Desk, work: Path) -> Lease:
    return Lease(
        DirectoryDestination(DirectoryLocation(work)).control,
        desk.stop,
        patience=desk.settings.wait_for_destination,
        told=lambda message: desk.log.warning("lease_awaited", reason=message),
    )


def _look_ahead(desk: Desk, original: Path, volume: Path, listing: Listing) -> room.Needs:
    """Refuse what would fail hours later; returns what it needs."""
    weights = read_weights(original, listing.files)
    kept = sum(file.size for path, file in listing.files.items() if not is_replaced(path))
    needs = room.needs(weights, desk.wanted, kept_bytes=kept)
    have = room.memory_to_be_had()
    free = DirectoryDestination(DirectoryLocation(volume)).free_bytes()
    desk.log.info(
        "room_found",
        weights_bytes=weights.size,
        memory_needed=needs.memory,
        memory_free=have,
        scratch_needed=needs.result,
        scratch_free=free,
        device_needed=needs.device,
    )
    room.refuse_small_memory(needs, have, samples=desk.wanted.dataset is not None)
    room.refuse_small_volume(needs.result, free, at=volume, variable=desk.variable)
    return needs


def _refuse_changed(original: Path, listing: Listing) -> None:
    there = DirectorySource(DirectoryLocation(original)).listing()
    if recipe.inputs_of(there) != recipe.inputs_of(listing):
        raise SourceChanged(f"the model in {original} was changed while it was compressed", stage="compress")


def _put_together(original: Path, listing: Listing, fresh: Path, ready: Path) -> None:
    """New weights and config, and every file of the original that they do not replace; nothing else."""
    made = [path for path in fresh.iterdir() if path.name in {CONFIG, _INDEX} or path.suffix == ".safetensors"]
    if not any(path.suffix == ".safetensors" for path in made) or not (fresh / CONFIG).is_file():
        raise WrongBytes("the library left no weights or no config", stage="compress")
    ready.mkdir(mode=FOLDER_MODE)
    for new in made:
        new.rename(ready / new.name)
    for path in listing.files:
        if not is_replaced(path):
            target = ready / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(original / path, target)
    for folder, _, names in os.walk(ready):
        Path(folder).chmod(FOLDER_MODE)
        for name in names:
            with (Path(folder) / name).open("rb+") as file:
                os.fchmod(file.fileno(), FILE_MODE)
                os.fsync(file.fileno())


def _seal(desk: Desk, folder: Path, origin: Origin, *, begun: float) -> Manifest:
    """Read the result back and seal it where it is; its name is still to come."""
    place = DirectoryDestination(DirectoryLocation(folder))
    files = place.listing().files
    progress = Progress(total_bytes=sum(file.size for file in files.values()), total_files=len(files))
    with desk.show(progress):
        digests, failures = proof.read_back(Engine(sizing(desk.settings), desk.stop, progress), place, files.values())
    for error in failures.values():
        raise error
    records = {
        path: FileRecord(
            path=path,
            size=file.size,
            digests=digests[path],
            proved_by="readback",
            source_version=file.version,
            destination_version=file.version,
        )
        for path, file in files.items()
    }
    manifest = Manifest(source=origin.source, revision=origin.revision, files=records, origin=origin)
    place.commit(manifest)
    marker.write_manifest(place.control, manifest)
    mark = marker.Seal(
        fingerprint=manifest.fingerprint,
        source=manifest.source,
        revision=manifest.revision,
        files=len(records),
        bytes=manifest.total_bytes,
        seconds=time.monotonic() - begun,
        completed_at=dt.datetime.now(tz=dt.UTC).isoformat(timespec="seconds"),
    )
    marker.seal(place.control, mark)
    return manifest


def _replace(result: Path, ready: Path, old: Path) -> None:
    """Give the result its name; what had it before goes."""
    try:
        if result.exists():
            result.rename(old)
        ready.rename(result)
    except OSError as error:
        if old.exists() and not result.exists():
            old.rename(result)
        raise ConfigurationError(
            f"the result cannot be given its name {result}: {error.strerror}",
            hint="name a folder below the volume's mount point, on the same volume as the folder above it",
            path=str(result),
        ) from error
    descriptor = os.open(result.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # not every volume knows it
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _empty(work: Path) -> None:
    """Remove what an earlier run left, or this one needs no more; the lease stays."""
    _remove(path for path in (work.iterdir() if work.is_dir() else ()) if path.name != CONTROL_FOLDER)


def _remove(paths: Iterable[Path]) -> None:
    for path in list(paths):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
