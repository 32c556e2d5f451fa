"""What the fake Hub keeps: repositories, commits, files with their real digests, and what is to go wrong with them.

Nothing here knows HTTP.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

_CHUNK = 1 << 20
_LFS_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".h5", ".msgpack", ".onnx", ".gguf", ".model")


class Content(Protocol):
    """The bytes of one file."""

    @property
    def size(self) -> int: ...

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` to before `end`."""
        ...


@dataclass(frozen=True)
class Stored:
    """Bytes that a test wrote down."""

    data: bytes = field(repr=False)

    @property
    def size(self) -> int:
        return len(self.data)

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        for at in range(start, end, _CHUNK):
            yield self.data[at : min(at + _CHUNK, end)]


class Generated:
    """Gigabytes that are nowhere: every MiB is the same noise behind its own number, made when it is asked for."""

    def __init__(self, size: int, *, seed: str = "") -> None:
        self.size = size
        self._noise = hashlib.shake_128(f"noise {seed}".encode()).digest(_CHUNK - 8)

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        for number in range(start // _CHUNK, -(-end // _CHUNK)):
            block = number.to_bytes(8, "big") + self._noise
            first = number * _CHUNK
            yield block[max(start - first, 0) : min(end - first, _CHUNK)]


@dataclass(frozen=True)
class File:
    """One file of a commit, as the tree shows it."""

    path: str
    content: Content
    oid: str
    sha256: str = ""

    @property
    def in_lfs(self) -> bool:
        return bool(self.sha256)

    def entry(self) -> dict[str, object]:
        told: dict[str, object] = {"type": "file", "oid": self.oid, "size": self.content.size, "path": self.path}
        if self.in_lfs:
            told["lfs"] = {"oid": self.sha256, "size": self.content.size, "pointerSize": len(self._pointer())}
        return told

    def _pointer(self) -> bytes:
        return pointer(self.sha256, self.content.size)


def pointer(sha256: str, size: int) -> bytes:
    """What git holds of a file that is in LFS."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def git_blob(content: Content) -> str:
    """Git's name of a file: SHA-1 over a header and the bytes."""
    digest = hashlib.sha1(b"blob %d\0" % content.size, usedforsecurity=False)
    for piece in content.pieces(0, content.size):
        digest.update(piece)
    return digest.hexdigest()


@dataclass
class Repository:
    """A model's repository.  `readers` may see it when it is private, `agreed` holds who accepted its terms."""

    name: str
    private: bool = False
    gated: bool = False
    disabled: bool = False
    readers: set[str] = field(default_factory=set)
    agreed: set[str] = field(default_factory=set)
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, File]] = field(default_factory=dict)

    def commit(
        self,
        changes: Mapping[str, bytes | Content],
        *,
        branch: str = "main",
        remove: tuple[str, ...] = (),
        lfs: Callable[[str], bool] = lambda path: path.endswith(_LFS_SUFFIXES),
    ) -> str:
        """Put `changes` on top of `branch` and return the new commit."""
        parent = self.branches.get(branch, "")
        tree = dict(self.commits.get(parent, {}))
        for path in remove:
            del tree[path]
        for path, change in changes.items():
            content: Content = Stored(change) if isinstance(change, bytes) else change
            if lfs(path):
                digest = hashlib.sha256()
                for piece in content.pieces(0, content.size):
                    digest.update(piece)
                sha256 = digest.hexdigest()
                oid = git_blob(Stored(pointer(sha256, content.size)))
                tree[path] = File(path, content, oid, sha256)
            else:
                tree[path] = File(path, content, git_blob(content))
        listed = json.dumps([parent, len(self.commits), sorted((path, file.oid) for path, file in tree.items())])
        sha = hashlib.sha1(listed.encode(), usedforsecurity=False).hexdigest()
        self.commits[sha] = tree
        self.branches[branch] = sha
        return sha

    def resolved(self, revision: str) -> str:
        """The commit that a branch or commit name means, or empty."""
        return self.branches.get(revision) or (revision if revision in self.commits else "")


@dataclass(frozen=True)
class Seen:
    """One request: `host` is `hub` or `storage`, `path` is unquoted and without its query."""

    host: Literal["hub", "storage"]
    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)

    @property
    def authorized(self) -> bool:
        return "authorization" in self.headers


@dataclass
class Fault:
    """What goes wrong with the next `times` requests whose path holds `where`; -1 is for ever.

    `status` answers with that status and `headers`; `short` ends the body after `at` bytes; `flip` turns one bit of the
    byte that the whole file has at `at`, when it is in the range; `wrong_range` sends the right length from elsewhere.
    """

    kind: Literal["status", "short", "flip", "wrong_range"]
    where: str
    times: int = 1
    host: str = ""
    status: int = 503
    at: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)

    def strikes(self, seen: Seen) -> bool:
        return self.times != 0 and self.where in seen.path and self.host in {"", seen.host} and seen.method == "GET"
