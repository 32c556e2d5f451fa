"""The one place where the operating system's errors become ours, by number.

A volume may be local, NFS or CIFS, owned by somebody else, full or read-only; the message says which path, and as whom
we came.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from syncer.errors import (
    ConfigurationError,
    CredentialsRefused,
    NotThereYet,
    OutOfSpace,
    SourceMissing,
    SyncerError,
    Transient,
    UnsafeNames,
)

UNSUPPORTED = frozenset({errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.ENOTTY})
"""What a volume says that does not know a call at all: we go on without it."""

NO_LINKS = UNSUPPORTED | {errno.EPERM, errno.EMLINK, errno.EXDEV}
"""What a volume says that has no hard links, or no more of them."""

NOT_OURS = UNSUPPORTED | {errno.EPERM, errno.EACCES, errno.EROFS}
"""What a volume says about permissions that only the owner may change."""


class LockHeld(Transient):
    """Another process keeps the lock of the control folder.  Worth patience, final as 69."""

    exit_code = NotThereYet.exit_code
    reason = NotThereYet.reason
    summary = NotThereYet.summary


def shown(path: str) -> str:
    """A path for people: control characters and undecodable bytes escaped, so that it stays on its line."""
    return ascii(path) if not path.isprintable() else f"'{path}'"


def volume_of(path: Path) -> Path:
    """The mount point that `path`, or its nearest existing folder, lies on."""
    here = existing(path)
    while not here.is_mount() and here != here.parent:
        here = here.parent
    return here


def existing(path: Path) -> Path:
    """`path` itself, or the nearest folder above it that exists."""
    while not os.path.lexists(path) and path != path.parent:
        path = path.parent
    return path


@contextmanager
def translated(root: Path, path: str = "", *, variable: str) -> Iterator[None]:
    """Raise what the operating system says within as a class of `syncer.errors`.

    `path` is relative to `root`; `variable` is the setting that names `root`, for the hint.
    """
    try:
        yield
    except OSError as error:
        raise fault(error, root, path, variable=variable) from error


def fault(error: OSError, root: Path, path: str = "", *, variable: str) -> SyncerError:
    """The error of ours that `error` at `path` below `root` means."""
    where = root / path.replace("\0", "?") if path else root
    name, store = shown(str(where)), str(root)
    words = os.strerror(error.errno or 0)
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return OutOfSpace(
                f"no space for {name} on the volume {volume_of(where)}: {words}",
                hint=f"make the volume bigger or free space on it, or point {variable} to another one",
                store=store,
                path=path,
            )
        case errno.EROFS:
            return CredentialsRefused(
                f"{name}: {words}",
                hint=f"the volume {volume_of(where)} is mounted read-only: mount it writable for {variable}; where it "
                "became read-only while the run was writing, the node has found errors in it and must repair it first",
                store=store,
                path=path,
            )
        case errno.EACCES | errno.EPERM:
            return CredentialsRefused(
                f"{name}: {words}; {_as_whom(where)}",
                hint="give the pod the volume's fsGroup or supplemental group, make the folder group-writable, or "
                f"check that {variable} is on a mounted volume",
                store=store,
                path=path,
            )
        case (
            errno.ELOOP
            | errno.ENOTDIR
            | errno.EISDIR
            | errno.EEXIST
            | errno.ENOTEMPTY
            | errno.ENAMETOOLONG
            | errno.EILSEQ
        ):
            return UnsafeNames(
                f"{name} cannot be used on this volume: {words}",
                problems=(f"{shown(path)}: {words}",),
                hint="a link, a file or a folder is in the way, or the volume cannot hold the name",
                store=store,
            )
        case errno.EXDEV:
            return ConfigurationError(
                f"{name} lies on another volume than {root}",
                hint=f"mount one volume at {variable}, without other mounts inside the model's folder",
            )
        case _:
            return Transient(f"{name}: {words}", hint="look at the volume's health", store=store, path=path)


def lock_held(lock: Path, seconds: float) -> LockHeld:
    """The error for a lock that did not come free for so many seconds."""
    return LockHeld(
        f"another process holds the lock {shown(str(lock))}: waited {seconds:.0f} s for it",
        hint="a run that is suspended, or hangs at this volume, keeps it: look for its pod or process and end it, then "
        "start again; do not remove the lock, for its holder may go on to write",
        path=str(lock),
    )


def missing_root(root: Path) -> SourceMissing:
    """The source folder is not there."""
    return SourceMissing(
        f"there is no file or folder {shown(str(root))}",
        hint="check S3_SYNC_SRC__PATH and that the volume is mounted there; in a pipeline, run the step before",
        stage="list",
        store=str(root),
    )


def _as_whom(path: Path) -> str:
    process = f"this process is UID {os.getuid()}, GID {os.getgid()}, groups {sorted(os.getgroups())}"
    here = existing(path)
    try:
        found = here.lstat()
    except OSError:
        return process
    owner = f"UID {found.st_uid}, GID {found.st_gid}, mode {stat.S_IMODE(found.st_mode):04o}"
    return f"{process}; {shown(str(here))} belongs to {owner}"
