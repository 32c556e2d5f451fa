"""Memory that is all used up: a cgroup whose limit is one page, so that the kernel kills who needs another one.

Version 1 of the kernel's cgroups (Documentation/admin-guide/cgroup-v1/memory.rst): what a process has already stays
charged where it was, so that it is not killed for that, but at the next page that it asks for.
"""

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

_CONTROLLER = Path("/sys/fs/cgroup/memory")
_ONE_PAGE = str(os.sysconf("SC_PAGE_SIZE"))


@dataclass(frozen=True)
class Famine:
    """One cgroup for one process after another."""

    folder: Path

    @property
    def members(self) -> Path:
        """Who writes its process number here is in it."""
        return self.folder / "cgroup.procs"

    @property
    def kills(self) -> int:
        """How many processes the kernel has killed for it."""
        told = dict(line.split() for line in (self.folder / "memory.oom_control").read_text().splitlines())
        return int(told["oom_kill"])

    def strike(self, pid: int) -> None:
        """From here on there is no memory for this process."""
        self.members.write_text(str(pid))


@contextlib.contextmanager
def famine() -> Iterator[Famine]:
    """Skips visibly where nobody lets us make a cgroup."""
    folder = _CONTROLLER / f"syncer-tests-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup of version 1 can be made for memory: {error}")
    try:
        (folder / "memory.limit_in_bytes").write_text(_ONE_PAGE)
        yield Famine(folder)
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    """A process that was reaped a moment ago may still count as a member."""
    while True:
        try:
            folder.rmdir()
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            if members := (folder / "cgroup.procs").read_text().split():
                raise AssertionError(f"still running: {members}") from error
        else:
            return
