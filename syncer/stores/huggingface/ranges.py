"""The bytes: ranged GETs of `resolve`, the redirects behind it, and the signed URLs that it hands out.

A signed URL is a secret for as long as it lives: no error and no log here shows more of it than its host.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from typing import Final

from syncer.errors import ConfigurationError, InternalError, SyncerError, Transient
from syncer.manifest import ModelFile
from syncer.stores.huggingface.hub import Hub, let_go, refusal_of
from syncer.stores.huggingface.library import Commit
from syncer.wire import Answer, Origin

_CONTENT_RANGE: Final = re.compile(r"^bytes (\d{1,20})-(\d{1,20})/(\d{1,20}|\*)$")
_SPENT: Final = frozenset({400, 401, 403, 404, 410})
"""How storage refuses a signature that has expired."""
_MOST_SKIPPED: Final = 8 * 1024 * 1024
_MOST_KEPT: Final = 256


class Ranges:
    """Opens ranges of files; safe from many threads.

    Where a file really is, is asked once and kept for its further ranges, until it is refused there.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, str] = OrderedDict()

    def open(self, commit: Commit, file: ModelFile, start: int, length: int) -> RangeBody:
        """Open `length` bytes from `start` of a file of `commit`.

        Raises `Transient` for a passing fault and for another range than the one asked for, `ConfigurationError` for a
        mirror that serves no ranges or another commit, and what a refusal by the Hub means.
        """
        if length <= 0 or start < 0 or start + length > file.size:
            raise InternalError(f"bytes {start} to {start + length} of a file of {file.size}")
        whole = start == 0 and length == file.size
        headers = {} if whole else {"Range": f"bytes={start}-{start + length - 1}"}
        home = self._hub.url_of(commit.repository, commit.sha, file.path)
        answer, at = self._first(self._whereabouts(file), home, headers, commit, file)
        if at != home and answer.status in _SPENT:
            let_go(answer)
            self._forget(file, at)
            answer, at = self._follow(home, headers, commit, file)
        try:
            if answer.status not in {200, 206}:
                self._forget(file, at)
                raise self._refused(answer, at, file, start=start, length=length)
            skip = self._check(answer, file, start, length)
            body = RangeBody(answer, skip, length, store=self._hub.place.name, path=file.path)
        except BaseException:
            answer.close()
            raise
        if at != home:
            self._keep(file, at)
        return body

    def _first(
        self, kept: str, home: str, headers: dict[str, str], commit: Commit, file: ModelFile
    ) -> tuple[Answer, str]:
        try:
            return self._follow(kept or home, headers, commit, file)
        except Transient:
            self._forget(file, kept)  # the host may be gone for good, and the Hub knows a better one
            raise

    def _follow(self, url: str, headers: dict[str, str], commit: Commit, file: ModelFile) -> tuple[Answer, str]:
        def each(answer: Answer, at: str) -> None:
            self._check_commit(answer, at, commit, file)

        return self._hub.follow(url, headers, what=f"read {file.path}", path=file.path, each=each)

    def _check_commit(self, answer: Answer, url: str, commit: Commit, file: ModelFile) -> None:
        served = answer.header("X-Repo-Commit")
        if served and served != commit.sha and Origin.split(url)[0] == self._hub.origin:
            wrong = f"commit {commit.sha} was asked for, the server has {served!r:.80}"
            raise self._unfit(file, wrong, lacks="does not serve single commits")

    def _check(self, answer: Answer, file: ModelFile, start: int, length: int) -> int:
        """Check that the right range comes; returns how many bytes come before it."""
        asked, expected, skip, wrong = f"bytes {start}-{start + length - 1} were asked for", length, 0, ""
        if answer.header("Content-Encoding") not in {"", "identity"}:
            wrong = f"{asked}, compressed ones came"
        elif answer.status == 206:
            sent = _CONTENT_RANGE.match(answer.header("Content-Range"))
            if sent is None or (int(sent[1]), int(sent[2])) != (start, start + length - 1):
                wrong = f"{asked}, {answer.header('Content-Range')!r:.80} came"
            elif sent[3] not in {"*", str(file.size)}:
                wrong = f"it has {sent[3]} bytes there and {file.size} in the commit"
        elif start > _MOST_SKIPPED:
            wrong = f"{file.path}: a range was asked for, the whole file came"
            raise self._unfit(file, wrong, lacks="serves no ranges")
        else:
            expected, skip = file.size, start
        if not wrong and answer.length not in {None, expected}:
            wrong = f"{expected} bytes should come, {answer.length} do"
        if wrong:
            raise self._transient(f"{file.path}: {wrong}", file)
        return skip

    def _refused(self, answer: Answer, at: str, file: ModelFile, *, start: int, length: int) -> SyncerError:
        there = Origin.split(at)[0]
        refusal = refusal_of(answer)
        if refusal.status == 416:
            # The commit has so many bytes, so that what is there is not (yet) the whole of it.
            return self._transient(f"{file.path}: {there} has no bytes {start}-{start + length - 1}", file)
        if there == self._hub.origin:
            return self._hub.error(refusal, what=f"read {file.path}", path=file.path)
        return Transient(
            f"{self._hub.place.name}: cannot read {file.path}: {there} answers HTTP {refusal.status}",
            hint=f"the Hub keeps these bytes at {there}: check the network policies and proxies on the way to it",
            store=self._hub.place.name,
            path=file.path,
            retry_after=refusal.retry_after,
        )

    def _unfit(self, file: ModelFile, wrong: str, *, lacks: str) -> ConfigurationError:
        """The error for a mirror that cannot be a source."""
        error = ConfigurationError(
            f"{self._hub.place.name}: {wrong}",
            hint=f"HF_ENDPOINT names a mirror that {lacks}: use another one",
            path=file.path,
        )
        error.store = self._hub.place.name
        return error

    def _transient(self, message: str, file: ModelFile) -> Transient:
        name = self._hub.place.name
        return Transient(f"{name}: {message}", store=name, path=file.path)

    def _whereabouts(self, file: ModelFile) -> str:
        with self._lock:
            return self._kept.get(file.path, "")

    def _keep(self, file: ModelFile, url: str) -> None:
        with self._lock:
            self._kept[file.path] = url
            self._kept.move_to_end(file.path)
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)

    def _forget(self, file: ModelFile, url: str) -> None:
        with self._lock:
            if self._kept.get(file.path) == url:  # another thread may have a better one by now
                del self._kept[file.path]


class RangeBody:
    """A range on its way, from an answer that has `skip` bytes before it.  See `Body`."""

    def __init__(self, answer: Answer, skip: int, length: int, *, store: str, path: str) -> None:
        self._answer = answer
        self._left = length
        self._store = store
        self._path = path
        scratch = memoryview(bytearray(min(skip, 256 * 1024)))
        while skip:
            skip -= self._some(scratch[:skip], missing=skip + length)

    def readinto(self, buffer: memoryview) -> int:
        """See `Body`."""
        if not self._left or not len(buffer):
            return 0
        count = self._some(buffer[: self._left], missing=self._left)
        self._left -= count
        if not self._left and self._answer.length is None:
            self._answer.readinto(memoryview(bytearray(1)))  # the end mark of a chunked answer frees its connection
        if not self._left:
            self._answer.close()
        return count

    def close(self) -> None:
        """Let go; what was not read costs the connection."""
        self._answer.close()

    def _some(self, buffer: memoryview, *, missing: int) -> int:
        count = self._answer.readinto(buffer)
        if not count:
            self._answer.close()
            raise Transient(f"{self._store}: an answer ended {missing} bytes early", store=self._store, path=self._path)
        return count
