"""Runs with another digest than SHA-256, and what later runs make of their proof."""

import json
import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from syncer import job
from syncer.digests import PartHash
from syncer.errors import WrongBytes
from syncer.memory import MiB
from syncer.settings.locations import ArchiveLocation, DirectoryLocation, Settings, Transfer
from syncer.settings.timetable import timetable
from syncer.settings.values import DigestChoice
from syncer.stop import StopSwitch
from syncer.verify import Differences
from tests.support.carrying import pattern, sha256
from tests.support.foreign_images import DictionaryDepot, olot_image

WEIGHTS = pattern(17 * MiB + 5)
FAST = Transfer(digest="crc64nvme")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/weights").write_bytes(WEIGHTS)
    (tmp_path / "source/config.json").write_bytes(b"123456789")
    return Settings(DirectoryLocation(tmp_path / "source"), DirectoryLocation(tmp_path / "there"), transfer=FAST)


def entries(place: Path) -> dict[str, Any]:
    document = json.loads((place / ".syncer/manifest.json").read_bytes())
    return {entry["path"]: entry for entry in document["files"]}


def crc(data: bytes) -> str:
    digest = PartHash()
    digest.update(memoryview(data))
    return digest.hexdigest()


def test_the_checksum_of_many_parts_is_in_the_manifest_and_proves(settings: Settings, tmp_path: Path) -> None:
    job.sync(settings, StopSwitch(), nullcontext)
    place = tmp_path / "there"
    assert (place / "weights").read_bytes() == WEIGHTS
    found = entries(place)
    assert found["weights"]["digests"] == {"crc64nvme": crc(WEIGHTS)}
    assert found["config.json"]["digests"] == {"crc64nvme": "ae8b14860a799888"}
    assert {entry["proved_by"] for entry in found.values()} == {"stream"}
    (verified,) = job.verify(settings, StopSwitch(), nullcontext).values()
    assert not verified
    with (place / "weights").open("r+b") as file:
        file.seek(9 * MiB)
        file.write(b"!")
    (verified,) = job.verify(settings, StopSwitch(), nullcontext).values()
    assert isinstance(verified, Differences)
    assert sorted(verified.wrong) == ["weights"]


@pytest.mark.parametrize(("first", "second"), [("sha256", "crc64nvme"), ("crc64nvme", "sha256")])
def test_a_proof_counts_whichever_digest_is_asked_for_now(
    settings: Settings, tmp_path: Path, first: DigestChoice, second: DigestChoice
) -> None:
    job.sync(replace(settings, transfer=Transfer(digest=first)), StopSwitch(), nullcontext)
    before = entries(tmp_path / "there")
    again = replace(settings, transfer=Transfer(digest=second))
    assert job.sync(again, StopSwitch(), nullcontext).copied_files == 0
    assert entries(tmp_path / "there") == before
    os.utime(tmp_path / "source/config.json")
    assert job.sync(again, StopSwitch(), nullcontext).copied_files == 1
    kinds = {path: [*entry["digests"]] for path, entry in entries(tmp_path / "there").items()}
    assert kinds == {"config.json": [second], "weights": [first]}
    forced = replace(again, transfer=Transfer(digest=second, force=True))
    assert job.sync(forced, StopSwitch(), nullcontext).copied_files == 2
    assert {*entries(tmp_path / "there")["weights"]["digests"]} == {second}


@pytest.mark.parametrize(("digest", "copied"), [("sha256", 0), ("crc64nvme", 1)])
def test_an_image_under_another_name_is_known_again_by_sha256(
    settings: Settings, tmp_path: Path, digest: DigestChoice, copied: int
) -> None:
    depot = DictionaryDepot()
    olot_image(depot, {"config.json": b"123456789"})
    runs: list[int] = []
    for name in "first.tar", "second.tar":
        depot.archive(tmp_path / name)
        image = replace(settings, source=ArchiveLocation(tmp_path / name), transfer=Transfer(digest=digest))
        runs.append(job.sync(image, StopSwitch(), nullcontext).copied_files)
    assert runs == [1, copied]


def test_the_second_destination_is_held_against_the_first(settings: Settings, tmp_path: Path) -> None:
    both = replace(settings, further=(DirectoryLocation(tmp_path / "beside"),))
    job.sync(both, StopSwitch(), nullcontext)
    assert (tmp_path / "beside/weights").read_bytes() == WEIGHTS
    assert entries(tmp_path / "beside")["weights"]["digests"] == {"crc64nvme": crc(WEIGHTS)}
    # The first one's bytes go wrong between its seal and the second one's turn.
    (tmp_path / "beside/weights").unlink()
    was = (tmp_path / "there/config.json").stat()
    (tmp_path / "beside/config.json").unlink()
    (tmp_path / "there/config.json").write_bytes(b"123456798")
    os.utime(tmp_path / "there/config.json", ns=(was.st_atime_ns, was.st_mtime_ns))
    with pytest.raises(WrongBytes, match="crc64nvme"):
        job.sync(both, StopSwitch(), nullcontext)


def test_an_image_has_sha256_all_the_same(settings: Settings, tmp_path: Path) -> None:
    image = replace(settings, destination=ArchiveLocation(tmp_path / "model.tar"))
    assert image.digest == "sha256"
    assert replace(settings, further=(ArchiveLocation(tmp_path / "model.tar"),)).digest == "sha256"
    job.sync(image, StopSwitch(), nullcontext)
    assert sha256(WEIGHTS).encode() in (tmp_path / "model.tar").read_bytes()


def test_a_limited_run_brings_the_same_bytes(settings: Settings, tmp_path: Path) -> None:
    limited = replace(settings, transfer=replace(FAST, bandwidth=timetable("00:00,4GiB 12:00,3GiB")))
    job.sync(limited, StopSwitch(), nullcontext)
    assert (tmp_path / "there/weights").read_bytes() == WEIGHTS
