"""The Hub's own transfer, `hf_xet`: a whole file straight into a path, for destinations that have one.

What the library does not do, and what is done about it (measured with its versions 1.6 and 1.8):

* Memory.  Left alone it holds 2 GB and more.  Its buffer can be bounded; besides that, whole blocks of the store (up to
  64 MiB each) are kept for all that one question about a file's layout covers, so that this is bounded too.
* Proof.  It compares no digest: a wrong byte of the store arrives unnoticed.  Whoever fetches reads the file back.
* Waiting.  Its streams hold Python's lock while they wait, which would stop the whole process, lease and signals too.
  Its downloads into a path do not, and are cancelled at once.
* Errors.  Nearly all are `RuntimeError` with words, so that all of them mean the same here: not this way.
* Resuming.  It has none: what broke starts again at the first byte.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Final

from syncer.claims import whole_number
from syncer.errors import SyncerError, Transient
from syncer.manifest import ModelFile
from syncer.redaction import quoted, register_secrets
from syncer.settings.locations import Network
from syncer.stores.huggingface.hub import AGENT, Hub, let_go, refusal_of
from syncer.stores.huggingface.library import Commit
from syncer.stores.huggingface.room import room_for_library
from syncer.stores.huggingface.xet_library import Download, Progress, start_download

SMALLEST: Final = 16 * 1024 * 1024
"""A smaller file is here by ranged HTTP before its layout is known."""
FILES_AT_ONCE: Final = 2

_TOKEN_LEFT: Final = 120.0
"""Seconds for which a token must still be good when a file begins; the library renews it in the middle of one."""
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_QUERY: Final = re.compile(r"\?[^\s)]+")


@dataclass(frozen=True)
class Token:
    """A token for reading from the store at `store`, good until `ends` (seconds since 1970)."""

    store: str
    value: str = field(repr=False)
    ends: int


@dataclass(frozen=True)
class _Wanted:
    digest: str
    size: int
    token: Token


class _Arrivals:
    """Tells `moved` what the library reports from a thread of its own, each byte once, and nothing behind the end."""

    def __init__(self, size: int, moved: Callable[[int], None]) -> None:
        self._left = size
        self._size = size
        self._moved = moved
        self._ended = False
        self._lock = threading.Lock()

    def note(self, report: Progress, _: object) -> None:
        """So much is there, of this one file of its group."""
        with self._lock:
            self._tell(self._left - (self._size - report.total_bytes_completed))

    def end(self) -> None:
        """All of it is there."""
        with self._lock:
            self._tell(self._left)
            self._ended = True

    def _tell(self, count: int) -> None:
        if 0 < count <= self._left and not self._ended:
            self._left -= count
            self._moved(count)


class XetFetcher:
    """Fetches files of one repository, two at a time; for many threads.

    `room` tells, once, how many bytes of memory the library may take for all files together; with 0 nothing is
    fetched.  Everything that does not work is `Transient`: the caller goes on by ranged HTTP, whose errors tell more.
    """

    def __init__(
        self,
        hub: Hub,
        network: Network,
        *,
        room: Callable[[], int] = room_for_library,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._hub = hub
        self._network = network
        self._room = room
        self._clock = clock
        self._memory: int | None = None
        self._tokens: dict[str, Token] = {}
        self._asking = threading.Lock()
        self._changed = threading.Condition()
        self._files = 0
        self._downloads: set[Download] = set()
        self._interruptions = 0

    def fetch(self, commit: Commit, file: ModelFile, into: Path, *, moved: Callable[[int], None]) -> bool:
        """Write all of `file` to `into`, which is emptied first; `moved` is told bytes as they arrive there.

        False when the file is too small to be worth it, or when the Hub keeps it elsewhere.  When this returns True,
        `into` has the right size, and nobody has looked at its bytes.
        """
        if file.size < SMALLEST:
            return False
        with self._one_of_few() as interruptions:
            try:
                digest = self._hash(commit, file)
                if not digest:
                    return False
                want = _Wanted(digest, file.size, self._token(commit))
                arrivals = _Arrivals(file.size, moved)
                with self._download(commit, want, into, arrivals) as download:
                    self._begin(download, interruptions)
                    download.result()
                arrivals.end()
            except (RuntimeError, OSError, SyncerError) as error:
                raise self._not_this_way(file, error) from error
        return True

    def interrupt(self) -> None:
        """Cancel what is under way and wake who waits for a turn; they fail with `Transient`."""
        with self._changed:
            self._interruptions += 1
            downloads = list(self._downloads)
            self._changed.notify_all()
        for download in downloads:
            download.cancel()

    @contextmanager
    def _one_of_few(self) -> Iterator[int]:
        with self._changed:
            before = self._interruptions
            self._changed.wait_for(lambda: self._files < FILES_AT_ONCE or self._interruptions != before)
            self._refuse_if_interrupted(before)
            self._files += 1
        try:
            yield before
        finally:
            with self._changed:
                self._files -= 1
                self._changed.notify_all()

    def _refuse_if_interrupted(self, before: int) -> None:
        if self._interruptions != before:
            raise Transient("interrupted", store=self._hub.place.name)

    def _hash(self, commit: Commit, file: ModelFile) -> str:
        """How the store calls the file; empty when it is not kept there."""
        url = self._hub.url_of(commit.repository, commit.sha, file.path)

        def look() -> str:
            with self._hub.ask("HEAD", url) as answer:
                if answer.status >= HTTPStatus.BAD_REQUEST:
                    raise self._hub.error(refusal_of(answer), what=f"find {file.path}", path=file.path)
                let_go(answer)
                return answer.headers.get("X-Xet-Hash", "")

        found = self._hub.persistently(look)
        return found if _HASH.fullmatch(found) else ""

    def _token(self, commit: Commit) -> Token:
        """A token for this commit that is good for a while, asked for once."""
        url = self._token_url(commit)

        def ask() -> Token:
            with self._hub.ask("GET", url) as answer:
                if answer.status != HTTPStatus.OK:
                    raise self._hub.error(refusal_of(answer), what="ask for a token of the xet store")
                headers = answer.headers
                let_go(answer)
            ends = headers.get("X-Xet-Token-Expiration", "")
            token = Token(
                store=headers.get("X-Xet-Cas-Url", ""),
                value=headers.get("X-Xet-Access-Token", ""),
                ends=whole_number(ends) or 0,
            )
            register_secrets([token.value])
            return token

        with self._asking:
            token = self._tokens.get(url)
            if token is None or token.ends < self._clock() + _TOKEN_LEFT:
                token = self._tokens[url] = self._hub.persistently(ask)
        if not token.value or not token.store.startswith(f"{self._hub.origin.scheme}://"):
            raise Transient("the Hub told no store that files could be fetched from", store=self._hub.place.name)
        return token

    def _token_url(self, commit: Commit) -> str:
        return f"{self._hub.endpoint}/api/models/{commit.repository}/xet-read-token/{commit.sha}"

    @contextmanager
    def _download(self, commit: Commit, want: _Wanted, into: Path, arrivals: _Arrivals) -> Iterator[Download]:
        token = want.token
        download = start_download(
            self._network,
            memory=self._memory_for_one(),
            into=into,
            digest=want.digest,
            size=want.size,
            # The token of the Hub goes to the Hub alone; the store gets the one that the Hub has made out.
            connection={
                "endpoint": token.store,
                "token": token.value,
                "token_expiry_unix_secs": token.ends,
                "token_refresh_url": self._token_url(commit),
                "token_refresh_headers": {"Authorization": f"Bearer {self._hub.token}"} if self._hub.token else {},
                "custom_headers": {"User-Agent": AGENT},
                "progress_callback": arrivals.note,
                "progress_interval_ms": 500,
            },
        )
        try:
            yield download
        finally:
            with self._changed:
                self._downloads.discard(download)
            download.cancel()  # without effect where it is through

    def _memory_for_one(self) -> int:
        with self._changed:
            if self._memory is None:
                self._memory = self._room()
        if not self._memory:
            raise Transient("the pod's memory limit leaves too little for the library hf_xet")
        return self._memory // FILES_AT_ONCE

    def _begin(self, download: Download, interruptions: int) -> None:
        with self._changed:
            self._downloads.add(download)
            self._refuse_if_interrupted(interruptions)

    def _not_this_way(self, file: ModelFile, error: Exception) -> Transient:
        words = error.message if isinstance(error, SyncerError) else str(error)
        words = _QUERY.sub("?***", words)  # a signed address is as good as a token
        return Transient(
            f"{file.path} cannot be fetched by xet: {quoted(words, 300)}",
            hint="it goes by ranged HTTP instead; unset S3_SYNC_HF_XET where the xet store cannot be reached",
            store=self._hub.place.name,
            path=file.path,
        )
