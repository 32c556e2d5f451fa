"""Compression between two legs of the same engine: source to scratch, compress, scratch to the destinations.

What the destinations hold already is looked at first: a model of the same files and by the same recipe is neither
fetched nor compressed again.  The scratch folder is kept until everything is done, so that a run that was killed
fetches nothing twice; then it goes.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from syncer import bringing, marker
from syncer import verify as proof
from syncer.compressing import child, folder, recipe, room
from syncer.ends import Announcement, Ends
from syncer.errors import InternalError, SyncerError
from syncer.lease import Lease
from syncer.manifest import Listing, Manifest, ModelFile, Origin
from syncer.settings.locations import Compression, DirectoryLocation, UploadedByHand
from syncer.stores.directory import DirectoryDestination, DirectorySource
from syncer.stores.protocols import Body, Destination, Source, TellsOrigin

_SLUG: Final = re.compile(r"[^A-Za-z0-9]+")
_LONGEST_SLUG: Final = 48


class Compressed:
    """Implements `Source`: the compressed files in `inner`, as a model of the source that they were made of.

    So manifests and registry tell where the model is from, not where it lay for an hour.
    """

    def __init__(self, inner: Source, *, name: str, revision: str, origin: Origin) -> None:
        self.name = name
        self.revision = revision
        self.origin = origin
        self._inner = inner

    def listing(self) -> Listing:
        """The compressed files."""
        return self._inner.listing()

    def look_again(self, file: ModelFile) -> ModelFile:
        """As it is now."""
        return self._inner.look_again(file)

    def read(self, file: ModelFile, start: int, length: int) -> Body:
        """A range of a compressed file."""
        return self._inner.read(file, start, length)

    def interrupt(self) -> None:
        """Wake whoever reads."""
        self._inner.interrupt()

    def close(self) -> None:
        """Let go of the folder."""
        self._inner.close()


class Settled:
    """Implements `Source`: what lies whole at `destination` by `manifest`, in the versions that it was copied from."""

    revision = ""

    def __init__(self, destination: Destination, manifest: Manifest) -> None:
        self._destination = destination
        self._records = manifest.files

    @property
    def name(self) -> str:
        """The destination's name."""
        return self._destination.name

    def listing(self) -> Listing:
        """The files of the manifest, as its run saw them at the source."""
        return Listing(
            {
                path: ModelFile(path, record.size, record.source_version, record.digests)
                for path, record in self._records.items()
            }
        )

    def look_again(self, file: ModelFile) -> ModelFile:
        """The same: a manifest does not change."""
        return file

    def read(self, file: ModelFile, start: int, length: int) -> Body:
        """For the destinations that are not settled."""
        record = self._records[file.path]
        there = ModelFile(file.path, record.size, record.destination_version, record.digests)
        return self._destination.read(there, start, length)

    def interrupt(self) -> None:
        """Wake whoever reads."""
        self._destination.interrupt()

    def close(self) -> None:
        """Nothing: its owner closes it."""


@dataclass(frozen=True)
class Bridge:
    """The second leg, and how many bytes the original has."""

    ends: Ends
    bytes_before: int


@contextmanager
def compressed(ends: Ends, wanted: Listing, *, fetch: Callable[[Ends], object]) -> Iterator[Bridge]:
    """The compressed model as the source, made of what `wanted` lists; `fetch` carries out the first leg.

    Leaving it without an error means that the destinations have the model: then the scratch folder goes.
    """
    settings, recipe_wanted = ends.settings, ends.settings.compression
    if recipe_wanted is None or recipe_wanted.scratch is None or isinstance(settings.source, UploadedByHand):
        raise InternalError("a compression without a scratch folder")
    source = ends.source
    origin = _origin(ends, wanted)
    inner: Source | None = _settled(ends, origin)
    if inner is not None:
        ends.log.info("compression_kept", folder=inner.name, recipe=origin.recipe)
        yield _bridge(ends, inner, origin, wanted)
        return
    scratch = recipe_wanted.scratch / _slug(source.name)
    lease = Lease(
        DirectoryDestination(DirectoryLocation(scratch)).control,
        ends.stop,
        patience=settings.wait_for_destination,
        told=lambda message: ends.log.warning("lease_awaited", reason=message),
    )
    with lease:
        result = scratch / "compressed"
        place = DirectoryDestination(DirectoryLocation(result))
        if folder.standing_at(place, origin) is None:
            original = _fetched(ends, wanted, scratch / "original", recipe_wanted, fetch)
            there = DirectorySource(DirectoryLocation(original)).listing()
            desk = folder.Desk(settings, recipe_wanted, ends.stop, ends.show)
            folder.compress(desk, original, result, origin, there)
        else:
            ends.log.info("compression_kept", folder=str(result), recipe=origin.recipe)
        yield _bridge(ends, DirectorySource(DirectoryLocation(result)), origin, wanted)
    shutil.rmtree(scratch, ignore_errors=True)
    ends.log.info("scratch_cleaned", folder=str(scratch))


def foreseen(ends: Ends, wanted: Listing) -> tuple[Ends, Listing]:
    """What a plan can know: the compressed model where a destination has it, else the original."""
    origin = _origin(ends, wanted)
    settled = _settled(ends, origin)
    if settled is None:
        ends.log.warning("settings_noted", note="this plan is about the original, before compression")
        return ends, wanted
    return _bridge(ends, settled, origin, wanted).ends, settled.listing()


def _origin(ends: Ends, wanted: Listing) -> Origin:
    """What the compressed model of this run is made of, and how."""
    source = ends.source
    told = source.origin if isinstance(source, TellsOrigin) else None
    if ends.settings.compression is None:
        raise InternalError("a bridge without a compression")
    return replace(
        told or Origin(source.name, source.revision),
        recipe=recipe.recipe_of(ends.settings.compression),
        inputs=recipe.inputs_of(wanted),
    )


def _bridge(ends: Ends, inner: Source, origin: Origin, wanted: Listing) -> Bridge:
    source = Compressed(inner, name=ends.source.name, revision=ends.source.revision, origin=origin)
    second = replace(ends, settings=replace(ends.settings, compression=None), source=source, open_anew=lambda: source)
    return Bridge(second, wanted.total_bytes)


def _settled(ends: Ends, origin: Origin) -> Settled | None:
    """The first destination that has this very model; those that cannot be asked are the second leg's business.

    Each must take writes, as far as that can be known: nobody computes for hours to find a door closed.
    """
    found: Settled | None = None
    for index, destination in enumerate(ends.destinations):
        try:
            bringing.await_destination(ends.run(index))
            manifest = marker.read_manifest(destination.control)
            if found is None and manifest and manifest.origin == origin and _is_whole(destination, manifest):
                found = Settled(destination, manifest)
        except SyncerError:
            if len(ends.destinations) == 1 or ends.stop.thrown:
                raise
    return found


def _is_whole(destination: Destination, manifest: Manifest) -> bool:
    sealed = marker.read_seal(destination.control) is not None
    return sealed and not proof.against_listing(manifest.files, destination.listing()).not_extra()


def _fetched(ends: Ends, wanted: Listing, original: Path, plan: Compression, fetch: Callable[[Ends], object]) -> Path:
    """The folder with the original: the source's own where it is one, else what the first leg has brought."""
    settings = ends.settings
    child.refuse_without_library()
    weights = sum(file.size for path, file in wanted.files.items() if path.endswith(".safetensors"))
    least = room.Needs(memory=weights + room.LIBRARIES, result=weights * plan.bits // 32, device=0)
    room.refuse_small_memory(least, room.memory_to_be_had(), samples=False)
    if isinstance(settings.source, DirectoryLocation):
        return settings.source.path
    place = DirectoryDestination(DirectoryLocation(original))
    missing = wanted.total_bytes - place.listing().total_bytes
    room.refuse_small_volume(
        missing + least.result, place.free_bytes(), at=original.parent, variable="S3_SYNC_SCRATCH_DIR"
    )
    leg = replace(
        settings,
        destination=DirectoryLocation(original),
        further=(),
        compression=None,
        delete="recorded",  # what an earlier revision had is no part of this one
        transfer=replace(settings.transfer, force=False),
    )
    fetch(replace(ends, settings=leg, destinations=(place,), registration=None, announce=Announcement()))
    return original


def _slug(name: str) -> str:
    """A folder's name for a source: what people recognize, and what makes it the only one."""
    words = _SLUG.sub("-", name).strip("-")[-_LONGEST_SLUG:].strip("-").lower()
    return f"{words}-{recipe.short_digest(name)}"
