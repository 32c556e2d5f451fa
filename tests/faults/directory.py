"""A folder, as source and as destination: the operating system says no, or says less than what has happened.

Errors are put into the calls that the store makes; what is read and written is real.  A volume of NFS or CIFS says the
same by the same numbers.
"""

import errno
import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.faults.frame import (
    ASKED,
    LEFT,
    MODEL,
    NOTHING,
    READ,
    RESTARTED,
    SENT,
    SMALL_STEPS,
    Bench,
    Phase,
    Row,
    Store,
    undisturbed,
)
from tests.faults.s3 import LEASE, check_folder, look_at_folder
from tests.support.http_faults import Kind
from tests.support.models import write_model
from tests.support.processes import Pod

Way = Literal["refused", "done", "half", "flipped"]

_CHANGE: frozenset[Kind] = frozenset({"change"})
_BYTES: frozenset[Kind] = frozenset({"bytes", "upload"})
_TOKEN = r"target/\.syncer/state/partial-[0-9a-f]*-model"

SOURCE_PHASES = (
    Phase("list", r"^list source$", frozenset({"document"})),
    Phase("open a file", r"^open source/model\.safetensors"),
    Phase("read", r"^read source/model\.safetensors", frozenset({"bytes"})),
)
DESTINATION_PHASES = (
    Phase("list", r"^list target$", frozenset({"document"})),
    Phase("lease", r"^put target/\.syncer/lease\.json", _CHANGE),
    Phase("create a file", rf"^create {_TOKEN}", _CHANGE),
    Phase("write", rf"^write {_TOKEN}", frozenset({"upload", "change"})),
    Phase("force to the volume", rf"^force {_TOKEN}", _CHANGE),
    Phase("put in its place", r"^put target/model\.safetensors", _CHANGE),
    Phase("seal", r"^put target/\.syncer/complete\.json", _CHANGE),
    Phase("give the lease back", r"^remove target/\.syncer/lease\.json", _CHANGE),
)

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Trouble:
    """A row: a call is `refused` with `number`, or `done` and yet refused, or `half` of it is done, or a bit flips."""

    name: str
    way: Way = "refused"
    number: int = 0
    needs: frozenset[Kind] = frozenset()
    why_not: str = ""
    unseen: bool = False
    silent: bool = False

    def fits(self, kinds: frozenset[Kind]) -> bool:
        return not self.needs or bool(self.needs & kinds)


_NO_CHANGE = "nothing is written there"
_NO_BYTES = "no bytes of the model are read or written there"
ROWS = (
    Trouble("EIO", number=errno.EIO),
    Trouble("ESTALE", number=errno.ESTALE),
    Trouble("ETIMEDOUT", number=errno.ETIMEDOUT),
    Trouble("EACCES", number=errno.EACCES),
    Trouble("EROFS", number=errno.EROFS, needs=_CHANGE, why_not=_NO_CHANGE),
    Trouble("ENOSPC", number=errno.ENOSPC, needs=_CHANGE, why_not=_NO_CHANGE),
    Trouble("EDQUOT", number=errno.EDQUOT, needs=_CHANGE, why_not=_NO_CHANGE),
    Trouble("done, and yet EIO", "done", errno.EIO, _CHANGE, _NO_CHANGE),
    Trouble("half of what was asked for", "half", needs=_BYTES, why_not=_NO_BYTES),
    Trouble("a flipped bit", "flipped", needs=_BYTES, why_not=_NO_BYTES, unseen=True),
)


@dataclass
class Calls:
    """The store's calls to the system, seen and disturbed; `root` is the folder that both ends lie in."""

    root: Path
    seen: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    hits: int = 0

    @contextmanager
    def watched(self, trouble: Trouble | None = None, pattern: str = "", *, for_ever: bool = False) -> Iterator[None]:
        """Count, and let `trouble` happen at the first call that matches, or at all of them."""

        def meets(call: str) -> Trouble | None:
            self.seen[re.sub(r"(/partial-)[0-9a-f]*", r"\1", call)] += 1
            if trouble is None or not re.search(pattern, call) or (self.hits and not for_ever):
                return None
            self.hits += 1
            return trouble

        with pytest.MonkeyPatch.context() as patch:
            for name, spell in _SPELLINGS.items():
                patch.setattr(os, name, partial(self._call, getattr(os, name), spell, meets))
            yield

    def _call(
        self,
        real: Callable[..., Any],
        spell: Callable[..., tuple[str, str]],
        meets: Callable[[str], Trouble | None],
        *arguments: Any,
        **named: Any,
    ) -> Any:
        verb, path = spell(*arguments, **named)
        if not path.startswith(f"{self.root}/"):
            return real(*arguments, **named)
        path = re.sub(r"^case-\d+", "target", path.removeprefix(f"{self.root}/"))
        trouble = meets(f"{verb} {path}")
        done = real(*arguments, **named) if trouble is None else _troubled(trouble, real, *arguments, **named)
        if verb in {"read", "write"}:
            self.bytes[verb] += done
        return done


def _troubled(trouble: Trouble, real: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    if trouble.way == "refused":
        raise OSError(trouble.number, os.strerror(trouble.number))
    if trouble.way == "done":
        real(*arguments, **named)
        raise OSError(trouble.number, os.strerror(trouble.number))
    descriptor, data, at = arguments
    if isinstance(data, list):  # read
        view = data[0] if trouble.way == "flipped" else data[0][: len(data[0]) // 2]
        count = real(descriptor, [view], at)
        if trouble.way == "flipped":
            view[0] ^= 1
        return count
    if trouble.way == "half":
        return real(descriptor, data[: max(1, len(data) // 2)], at)
    return real(descriptor, bytes([data[0] ^ 1]) + bytes(data[1:]), at)


def _where(path: Any, dir_fd: int | None = None) -> str:
    if isinstance(path, int):
        try:
            return str(Path(f"/proc/self/fd/{path}").readlink())
        except OSError:
            return ""
    name = str(os.fspath(path))
    return name if dir_fd is None or name.startswith("/") else f"{_where(dir_fd)}/{name}"


def _opening(path: Any, flags: int, *_: Any, dir_fd: int | None = None) -> tuple[str, str]:
    return "create" if flags & os.O_CREAT else "open", _where(path, dir_fd)


def _putting(_source: Any, target: Any, *, dst_dir_fd: int | None = None, **_: Any) -> tuple[str, str]:
    return "put", _where(target, dst_dir_fd)


_SPELLINGS: Mapping[str, Callable[..., tuple[str, str]]] = {
    "scandir": lambda path=".": ("list", _where(path)),
    "open": _opening,
    "preadv": lambda descriptor, *_: ("read", _where(descriptor)),
    "pwrite": lambda descriptor, *_: ("write", _where(descriptor)),
    "fsync": lambda descriptor: ("force", _where(descriptor)),
    "fdatasync": lambda descriptor: ("force", _where(descriptor)),
    "rename": _putting,
    "link": _putting,
    "unlink": lambda path, dir_fd=None: ("remove", _where(path, dir_fd)),
}


@dataclass
class FolderBench:
    """Both ends are folders; which of them is in trouble, the phase says."""

    folder: Path
    calls: Calls
    number: int = 0
    phase: str = ""
    pattern: str = ""
    normal: Calls | None = None

    @property
    def target(self) -> Path:
        return self.folder / f"case-{self.number}"

    def anew(self) -> None:
        self.number = next(_numbers)
        self.phase = self.pattern = ""
        self.calls = Calls(self.folder)

    def learn(self) -> None:
        """A run of its own: the one before it was not watched."""
        self.anew()
        (self.folder / "pod").mkdir()
        with self.calls.watched():
            undisturbed(self, Pod(self.folder / "pod"))
        self.normal = self.calls

    def environment(self) -> Mapping[str, str]:
        return SMALL_STEPS | {
            "S3_SYNC_SRC__PATH": str(self.folder / "source"),
            "S3_SYNC_DEST__PATH": str(self.target),
        }

    def disturbed(self, row: Row, phase: Phase, *, for_ever: bool) -> AbstractContextManager[None]:
        assert isinstance(row, Trouble)
        self.phase, self.pattern = phase.name, phase.pattern
        return self.calls.watched(row, phase.pattern, for_ever=for_ever)

    def hits(self) -> int:
        return self.calls.hits

    def look(self) -> bool:
        return look_at_folder(self.target)

    def check(self) -> None:
        lease = self.target / LEASE
        if self.phase == "give the lease back" and lease.exists():
            assert look_at_folder(self.target)
        else:
            check_folder(self.target)

    def cost(self) -> str:
        if (self.target / LEASE).exists():
            return LEFT
        if self.more_bytes("write"):
            created = "create target/.syncer/state/partial--model.safetensors"
            return RESTARTED if self.calls.seen[created] > self.usual.seen[created] else SENT
        if self.more_bytes("read"):
            return READ
        again = any(
            count > self.usual.seen[call] for call, count in self.calls.seen.items() if re.search(self.pattern, call)
        )
        return ASKED if again else NOTHING

    @property
    def usual(self) -> Calls:
        """The calls of a run that nobody disturbed."""
        assert self.normal is not None
        return self.normal

    def more_bytes(self, verb: str) -> bool:
        return self.calls.bytes[verb] > self.usual.bytes[verb]


@contextmanager
def _opened(_request: pytest.FixtureRequest, folder: Path) -> Iterator[Bench]:
    write_model(folder / "source", MODEL)
    yield FolderBench(folder, Calls(folder))


STORES = (
    Store(
        "directory-source",
        SOURCE_PHASES,
        ROWS,
        _opened,
    ),
    Store(
        "directory-destination",
        DESTINATION_PHASES,
        ROWS,
        _opened,
    ),
)
