"""One folder of a mounted volume, and the only way to anything in it.

Every folder on the way is opened by itself, relative to the one above and never through a symbolic link, so that no
name and no link put there meanwhile can lead out of the root.  Depth costs descriptors two at a time, not recursion.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Final

from syncer.errors import ConfigurationError, UnsafeNames
from syncer.stores.directory.faults import NOT_OURS, UNSUPPORTED, shown, translated

FOLDER_MODE: Final = 0o775
FILE_MODE: Final = 0o664

_OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def parts_of(path: str) -> tuple[str, ...]:
    """The components of a relative path; raises `UnsafeNames` for any that would not name a file below the root."""
    parts = tuple(path.split("/"))
    if any(part in {"", ".", ".."} or "\0" in part for part in parts):
        raise UnsafeNames(f"{shown(path)} does not name a file below the root", problems=(shown(path),))
    return parts


def share(descriptor: int, mode: int) -> None:
    """Give the group what the owner has (`g=u`), whatever the umask; keeps set-group-ID, tolerates a foreign owner.

    An arbitrary OpenShift UID of group 0 can then read, overwrite and resume.
    """
    have = stat.S_IMODE(os.fstat(descriptor).st_mode)
    if have | mode == have:
        return
    try:
        os.fchmod(descriptor, have | mode)
    except OSError as error:
        if error.errno not in NOT_OURS:
            raise


def sync_folder(descriptor: int) -> None:
    """Make the folder's entries last; volumes that know no fsync of folders (CIFS) do it by themselves."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNSUPPORTED | {errno.EBADF}:
            raise


def names_in(descriptor: int) -> list[str]:
    """What a folder holds, by name.  Raises OSError."""
    with os.scandir(descriptor) as entries:
        return [entry.name for entry in entries]


class Place:
    """A root folder, the setting that names it, and the folders below whose entries are not yet sure to last."""

    def __init__(self, root: Path, *, variable: str) -> None:
        self.root = root
        self.variable = variable
        self._unsynced: set[tuple[str, ...]] = set()
        self._lock = threading.Lock()

    def translated(self, path: str = "") -> AbstractContextManager[None]:
        """Raise the operating system's errors within as ours, naming `path` and the variable."""
        return translated(self.root, path, variable=self.variable)

    @contextmanager
    def folder(self, parts: Sequence[str] = (), *, create: bool = False) -> Iterator[int]:
        """A descriptor of the folder `parts` below the root.

        Raises OSError: ENOENT when it is not there, ENOTDIR or ELOOP when a file or a link is on the way.
        """
        if create:
            self._make_root()
        here = os.open(self.root, _OPEN_FOLDER)
        try:
            for depth, part in enumerate(parts):
                below = self._step(here, part, above=tuple(parts[:depth]), create=create)
                os.close(here)
                here = below
            yield here
        finally:
            os.close(here)

    def touch(self, parts: Sequence[str]) -> None:
        """Remember that the folder's entries changed."""
        with self._lock:
            self._unsynced.add(tuple(parts))

    def sync(self) -> None:
        """Make the entries of all touched folders last, deepest first.  What fails stays remembered; raises OSError."""
        with self._lock:
            folders = sorted(self._unsynced, key=len, reverse=True)
        for parts in folders:
            with suppress(FileNotFoundError), self.folder(parts) as descriptor:
                sync_folder(descriptor)
            with self._lock:
                self._unsynced.discard(parts)

    def _step(self, here: int, part: str, *, above: tuple[str, ...], create: bool) -> int:
        flags = _OPEN_FOLDER | os.O_NOFOLLOW
        try:
            return os.open(part, flags, dir_fd=here)
        except FileNotFoundError:
            if not create:
                raise
        with suppress(FileExistsError):  # another thread was quicker
            os.mkdir(part, FOLDER_MODE, dir_fd=here)
        self.touch(above)
        below = os.open(part, flags, dir_fd=here)
        share(below, FOLDER_MODE)
        return below

    def _make_root(self) -> None:
        missing: list[Path] = []
        above = self.root
        while not above.exists():
            missing.append(above)
            above = above.parent
        if missing and above == above.parent:
            raise ConfigurationError(
                f"nothing is mounted at {missing[-1]}",
                hint=f"mount the volume there or correct {self.variable}",
                path=str(self.root),
            )
        for folder in reversed(missing):
            with suppress(FileExistsError):
                folder.mkdir(FOLDER_MODE)
            for changed in (folder, folder.parent):
                descriptor = os.open(changed, _OPEN_FOLDER)
                try:
                    if changed == folder:
                        share(descriptor, FOLDER_MODE)
                    sync_folder(descriptor)
                finally:
                    os.close(descriptor)
