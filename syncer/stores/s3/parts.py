"""One body on its way to a key, and what the store was seen to do with bodies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from syncer.errors import OutOfSpace, SyncerError, Transient
from syncer.stores.abilities import Abilities
from syncer.stores.protocols import UploadLost
from syncer.stores.s3.account import NO_BODY, UNSIGNED
from syncer.stores.s3.etags import EtagJudge, Kind, new_md5
from syncer.stores.s3.objects import bare
from syncer.stores.s3.refusals import Refusal
from syncer.stores.s3.service import Service
from syncer.stores.s3.vacancy import Glances, Vacancy
from syncer.wire import Answer, Exchange

_REFUSES_UNSIGNED: Final = frozenset(
    {
        "InvalidArgument",
        "InvalidRequest",
        "NotImplemented",
        "SignatureDoesNotMatch",
        "UnsignedPayloadNotAllowed",
        "XAmzContentSHA256Mismatch",
    }
)


@dataclass(frozen=True)
class Target:
    """Where a body of `length` bytes goes: an object, or with `query` a part of an upload; `path` is for errors.

    With a `vacancy` the store is asked to take the body only where nothing is.
    """

    key: str
    length: int
    kind: Kind
    path: str
    query: str = ""
    content_type: str = ""
    vacancy: Vacancy | None = None


class Habits:
    """What this destination was seen to do, and what is to be minded there; shared by everything that writes to it.

    `in_doubt` are the keys for which an upload may have been started whose answer was lost, `vacant` the paths at which
    nothing may be replaced (see `Vacancy`), `glances` the last looks at them.
    """

    def __init__(self, abilities: Abilities, glances: Glances) -> None:
        self.glances = glances
        self._abilities = abilities
        self.etags = EtagJudge(abilities)
        self.in_doubt: set[str] = set()
        self.vacant: set[str] = set()

    @property
    def signed_payloads(self) -> bool:
        """Whether it refuses bodies whose hash is not in the signature, so that they are collected and hashed first."""
        return self._abilities.has("take_unsigned_bodies") is False

    def body_was_taken(self) -> None:
        """A body arrived the way it was signed."""
        if not self.signed_payloads:
            self._abilities.learn("take_unsigned_bodies", has=True)

    def sign_from_now_on(self, refusal: Refusal) -> bool:
        """Whether a refused body may be taken if it is sent again with its hash in the signature."""
        known = self._abilities.has("take_unsigned_bodies")
        if known is not None or refusal.code not in _REFUSES_UNSIGNED:
            return False
        self._abilities.learn("take_unsigned_bodies", has=False)
        return True


class S3PartSink:
    """See `PartSink`.

    `stored` is told the ETag that the store answered, perhaps empty; `damaged` that other bytes lie there than were
    sent.
    """

    def __init__(
        self,
        service: Service,
        habits: Habits,
        target: Target,
        stored: Callable[[str], None],
        damaged: Callable[[], None] = lambda: None,
    ) -> None:
        self.keeps_views = habits.signed_payloads
        self._service = service
        self._habits = habits
        self._target = target
        self._stored = stored
        self._damaged = damaged
        self._views: list[memoryview] = []
        self._exchange: Exchange | None = None
        self._md5 = new_md5() if habits.etags.wants(target.kind) else None

    def send(self, data: memoryview) -> None:
        """See `PartSink`."""
        if self.keeps_views:
            self._views.append(data)
            return
        self._push(self._open(UNSIGNED), data)

    def finish(self) -> None:
        """See `PartSink`."""
        if self.keeps_views:
            digest = hashlib.sha256()
            for view in self._views:
                digest.update(view)
            exchange = self._open(digest.hexdigest())
            for view in self._views:
                self._push(exchange, view)
        else:
            exchange = self._open(UNSIGNED if self._target.length else NO_BODY)
        answer = exchange.answer()
        self._exchange = None
        if answer.status not in {200, 201, 204}:
            said = self._refused(answer, md5=self._md5.hexdigest() if self._md5 is not None else "")
            if isinstance(said, SyncerError):
                raise said
            self._stored(said)
            return
        etag = bare(answer.header("ETag"))
        with answer:
            refusal = Refusal.inside(answer, answer.read(64 * 1024))
        if refusal is not None:
            raise _refused_body(self._service, self._habits, refusal, path=self._target.path)
        self._habits.body_was_taken()
        if self._md5 is not None and not self._habits.etags.accepts(
            self._target.kind, etag=etag, md5=self._md5.hexdigest()
        ):
            self._damaged()
            raise Transient(
                f"{self._service.name}: the store has other bytes of {self._target.path} than were sent",
                store=self._service.name,
                path=self._target.path,
            )
        self._stored(etag)

    def cancel(self) -> None:
        """See `PartSink`."""
        self._views.clear()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.cancel()

    def _open(self, payload: str) -> Exchange:
        if self._exchange is None:
            target = self._target
            self._exchange = self._service.begin(
                "PUT",
                target.key,
                query=target.query,
                headers=({"Content-Type": target.content_type} if target.content_type else {})
                | ({"If-None-Match": "*"} if target.vacancy is not None else {}),
                length=target.length,
                payload=payload,
            )
        return self._exchange

    def _push(self, exchange: Exchange, data: memoryview) -> None:
        if not exchange.send(data):
            answer = exchange.answer()
            self._exchange = None
            said = self._refused(answer)
            raise said if isinstance(said, SyncerError) else self._once_more("it was answered before it was sent")
        if self._md5 is not None:
            self._md5.update(data)

    def _refused(self, answer: Answer, *, md5: str = "") -> SyncerError | str:
        """The error for an answer that is no success, or the version of our own object, which an earlier try has left.

        `md5` is that of the whole body, where the store's ETags are worth a comparison.
        """
        if 200 <= answer.status < 300:
            answer.close()
            return self._once_more("it was answered before it was sent")
        with answer:
            refusal = Refusal.read(answer)
        vacancy = self._target.vacancy
        if vacancy is not None and vacancy.taken(refusal):
            return vacancy.ours(md5, sure=bool(md5)) or self._once_more(refusal.says)
        if vacancy is not None and vacancy.misunderstood(refusal):
            return self._once_more(f"not on a condition: {refusal.says}")
        return _refused_body(self._service, self._habits, refusal, path=self._target.path)

    def _once_more(self, why: str) -> Transient:
        name, path = self._service.name, self._target.path
        return Transient(f"{name}: {path} has to be sent once more: {why}", store=name, path=path)


def _refused_body(service: Service, habits: Habits, refusal: Refusal, *, path: str) -> SyncerError:
    """The error for a body that was refused, and what to do differently the next time."""
    what = f"write {path}"
    if habits.sign_from_now_on(refusal):
        return Transient(f"{service.name}: cannot {what} without a signed payload: {refusal.says}", path=path)
    if refusal.code == "NoSuchUpload":
        return UploadLost(f"{service.name}: the upload of {path} is not known there any more", path=path)
    if refusal.code == "EntityTooLarge":
        return OutOfSpace(f"{service.name}: cannot {what}: {refusal.says}", hint="the store limits the size", path=path)
    return service.error(refusal, what=what, path=path)
