"""Files that a source writes by itself to a path of the destination: when, how they are proved, and when no more."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from syncer.errands import CopyErrand
from syncer.errors import OutOfSpace, SyncerError, Transient
from syncer.flight import Task
from syncer.journal import Journal
from syncer.manifest import FileRecord, ModelFile
from syncer.settings.locations import DirectoryLocation
from syncer.stores.directory import DirectoryDestination
from syncer.stores.protocols import Cut, Source

DATA = b"model"


class Fetching:
    """A source that fetches files with `large` in their names, unless it is told to `fail`."""

    name = "hub"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fail: SyncerError | None = None

    def worth_fetching(self, file: ModelFile) -> bool:
        return "large" in file.path

    def fetch(self, file: ModelFile, into: Path, *, moved: Callable[[int], None]) -> bool:
        self.asked.append(file.path)
        into.write_bytes(DATA[:2])
        moved(2)
        if self.fail is not None:
            raise self.fail
        into.write_bytes(DATA)
        return "elsewhere" not in file.path


class Remembering:
    """Stands for the journal."""

    def __init__(self) -> None:
        self.records: list[FileRecord] = []

    def guard(self) -> None:
        """The lease is ours."""

    def finished(self, record: FileRecord, *, at_once: bool) -> None:
        self.records.append(record)


@pytest.fixture
def source() -> Fetching:
    return Fetching()


@pytest.fixture
def journal() -> Remembering:
    return Remembering()


@pytest.fixture
def errand(source: Fetching, journal: Remembering, tmp_path: Path) -> CopyErrand:
    destination = DirectoryDestination(DirectoryLocation(tmp_path))
    return CopyErrand(cast("Source", source), destination, cast("Journal", journal), cut=lambda size: Cut(size, 64))


def task(path: str, **more: Any) -> Task:
    return Task(ModelFile(path, len(DATA), "v", {"sha256": "00"}), Cut(len(DATA), 64), **more)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_fetched_file_is_there_and_still_to_be_proved(
    errand: CopyErrand, journal: Remembering, tmp_path: Path
) -> None:
    told: list[int] = []
    wanted = task("large")
    assert errand.shortcut(wanted, moved=told.append)
    assert contents(tmp_path) == {"large": DATA}
    assert (errand.unseen, told) == ([wanted], [2])
    assert [(record.proved_by, dict(record.digests)) for record in journal.records] == [("readback", {})]


def test_what_was_wrong_is_not_fetched_a_second_time(errand: CopyErrand, source: Fetching) -> None:
    assert errand.shortcut(task("large"), moved=lambda _: None)
    assert not errand.shortcut(task("large"), moved=lambda _: None)
    assert errand.shortcut(task("another large"), moved=lambda _: None)
    assert source.asked == ["large", "another large"]


@pytest.mark.parametrize("wanted", [task("small"), task("large", resume="token")])
def test_small_and_resumed_files_are_not_tried(errand: CopyErrand, source: Fetching, wanted: Task) -> None:
    assert not errand.shortcut(wanted, moved=lambda _: None)
    assert source.asked == []


def test_a_file_that_is_kept_elsewhere_leaves_nothing(errand: CopyErrand, tmp_path: Path) -> None:
    assert not errand.shortcut(task("large elsewhere"), moved=lambda _: None)
    assert contents(tmp_path) == {}
    assert errand.shortcut(task("large"), moved=lambda _: None)


def test_the_first_failure_ends_the_attempts_of_the_run(errand: CopyErrand, source: Fetching, tmp_path: Path) -> None:
    source.fail = Transient("refused")
    assert not errand.shortcut(task("large"), moved=lambda _: None)
    assert not errand.shortcut(task("another large"), moved=lambda _: None)
    assert (source.asked, contents(tmp_path), errand.unseen) == (["large"], {}, [])


def test_what_is_no_passing_fault_ends_the_run_and_leaves_nothing(
    errand: CopyErrand, source: Fetching, tmp_path: Path
) -> None:
    source.fail = OutOfSpace("full")
    with pytest.raises(OutOfSpace):
        errand.shortcut(task("large"), moved=lambda _: None)
    assert contents(tmp_path) == {}
