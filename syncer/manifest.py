"""What a model is made of: pure values, no input or output.

A `Listing` is what a store shows at one moment.  A `Manifest` is what a run has proved, and it travels with the model
as `.syncer/manifest.json`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, Final, Literal, get_args

from syncer.claims import is_size

CONTROL_FOLDER: Final = ".syncer"
"""The folder inside a model's own folder that holds marker, manifest, journal and lease; never content."""

LARGEST_CONTROL_FILE: Final = 512 * 1024 * 1024
"""Bytes; more than the manifest of a million files: who put a larger file there is none of ours."""

BY_HAND: Final = "uploaded-by-hand"
"""The source of a model that people uploaded to its destination themselves."""

VOLUMES_OWN: Final = frozenset({"lost+found", ".snapshot"})
"""What a file system keeps in its own root: never content, never deleted."""

DigestName = Literal["sha256", "crc64nvme", "git_sha1"]
ProvedBy = Literal["stream", "readback", "server-copy", "listing"]
_PROOFS: Final[Mapping[str, ProvedBy]] = {proof: proof for proof in get_args(ProvedBy)}
_DIGEST_BYTES: Final[Mapping[DigestName, int]] = {"crc64nvme": 8, "git_sha1": 20, "sha256": 32}
_CODES: Final[Mapping[str, int]] = {name: code for code, name in enumerate(_DIGEST_BYTES)}
_NAMES: Final = tuple(_DIGEST_BYTES.items())
FORMAT: Final = 1


def is_control_path(path: str) -> bool:
    """Whether `path` has a `.syncer` component at any depth: such paths never count as content."""
    return CONTROL_FOLDER in path and CONTROL_FOLDER in path.split("/")


class Digests(Mapping[DigestName, str]):
    """The digests of one file by name, in lower-case hex to whoever asks, and as bytes in memory.

    A model may have a hundred thousand files: a dict with one digest takes 300 bytes, this takes 130.
    """

    __slots__ = ("_packed",)

    def __init__(self, packed: bytes = b"") -> None:
        self._packed = packed

    @classmethod
    def of(cls, digests: Mapping[DigestName, str]) -> Mapping[DigestName, str]:
        """Equal to `digests`; a dict as before where that holds what is no digest that we know."""
        if isinstance(digests, Digests):
            return digests
        if not digests:
            return NO_DIGESTS
        packed: list[bytes] = []
        for name in sorted(digests):
            value, code = digests[name], _CODES.get(name)
            if code is None or len(value) != 2 * _NAMES[code][1]:
                return digests
            try:
                raw = bytes.fromhex(value)
            except ValueError:
                return digests
            if raw.hex() != value:
                return digests
            packed += (_CODE_BYTES[code], raw)
        return cls(b"".join(packed))

    def __getitem__(self, wanted: DigestName) -> str:
        for name, raw in self.unpacked():
            if name == wanted:
                return raw.hex()
        raise KeyError(wanted)

    def __iter__(self) -> Iterator[DigestName]:
        return (name for name, _ in self.unpacked())

    def __len__(self) -> int:
        return len(self.unpacked())

    def __bool__(self) -> bool:
        return bool(self._packed)

    def __eq__(self, other: object) -> bool:
        return self._packed == other._packed if isinstance(other, Digests) else super().__eq__(other)

    def __hash__(self) -> int:
        return hash(self._packed)

    def __repr__(self) -> str:
        return repr(dict(self))

    def unpacked(self) -> list[tuple[DigestName, bytes]]:
        """Names and digests, in the order of the names."""
        packed, at, found = self._packed, 0, []
        while at < len(packed):
            name, length = _NAMES[packed[at]]
            found.append((name, packed[at + 1 : at + 1 + length]))
            at += 1 + length
        return found


def sorted_pairs(digests: Mapping[DigestName, str]) -> list[tuple[DigestName, str]]:
    """What `sorted(digests.items())` is, sooner."""
    if isinstance(digests, Digests):
        return [(name, raw.hex()) for name, raw in digests.unpacked()]
    return sorted(digests.items())


_CODE_BYTES: Final = tuple(bytes([code]) for code in range(len(_NAMES)))
NO_DIGESTS: Final[Mapping[DigestName, str]] = Digests()


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file as a store lists it.

    `path` is relative to the model's folder, exactly as in the store (for a bucket: the key below the prefix).
    `version` changes whenever the bytes may have changed (S3: the ETag; a directory: modification time in ns).
    `digests` holds what the store itself knows of the whole file, in lower-case hex; most know nothing.
    """

    path: str
    size: int
    version: str
    digests: Mapping[DigestName, str] = NO_DIGESTS
    content_type: str = ""


@dataclass(frozen=True)
class Listing:
    """All files of one model's folder as a store shows them, without control files.

    At a destination `nested` names the sealed folders inside this one (`granite` for `granite/.syncer/…`): their files
    are not in `files`, and no run writes or deletes below them.  A source has none: what is below it is to be copied,
    whoever has sealed it there.
    """

    files: Mapping[str, ModelFile]
    nested: frozenset[str] = frozenset()

    @property
    def total_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files.values())

    def nested_above(self, path: str) -> str | None:
        """The sealed folder of somebody else that `path` lies in, or None."""
        if not self.nested:
            return None
        parts = path.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            if folder in self.nested:
                return folder
        return None

    @classmethod
    def of(cls, files: Iterable[ModelFile], *, control_paths: Iterable[str] = ()) -> Listing:
        """Build from content files and the paths of control files that were seen beside them.

        `control_paths` are full paths with a `.syncer` component; those at the top are this folder's own, the deeper
        ones mark nested sealed folders, whose content is left out here.
        """
        nested = set()
        for path in control_paths:
            parts = path.split("/")
            depth = parts.index(CONTROL_FOLDER)
            if depth:
                nested.add("/".join(parts[:depth]))
        bare = cls({}, frozenset(nested))
        return cls({file.path: file for file in files if bare.nested_above(file.path) is None}, bare.nested)


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file of a manifest: what it is and how that was proved.

    `proved_by` says who has seen the bytes: `stream` (hashed on their way through this process), `readback` (hashed on
    a way back from the destination), `server-copy` (the store copied them itself), `listing` (name and size alone).
    """

    path: str
    size: int
    digests: Mapping[DigestName, str]
    proved_by: ProvedBy
    source_version: str
    destination_version: str

    def __post_init__(self) -> None:
        """Take no more memory than needed: a run holds as many records as the model has files."""
        if not isinstance(self.digests, Digests):
            object.__setattr__(self, "digests", Digests.of(self.digests))
        if self.destination_version == self.source_version:
            object.__setattr__(self, "destination_version", self.source_version)

    @property
    def awaits_proof(self) -> bool:
        """Whether the file is whole at the destination and still to be read back: only a journal has such records."""
        return self.proved_by == "readback" and not self.digests

    def to_json(self) -> dict[str, Any]:
        """The record as the contract's manifest entry."""
        return {
            "path": self.path,
            "size": self.size,
            "digests": dict(sorted_pairs(self.digests)),
            "proved_by": self.proved_by,
            "source_version": self.source_version,
            "destination_version": self.destination_version,
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> FileRecord:
        """Read an entry written by `to_json`; raises KeyError, TypeError or ValueError for anything else."""
        path, size, proof, digests = entry["path"], entry["size"], entry["proved_by"], entry.get("digests") or {}
        if not isinstance(path, str) or not is_size(size):
            raise ValueError("path must be text and size a whole number of bytes")
        if (proved_by := _PROOFS.get(proof)) is None or not isinstance(digests, Mapping):
            raise ValueError("a proof of a kind that is not known to this version")
        return cls(
            path=path,
            size=size,
            digests={name: str(value) for name, value in digests.items()},
            proved_by=proved_by,
            source_version=str(entry.get("source_version", "")),
            destination_version=str(entry.get("destination_version", "")),
        )


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a model's files were before they came to the source of a run, and what was done to them since.

    `recipe` says how the model was compressed, in words that are the same for the same outcome; empty if it was not.
    `inputs` stands for the exact files that it was made of, where no `revision` does.
    """

    source: str
    revision: str = ""
    recipe: str = ""
    inputs: str = ""

    @classmethod
    def from_json(cls, entry: Any) -> Origin | None:
        """Read what `dataclasses.asdict` made of one; None for anything else."""
        if not isinstance(entry, Mapping) or not entry.get("source"):
            return None
        return cls(*(str(entry.get(name, "")) for name in ("source", "revision", "recipe", "inputs")))


@dataclass(frozen=True)
class Manifest:
    """The proven content of a model's folder: one record per file, by path.

    `origin` is what the source told of the time before it, if anything.  `left` holds records of files that an earlier
    run wrote, that the source no longer has and that were not deleted: no part of the model, but still ours to remove.
    """

    source: str
    revision: str
    files: Mapping[str, FileRecord]
    left: Mapping[str, FileRecord] = field(default_factory=dict)
    origin: Origin | None = None

    @property
    def total_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(record.size for record in self.files.values())

    @property
    def known_revision(self) -> str:
        """The revision that people know the model by: its origin's where that has one, else the source's."""
        return (self.origin.revision if self.origin is not None else "") or self.revision

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over paths, sizes and digests in order: equal for equal content, whatever the stores' versions.

        What is hashed is the JSON of `[path, size, [[name, digest], …]]` for each file, digests by name.
        """
        digest = hashlib.sha256()
        for path in sorted(self.files):
            record = self.files[path]
            pairs = ", ".join([f"[{quoted(name)}, {quoted(value)}]" for name, value in sorted_pairs(record.digests)])
            digest.update(f"[{quoted(path)}, {record.size}, [{pairs}]]".encode())
        return "sha256:" + digest.hexdigest()

    def to_json(self, entries: Callable[[Iterator[FileRecord]], Any] | None = None) -> dict[str, Any]:
        """The document of `.syncer/manifest.json`, its records in the order of their paths as `entries` makes them."""
        make = entries or (lambda records: [record.to_json() for record in records])
        return {
            "format": FORMAT,
            "source": self.source,
            "revision": self.revision,
            "fingerprint": self.fingerprint,
            "files": make(self.files[path] for path in sorted(self.files)),
            "left": make(self.left[path] for path in sorted(self.left)),
            **({"origin": dataclasses.asdict(self.origin)} if self.origin is not None else {}),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Manifest:
        """Read a document written by `to_json`; raises KeyError, TypeError or ValueError for anything else."""
        if document["format"] != FORMAT:
            raise ValueError(f"manifest format {document['format']!r} is not known to this version")
        return cls(
            source=str(document.get("source", "")),
            revision=str(document.get("revision", "")),
            files=_by_path(document["files"]),
            left=_by_path(document.get("left") or ()),
            origin=Origin.from_json(document.get("origin")),
        )


def taking_records(*listings: Listing) -> Callable[[dict[str, Any]], Any]:
    """For `claims.from_json`: makes a `FileRecord` of each entry as soon as it is read, and leaves all else as it is.

    So no more than one entry is ever a dict, which takes four times the memory.  A path or version that one of
    `listings` has for that file is not kept twice.
    """

    def take(found: dict[str, Any]) -> Any:
        if "proved_by" not in found:
            return found
        try:
            for listing in listings:
                if (file := listing.files.get(found["path"])) is not None:
                    _share(found, file)
            return FileRecord.from_json(found)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
            return found  # whoever wants a record there will see that it is none

    return take


def _share(found: dict[str, Any], file: ModelFile) -> None:
    found["path"] = file.path
    for name in ("source_version", "destination_version"):
        if found.get(name) == file.version:
            found[name] = file.version
    if type(found["size"]) is int and found["size"] == file.size:
        found["size"] = file.size


def _by_path(entries: Iterable[FileRecord | Mapping[str, Any]]) -> dict[str, FileRecord]:
    records = (entry if isinstance(entry, FileRecord) else FileRecord.from_json(entry) for entry in entries)
    return {record.path: record for record in records}
