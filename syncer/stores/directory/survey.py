"""What lies in a folder: the walk behind listings and behind the look at names that are in the way.

Links are followed to regular files inside the folder only, or into the `blobs` beside it where the folder is a snapshot
of the Hugging Face cache.  Nothing else is followed; devices, pipes, sockets, links to folders and links that leave are
told as problems, for the caller to refuse or to pass over.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from syncer.manifest import VOLUMES_OWN, Listing, ModelFile, is_control_path
from syncer.stores.directory.faults import shown
from syncer.stores.directory.place import Place, parts_of

_SNAPSHOT: Final = re.compile(r"(?P<repository>.*/(?:models|datasets|spaces)--[^/]+)/snapshots/[^/]+(?:/|$)")
_OPEN_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass
class Survey:
    """One walk's findings; `problems` maps the path of whatever is neither file nor folder to what is wrong with it."""

    files: list[ModelFile] = field(default_factory=list)
    control_paths: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def listing(self) -> Listing:
        """The files as a destination lists them: what is sealed inside is apart."""
        return Listing.of(self.files, control_paths=self.control_paths)


def version_of(found: os.stat_result) -> str:
    """The version of a file: its modification time in nanoseconds."""
    return str(found.st_mtime_ns)


def model_file(path: str, found: os.stat_result) -> ModelFile:
    """The file as a listing shows it."""
    return ModelFile(path=path, size=found.st_size, version=version_of(found))


def survey(place: Place) -> Survey:
    """Walk the whole folder without recursion.  Raises OSError for the root, our errors for a folder below."""
    findings = Survey()
    with place.folder():
        waiting = [""]
    while waiting:
        folder = waiting.pop()
        parts = tuple(folder.split("/")) if folder else ()
        with place.translated(folder):
            try:
                waiting.extend(_look_into(place, parts, findings))
            except FileNotFoundError:
                continue  # removed while we walked
    return findings


def _look_into(place: Place, parts: tuple[str, ...], findings: Survey) -> Iterator[str]:
    with place.folder(parts) as descriptor, os.scandir(descriptor) as entries:
        for entry in entries:
            path = "/".join((*parts, entry.name))
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in VOLUMES_OWN:
                    yield path
            elif is_control_path(path):
                findings.control_paths.append(path)
            elif problem := _name_problem(path):
                findings.problems[path] = problem
            else:
                _look_at_entry(place, path, entry, findings)


def _name_problem(path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError:
        return "its name is not valid UTF-8"
    return ""


def _look_at_entry(place: Place, path: str, entry: os.DirEntry[str], findings: Survey) -> None:
    try:
        found = look_at(place, path) if entry.is_symlink() else entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        if entry.is_symlink():
            findings.problems[path] = "is a link to nothing"
        return  # a plain file was removed while we walked
    except LinkLeaves as leaves:
        findings.problems[path] = str(leaves)
        return
    if stat.S_ISREG(found.st_mode):
        findings.files.append(model_file(path, found))
    else:
        findings.problems[path] = f"is {_kind(found.st_mode)}"


def _kind(mode: int) -> str:
    for test, words in (
        (stat.S_ISDIR, "a link to a folder"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISBLK, "a block device"),
        (stat.S_ISCHR, "a character device"),
    ):
        if test(mode):
            return words
    return "neither a file nor a folder"


class LinkLeaves(Exception):
    """A link that leads out of the folder, or round in circles."""


def open_file(place: Place, path: str) -> int:
    """A descriptor of the file at `path` for reading, links inside the root followed; the caller closes it.

    The target of a link is opened component by component again, so that a link which changes meanwhile leads nowhere.
    Raises OSError or `LinkLeaves`.
    """
    parts = parts_of(path)
    with place.folder(parts[:-1]) as folder:
        if not stat.S_ISLNK(os.stat(parts[-1], dir_fd=folder, follow_symlinks=False).st_mode):
            return os.open(parts[-1], _OPEN_FILE, dir_fd=folder)
    home, inside = _target(place, path)
    with home.folder(inside[:-1]) as folder:
        return os.open(inside[-1], _OPEN_FILE, dir_fd=folder)


def look_at(place: Place, path: str) -> os.stat_result:
    """What is at `path`, links inside the root followed; raises OSError or `LinkLeaves`."""
    descriptor = open_file(place, path)
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def _target(place: Place, path: str) -> tuple[Place, tuple[str, ...]]:
    root = place.root.resolve()
    try:
        target = Path(root / path).resolve(strict=True)
    except (RuntimeError, OSError) as error:
        # Python 3.11 and 3.12 make a RuntimeError of a circle, later versions leave the system's own error.
        if isinstance(error, OSError) and error.errno != errno.ELOOP:
            raise
        raise LinkLeaves("is a link that leads in a circle") from error
    homes = [root]
    if snapshot := _SNAPSHOT.match(str(root)):
        homes.append(Path(snapshot["repository"]) / "blobs")
    for home in homes:
        if target != home and target.is_relative_to(home):
            return Place(home, variable=place.variable), target.relative_to(home).parts
    raise LinkLeaves(f"is a link that leads out of the folder, to {shown(str(target))}")
