"""Temporary files of uploads, and the record beside them of which parts are on the volume.

Both lie in `.syncer/state/` of the model's own folder: on the same volume as the file that will be, never content, and
gone with the state.  `partial-XXXXXXXX-PATH` holds the bytes, `parts-XXXXXXXX-PATH` a line of JSON that says what they
are the parts of, then one line for each batch of parts that was written *after* their bytes were.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import urllib.parse
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from syncer.claims import from_json
from syncer.manifest import CONTROL_FOLDER, FORMAT, ModelFile
from syncer.stores.directory.place import FILE_MODE, share
from syncer.stores.protocols import Cut

STATE: Final = (CONTROL_FOLDER, "state")

_PARTIAL, _PARTS = "partial-", "parts-"
_LONGEST_NAME: Final = 100
_TOKEN: Final = re.compile(r"partial-[0-9a-f]{8}[-~][A-Za-z0-9._~%-]{1,100}")
_LARGEST_RECORD: Final = 4 * 1024 * 1024


def new_token(path: str) -> str:
    """A name for the temporary file of `path`, which tells the path again unless that is long."""
    plain = urllib.parse.quote(path, safe="")
    name = f"-{plain}" if len(plain) <= _LONGEST_NAME else f"~{hashlib.sha256(path.encode()).hexdigest()[:32]}"
    return f"{_PARTIAL}{secrets.token_hex(4)}{name}"


def is_token(token: str) -> bool:
    """Whether `token` can be the name of one of our temporary files, and of nothing else."""
    return _TOKEN.fullmatch(token) is not None


def token_of(name: str) -> str | None:
    """The token that a file in the state folder belongs to, or None when it is something else."""
    token = _PARTIAL + name.removeprefix(_PARTS) if name.startswith(_PARTS) else name
    return token if is_token(token) else None


def record_name(token: str) -> str:
    """The name of the record beside a temporary file."""
    return _PARTS + token.removeprefix(_PARTIAL)


def needs_record(token: str, cut: Cut) -> bool:
    """Whether there is more to remember than the temporary file's name tells: parts, or a long path."""
    return cut.count > 1 or token[len(_PARTIAL) + 8] == "~"


def path_of(token: str, state: int) -> str:
    """The path of the file that a temporary one will be; empty when nothing tells it.  Raises OSError."""
    mark, name = token[len(_PARTIAL) + 8], token[len(_PARTIAL) + 9 :]
    if mark == "-":
        return urllib.parse.unquote(name)
    record = read_record(token, state)
    return record.path if record is not None else ""


@dataclass(frozen=True)
class PartsRecord:
    """Which parts of which version of which file, cut how, are on the volume."""

    path: str
    version: str
    cut: Cut
    done: frozenset[int]

    def fits(self, file: ModelFile, cut: Cut) -> bool:
        """Whether the parts are of this file as it is now, cut like this."""
        return (self.path, self.version, self.cut) == (file.path, file.version, cut)


def read_record(token: str, state: int) -> PartsRecord | None:
    """The record beside a temporary file, or None when there is none that makes sense.  Raises OSError.

    A last line that a kill cut short is no line.
    """
    try:
        descriptor = os.open(record_name(token), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=state)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(_LARGEST_RECORD + 1)
    head, *batches = data.split(b"\n")[:-1] or [b""]
    try:
        document = from_json(head)
        size, part_size = int(document["size"]), int(document["part_size"])
        if document["format"] != FORMAT or size < 0 or part_size < 1 or len(data) > _LARGEST_RECORD:
            return None
        cut = Cut(size, part_size)
        done = {int(number) for batch in batches for number in batch.split(b",") if number.isdigit()}
        return PartsRecord(
            path=str(document["path"]),
            version=str(document["version"]),
            cut=cut,
            done=frozenset(number for number in done if number < cut.count),
        )
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return None


def begin_record(token: str, state: int, *, file: ModelFile, cut: Cut) -> None:
    """Write the head of the record.  Raises OSError."""
    head = {
        "format": FORMAT,
        "path": file.path,
        "version": file.version,
        "size": cut.size,
        "part_size": cut.part_size,
    }
    _append(token, state, json.dumps(head).encode() + b"\n", os.O_CREAT | os.O_EXCL)


def add_to_record(token: str, state: int, done: Collection[int]) -> None:
    """Write down parts whose bytes are on the volume for sure.  Raises OSError."""
    _append(token, state, ",".join(map(str, sorted(done))).encode() + b"\n", 0)


def _append(token: str, state: int, line: bytes, flags: int) -> None:
    flags |= os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(record_name(token), flags, FILE_MODE, dir_fd=state)
    try:
        share(descriptor, FILE_MODE)
        os.write(descriptor, line)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
