"""Which files the layers of an image add up to, and where in the layers their bytes lie.

The rules are those of the OCI image specification 1.1, "Image Layer Filesystem Changeset": later layers win, `.wh.NAME`
takes NAME away, `.wh..wh..opq` all that lower layers have in a folder.  Nothing is written anywhere: a path is a key
here, so that the worst that a hostile one can do is to be refused by name.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Final

from syncer.errors import UnsafeNames
from syncer.manifest import is_control_path
from syncer.stores.directory.faults import shown
from syncer.stores.oci.members import Damaged, Member, Tape, members

MOST_MEMBERS: Final = 2_000_000
MOST_FILES: Final = 1_000_000
LONGEST_PATH: Final = 4096
DEEPEST_PATH: Final = 128
LONGEST_NAMES: Final = 64 * 1024 * 1024
"""Characters of all paths and targets of a layer together: headers compress a thousandfold, names in memory do not."""
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_MOST_LINKS: Final = 40  # as Linux has it (path_resolution(7))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file's bytes are: `size` from `offset` on of a blob, as it is after unpacking where it is `packed`.

    `sha256` is the file's own, proved together with the image, in lower-case hex.
    """

    blob: str
    offset: int
    size: int
    sha256: str
    packed: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of one layer: a `place` for a file, a `target` for a link, a `problem` for what is neither."""

    path: str
    place: Place | None = None
    target: str = ""
    hard: bool = False
    problem: str = ""
    folder: bool = False


@dataclass
class LayerFiles:
    """What one layer says about the files below the root, in its order; whiteouts are about lower layers alone."""

    entries: list[Entry] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    emptied: list[str] = field(default_factory=list)


def read_layer(
    tape: Tape,
    root: str,
    *,
    blob: str,
    packed: bool,
    some: Callable[[int], bytes] | None,
    known: str = "",
) -> LayerFiles:
    """Look a layer's tar through.  `root` is the folder of the model in it (`models`), empty for all of it.

    `some` gives a file's bytes, which are hashed, where nobody has told its digest: else it is `known`, and bytes are
    not looked at.  Raises `Damaged` for what is no tar, `UnsafeNames` for a path that would lead out.
    """
    found = LayerFiles()
    characters = 0
    for member in members(tape, most=MOST_MEMBERS):
        if (longest := max(len(member.name), len(member.target))) > LONGEST_PATH:
            raise Damaged(f"it has a path of {longest} characters")
        if (deepest := max(member.name.count("/"), member.target.count("/"))) > DEEPEST_PATH:
            raise Damaged(f"it has a path of {deepest} folders")
        characters += len(member.name) + len(member.target)
        if characters > LONGEST_NAMES:
            raise Damaged(f"its names have more than {LONGEST_NAMES} characters")
        path = inside(member.name)
        if path is None:
            raise UnsafeNames(
                f"the layer {blob} has a path that leads out of the image: {shown(member.name)}",
                problems=(f"{shown(member.name)} leads out of the image",),
                hint="do not trust this image",
            )
        folder, _, name = path.rpartition("/")
        if name.startswith(_WHITEOUT):
            if name == _OPAQUE:
                found.emptied.append(folder)
            else:
                gone = name.removeprefix(_WHITEOUT)
                found.removed.append(f"{folder}/{gone}" if folder else gone)
        elif _is_below(path, root) or path == root:
            found.entries.append(_entry(member, path, blob=blob, packed=packed, some=some, known=known))
            if len(found.entries) > MOST_FILES:
                raise Damaged(f"it has more than {MOST_FILES} files")
    return found


def _entry(
    member: Member, path: str, *, blob: str, packed: bool, some: Callable[[int], bytes] | None, known: str
) -> Entry:
    match member.kind:
        case "file":
            sha256 = known if some is None else _sha256(some, member.size)
            return Entry(path, place=Place(blob, member.offset, member.size, sha256, packed))
        case "folder":
            return Entry(path, folder=True)
        case "symlink":
            return Entry(path, target=member.target)
        case "hardlink":
            return Entry(path, target=member.target, hard=True)
        case "sparse":
            return Entry(path, problem="is a sparse file in a form that only some tools unpack")
        case _:
            return Entry(path, problem="is a device, a pipe or something that nobody knows")


def _sha256(some: Callable[[int], bytes], size: int) -> str:
    digest = hashlib.sha256()
    while size:
        data = some(size)
        if not data:
            raise Damaged("it ends within a member")
        digest.update(data)
        size -= len(data)
    return digest.hexdigest()


def inside(name: str) -> str | None:
    """The path without `.`, doubled slashes and one in front, as unpacking has it; None when it leads out."""
    parts = [part for part in name.split("/") if part not in {"", "."}]
    return None if ".." in parts or "\0" in name else "/".join(parts)


def _is_below(path: str, root: str) -> bool:
    return not root or path.startswith(f"{root}/")


def _above(path: str) -> Iterator[str]:
    """The folders that a path lies in, the innermost first; empty is the image's own root."""
    while path:
        path = path.rpartition("/")[0]
        yield path


def _is_gone(path: str, removed: Collection[str], emptied: Collection[str]) -> bool:
    return path in removed or any(folder in emptied or folder in removed for folder in _above(path))


class Overlay:
    """The layers on top of each other, from the lowest on."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._entries: dict[str, Entry] = {}
        self._sorted: list[str] | None = None

    def add(self, layer: LayerFiles) -> None:
        """Put a layer on top: first its whiteouts, which never are about itself, then its entries."""
        removed, emptied = set(layer.removed), set(layer.emptied)
        for entry in layer.entries:
            before = self._entries.get(entry.path)
            if before is not None and before.folder and not entry.folder:
                emptied.add(entry.path)
        if removed or emptied:
            self._entries = {
                path: entry for path, entry in self._entries.items() if not _is_gone(path, removed, emptied)
            }
        for entry in layer.entries:
            # A hard link is to what its target is at this moment, whatever takes the target's path later.
            self._entries[entry.path] = self._hard(entry) if entry.hard else entry
        self._sorted = None
        if len(self._entries) > MOST_FILES:
            raise Damaged(f"its layers have more than {MOST_FILES} files")

    def files(self) -> tuple[dict[str, Place], list[str]]:
        """The files by their path below the root, and a line for each entry that cannot be copied as one."""
        files: dict[str, Place] = {}
        problems: list[str] = []
        for path in sorted(self._entries):
            entry = self._entries[path]
            below = path.removeprefix(f"{self._root}/") if self._root else path
            if entry.folder or is_control_path(below):
                continue
            try:
                place = self._resolved(entry)
                below.encode()
            except _CannotCopyError as error:
                problems.append(f"{shown(below)} {error}")
            except UnicodeEncodeError:
                problems.append(f"{shown(below)} has a name that is not valid UTF-8")
            else:
                files[below] = place
        return files, problems

    def _hard(self, link: Entry) -> Entry:
        target = inside(link.target)
        found = self._entries.get(target) if target else None
        if found is None or found.folder:
            return Entry(link.path, problem=f"is a hard link to {shown(link.target)}, which is no file of the model")
        return Entry(link.path, place=found.place, target=found.target, problem=found.problem)

    def _resolved(self, entry: Entry) -> Place:
        """The bytes of a file, or of what a link leads to inside the root."""
        for _ in range(_MOST_LINKS):
            if entry.problem:
                raise _CannotCopyError(entry.problem)
            if entry.place is not None:
                return entry.place
            told = entry.target
            entry = self._follow(entry)
            if entry.folder:
                raise _CannotCopyError(f"is a link to a folder, {shown(told)}")
        raise _CannotCopyError("is a link that leads in a circle")

    def _follow(self, link: Entry) -> Entry:
        """What a symbolic link names, links on the way to it followed as well."""
        path = "" if link.target.startswith("/") else link.path.rpartition("/")[0]
        steps = list(reversed(link.target.split("/")))
        hops = 0
        while steps:
            step = steps.pop()
            if step in {"", "."}:
                continue
            if step == "..":
                path = path.rpartition("/")[0]
                continue
            path = f"{path}/{step}" if path else step
            found = self._entries.get(path)
            if steps and found is not None and not found.folder and found.target and found.place is None:
                hops += 1
                if hops > _MOST_LINKS:
                    raise _CannotCopyError("is a link that leads in a circle")
                path = "" if found.target.startswith("/") else path.rpartition("/")[0]
                steps.extend(reversed(found.target.split("/")))
        if self._root and path != self._root and not _is_below(path, self._root):
            raise _CannotCopyError(f"is a link that leads out of the folder, to {shown(link.target)}")
        found = self._entries.get(path)
        if found is not None:
            return found
        if self._is_folder(path):
            return Entry(path, folder=True)
        raise _CannotCopyError(f"is a link to nothing, {shown(link.target)}")

    def _is_folder(self, path: str) -> bool:
        """Whether something lies below `path`: builders leave the entries of folders out."""
        if self._sorted is None:
            self._sorted = sorted(self._entries)
        below = f"{path}/" if path else ""
        at = bisect_left(self._sorted, below)
        return at < len(self._sorted) and self._sorted[at].startswith(below)


class _CannotCopyError(Exception):
    """An entry that is no file; the message goes behind its path."""


def refuse(problems: list[str], *, name: str) -> None:
    """Raise `UnsafeNames` when there are any."""
    if problems:
        raise UnsafeNames(
            f"{len(problems)} of the entries in {name} cannot be copied as files, such as {problems[0]}",
            problems=tuple(problems),
            hint="build the image without them, with what links lead to in their place",
            store=name,
        )
