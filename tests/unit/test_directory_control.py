"""What is particular to the control folder of a directory: volumes that know less, writers that die."""

import errno
import fcntl
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from syncer.errors import CredentialsRefused, WrongBytes
from syncer.manifest import LARGEST_CONTROL_FILE
from syncer.settings.locations import DirectoryLocation
from syncer.stores.directory import DirectoryDestination
from syncer.stores.protocols import ControlConflict, Cut
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
