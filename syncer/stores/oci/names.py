"""Which names an image cannot hold safely: whoever unpacks it makes files of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from syncer.logs import logger
from syncer.stores.directory.faults import shown
from syncer.stores.directory.names import NameLimits, collisions, problem_of

_LIMITS: Final = NameLimits(component=255, path=4000)
"""What Linux's file systems take, with room for the folders that an image is unpacked below."""
_WHITEOUT: Final = ".wh."
MOST_LAYERS: Final = 125
"""What every container runtime mounts: Docker stops here, containers/storage (Podman, CRI-O) by its age at 128 or 500,
the kernel's overlayfs at 500.
"""


def name_problems(paths: Collection[str]) -> list[str]:
    """One line for each path that cannot be held, in order."""
    problems = {path: problem for path in paths if (problem := problem_of(path, _LIMITS) or _whiteout(path))}
    for path, problem in collisions(paths):
        problems.setdefault(path, problem)
    return [f"{shown(path)} {problems[path]}" for path in sorted(problems)]


def warn_of_layers(paths: Collection[str], name: str) -> None:
    """Say so before the first byte where an image of so many files is one that not every runtime can mount."""
    if len(paths) > MOST_LAYERS:
        logger(component="oci").warning(
            "layers_counted",
            image=name,
            layers=len(paths),
            reason=f'many a container runtime mounts no more than {MOST_LAYERS} layers ("max depth exceeded"), '
            "none more than 500; whoever fetches the image without mounting it is not concerned",
            hint="leave out what serving does not need (HUGGINGFACE_IGNORE_PATTERNS), or serve from a bucket or volume",
        )


def _whiteout(path: str) -> str:
    if any(part.startswith(_WHITEOUT) for part in path.split("/")):
        return f"begins with {_WHITEOUT}, by which an image says that a file is gone"
    return ""
