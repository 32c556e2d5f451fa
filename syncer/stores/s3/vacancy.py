"""A key at which nothing lay when the run was planned, and whose object it is that lies there now.

A store that obeys `If-None-Match: *` replaces nothing by itself.  Others are asked for a last look before, which leaves
open the moment in between: an instant before a large file is completed, a few seconds before a small one is put, as one
page of a listing is the last look at a thousand of them.  An object of our own may be there all the same, by a try
whose answer was lost.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

from syncer.errors import SyncerError
from syncer.manifest import ModelFile
from syncer.stores.abilities import Ability
from syncer.stores.protocols import ForeignFile
from syncer.stores.s3.objects import bare, list_page
from syncer.stores.s3.refusals import Refusal
from syncer.stores.s3.service import Service
from syncer.wire import Answer

CLOCK_GRAIN: Final = 2.0
"""Seconds; HTTP's dates have whole ones."""
_NOT_UNDERSTOOD: Final = frozenset({400, 501})
_TAKEN: Final = frozenset({409, 412})
"""S3 says 409 when another write to the key is under way:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html"""


GOOD_FOR: Final = 5.0
"""Seconds that a page of a listing counts as a last look."""
_BESIDE: Final = 64
"""Files before the one that is asked for, which other lanes may be about to ask for: as many as there are lanes."""


class Glances:
    """Last looks at many places with one request: a page of a listing tells of all keys between its ends.

    Files are asked for roughly in the order of their paths, by many threads.  A store that cannot say what comes after
    a key, or lists in another order, is not asked again.
    """

    def __init__(self, service: Service, prefix: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._service = service
        self._prefix = prefix
        self._clock = clock
        self._lock = threading.Lock()
        self._awaited: list[str] = []
        self._after, self._until = "", ""
        self._found: frozenset[str] = frozenset()
        self._looked_at = float("-inf")
        self._useless = False

    def expect(self, paths: Iterable[str]) -> None:
        """These are the paths that will be asked for."""
        with self._lock:
            self._awaited = sorted(paths)
            self._looked_at = float("-inf")

    def show_nothing_at(self, path: str) -> bool:
        """Whether nothing lay there in these last seconds; False also where nobody can tell."""
        with self._lock:
            if not self._covers(path) and not self._useless:
                self._look(path)
            return not self._useless and self._covers(path) and path not in self._found

    def _covers(self, path: str) -> bool:
        fresh = self._clock() - self._looked_at < GOOD_FOR
        return fresh and self._after < path and (not self._until or path <= self._until)

    def _look(self, path: str) -> None:
        place = bisect_left(self._awaited, path)
        first = self._awaited[max(0, place - _BESIDE)] if self._awaited else path
        after = _just_before(min(first, path))
        moment = self._clock()
        try:
            page = list_page(self._service, self._prefix, what="look at the folder", after=self._prefix + after)
        except SyncerError:
            self._useless = True
            return
        paths = [key[len(self._prefix) :] for key, _, _ in page.found]
        # A store that does not know `start-after` begins with the first key of all.
        self._after = "" if paths and paths[0] < after else after
        self._until = (paths[-1] if paths else after) if page.token else ""
        self._found, self._looked_at = frozenset(paths), moment
        self._useless = not self._covers(path) or paths != sorted(paths)


class Vacancy:
    """The place of one file; `vacant` are the paths where nothing lay, and loses this one once a file of ours is there.

    `ability` is how the store shows that it obeys the condition for this kind of request.
    """

    def __init__(self, service: Service, vacant: set[str], file: ModelFile, key: str, *, ability: Ability) -> None:
        self._service = service
        self._vacant = vacant
        self._file = file
        self._key = key
        self._ability: Ability = ability
        self._tried_at: float | None = None

    @property
    def watched(self) -> bool:
        """Whether nothing may be replaced there."""
        return self._file.path in self._vacant

    @property
    def obeyed(self) -> bool | None:
        """Whether the store minds the condition; None while nobody knows."""
        return self._service.abilities.has(self._ability)

    @property
    def conditional(self) -> bool:
        """Whether to send the condition."""
        return self.watched and self.obeyed is not False

    def is_unseen(self, glances: Glances) -> bool:
        """Whether nothing of anybody lies there, as far as a page of a listing tells: then nobody need look."""
        return self._tried_at is None and glances.show_nothing_at(self._file.path)

    def tried(self) -> None:
        """From now on the object may be there without our knowing."""
        self._tried_at = time.monotonic() if self._tried_at is None else self._tried_at

    def end(self) -> None:
        """A file of ours is there: it may be replaced."""
        self._vacant.discard(self._file.path)

    def taken(self, refusal: Refusal) -> bool:
        """Whether the store has refused because of what lies there; learns what the condition is worth."""
        if refusal.status in _TAKEN:
            if refusal.status == 412:
                self._service.abilities.learn(self._ability, has=True)
            return True
        return False

    def misunderstood(self, refusal: Refusal) -> bool:
        """Whether the store may take the same request without the condition; it is not sent again then."""
        if self.obeyed is not None or not (refusal.status in _NOT_UNDERSTOOD or refusal.code == "NotImplemented"):
            return False
        self._service.abilities.learn(self._ability, has=False)
        return True

    def ours(self, etag: str, *, sure: bool) -> str | None:
        """The version of our own object, which lies there already; None where the file may be written.

        `etag` is what ours would have, empty if nobody can tell; `sure` says that no other one can be ours.  Raises
        `ForeignFile`.  What only may be ours, by its size and its age, is written once more.
        """
        with self._service.ask("HEAD", self._key) as answer:
            if answer.status == 404:
                return None
            if answer.status != 200:
                raise self._service.refuse(answer, what=f"look at {self._file.path}", path=self._file.path)
            found, same_size = bare(answer.header("ETag")), answer.header("Content-Length") == str(self._file.size)
            young = self._tried_at is not None and _age(answer) <= time.monotonic() - self._tried_at + CLOCK_GRAIN
        if same_size and etag and found == etag:
            self.end()
            return found
        if same_size and young and not (etag and sure):
            self.end()
            return None
        raise ForeignFile(self._file.path, store=self._service.name)


def _just_before(path: str) -> str:
    """Something that comes before `path` and after almost all else that does, in the order of listings."""
    last = path[-1:]
    return path[:-1] + (f"{chr(ord(last) - 1)}~" if "!" < last <= "~" else "")


def date(header: str) -> datetime | None:
    """A date of HTTP, or None for what is none."""
    try:
        return parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None


def _age(answer: Answer) -> float:
    """Seconds since the object was written, both moments by the store's own clock; infinite if it does not tell."""
    now, modified = date(answer.header("Date")), date(answer.header("Last-Modified"))
    return (now - modified).total_seconds() if now and modified else float("inf")
