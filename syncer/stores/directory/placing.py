"""A finished temporary file gets its name: in the place of what is there, or only where nothing is.

rename(2) replaces whatever has the name.  link(2) never does, on every file system that has links, also where the
calls of several machines meet; then the temporary name goes.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import Final

from syncer.stores.directory.faults import NO_LINKS

_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK: Final = 1024 * 1024


def put(token: str, name: str, *, state: int, target: int, ours: int) -> None:
    """Give the file `token` of the folder `state` the name `name` in `target`; `ours` is its descriptor.

    Raises OSError.  Safe to repeat: an earlier try may have succeeded without our hearing of it (NFS repeats requests).
    """
    try:
        os.rename(token, name, src_dir_fd=state, dst_dir_fd=target)
    except FileNotFoundError:
        if not _is(ours, name, target):
            raise


def put_new(token: str, name: str, *, state: int, target: int, ours: int) -> bool:
    """The same where nothing has the name; False when something else has it, which then stays.

    A file of the very same bytes is as good as ours.  A volume without links gets a last look instead.
    """
    try:
        os.link(token, name, src_dir_fd=state, dst_dir_fd=target, follow_symlinks=False)
    except FileExistsError:
        if not _equals(ours, name, target):
            return False
    except FileNotFoundError:
        if not _is(ours, name, target):
            raise
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if not _has(name, target):
            put(token, name, state=state, target=target, ours=ours)
        elif not _equals(ours, name, target):
            return False
    with suppress(FileNotFoundError):
        os.unlink(token, dir_fd=state)
    return True


def _has(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _is(ours: int, name: str, folder: int) -> bool:
    """Whether `name` is the very file that `ours` has open."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return _identity(found) == _identity(os.fstat(ours))


def _equals(ours: int, name: str, folder: int) -> bool:
    """Whether `name` is a file of the same bytes."""
    try:
        theirs = os.open(name, _OPEN, dir_fd=folder)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EACCES, errno.EPERM}:
            return False  # gone again, a link, a socket, or nothing that we may read: none of it is ours
        raise
    try:
        found, mine = os.fstat(theirs), os.fstat(ours)
        if _identity(found) == _identity(mine):
            return True
        if not stat.S_ISREG(found.st_mode) or found.st_size != mine.st_size:
            return False
        return all(
            os.pread(theirs, _CHUNK, start) == os.pread(ours, _CHUNK, start) for start in range(0, mine.st_size, _CHUNK)
        )
    finally:
        os.close(theirs)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
