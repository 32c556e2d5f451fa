"""What a run in progress leaves behind for the next one: `.syncer/state/` of the destination.

`plan.json` names the paths that the run will write, before it writes the first; `uploads/` holds one file for each open
upload, written right after its creation; `done/` holds finished files in batches.  Everything goes at the seal.

Where several pods share the work, `share.json` and `shares/` are what they tell each other (`sharing/board.py`).
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable
from json.encoder import encode_basestring_ascii as quoted
from typing import Final

from syncer.manifest import FORMAT, FileRecord, Listing, taking_records
from syncer.marker import dump_json, parse_json, read_json, record_texts
from syncer.plan import OpenFile, Recovered
from syncer.stores.protocols import ControlConflict, ControlFolder, Destination, OpenUpload

STATE: Final = "state"
PLAN: Final = f"{STATE}/plan.json"
UPLOADS: Final = f"{STATE}/uploads/"
DONE: Final = f"{STATE}/done/"
SHARE: Final = f"{STATE}/share.json"
SHARES: Final = f"{STATE}/shares/"
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,4096}")
"""What a store may call an upload: it travels in the addresses of requests."""


def recover(control: ControlFolder, *listings: Listing) -> Recovered:
    """Read what an unfinished run left; entries that cannot be understood are passed over, never trusted.

    What `listings` have of the same files already is not kept in memory twice.
    """
    plan = read_json(control, PLAN)
    if plan is None:
        return Recovered()
    # An earlier run may have read another source; what it got done says nothing about this one.
    finished = finished_files(control, source=plan.get("source"), listings=listings)
    notes = [_read_upload(control, name) for name in sorted(control.names(UPLOADS))]
    open_files = {left.path: left for left in notes if left is not None}
    source, paths = plan.get("source"), plan.get("paths")
    return Recovered(
        source=source if isinstance(source, str) else "",
        planned=frozenset(path for path in paths if isinstance(path, str)) if isinstance(paths, list) else frozenset(),
        finished=finished,
        open_files=open_files,
    )


def finished_files(
    control: ControlFolder, *, source: object, of: str = "", listings: Iterable[Listing] = ()
) -> dict[str, FileRecord]:
    """What runs from `source` got done, by path; with `of` those alone whose name begins so."""
    found: dict[str, FileRecord] = {}
    take = taking_records(*listings)
    for name in sorted(control.names(f"{DONE}{of}")):
        batch = read_json(control, name, take) or {}
        entries = batch.get("files") if batch.get("source") == source else ()
        records = entries if isinstance(entries, list) else ()
        found |= {record.path: record for record in records if isinstance(record, FileRecord)}
    return found


def planned_paths(control: ControlFolder) -> frozenset[str]:
    """The paths that an unfinished run was about to write, and still takes for its own."""
    paths = (read_json(control, PLAN) or {}).get("paths")
    return frozenset(path for path in paths if isinstance(path, str)) if isinstance(paths, list) else frozenset()


def open_file(control: ControlFolder, path: str) -> OpenFile | None:
    """The upload of `path` that was left open; None where none is noted."""
    left = _read_upload(control, _upload_name(path))
    return left if left is not None and left.path == path else None


def abort_strays(
    destination: Destination,
    *,
    planned: Collection[str],
    resumed: Collection[str],
    remembered: Collection[OpenFile] = (),
) -> list[OpenUpload]:
    """Abort open uploads of ours that are not resumed, and name them.

    Nothing in an upload says whose it is.  Under our lease those at the `planned` paths are ours, whatever their age:
    this run is about to write there, or an unfinished one was, which may have been killed before it could name one.
    All others are somebody's and stay.  `remembered` are those of the journal, for stores that do not list theirs.
    """
    strays = {upload for upload in destination.open_uploads() if upload.path in planned}
    strays |= {OpenUpload(left.path, left.token) for left in remembered}
    aborted = sorted(
        (upload for upload in strays if upload.token not in resumed), key=lambda upload: (upload.path, upload.token)
    )
    for upload in aborted:
        destination.abort_upload(upload)
    return aborted


class Journal:
    """The state of this run.  Safe from many threads; `flush` is called by the keeper of the lease at every beat."""

    def __init__(self, control: ControlFolder, *, source: str, run: str = "") -> None:
        self.guard: Callable[[], None] = lambda: None
        """Asked before anything is begun at the destination, or noted there; raises where that is not ours any more."""
        self.source = source
        """What this run and all its pods call the source; one that is read at a commit calls itself otherwise."""
        self._control = control
        # Names its records in the order of time: of two records of one file, `recover` takes the later one.
        self.run = run or f"{time.time_ns():020}-{uuid.uuid4().hex[:6]}"
        self._batch: list[FileRecord] = []
        self._batches = 0
        self._lock = threading.Lock()
        self._writing = threading.Lock()

    def open_run(self, paths: Collection[str]) -> None:
        """Say which paths this run will write.  Must be there before the first byte is."""
        self._control.write(PLAN, self._plan(sorted(paths)))

    def not_ours(self, path: str) -> None:
        """Somebody else's file lies at `path` now: no later run may take it for what this one has left."""
        with self._writing:
            while (found := self._control.read(PLAN)) is not None:
                paths = (parse_json(found[0]) or {}).get("paths")
                left = [one for one in paths if isinstance(one, str) and one != path] if isinstance(paths, list) else []
                try:
                    self._control.write(PLAN, self._plan(left), expected=found[1])
                except ControlConflict:
                    continue  # another pod of this run has found another file
                return

    def upload_opened(self, left: OpenFile) -> None:
        """Remember an upload right after its creation, so that a kill at any later moment can be resumed."""
        self._control.write(
            _upload_name(left.path),
            dump_json(
                {
                    "format": FORMAT,
                    "path": left.path,
                    "token": left.token,
                    "part_size": left.part_size,
                    "size": left.size,
                    "source_version": left.source_version,
                    "source": left.source,
                }
            ),
        )

    def upload_closed(self, path: str) -> None:
        """Forget an upload that is finished or aborted."""
        self._control.remove(_upload_name(path))

    def finished(self, record: FileRecord, *, at_once: bool) -> None:
        """Remember a finished file: `at_once` for a large one, with the next beat for the many small ones."""
        with self._lock:
            self._batch.append(record)
        if at_once:
            self.flush()

    def flush(self) -> None:
        """Write the finished files that are not written yet.  They stay for the next flush when writing fails."""
        with self._writing:
            with self._lock:
                batch = list(self._batch)
            if not batch:
                return
            self.guard()
            name = f"{DONE}{self.run}-{self._batches:06}.json"
            document = {"format": FORMAT, "source": self.source, "files": record_texts(batch)}
            self._control.write(name, dump_json(document))
            with self._lock:
                self._batches += 1
                del self._batch[: len(batch)]

    def _plan(self, paths: Iterable[str]) -> bytes:
        return dump_json({"format": FORMAT, "source": self.source, "paths": map(quoted, paths)})


def clear(control: ControlFolder) -> None:
    """Remove all state: the run is over.

    `share.json` goes first, so that no pod begins with a share; `plan.json` last, as everything is read through it.
    """
    for name in sorted(control.names(f"{STATE}/"), key=lambda name: (name == PLAN, name != SHARE, name)):
        control.remove(name)


def _read_upload(control: ControlFolder, name: str) -> OpenFile | None:
    entry = read_json(control, name)
    try:
        if entry is None:
            return None
        left = OpenFile(
            path=str(entry["path"]),
            token=str(entry["token"]),
            part_size=int(entry["part_size"]),
            size=int(entry["size"]),
            source_version=str(entry["source_version"]),
            source=str(entry["source"]),
        )
        left.path.encode("utf-8", "surrogateescape")
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return None
    return left if left.part_size > 0 and _TOKEN.fullmatch(left.token) else None


def _upload_name(path: str) -> str:
    """A name for the upload of `path` that any store can hold."""
    return f"{UPLOADS}{hashlib.sha256(path.encode('utf-8', 'surrogateescape')).hexdigest()[:24]}.json"
