"""What is particular to uploads into a folder: what a later process finds, and what lasts."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from syncer.errors import SyncerError, Transient
from syncer.manifest import Manifest, ModelFile
from syncer.settings.locations import DirectoryLocation
from syncer.stores.directory import DirectoryDestination, upload
from syncer.stores.directory.upload import DirectoryUpload
from syncer.stores.protocols import Cut, ForeignFile, UploadLost
from tests.contract.checks import as_file, part_of, send_part, some_bytes, store

CONTENT = some_bytes(250)
CUT = Cut(250, 100)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models" / "a"


@pytest.fixture
def destination(root: Path) -> DirectoryDestination:
    return DirectoryDestination(DirectoryLocation(root))


def state_of(root: Path) -> list[str]:
    return sorted(path.name for path in (root / ".syncer" / "state").glob("*"))


def suspended(destination: DirectoryDestination, file: ModelFile, *parts: int) -> str:
    begun = destination.begin(file, CUT)
    for index in parts:
        send_part(begun, index, part_of(CONTENT, CUT, index))
    begun.suspend()
    return begun.token


def test_a_torn_last_line_counts_for_nothing(root: Path, destination: DirectoryDestination) -> None:
    file = as_file("file.bin", CONTENT)
    token = suspended(destination, file, 0)
    record = root / ".syncer" / "state" / token.replace("partial-", "parts-")
    record.write_bytes(record.read_bytes() + b"1,2")
    assert destination.begin(file, CUT, resume=token).done == {0}


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"\n",
        b"{}\n0\n",
        b"[" * 5000 + b"\n0\n",
        b'{"format": 1, "path": "file.bin"}\n0\n',
        b"\xff\xfe\n",
        b"null\n",
    ],
)
def test_a_record_that_makes_no_sense_starts_anew(root: Path, destination: DirectoryDestination, record: bytes) -> None:
    file = as_file("file.bin", CONTENT)
    token = suspended(destination, file, 0)
    (root / ".syncer" / "state" / token.replace("partial-", "parts-")).write_bytes(record)
    again = destination.begin(file, CUT, resume=token)
    assert again.done == frozenset()
    again.abort()
    assert state_of(root) == []


def test_part_numbers_that_make_no_sense_are_passed_over(root: Path, destination: DirectoryDestination) -> None:
    file = as_file("file.bin", CONTENT)
    token = suspended(destination, file, 0)
    record = root / ".syncer" / "state" / token.replace("partial-", "parts-")
    record.write_bytes(record.read_bytes() + b"-1,99,1e3,x,2\n")
    assert destination.begin(file, CUT, resume=token).done == {0, 2}


@pytest.mark.parametrize(
    ("file", "cut"),
    [
        (as_file("file.bin", CONTENT, version="2"), CUT),
        (as_file("file.bin", CONTENT), Cut(250, 50)),
        (ModelFile("file.bin", 251, "1"), Cut(251, 100)),
    ],
    ids=["another version", "another cut", "another size"],
)
def test_what_is_not_the_same_any_more_starts_anew(
    root: Path, destination: DirectoryDestination, file: ModelFile, cut: Cut
) -> None:
    token = suspended(destination, as_file("file.bin", CONTENT), 0, 1)
    again = destination.begin(file, cut, resume=token)
    assert again.done == frozenset()
    assert token not in state_of(root)


def test_the_token_of_another_file_is_left_alone(root: Path, destination: DirectoryDestination) -> None:
    token = suspended(destination, as_file("theirs.bin", CONTENT), 0)
    assert destination.begin(as_file("ours.bin", CONTENT), CUT, resume=token).done == frozenset()
    assert token in state_of(root)


def test_a_temporary_file_that_was_cut_starts_anew(root: Path, destination: DirectoryDestination) -> None:
    file = as_file("file.bin", CONTENT)
    token = suspended(destination, file, 0)
    os.truncate(root / ".syncer" / "state" / token, 10)
    assert destination.begin(file, CUT, resume=token).done == frozenset()


def test_parts_are_written_down_in_batches_after_their_bytes(
    root: Path, destination: DirectoryDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "BATCH", 200)
    begun = destination.begin(as_file("file.bin", CONTENT), CUT)
    record = root / ".syncer" / "state" / begun.token.replace("partial-", "parts-")
    synced: list[int] = []
    fdatasync = os.fdatasync

    def counted(descriptor: int) -> None:
        synced.append(len(record.read_bytes().splitlines()))
        fdatasync(descriptor)

    monkeypatch.setattr(os, "fdatasync", counted)
    send_part(begun, 0, part_of(CONTENT, CUT, 0))
    assert synced == []
    send_part(begun, 1, part_of(CONTENT, CUT, 1))
    assert synced == [1, 2]
    assert record.read_bytes().splitlines()[1:] == [b"0,1"]


def test_after_a_failed_force_the_file_starts_again(
    root: Path, destination: DirectoryDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = destination.begin(as_file("file.bin", CONTENT), CUT)
    for index in range(3):
        send_part(begun, index, part_of(CONTENT, CUT, index))

    def lost(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lost)
        with pytest.raises(Transient):
            begun.finish()
    with pytest.raises(UploadLost, match="start again"):
        begun.finish()
    begun.suspend()
    assert state_of(root) == []
    assert destination.listing().files == {}


def test_long_names_are_resumed_and_told_too(root: Path, destination: DirectoryDestination) -> None:
    path = "/".join(["ü" * 100] * 3)
    file = as_file(path, CONTENT)
    token = suspended(destination, file, 2)
    assert [upload.path for upload in destination.open_uploads()] == [path]
    assert destination.begin(file, CUT, resume=token).done == {2}


def test_an_abort_does_not_redirect_a_write_that_is_under_way(root: Path, destination: DirectoryDestination) -> None:
    begun = destination.begin(as_file("file.bin", CONTENT), CUT)
    sink = begun.open_part(1)
    begun.abort()
    with (root / "innocent.bin").open("wb+", buffering=0) as innocent:  # takes the lowest free descriptor
        sink.send(memoryview(part_of(CONTENT, CUT, 1)))
        sink.cancel()
        assert innocent.read() == b""
    with pytest.raises(SyncerError):
        begun.open_part(0)


def test_every_folder_that_changed_is_forced_to_the_volume(
    root: Path, destination: DirectoryDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(destination, "a/b/file.bin", CONTENT, part_size=100)
    forced: list[str] = []
    fsync = os.fsync

    def counted(descriptor: int) -> None:
        forced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", counted)
    destination.commit(Manifest("", "", {}))
    assert {str(root / "a" / "b"), str(root / "a"), str(root)} <= set(forced)
    forced.clear()
    destination.commit(Manifest("", "", {}))
    assert forced == []


def test_the_bytes_are_forced_before_the_name_is_there(
    root: Path, destination: DirectoryDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    root.mkdir(parents=True)
    order: list[str] = []

    def tell(name: str, call: Callable[..., None]) -> Callable[..., None]:
        def told(*arguments: object, **options: object) -> None:
            order.append(name)
            call(*arguments, **options)

        return told

    monkeypatch.setattr(os, "fsync", tell("fsync", os.fsync))
    monkeypatch.setattr(os, "rename", tell("rename", os.rename))
    store(destination, "file.bin", CONTENT, part_size=1000)
    assert order == ["fsync", "rename"]


def vacant(destination: DirectoryDestination) -> DirectoryUpload:
    """An upload of `file.bin`, whole, to a place where nothing was."""
    destination.spare(["file.bin"])
    begun = destination.begin(as_file("file.bin", CONTENT), CUT)
    for index in range(CUT.count):
        send_part(begun, index, part_of(CONTENT, CUT, index))
    return begun


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EPERM, errno.EMLINK])
def test_a_volume_without_links_replaces_nothing_that_a_last_look_shows(
    root: Path, destination: DirectoryDestination, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def unsupported(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", unsupported)
    begun = vacant(destination)
    (root / "file.bin").write_bytes(b"theirs")
    with pytest.raises(ForeignFile):
        begun.finish()
    (root / "file.bin").unlink()
    begun.finish()
    assert (root / "file.bin").read_bytes() == CONTENT
    assert state_of(root) == []


def test_a_file_of_the_same_bytes_is_as_good_as_ours(root: Path, destination: DirectoryDestination) -> None:
    begun = vacant(destination)
    (root / "file.bin").write_bytes(CONTENT)
    there = (root / "file.bin").stat()
    version = begun.finish()
    assert (root / "file.bin").stat().st_ino == there.st_ino
    assert version == destination.listing().files["file.bin"].version == str(there.st_mtime_ns)
    assert state_of(root) == []


@pytest.mark.parametrize("kind", ["folder", "link", "pipe", "changed byte"])
def test_whatever_has_the_name_stays(root: Path, destination: DirectoryDestination, kind: str) -> None:
    begun, place = vacant(destination), root / "file.bin"
    match kind:
        case "folder":
            place.mkdir()
        case "link":
            (root / "other").write_bytes(CONTENT)
            place.symlink_to("other")
        case "pipe":
            os.mkfifo(place)
        case _:
            place.write_bytes(CONTENT[:-1] + b"?")
    before = place.lstat()
    with pytest.raises(ForeignFile):
        begun.finish()
    begun.abort()
    assert (place.lstat().st_ino, place.lstat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert state_of(root) == []


def test_a_link_whose_answer_was_lost_is_ours(
    root: Path, destination: DirectoryDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = os.unlink

    def lost(*_: object, **__: object) -> None:
        monkeypatch.setattr(os, "unlink", unlink)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    begun = vacant(destination)
    monkeypatch.setattr(os, "unlink", lost)
    with pytest.raises(Transient):
        begun.finish()
    assert (root / "file.bin").stat().st_nlink == 2
    begun.finish()
    assert (root / "file.bin").stat().st_nlink == 1
    assert state_of(root) == []


def test_a_run_killed_between_its_two_names_leaves_a_file_that_nobody_writes_to(
    root: Path, destination: DirectoryDestination
) -> None:
    file = as_file("file.bin", CONTENT)
    token = suspended(destination, file, 0, 1, 2)
    os.link(root / ".syncer/state" / token, root / "file.bin")
    later = DirectoryDestination(DirectoryLocation(root)).begin(file, CUT, resume=token)
    assert later.done == frozenset()
    assert later.token != token
    assert (root / "file.bin").stat().st_nlink == 1
    later.abort()
    assert (root / "file.bin").read_bytes() == CONTENT
