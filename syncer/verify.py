"""Comparing what should be there with what is: cheaply from a listing, thoroughly by reading everything back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from syncer.digests import COMPUTABLE
from syncer.errands import HashErrand, Reader
from syncer.errors import SyncerError, Transient, WrongBytes, first_few
from syncer.flight import Task
from syncer.manifest import DigestName, FileRecord, Listing, Manifest, ModelFile
from syncer.plan import DEFAULT_PART
from syncer.stores.protocols import Cut
from syncer.transfer import Engine


@dataclass(frozen=True)
class Differences:
    """What `verify` found.  `wrong` says for each path in which way; `unproved` are files whose digest nobody knows."""

    wrong: Mapping[str, str]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    unproved: tuple[str, ...] = ()
    files: int = 0
    bytes: int = 0

    def __bool__(self) -> bool:
        """Whether there is any difference."""
        return bool(self.wrong or self.missing or self.extra)

    def not_extra(self) -> list[str]:
        """The paths that are wrong or missing."""
        return sorted([*self.wrong, *self.missing])

    def lines(self) -> list[str]:
        """One line for each difference."""
        return [
            *(f"wrong: {path}: {how}" for path, how in sorted(self.wrong.items())),
            *(f"missing: {path}" for path in self.missing),
            *(f"extra: {path}" for path in self.extra),
        ]

    def to_error(self) -> WrongBytes:
        """The failure that these differences are."""
        lines = self.lines()
        return WrongBytes(
            f"the destination differs from its manifest in {len(lines)} file(s): {first_few(lines, 5)}",
            # Bytes that went wrong under the version that we wrote look as good as ever to a plan.
            hint="run the synchronization again with S3_SYNC_TRANSFER_CONFIG__FORCE=true: it copies everything anew; "
            "a registry that goes on serving a damaged layer has to lose the image first"
            if self.not_extra()
            else "these files are no part of the model: remove them, or let S3_SYNC_DELETE=all do it",
            stage="verify",
        )


def against_listing(records: Mapping[str, FileRecord], there: Listing) -> Differences:
    """Compare names, sizes and versions: what a listing can tell without reading a byte."""
    wrong: dict[str, str] = {}
    missing: list[str] = []
    for path, record in records.items():
        file = there.files.get(path)
        if file is None:
            missing.append(path)
        elif record.size != file.size:
            wrong[path] = f"{file.size} bytes instead of {record.size}"
        elif record.destination_version and record.destination_version != file.version:
            wrong[path] = "changed after it was written"
    return Differences(
        wrong=wrong,
        missing=tuple(sorted(missing)),
        extra=tuple(sorted(path for path in there.files if path not in records)),
        files=len(records),
        bytes=sum(record.size for record in records.values()),
    )


def refuse_changed(kept: Mapping[str, FileRecord], there: Listing) -> None:
    """Raise `Transient` when a file that was to be kept is another one, or gone, by the end of the run."""
    changed = against_listing(kept, there).not_extra()
    if changed:
        raise Transient(
            f"{len(changed)} file(s) at the destination were changed by somebody else meanwhile: "
            + first_few(changed, 5),
            hint="run the synchronization again, and let nobody else write there meanwhile",
            stage="verify",
        )


def read_back(
    engine: Engine, reader: Reader, files: Iterable[ModelFile], *, digest: DigestName | None = "sha256"
) -> tuple[Mapping[str, Mapping[DigestName, str]], Mapping[str, SyncerError]]:
    """Read files whole, side by side, and return their digests, and the errors of those that are not as listed.

    `digest` as in `FileHash.of`.
    """
    errand = HashErrand(reader, digest=digest)
    engine.run(errand, [Task(file, Cut(file.size, DEFAULT_PART)) for file in files])
    return errand.digests, errand.failures


def of_unseen(
    engine: Engine, reader: Reader, files: Iterable[ModelFile], digest: DigestName
) -> tuple[Mapping[str, Mapping[DigestName, str]], Mapping[str, SyncerError]]:
    """Read back files whose bytes this process did not see on their way; what it returns is as for `read_back`.

    Where `digest` would not be compared with anything, and the source lists something else that would be, that proves.
    """
    files = list(files)
    listed = [] if digest == "sha256" else [file for file in files if not COMPUTABLE.isdisjoint(file.digests)]
    paths = {file.path for file in listed}
    by_source, wrong = read_back(engine, reader, listed, digest=None)
    by_choice, more_wrong = read_back(engine, reader, [file for file in files if file.path not in paths], digest=digest)
    return {**by_source, **by_choice}, {**wrong, **more_wrong}


def everything(engine: Engine, reader: Reader, manifest: Manifest, there: Listing) -> Differences:
    """Read all of `manifest` back and compare every digest that it holds."""
    by_listing = against_listing(manifest.files, there)
    # A version that changed proves nothing against bytes that are as they were; without a digest that we can
    # compute it is all there is.
    wrong = {
        path: how
        for path, how in by_listing.wrong.items()
        if there.files[path].size != manifest.files[path].size or not _provable(manifest.files[path])
    }
    unproved = []
    to_read = []
    for path in sorted(manifest.files.keys() & there.files.keys()):
        if path in wrong:
            continue
        record, file = manifest.files[path], there.files[path]
        if not _provable(record):
            unproved.append(path)
        to_read.append(ModelFile(path, file.size, file.version, record.digests))
    digests, failures = read_back(engine, reader, to_read, digest=None)
    wrong |= {path: error.message for path, error in failures.items()}
    return Differences(
        wrong=wrong,
        missing=by_listing.missing,
        extra=by_listing.extra,
        unproved=tuple(unproved),
        files=len(digests),
        bytes=by_listing.bytes,
    )


def _provable(record: FileRecord) -> bool:
    """Whether reading the file back can prove it: a digest is known that we can compute."""
    return not COMPUTABLE.isdisjoint(record.digests)
