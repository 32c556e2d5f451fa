"""A source for the second and later destinations of a run: the files of a finished one, proved by its manifest.

So the source is read once, however many destinations there are.  What it lists, and what its files' versions are, stays
the source's own word: the manifests of all destinations are about the same files.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace

from syncer.digests import OURS
from syncer.errors import CredentialsRefused, SourceChanged, SourceMissing, SyncerError, WrongBytes
from syncer.logs import logger
from syncer.manifest import DigestName, Digests, FileRecord, Listing, Manifest, ModelFile, Origin
from syncer.settings.locations import ImageLocation
from syncer.stores.oci.depot import KnowsLayers
from syncer.stores.protocols import Body, Destination, Source, TellsOrigin


class Again:
    """Implements `Source`: `source` lists, and `finished`, which `manifest` describes, gives the bytes.

    Only files whose digest the manifest has are read there, and that digest is expected of them.  Where `finished` may
    not be read, or a file there is another one by now, the source is read, which is said once.
    """

    def __init__(self, source: Source, finished: Destination, manifest: Manifest) -> None:
        self.interrupted = False
        self._source = source
        self._finished = finished
        self._records: Mapping[str, FileRecord] = manifest.files
        self._refused = False
        self._told = False
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The source's name."""
        return self._source.name

    @property
    def place(self) -> str:
        """The name of the finished destination."""
        return self._finished.name

    @property
    def revision(self) -> str:
        """The source's revision."""
        return self._source.revision

    @property
    def origin(self) -> Origin | None:
        """What the source tells, if it tells."""
        return self._source.origin if isinstance(self._source, TellsOrigin) else None

    def listing(self) -> Listing:
        """The source's own listing, with the digests that are proved by now."""
        return self.proved(self._source.listing())

    def proved(self, listing: Listing) -> Listing:
        """`listing` with the digests of the finished destination's files."""
        return replace(listing, files={path: self._with_digest(file) for path, file in listing.files.items()})

    def look_again(self, file: ModelFile) -> ModelFile:
        """As the source has it now."""
        return self._with_digest(self._source.look_again(file))

    def read(self, file: ModelFile, start: int, length: int) -> Body:
        """From the finished destination where it is the listed version, else from the source."""
        record = self._record(file)
        if record is not None and not self._refused:
            there = ModelFile(file.path, record.size, record.destination_version, record.digests)
            try:
                return self._finished.read(there, start, length)
            except (CredentialsRefused, SourceChanged, SourceMissing, WrongBytes) as error:
                self._pass_over(error)
        return self._source.read(file, start, length)

    def layer_of(self, file: ModelFile) -> tuple[ImageLocation, str] | None:
        """Where the finished destination has the file as a layer, or the source, if they are images: `KnowsLayers`."""
        record = self._record(file)
        if record is None or not isinstance(self._finished, KnowsLayers):
            return self._source.layer_of(file) if isinstance(self._source, KnowsLayers) else None
        return self._finished.layer_of(ModelFile(file.path, record.size, record.destination_version, record.digests))

    def interrupt(self) -> None:
        """Wake whoever reads at either place; who goes on needs a new source."""
        self.interrupted = True
        self._source.interrupt()
        self._finished.interrupt()

    def close(self) -> None:
        """Nothing: both are closed by their owner."""

    def _record(self, file: ModelFile) -> FileRecord | None:
        """The proof of exactly this version of the file, or None."""
        record = self._records.get(file.path)
        if record is None or (record.source_version, record.size) != (file.version, file.size):
            return None
        return record if _proof(record) else None

    def _with_digest(self, file: ModelFile) -> ModelFile:
        record = self._record(file)
        if record is None:
            return file
        digests = Digests.of({**file.digests, **_proof(record)})
        return replace(file, digests=record.digests if digests == record.digests else digests)

    def _pass_over(self, error: SyncerError) -> None:
        with self._lock:
            self._refused = self._refused or isinstance(error, CredentialsRefused)
            told, self._told = self._told, True
        if not told:
            logger(component="job").warning(
                "shortcut_abandoned", destination=self._finished.name, reason=error.message, source=self._source.name
            )


def _proof(record: FileRecord) -> Mapping[DigestName, str]:
    """The digests by which a file is proved when it arrives: those that we compute of every file."""
    return {name: record.digests[name] for name in OURS if name in record.digests}
