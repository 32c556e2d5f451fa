"""The state of a run in progress: what comes back after a kill, and what is passed over."""

import json
import threading
from dataclasses import replace

import pytest

from syncer import journal as state
from syncer.errors import NotThereYet, Transient
from syncer.journal import DONE, PLAN, UPLOADS, Journal, abort_strays, recover
from syncer.manifest import FileRecord, ModelFile
from syncer.plan import OpenFile, Recovered
from syncer.stores.protocols import Cut, OpenUpload
from tests.support.memory_store import MemoryControl, MemoryDestination, MemoryVolume

SOURCE = "s3://source/model/"
OPEN = OpenFile(path="big", token="t1", part_size=8, size=100, source_version="s1", source=SOURCE)


def record(path: str = "a") -> FileRecord:
    return FileRecord(path, 3, {"sha256": "ab"}, "stream", source_version="s", destination_version="d")


class RecordingControl(MemoryControl):
    """Remembers the order of changes; `broken` writes fail."""

    def __init__(self) -> None:
        super().__init__(MemoryVolume(), "model/.syncer/")
        self.changes: list[str] = []
        self.broken = False

    def write(self, name: str, data: bytes, *, expected: str | None = None) -> str:
        if self.broken:
            raise Transient("cannot write")
        self.changes.append(f"write {name}")
        return super().write(name, data, expected=expected)

    def remove(self, name: str) -> None:
        self.changes.append(f"remove {name}")
        super().remove(name)


@pytest.fixture
def control() -> RecordingControl:
    return RecordingControl()


@pytest.fixture
def journal(control: RecordingControl) -> Journal:
    journal = Journal(control, source=SOURCE)
    journal.open_run(["big", "a"])
    return journal


def test_nothing_comes_back_where_no_run_was(control: RecordingControl) -> None:
    assert recover(control) == Recovered()


def test_all_that_was_written_comes_back(control: RecordingControl, journal: Journal) -> None:
    journal.upload_opened(OPEN)
    journal.finished(record(), at_once=True)
    assert recover(control) == Recovered(
        source=SOURCE, planned=frozenset({"a", "big"}), finished={"a": record()}, open_files={"big": OPEN}
    )


def test_a_closed_upload_does_not_come_back(control: RecordingControl, journal: Journal) -> None:
    journal.upload_opened(OPEN)
    journal.upload_opened(replace(OPEN, path="other"))
    journal.upload_closed("big")
    journal.upload_closed("never opened")
    assert list(recover(control).open_files) == ["other"]


def test_small_files_are_written_together_at_the_next_beat(control: RecordingControl, journal: Journal) -> None:
    before = len(control.changes)
    for number in range(500):
        journal.finished(record(f"{number}"), at_once=False)
    assert len(control.changes) == before
    journal.flush()
    journal.flush()
    assert len(control.changes) == before + 1
    assert len(recover(control).finished) == 500


def test_a_large_file_takes_the_small_ones_along(control: RecordingControl, journal: Journal) -> None:
    journal.finished(record("small"), at_once=False)
    journal.finished(record("large"), at_once=True)
    assert set(recover(control).finished) == {"small", "large"}


def test_what_could_not_be_written_is_written_the_next_time(control: RecordingControl, journal: Journal) -> None:
    control.broken = True
    with pytest.raises(Transient):
        journal.finished(record("a"), at_once=True)
    control.broken = False
    journal.finished(record("b"), at_once=True)
    assert set(recover(control).finished) == {"a", "b"}


def test_nothing_is_noted_where_the_destination_is_not_ours_any_more(
    control: RecordingControl, journal: Journal
) -> None:
    def guard() -> None:
        raise NotThereYet("another run has taken this destination over")

    journal.guard = guard
    with pytest.raises(NotThereYet):
        journal.finished(record("large.bin"), at_once=True)
    assert not control.names(DONE)


def test_many_threads_lose_nothing(control: RecordingControl, journal: Journal) -> None:
    def finish(lane: int) -> None:
        for number in range(50):
            journal.finished(record(f"{lane}/{number}"), at_once=number % 7 == 0)

    lanes = [threading.Thread(target=finish, args=(lane,)) for lane in range(6)]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join(30)
    journal.flush()
    assert len(recover(control).finished) == 300
    batches = [entry for name in control.names(DONE) for entry in read(control, name)["files"]]
    assert len(batches) == 300, "each file is in one batch"


def test_a_file_that_ends_while_a_batch_is_written_is_in_the_next_one(
    control: RecordingControl, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = control.write

    def write(name: str, data: bytes, *, expected: str | None = None) -> str:
        monkeypatch.setattr(control, "write", whole)
        journal.finished(record("late"), at_once=False)
        return whole(name, data, expected=expected)

    monkeypatch.setattr(control, "write", write)
    journal.finished(record("early"), at_once=True)
    assert set(recover(control).finished) == {"early"}
    journal.flush()
    assert set(recover(control).finished) == {"early", "late"}


def read(control: MemoryControl, name: str) -> dict[str, list[object]]:
    found = control.read(name)
    assert found is not None
    return dict(json.loads(found[0]))


def test_a_second_run_adds_to_the_first_ones_batches(control: RecordingControl, journal: Journal) -> None:
    journal.finished(record("a"), at_once=True)
    Journal(control, source=SOURCE).finished(record("b"), at_once=True)
    assert set(recover(control).finished) == {"a", "b"}


def test_batches_of_another_source_are_passed_over(control: RecordingControl, journal: Journal) -> None:
    journal.finished(record("a"), at_once=True)
    other = Journal(control, source="file:///other")
    other.open_run(["a", "b"])
    other.finished(record("b"), at_once=True)
    assert set(recover(control).finished) == {"b"}


def test_an_upload_keeps_the_source_it_was_opened_for(control: RecordingControl, journal: Journal) -> None:
    """A later run of another source may have died before it closed it; its token is still there to be aborted."""
    journal.upload_opened(OPEN)
    Journal(control, source="file:///other").open_run(["big"])
    recovered = recover(control)
    assert recovered.source == "file:///other"
    assert recovered.open_files["big"].source == SOURCE


@pytest.mark.parametrize("torn", [b"", b'{"format": 1, "sour', b"[]", b"\xff"], ids=repr)
def test_without_a_plan_that_can_be_read_nothing_is_ours(
    control: RecordingControl, journal: Journal, torn: bytes
) -> None:
    journal.upload_opened(OPEN)
    journal.finished(record(), at_once=True)
    control.write(PLAN, torn)
    assert recover(control) == Recovered()


def batch(files: object, source: object = SOURCE) -> bytes:
    return json.dumps({"format": 1, "source": source, "files": files}).encode()


def upload(**changes: object) -> bytes:
    entry = {"path": "x", "token": "t", "part_size": 8, "size": 9, "source_version": "s", "source": SOURCE}
    return json.dumps(entry | changes).encode()


@pytest.mark.parametrize(
    "name",
    [f"{DONE}hostile.json", f"{UPLOADS}hostile.json"],
    ids=["done", "uploads"],
)
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"\x00\xff",
        b'{"files": [',
        b"{}",
        batch(5),
        batch(True),
        batch("abc"),
        batch({"a": 1}),
        batch([None, 5, "a", [], {}]),
        batch([{"path": "x"}]),
        batch([{"path": "x", "size": "3", "proved_by": "stream"}]),
        batch([{"path": "x", "size": 3, "proved_by": "stream", "digests": 5}]),
        batch([record("x").to_json()], source=None),
        batch([record("x").to_json()], source=[SOURCE]),
        upload(token=""),
        upload(part_size=0),
        upload(part_size=-1),
        upload(part_size=None),
        upload(part_size=float("inf")),
        upload(size=float("inf")),
        upload(size=float("nan")),
        upload(size=[]),
    ],
    ids=lambda data: repr(data[:90]),
)
def test_hostile_entries_are_passed_over_and_the_others_count(
    control: RecordingControl, journal: Journal, name: str, data: bytes
) -> None:
    journal.upload_opened(OPEN)
    journal.finished(record(), at_once=True)
    control.write(name, data)
    recovered = recover(control)
    assert recovered.finished == {"a": record()}
    assert recovered.open_files == {"big": OPEN}


@pytest.mark.parametrize("paths", [None, 5, "abc", {"a": 1}], ids=repr)
def test_a_plan_whose_paths_are_no_list_plans_nothing(control: RecordingControl, paths: object) -> None:
    control.write(PLAN, json.dumps({"source": SOURCE, "paths": paths}).encode())
    assert recover(control) == Recovered(source=SOURCE)


def test_the_plan_goes_last_and_other_control_files_stay(control: RecordingControl, journal: Journal) -> None:
    control.write("manifest.json", b"{}")
    control.write("lease.json", b"{}")
    journal.upload_opened(OPEN)
    journal.finished(record(), at_once=True)
    control.changes.clear()
    state.clear(control)
    assert control.names() == ["lease.json", "manifest.json"]
    assert len(control.changes) == 3
    assert control.changes[-1] == f"remove {PLAN}"


def test_long_and_odd_paths_have_plain_names(control: RecordingControl, journal: Journal) -> None:
    for path in ("a" * 2000, "\udcff/..", "a b+%2F//c"):
        journal.upload_opened(replace(OPEN, path=path))
    names = control.names(UPLOADS)
    assert len(names) == 3
    assert all(name.isascii() and len(name) < 60 and name.count("/") == 2 for name in names)
    assert len(recover(control).open_files) == 3


def test_strays_at_planned_paths_are_aborted_all_others_stay() -> None:
    volume = MemoryVolume()
    destination = MemoryDestination(volume)

    def left(path: str) -> str:
        return destination.begin(ModelFile(path, 10, "v"), Cut(10, 5)).token

    resumed, stray, foreign = left("big"), left("big"), left("foreign")
    aborted = abort_strays(destination, planned={"big", "a"}, resumed={resumed})
    assert aborted == [OpenUpload("big", stray)]
    assert set(volume.uploads) == {resumed, foreign}


def test_an_upload_that_the_journal_names_is_ours_wherever_it_lies() -> None:
    volume = MemoryVolume()
    destination = MemoryDestination(volume)
    named = destination.begin(ModelFile("gone", 10, "v"), Cut(10, 5)).token
    other = destination.begin(ModelFile("gone", 10, "v"), Cut(10, 5)).token
    remembered = [replace(OPEN, path="gone", token=named)]
    assert len(abort_strays(destination, planned={"a"}, resumed=(), remembered=remembered)) == 1
    assert set(volume.uploads) == {other}
