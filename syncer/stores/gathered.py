"""Files and folders that somebody named one by one, as the place that a model comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from syncer.errors import ConfigurationError, InternalError, SourceMissing, SyncerError
from syncer.manifest import Listing, ModelFile
from syncer.settings.locations import DirectoryLocation, GatheredLocation
from syncer.stores.directory import DirectorySource
from syncer.stores.directory.body import FileBody
from syncer.stores.directory.source import VARIABLE


class GatheredSource:
    """Implements `Source` over one directory source for each named path, with all their promises.

    What two paths bring under the same name is refused.  A file's version tells the folder that it was found by, since
    the same time and size mean the same file in one folder alone: so it means the same in every later upload, whatever
    else is named there, and also when somebody else's run has sealed the model in between (`plan.py` knows the form).
    """

    revision = ""

    def __init__(self, location: GatheredLocation) -> None:
        self._location = location
        self._parts = [_Part.of(path) for path in location.paths]
        self._origins: dict[str, _Part] = {}

    @property
    def name(self) -> str:
        """What the user named."""
        return self._location.told

    def listing(self) -> Listing:
        """All files of all paths; `ConfigurationError` when two bring the same one."""
        files: dict[str, ModelFile] = {}
        origins: dict[str, _Part] = {}
        problems: list[str] = []
        for part in self._parts:
            with _in_words_of_an_upload():
                listed = part.source.listing()
            for file in listed.files.values():
                if file.path in files:
                    problems.append(f"{file.path} is in {origins[file.path].path} and in {part.path}")
                    continue
                files[file.path] = part.marked(file)
                origins[file.path] = part
        if problems:
            raise ConfigurationError(
                f"{len(problems)} file(s) have the same name at the destination: {problems[0]}",
                hint="upload one of them, or give each folder a folder of its own by leaving out the slash",
                problems=tuple(problems),
            )
        self._origins = origins
        return Listing(files)

    def look_again(self, file: ModelFile) -> ModelFile:
        """The file as it is now."""
        part = self._origin(file)
        with _in_words_of_an_upload():
            return part.marked(part.source.look_again(file))

    def read(self, file: ModelFile, start: int, length: int) -> FileBody:
        """Open a range of the listed version."""
        part = self._origin(file)
        with _in_words_of_an_upload():
            return part.source.read(part.unmarked(file), start, length)

    def interrupt(self) -> None:
        """Nothing to wake: no call here waits for a network peer."""

    def close(self) -> None:
        """Nothing to let go of: bodies close their own files."""

    def _origin(self, file: ModelFile) -> _Part:
        try:
            return self._origins[file.path]
        except KeyError:
            raise InternalError(f"{file.path!r} was never listed by {self.name}") from None


@dataclass(frozen=True)
class _Part:
    """One named path; `mark` is what its files' versions end with."""

    path: Path
    source: DirectorySource
    mark: str

    @classmethod
    def of(cls, path: Path) -> _Part:
        """The part at `path`."""
        folder = str(path if path.is_dir() else path.parent)
        digest = hashlib.sha256(folder.encode(errors="surrogateescape")).hexdigest()
        return cls(path, DirectorySource(DirectoryLocation(path)), f"@{digest[:12]}")

    def marked(self, file: ModelFile) -> ModelFile:
        """A file as it is listed here."""
        return replace(file, version=file.version + self.mark)

    def unmarked(self, file: ModelFile) -> ModelFile:
        """A file as the directory knows it."""
        return replace(file, version=file.version.removesuffix(self.mark))


@contextmanager
def _in_words_of_an_upload() -> Iterator[None]:
    """No variable names what is uploaded: whoever is told to look at one would look in vain."""
    try:
        yield
    except SyncerError as error:
        if VARIABLE in error.hint:
            error.hint = (
                "check the path, and that there are files in it"
                if isinstance(error, SourceMissing)
                else "check the path and who may read it"
            )
        raise
