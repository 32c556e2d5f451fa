"""The `.syncer` folder of an image, which has none: a view of what the registry has.

An image is sealed by its manifest, so that `manifest.json` and `complete.json` are derived from its annotations; what a
run writes there itself stays in memory, as the lease does: two runs that push the same model converge, and each image
that they push is whole.  Only what a killed run had finished is of worth to the next one, and is kept: see `leftovers`.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from typing import Final

from syncer.manifest import FORMAT, Manifest
from syncer.stores.protocols import ControlConflict

Held = Mapping[str, bytes]
"""Control files by name."""

STATE: Final = "state/"
PLAN: Final = f"{STATE}plan.json"
DONE: Final = f"{STATE}done/"


class ImageControlFolder:
    """See `ControlFolder`; `conditional` is about this process alone.

    `load` gives what an earlier run left in the registry, and is asked once; `save` keeps the state that is not empty,
    and forgets it otherwise.
    """

    conditional: Final = True

    def __init__(self, *, load: Callable[[], Held], save: Callable[[Held], None]) -> None:
        self._load = load
        self._save = save
        self._lock = threading.RLock()
        self._files: dict[str, tuple[bytes, str]] | None = None
        self._writes = 0

    def read(self, name: str) -> tuple[bytes, str] | None:
        """See `ControlFolder`."""
        with self._lock:
            return self._known().get(name)

    def write(self, name: str, data: bytes, *, expected: str | None = None) -> str:
        """See `ControlFolder`.  Finished files are kept in the registry before this returns."""
        with self._lock:
            files = self._known()
            if expected is not None and expected != files.get(name, (b"", ""))[1]:
                raise ControlConflict(f"{name} was written by somebody else")
            former = files.get(name)
            self._put(files, name, data)
            if name.startswith(DONE):
                try:
                    self._save(self._state(files))
                except BaseException:
                    if former is None:
                        del files[name]
                    raise
            return files[name][1]

    def remove(self, name: str) -> None:
        """See `ControlFolder`.  With its plan, which goes last, the state is over."""
        with self._lock:
            files = self._known()
            if files.pop(name, None) is not None and name == PLAN:
                self._save({})

    def names(self, below: str = "") -> list[str]:
        """See `ControlFolder`."""
        with self._lock:
            return sorted(name for name in self._known() if name.startswith(below))

    def _known(self) -> dict[str, tuple[bytes, str]]:
        if self._files is None:
            files: dict[str, tuple[bytes, str]] = {}
            for name, data in self._load().items():
                self._put(files, name, data)
            self._files = files
        return self._files

    def _put(self, files: dict[str, tuple[bytes, str]], name: str, data: bytes) -> None:
        self._writes += 1
        files[name] = (data, f"{self._writes}-{hashlib.sha256(data).hexdigest()[:16]}")

    @staticmethod
    def _state(files: Mapping[str, tuple[bytes, str]]) -> dict[str, bytes]:
        return {name: data for name, (data, _) in files.items() if name == PLAN or name.startswith(DONE)}


def seal_of(manifest: Manifest) -> Held:
    """Manifest and marker of an image that is there: contract section 4, without what an image does not tell."""
    mark = {
        "format": FORMAT,
        "manifest": manifest.fingerprint,
        "source": manifest.source,
        "revision": manifest.revision,
        "files": len(manifest.files),
        "bytes": manifest.total_bytes,
        "seconds": 0.0,
        "completed_at": "",
        "tool": "syncer",
        "registry": {},
    }
    told = manifest.to_json()
    if "origin" in told:
        mark["origin"] = told["origin"]
    documents = {"manifest.json": told, "complete.json": mark}
    return {name: json.dumps(document).encode() for name, document in documents.items()}
