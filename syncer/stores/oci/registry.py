"""One repository of a registry, by the distribution specification 1.1 (https://github.com/opencontainers/distribution-spec).

Every answer is bounded, and what has a digest is compared with it: a registry is somebody else's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar
from urllib.parse import quote

from syncer.claims import whole_number
from syncer.errors import ConfigurationError, CredentialsRefused, SourceChanged, SyncerError, Transient, WrongBytes
from syncer.retry import SMALL_REQUEST, Patience
from syncer.settings.locations import ImageLocation, Network
from syncer.stores.abilities import Abilities
from syncer.stores.oci.depot import Document
from syncer.stores.oci.documents import ACCEPTED, LARGEST_DOCUMENT, identified, is_digest
from syncer.stores.oci.login import Scopes
from syncer.stores.oci.refusals import NO_REGISTRY, Refusal
from syncer.stores.oci.session import Session
from syncer.stores.oci.uploads import BlobUpload
from syncer.stores.protocols import Body
from syncer.wire import Answer, Timeouts

_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,20})-(\d{1,20})/(\d{1,20}|\*)")
_ERRORS: Final = b'{"errors":'
"""How the specification's document of errors begins, which no manifest does."""
_MOST_SKIPPED: Final = 16 * 1024 * 1024
_PIECE: Final = 256 * 1024
T = TypeVar("T")


class Registry:
    """Implements `Depot`, and writes.  Small requests outlast passing faults by themselves.

    `variable` is what names the image, for hints: by default that of the end that `writes` says.
    """

    def __init__(
        self,
        location: ImageLocation,
        network: Network,
        *,
        writes: bool,
        variable: str = "",
        abilities: Abilities | None = None,
        timeouts: Timeouts | None = None,
        patience: Patience = SMALL_REQUEST,
    ) -> None:
        self.location = location
        variable = variable or ("OCI_IMAGE or S3_SYNC_DEST__PATH" if writes else "S3_SYNC_SRC__PATH")
        self.session = Session(
            location, network, variable=variable, abilities=abilities, timeouts=timeouts, patience=patience
        )
        self.scopes: Scopes = (f"repository:{location.repository}:{'pull,push' if writes else 'pull'}",)
        self._base = f"/v2/{quote(location.repository)}"
        self._writes = writes

    @property
    def name(self) -> str:
        """See `Depot`."""
        return self.session.name

    def manifest(self, reference: str) -> Document | None:
        """See `Depot`.  Raises `WrongBytes` where the content is not what its digest says, twice."""
        wanted = reference or self.location.digest or self.location.tag

        def attempt() -> tuple[Document, str] | None:
            with self.session.ask(
                "GET", self._manifest(wanted), scopes=self.scopes, headers={"Accept": ACCEPTED}, follow=True
            ) as answer:
                if answer.status == 404:
                    return None
                if answer.status != 200:
                    raise self.refusal(answer, f"read the manifest {wanted}")
                kind = answer.header("Content-Type").partition(";")[0].strip()
                if kind.lower() == "text/html":
                    why = f"{self.name}: a page for people came instead of the manifest {wanted}"
                    raise Transient(why, hint=NO_REGISTRY, store=self.name)
                content = answer.read(LARGEST_DOCUMENT)
                if content.startswith(_ERRORS):
                    why = f"{self.name}: errors came as if they were the manifest {wanted}"
                    raise Transient(why, hint=NO_REGISTRY, store=self.name)
                told = wanted if is_digest(wanted) else answer.header("Docker-Content-Digest")
                return identified(content, kind), told

        found = self.session.persistently(attempt)
        if found is not None and _is_another(*found):
            found = self.session.persistently(attempt)
        if found is not None and _is_another(*found):
            raise WrongBytes(
                f"{self.name}: the manifest {found[1]} is another one: {found[0].digest}",
                hint="the image, or what comes of it through a proxy, is damaged; push it again",
                store=self.name,
            )
        return found[0] if found is not None else None

    def blob_size(self, digest: str) -> int | None:
        """See `Depot`."""

        def attempt() -> int | None:
            with self.session.ask("HEAD", self._blob(digest), scopes=self.scopes, follow=True) as answer:
                if answer.status == 404:
                    return None
                if answer.status != 200:
                    raise self.refusal(answer, f"look for the layer {digest}")
                return whole_number(answer.header("Content-Length"))

        return self.session.persistently(attempt)

    def read(self, digest: str, start: int, length: int) -> Body:
        """See `Depot`."""
        asked = {"Range": f"bytes={start}-{start + length - 1}"}
        answer = self.session.ask("GET", self._blob(digest), scopes=self.scopes, headers=asked, follow=True)
        try:
            return _BlobBody(answer, self._skip(answer, digest, start, length), length, store=self.name)
        except BaseException:
            answer.close()
            raise

    def upload(self, *, mount: str = "", source: str = "") -> BlobUpload | None:
        """Begin a blob; None when `mount` could be taken over from the repository `source` instead."""
        scopes = (*self.scopes, f"repository:{source}:pull") if source else self.scopes
        target = f"{self._base}/blobs/uploads/"
        if mount:
            target += f"?mount={quote(mount)}&from={quote(source, safe='')}"
        begun = self.session.persistently(lambda: BlobUpload.start(self.session, target, scopes=scopes))
        if mount:
            self.session.abilities.learn("link_layers", has=begun is None)
        return begun

    def push_small(self, content: bytes, digest: str) -> None:
        """Bring a small blob, unless it is there."""
        if self.blob_size(digest) == len(content):
            return

        def attempt() -> None:
            upload = BlobUpload.start(self.session, f"{self._base}/blobs/uploads/", scopes=self.scopes)
            if upload is None:
                return
            try:
                upload.close(digest, content)
            except BaseException:
                upload.cancel()
                raise

        self.session.persistently(attempt)

    def push_manifest(self, reference: str, document: Document) -> None:
        """Store a manifest under a tag or its own digest; what it names must be there.

        Who says yes otherwise than the specification has it (201) is asked for the manifest: a proxy with a page of its
        own says 200, and an image that is not there must not count as pushed.
        """

        def attempt() -> None:
            with self.session.ask(
                "PUT",
                self._manifest(reference),
                scopes=self.scopes,
                headers={"Content-Type": document.media_type},
                body=document.content,
            ) as answer:
                if answer.status == 201:
                    return
                if answer.status not in {200, 202}:
                    raise self._unpushed(Refusal.read(answer), reference)
            there = self.manifest(reference)
            if there is None or there.digest != document.digest:
                why = f"{self.name}: the manifest {reference} was taken, and is not there"
                raise Transient(why, hint=NO_REGISTRY, store=self.name)

        self.session.persistently(attempt)

    def forget(self, tag: str, digest: str) -> bool:
        """Remove a tag that names `digest`, and what is under it; False where the registry will not."""
        scopes = (f"repository:{self.location.repository}:delete", *self.scopes)

        def attempt(reference: str) -> bool:
            with self.session.ask("DELETE", self._manifest(reference), scopes=scopes) as answer:
                gone = answer.status in {202, 204, 404}
                if answer.status in {202, 204}:
                    self.session.abilities.learn("remove_tags", has=True)
                failure = None if gone else self.refusal(answer, f"remove {reference}")
            if isinstance(failure, Transient):  # 200 too: if it was not a page for people, there is nothing next time
                raise failure
            return gone

        try:
            # A registry removes a tag alone, or a manifest with its tags, or nothing.
            gone = any(self.session.persistently(partial(attempt, reference)) for reference in (tag, digest))
        except CredentialsRefused:
            gone = False  # the right to push is not the one to delete
        if not gone:
            self.session.abilities.learn("remove_tags", has=False)
        return gone

    def refusal(self, answer: Answer, what: str) -> SyncerError:
        """What an answer means."""
        return Refusal.read(answer).error(store=self.name, what=what)

    def persistently(self, work: Callable[[], T]) -> T:
        """See `Depot`."""
        return self.session.persistently(work)

    def interrupt(self) -> None:
        """See `Depot`."""
        self.session.interrupt()

    def close(self) -> None:
        """See `Depot`."""
        self.session.close()

    def _manifest(self, reference: str) -> str:
        return f"{self._base}/manifests/{quote(reference, safe=':')}"

    def _blob(self, digest: str) -> str:
        return f"{self._base}/blobs/{quote(digest, safe=':')}"

    def _unpushed(self, refusal: Refusal, reference: str) -> SyncerError:
        if "MANIFEST_BLOB_UNKNOWN" in refusal.codes:
            return WrongBytes(
                f"{self.name}: a layer that an earlier run left is gone from the registry",
                hint="push everything again with S3_SYNC_TRANSFER_CONFIG__FORCE=true",
                store=self.name,
            )
        return refusal.error(store=self.name, what=f"store the manifest {reference}")

    def _skip(self, answer: Answer, digest: str, start: int, length: int) -> int:
        """Bytes that come before the range; raises where it is not the one that was asked for."""
        if answer.status == 206:
            sent = _CONTENT_RANGE.fullmatch(answer.header("Content-Range").strip())
            if sent is None or (int(sent[1]), int(sent[2])) != (start, start + length - 1):
                came = answer.header("Content-Range")
                raise Transient(f"{self.name}: bytes {start}+{length} were asked for, {came!r:.80} came")
            self.session.abilities.learn("serve_ranges", has=True)
            return 0
        if answer.status == 200:
            if start:
                self.session.abilities.learn("serve_ranges", has=False)
            if start > _MOST_SKIPPED:
                raise ConfigurationError(
                    f"{self.name}: the registry serves no ranges", hint="use a registry that does, or a copy of it"
                )
            if answer.length is not None and answer.length < start + length:
                why = f"{self.name}: {answer.length} bytes came instead of the layer {digest}, which has more"
                raise Transient(why, hint=NO_REGISTRY, store=self.name)
            return start
        if answer.status in {404, 416}:
            kind = WrongBytes if self._writes else SourceChanged
            raise kind(
                f"{self.name}: the layer {digest} is not there as it was",
                hint="somebody, or the registry's garbage collection, has removed it; push the image again",
                store=self.name,
            )
        raise self.refusal(answer, f"read the layer {digest}")


def _is_another(document: Document, told: str) -> bool:
    """Whether a document is not the one that was asked for, or that the registry says it is."""
    return is_digest(told) and document.digest != told


class _BlobBody:
    """A range on its way, from an answer that may have more on both sides.  See `Body`."""

    def __init__(self, answer: Answer, skip: int, length: int, *, store: str) -> None:
        self._answer = answer
        self._left = length
        self._store = store
        scratch = memoryview(bytearray(min(skip, _PIECE)))
        while skip:
            skip -= self._some(scratch[:skip])

    def readinto(self, buffer: memoryview) -> int:
        """See `Body`."""
        if not self._left or not len(buffer):
            return 0
        count = self._some(buffer[: self._left])
        self._left -= count
        if not self._left:
            if self._answer.length is None:
                self._answer.readinto(memoryview(bytearray(1)))  # the end mark of a chunked answer
            self._answer.close()
        return count

    def close(self) -> None:
        """Let go; what was not read costs the connection."""
        self._answer.close()

    def _some(self, buffer: memoryview) -> int:
        count = self._answer.readinto(buffer)
        if not count:
            self._answer.close()
            raise Transient(f"{self._store}: an answer ended early", store=self._store)
        return count
