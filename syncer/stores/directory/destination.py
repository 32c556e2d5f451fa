"""A folder of a mounted volume (the PVC) as the place that a model goes to."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Collection, Iterable
from contextlib import suppress

from syncer.errors import ConfigurationError, UnsafeNames, WrongBytes
from syncer.manifest import CONTROL_FOLDER, Listing, Manifest, ModelFile
from syncer.settings.locations import DirectoryLocation
from syncer.stores.directory import names
from syncer.stores.directory.body import FileBody
from syncer.stores.directory.control import DirectoryControl
from syncer.stores.directory.faults import existing, shown
from syncer.stores.directory.fetched import FetchedFile, begin_whole
from syncer.stores.directory.parts import STATE, is_token, path_of, token_of
from syncer.stores.directory.place import Place, names_in, parts_of
from syncer.stores.directory.survey import survey
from syncer.stores.directory.upload import DirectoryUpload, begin, remove
from syncer.stores.protocols import ControlFolder, Cut, Limits, OpenUpload

VARIABLE = "S3_SYNC_DEST__PATH"
_BLOCK = 512
"""Bytes of a block in `st_blocks`, whatever the volume's own are (stat(2))."""


class DirectoryDestination:
    """Implements `Destination`.  Missing folders are made with the first write, not before."""

    limits = Limits()

    def __init__(self, location: DirectoryLocation) -> None:
        self._place = Place(location.path, variable=VARIABLE)
        self._control = DirectoryControl(self._place)
        self._vacant: set[str] = set()

    @property
    def name(self) -> str:
        """The path as the user gave it."""
        return str(self._place.root)

    @property
    def uri(self) -> str:
        """`file:///mnt/models/`."""
        return self._place.root.as_uri().rstrip("/") + "/"

    @property
    def control(self) -> ControlFolder:
        """The `.syncer` folder in it."""
        return self._control

    def prepare(self) -> None:
        """Write into the folder, or the nearest one above it that exists, and leave nothing there."""
        root = self._place.root
        with self._place.translated():
            here = existing(root)
            if here != root and here == here.parent:
                raise ConfigurationError(
                    f"nothing is mounted at {shown(str(root))}",
                    hint=f"mount the volume there or correct {VARIABLE}",
                    path=self.name,
                )
            if not here.is_dir():
                raise ConfigurationError(
                    f"{shown(str(here))} is not a folder",
                    hint=f"{VARIABLE} must name the folder that takes the model",
                    path=self.name,
                )
            for folder in (here, here / CONTROL_FOLDER, here.joinpath(*STATE)):
                if folder == here or (here == root and folder.is_dir() and not folder.is_symlink()):
                    with tempfile.TemporaryFile(dir=folder):
                        pass

    def listing(self) -> Listing:
        """All files that are there; what is no file is passed over here and told by `name_problems`."""
        with self._place.translated():
            try:
                return survey(self._place).listing
            except FileNotFoundError:
                return Listing({})

    def name_problems(self, paths: Collection[str]) -> list[str]:
        """Escaping, colliding and too long names, and those for which something is in the way."""
        with self._place.translated():
            return names.name_problems(self._place, paths)

    def free_bytes(self) -> int | None:
        """What this process may still write, counting what unfinished uploads of ours hold already."""
        with self._place.translated():
            found = os.statvfs(existing(self._place.root))
            if not found.f_blocks:
                return None  # some network volumes tell nothing
            return found.f_bavail * found.f_frsize + self._held_by_uploads()

    def open_uploads(self) -> list[OpenUpload]:
        """The temporary files in our state folder: all of them are ours."""
        with self._place.translated(), suppress(FileNotFoundError), self._place.folder(STATE) as state:
            tokens = {token for name in names_in(state) if (token := token_of(name)) is not None}
            return [OpenUpload(path=path_of(token, state), token=token) for token in sorted(tokens)]
        return []

    def spare(self, paths: Collection[str]) -> None:
        """See `SparesForeign`."""
        self._vacant.clear()
        self._vacant.update(paths)

    def begin(self, file: ModelFile, cut: Cut, *, resume: str = "") -> DirectoryUpload:
        """A temporary file of its own, with its space where the volume can promise it."""
        return begin(self._place, file, cut, resume=resume, vacant=self._vacant)

    def begin_whole(self, file: ModelFile) -> FetchedFile:
        """See `TakesWholeFiles`."""
        return begin_whole(self._place, file, vacant=self._vacant)

    def abort_upload(self, upload: OpenUpload) -> None:
        """Remove a temporary file."""
        if not is_token(upload.token):
            return
        with self._place.translated(), suppress(FileNotFoundError), self._place.folder(STATE) as state:
            remove(upload.token, state)

    def read(self, file: ModelFile, start: int, length: int) -> FileBody:
        """Read back from the volume."""
        try:
            return FileBody(self._place, file, start=start, length=length)
        except FileNotFoundError as error:
            raise WrongBytes(
                f"{shown(file.path)} is gone from {shown(self.name)}",
                hint="look for whoever else deletes there, then run again",
                store=self.name,
                path=file.path,
            ) from error

    def delete(self, paths: Iterable[str]) -> None:
        """Remove files, and the folders that are empty then, never through a link and never the root."""
        for path in paths:
            *folder, name = parts_of(path)
            if CONTROL_FOLDER in (*folder, name):
                raise UnsafeNames(f"{shown(path)} is no content", problems=(shown(path),), store=self.name)
            with self._place.translated(path):
                try:
                    with self._place.folder(folder) as descriptor:
                        os.unlink(name, dir_fd=descriptor)
                except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                    continue  # the file is gone; what has its place now is not ours
                self._place.touch(self._prune(folder))

    def commit(self, manifest: Manifest) -> None:
        """Make the entries of all folders that changed last."""
        with self._place.translated():
            self._place.sync()

    def interrupt(self) -> None:
        """Wake who waits for the lock of the control folder; no other call waits for anybody."""
        self._control.interrupt()

    def close(self) -> None:
        """Nothing to let go of: uploads and bodies close their own files."""

    def _prune(self, folder: list[str]) -> list[str]:
        """Remove folders from here upwards as long as they are empty; returns the first that stays."""
        while folder:
            *above, name = folder
            try:
                with self._place.folder(above) as descriptor:
                    os.rmdir(name, dir_fd=descriptor)
            except OSError as error:
                if error.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EBUSY}:
                    return folder  # not empty, or a folder that only its owner may take away
                raise
            folder = above
        return folder

    def _held_by_uploads(self) -> int:
        try:
            with self._place.folder(STATE) as state:
                return _BLOCK * sum(
                    os.stat(name, dir_fd=state, follow_symlinks=False).st_blocks
                    for name in names_in(state)
                    if is_token(name)
                )
        except OSError:
            return 0
