"""What the paths of `syncer upload` mean: which files go together, and where below `models/`.

As with rsync, a slash at the end means what is in the folder, and none means the folder itself.  Only what lies at or
below the current directory can be uploaded, since a container is given nothing else.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from syncer.errors import ConfigurationError, SourceMissing, SyncerError, first_few
from syncer.manifest import is_control_path
from syncer.settings.locations import GatheredLocation

_NAMED: Final = 10
_HINT: Final = "cd to the folder that holds it and name it from there"


@dataclass(frozen=True)
class Parcel:
    """What one run uploads.

    `folder` is the name of its own folder below the destination's, empty for the destination itself.  `joins` says that
    it adds single files to a model instead of being the model.  `told` is what the user wrote.
    """

    source: GatheredLocation
    folder: str
    joins: bool
    told: str


@dataclass(frozen=True)
class _Named:
    """One argument, looked at.  `path` is absolute and keeps the name that the user gave, also that of a link."""

    told: str
    path: Path
    is_folder: bool
    means_content: bool


def parcels_of(arguments: Sequence[str], here: Path) -> tuple[Parcel, ...]:
    """The runs that upload `arguments`: first each folder that stays one, then all that goes to `models/` itself.

    Raises `ConfigurationError` with every argument that cannot be meant, or `SourceMissing` with those that are not
    there.
    """
    if not arguments:
        raise ConfigurationError("nothing to upload is named", hint="for example: syncer upload aligned-model/")
    refused: list[str] = []
    missing: list[str] = []
    named: list[_Named] = []
    root = Path(os.path.realpath(here))
    for argument in dict.fromkeys(arguments):
        try:
            named.append(_look_at(argument, root))
        except FileNotFoundError:
            missing.append(f"{argument}: no such file or folder")
        except ValueError as error:
            refused.append(f"{argument}: {error}")
    own = [each for each in named if each.is_folder and not each.means_content]
    rest = [each for each in named if each not in own]
    refused += _twice(own)
    if problem := _error(refused, missing):
        raise problem
    parcels = [Parcel(_gathered([each]), each.path.name, joins=False, told=each.told) for each in own]
    if rest:
        joins = not any(each.is_folder for each in rest)
        parcels.append(Parcel(_gathered(rest), "", joins=joins, told=" ".join(each.told for each in rest)))
    return tuple(parcels)


def _look_at(told: str, root: Path) -> _Named:
    """What an argument is; raises FileNotFoundError, or ValueError that goes on after the argument."""
    if not told or "\0" in told:
        raise ValueError("is no path")
    joined = os.path.join(root, told)  # noqa: PTH118 - Path would drop the slash at the end, which means something
    real = os.path.realpath(joined)
    if real != str(root) and not real.startswith(f"{str(root).rstrip('/')}/"):
        raise ValueError("does not lie in the current directory or below it")
    last = told.rstrip("/").rpartition("/")[2]
    means_content = told.endswith("/") or last in {"", ".", ".."}
    path = Path(real)
    if not means_content:
        path = Path(os.path.realpath(os.path.dirname(joined))) / last  # noqa: PTH120 - see above
    try:
        found = path.stat()
    except NotADirectoryError as error:
        raise FileNotFoundError from error
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"cannot be read: {error.strerror}") from error
    is_folder = stat.S_ISDIR(found.st_mode)
    if not is_folder and not stat.S_ISREG(found.st_mode):
        raise ValueError("is neither a file nor a folder")
    if not is_folder and told.endswith("/"):
        raise ValueError("is a file; leave the slash out")
    if is_control_path(path.relative_to(root).as_posix()):
        raise ValueError("is the proof of a model that was synchronized, not a part of it")
    return _Named(told, path, is_folder, means_content)


def _twice(own: Sequence[_Named]) -> list[str]:
    """Folders of one name, which would become one model."""
    first: dict[str, str] = {}
    return [
        f"{other} and {each.told} would both become models/{each.path.name}/"
        for each in own
        if (other := first.setdefault(each.path.name, each.told)) != each.told
    ]


def _gathered(named: Sequence[_Named]) -> GatheredLocation:
    """One source of all; it is called by the folder that holds everything, so that a later run knows it again."""
    folders = [each.path if each.is_folder else each.path.parent for each in named]
    paths = dict.fromkeys(each.path for each in named)  # `.` and `./` are one folder
    return GatheredLocation(tuple(paths), told=os.path.commonpath(folders))


def _error(refused: Sequence[str], missing: Sequence[str]) -> SyncerError | None:
    problems = (*refused, *missing)
    message = first_few(problems, _NAMED)
    if refused:
        return ConfigurationError(message, hint=_HINT, problems=problems)
    if missing:
        return SourceMissing(message, hint=f"check the spelling; or {_HINT}", stage="upload")
    return None
