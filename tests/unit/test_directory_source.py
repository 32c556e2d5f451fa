"""What is particular to reading from a folder: links, special files, depth, races and rights."""

import errno
import fcntl
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from syncer.errors import CredentialsRefused, SourceChanged, SourceMissing, SyncerError, UnsafeNames
from syncer.settings.locations import DirectoryLocation
from syncer.stores.directory import DirectorySource
from tests.contract.checks import drain


def source_of(path: Path) -> DirectorySource:
    return DirectorySource(DirectoryLocation(path))


def read(source: DirectorySource, path: str) -> bytes:
    file = source.listing().files[path]
    return drain(source.read(file, 0, file.size), file.size)


def test_links_to_files_inside_are_followed(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "abc").write_bytes(b"weights")
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "model.bin").symlink_to("../blobs/abc")
    source = source_of(tmp_path)
    assert set(source.listing().files) == {"blobs/abc", "snapshot/model.bin"}
    assert read(source, "snapshot/model.bin") == b"weights"


def test_a_snapshot_of_the_hugging_face_cache_may_link_to_its_blobs(tmp_path: Path) -> None:
    repository = tmp_path / "models--ibm--granite"
    snapshot = repository / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "blobs" / "abc").write_bytes(b"weights")
    (snapshot / "model.bin").symlink_to("../../blobs/abc")
    assert read(source_of(snapshot), "model.bin") == b"weights"


def test_what_is_no_file_is_refused_each_by_name(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "token").write_text("not yours")
    root = tmp_path / "model"
    (root / "folder").mkdir(parents=True)
    (root / "fine.bin").write_bytes(b"fine")
    (root / "leaves").symlink_to("../outside/token")
    (root / "leaves-too").symlink_to(outside / "token")
    (root / "to-folder").symlink_to("folder")
    (root / "to-nothing").symlink_to("nowhere")
    (root / "circle").symlink_to("circle")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(root / "socket"))
        with pytest.raises(UnsafeNames) as caught:
            source_of(root).listing()
    assert [problem.split("'")[1] for problem in caught.value.problems] == [
        "circle",
        "leaves",
        "leaves-too",
        "pipe",
        "socket",
        "to-folder",
        "to-nothing",
    ]


def test_a_link_that_leaves_only_after_the_listing_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"secret")
    root = tmp_path / "model"
    root.mkdir()
    (root / "file.bin").write_bytes(b"secret")
    source = source_of(root)
    file = source.listing().files["file.bin"]
    (root / "file.bin").unlink()
    (root / "file.bin").symlink_to("../outside")
    os.utime(tmp_path / "outside", ns=(int(file.version), int(file.version)))
    with pytest.raises(SourceChanged):
        source.read(file, 0, 6)


def test_a_folder_that_became_a_link_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file.bin").write_bytes(b"secret")
    root = tmp_path / "model"
    (root / "deep").mkdir(parents=True)
    (root / "deep" / "file.bin").write_bytes(b"public")
    source = source_of(root)
    file = source.listing().files["deep/file.bin"]
    (root / "deep").rename(tmp_path / "elsewhere")
    (root / "deep").symlink_to(tmp_path / "outside")
    os.utime(tmp_path / "outside" / "file.bin", ns=(int(file.version), int(file.version)))
    with pytest.raises(SourceChanged):
        source.read(file, 0, 6)


def test_names_that_are_no_utf8_are_refused(tmp_path: Path) -> None:
    (tmp_path / "fine.bin").write_bytes(b"fine")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.bin")).write_bytes(b"latin")
    with pytest.raises(UnsafeNames) as caught:
        source_of(tmp_path).listing()
    assert caught.value.problems == ("'caf\\udce9.bin' its name is not valid UTF-8",)
    caught.value.message.encode()


def test_folders_of_the_volume_itself_are_passed_over(tmp_path: Path) -> None:
    for folder in ("lost+found", ".snapshot", "deep/.snapshot"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "old.bin").write_bytes(b"old")
    (tmp_path / "lost+found" / "pipe").parent.mkdir(exist_ok=True)
    os.mkfifo(tmp_path / "lost+found" / "pipe")
    (tmp_path / "deep" / "lost+found.txt").write_bytes(b"content")
    assert set(source_of(tmp_path).listing().files) == {"deep/lost+found.txt"}


def test_deep_folders_do_not_crash(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(400):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    with os.fdopen(os.open("file.bin", os.O_CREAT | os.O_WRONLY, dir_fd=here), "wb") as file:
        file.write(b"deep")
    os.close(here)
    assert read(source_of(tmp_path), "d/" * 400 + "file.bin") == b"deep"


def test_a_file_that_grows_while_it_is_read_is_noticed_at_the_last_byte(tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(b"x" * 100)
    source = source_of(tmp_path)
    file = source.listing().files["file.bin"]
    opened = source.read(file, 0, 100)
    assert opened.readinto(memoryview(bytearray(50))) == 50
    with (tmp_path / "file.bin").open("ab") as more:
        more.write(b"y")
    with pytest.raises(SourceChanged):
        opened.readinto(memoryview(bytearray(50)))


def test_a_file_that_is_cut_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(b"x" * 100)
    source = source_of(tmp_path)
    opened = source.read(source.listing().files["file.bin"], 0, 100)
    os.truncate(tmp_path / "file.bin", 10)
    with pytest.raises(SourceChanged):
        drain(opened, 100)


def test_one_file_that_is_a_link_keeps_the_name_the_user_gave(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "abc").write_bytes(b"weights")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.gguf").symlink_to("../blobs/abc")
    source = source_of(tmp_path / "model" / "model.gguf")
    assert read(source, "model.gguf") == b"weights"
    assert source.look_again(source.listing().files["model.gguf"]).size == 7


def test_a_path_through_a_file_is_missing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(SourceMissing) as caught:
        source_of(tmp_path / "file" / "below").listing()
    assert "S3_SYNC_SRC__PATH" in caught.value.hint


@pytest.mark.parametrize(
    ("number", "error"),
    [("EACCES", CredentialsRefused), ("EIO", SyncerError), ("ESTALE", SyncerError)],
)
def test_errors_of_the_volume_name_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str, error: type[SyncerError]
) -> None:
    (tmp_path / "file.bin").write_bytes(b"x" * 100)
    source = source_of(tmp_path)
    opened = source.read(source.listing().files["file.bin"], 0, 100)
    code: int = getattr(errno, number)

    def broken(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "preadv", broken)
    with pytest.raises(error) as caught:
        opened.readinto(memoryview(bytearray(10)))
    assert str(tmp_path / "file.bin") in caught.value.message
    assert caught.value.retryable == (number != "EACCES")


# ---------------------------------------------------------------------------------------------------------- clones

LARGE = bytes(range(256)) * 8192


@pytest.fixture
def clone(tmp_path: Path) -> Callable[..., tuple[bool, bytes]]:
    """Let a source of one file clone it into a file beside; what it says, and what is in that file then."""

    def attempt(source: DirectorySource, content: bytes = LARGE) -> tuple[bool, bytes]:
        (tmp_path / "model.bin").write_bytes(content)
        file = source.listing().files["model.bin"]
        if not source.worth_fetching(file):
            return False, b""
        into = tmp_path.parent / f"{tmp_path.name}-into"
        into.touch()
        moved: list[int] = []
        said = source.fetch(file, into, moved=moved.append)
        assert sum(moved) == (len(content) if said else 0)
        return said, into.read_bytes()

    return attempt


def sharing(target: int, request: int, origin: int) -> int:
    """What ioctl(2) does with FICLONE where blocks can be shared."""
    assert request == 0x40049409
    assert os.sendfile(target, origin, 0, 1 << 30) == len(LARGE)
    return 0


def test_a_file_system_that_shares_blocks_clones_large_files(
    tmp_path: Path, clone: Callable[..., tuple[bool, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "ioctl", sharing)
    source = source_of(tmp_path)
    assert clone(source) == (True, LARGE)
    assert clone(source, b"small") == (False, b""), "which is quicker read and written"
    assert clone(source) == (True, LARGE)


def test_a_file_system_that_refuses_is_not_asked_again(
    tmp_path: Path, clone: Callable[..., tuple[bool, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def refuse(target: int, request: int, origin: int) -> int:
        asked.append(request)
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    source = source_of(tmp_path)
    assert [clone(source), clone(source)] == [(False, b""), (False, b"")]
    assert len(asked) == 1


def test_a_file_that_changes_while_it_is_cloned_is_no_clone(
    tmp_path: Path, clone: Callable[..., tuple[bool, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(target: int, request: int, origin: int) -> int:
        os.utime(tmp_path / "model.bin", ns=(1, 1))
        return sharing(target, request, origin)

    monkeypatch.setattr(fcntl, "ioctl", change)
    with pytest.raises(SourceChanged):
        clone(source_of(tmp_path))


def test_a_refusal_lasts_though_another_file_is_being_cloned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / "from" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "from" / name).write_bytes(LARGE)
        (tmp_path / name).touch()
    source = source_of(tmp_path / "from")
    files = source.listing().files
    asked: list[int] = []

    def refuse_the_second(target: int, request: int, origin: int) -> int:
        asked.append(request)
        if len(asked) > 1:
            raise OSError(errno.EXDEV, "not from there")
        assert not source.fetch(files["b"], tmp_path / "b", moved=asked.append)
        return sharing(target, request, origin)

    monkeypatch.setattr(fcntl, "ioctl", refuse_the_second)
    assert source.fetch(files["a"], tmp_path / "a", moved=lambda _: None)
    assert not source.worth_fetching(files["a"])
