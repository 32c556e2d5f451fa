"""When an ETag is an MD5, and what follows from a difference.

Some stores answer with the MD5 of the bytes, some with a name that merely looks like one (encryption), some with
something else.  So an ETag is believed only after this very store has shown it, for each kind of answer by itself.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Sequence
from typing import Any, Final, Literal

from syncer.stores.abilities import Abilities, Ability

Kind = Literal["put", "part", "composite"]

_SHOWS: Final[dict[Kind, Ability]] = {
    "put": "etag_of_put_is_md5",
    "part": "etag_of_part_is_md5",
    "composite": "etag_of_multipart_is_md5",
}
_MD5: Final = re.compile(r"^[0-9a-f]{32}$")
_COMPOSITE: Final = re.compile(r"^[0-9a-f]{32}-(\d+)$")


def new_md5() -> Any | None:
    """An MD5 to compare with, no safeguard; None where the system forbids even that (FIPS)."""
    try:
        return hashlib.md5(usedforsecurity=False)
    except ValueError:
        return None


def composite(etags: Sequence[str]) -> str:
    """The ETag of a multipart object whose parts' ETags are MD5s; empty if they are not."""
    if not all(_MD5.match(etag) for etag in etags):
        return ""
    digest = new_md5()
    if digest is None:
        return ""
    for etag in etags:
        digest.update(bytes.fromhex(etag))
    return f"{digest.hexdigest()}-{len(etags)}"


class EtagJudge:
    """What one destination has shown so far; safe from many threads.

    A kind starts out unknown.  Equal once: proved, and from then on a difference means wrong bytes.  Different while
    unknown: worth one more try of the same bytes, and if they differ again this store means something else by it.
    """

    def __init__(self, abilities: Abilities) -> None:
        self._lock = threading.Lock()
        self._abilities = abilities
        self._strikes: set[tuple[Kind, str]] = set()

    def wants(self, kind: Kind) -> bool:
        """Whether it is worth computing an MD5 for this kind of answer: plain puts must have proved themselves."""
        return self._abilities.compares_md5 and self._known("put") is True and self._known(kind) is not False

    def proved(self, kind: Kind) -> bool:
        """Whether ETags of this kind are known to be MD5s."""
        return self._known(kind) is True

    def learn(self, *, etag: str, md5: str) -> None:
        """A small file with known bytes was put: what plain puts are worth."""
        with self._lock:
            self._learn("put", md5=etag == md5)

    def accepts(self, kind: Kind, *, etag: str, md5: str) -> bool:
        """Whether an answer agrees with the MD5 of what was sent, or says nothing about it."""
        with self._lock:
            known = self._known(kind)
            if not (_COMPOSITE if kind == "composite" else _MD5).match(etag):
                if etag and known is None:
                    self._learn(kind, md5=False)
                return True
            if known is False:
                return True
            if etag == md5:
                self._learn(kind, md5=True)
                return True
            if known:
                return False
            if (kind, md5) in self._strikes:
                self._learn(kind, md5=False)
                return True
            self._strikes.add((kind, md5))
            return False

    def _known(self, kind: Kind) -> bool | None:
        return self._abilities.has(_SHOWS[kind])

    def _learn(self, kind: Kind, *, md5: bool) -> None:
        self._abilities.learn(_SHOWS[kind], has=md5)
