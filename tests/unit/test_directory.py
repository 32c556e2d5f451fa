"""What is particular to writing into a folder: rights, places, space."""

import errno
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncer.errors import ConfigurationError, OutOfSpace, UnsafeNames
from syncer.manifest import Manifest, ModelFile
from syncer.settings.locations import DirectoryLocation
from syncer.stores.directory import DirectoryDestination, upload
from syncer.stores.protocols import Cut
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


@pytest.fixture
def tight_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def suspended(destination: DirectoryDestination, file: ModelFile, *parts: int) -> str:
    begun = destination.begin(file, CUT)
    for index in parts:
        send_part(begun, index, part_of(CONTENT, CUT, index))
    begun.suspend()
    return begun.token


@pytest.mark.usefixtures("tight_umask")
def test_everything_is_group_writable_whatever_the_umask(root: Path, destination: DirectoryDestination) -> None:
    store(destination, "a/b/file.bin", CONTENT, part_size=100)
    destination.control.write("complete.json", b"{}")
    suspended(destination, as_file("other.bin", CONTENT), 0)
    for path in (root, *root.rglob("*")):
        wanted = 0o775 if path.is_dir() else 0o664
        assert stat.S_IMODE(path.stat().st_mode) & wanted == wanted, path


def test_set_group_id_of_folders_is_kept(root: Path, destination: DirectoryDestination) -> None:
    root.mkdir(parents=True)
    root.chmod(0o2775)
    store(destination, "a/file.bin", CONTENT, part_size=100)
    assert (root / "a").stat().st_mode & stat.S_ISGID


def test_a_volume_that_knows_no_chmod_and_no_fallocate_works(
    root: Path, destination: DirectoryDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "not the owner")

    monkeypatch.setattr(os, "fchmod", refuse)
    monkeypatch.setattr(upload, "_fallocate", lambda: None)
    before = os.umask(0o077)
    try:
        store(destination, "a/file.bin", CONTENT, part_size=100)
        destination.control.write("complete.json", b"{}")
        destination.commit(Manifest("", "", {}))
    finally:
        os.umask(before)
    assert (root / "a" / "file.bin").read_bytes() == CONTENT


ANOTHER_POD = """
import os
import sys
from pathlib import Path
from syncer.errors import SyncerError
from syncer.manifest import Manifest
from syncer.settings.locations import DirectoryLocation
from syncer.stores.directory import DirectoryDestination
from tests.contract.checks import as_file, part_of, send_part, some_bytes, store
from syncer.stores.protocols import Cut
os.setgroups([])
os.setgid(0)
os.setuid(1000680000)
content, cut = some_bytes(250), Cut(250, 100)
destination = DirectoryDestination(DirectoryLocation(Path(sys.argv[1])))
try:
    destination.prepare()
    store(destination, "file.bin", b"of another pod", part_size=100)
    begun = destination.begin(as_file("deep/resumed.bin", content), cut, resume=sys.argv[2])
    print(sorted(begun.done))
    for index in {0, 1, 2} - begun.done:
        send_part(begun, index, part_of(content, cut, index))
    begun.finish()
    destination.control.remove("complete.json")
    destination.control.write("complete.json", b"{}", expected="")
    destination.commit(Manifest("", "", {}))
except SyncerError as error:
    print(type(error).__name__, error.message, error.hint)
"""


def as_another_pod(root: Path, *arguments: str) -> str:
    """Run the script as a UID that nobody knows, of group 0 as OpenShift does."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    answer = subprocess.run(
        [sys.executable, "-c", ANOTHER_POD, str(root), *arguments],
        cwd=Path(__file__).parents[2],
        env={"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not answer.stderr
    return answer.stdout


@pytest.fixture
def volume() -> Iterator[Path]:
    """A folder that other users reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o2775)  # noqa: PTH101 - the descriptor-free call that tempfile's str needs
        yield Path(folder)


@pytest.mark.usefixtures("tight_umask")
def test_another_uid_of_group_0_overwrites_and_resumes(volume: Path) -> None:
    root = volume / "model"
    destination = DirectoryDestination(DirectoryLocation(root))
    store(destination, "file.bin", b"of root", part_size=100)
    destination.control.write("complete.json", b"{}")
    token = suspended(destination, as_file("deep/resumed.bin", CONTENT), 0, 1)
    assert as_another_pod(root, token) == "[0, 1]\n"
    assert (root / "file.bin").read_bytes() == b"of another pod"
    assert (root / "deep" / "resumed.bin").read_bytes() == CONTENT
    assert (root / "file.bin").stat().st_uid == 1000680000


def test_a_folder_of_another_uid_is_refused_by_name_with_both_uids(volume: Path) -> None:
    (volume / "model").mkdir(mode=0o755)
    told = as_another_pod(volume / "model", "none")
    assert told.startswith("CredentialsRefused")
    assert str(volume / "model") in told
    for words in ("UID 1000680000", "UID 0", "fsGroup", "S3_SYNC_DEST__PATH"):
        assert words in told


def test_missing_folders_come_with_the_first_byte(root: Path, destination: DirectoryDestination) -> None:
    destination.prepare()
    assert destination.free_bytes()
    assert not root.parent.exists()
    store(destination, "file.bin", CONTENT, part_size=100)
    assert (root / "file.bin").read_bytes() == CONTENT


def test_a_mount_point_that_is_not_there_is_a_mistake() -> None:
    destination = DirectoryDestination(DirectoryLocation(Path("/no-such-mount/models")))
    for call in (destination.prepare, lambda: destination.begin(as_file("x", b"x"), Cut(1, 1))):
        with pytest.raises(ConfigurationError, match="nothing is mounted"):
            call()
    assert not Path("/no-such-mount").exists()


def test_a_file_is_no_destination(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(ConfigurationError, match="not a folder"):
        DirectoryDestination(DirectoryLocation(tmp_path / "file")).prepare()


def test_a_control_folder_that_is_a_link_leads_nowhere(tmp_path: Path, root: Path) -> None:
    (tmp_path / "outside" / "state").mkdir(parents=True)
    root.mkdir(parents=True)
    (root / ".syncer").symlink_to(tmp_path / "outside")
    destination = DirectoryDestination(DirectoryLocation(root))
    for call in (
        lambda: destination.begin(as_file("x", b"x"), Cut(1, 1)),
        lambda: destination.control.write("complete.json", b"{}"),
    ):
        with pytest.raises(UnsafeNames):
            call()
    assert [path.name for path in (tmp_path / "outside").rglob("*")] == ["state"]


def test_a_folder_that_became_a_link_takes_no_file(tmp_path: Path, root: Path) -> None:
    (tmp_path / "outside").mkdir()
    destination = DirectoryDestination(DirectoryLocation(root))
    begun = destination.begin(as_file("deep/file.bin", b"x"), Cut(1, 1))
    send_part(begun, 0, b"x")
    (root / "deep").symlink_to(tmp_path / "outside")
    with pytest.raises(UnsafeNames):
        begun.finish()
    assert list((tmp_path / "outside").iterdir()) == []
    begun.abort()
    assert state_of(root) == []


@pytest.mark.parametrize("path", ["../up.bin", "/etc/passwd", "a/../../up", ".syncer/complete.json", ""])
def test_a_manifest_that_lies_deletes_nothing(root: Path, destination: DirectoryDestination, path: str) -> None:
    destination.control.write("complete.json", b"{}")
    (root.parent / "up.bin").write_bytes(b"theirs")
    with pytest.raises(UnsafeNames):
        destination.delete([path])
    assert (root.parent / "up.bin").exists()
    assert destination.control.read("complete.json")


def test_delete_takes_the_link_and_not_what_it_leads_to(root: Path, destination: DirectoryDestination) -> None:
    store(destination, "file.bin", CONTENT, part_size=100)
    (root / "link.bin").symlink_to("file.bin")
    destination.delete(["link.bin"])
    assert destination.listing().files.keys() == {"file.bin"}


def test_delete_leaves_no_empty_folder_but_the_root(root: Path, destination: DirectoryDestination) -> None:
    for path in ("a/b/c/one.bin", "a/two.bin"):
        store(destination, path, CONTENT, part_size=100)
    destination.delete(["a/b/c/one.bin"])
    assert sorted(path.name for path in (root / "a").iterdir()) == ["two.bin"]
    destination.delete(["a/two.bin"])
    destination.commit(Manifest("", "", {}))
    assert not (root / "a").exists()
    assert root.exists()


def test_a_full_volume_is_told_before_the_first_byte(
    root: Path, destination: DirectoryDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(upload, "_allocate", full)
    with pytest.raises(OutOfSpace) as caught:
        destination.begin(as_file("file.bin", CONTENT), CUT)
    assert "file.bin" in caught.value.message
    assert "volume" in caught.value.message
    assert state_of(root) == []


@pytest.mark.parametrize(("part_size", "promised"), [(len(CONTENT), 0), (len(CONTENT) - 1, len(CONTENT))])
def test_only_files_of_several_parts_ask_for_their_room(
    root: Path, destination: DirectoryDestination, monkeypatch: pytest.MonkeyPatch, part_size: int, promised: int
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(upload, "_allocate", lambda _, size: asked.append(size))
    store(destination, "file.bin", CONTENT, part_size=part_size)
    assert asked == [promised]
    assert (root / "file.bin").read_bytes() == CONTENT


def test_a_file_larger_than_the_volume_is_out_of_space(destination: DirectoryDestination, root: Path) -> None:
    size = 1 << 50
    try:
        begun = destination.begin(ModelFile("huge.bin", size, "1"), Cut(size, 1 << 40))
    except OutOfSpace:
        assert state_of(root) == []
    else:
        begun.abort()
        pytest.skip("this file system promises space that it does not have")


def test_space_that_unfinished_uploads_hold_counts_as_free(
    destination: DirectoryDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 64 << 20
    begun = destination.begin(ModelFile("file.bin", size, "1"), Cut(size, 1 << 20))
    held = next(iter(Path(destination.name).glob(".syncer/state/partial-*"))).stat().st_blocks * 512
    if not held:
        pytest.skip("this file system does not reserve space")
    found = os.statvfs(destination.name)
    monkeypatch.setattr(os, "statvfs", lambda _: found)
    with_it = destination.free_bytes()
    begun.abort()
    without = destination.free_bytes()
    assert with_it is not None
    assert without is not None
    assert with_it - without == held
