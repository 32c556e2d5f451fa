"""What is particular to the control folder of a directory: volumes that know less, writers that die."""

import errno
import fcntl
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest

from syncer.errors import CredentialsRefused, WrongBytes
from syncer.manifest import LARGEST_CONTROL_FILE
from syncer.settings.locations import ArchiveLocation, DirectoryLocation, Network
from syncer.stores.directory import DirectoryDestination, control
from syncer.stores.directory.control import DirectoryControl
from syncer.stores.directory.faults import LockHeld
from syncer.stores.directory.place import Place
from syncer.stores.oci.archive_destination import ArchiveDestination
from syncer.stores.protocols import ControlConflict, Cut, Destination
from tests.contract.checks import some_bytes
from tests.support.measured_memory import peak_of

CONTENT = some_bytes(250)
CUT = Cut(250, 100)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models" / "a"


@pytest.fixture
def destination(root: Path) -> DirectoryDestination:
    return DirectoryDestination(DirectoryLocation(root))


def test_a_volume_without_links_and_locks_says_so(
    destination: DirectoryDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object, **__: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "link", unsupported)
    monkeypatch.setattr(fcntl, "flock", unsupported)
    folder = destination.control
    before = folder.conditional
    folder.write("lease.json", b"1", expected="")
    assert (before, folder.conditional) == (True, False)
    with pytest.raises(ControlConflict):
        folder.write("lease.json", b"2", expected="")


def test_writes_that_were_killed_are_not_shown_and_go_with_the_state(
    root: Path, destination: DirectoryDestination
) -> None:
    destination.control.write("state/plan.json", b"{}")
    (root / ".syncer" / "state" / "new-0123").write_bytes(b"half")
    assert destination.control.names() == ["state/plan.json"]
    destination.control.write("complete.json", b"{}")
    destination.control.remove("state/plan.json")
    assert [path.name for path in (root / ".syncer").iterdir()] == ["complete.json"]


def test_writers_of_many_threads_do_not_disturb_each_other(destination: DirectoryDestination, root: Path) -> None:
    together = threading.Barrier(6)

    def work(number: int) -> None:
        folder = DirectoryDestination(DirectoryLocation(root)).control
        together.wait(30)
        for turn in range(15):
            folder.write(f"state/{number}.json", b"%d" % turn)
            folder.remove(f"state/{number}.json")

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(work, number) for number in range(6)]:
            done.result()
    assert list(root.glob(".syncer/*")) == []


# A lock that somebody keeps ------------------------------------------------------------------------------------------


def hold(root: Path) -> BinaryIO:
    """The lock of a control folder in other hands, as if by a process that was suspended in the middle of a write."""
    lock = root / ".syncer" / "state" / "lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    file = lock.open("ab")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


class Waiting:
    """The control folder of `root`, and the pauses that it makes; `meanwhile` is called in the tenth."""

    def __init__(self, root: Path) -> None:
        self.pauses: list[float] = []
        self.meanwhile: Callable[[], object] = lambda: None
        self.folder = DirectoryControl(Place(root, variable="X"), clock=lambda: sum(self.pauses), pause=self._pause)

    def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if len(self.pauses) == 10:
            self.meanwhile()


@pytest.mark.parametrize("call", ["write", "remove"])
def test_a_lock_that_nobody_lets_go_of_is_waited_for_a_minute_and_left_alone(root: Path, call: str) -> None:
    waiting = Waiting(root)
    waiting.folder.write("lease.json", b"1")

    def work() -> None:
        if call == "write":
            waiting.folder.write("lease.json", b"2")
        else:
            waiting.folder.remove("lease.json")

    with hold(root) as holder:
        lock = Path(holder.name)
        with pytest.raises(LockHeld, match="holds the lock") as caught:
            work()
        assert os.path.samestat(os.fstat(holder.fileno()), lock.stat()), "its holder may wake up"
        found = waiting.folder.read("lease.json")
        assert found is not None
        assert found[0] == b"1", "it is read as before, for reading needs no lock"
    assert 60.0 <= sum(waiting.pauses) < 61.0
    assert str(lock) in caught.value.message
    assert "suspended" in caught.value.hint
    assert (caught.value.exit_code, caught.value.retryable) == (os.EX_UNAVAILABLE, True)
    assert waiting.folder.conditional, "the volume knows locks all the same"
    work()
    assert waiting.folder.names() == (["lease.json"] if call == "write" else [])


@pytest.mark.parametrize("said", [errno.EWOULDBLOCK, errno.EACCES])
def test_a_lock_that_comes_free_is_taken(root: Path, said: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Volumes of other machines have it by the locks of fcntl(2), which may call one that is held a refusal."""
    waiting, flock = Waiting(root), fcntl.flock

    def locked(descriptor: int, operation: int) -> None:
        try:
            flock(descriptor, operation)
        except BlockingIOError as error:
            raise OSError(said, os.strerror(said)) from error

    monkeypatch.setattr(fcntl, "flock", locked)
    with hold(root) as holder:
        waiting.meanwhile = holder.close
        waiting.folder.write("lease.json", b"1", expected="")
    assert (root / ".syncer" / "lease.json").read_bytes() == b"1"
    assert len(waiting.pauses) == 10
    assert max(waiting.pauses) <= 0.1, "nobody says when it comes free"


def test_a_stop_ends_the_waiting_for_a_lock(root: Path) -> None:
    waiting = Waiting(root)
    with hold(root):
        waiting.meanwhile = waiting.folder.interrupt
        for _ in range(2):  # what is written behind a stop, too
            begun = sum(waiting.pauses)
            with pytest.raises(LockHeld):
                waiting.folder.write("lease.json", b"1")
            assert sum(waiting.pauses) - begun < 4.0
    waiting.folder.write("lease.json", b"1")


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_a_stop_of_the_run_reaches_who_waits_for_a_lock(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_HURRY", 0.0)
    destination: Destination = DirectoryDestination(DirectoryLocation(tmp_path))
    root = tmp_path
    if kind == "archive":
        destination = ArchiveDestination(ArchiveLocation(tmp_path / "a.tar"), Network())
        root = tmp_path / ".a.tar.syncer"
    with hold(root), ThreadPoolExecutor(1) as pool:
        writing = pool.submit(destination.control.write, "lease.json", b"1")
        destination.interrupt()
        with pytest.raises(LockHeld):
            writing.result(timeout=30)


def test_errors_of_rights_are_refusals(destination: DirectoryDestination, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "mkdir", read_only)
    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(CredentialsRefused, match="Read-only"):
        destination.control.write("complete.json", b"{}")


def test_a_file_larger_than_any_of_ours_is_not_read(destination: DirectoryDestination, root: Path) -> None:
    destination.control.write("manifest.json", b"{}")
    os.truncate(root / ".syncer" / "manifest.json", LARGEST_CONTROL_FILE + 1)
    with pytest.raises(WrongBytes, match=r"manifest\.json"):
        destination.control.read("manifest.json")


def test_reading_sets_no_more_memory_aside_than_the_file_needs(destination: DirectoryDestination, root: Path) -> None:
    """A lease is read at every beat, in pods whose address space may be limited."""
    destination.control.write("lease.json", b"{}")
    before = f"""
from pathlib import Path
from syncer.settings.locations import DirectoryLocation
from syncer.stores.directory import DirectoryDestination
destination = DirectoryDestination(DirectoryLocation(Path({str(root)!r})))
"""
    assert peak_of("assert destination.control.read('lease.json')", before=before) < 1024 * 1024
