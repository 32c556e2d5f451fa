"""The seal and the manifest as control files: written for people and later versions, read with suspicion."""

import json
from dataclasses import replace

import pytest

from syncer import marker
from syncer.manifest import FileRecord, Manifest, Origin
from syncer.marker import COMPLETE, MANIFEST, Seal, dump_json
from tests.support.memory_store import MemoryControl, MemoryVolume

SEAL = Seal(
    fingerprint="sha256:ab",
    source="s3://bucket/model/",
    revision="main",
    files=2,
    bytes=13,
    seconds=1.25,
    completed_at="2026-01-01T00:00:00+00:00",
    registry={"ModelVersion.id": "7"},
)
PROVED = Manifest("s3://bucket/model/", "main", {"a": FileRecord("a", 13, {"sha256": "ab"}, "stream", "s", "d")})


@pytest.fixture
def control() -> MemoryControl:
    return MemoryControl(MemoryVolume(), "model/.syncer/")


def test_a_seal_survives_its_file(control: MemoryControl) -> None:
    marker.seal(control, SEAL)
    assert marker.read_seal(control) == SEAL
    marker.seal(control, replace(SEAL, registry={}))
    assert marker.read_seal(control) == replace(SEAL, registry={})
    marker.seal(control, replace(SEAL, origin=Origin("hf://owner/name", "c0ffee", "W4A16")))
    assert marker.read_seal(control) == replace(SEAL, origin=Origin("hf://owner/name", "c0ffee", "W4A16"))


def test_an_unsealed_folder_has_no_seal(control: MemoryControl) -> None:
    assert marker.read_seal(control) is None
    marker.seal(control, SEAL)
    marker.unseal(control)
    marker.unseal(control)
    assert marker.read_seal(control) is None
    assert control.names() == []


def test_a_manifest_survives_its_file_and_does_not_seal(control: MemoryControl) -> None:
    assert marker.read_manifest(control) is None
    marker.write_manifest(control, PROVED)
    assert marker.read_manifest(control) == PROVED
    assert marker.read_seal(control) is None


def test_names_that_are_no_utf8_survive(control: MemoryControl) -> None:
    odd = "b\udcff\u00fc\u2028"
    proved = replace(PROVED, files={odd: replace(PROVED.files["a"], path=odd)})
    marker.write_manifest(control, proved)
    assert marker.read_manifest(control) == proved


ORIGINS = [None, Origin("hf://owner/name\n", "c0ffee")]
RECORDS = [
    FileRecord("b\udcff\u2028\n", 1, {}, "listing", "s\n ", '"'),
    FileRecord("a", 0, {"sha256": "ab" * 32, "git_sha1": "0\n"}, "stream", "", ""),
]


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("files", [[], RECORDS[:1], RECORDS])
@pytest.mark.parametrize("left", [[], RECORDS[:1], RECORDS])
def test_what_is_written_entry_by_entry_is_plain_json(
    control: MemoryControl, files: list[FileRecord], left: list[FileRecord], origin: Origin | None
) -> None:
    proved = replace(
        PROVED, files={one.path: one for one in files}, left={one.path: one for one in left}, origin=origin
    )
    marker.write_manifest(control, proved)
    written = control.read(MANIFEST)
    assert written is not None
    assert written[0] == json.dumps(proved.to_json(), indent=1).encode() + b"\n"
    assert marker.read_manifest(control) == proved


@pytest.mark.parametrize("document", [{}, {"a": {}, "b": [], "c": {"d": [1, "e\n"], "f": None}}])
def test_a_small_document_is_plain_json(document: dict[str, object]) -> None:
    assert dump_json(document) == json.dumps(document, indent=1).encode() + b"\n"


HOSTILE = [
    b"",
    b"{",
    b"\xff\xfe",
    b"null",
    b"[]",
    b"5",
    b"[" * 100_000,
    b"{}",
    b'{"format": 2, "files": []}',
    b'{"format": 1, "files": 5}',
    b'{"format": 1, "files": [[]]}',
    b'{"format": 1, "files": [{"path": "a", "size": 1e999, "proved_by": "stream"}]}',
    b'{"format": 1, "files": [{"path": "a", "size": 1, "proved_by": "stream", "digests": "abc"}]}',
    b'{"format": 1, "files": [{"path": ["a"], "size": 1, "proved_by": "stream"}]}',
    b'{"format": 1, "files": [{"path": "a", "size": 1, "proved_by": ["stream"]}]}',
    b'{"format": 1, "files": {"path": "a", "size": 1, "proved_by": "stream"}}',
    b'{"path": "a", "size": 1, "proved_by": "stream", "format": 1, "files": []}',
]


@pytest.mark.parametrize("data", HOSTILE, ids=lambda data: repr(data[:60]))
def test_what_cannot_be_understood_is_neither_seal_nor_manifest(control: MemoryControl, data: bytes) -> None:
    for name in (MANIFEST, COMPLETE):
        control.write(name, data)
    assert marker.read_manifest(control) is None
    assert marker.read_seal(control) is None


@pytest.mark.parametrize(
    "change",
    [{"format": 9}, {"files": "x"}, {"files": float("inf")}, {"seconds": None}, {"registry": 5}, {"registry": [1]}],
    ids=str,
)
def test_a_seal_with_one_field_wrong_is_none(control: MemoryControl, change: dict[str, object]) -> None:
    control.write(COMPLETE, json.dumps(SEAL.to_json() | change).encode())
    assert marker.read_seal(control) is None


@pytest.mark.parametrize("field", ["manifest", "source", "revision", "files", "bytes", "completed_at", "tool"])
def test_a_seal_with_one_field_missing_is_none(control: MemoryControl, field: str) -> None:
    document = SEAL.to_json()
    del document[field]
    control.write(COMPLETE, json.dumps(document).encode())
    assert marker.read_seal(control) is None
