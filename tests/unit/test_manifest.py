"""Listings and manifests as values: what counts as content, whose folder a path lies in, what a fingerprint says."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncer.claims import from_json
from syncer.manifest import (
    FORMAT,
    DigestName,
    Digests,
    FileRecord,
    Listing,
    Manifest,
    ModelFile,
    Origin,
    is_control_path,
    taking_records,
)


def record(path: str = "a", **changes: Any) -> FileRecord:
    plain = FileRecord(path, 3, {"sha256": "ab"}, "stream", source_version="s", destination_version="d")
    return replace(plain, **changes)


def manifest(*records: FileRecord, left: Mapping[str, FileRecord] | None = None) -> Manifest:
    return Manifest("s3://bucket/", "r1", {one.path: one for one in records}, left or {})


@pytest.mark.parametrize(
    ("path", "control"),
    [
        (".syncer/complete.json", True),
        ("granite/.syncer/state/plan.json", True),
        (".syncer", True),
        (".syncers/file", False),
        ("a.syncer/file", False),
        ("file.syncer", False),
    ],
)
def test_a_control_path_has_the_folder_as_a_whole_component(path: str, control: bool) -> None:
    assert is_control_path(path) is control


def test_control_files_of_others_mark_their_folders_and_hide_what_is_below() -> None:
    files = [
        ModelFile(path, 1, "v") for path in ("config.json", "granite/config.json", "a/b/c", "granite-2/config.json")
    ]
    listing = Listing.of(
        files, control_paths=[".syncer/lease.json", "granite/.syncer/complete.json", "a/b/.syncer/x/.syncer/y"]
    )
    assert listing.nested == {"granite", "a/b"}
    assert sorted(listing.files) == ["config.json", "granite-2/config.json"]


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        ("granite/config.json", "granite"),
        ("granite/deep/config.json", "granite"),
        ("a/b/c/d", "a/b"),
        ("a/b", None),
        ("granite", None),
        ("granite-2/config.json", None),
        ("other", None),
    ],
)
def test_a_path_knows_the_sealed_folder_above_it(path: str, folder: str | None) -> None:
    assert Listing({}, frozenset({"granite", "a/b"})).nested_above(path) == folder


def test_totals_count_bytes() -> None:
    assert Listing({"a": ModelFile("a", 3, "v"), "b": ModelFile("b", 4, "v")}).total_bytes == 7
    assert manifest(record("a"), record("b", size=10)).total_bytes == 13


def test_the_fingerprint_is_of_content_and_not_of_versions_or_order() -> None:
    one = manifest(record("a"), record("b"))
    assert one.fingerprint.startswith("sha256:")
    assert (
        one.fingerprint == manifest(record("b"), record("a", source_version="x", destination_version="y")).fingerprint
    )
    others = [
        manifest(record("a")),
        manifest(record("a"), record("c")),
        manifest(record("a"), record("b", size=4)),
        manifest(record("a"), record("b", digests={"sha256": "ac"})),
        manifest(record("a"), record("b", digests={})),
    ]
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 6


def test_what_is_left_of_earlier_runs_is_no_part_of_the_fingerprint() -> None:
    assert manifest(record("a"), left={"b": record("b")}).fingerprint == manifest(record("a")).fingerprint


texts = st.text(max_size=12)
digest_names: st.SearchStrategy[DigestName] = st.sampled_from(("sha256", "crc64nvme", "git_sha1"))
hex_digits = st.sampled_from((8, 20, 32)).flatmap(lambda size: st.binary(min_size=size, max_size=size)).map(bytes.hex)
digests_of_any_kind = st.dictionaries(digest_names, hex_digits | hex_digits.map(str.upper) | texts)
records = st.builds(
    FileRecord,
    path=texts,
    size=st.integers(0, 2**63 - 1),
    digests=digests_of_any_kind,
    proved_by=st.sampled_from(["stream", "readback", "server-copy", "listing"]),
    source_version=texts,
    destination_version=texts,
)


@given(st.lists(records), st.lists(records), texts)
def test_a_manifest_survives_its_file(files: list[FileRecord], left: list[FileRecord], revision: str) -> None:
    before = Manifest("source", revision, {one.path: one for one in files}, {one.path: one for one in left})
    after = Manifest.from_json(json.loads(json.dumps(before.to_json())))
    assert after == before
    assert after.fingerprint == before.fingerprint


@settings(max_examples=30)
@given(st.lists(records), st.lists(records), st.lists(st.builds(ModelFile, path=texts, size=st.just(1), version=texts)))
def test_a_file_that_is_read_entry_by_entry_says_the_same(
    files: list[FileRecord], left: list[FileRecord], listed: list[ModelFile]
) -> None:
    text = json.dumps(manifest(*files, left={one.path: one for one in left}).to_json())
    near = Listing.of(replace(record, version=one.source_version) for record, one in zip(listed, files, strict=False))
    assert Manifest.from_json(from_json(text, taking_records(Listing.of(listed), near))) == Manifest.from_json(
        json.loads(text)
    )


def test_a_record_that_is_read_shares_what_a_listing_has() -> None:
    file = ModelFile(b"model".decode(), 1 << 40, b"etag".decode())
    text = json.dumps(FileRecord("model", 1 << 40, {}, "stream", "etag", "etag").to_json())
    found = from_json(text, taking_records(Listing.of([file])))
    assert (found.path, found.size, found.source_version, found.destination_version) == (
        "model",
        1 << 40,
        "etag",
        "etag",
    )
    assert found.path is file.path
    assert found.size is file.size
    assert found.source_version is found.destination_version is file.version


@settings(max_examples=30)
@given(digests_of_any_kind, digests_of_any_kind)
def test_packed_digests_are_what_a_dict_of_them_is(known: dict[DigestName, str], others: dict[DigestName, str]) -> None:
    packed = Digests.of(known)
    assert packed == known
    assert (dict(packed), len(packed), bool(packed), sorted(packed)) == (known, len(known), bool(known), sorted(known))
    assert (packed == Digests.of(others)) is (known == others)
    assert all(packed.get(name) == others.get(name) for name in others) is (others.items() <= known.items())


@settings(max_examples=30)
@given(st.lists(records))
def test_the_fingerprint_is_the_hash_of_plain_json(files: list[FileRecord]) -> None:
    by_path = {one.path: one for one in files}
    lines = [[path, by_path[path].size, sorted(by_path[path].digests.items())] for path in sorted(by_path)]
    told = hashlib.sha256(b"".join(json.dumps(line).encode() for line in lines)).hexdigest()
    assert manifest(*files).fingerprint == f"sha256:{told}"


def test_entries_stand_in_the_order_of_their_paths() -> None:
    document = manifest(record("b"), record("a")).to_json()
    assert [entry["path"] for entry in document["files"]] == ["a", "b"]


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"format": FORMAT + 1, "files": []},
        {"format": FORMAT},
        {"format": FORMAT, "files": 5},
        {"format": FORMAT, "files": ["a"]},
        {"format": FORMAT, "files": [{"path": "a"}]},
        {"format": FORMAT, "files": [{"path": 1, "size": 1, "proved_by": "stream"}]},
        {"format": FORMAT, "files": [{"path": "a", "size": -1, "proved_by": "stream"}]},
        {"format": FORMAT, "files": [{"path": "a", "size": True, "proved_by": "stream"}]},
        {"format": FORMAT, "files": [{"path": "a", "size": "1", "proved_by": "stream"}]},
        {"format": FORMAT, "files": [{"path": "a", "size": 1}]},
        {"format": FORMAT, "files": [{"path": "a", "size": 1, "proved_by": "stream", "digests": [1]}]},
    ],
    ids=str,
)
def test_anything_else_is_no_manifest(document: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Manifest.from_json(document)


@pytest.mark.parametrize(
    ("origin", "known"),
    [
        (None, "sha256:ab"),
        (Origin("hf://owner/name", "c0ffee"), "c0ffee"),
        (Origin("/mnt/model"), "sha256:ab"),  # an image made of a folder is known by its digest
    ],
)
def test_a_model_is_known_by_the_revision_of_its_origin_if_that_has_one(origin: Origin | None, known: str) -> None:
    assert Manifest("oci://quay.io/org/model:1", "sha256:ab", {}, origin=origin).known_revision == known
