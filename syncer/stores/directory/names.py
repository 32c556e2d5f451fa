"""Which names a directory cannot hold safely: judged before the first byte, each named.

The first look is at the names alone, the second at what is in their way on the volume.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from syncer.manifest import VOLUMES_OWN, is_control_path
from syncer.stores.directory.faults import existing, shown
from syncer.stores.directory.place import Place
from syncer.stores.directory.survey import LinkLeaves, look_at

_DEEPEST: Final = 256
"""Components.  Each folder is opened on its own, on the way to each file and to each folder below it."""
_FOLDER, _FILE, _OTHER = "folder", "file", "other"


@dataclass(frozen=True)
class NameLimits:
    """The longest component and the longest path below the root, in bytes."""

    component: int = 255
    path: int = 4095

    @classmethod
    def of(cls, place: Place) -> NameLimits:
        """What the volume says; POSIX's usual numbers where it says nothing."""
        here = existing(place.root)
        # The system counts the terminating zero and what stands before our paths.
        longest = _limit(here, "PC_PATH_MAX", 4096) - 1 - len(os.fsencode(place.root)) - 1
        return cls(component=_limit(here, "PC_NAME_MAX", 255), path=longest)


def _limit(here: os.PathLike[str], name: str, otherwise: int) -> int:
    try:
        found = os.pathconf(here, name)
    except (OSError, ValueError):
        return otherwise
    return found if found > 0 else otherwise


def problem_of(path: str, limits: NameLimits) -> str:
    """What is wrong with a name by itself, or empty."""
    parts = path.split("/")
    try:
        encoded = [part.encode() for part in parts]
    except UnicodeEncodeError:
        return "is not valid UTF-8"
    match parts:
        case [""]:
            return "is empty"
        case ["", *_]:
            return "is absolute"
        case _ if "\0" in path:
            return "has a NUL byte"
        case _ if ".." in parts:
            return "leads out of the folder by '..'"
        case _ if "" in parts or "." in parts:
            return "has an empty component or '.', which a directory cannot tell from none"
    return _reserved(path) or _length_problem(encoded, limits)


def _reserved(path: str) -> str:
    if is_control_path(path):
        return "lies in a .syncer folder, which is never content"
    if own := VOLUMES_OWN.intersection(path.split("/")[:-1]):
        return f"lies in {min(own)}, which belongs to the volume"
    return ""


def _length_problem(parts: list[bytes], limits: NameLimits) -> str:
    if len(parts) > _DEEPEST:
        return f"lies {len(parts) - 1} folders deep; {_DEEPEST - 1} are taken"
    if (longest := max(map(len, parts))) > limits.component:
        return f"has a component of {longest} bytes; this volume takes {limits.component}"
    if (length := sum(map(len, parts)) + len(parts) - 1) > limits.path:
        return f"has {length} bytes; this folder takes {limits.path}"
    return ""


def name_problems(place: Place, paths: Collection[str]) -> list[str]:
    """One line for each path that cannot be held, in order.  Raises OSError."""
    limits = NameLimits.of(place)
    problems: dict[str, str] = {}
    for path in paths:
        if problem := problem_of(path, limits):
            problems[path] = problem
    for path, problem in (*collisions(paths), *_in_the_way(place, [path for path in paths if path not in problems])):
        problems.setdefault(path, problem)
    return [f"{shown(path)} {problems[path]}" for path in sorted(problems)]


def collisions(paths: Collection[str]) -> Iterator[tuple[str, str]]:
    """Paths that end up at the same place, or below what is a file."""
    all_paths = set(paths)
    plain: dict[str, list[str]] = {}
    for path in paths:
        plain.setdefault("/".join(part for part in path.split("/") if part not in {"", "."}), []).append(path)
    for same in plain.values():
        for path in same if len(same) > 1 else ():
            other = next(other for other in same if other != path)
            yield path, f"ends up at the same place as {shown(other)}"
    for path in sorted(all_paths):
        at = path.find("/")
        while at >= 0:
            if path[:at] in all_paths:
                yield path, f"needs a folder where {shown(path[:at])} is a file"
                yield path[:at], f"is a file where {shown(path)} needs a folder"
            at = path.find("/", at + 1)


def _in_the_way(place: Place, paths: Collection[str]) -> Iterator[tuple[str, str]]:
    """Paths for which the volume already has something else in the way."""
    known: dict[tuple[str, ...], dict[str, str]] = {}

    def entries(folder: tuple[str, ...]) -> dict[str, str]:
        if folder not in known:
            known[folder] = _entries(place, folder)
        return known[folder]

    for path in paths:
        parts = tuple(path.split("/"))
        for depth, part in enumerate(parts):
            kind = entries(parts[:depth]).get(part)
            if kind is None:
                break
            here = "/".join(parts[: depth + 1])
            if depth + 1 < len(parts):
                if kind != _FOLDER:
                    yield path, f"needs a folder where {shown(here)} is {'a file' if kind == _FILE else 'a link'}"
                    break
            elif kind == _FOLDER:
                yield path, "is a folder on the volume"
            elif kind == _OTHER and not _is_file(place, path):
                yield path, "is a link or a special file on the volume"


def _entries(place: Place, folder: tuple[str, ...]) -> dict[str, str]:
    try:
        with place.folder(folder) as descriptor, os.scandir(descriptor) as found:
            return {entry.name: _kind(entry) for entry in found}
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
            return {}
        raise


def _kind(entry: os.DirEntry[str]) -> str:
    if entry.is_dir(follow_symlinks=False):
        return _FOLDER
    return _FILE if entry.is_file(follow_symlinks=False) else _OTHER


def _is_file(place: Place, path: str) -> bool:
    """Whether a link leads to a file inside, which the listing shows and a rename replaces."""
    try:
        return stat.S_ISREG(look_at(place, path).st_mode)
    except (OSError, LinkLeaves):
        return False
