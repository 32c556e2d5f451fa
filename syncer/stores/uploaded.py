"""The source of a model that people uploaded themselves: what it lists is what the destination has.

Nothing is copied then; what is left to do is to look whether the model is whole, as far as it tells itself.
"""

from __future__ import annotations

import posixpath
from contextlib import closing
from typing import Final

from syncer.claims import from_json
from syncer.errors import SourceMissing
from syncer.logs import logger
from syncer.manifest import BY_HAND, Listing, ModelFile
from syncer.stores.protocols import Body, Destination

LARGEST_INDEX: Final = 64 * 1024 * 1024
"""Bytes of the largest shard index that is read; those of the largest models have about 15 MB."""

_INDEXES: Final = (".safetensors.index.json", ".bin.index.json", ".h5.index.json")
_NAMED: Final = 20
_LONGEST: Final = 200
_VERIFY: Final = "S3_SYNC_LOCAL_UPLOAD_VERIFY=false"


class UploadedSource:
    """Implements `Source` over a destination, which stays its owner's to close.

    `verify=False` skips the look at shard indexes; a destination without any file is refused all the same.
    """

    name = BY_HAND
    revision = ""

    def __init__(self, destination: Destination, *, verify: bool = True) -> None:
        self._destination = destination
        self._verify = verify

    def listing(self) -> Listing:
        """What the destination has; `SourceMissing` when that is nothing, or lacks shards that an index names."""
        listing = self._destination.listing()
        if not listing.files and self._verify:
            raise SourceMissing(
                f"no model was uploaded to {self._destination.name}",
                hint=f"upload the model's files to {self._destination.uri}, then start the job again; unset "
                "S3_SYNC_LOCAL_UPLOAD_COMPLETE if the model is to be copied from somewhere",
                stage="list",
                store=self._destination.name,
            )
        if self._verify:
            self._look_at_indexes(listing)
        if listing.files and all("/" in path for path in listing.files):
            self._warn_of_depth(listing)
        return listing

    def look_again(self, file: ModelFile) -> ModelFile:
        """The file as the destination lists it now."""
        found = self._destination.listing().files.get(file.path)
        if found is None:
            raise SourceMissing(f"{file.path!r} is gone from {self._destination.name}", path=file.path)
        return found

    def read(self, file: ModelFile, start: int, length: int) -> Body:
        """Read from the destination."""
        return self._destination.read(file, start, length)

    def interrupt(self) -> None:
        """Wake the destination's calls."""
        self._destination.interrupt()

    def close(self) -> None:
        """Nothing: the destination is closed by its owner."""

    def _warn_of_depth(self, listing: Listing) -> None:
        """Uploading a folder instead of its content is the usual mistake; some people mean it."""
        folders = sorted({path.partition("/")[0] for path in listing.files})
        logger(component="source").warning(
            "model_misplaced",
            reason=f"no file lies in {self._destination.uri} itself, all are in folders: {', '.join(folders[:_NAMED])}",
            hint="if the next phase looks there, upload the folder's content; S3_SYNC_DEST__DEFAULT_DIRECTORY names "
            "another folder",
        )

    def _look_at_indexes(self, listing: Listing) -> None:
        missing: dict[str, str] = {}
        for path, file in sorted(listing.files.items()):
            if path.endswith(_INDEXES):
                folder = posixpath.dirname(path)
                for shard in self._shards(file):
                    whole = posixpath.join(folder, shard)
                    if whole not in listing.files:
                        missing.setdefault(whole, path)
        if not missing:
            return
        named = [repr(shard)[:_LONGEST] for shard in sorted(missing)[:_NAMED]]
        rest = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise SourceMissing(
            f"{self._destination.name} lacks {', '.join(named)}{rest}, which {next(iter(missing.values()))!r} names",
            hint=f"upload the missing files, then start the job again; {_VERIFY} skips this look",
            stage="list",
            store=self._destination.name,
        )

    def _shards(self, file: ModelFile) -> set[str]:
        """The file names in an index (`{"weight_map": {tensor: file}}`, as transformers writes it)."""
        try:
            weight_map = from_json(self._bytes_of(file))["weight_map"]
            shards = set(weight_map.values())
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise self._no_index(file, "is not the index of a model's shards") from error
        if not all(isinstance(shard, str) and shard for shard in shards):
            raise self._no_index(file, "names shards by something else than text")
        return shards

    def _bytes_of(self, file: ModelFile) -> bytearray:
        if file.size > LARGEST_INDEX:
            raise self._no_index(file, f"has {file.size} bytes, more than any index of a model's shards")
        data = bytearray(file.size)
        at = 0
        if file.size:
            with closing(self._destination.read(file, 0, file.size)) as body:
                while count := body.readinto(memoryview(data)[at:]):
                    at += count
                    if at == file.size:
                        break
        return data

    def _no_index(self, file: ModelFile, words: str) -> SourceMissing:
        return SourceMissing(
            f"{file.path!r} in {self._destination.name} {words}",
            hint=f"upload it again, perhaps it is cut short; {_VERIFY} skips this look",
            stage="list",
            store=self._destination.name,
            path=file.path,
        )
