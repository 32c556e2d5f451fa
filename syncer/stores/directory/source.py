"""A folder, or one file, of a mounted volume as the place that a model comes from."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from syncer.errors import SourceChanged, SourceMissing, UnsafeNames
from syncer.manifest import Listing, ModelFile, Origin
from syncer.settings.locations import DirectoryLocation
from syncer.stores.directory.body import FileBody
from syncer.stores.directory.control import DirectoryControl
from syncer.stores.directory.faults import missing_root, shown
from syncer.stores.directory.place import Place
from syncer.stores.directory.sealed import origin_of, sealed_manifest, with_digests
from syncer.stores.directory.survey import LinkLeaves, look_at, model_file, survey

VARIABLE = "S3_SYNC_SRC__PATH"
_FICLONE: Final = 0x40049409
"""ioctl_ficlone(2): one file shares the blocks of another one until either changes."""
_WORTH_CLONING: Final = 1024 * 1024
"""Bytes from which on a clone is quicker than a copy, as both are read once in the end."""
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO}


class DirectorySource:
    """Implements `Source`.  What is no file, and links that lead out of the folder, are refused, each by name.

    Where the location is one file, its folder is the root and the file all that there is.  Implements `TellsOrigin`: a
    folder that a run has sealed stands for the place that its files came from.  Implements `Fetches`: where one file
    system holds both ends and shares blocks between files (xfs, btrfs), a file takes neither time nor room.
    """

    revision = ""

    def __init__(self, location: DirectoryLocation) -> None:
        self._path = location.path
        self._place = Place(location.path, variable=VARIABLE)
        self._only = ""
        self._origin: Origin | None = None
        self._clones = True

    @property
    def origin(self) -> Origin | None:
        """Where the files of a sealed folder were before; None where it is none, or not as it was sealed."""
        return self._origin

    @property
    def name(self) -> str:
        """The path as the user gave it."""
        return str(self._path)

    def listing(self) -> Listing:
        """All files; `SourceMissing` without any, `UnsafeNames` with what cannot be read as a file."""
        with self._place.translated():
            try:
                found = self._path.stat()
            except (FileNotFoundError, NotADirectoryError) as error:
                raise missing_root(self._path) from error
        if stat.S_ISREG(found.st_mode):
            # The user named this very file, so what a link in its place leads to is meant, under the link's name.
            target = self._path.resolve()
            self._place = Place(target.parent, variable=VARIABLE)
            self._only = target.name
            return Listing.of([model_file(self._path.name, found)])
        listing = self._folder()
        if not listing.files:
            raise SourceMissing(
                f"there is no file in {shown(self.name)}",
                hint=f"check {VARIABLE} and that the right volume is mounted there",
                stage="list",
                store=self.name,
            )
        manifest = sealed_manifest(DirectoryControl(self._place), listing)
        if manifest is None:
            self._origin = None
            return listing
        self._origin = origin_of(manifest)
        return with_digests(listing, manifest)

    def look_again(self, file: ModelFile) -> ModelFile:
        """The file as it is now."""
        gone = SourceMissing(f"{shown(file.path)} is gone from {shown(self.name)}", store=self.name, path=file.path)
        with self._place.translated(file.path):
            try:
                found = look_at(self._place, self._only or file.path)
            except LinkLeaves as error:
                raise gone from error
            except OSError as error:
                if error.errno in _GONE:
                    raise gone from error
                raise
        if not stat.S_ISREG(found.st_mode):
            raise gone
        return model_file(file.path, found)

    def read(self, file: ModelFile, start: int, length: int) -> FileBody:
        """Open a range of the listed version; one that is gone counts as changed."""
        try:
            here = dataclasses.replace(file, path=self._only) if self._only else file
            return FileBody(self._place, here, start=start, length=length)
        except FileNotFoundError as error:
            raise SourceChanged(
                f"{shown(file.path)} went away from {shown(self.name)}", store=self.name, path=file.path
            ) from error

    def worth_fetching(self, file: ModelFile) -> bool:
        """Whether a clone may be had: the first refusal ends the attempts."""
        return self._clones and file.size >= _WORTH_CLONING

    def fetch(self, file: ModelFile, into: Path, *, moved: Callable[[int], None]) -> bool:
        """See `Fetches`.  Whatever keeps the file system from it, a copy that is read and written tells better."""
        with closing(self.read(file, 0, file.size)) as body:
            if not _clone(body, into):
                self._clones = False
                return False
            body.check()
            moved(file.size)
        return True

    def interrupt(self) -> None:
        """Nothing to wake: no call here waits for a network peer that could be hung up on."""

    def close(self) -> None:
        """Nothing to let go of: bodies close their own files."""

    def _folder(self) -> Listing:
        with self._place.translated():
            findings = survey(self._place)
        refused = tuple(f"{shown(path)} {problem}" for path, problem in sorted(findings.problems.items()))
        if refused:
            raise UnsafeNames(
                f"{len(refused)} of the entries in {shown(self.name)} cannot be copied as files, such as {refused[0]}",
                problems=refused,
                hint="move them out of the folder, or replace links by what they lead to",
                store=self.name,
            )
        return Listing.of(findings.files)


def _clone(body: FileBody, into: Path) -> bool:
    try:
        descriptor = os.open(into, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.ioctl(descriptor, _FICLONE, body.descriptor)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
