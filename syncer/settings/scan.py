"""Names that begin with `S3_SYNC_` and that nobody knows: nearly always a typo, which would be passed over silently."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

from syncer.settings.layers import FILE_SUFFIX

_PREFIX: Final = "S3_SYNC_"
_OF_A_SERVICE: Final = ("S3_SYNC_SERVICE_", "S3_SYNC_PORT")
"""What Kubernetes injects for a Service called `s3-sync`."""

_LONGEST: Final = 80


def unknown_names(environ: Iterable[str], known: frozenset[str]) -> list[str]:
    """One problem for every unknown name, with the known one that it looks most like."""
    ours = {name for name in known if name.startswith(_PREFIX)}
    allowed = ours | {name + FILE_SUFFIX for name in ours}
    return [_problem(name, allowed) for name in sorted(environ) if _is_unknown(name, allowed)]


def _is_unknown(name: str, allowed: set[str]) -> bool:
    return name.startswith(_PREFIX) and name not in allowed and not name.startswith(_OF_A_SERVICE)


def _problem(name: str, allowed: set[str]) -> str:
    # The nearest name, and on a draw the one that comes first: sets have no order that could be relied on.
    nearest = difflib.get_close_matches(name[:_LONGEST].upper(), sorted(allowed), n=1, cutoff=0.6)
    printed = ascii(name[:_LONGEST])[1:-1]
    if nearest:
        return f"{printed} is no known variable; did you mean {nearest[0]}?"
    return f"{printed} is no known variable; docs/settings.md lists all"
