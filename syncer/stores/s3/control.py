"""Small files below `.syncer/`, written whole and, where the store can, only if nobody else wrote in between."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final, Literal

from syncer.errors import SyncerError, Transient, WrongBytes
from syncer.manifest import CONTROL_FOLDER, LARGEST_CONTROL_FILE
from syncer.stores.abilities import Ability
from syncer.stores.protocols import ControlConflict
from syncer.stores.s3.account import UNSIGNED
from syncer.stores.s3.etags import new_md5
from syncer.stores.s3.objects import bare, head, objects_below
from syncer.stores.s3.parts import Habits
from syncer.stores.s3.refusals import Refusal
from syncer.stores.s3.service import Service

_LOST_RACE: Final = frozenset({404, 409, 412})
"""Not found: the version that was expected is gone altogether."""

Condition = Literal["If-None-Match", "If-Match"]
_OBEYED: Final[dict[Condition, Ability]] = {
    "If-None-Match": "create_if_absent",
    "If-Match": "replace_if_unchanged",
}


class S3ControlFolder:
    """See `ControlFolder`.  Every call outlasts a passing fault of a few seconds by itself.

    Whether a store obeys `If-None-Match` and `If-Match` is found out with the first conditional writes: the very same
    bytes are written once more under a condition that cannot hold.  A store that takes them ignores conditions, and
    nothing is lost by that, unless somebody wrote in that instant, which such a store cannot prevent.
    """

    def __init__(self, service: Service, habits: Habits, prefix: str) -> None:
        self._service = service
        self._habits = habits
        self._base = f"{prefix}{CONTROL_FOLDER}/"
        self._abilities = service.abilities

    @property
    def conditional(self) -> bool:
        """See `ControlFolder`."""
        return all(self._abilities.has(ability) is not False for ability in _OBEYED.values())

    def read(self, name: str) -> tuple[bytes, str] | None:
        """See `ControlFolder`."""
        return self._service.persistently(lambda: self._read(name))

    def write(self, name: str, data: bytes, *, expected: str | None = None) -> str:
        """See `ControlFolder`."""
        if expected is None:
            return self._service.persistently(lambda: self._plainly(name, data))
        return self._service.persistently(lambda: self._conditionally(name, data, expected))

    def remove(self, name: str) -> None:
        """See `ControlFolder`."""

        def attempt() -> None:
            with self._service.ask("DELETE", self._base + name) as answer:
                if answer.status not in {200, 204, 404}:
                    raise self._service.refuse(answer, what=f"remove {CONTROL_FOLDER}/{name}", path=name)

        self._service.persistently(attempt)

    def names(self, below: str = "") -> list[str]:
        """See `ControlFolder`."""
        found = objects_below(self._service, self._base + below, what=f"list {CONTROL_FOLDER}/")
        return [key[len(self._base) :] for key, _, _ in found if not key.endswith("/")]

    def _read(self, name: str) -> tuple[bytes, str] | None:
        with self._service.ask("GET", self._base + name) as answer:
            if answer.status == 200:
                if (answer.length or 0) > LARGEST_CONTROL_FILE:
                    place = f"{self._service.name}: the control file {self._base + name}"
                    raise WrongBytes(f"{place} is larger than any of ours", hint="remove it", path=name)
                return answer.read(LARGEST_CONTROL_FILE), bare(answer.header("ETag"))
            refusal = Refusal.read(answer)
        if refusal.status == 404 and refusal.code != "NoSuchBucket":
            return None
        raise self._failure(refusal, "read", name)

    def _plainly(self, name: str, data: bytes) -> str:
        said = self._put(name, data, {})
        if isinstance(said, Refusal):
            raise self._failure(said, "write", name)
        return said

    def _conditionally(self, name: str, data: bytes, expected: str) -> str:
        kind = _kind_for(expected)
        if self._abilities.has(_OBEYED[kind]) is False:
            return self._plainly(name, data)
        try:
            said = self._put(name, data, self._condition(expected))
        except Transient:
            # The answer is lost, perhaps not the write.  A second try would run into its own first one.
            if (found := self._read(name)) is None or found[0] != data:
                raise
            return found[1]
        if isinstance(said, str):
            self._find_out(name, data, expected=expected, written=said)
            return said
        if said.status not in _LOST_RACE:
            if said.status != 501 and said.code != "NotImplemented":
                raise self._failure(said, "write", name)
            self._learn(kind, obeyed=False)
            return self._plainly(name, data)
        return self._not_written(kind, name, data, expected)

    def _not_written(self, kind: Condition, name: str, data: bytes, expected: str) -> str:
        found = self._read(name)
        if found is not None and found[0] == data:
            return found[1]  # it was us, with an answer that got lost
        if self._abilities.has(_OBEYED[kind]) is not None or found is None or found[1] != expected:
            raise ControlConflict(f"{CONTROL_FOLDER}/{name} was written by somebody else")
        # Refused although the version is the expected one: the store wants another spelling, or does not understand.
        if not self._quoted:
            self._learn(kind, obeyed=False)
        self._abilities.learn("read_quoted_if_match", has=False)
        return self._conditionally(name, data, expected)

    def _find_out(self, name: str, data: bytes, *, expected: str, written: str) -> None:
        # That nothing is there cannot hold any more, whatever the first condition was: who takes a lease over has
        # asked for a version alone, and the files need to know of the other kind.
        for version in dict.fromkeys(("", expected)):
            kind = _kind_for(version)
            if self._abilities.has(_OBEYED[kind]) is not None or version == written:
                continue
            try:
                said = self._put(name, data, self._condition(version))
            except SyncerError:
                return  # the next conditional write finds out
            self._learn(kind, obeyed=isinstance(said, Refusal))

    def _learn(self, kind: Condition, *, obeyed: bool) -> None:
        self._abilities.learn(_OBEYED[kind], has=obeyed)

    @property
    def _quoted(self) -> bool:
        # RADOS Gateway up to 16 at least compares a PUT's If-Match without taking quotes off.
        return self._abilities.has("read_quoted_if_match") is not False

    def _condition(self, expected: str) -> dict[str, str]:
        if not expected:
            return {"If-None-Match": "*"}
        return {"If-Match": f'"{expected}"' if self._quoted else expected}

    def _put(self, name: str, data: bytes, condition: Mapping[str, str]) -> str | Refusal:
        """Write once; the version or the refusal.  Learns from it what this store's answers are worth."""
        signed = self._habits.signed_payloads or not data
        with self._service.ask(
            "PUT",
            self._base + name,
            headers={"Content-Type": "application/json", **condition},
            body=data,
            payload=hashlib.sha256(data).hexdigest() if signed else UNSIGNED,
        ) as answer:
            if answer.status in {200, 201, 204}:
                said = Refusal.inside(answer, answer.read(64 * 1024)) or bare(answer.header("ETag"))
            else:
                said = Refusal.read(answer)
        if isinstance(said, Refusal):
            about_bytes = said.status not in _LOST_RACE and self._habits.sign_from_now_on(said)
            return self._put(name, data, condition) if about_bytes else said
        self._habits.body_was_taken()
        if data and (md5 := new_md5()) is not None:
            md5.update(data)
            self._habits.etags.learn(etag=said, md5=md5.hexdigest())
        if said:
            return said
        now = head(self._service, self._base + name, path=name)
        if now is None or now.size != len(data):
            # Somebody on the way may answer for the store: a seal that is nowhere must not count as written.
            store = self._service.name
            raise Transient(f"{store}: {CONTROL_FOLDER}/{name} was taken, and yet is not there", store=store, path=name)
        return now.version

    def _failure(self, refusal: Refusal, verb: str, name: str) -> SyncerError:
        return self._service.error(refusal, what=f"{verb} {CONTROL_FOLDER}/{name}", path=name)


def _kind_for(expected: str) -> Condition:
    return "If-Match" if expected else "If-None-Match"
