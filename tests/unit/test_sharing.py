"""What the pods of a run tell each other, and how a stretch of a file is carried."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from syncer.manifest import Listing, ModelFile
from syncer.settings.locations import DirectoryLocation, HuggingFaceLocation, ImageLocation
from syncer.sharing import board
from syncer.sharing.board import Notice, SharedFile, SharedPlan
from syncer.sharing.carrying import Stretch
from syncer.sharing.following import pinned
from syncer.stores.protocols import Cut
from tests.support.memory_store import MemoryControl, MemoryVolume

MiB = 1 << 20
LARGE = SharedFile(ModelFile("large", 100 * MiB, "v1"), 8 * MiB, "token")
SMALL = SharedFile(ModelFile('odd "name"\udcff', 10, "v2"), 8 * MiB, vacant=True)
PLAN = SharedPlan("1-a", "s3://source/m/", "rev", 3, {each.file.path: each for each in (LARGE, SMALL)}, True, 0.0)


@pytest.fixture
def control() -> MemoryControl:
    return MemoryControl(MemoryVolume(), "model/.syncer/")


def test_a_plan_comes_back_as_it_was_shared(control: MemoryControl) -> None:
    assert board.read_notice(control) is None
    plan = replace(PLAN, forced=True)
    board.publish(control, plan, holder="me")
    assert board.read_notice(control) == Notice("1-a", 3, "me")
    assert board.read_plan(control, "1-a") == plan
    assert board.read_plan(control, "1-b") is None
    board.withdraw(control)
    assert board.read_notice(control) == Notice()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("run", "1-b"),
        ("count", 0),
        ("count", 10**9),
        ("read_back", -1.0),
        ("files", [["large", 10, "v"]]),
        ("files", [["large", 1 << 50, "v", 1, "", 0]]),
        ("files", [["large", 10, "v", 0, "", 0]]),
    ],
)
def test_a_plan_that_makes_no_sense_is_none(control: MemoryControl, name: str, value: object) -> None:
    board.publish(control, PLAN, holder="me")
    where = "state/shares/1-a/plan.json"
    found = control.read(where)
    assert found is not None
    control.write(where, json.dumps(json.loads(found[0]) | {name: value}).encode())
    assert board.read_plan(control, "1-a") is None


def test_a_plan_is_of_a_listing_with_the_same_versions_alone() -> None:
    def same(*files: ModelFile, plan: SharedPlan = PLAN, **changes: object) -> bool:
        said = {"source": "s3://source/m/", "revision": "rev", "count": 3, "forced": False} | changes
        return plan.is_of(Listing({file.path: file for file in files}), **said)  # type: ignore[arg-type]

    more = ModelFile("more", 1, "v3")
    assert same(LARGE.file, SMALL.file, more)
    assert not same(LARGE.file)
    assert not same(LARGE.file, replace(SMALL.file, version="v3"))
    assert not same(LARGE.file, SMALL.file, count=2)
    assert not same(LARGE.file, SMALL.file, revision="")
    assert not same(LARGE.file, SMALL.file, forced=True)
    assert same(LARGE.file, SMALL.file, forced=True, plan=replace(PLAN, forced=True))


def test_shares_are_done_once_their_pods_say_so(control: MemoryControl) -> None:
    board.note_begun(control, "1-a", 2)
    board.note_done(control, "1-a", 1, {"bytes": 5})
    board.note_done(control, "1-b", 0, {})
    control.write(board.lease_name("1-a", 2), b"{}")
    assert board.done(control, "1-a") == {1}
    assert board.was_begun(control, "1-a", 2)
    assert not board.was_begun(control, "1-a", 1)
    assert board.leases(control) == [board.lease_name("1-a", 2)]
    assert board.read_done(control, "1-a", 1) == {"format": 1, "bytes": 5}


def test_a_stretch_is_a_file_of_its_own_size() -> None:
    file = ModelFile("large", 20 * MiB + 1, "v", {"sha256": "a" * 64})
    last = Stretch(file, Cut(file.size, 8 * MiB), first=1, count=2, token="t")
    assert (last.offset, last.size) == (8 * MiB, 12 * MiB + 1)
    task = last.task(hashed=False)
    assert (task.file.size, task.cut.count, task.resume, dict(task.file.digests)) == (12 * MiB + 1, 2, "t", {})


def test_other_pods_read_the_very_commit_that_was_planned() -> None:
    hub, image = HuggingFaceLocation("owner/name", revision="main"), ImageLocation("quay.io", "org/model", tag="1")
    assert pinned(hub, "a" * 40) == replace(hub, revision="a" * 40)
    assert pinned(image, "sha256:" + "a" * 64) == replace(image, digest="sha256:" + "a" * 64)
    for location in hub, image, DirectoryLocation(Path("/mnt/a")), None:
        for nothing in "", "refs/pr/1", "../../other/model", "sha256:", "A" * 40:
            assert pinned(location, nothing) == location
