"""What a store can do: learned by what it answers, remembered for the run, said in the log once.

Servers that call themselves alike differ, and their versions do.  So nobody is asked by name or by version: an ability
is unknown until the store has shown it, with a request that had to be made anyway.
"""

from __future__ import annotations

import threading
from typing import Literal, Protocol

from syncer.logs import logger

Ability = Literal[
    # S3
    "create_if_absent",  # If-None-Match of a PUT is obeyed
    "complete_if_absent",  # If-None-Match of CompleteMultipartUpload is obeyed
    "replace_if_unchanged",  # If-Match of a PUT is obeyed
    "read_quoted_if_match",  # If-Match of a PUT may have the quotation marks that HTTP wants
    "take_unsigned_bodies",  # a body's hash need not be in the signature
    "etag_of_put_is_md5",
    "etag_of_part_is_md5",
    "etag_of_multipart_is_md5",
    "copy_inside",
    "list_open_uploads",
    "delete_many_at_once",
    # registries of images
    "link_layers",
    "remove_uploads",
    "remove_tags",
    "serve_ranges",
]
"""Every ability that is learned; the names are what the log says."""


class Place(Protocol):
    """Where a store is; `uri` is its name, and two endpoints may have stores of one name."""

    @property
    def uri(self) -> str: ...


class Abilities:
    """What one store has shown so far; safe from many threads.

    `compares_md5` says whether its ETags are worth an MD5 of the bytes, which costs more than all else together.
    """

    def __init__(self, store: str, *, compares_md5: bool = True) -> None:
        self.compares_md5 = compares_md5
        self._store = store
        self._lock = threading.Lock()
        self._known: dict[Ability, bool] = {}
        self._log = logger(component="store", store=store)

    def has(self, ability: Ability) -> bool | None:
        """Whether the store can do it; None while nobody knows."""
        return self._known.get(ability)

    def learn(self, ability: Ability, *, has: bool) -> None:
        """The store has shown it; told in the log when that is news."""
        with self._lock:
            if self._known.get(ability) is has:
                return
            self._known[ability] = has
        self._log.info("ability_learned", ability=ability, has=has)


class Seen:
    """The destinations of one run, so that one that is opened anew is not asked again; `compares_md5` is for each."""

    def __init__(self, *, compares_md5: bool = True) -> None:
        self._compares_md5 = compares_md5
        self._lock = threading.Lock()
        self._places: dict[Place, Abilities] = {}

    def at(self, place: Place) -> Abilities:
        """What the run knows of the store at `place`."""
        with self._lock:
            return self._places.setdefault(place, Abilities(place.uri, compares_md5=self._compares_md5))
