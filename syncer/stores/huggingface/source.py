"""A repository of the Hugging Face Hub as the place where a model comes from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from syncer.errors import InternalError, SourceMissing
from syncer.logs import Log, logger
from syncer.manifest import Listing, ModelFile, is_control_path
from syncer.retry import SMALL_REQUEST, Patience
from syncer.settings.locations import HuggingFaceLocation, Network
from syncer.stores.huggingface.hub import Hub
from syncer.stores.huggingface.library import Commit, resolve, tree
from syncer.stores.huggingface.ranges import Ranges
from syncer.stores.huggingface.selection import Selection, choose
from syncer.stores.huggingface.xet import SMALLEST, XetFetcher
from syncer.stores.protocols import Body
from syncer.wire import Timeouts


class HuggingFaceSource:
    """One commit of a repository.  See `Source` for the promises.

    The first listing finds the commit out, and everything after it is of that commit, whatever happens to the branch;
    a file's version is its digest, so that a later run of a later commit knows the files that are the same.
    """

    def __init__(
        self,
        location: HuggingFaceLocation,
        network: Network,
        *,
        timeouts: Timeouts | None = None,
        patience: Patience = SMALL_REQUEST,
    ) -> None:
        self._location = location
        self._hub = Hub(location, network, timeouts=timeouts, patience=patience)
        self._ranges = Ranges(self._hub)
        self._xet = XetFetcher(self._hub, network)
        self._commit: Commit | None = None
        self._told = False

    @property
    def name(self) -> str:
        """See `Source`: as the user wrote it, also when the repository was renamed."""
        return self._location.uri

    @property
    def revision(self) -> str:
        """See `Source`: the commit."""
        return self._commit.sha if self._commit else ""

    def listing(self) -> Listing:
        """See `Source`.  Raises `CredentialsRefused` for a gated repository now, not at its first byte."""
        location = self._location
        if self._commit is None:
            self._commit = resolve(self._hub, location.repository, location.revision)
        files = [file for file in tree(self._hub, self._commit) if not is_control_path(file.path)]
        selection = choose(files, allow=location.allow, ignore=location.ignore)
        if not selection.taken:
            raise self._nothing(len(files))
        if self._commit.gated:
            largest = max(selection.taken, key=lambda file: file.size)
            self._hub.check_access(self._commit.repository, self._commit.sha, largest.path)
        self._tell(self._commit, selection)
        return Listing.of(selection.taken)

    def look_again(self, file: ModelFile) -> ModelFile:
        """See `Source`: what a commit holds never changes."""
        return file

    def read(self, file: ModelFile, start: int, length: int) -> Body:
        """See `Source`."""
        if self._commit is None:
            raise InternalError("a file is read before the listing")
        return self._ranges.open(self._commit, file, start, length)

    def worth_fetching(self, file: ModelFile) -> bool:
        """See `Fetches`: only where the user asked for xet."""
        return self._location.xet and file.size >= SMALLEST and "sha256" in file.digests

    def fetch(self, file: ModelFile, into: Path, *, moved: Callable[[int], None]) -> bool:
        """See `Fetches`."""
        if self._commit is None:
            raise InternalError("a file is fetched before the listing")
        return self._xet.fetch(self._commit, file, into, moved=moved)

    def interrupt(self) -> None:
        """See `Source`."""
        self._hub.interrupt()
        self._xet.interrupt()

    def close(self) -> None:
        """See `Source`."""
        self._hub.close()

    def _nothing(self, files: int) -> SourceMissing:
        location = self._location
        if not files:
            return SourceMissing(
                f"{self.name}: the repository holds no file",
                hint=f"check HUGGINGFACE_MODEL and HUGGINGFACE_REVISION: {self._hub.place.page}",
                store=self.name,
            )
        patterns = [
            f"{name} {' '.join(those)}"
            for name, those in (
                ("HUGGINGFACE_ALLOW_PATTERNS", location.allow),
                ("HUGGINGFACE_IGNORE_PATTERNS", location.ignore),
            )
            if those
        ]
        return SourceMissing(
            f"{self.name}: none of its {files} files is left by {' and '.join(patterns) or 'the default choice'}",
            hint=(
                "let HUGGINGFACE_IGNORE_PATTERNS leave less out"
                if location.ignore and not location.allow
                else "widen the patterns; HUGGINGFACE_ALLOW_PATTERNS=* takes everything that is not ignored"
            ),
            store=self.name,
        )

    def _tell(self, commit: Commit, selection: Selection) -> None:
        if self._told:
            return
        self._told = True
        log: Log = logger(component="source", source=self.name)
        if commit.repository != self._location.repository:
            log.warning("source_renamed", reason=f"the repository is called {commit.repository} now")
        for reason, files in selection.left_out.items():
            log.info(
                "files_excluded",
                reason=reason,
                files=len(files),
                bytes=sum(file.size for file in files),
                paths=[file.path for file in files[:20]],
            )
