"""Copying inside one service, without the bytes passing through this process.  See `ServerCopy`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from syncer.errors import SourceChanged, SyncerError, Transient
from syncer.manifest import ModelFile
from syncer.stores.protocols import Cut
from syncer.stores.s3.calls import Call, copied_from, copy_object, copy_part
from syncer.stores.s3.objects import bare
from syncer.stores.s3.parts import Habits
from syncer.stores.s3.refusals import Refusal
from syncer.stores.s3.service import Service
from syncer.stores.s3.source import S3Source
from syncer.stores.s3.upload import MultipartUpload

MIB: Final = 1024 * 1024
LARGEST_AT_ONCE: Final = 1024 * MIB
"""S3 copies up to 5 GiB with one call; parts of a gigabyte end in time and can be interrupted."""
_PART: Final = 512 * MIB


class Copier:
    """Copies from other buckets of the same service, as long as that is allowed there."""

    def __init__(self, service: Service, habits: Habits) -> None:
        self._service = service
        self._habits = habits

    def copy(self, source: S3Source, file: ModelFile, key: str) -> str | None:
        """Copy the listed version to `key`; None when the service will not do it, and the bytes have to be carried.

        A service that has refused is not asked again.  Raises `SourceChanged` when the listed version is gone.
        """
        abilities = self._service.abilities
        if abilities.has("copy_inside") is False:
            return None
        if not self._service.endpoint.same_service(source.service.endpoint) or file.version.startswith("modified "):
            return None
        pinned = copied_from(source.service.bucket, source.key(file.path), file.version)
        try:
            if file.size <= LARGEST_AT_ONCE:
                version = self._at_once(file, key, pinned)
            else:
                version = self._by_parts(source.look_again(file), file, key, pinned)
        except _Refused:
            abilities.learn("copy_inside", has=False)
            return None
        abilities.learn("copy_inside", has=True)
        return version

    def _at_once(self, file: ModelFile, key: str, pinned: Mapping[str, str]) -> str:
        return self._call(copy_object(key, pinned), file)

    def _by_parts(self, now: ModelFile, file: ModelFile, key: str, pinned: Mapping[str, str]) -> str:
        cut = Cut(file.size, max(_PART, -(-file.size // 10_000)))
        if now.version != file.version:
            raise SourceChanged(f"{file.path} changed at the source", path=file.path)
        upload = MultipartUpload.create(self._service, self._habits, now, cut, key)
        try:
            for index in range(cut.count):
                call = copy_part(
                    key, upload.token, index + 1, pinned, first=cut.offset(index), length=cut.length(index)
                )
                upload.part_stored(index, self._call(call, file))
            return upload.finish()
        except BaseException:
            with suppress(SyncerError):
                upload.abort()
            raise

    def _call(self, call: Call, file: ModelFile) -> str:
        """The ETag of what was copied."""
        what = f"copy {file.path} inside the store"
        said = self._service.try_call(call, what=what, path=file.path)
        if not isinstance(said, Refusal):
            return bare(said.field("ETag"))
        if said.status == 412 or said.code == "PreconditionFailed":
            raise SourceChanged(f"{file.path} changed at the source", path=file.path)
        error = self._service.error(said, what=what, path=file.path)
        if isinstance(error, Transient) and said.status != 404:
            raise error
        raise _Refused


class _Refused(Exception):
    """The service does not copy by itself, does not let us, or does not know the other bucket."""
