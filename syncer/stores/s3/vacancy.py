"""A key at which nothing lay when the run was planned, and whose object it is that lies there now.

A store that obeys `If-None-Match: *` replaces nothing by itself.  Others are asked for a last look before, which leaves
open the moment in between.  An object of our own may be there all the same, by a try whose answer was lost.
"""

from __future__ import annotations

import time
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

from syncer.manifest import ModelFile
from syncer.stores.abilities import Ability
from syncer.stores.protocols import ForeignFile
from syncer.stores.s3.objects import bare
from syncer.stores.s3.refusals import Refusal
from syncer.stores.s3.service import Service
from syncer.wire import Answer

CLOCK_GRAIN: Final = 2.0
"""Seconds; HTTP's dates have whole ones."""
_NOT_UNDERSTOOD: Final = frozenset({400, 501})
_TAKEN: Final = frozenset({409, 412})
"""S3 says 409 when another write to the key is under way:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html"""


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
