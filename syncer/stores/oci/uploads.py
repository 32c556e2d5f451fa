"""Blobs on their way: one upload session of the registry, and one file's layer in it, part by part.

The distribution specification 1.1 has chunks in order, each with the range that it is, and an address for the next
request in every answer.  The layer's digest is known when the last byte has passed, and closes the upload.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Final

from syncer.errors import CredentialsRefused, InternalError, SyncerError, Transient, WrongBytes
from syncer.manifest import ModelFile
from syncer.stores.oci.layers import head, layer_size, tail
from syncer.stores.oci.login import Scopes
from syncer.stores.oci.refusals import NO_REGISTRY, Refusal
from syncer.stores.oci.session import Session
from syncer.stores.protocols import Cut, PartSink, UploadLost
from syncer.wire import Answer

_RANGE: Final = re.compile(r"(?:bytes=)?0-(\d{1,20})")
_LOST: Final = frozenset({"BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID", "RANGE_INVALID"})
_CLOSING_SECONDS: Final = 600.0
"""How long a registry may be silent over a layer that is closed: some copy it in their own storage first."""
_WRONG: Final = frozenset({"DIGEST_INVALID", "SIZE_INVALID"})
_CLOSED: Final = frozenset({200, 202, 204})
"""How some registries say what the specification says with 201; proxies with a page of their own say 200, too."""


class BlobUpload:
    """One upload session.  `smallest` is what the registry wants a chunk to have at least, but for the last one.

    `renewed` says that the last chunk was answered with 401, and that the next one is the last try.
    """

    def __init__(self, session: Session, url: str, *, blobs: str, scopes: Scopes, smallest: int) -> None:
        self.smallest = smallest
        self.renewed = False
        self._session = session
        self._url = url
        self._blobs = blobs
        self._scopes = scopes

    @classmethod
    def start(cls, session: Session, target: str, *, scopes: Scopes) -> BlobUpload | None:
        """Open a session; None when the registry had the blob elsewhere and has linked it (`mount`)."""
        with session.ask("POST", target, scopes=scopes) as answer:
            if answer.status == 201:
                return None
            if answer.status != 202 or not answer.header("Location"):
                raise Refusal.read(answer).error(store=session.name, what="begin the upload of a layer")
            told = answer.header("OCI-Chunk-Min-Length")
            smallest = int(told) if told.isascii() and told.isdecimal() and len(told) < 12 else 0
            url = session.resolve(f"{session.origin}{target}", answer.header("Location"))
        blobs = target.partition("?")[0].rpartition("/uploads/")[0]
        return cls(session, url, blobs=blobs, scopes=scopes, smallest=smallest)

    def chunk(self, start: int, length: int) -> Chunk:
        """Prepare the bytes from `start`."""
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"{start}-{start + length - 1}",
        }
        return Chunk(self, self._session, self._url, headers, start, length, self._scopes)

    def moved_to(self, answer: Answer) -> None:
        """Every answer may give another address for the next request."""
        if told := answer.header("Location"):
            self._url = self._session.resolve(self._url, told)

    def stored(self) -> int:
        """Bytes that the registry has; `UploadLost` when it does not know the upload any more."""
        with self._session.ask("GET", self._url, scopes=self._scopes) as answer:
            if answer.status not in {200, 202, 204}:
                raise self.failure(Refusal.read(answer), "look for the rest of a layer")
            self.moved_to(answer)
            return received(answer)

    def close(self, digest: str, content: bytes = b"") -> None:
        """Say what the blob's digest is, with the last bytes of it; the registry compares.

        An answer to an earlier attempt may be what was lost, and what says yes may be no registry at all: wherever the
        answer is not the one for a blob that was made now, the registry is asked whether it has it.
        """
        url = f"{self._url}{'&' if '?' in self._url else '?'}digest={digest}"
        headers = {"Content-Type": "application/octet-stream"}
        idle = 0.0 if content else _CLOSING_SECONDS
        with self._session.ask("PUT", url, scopes=self._scopes, headers=headers, body=content, idle=idle) as answer:
            if answer.status == 201:
                return
            failure = None if answer.status in _CLOSED else self.failure(Refusal.read(answer), "close a layer")
        if failure is not None and not isinstance(failure, UploadLost):
            raise failure
        if not self.exists(digest):
            name = self._session.name
            raise failure or Transient(f"{name}: a layer was closed, and is not there", hint=NO_REGISTRY, store=name)

    def exists(self, digest: str) -> bool:
        """Whether the repository has a whole blob."""
        with self._session.ask("HEAD", f"{self._blobs}/{digest}", scopes=self._scopes, follow=True) as answer:
            if answer.status not in {200, 404}:
                raise Refusal.read(answer).error(store=self._session.name, what=f"look for the layer {digest}")
            return answer.status == 200

    def cancel(self) -> None:
        """Leave nothing behind, silently: what cannot be removed the registry removes in its own time.

        A stopped run has little time: where one upload cannot be removed, the others are not tried.
        """
        if not self._session.tidies:
            return
        try:
            self._session.persistently(self._remove)
        except SyncerError:
            self._session.tidies = False

    def _remove(self) -> None:
        """Docker's own registry wants the right to delete for this, others the right to push."""
        try:
            self._delete((self._scopes[0].rpartition(":")[0] + ":delete", *self._scopes))
        except CredentialsRefused:
            self._delete(self._scopes)

    def _delete(self, scopes: Scopes) -> None:
        with self._session.ask("DELETE", self._url, scopes=scopes) as answer:
            if answer.status >= 400 and answer.status not in {404, 405}:
                raise Refusal.read(answer).error(store=self._session.name, what="remove an upload")
            if answer.status != 404:
                self._session.abilities.learn("remove_uploads", has=answer.status < 400)
            answer.read(64 * 1024)

    def failure(self, refusal: Refusal, what: str) -> SyncerError:
        """What it means that the registry does not go on."""
        name = self._session.name
        if _WRONG & refusal.codes:
            return WrongBytes(
                f"{name}: the registry got other bytes than were sent ({refusal.says})",
                hint="something on the way changes bytes: a proxy, or the network itself where there is no https",
                store=name,
            )
        if refusal.status in {404, 416} or _LOST & refusal.codes:
            return UploadLost(f"{name}: the registry has lost an upload (HTTP {refusal.status})", store=name)
        return refusal.error(store=name, what=what)


class Chunk:
    """One PATCH.  `send` its bytes, then `finish`; or `cancel`."""

    def __init__(
        self,
        upload: BlobUpload,
        session: Session,
        url: str,
        headers: dict[str, str],
        start: int,
        length: int,
        scopes: Scopes,
    ) -> None:
        self._upload = upload
        self._session = session
        self._url = url
        self._scopes = scopes
        self._end = start + length
        self._shown = session.header(url, scopes)
        self._exchange = session.begin("PATCH", url, headers, length=length, scopes=scopes)

    def send(self, data: memoryview) -> None:
        """Pass bytes on."""
        if not self._exchange.send(data):
            self.finish()
            raise Transient(f"{self._session.name}: the registry answered too early", store=self._session.name)

    def finish(self) -> None:
        """The registry has said that it has all."""
        with self._exchange.answer() as answer:
            if answer.status == 401 and not self._upload.renewed:
                self._upload.renewed = self._session.renew(answer, self._url, self._scopes, self._shown)
                if self._upload.renewed:
                    raise Transient(f"{self._session.name}: the login had to be renewed", store=self._session.name)
            if answer.status not in {200, 201, 202, 204}:
                raise self._upload.failure(Refusal.read(answer), "send a part of a layer")
            self._upload.renewed = False
            self._session.accepted(self._url, self._scopes, self._shown)
            self._upload.moved_to(answer)
            if answer.header("Range") and received(answer) != self._end:
                raise Transient(f"{self._session.name}: a part did not arrive whole", store=self._session.name)

    def cancel(self) -> None:
        """Give it up."""
        self._exchange.cancel()


def received(answer: Answer) -> int:
    """How many bytes a Range header says are there; Docker's registry says `0-0` for none and for one."""
    found = _RANGE.fullmatch(answer.header("Range").strip())
    return int(found[1]) + 1 if found is not None and found[1] != "0" else 0


class LayerUpload:
    """One file on its way into a layer.  See `Upload`; parts come in order, and nobody else can go on with it."""

    token = ""
    done: frozenset[int] = frozenset()

    def __init__(self, blob: BlobUpload, file: ModelFile, cut: Cut, finished: Callable[[str], None]) -> None:
        self.blob = blob
        self.file = file
        self.cut = cut
        self._finished = finished
        self._hash = hashlib.sha256()
        self._next = 0
        self._doubtful = False
        self._ended = False

    def open_part(self, index: int) -> PartSink:
        """See `Upload`."""
        if index != self._next:
            raise InternalError(f"part {index} of {self.file.path} comes before part {self._next}")
        return _LayerPart(self, index)

    def finish(self) -> str:
        """See `Upload`.  The version is the layer's digest."""
        if self._next != self.cut.count:
            raise InternalError(f"{self.file.path} was finished with {self._next} of {self.cut.count} parts")
        digest = f"sha256:{self._hash.hexdigest()}"
        if not self._ended:
            self.blob.close(digest)
            self._ended = True
            self._finished(digest)
        return digest

    def abort(self) -> None:
        """See `Upload`."""
        if not self._ended:
            self._ended = True
            self.blob.cancel()

    def suspend(self) -> None:
        """Nobody can go on with the hash of half a layer: what is there of it goes."""
        self.abort()

    # For the part -------------------------------------------------------------------------------------------------

    def begun(self, index: int) -> tuple[int, int, int, hashlib._Hash]:
        """Where a part with what belongs to it begins in the layer, how long it is, what is there already, the hash."""
        file, cut = self.file, self.cut
        first, last = index == 0, index == cut.count - 1
        before = len(head(file.path, file.size))
        start = 0 if first else before + cut.offset(index)
        end = layer_size(file.path, file.size) if last else before + cut.offset(index) + cut.length(index)
        there = 0
        if self._doubtful:
            there = self.blob.stored() - start
            if not 0 <= there <= end - start:
                raise UploadLost(f"{file.path}: the registry has other bytes than were sent", path=file.path)
        return start, end - start, there, self._hash.copy()

    def part_done(self, state: hashlib._Hash) -> None:
        self._hash = state
        self._next += 1
        self._doubtful = False

    def part_broken(self) -> None:
        self._doubtful = True


class _LayerPart:
    """One part, with the head before the first one and the tail behind the last.  See `PartSink`."""

    keeps_views = False

    def __init__(self, upload: LayerUpload, index: int) -> None:
        file, cut = upload.file, upload.cut
        start, self._left, self._there, self._hash = upload.begun(index)
        self._upload = upload
        self._tail = tail(file.size) if index == cut.count - 1 else b""
        self._chunk = (
            upload.blob.chunk(start + self._there, self._left - self._there) if self._left > self._there else None
        )
        self._head = head(file.path, file.size) if index == 0 else b""
        self._ended = False

    def send(self, data: memoryview) -> None:
        """See `PartSink`."""
        self._begin()
        if len(data) > self._left - len(self._tail):
            raise InternalError("a part got more bytes than it has")
        self._pass(data)

    def finish(self) -> None:
        """See `PartSink`."""
        self._begin()
        if self._left == len(self._tail):
            self._pass(memoryview(self._tail))
        if self._left:
            raise InternalError(f"{self._left} bytes of a part are missing")
        if self._chunk is not None:
            self._chunk.finish()
        self._ended = True
        self._upload.part_done(self._hash)

    def cancel(self) -> None:
        """See `PartSink`."""
        if self._ended:
            return
        self._ended = True
        self._upload.part_broken()
        if self._chunk is not None:
            self._chunk.cancel()

    def _begin(self) -> None:
        before, self._head = self._head, b""
        if before:
            self._pass(memoryview(before))

    def _pass(self, data: memoryview) -> None:
        """Hash all of it, and send what the registry does not have."""
        self._hash.update(data)
        self._left -= len(data)
        known = min(self._there, len(data))
        self._there -= known
        if self._chunk is not None and len(data) > known:
            self._chunk.send(data[known:])
