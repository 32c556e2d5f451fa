"""A sealed folder as a source tells where its files were before, and what their bytes have to be."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from syncer import marker
from syncer.manifest import BY_HAND, DigestName, FileRecord, Manifest, Origin
from syncer.settings.locations import DirectoryLocation
from syncer.stores.directory import DirectoryDestination, DirectorySource
from tests.support.models import read_model, sha256, small_model, write_model

HUB = Manifest(source="hf://team/model", revision="c0ffee", files={})


def seal(folder: Path, manifest: Manifest = HUB) -> Manifest:
    """Seal what lies in `folder` as `manifest` has its source."""
    place = DirectoryDestination(DirectoryLocation(folder))
    content = read_model(folder)
    records = {
        path: FileRecord(path, file.size, {"sha256": sha256(content[path])}, "stream", "1", file.version)
        for path, file in place.listing().files.items()
    }
    sealed = replace(manifest, files=records)
    marker.write_manifest(place.control, sealed)
    mark = marker.Seal(sealed.fingerprint, sealed.source, sealed.revision, len(records), 0, 0.0, "2025-11-01T00:00:00")
    marker.seal(place.control, mark)
    return sealed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model", small_model())


def listed(folder: Path) -> DirectorySource:
    source = DirectorySource(DirectoryLocation(folder))
    source.listing()
    return source


def test_origin_and_digests(folder: Path) -> None:
    seal(folder)
    source = DirectorySource(DirectoryLocation(folder))
    files = source.listing().files
    assert source.origin == Origin("hf://team/model", "c0ffee")
    assert {path: file.digests for path, file in files.items()} == {
        path: {"sha256": sha256(data)} for path, data in small_model().items()
    }


def test_the_digest_that_a_run_chose_is_told_and_what_is_none_of_ours_is_not(folder: Path) -> None:
    manifest = seal(folder)
    told: dict[DigestName, str] = {"crc64nvme": "00000000000000ff", "git_sha1": "ab" * 20}
    records = {path: replace(record, digests=told) for path, record in manifest.files.items()}
    place = DirectoryDestination(DirectoryLocation(folder))
    marker.write_manifest(place.control, (other := replace(manifest, files=records)))
    mark = marker.read_seal(place.control)
    assert mark is not None
    marker.seal(place.control, replace(mark, fingerprint=other.fingerprint))
    files = DirectorySource(DirectoryLocation(folder)).listing().files
    assert {path: dict(file.digests) for path, file in files.items()} == {
        path: {"crc64nvme": "00000000000000ff"} for path in small_model()
    }


def test_the_origin_of_the_origin(folder: Path) -> None:
    before = Origin("hf://team/model", "c0ffee", recipe="W4A16", inputs="sha256:1")
    seal(folder, replace(HUB, origin=before))
    assert listed(folder).origin == before


def test_what_people_brought_has_no_origin(folder: Path) -> None:
    seal(folder, replace(HUB, source=BY_HAND, revision=""))
    source = DirectorySource(DirectoryLocation(folder))
    assert all(file.digests for file in source.listing().files.values())
    assert source.origin is None


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "new.bin").write_bytes(b"new"),
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: os.utime(folder / "config.json", ns=(1, 1)),
        lambda folder: (folder / ".syncer/complete.json").unlink(),
        lambda folder: (folder / ".syncer/complete.json").write_bytes(b"[]"),
        lambda folder: (folder / ".syncer/manifest.json").unlink(),
        lambda folder: (folder / ".syncer/manifest.json").write_bytes(b'{"format": 1, "files": 3}'),
        lambda folder: marker.write_manifest(DirectoryDestination(DirectoryLocation(folder)).control, HUB),
    ],
    ids=["more", "less", "touched", "unsealed", "no seal", "no manifest", "nonsense", "another manifest"],
)
def test_a_folder_that_is_not_as_it_was_sealed_is_a_folder_like_any_other(folder: Path, change: object) -> None:
    assert callable(change)
    seal(folder)
    change(folder)
    source = DirectorySource(DirectoryLocation(folder))
    assert not any(file.digests for file in source.listing().files.values())
    assert source.origin is None
