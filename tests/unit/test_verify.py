"""Finding what is wrong, missing or extra: by a listing, and by reading everything back."""

import hashlib
import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from syncer import job
from syncer.errors import CredentialsRefused
from syncer.manifest import DigestName, FileRecord, Listing, Manifest, ModelFile
from syncer.progress import Progress
from syncer.schedule import Sizing
from syncer.settings.locations import DirectoryLocation, Settings, Transfer
from syncer.stop import StopSwitch
from syncer.transfer import Engine
from syncer.verify import Differences, against_listing, everything, of_unseen, read_back
from tests.support.carrying import KiB, pattern, sha256
from tests.support.injured import FlippingSource, RefusingSource
from tests.support.memory_store import MemoryDestination, MemorySource, MemoryVolume


def record(path: str, data: bytes, version: str, **digests: str) -> FileRecord:
    known: dict[DigestName, str] = {"sha256": sha256(data)}
    return FileRecord(path, len(data), digests or known, "stream", "s", version)  # type: ignore[arg-type]  # names of digests


class Bench:
    """A destination with files, and the manifest that was written when they were well."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.volume = MemoryVolume()
        self.volume.fill("model/", files)
        self.destination = MemoryDestination(self.volume)
        self.records = {path: record(path, data, self.version(path)) for path, data in files.items()}

    def version(self, path: str) -> str:
        return self.volume.objects[f"model/{path}"].version

    def read_all(self) -> Differences:
        engine = Engine(Sizing(), StopSwitch(), Progress(total_bytes=0, total_files=0))
        manifest = Manifest("source", "", self.records)
        return everything(engine, self.destination, manifest, self.destination.listing())


FILES = {"weights": pattern(300 * KiB), "config.json": b"{}", "deep/empty": b""}


def test_a_listing_tells_sizes_versions_and_names() -> None:
    records = {path: record(path, b"abc", "v1") for path in ("same", "shorter", "newer", "gone", "unversioned")}
    records["unversioned"] = record("unversioned", b"abc", "")
    there = {
        "same": ModelFile("same", 3, "v1"),
        "shorter": ModelFile("shorter", 2, "v1"),
        "newer": ModelFile("newer", 3, "v2"),
        "extra": ModelFile("extra", 3, "v1"),
        "unversioned": ModelFile("unversioned", 3, "v9"),
    }
    found = against_listing(records, Listing(there))
    assert found.wrong == {"shorter": "2 bytes instead of 3", "newer": "changed after it was written"}
    assert (found.missing, found.extra) == (("gone",), ("extra",))
    assert found.not_extra() == ["gone", "newer", "shorter"]
    assert (found.files, found.bytes) == (5, 15)


def test_no_difference_is_false() -> None:
    assert not against_listing({}, Listing({}))
    assert Differences({"a": "torn"}, (), ())
    assert Differences({}, ("a",), ())
    assert Differences({}, (), ("a",))
    assert not Differences({}, (), (), unproved=("a",))


def test_differences_become_one_error_that_names_the_first_few() -> None:
    missing = tuple(f"file-{n}" for n in range(9))
    error = Differences({"torn": "2 bytes instead of 3"}, missing, ("extra",)).to_error()
    assert error.exit_code == os.EX_DATAERR
    assert "11 file(s)" in error.message
    assert "wrong: torn: 2 bytes instead of 3" in error.message
    assert "missing: file-0" in error.message
    assert "and 6 more" in error.message
    assert "file-8" not in error.message


def test_a_model_that_is_well_shows_no_difference_and_is_read_once() -> None:
    bench = Bench(FILES)
    found = bench.read_all()
    assert not found
    assert (found.files, found.bytes, found.unproved) == (3, 300 * KiB + 2, ())
    assert bench.volume.bytes_read == 300 * KiB + 2


def test_every_wrong_missing_and_extra_file_is_named() -> None:
    bench = Bench(FILES | {"gone": b"gone", "shorter": b"shorter"})
    torn = bytearray(FILES["weights"])
    torn[-1] ^= 1
    bench.volume.put("model/weights", bytes(torn))
    bench.volume.put("model/shorter", b"short")
    bench.volume.put("model/extra", b"extra")
    del bench.volume.objects["model/gone"]
    found = bench.read_all()
    assert sorted(found.wrong) == ["shorter", "weights"]
    assert sha256(FILES["weights"]) in found.wrong["weights"]
    assert (found.missing, found.extra) == (("gone",), ("extra",))


def test_bytes_count_more_than_versions() -> None:
    bench = Bench(FILES)
    bench.volume.put("model/config.json", FILES["config.json"])
    assert not bench.read_all(), "touched, and still the same bytes"


def test_without_a_digest_that_can_be_computed_the_version_is_all_there_is() -> None:
    bench = Bench({"a": b"abc"})
    bench.records["a"] = replace(bench.records["a"], digests={})
    assert bench.read_all().unproved == ("a",)
    bench.volume.put("model/a", b"xyz")
    found = bench.read_all()
    assert found.wrong == {"a": "changed after it was written"}


def test_a_git_digest_proves_as_well() -> None:
    bench = Bench({"a": b"abc"})
    blob = hashlib.sha1(b"blob 3\0abc").hexdigest()
    bench.records["a"] = record("a", b"abc", "old", git_sha1=blob)
    assert not bench.read_all()
    bench.records["a"] = record("a", b"abc", "old", git_sha1=blob[::-1])
    assert sorted(bench.read_all().wrong) == ["a"]


def test_a_checksum_proves_as_well_and_nothing_else_is_computed() -> None:
    bench = Bench({"a": b"123456789", "b": b"xyz"})
    bench.records["a"] = record("a", b"123456789", "old", crc64nvme="ae8b14860a799888")
    assert not bench.read_all()
    bench.volume.put("model/a", b"123456798")
    wrong = bench.read_all().wrong
    assert sorted(wrong) == ["a"]
    assert "crc64nvme" in wrong["a"]


def test_what_is_read_back_has_digests_and_what_is_not_as_listed_an_error() -> None:
    bench = Bench(FILES)
    listed = list(bench.destination.listing().files.values())
    bench.volume.put("model/config.json", b"changed")
    del bench.volume.objects["model/weights"]
    engine = Engine(Sizing(), StopSwitch(), Progress(total_bytes=0, total_files=0))
    digests, failures = read_back(engine, bench.destination, listed)
    assert digests == {"deep/empty": {"sha256": sha256(b"")}}
    assert sorted(failures) == ["config.json", "weights"]


def test_what_nobody_saw_is_held_against_what_the_source_lists() -> None:
    bench = Bench({"listed": b"123456798", "unlisted": b"123456789"})
    there = bench.destination.listing().files
    files = [replace(there["listed"], digests={"sha256": sha256(b"123456789")}), there["unlisted"]]
    engine = Engine(Sizing(), StopSwitch(), Progress(total_bytes=0, total_files=0))
    digests, failures = of_unseen(engine, bench.destination, files, "crc64nvme")
    assert digests == {"unlisted": {"crc64nvme": "ae8b14860a799888"}}
    assert sorted(failures) == ["listed"]


def test_a_bit_that_flips_on_the_way_is_a_finding_and_not_copied_again() -> None:
    bench = Bench(FILES)
    source = FlippingSource(MemorySource(bench.volume), path="weights", at=5)
    engine = Engine(Sizing(), StopSwitch(), Progress(total_bytes=0, total_files=0))
    found = everything(engine, source, Manifest("source", "", bench.records), bench.destination.listing())
    assert sorted(found.wrong) == ["weights"]


def test_what_may_not_be_read_is_no_finding_but_an_error() -> None:
    bench = Bench(FILES)
    engine = Engine(Sizing(), StopSwitch(), Progress(total_bytes=0, total_files=0))
    with pytest.raises(CredentialsRefused):
        read_back(engine, RefusingSource(MemorySource(bench.volume)), bench.destination.listing().files.values())


def test_damage_that_no_listing_shows_is_mended_as_the_hint_says(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/w.bin").write_bytes(b"as it should be")
    settings = Settings(DirectoryLocation(tmp_path / "source"), DirectoryLocation(tmp_path / "there"))
    show, place = nullcontext, tmp_path / "there/w.bin"
    job.sync(settings, StopSwitch(), show)
    was = place.stat()
    place.write_bytes(b"as it should bE")
    os.utime(place, ns=(was.st_atime_ns, was.st_mtime_ns))
    (found,) = job.verify(settings, StopSwitch(), show).values()
    assert isinstance(found, Differences)
    assert "S3_SYNC_TRANSFER_CONFIG__FORCE=true" in found.to_error().hint
    assert job.sync(settings, StopSwitch(), show).copied_files == 0
    job.sync(replace(settings, transfer=Transfer(force=True)), StopSwitch(), show)
    assert place.read_bytes() == b"as it should be"
