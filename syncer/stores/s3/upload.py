"""Writing one file: by one PUT where it is one part, else by a multipart upload.  See `Upload` and `PartSink`."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import datetime, timedelta
from urllib.parse import quote

from syncer.claims import whole_number
from syncer.errors import InternalError, SyncerError, Transient, WrongBytes
from syncer.manifest import ModelFile
from syncer.stores.protocols import Cut, PartSink, UploadLost
from syncer.stores.s3.calls import abort_upload as abort_call
from syncer.stores.s3.calls import complete_upload, create_upload, list_parts, list_uploads
from syncer.stores.s3.documents import Fields
from syncer.stores.s3.etags import composite
from syncer.stores.s3.objects import bare, content_type_of
from syncer.stores.s3.parts import Habits, S3PartSink, Target
from syncer.stores.s3.refusals import Refusal
from syncer.stores.s3.service import Service
from syncer.stores.s3.vacancy import CLOCK_GRAIN, Vacancy, date


class PutUpload:
    """A file of one part: it is there as a whole when its only part is finished."""

    token = ""
    done: frozenset[int] = frozenset()

    def __init__(self, service: Service, habits: Habits, file: ModelFile, key: str) -> None:
        self._service = service
        self._habits = habits
        self._file = file
        self._key = key
        self._vacancy = Vacancy(service, habits.vacant, file, key, ability="create_if_absent")
        self._etag = ""

    def open_part(self, index: int) -> PartSink:
        """See `Upload`."""
        if self._vacancy.watched and not self._vacancy.obeyed and not self._vacancy.is_unseen(self._habits.glances):
            self._vacancy.ours("", sure=False)
        self._vacancy.tried()
        target = Target(
            key=self._key,
            length=self._file.size,
            kind="put",
            path=self._file.path,
            content_type=content_type_of(self._file.content_type),
            vacancy=self._vacancy if self._vacancy.conditional else None,
        )
        return S3PartSink(self._service, self._habits, target, self._stored, damaged=self._vacancy.end)

    def finish(self) -> str:
        """See `Upload`."""
        return self._etag

    def abort(self) -> None:
        """Nothing is left behind by a PUT that did not end."""

    def suspend(self) -> None:
        """Nothing to let go of."""

    def _stored(self, etag: str) -> None:
        self._vacancy.end()
        self._etag = etag


class MultipartUpload:
    """A file of many parts; `token` is S3's upload id."""

    def __init__(self, service: Service, habits: Habits, file: ModelFile, cut: Cut, key: str, token: str) -> None:
        self.token = token
        self.done: frozenset[int] = frozenset()
        self._service = service
        self._habits = habits
        self._file = file
        self._cut = cut
        self._key = key
        self._lock = threading.Lock()
        self._etags: dict[int, str] = {}
        self._damaged: set[int] = set()
        self._begun: datetime | None = None
        self._vacancy = Vacancy(service, habits.vacant, file, key, ability="complete_if_absent")
        self._ended = False

    @classmethod
    def create(cls, service: Service, habits: Habits, file: ModelFile, cut: Cut, key: str) -> MultipartUpload:
        """Start a new upload, and remove those of earlier tries whose answers were lost."""
        what = f"start the upload of {file.path}"
        try:
            said = service.call(
                create_upload(key, content_type=content_type_of(file.content_type)), what=what, path=file.path
            )
        except Transient:
            habits.in_doubt.add(key)
            raise
        if not (token := said.field("UploadId")):
            raise service.nonsense("no upload id", what=what, path=file.path)
        upload = cls(service, habits, file, cut, key, token)
        upload._begun = date(said.headers.get("Date"))
        if said.repeated or key in habits.in_doubt:
            upload._abort_twins()
        return upload

    @classmethod
    def resume(
        cls, service: Service, habits: Habits, file: ModelFile, cut: Cut, key: str, token: str
    ) -> MultipartUpload | None:
        """Go on with an upload of an earlier process; None when the store does not know it any more."""
        upload = cls(service, habits, file, cut, key, token)
        try:
            upload._etags = upload._stored_parts()
        except UploadLost:
            return None
        upload.done = frozenset(upload._etags)
        return upload

    def open_part(self, index: int) -> PartSink:
        """See `Upload`."""
        target = Target(
            key=self._key,
            length=self._cut.length(index),
            kind="part",
            path=self._file.path,
            query=f"partNumber={index + 1}&uploadId={quote(self.token, safe='')}",
        )
        return S3PartSink(
            self._service,
            self._habits,
            target,
            lambda etag: self.part_stored(index, etag),
            lambda: self._part_damaged(index),
        )

    def part_stored(self, index: int, etag: str) -> None:
        """The store has part `index` and named it `etag` (empty: only a list of the parts can tell)."""
        with self._lock:
            self._etags[index] = etag
            self._damaged.discard(index)

    def finish(self) -> str:
        """See `Upload`.  Safe to repeat: what a lost answer left behind is looked at."""
        etags = self._all_etags()
        if self._vacancy.watched and (version := self._ours(etags)) is not None:
            return version
        self._vacancy.tried()
        conditional = self._vacancy.conditional
        said = self._service.try_call(
            complete_upload(self._key, self.token, etags, if_absent=conditional),
            what=f"complete {self._file.path}",
            path=self._file.path,
        )
        if isinstance(said, Refusal):
            return self._not_completed(said, etags, conditional=conditional)
        self._ended = True
        self._vacancy.end()
        etag = bare(said.field("ETag")) or self._version_there(etags)
        self._check_composite(etag, etags)
        return etag

    def abort(self) -> None:
        """See `Upload`."""
        if self._ended:
            return
        self._ended = True
        with suppress(SyncerError):  # silent by contract; the next run finds what is left among the open uploads
            abort_upload(self._service, self._key, self.token)

    def suspend(self) -> None:
        """Nothing to let go of; but a part that arrived damaged would be taken for a good one by the next process."""
        if self._damaged:
            self.abort()

    def _part_damaged(self, index: int) -> None:
        with self._lock:
            self._damaged.add(index)

    def _abort_twins(self) -> None:
        """Remove the other uploads for this key: the store has opened them, and nobody has heard of it."""
        with suppress(SyncerError):  # the next run would find what is left
            twins: list[str] = []

            def take(name: str, fields: Fields) -> None:
                if name == "Upload" and fields.get("Key") == self._key:
                    twins.append(fields.get("UploadId", self.token))

            self._service.call(list_uploads(self._key), what="list unfinished uploads", path=self._file.path, take=take)
            for token in twins:
                if token != self.token:
                    abort_upload(self._service, self._key, token)
            self._habits.in_doubt.discard(self._key)

    def _all_etags(self) -> list[str]:
        with self._lock:
            etags = dict(self._etags)
        if len(etags) < self._cut.count:
            raise InternalError(f"{self._file.path} was finished with {len(etags)} of {self._cut.count} parts")
        if not all(etags.values()):
            listed = self._stored_parts()
            etags = {index: etag or listed.get(index, "") for index, etag in etags.items()}
        if missing := [index + 1 for index, etag in etags.items() if not etag]:
            raise UploadLost(
                f"{self._service.name}: part {missing[0]} of {self._file.path} is not at the store",
                store=self._service.name,
                path=self._file.path,
            )
        return [etags[index] for index in range(self._cut.count)]

    def _stored_parts(self) -> dict[int, str]:
        """ETags of the parts that lie at the store in full; a part of another length counts as not there."""
        parts: dict[int, str] = {}

        def take(name: str, fields: Fields) -> None:
            number = whole_number(fields.get("PartNumber", "")) if name == "Part" else None
            index = (number or 0) - 1
            if 0 <= index < self._cut.count and whole_number(fields.get("Size", "")) == self._cut.length(index):
                parts[index] = bare(fields.get("ETag", ""))

        what = f"list the parts of {self._file.path}"
        marker = 0
        while True:
            call = list_parts(self._key, self.token, after=marker)
            page = self._service.try_call(call, what=what, path=self._file.path, take=take)
            if isinstance(page, Refusal):
                raise self._lost(page) or self._service.error(page, what=what, path=self._file.path)
            self._begun = self._begun or date(page.headers.get("Date"))
            following = whole_number(page.field("NextPartNumberMarker")) or 0
            if not page.truncated or following <= marker:
                return {index: etag for index, etag in parts.items() if etag}
            marker = following

    def _lost(self, refusal: Refusal) -> UploadLost | None:
        # RADOS Gateway says NoSuchKey for an upload that it does not know (any more).
        if refusal.status != 404 or refusal.code == "NoSuchBucket":
            return None
        return UploadLost(
            f"{self._service.name}: the upload of {self._file.path} is not known there any more",
            store=self._service.name,
            path=self._file.path,
        )

    def _ours(self, etags: list[str]) -> str | None:
        """The version of the file if an earlier try has completed it; raises `ForeignFile`."""
        version = self._vacancy.ours(composite(etags), sure=self._habits.etags.proved("part"))
        self._ended = version is not None
        return version

    def _not_completed(self, refusal: Refusal, etags: list[str], *, conditional: bool) -> str:
        path = self._file.path
        if conditional and self._vacancy.taken(refusal):
            if (version := self._ours(etags)) is not None:
                return version
            kind = UploadLost if refusal.status == 409 else Transient  # S3 wants another upload after a 409
            raise kind(f"{self._service.name}: cannot complete {path}: {refusal.says}", path=path)
        if lost := self._lost(refusal):
            version = self._completed_before(etags)
            if version is None:
                raise lost
            self._ended = True
            return version
        if refusal.code in {"InvalidPart", "InvalidPartOrder"}:
            raise UploadLost(f"{self._service.name}: cannot complete {path}: {refusal.says}", path=path)
        if conditional and self._vacancy.misunderstood(refusal):
            raise Transient(f"{self._service.name}: cannot complete {path} on a condition: {refusal.says}", path=path)
        raise self._service.error(refusal, what=f"complete {path}", path=path)

    def _version_there(self, etags: list[str]) -> str:
        """The version of what was completed just now, for stores whose answer has none, as RADOS Gateway's.

        Without it a next run would not know the file as finished, and copy it again.
        """
        with suppress(SyncerError):  # it is there all the same, and the listing at the end tells its version
            return self._completed_before(etags) or ""
        return ""

    def _completed_before(self, etags: list[str]) -> str | None:
        """The version of the object if an attempt whose answer was lost has completed it, else None."""
        with self._service.ask("HEAD", self._key) as answer:
            if answer.status != 200 or answer.header("Content-Length") != str(self._file.size):
                return None
            etag, modified = bare(answer.header("ETag")), date(answer.header("Last-Modified"))
        expected = composite(etags)
        if expected and etag.endswith(f"-{len(etags)}"):
            return etag if etag == expected else None
        # An opaque ETag: an older object of the same size must not pass.  Both moments are by the store's own clock.
        return etag if modified and self._begun and modified >= self._begun - timedelta(seconds=CLOCK_GRAIN) else None

    def _check_composite(self, etag: str, etags: list[str]) -> None:
        if not self._habits.etags.proved("part"):
            return
        expected = composite(etags)
        judge = self._habits.etags
        if not expected or judge.accepts("composite", etag=etag, md5=expected):
            return
        if judge.proved("composite"):
            raise WrongBytes(f"{self._service.name}: {self._file.path} was put together wrongly", path=self._file.path)
        judge.accepts("composite", etag=etag, md5=expected)  # completing again would show nothing new


def abort_upload(service: Service, key: str, token: str) -> None:
    """Remove an unfinished upload; one that is gone already is fine."""
    if not token:
        return  # without an upload id, RADOS Gateway takes the request for the deletion of the object
    what = "remove an unfinished upload"
    said = service.try_call(abort_call(key, token), what=what)
    if isinstance(said, Refusal) and said.code != "NoSuchUpload" and said.status != 404:
        raise service.error(said, what=what)
