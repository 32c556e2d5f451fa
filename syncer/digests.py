"""The digests by which a file is proved, computed from the chunks of its parts.

Two kinds.  SHA-256, and git's SHA-1 beside it where a source lists that, need the bytes in order: `FileHash.in_order`
says so, and the chunks go into `update` from the first to the last.  CRC-64/NVME alone needs no order: every part has a
`PartHash` of its own, and `join` puts it into its place, whichever parts are there already.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Iterable
from typing import Final, NamedTuple, Protocol

from syncer.manifest import DigestName, ModelFile

OURS: Final[frozenset[DigestName]] = frozenset({"sha256", "crc64nvme"})
"""One of these is in the record of every file that has passed through here."""
COMPUTABLE: Final[frozenset[DigestName]] = OURS | {"git_sha1"}


class _Hash(Protocol):
    def update(self, data: memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...
    def copy(self) -> _Hash: ...


class FileHash:
    r"""The digests of one file.

    `git_sha1` is git's blob hash, sha1 over `blob SIZE\\0` and the content, which the Hub lists for plain files.
    `crc64nvme` is the checksum of that name which AWS S3 keeps of whole objects, as 16 digits.
    """

    def __init__(self, names: Collection[DigestName], size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._hashes = {name: _new(name, size) for name in names}
        self.in_order = not self._hashes.keys() <= {"crc64nvme"}

    @classmethod
    def of(cls, file: ModelFile, kind: DigestName | None = "sha256") -> FileHash:
        """The digests that prove `file` when it is carried.

        SHA-256 comes with all that is known of the file already, so that it can be compared.  CRC-64/NVME comes alone:
        who asks for it does not want to pay for SHA-256, and then a digest that the source lists is not compared.
        None means what is known of the file and nothing else, which is what reading back has to compare; SHA-256 where
        nothing is known.
        """
        known = COMPUTABLE.intersection(file.digests)
        match kind:
            case None:
                return cls(known or {"sha256"}, file.size)
            case "crc64nvme":
                return cls({kind}, file.size)
            case _:
                return cls({kind, *known}, file.size)

    def update(self, data: memoryview) -> None:
        """Take the next bytes in order."""
        for digest in self._hashes.values():
            digest.update(data)

    def copy(self) -> FileHash:
        """The state at this byte, to come back to when the bytes after it have to be sent again."""
        twin = FileHash((), self._size)
        twin._hashes = {name: digest.copy() for name, digest in self._hashes.items()}
        twin.in_order = self.in_order
        return twin

    def part(self) -> PartHash | FileHash:
        """What a part's chunks go into, from its first on, before it is joined.

        Where the bytes need an order it has to be the only part of the file; each call begins it anew.
        """
        if not self.in_order:
            return PartHash()
        self._hashes = {name: _new(name, self._size) for name in self._hashes}
        return self

    def join(self, offset: int, part: PartHash | FileHash) -> None:
        """Put the whole part that begins at `offset` into its place, each once, in any order, from any thread."""
        if isinstance(part, FileHash):
            return
        with self._lock:
            for digest in self._hashes.values():
                if isinstance(digest, PartHash):
                    digest.join(part, behind=self._size - offset - part.length)

    def digests(self) -> dict[DigestName, str]:
        """All digests in lower-case hex."""
        return {name: digest.hexdigest() for name, digest in self._hashes.items()}


def _new(name: DigestName, size: int) -> _Hash:
    match name:
        case "sha256":
            return hashlib.sha256()
        case "git_sha1":
            return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        case "crc64nvme":
            return PartHash()
        case _:
            raise ValueError(f"no way to compute {name}")


class PartHash:
    """The CRC-64/NVME of one part: its chunks go into `update` in order.  A part that begins again gets a new one."""

    def __init__(self, *, length: int = 0, crc: int = 0) -> None:
        self.length = length
        self._crc = crc
        self._library = _library()

    def update(self, data: memoryview) -> None:
        """Take the next bytes of the part."""
        self._crc = self._library.checksum(data, self._crc)
        self.length += len(data)

    def join(self, part: PartHash, *, behind: int) -> None:
        """Take `part` in, behind which `behind` bytes of the whole follow.

        A CRC is linear: that of the whole is the exclusive or of those of its parts, each carried on over as many zero
        bytes as follow it.
        """
        self._crc ^= self._library.combine(part._crc, 0, behind)

    def copy(self) -> PartHash:
        """The state at this byte."""
        return PartHash(length=self.length, crc=self._crc)

    def hexdigest(self) -> str:
        """The checksum as 16 digits."""
        return f"{self._crc:016x}"


def joined(stretches: Iterable[tuple[int, int, str]], size: int) -> str:
    """The CRC-64/NVME of a file of `size` bytes, from its stretches: where each begins, its bytes and its checksum."""
    whole = PartHash()
    for offset, length, checksum in stretches:
        whole.join(PartHash(length=length, crc=int(checksum, 16)), behind=size - offset - length)
    return whole.hexdigest()


class _Library(NamedTuple):
    checksum: Callable[[memoryview, int], int]
    combine: Callable[[int, int, int], int]


def _library() -> _Library:
    """AWS's common runtime, loaded when it is first asked for: 36 ms a GiB, and it lets other threads run meanwhile."""
    from awscrt import checksums  # type: ignore[import-untyped]  # the wheel brings no type hints

    return _Library(checksums.crc64nvme, checksums.combine_crc64nvme)
