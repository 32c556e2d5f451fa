"""Reading to the end: small blobs as a whole, and files whose digest nobody has computed yet."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

from syncer.errors import WrongBytes
from syncer.manifest import FileRecord, ModelFile
from syncer.stores.oci.depot import Depot
from syncer.stores.oci.documents import Descriptor
from syncer.stores.protocols import Body

LARGEST = 64 * 1024 * 1024
_PIECE = 256 * 1024


def small_blob(depot: Depot, told: Descriptor) -> bytes:
    """The blob's content; `WrongBytes` for one that is not what its digest says, or too large for a small one."""
    if told.size > LARGEST:
        raise WrongBytes(f"{depot.name}: {told.digest} has {told.size} bytes where a small document was expected")
    content = depot.persistently(lambda: range_of(depot, told.digest, 0, told.size))
    if f"sha256:{hashlib.sha256(content).hexdigest()}" != told.digest:
        raise WrongBytes(f"{depot.name}: {told.digest} has other bytes than it says", store=depot.name)
    return content


def range_of(depot: Depot, digest: str, start: int, length: int) -> bytes:
    """A few bytes of a blob, unproved."""
    if not length:
        return b""
    content = bytearray()
    piece = memoryview(bytearray(min(_PIECE, length)))
    with closing(depot.read(digest, start, length)) as body:
        while count := body.readinto(piece):
            content += piece[:count]
    return bytes(content)


def with_sha256(record: FileRecord, read: Callable[[ModelFile, int, int], Body]) -> FileRecord:
    """The record with the SHA-256 that an image tells of every file: read back where no run has seen the bytes."""
    if "sha256" in record.digests:
        return record
    digest = hashlib.sha256()
    if record.size:
        piece = memoryview(bytearray(min(_PIECE, record.size)))
        with closing(read(ModelFile(record.path, record.size, record.destination_version), 0, record.size)) as body:
            while count := body.readinto(piece):
                digest.update(piece[:count])
    return replace(record, digests={**record.digests, "sha256": digest.hexdigest()})
