"""Where the results of a run go.  Trouble with these places never changes how a run ends."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from syncer.settings.layers import Layers
from syncer.settings.locations import Reporting
from syncer.settings.reading import Reading
from syncer.settings.variables import parse

_USUAL: Final = Path("/dev/termination-log")
_TEKTONS_OWN: Final = "/tekton/"


def read_reporting(reading: Reading) -> Reporting:
    """The places; a termination message that would overwrite Tekton's own goes to the usual one instead."""
    variables = reading.variables
    message = posixpath.normpath(variables.termination_message)
    # POSIX keeps two leading slashes apart from one; Linux does not.
    message = "/" + message.lstrip("/") if message.startswith("/") else message
    if not message.startswith("/") or f"{message}/".startswith(_TEKTONS_OWN):
        why = "is Tekton's own" if message.startswith("/") else "is not an absolute path"
        reading.notes.append(f"TERMINATION_MESSAGE_PATH {why}; the message goes to {_USUAL} where that exists")
        message = str(_USUAL)
    return Reporting(
        termination_message=Path(message),
        results=variables.results or Reporting.results,
        workspace=variables.workspace,
        progress_interval=variables.progress_interval or Reporting.progress_interval,
        metrics_port=variables.metrics_port,
    )


def places_known_first(environ: Mapping[str, str]) -> Reporting:
    """The places as far as they can be known before everything else is; mistakes in them are reported by `load`."""
    said = {name: environ[name] for name in ("TERMINATION_MESSAGE_PATH", "RESULTS_DIR") if environ.get(name)}
    try:
        return read_reporting(Reading(parse([said]), Layers()))
    except ValidationError:
        return Reporting()
