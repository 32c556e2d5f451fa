"""The refresh token in a file, for a container that is started again after its passcode was spent.

The file lies on a memory-backed volume, so that no disk ever holds a token, and its process's user alone can read it.
It belongs to one passcode, of which it holds a salted hash: a new passcode in the Secret beats an older session.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from syncer.claims import from_json
from syncer.errors import ConfigurationError
from syncer.redaction import register_secrets

VARIABLE: Final = "S3_SYNC_COS_TOKEN_CACHE"
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
_MOUNTS: Final = Path("/proc/self/mountinfo")
_LARGEST: Final = 256 * 1024
_PRINTABLE: Final = re.compile(r"[\x21-\x7e]+")
_HINT: Final = f"{VARIABLE} must name a file on a memory-backed volume (an emptyDir with medium: Memory)"


class TokenCache:
    """One file.  `mounts` is the kernel's table of mounts, which a test may replace."""

    def __init__(self, path: Path, passcode: str, *, mounts: Path = _MOUNTS) -> None:
        self._path = path
        self._passcode = passcode
        self._mounts = mounts

    def check(self) -> None:
        """Raise `ConfigurationError` unless a token may be kept here; nothing is written."""
        folder = self._path.parent
        try:
            device = folder.stat().st_dev
            kind = self._file_system(device)
        except OSError as error:
            raise self._bad(f"{folder} cannot be looked at ({error.strerror})") from error
        if kind not in _IN_MEMORY:
            raise self._bad(f"{folder} is on {kind or 'an unknown file system'}, and a token must not reach a disk")
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise self._bad(f"{folder} is no folder that we can write to")

    def read(self) -> str:
        """The refresh token that was kept for this passcode; empty when there is none, or for another passcode.

        Raises `ConfigurationError` for a file that others can read, or that is something else.
        """
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise self._bad(f"{self._path} cannot be opened ({error.strerror})") from error
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise self._bad(f"{self._path} is no file")
            if status.st_uid != os.geteuid() or status.st_mode & 0o077:
                raise self._bad(f"{self._path} belongs to somebody else, or others can read it")
            content = file.read(_LARGEST)
        try:
            kept = from_json(content)
            token, salt, digest = (kept[name] for name in ("refresh_token", "salt", "passcode_sha256"))
            if not all(isinstance(each, str) and _PRINTABLE.fullmatch(each) for each in (token, salt, digest)):
                raise ValueError
        except (ValueError, KeyError, TypeError, RecursionError):
            # Without the cause, which would show what somebody keeps in that file.
            raise self._bad(f"{self._path} was not written by us: remove it, or name another file") from None
        register_secrets([token])
        return token if hmac.compare_digest(digest, _digest(salt, self._passcode)) else ""

    def write(self, token: str) -> None:
        """Keep `token`, replacing what is there as a whole; raises OSError."""
        salt = secrets.token_hex(16)
        kept = {"refresh_token": token, "salt": salt, "passcode_sha256": _digest(salt, self._passcode)}
        name = self._path.with_name(f".{self._path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(json.dumps(kept).encode())
            name.rename(self._path)
        except BaseException:
            with suppress(OSError):
                name.unlink()
            raise

    def _file_system(self, device: int) -> str:
        """The type of the file system with this device number, as proc_pid_mountinfo(5) has it."""
        wanted = f"{os.major(device)}:{os.minor(device)}"
        for line in self._mounts.read_text(errors="replace").splitlines():
            mount, _, source = line.partition(" - ")
            if mount.split(" ")[2:3] == [wanted]:
                return source.partition(" ")[0]
        return ""

    def _bad(self, what: str) -> ConfigurationError:
        return ConfigurationError(f"{VARIABLE}: {what}", hint=_HINT)


def _digest(salt: str, passcode: str) -> str:
    return hashlib.sha256(f"{salt}:{passcode}".encode()).hexdigest()
