"""Reading: lists of objects, one object's head, ranges of one object's bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import partial
from typing import Final
from urllib.parse import unquote_plus

from syncer.claims import whole_number
from syncer.errors import InternalError, SourceChanged, Transient
from syncer.manifest import CONTROL_FOLDER, Listing, ModelFile, is_control_path
from syncer.redaction import quoted
from syncer.stores.s3.calls import delete_objects as batch_deletion
from syncer.stores.s3.calls import list_objects
from syncer.stores.s3.documents import Fields
from syncer.stores.s3.refusals import Refusal
from syncer.stores.s3.service import Service
from syncer.wire import Answer

_MODIFIED: Final = "modified "
_CONTENT_RANGE: Final = re.compile(r"^bytes (\d{1,20})-(\d{1,20})/(\d{1,20}|\*)$")
_NOT_IN_XML: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_OF_A_LISTING: Final = frozenset({"Contents", "IsTruncated", "KeyCount", "Name"})
"""At least one of them is in every listing, of an empty folder too, and none in a portal's page."""
_BATCH: Final = 1000
_NO_BATCHES: Final = frozenset({400, 403, 405, 411, 501})
"""Not implemented, or wants another checksum than the one it got: by the code every store says it differently."""
_ETAG: Final = re.compile(r"[\x21-\x7e]{1,1024}")
_HEADER_VALUE: Final = re.compile(r"^[\x21-\x7e](?:[\x20-\x7e]{0,254}[\x21-\x7e])?$")


def bare(etag: str) -> str:
    """An ETag without quotes and without the mark of a proxy that compresses; it is a name for a version, no digest.

    Empty for what could not travel in a header again.
    """
    name = etag.strip().removeprefix("W/").strip('"')
    return name if _ETAG.fullmatch(name) else ""


def content_type_of(value: str) -> str:
    """A content type that can be sent on as it is; anything else counts as none."""
    return value if _HEADER_VALUE.match(value) else ""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing: key, size and version of each object; `token` leads to the next page, if there is one."""

    found: list[tuple[str, int, str]]
    token: str


def list_page(service: Service, prefix: str, *, what: str, token: str = "", after: str = "", most: int = 0) -> Page:
    """Ask for one page of the keys below `prefix`; raises `Transient` for an answer that is none."""
    found: list[tuple[str, int, str]] = []
    wrong: list[str] = []

    def take(name: str, fields: Fields) -> None:
        if name == "Contents":
            key = fields.get("Key", "")
            size = whole_number(fields.get("Size", "").strip())
            version = bare(fields.get("ETag", "")) or _modified(fields.get("LastModified", ""))
            if size is None or not version:
                wrong.append("a size that is none" if size is None else "a date that is none")
            else:
                found.append((key, size, version))

    said = service.call(list_objects(prefix, token=token, after=after, most=most), what=what, take=take)
    if not _OF_A_LISTING & said.document.fields.keys():
        raise service.nonsense("no listing", what=what)
    if wrong:
        raise service.nonsense(wrong[0], what=what)
    if said.field("EncodingType") == "url":
        found = [(unquote_plus(key), size, version) for key, size, version in found]
    if not all(key.startswith(prefix) for key, _, _ in found):
        raise Transient(f"{service.name}: the store listed a key outside of {prefix!r}", store=service.name)
    following = said.field("NextContinuationToken") if said.truncated else ""
    if not following and said.truncated:
        raise _lost_its_way(service)
    return Page(found, following)


def objects_below(service: Service, prefix: str, *, what: str = "list the folder") -> Iterator[tuple[str, int, str]]:
    """Key, size and version of all objects whose key starts with `prefix`, placeholders too."""
    gone_on: set[str] = set()
    token = ""
    while True:
        page = list_page(service, prefix, what=what, token=token)
        yield from page.found
        token = page.token
        if not token:
            return
        if token in gone_on:
            raise _lost_its_way(service)
        gone_on.add(token)


def folder_listing(service: Service, prefix: str, *, sealed_apart: bool) -> Listing:
    """The content below `prefix` (empty, or ending in a slash) by path; zero-byte `folder/` placeholders left out.

    `sealed_apart` leaves the content of sealed folders inside out too, and names them.
    """
    files, control = [], []
    at = len(prefix)
    for key, size, version in objects_below(service, prefix):
        path = key[at:]
        if CONTROL_FOLDER in path and is_control_path(path):
            control.append(path)
        elif size or not (path == "" or path.endswith("/")):
            files.append(ModelFile(path=path, size=size, version=version))
    return Listing.of(files, control_paths=control if sealed_apart else ())


def head(service: Service, key: str, *, path: str) -> ModelFile | None:
    """The object as it is now, under `path`; None when there is none."""
    with service.ask("HEAD", key) as answer:
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise service.refuse(answer, what=f"look at {path}", path=path)
        etag, size = bare(answer.header("ETag")), whole_number(answer.header("Content-Length"))
        if size is None:
            raise Transient(f"{service.name}: the store does not tell the size of {path}", store=service.name)
        return ModelFile(
            path=path,
            size=size,
            version=etag or _MODIFIED + answer.header("Last-Modified"),
            content_type=content_type_of(answer.header("Content-Type")),
        )


def open_range(service: Service, key: str, file: ModelFile, start: int, length: int) -> ObjectBody | Refusal:
    """Open a range of exactly the listed version.

    A refusal is returned as it is: what a missing object means depends on the end.  Raises `SourceChanged` for a store
    that ignored the condition and sends another version, `Transient` for one that sends another range.
    """
    if length <= 0 or start < 0 or start + length > file.size:
        raise InternalError(f"bytes {start} to {start + length} of a file of {file.size}")
    whole = start == 0 and length == file.size
    headers = _pinned(file.version) | ({} if whole else {"Range": f"bytes={start}-{start + length - 1}"})
    answer = service.ask("GET", key, headers=headers)
    if answer.status not in {200, 206}:
        with answer:
            return Refusal.read(answer)
    try:
        _check_range(service, answer, file, start, length)
    except BaseException:
        answer.close()
        raise
    return ObjectBody(answer, length, store=service.name, path=file.path)


def delete_objects(service: Service, keys: Sequence[str]) -> None:
    """Delete keys in batches, one by one where the store has no batches; keys that are gone already are fine."""
    in_batches = service.abilities.has("delete_many_at_once") is not False
    alone = [key for key in keys if not in_batches or _NOT_IN_XML.search(key)]
    batches = [key for key in keys if in_batches and not _NOT_IN_XML.search(key)]
    while batches:
        batch, batches = batches[:_BATCH], batches[_BATCH:]
        failed: list[str] = []

        def note(name: str, fields: Fields, failed: list[str] = failed) -> None:
            if name == "Error":
                failed.append(fields.get("Key", ""))

        said = service.try_call(batch_deletion(batch), what="delete files", take=note)
        if isinstance(said, Refusal) and (said.code == "NoSuchBucket" or said.status not in _NO_BATCHES):
            raise service.error(said, what="delete files")
        if isinstance(said, Refusal) or said.document.root != "DeleteResult":
            service.abilities.learn("delete_many_at_once", has=False)
            alone += batch + batches
            break
        service.abilities.learn("delete_many_at_once", has=True)
        # What a batch could not delete is tried alone: it works then, or says why it does not.
        alone += failed if set(failed) <= set(batch) else batch
    for key in alone:
        service.persistently(partial(_delete, service, key))


class ObjectBody:
    """A range on its way, and the content type that came with it."""

    def __init__(self, answer: Answer, length: int, *, store: str, path: str) -> None:
        self.content_type = content_type_of(answer.header("Content-Type"))
        self._answer = answer
        self._left = length
        self._store = store
        self._path = path

    def readinto(self, buffer: memoryview) -> int:
        """See `Body`."""
        if not self._left or not len(buffer):
            return 0
        count = self._answer.readinto(buffer[: self._left])
        if not count:
            self._answer.close()
            raise Transient(
                f"{self._store}: an answer ended {self._left} bytes early", store=self._store, path=self._path
            )
        self._left -= count
        if not self._left and self._answer.length is None:
            self._finish_chunks()
        return count

    def close(self) -> None:
        """Let go; what was not read costs the connection."""
        self._answer.close()

    def _finish_chunks(self) -> None:
        """Read the end mark of a chunked answer, which also shows whether there is more than was asked for."""
        if self._answer.readinto(memoryview(bytearray(1))):
            self._answer.close()
            raise Transient(f"{self._store}: an answer is longer than asked for", store=self._store, path=self._path)


def _delete(service: Service, key: str) -> None:
    with service.ask("DELETE", key) as answer:
        if answer.status not in {200, 204, 404}:
            raise service.refuse(answer, what=f"delete {key}", path=key)


def _lost_its_way(service: Service) -> Transient:
    return Transient(f"{service.name}: the store does not say where its listing goes on", store=service.name)


def _pinned(version: str) -> dict[str, str]:
    if version.startswith(_MODIFIED):
        moment = version.removeprefix(_MODIFIED)
        return {"If-Unmodified-Since": moment} if moment else {}
    return {"If-Match": f'"{version}"'}


def _check_range(service: Service, answer: Answer, file: ModelFile, start: int, length: int) -> None:
    etag = bare(answer.header("ETag"))
    if etag and not file.version.startswith(_MODIFIED) and etag != file.version:
        raise SourceChanged(
            f"{file.path} is another version now than the one listed", store=service.name, path=file.path
        )
    wrong = ""
    if answer.status == 206:
        sent = _CONTENT_RANGE.match(answer.header("Content-Range"))
        if sent is None or (int(sent[1]), int(sent[2])) != (start, start + length - 1):
            came = quoted(answer.header("Content-Range"), 80)
            wrong = f"bytes {start}-{start + length - 1} were asked for, {came!r} came"
        elif sent[3] not in {"*", str(file.size)}:
            raise SourceChanged(
                f"{file.path} has {sent[3]} bytes now, not {file.size}", store=service.name, path=file.path
            )
    elif (start, length) != (0, file.size):
        wrong = "a range was asked for, the whole object came"
    if not wrong and answer.length not in {None, length}:
        wrong = f"{length} bytes were asked for, {answer.length} came"
    if wrong:
        raise Transient(f"{service.name}: {file.path}: {wrong}", store=service.name, path=file.path)


def _modified(moment: str) -> str:
    """The version of an object of which only its date is known: as HTTP writes it, to be asked for.

    Empty for what is no date.
    """
    if not moment:
        return _MODIFIED
    try:
        said = datetime.fromisoformat(moment.strip())
        return _MODIFIED + format_datetime(said.astimezone(UTC), usegmt=True)
    except (ValueError, OverflowError):
        return ""
