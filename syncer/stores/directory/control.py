"""The small files of `.syncer/` in a folder: each written beside its place and put there whole.

Writers of several processes take turns by a lock on `.syncer/state/lock`, so that "only if it still is this version"
means it; "only if absent" is a hard link, which holds even where locks of other machines are not seen.  A volume that
knows neither just writes, and says so by `conditional`.

A process that is suspended in the middle of a write keeps the lock, and writes on when it wakes up: nobody breaks a
lock, and nobody waits for ever.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from syncer.errors import InternalError, WrongBytes
from syncer.manifest import CONTROL_FOLDER, LARGEST_CONTROL_FILE
from syncer.stop import Clock
from syncer.stores.directory.faults import NO_LINKS, UNSUPPORTED, lock_held, shown
from syncer.stores.directory.parts import STATE
from syncer.stores.directory.place import FILE_MODE, Place, names_in, share, sync_folder
from syncer.stores.protocols import ControlConflict

_LOCK, _NEW = "lock", "new-"
_TRIES: Final = 100
_NO_LOCKS: Final = UNSUPPORTED | {errno.ENOLCK, errno.EBADF}
_HELD: Final = frozenset({errno.EWOULDBLOCK, errno.EACCES})
"""Somebody else has the lock: flock(2), and fcntl(2), by whose locks NFS and CIFS have it."""
_PATIENCE: Final = 60.0
"""Seconds to wait for the lock.  A write holds it for milliseconds, at a slow network volume for seconds."""
_HURRY: Final = 3.0
"""All the patience there is after `interrupt()`: a stopped run has ten seconds."""
_FIRST_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.1


class DirectoryControl:
    """Implements `ControlFolder` for one root folder.

    `write` and `remove` raise `LockHeld` when another process keeps the lock for a minute.  `clock` and `pause` are for
    tests.
    """

    def __init__(
        self, place: Place, *, clock: Clock = time.monotonic, pause: Callable[[float], object] | None = None
    ) -> None:
        self._place = place
        self._conditional = True
        self._clock = clock
        self._pause = pause or self._doze
        self._patience = _PATIENCE
        self._changed = threading.Condition()

    @property
    def conditional(self) -> bool:
        """Whether this volume can write conditionally; known after the first try."""
        return self._conditional

    def interrupt(self) -> None:
        """Wake who waits for the lock; from here on nobody waits for it for long."""
        with self._changed:
            self._patience = _HURRY
            self._changed.notify_all()

    def read(self, name: str) -> tuple[bytes, str] | None:
        """The file's bytes and version, or None."""
        *folder, last = _parts(name)
        with self._place.translated(_path(name)):
            try:
                with self._place.folder((CONTROL_FOLDER, *folder)) as descriptor:
                    return _read(last, descriptor)
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes, *, expected: str | None = None) -> str:
        """Write the file as a whole and return its version; it lasts when this returns."""
        *folder, last = _parts(name)
        with self._place.translated(_path(name)), self._locked() as state, ExitStack() as opened:
            if expected and (self.read(name) or (b"", ""))[1] != expected:  # looked for first, as in `remove`
                raise ControlConflict(name)
            target = opened.enter_context(self._place.folder((CONTROL_FOLDER, *folder), create=True))
            temporary = f"{_NEW}{secrets.token_hex(8)}"
            try:
                version = _write(temporary, state, data)
                if expected == "":
                    self._link(temporary, last, state=state, target=target)
                else:
                    os.rename(temporary, last, src_dir_fd=state, dst_dir_fd=target)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=state)
            sync_folder(target)
            return version

    def remove(self, name: str) -> None:
        """Remove the file, and the folders that are empty then; it is gone for good when this returns."""
        *folder, last = _parts(name)
        with self._place.translated(_path(name)):
            try:
                # Looked for first, so that removing what is not there makes no folder.
                with self._place.folder((CONTROL_FOLDER, *folder)) as target:
                    os.stat(last, dir_fd=target, follow_symlinks=False)
            except FileNotFoundError:
                return
            with self._locked():
                with suppress(FileNotFoundError), self._place.folder((CONTROL_FOLDER, *folder)) as target:
                    os.unlink(last, dir_fd=target)
                    sync_folder(target)
                self._prune([CONTROL_FOLDER, *folder])

    def names(self, below: str = "") -> list[str]:
        """The names that begin with `below`, sorted."""
        found: list[str] = []
        waiting: list[tuple[str, ...]] = [()]
        with self._place.translated(CONTROL_FOLDER):
            while waiting:
                folder = waiting.pop()
                with (
                    suppress(FileNotFoundError),
                    self._place.folder((CONTROL_FOLDER, *folder)) as descriptor,
                    os.scandir(descriptor) as entries,
                ):
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append((*folder, entry.name))
                        elif folder != STATE[1:] or not _is_ours(entry.name):
                            found.append("/".join((*folder, entry.name)))
        return sorted(name for name in found if name.startswith(below))

    def _link(self, temporary: str, name: str, *, state: int, target: int) -> None:
        try:
            os.link(temporary, name, src_dir_fd=state, dst_dir_fd=target, follow_symlinks=False)
        except FileExistsError as error:
            raise ControlConflict(name) from error
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            if _exists(name, target):
                raise ControlConflict(name) from error
            os.rename(temporary, name, src_dir_fd=state, dst_dir_fd=target)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The state folder, with all other writers kept out where the volume can."""
        begun = self._clock()
        for _ in range(_TRIES):
            with ExitStack() as stack:
                stack.callback(self._wake_one)
                state = self._acquire(stack, begun)
                if state is not None:
                    try:
                        yield state
                    finally:
                        self._prune_state(state)
                    return
        raise FileNotFoundError(errno.ENOENT, "the state folder comes and goes")

    def _acquire(self, stack: ExitStack, begun: float) -> int | None:
        """Take the lock; None when its file, or its folder, was removed by another writer in between."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            state = stack.enter_context(self._place.folder(STATE, create=True))
            lock = os.open(_LOCK, flags, FILE_MODE, dir_fd=state)
        except FileNotFoundError:
            return None
        stack.callback(os.close, lock)
        share(lock, FILE_MODE)
        pause = _FIRST_PAUSE
        while not self._take(lock):
            if (waited := self._clock() - begun) >= self._patience:
                raise lock_held(self._place.root.joinpath(*STATE, _LOCK), waited)
            self._pause(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        return state if _exists(_LOCK, state, like=lock) else None

    def _take(self, lock: int) -> bool:
        """Whether nobody else has the lock now: it is ours, or the volume knows none."""
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                return False
            if error.errno not in _NO_LOCKS:
                raise
            self._conditional = False
        return True

    def _wake_one(self) -> None:
        """Another thread of ours need not find out by itself that the lock is free."""
        with self._changed:
            self._changed.notify()

    def _doze(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait(seconds)

    def _prune_state(self, state: int) -> None:
        """Remove the state folder when nothing but the lock, which we hold, is in it."""
        with suppress(OSError):  # it may stay: the next writer tries again
            names = names_in(state)
            if all(map(_is_ours, names)):
                for name in names:
                    os.unlink(name, dir_fd=state)
                self._prune(list(STATE))

    def _prune(self, folder: list[str]) -> None:
        """Remove empty folders from `folder` upwards, the control folder included."""
        while folder:
            name = folder.pop()
            try:
                with self._place.folder(folder) as above:
                    os.rmdir(name, dir_fd=above)
            except OSError:
                return  # not empty, or somebody is using it: it may stay


def _parts(name: str) -> tuple[str, ...]:
    parts = tuple(name.split("/"))
    if any(part in {"", ".", ".."} or "\0" in part for part in parts):
        raise InternalError(f"{shown(name)} cannot be the name of a control file")
    return parts


def _is_ours(name: str) -> bool:
    """Whether a file in the state folder is part of the machinery here: the lock, or a write that was killed."""
    return name == _LOCK or name.startswith(_NEW)


def _path(name: str) -> str:
    return f"{CONTROL_FOLDER}/{name}"


def _read(name: str, folder: int) -> tuple[bytes, str] | None:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if found.st_size > LARGEST_CONTROL_FILE:
            raise WrongBytes(f"the control file {shown(name)} is larger than any of ours", hint="remove it")
        # By its size, which stays: files are put there whole. `read` sets aside all that it is asked for.
        data = file.read(found.st_size)
        return data, _version(data, found)


def _write(name: str, folder: int, data: bytes) -> str:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, FILE_MODE, dir_fd=folder)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        share(descriptor, FILE_MODE)
        left = memoryview(data)
        while left:
            left = left[file.write(left) :]
        os.fsync(descriptor)
        return _version(data, os.fstat(descriptor))


def _version(data: bytes, found: os.stat_result) -> str:
    return f"{found.st_mtime_ns:x}-{hashlib.sha256(data).hexdigest()[:32]}"


def _exists(name: str, folder: int, *, like: int | None = None) -> bool:
    """Whether something has the name, and is the very file that `like` has open."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if like is None:
        return True
    ours = os.fstat(like)
    return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)
