"""The seal of a model's folder: `.syncer/manifest.json` and, last of all, `.syncer/complete.json`.

While `complete.json` is there, the folder holds exactly what the manifest says.  A run that is about to change a sealed
folder removes it first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from io import BytesIO
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, Final

from syncer import __version__
from syncer.claims import from_json, is_size, json_text
from syncer.manifest import FORMAT, FileRecord, Listing, Manifest, Origin, sorted_pairs, taking_records
from syncer.stores.protocols import ControlFolder

MANIFEST: Final = "manifest.json"
COMPLETE: Final = "complete.json"
_ENDLESS: Final = 1e10


@dataclass(frozen=True)
class Seal:
    """What `complete.json` says: the manifest's fingerprint and, for those who wait, where the model came from.

    `origin` is where it was before it came to `source`, where that is known.
    """

    fingerprint: str
    source: str
    revision: str
    files: int
    bytes: int
    seconds: float
    completed_at: str
    tool: str = f"syncer {__version__}"
    registry: Mapping[str, str] = field(default_factory=dict)
    origin: Origin | None = None

    def to_json(self) -> dict[str, Any]:
        """The document of `.syncer/complete.json`."""
        return {
            "format": FORMAT,
            "manifest": self.fingerprint,
            "source": self.source,
            "revision": self.revision,
            "files": self.files,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            "completed_at": self.completed_at,
            "tool": self.tool,
            "registry": dict(self.registry),
            **({"origin": asdict(self.origin)} if self.origin is not None else {}),
        }


def read_seal(control: ControlFolder) -> Seal | None:
    """The seal, or None when the folder is not sealed (or by something that cannot be understood)."""
    document = read_json(control, COMPLETE)
    try:
        if document is None or document["format"] != FORMAT:
            return None
        return Seal(
            fingerprint=str(document["manifest"]),
            source=str(document["source"]),
            revision=str(document["revision"]),
            files=_count(document["files"]),
            bytes=_count(document["bytes"]),
            seconds=_seconds(document["seconds"]),
            completed_at=str(document["completed_at"]),
            tool=str(document["tool"]),
            registry={str(name): str(value) for name, value in dict(document.get("registry") or {}).items()},
            origin=Origin.from_json(document.get("origin")),
        )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, RecursionError):
        return None


def read_manifest(control: ControlFolder, *listings: Listing) -> Manifest | None:
    """What an earlier run proved, or None when there is nothing that can be understood.

    What `listings` have of the same files already is not kept in memory twice.
    """
    document = read_json(control, MANIFEST, taking_records(*listings))
    try:
        return None if document is None else Manifest.from_json(document)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None


def unseal(control: ControlFolder) -> None:
    """From here on the folder is mixed and says so."""
    control.remove(COMPLETE)


def write_manifest(control: ControlFolder, manifest: Manifest) -> None:
    """Record what is proved.  Readers look at it only through the versions in it, so it may stand before the seal."""
    control.write(MANIFEST, dump_json(manifest.to_json(record_texts)))


def seal(control: ControlFolder, mark: Seal) -> None:
    """The last write of a run."""
    control.write(COMPLETE, dump_json(mark.to_json()))


def dump_json(document: Mapping[str, Any]) -> bytes:
    """A control file's bytes: readable by people, the same for the same content.

    A value that is an iterator is a list whose entries are JSON already, as `record_texts` and `quoted` make it: of
    very many entries none is in memory but as a part of the result.
    """
    written = BytesIO()
    before = "{"
    for name, value in document.items():
        written.write(f"{before}\n {quoted(name)}: ".encode())
        before = ","
        if not isinstance(value, Iterator):
            # JSON has no line breaks inside of texts: all there are belong to the indentation.
            written.write(json.dumps(value, ensure_ascii=True, indent=1).replace("\n", "\n ").encode())
            continue
        first = True
        for text in value:
            written.write(f"{'[' if first else ','}\n  {text}".encode())
            first = False
        written.write(b"[]" if first else b"\n ]")
    written.write(b"{}\n" if before == "{" else b"\n}\n")
    return written.getvalue()


def record_texts(records: Iterable[FileRecord]) -> Iterator[str]:
    """Each record as an entry of a list in a control file: the JSON of `FileRecord.to_json`, indented to its place."""
    for record in records:
        pairs = ",\n    ".join([f"{quoted(name)}: {quoted(value)}" for name, value in sorted_pairs(record.digests)])
        digests = f"{{\n    {pairs}\n   }}" if pairs else "{}"
        yield (
            f'{{\n   "path": {quoted(record.path)},\n   "size": {record.size},\n   "digests": {digests},\n'
            f'   "proved_by": {quoted(record.proved_by)},\n   "source_version": {quoted(record.source_version)},\n'
            f'   "destination_version": {quoted(record.destination_version)}\n  }}'
        )


def read_json(
    control: ControlFolder, name: str, take: Callable[[dict[str, Any]], Any] | None = None
) -> dict[str, Any] | None:
    """A control file as a JSON object; None when it is absent or is not one, whoever wrote it.

    `take` is that of `from_json`.
    """
    found = control.read(name)
    if found is None:
        return None
    try:
        text = json_text(found[0])
    except ValueError:
        return None
    del found  # as large as the text, and not needed beside it
    return parse_json(text, take)


def parse_json(data: bytes | str, take: Callable[[dict[str, Any]], Any] | None = None) -> dict[str, Any] | None:
    """The JSON object that a control file holds; None when it holds anything else."""
    try:
        document = from_json(data, take)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _count(told: Any) -> int:
    if not is_size(told):
        raise ValueError("no number of files or bytes")
    return told


def _seconds(told: Any) -> float:
    seconds = float(told)
    if not 0 <= seconds < _ENDLESS:  # false for what is no number, too
        raise ValueError("no number of seconds")
    return seconds
