"""Small files below `.syncer/`, written whole and, where the store can, only if nobody else wrote in between."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping

from syncer.errors import SyncerError, Transient
from syncer.manifest import CONTROL_FOLDER
from syncer.stores.protocols import ControlConflict
from syncer.stores.s3.account import UNSIGNED
from syncer.stores.s3.etags import new_md5
from syncer.stores.s3.objects import bare, objects_below
from syncer.stores.s3.parts import Habits
from syncer.stores.s3.refusals import Refusal
from syncer.stores.s3.service import Service

_LOST_RACE = frozenset({409, 412})


class S3ControlFolder:
    """See `ControlFolder`.

    Whether a store obeys `If-None-Match` and `If-Match` is found out with the first conditional write of each kind:
    the very same bytes are written once more under a condition that cannot hold.  A store that takes them ignores
    conditions, and nothing is lost by that, unless somebody wrote in that instant, which such a store cannot prevent.
    """

    def __init__(self, service: Service, habits: Habits, prefix: str) -> None:
        self._service = service
        self._habits = habits
        self._base = f"{prefix}{CONTROL_FOLDER}/"
        self._lock = threading.Lock()
        self._obeyed: dict[str, bool] = {}

    @property
    def conditional(self) -> bool:
        """See `ControlFolder`."""
        return all(self._obeyed.values())

    def read(self, name: str) -> tuple[bytes, str] | None:
        """See `ControlFolder`."""
        answer = self._service.ask("GET", self._base + name)
        if answer.status == 200:
            with answer:
                return answer.read(), bare(answer.header("ETag"))
        with answer:
            refusal = Refusal.read(answer)
        if refusal.status == 404 and refusal.code != "NoSuchBucket":
            return None
        raise self._service.error(refusal, what=f"read {CONTROL_FOLDER}/{name}", path=name)

    def write(self, name: str, data: bytes, *, expected: str | None = None) -> str:
        """See `ControlFolder`."""
        condition = _condition(expected)
        kind = next(iter(condition), "")
        if not self._obeyed.get(kind, True):
            condition = {}
        try:
            said = self._put(name, data, condition)
        except Transient:
            # The answer is lost, perhaps not the write.  A second try would run into its own first one.
            if not condition or (version := self._written(name, data)) is None:
                raise
            return version
        if isinstance(said, Refusal):
            return self._not_written(name, data, said, kind)
        if condition:
            self._find_out(name, data, kind, expected=expected, written=said)
        return said

    def remove(self, name: str) -> None:
        """See `ControlFolder`."""
        with self._service.ask("DELETE", self._base + name) as answer:
            if answer.status not in {200, 204, 404}:
                raise self._service.refuse(answer, what=f"remove {CONTROL_FOLDER}/{name}", path=name)

    def names(self, below: str = "") -> list[str]:
        """See `ControlFolder`."""
        what = f"list {CONTROL_FOLDER}/"
        found = objects_below(self._service, self._base + below, what=what)
        return [entry.path[len(self._base) :] for entry in found if not entry.path.endswith("/")]

    def _put(self, name: str, data: bytes, condition: Mapping[str, str]) -> str | Refusal:
        """Write; the version, or the refusal of a condition.  Learns what this store's answers are worth."""
        said = self._put_once(name, data, condition)
        if isinstance(said, Refusal):
            if self._is_about(condition, said):
                return said
            if self._habits.sign_from_now_on(said):
                return self._put(name, data, condition)
            raise self._service.error(said, what=f"write {CONTROL_FOLDER}/{name}", path=name)
        self._habits.body_was_taken()
        if data and (md5 := new_md5()) is not None:
            md5.update(data)
            self._habits.etags.learn(etag=said, md5=md5.hexdigest())
        return said or self._version_of(name)

    def _put_once(self, name: str, data: bytes, condition: Mapping[str, str]) -> str | Refusal:
        signed = self._habits.signed_payloads or not data
        with self._service.ask(
            "PUT",
            self._base + name,
            headers={"Content-Type": "application/json", **condition},
            body=data,
            payload=hashlib.sha256(data).hexdigest() if signed else UNSIGNED,
        ) as answer:
            return bare(answer.header("ETag")) if answer.status in {200, 201, 204} else Refusal.read(answer)

    def _is_about(self, condition: Mapping[str, str], refusal: Refusal) -> bool:
        if not condition or refusal.code == "NoSuchBucket":
            return False
        return refusal.status in _LOST_RACE | {404} or refusal.status == 501 or refusal.code == "NotImplemented"

    def _not_written(self, name: str, data: bytes, refusal: Refusal, kind: str) -> str:
        if refusal.status in _LOST_RACE | {404}:
            # Not found: the version that was expected is gone altogether.
            version = self._written(name, data)
            if version is None:
                raise ControlConflict(f"{CONTROL_FOLDER}/{name} was written by somebody else")
            return version
        with self._lock:
            self._obeyed[kind] = False
        said = self._put(name, data, {})
        if isinstance(said, Refusal):
            raise self._service.error(said, what=f"write {CONTROL_FOLDER}/{name}", path=name)
        return said

    def _written(self, name: str, data: bytes) -> str | None:
        """The version of the file if it has exactly these bytes: then a write whose answer was lost was ours."""
        found = self.read(name)
        return found[1] if found is not None and found[0] == data else None

    def _find_out(self, name: str, data: bytes, kind: str, *, expected: str | None, written: str) -> None:
        if kind in self._obeyed or expected == written:
            return
        try:
            said = self._put(name, data, _condition(expected))
        except SyncerError:
            return  # the next conditional write finds out
        with self._lock:
            self._obeyed[kind] = isinstance(said, Refusal)

    def _version_of(self, name: str) -> str:
        with self._service.ask("HEAD", self._base + name) as answer:
            return bare(answer.header("ETag")) or answer.header("Last-Modified")


def _condition(expected: str | None) -> dict[str, str]:
    match expected:
        case None:
            return {}
        case "":
            return {"If-None-Match": "*"}
    return {"If-Match": f'"{expected}"'}
