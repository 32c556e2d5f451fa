"""What becomes of the files that the engine carries: copied to the destination, or only looked at."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, Protocol

from syncer.errors import SourceChanged, SyncerError, Transient
from syncer.flight import Task
from syncer.journal import Journal
from syncer.logs import logger
from syncer.manifest import DigestName, Digests, FileRecord, ModelFile, ProvedBy
from syncer.plan import OpenFile
from syncer.stores.protocols import (
    Body,
    Cut,
    Destination,
    Fetches,
    ForeignFile,
    PartSink,
    ServerCopy,
    Source,
    TakesWholeFiles,
    Upload,
    UploadLost,
)

MOST_RESTARTS: Final = 3
"""How often a file whose source changes is started again."""
MOST_RECOPIES: Final = 1
"""How often a file whose bytes are wrong is copied again."""


class CopyErrand:
    """Copies files from `source` to `destination`; the records are in `records` when the engine is through.

    `unseen` are the files of which this process did not see all bytes, because an earlier one or a library sent them:
    they are at the destination and still to be proved by reading them back.  `foreign` are the paths at which something
    that is not ours has appeared meanwhile: it stays, and they have no record.  `digest` proves the others.
    """

    def __init__(
        self,
        source: Source,
        destination: Destination,
        journal: Journal,
        *,
        cut: Callable[[int], Cut | None],
        digest: DigestName = "sha256",
    ) -> None:
        self.digest: DigestName | None = digest
        self.records: dict[str, FileRecord] = {}
        self.unseen: list[Task] = []
        self.foreign: set[str] = set()
        self._source = source
        self._destination = destination
        self._journal = journal
        self._cut = cut
        self._server_copies = isinstance(destination, ServerCopy)
        self._fetches = isinstance(source, Fetches) and isinstance(destination, TakesWholeFiles)
        self._fetched: set[str] = set()
        self._restarts: Counter[str] = Counter()
        self._recopies: Counter[str] = Counter()
        self._opened: dict[str, Body] = {}
        self._lock = threading.Lock()
        self._log = logger(component="copy")

    def shortcut(self, task: Task, *, moved: Callable[[int], None]) -> bool:
        """Let the stores do it by themselves where they can; the first refusal ends the attempts of this run."""
        self._journal.guard()
        return self._copy_inside(task) or self._fetch(task, moved)

    def _copy_inside(self, task: Task) -> bool:
        destination = self._destination
        if not self._server_copies or task.resume or not isinstance(destination, ServerCopy):
            return False
        version = destination.copy_inside(self._source, task.file)
        if version is None:
            self._server_copies = False
            return False
        self._record(task, version=version, digests={}, proved_by="server-copy")
        return True

    def _fetch(self, task: Task, moved: Callable[[int], None]) -> bool:
        """Let the source write the file; what is wrong when it is read back is not fetched a second time."""
        file, source, destination = task.file, self._source, self._destination
        if not self._fetches or task.resume or file.path in self._fetched:
            return False
        if not isinstance(source, Fetches) or not isinstance(destination, TakesWholeFiles):
            return False
        if not source.worth_fetching(file):
            return False
        whole = destination.begin_whole(file)
        arrived = 0

        def tell(count: int) -> None:
            nonlocal arrived
            arrived += count
            moved(count)

        try:
            version = whole.finish() if source.fetch(file, whole.path, moved=tell) else None
        except Transient as error:
            self._fetches = False
            self._log.warning("fetch_abandoned", path=file.path, error=error.message, hint=error.hint)
            version = None
        finally:
            whole.abort()  # without effect on a file that is in its place
        if version is None:
            moved(-arrived)
            return False
        with self._lock:
            self._fetched.add(file.path)
            self.unseen.append(task)
        self.whole_but_unproved(task, version=version)
        return True

    def begin(self, task: Task) -> Upload:
        """Open the upload and remember it, before any of its bytes can be there."""
        self._journal.guard()
        upload = self._destination.begin(self._with_content_type(task), task.cut, resume=task.resume)
        if task.cut.count > 1 and upload.token and upload.token != task.resume:
            try:
                self._journal.upload_opened(
                    OpenFile(
                        path=task.file.path,
                        token=upload.token,
                        part_size=task.cut.part_size,
                        size=task.file.size,
                        source_version=task.file.version,
                        source=self._journal.source,
                    )
                )
            except SyncerError:
                upload.abort()
                raise
        return upload

    def read(self, file: ModelFile, start: int, length: int) -> Body:
        """A range of the source."""
        opened = self._opened.pop(file.path, None)
        if opened is not None:
            if (start, length) == (0, file.size):
                return opened
            opened.close()
        return self._source.read(file, start, length)

    def done(self, task: Task, *, version: str, digests: dict[DigestName, str]) -> None:
        """Record a file that is whole at the destination."""
        if digests:
            self._record(task, version=version, digests=digests, proved_by="stream")
            return
        with self._lock:
            self.unseen.append(task)

    def owes(self, task: Task) -> bool:
        """Whether there should be a record of this file, and is none."""
        return task.file.path not in self.records

    def whole_but_unproved(self, task: Task, *, version: str) -> None:
        """A file of `unseen` is there as `version`: a run that ends before it is read back leaves that to the next."""
        record = replace(_record(task, version=version, digests={}, proved_by="readback"), digests={})
        self._remember(task, record)

    def proved(self, task: Task, digests: Mapping[DigestName, str]) -> None:
        """A file of `unseen` was read back and has these digests."""
        version = self.records[task.file.path].destination_version
        self._record(task, version=version, digests=digests, proved_by="readback")

    def again(self, task: Task, why: SyncerError) -> Task | None:
        """The file as it is at the source now; raises `why` when that was tried often enough.

        None where somebody else's file has the place: the others are carried all the same.
        """
        path = task.file.path
        self._forget_upload(task)
        if isinstance(why, ForeignFile):
            self._journal.not_ours(path)
            self.foreign.add(path)
            return None
        if isinstance(why, SourceChanged):
            if self._restarts[path] >= MOST_RESTARTS:
                raise why
            file = self._source.look_again(task.file)
            self._restarts[path] += 1
            cut = self._cut(file.size)
            if cut is None:
                raise why
            return Task(file, cut)
        # An upload that the store has lost is nobody's wrong byte: it gets the larger number of tries.
        tries, most = (
            (self._restarts, MOST_RESTARTS) if isinstance(why, UploadLost) else (self._recopies, MOST_RECOPIES)
        )
        tries[path] += 1
        if tries[path] > most:
            raise why
        return Task(task.file, task.cut)

    def _with_content_type(self, task: Task) -> ModelFile:
        """The file with its content type where that is of use.

        Buckets do not list it.  The answer to a read has it, so a file of one part is opened here and read later; a
        file of many parts is worth a look of its own.
        """
        file = task.file
        if not self._destination.limits.keeps_content_type or file.content_type or not file.size:
            return file
        if task.cut.count > 1:
            now = self._source.look_again(file)
            if now.version != file.version:
                raise SourceChanged(f"{file.path} changed at the source since it was listed", path=file.path)
            return replace(file, content_type=now.content_type)
        if (forgotten := self._opened.pop(file.path, None)) is not None:
            forgotten.close()  # opened for a `begin` that failed
        body = self._source.read(file, 0, file.size)
        self._opened[file.path] = body
        # What `KnowsContentType` says; to ask for the protocol itself takes as long as to sign a request.
        told: str = getattr(body, "content_type", "")
        return replace(file, content_type=told) if told else file

    def close(self) -> None:
        """Let go of bodies that were opened and not read, because the run ended in between."""
        while self._opened:
            self._opened.popitem()[1].close()

    def interrupt(self) -> None:
        """Wake whoever is blocked at either end."""
        self._source.interrupt()
        self._destination.interrupt()

    def _record(self, task: Task, *, version: str, digests: Mapping[DigestName, str], proved_by: ProvedBy) -> None:
        self._remember(task, _record(task, version=version, digests=digests, proved_by=proved_by))

    def _remember(self, task: Task, record: FileRecord) -> None:
        with self._lock:
            self.records[task.file.path] = record
        try:
            self._journal.finished(record, at_once=task.cut.count > 1)
        except SyncerError as error:
            # The file is there whatever the journal says; the next beat writes it, and without it a next run
            # would at worst copy this one file again.
            self._log.warning("journal_write_failed", path=task.file.path, error=error.message)
        self._forget_upload(task)

    def _forget_upload(self, task: Task) -> None:
        if task.cut.count == 1:
            return
        try:
            self._journal.upload_closed(task.file.path)
        except SyncerError as error:
            self._log.warning("journal_write_failed", path=task.file.path, error=error.message)


class Reader(Protocol):
    """The reading side of a source or of a destination."""

    def read(self, file: ModelFile, start: int, length: int) -> Body:
        """Open a range of a file."""
        ...

    def interrupt(self) -> None:
        """Wake every thread that is blocked in a read."""
        ...


class HashErrand:
    """Reads files and computes their digests; `digests` by path, and in `failures` what could not be read as listed."""

    def __init__(self, reader: Reader, *, digest: DigestName | None = "sha256") -> None:
        self.digest = digest
        self.digests: dict[str, Mapping[DigestName, str]] = {}
        self.failures: dict[str, SyncerError] = {}
        self._reader = reader

    def shortcut(self, task: Task, *, moved: Callable[[int], None]) -> bool:
        """There is none: the bytes have to be seen."""
        return False

    def begin(self, task: Task) -> Upload:
        """Nothing is written."""
        return _Nowhere()

    def read(self, file: ModelFile, start: int, length: int) -> Body:
        """A range of the file."""
        return self._reader.read(file, start, length)

    def done(self, task: Task, *, version: str, digests: dict[DigestName, str]) -> None:
        """Keep the digests."""
        self.digests[task.file.path] = Digests.of(digests)

    def again(self, task: Task, why: SyncerError) -> Task | None:
        """A file that is gone or differs is a finding, not a reason to stop."""
        self.failures[task.file.path] = why
        return None

    def interrupt(self) -> None:
        """Wake whoever is blocked reading."""
        self._reader.interrupt()


class _Nowhere:
    """An upload that keeps nothing, so that looking at a file is a copy without a far end."""

    token: Final = ""
    done: Final[frozenset[int]] = frozenset()

    def open_part(self, index: int) -> PartSink:
        return _NoPart()

    def finish(self) -> str:
        return ""

    def abort(self) -> None:
        pass

    def suspend(self) -> None:
        pass


class _NoPart:
    keeps_views: Final = False

    def send(self, data: memoryview) -> None:
        pass

    def finish(self) -> None:
        pass

    def cancel(self) -> None:
        pass


def _record(task: Task, *, version: str, digests: Mapping[DigestName, str], proved_by: ProvedBy) -> FileRecord:
    return FileRecord(
        path=task.file.path,
        size=task.file.size,
        digests=digests or task.file.digests,
        proved_by=proved_by,
        source_version=task.file.version,
        destination_version=version,
    )
