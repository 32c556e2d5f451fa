"""From the environment to `Settings`: the only part of this program that reads variables.

    settings = load(command_line=CommandLine(destination="/mnt/models"))

`variables` is the one definition of every variable, `layers` where values come from, `source` and `destination` which
form is meant, `rules` what does not go together, `effective` what may be shown, `secrets` what must be hidden.
"""

from __future__ import annotations

from syncer.settings.command_line import CommandLine
from syncer.settings.effective import effective, secrets
from syncer.settings.load import load
from syncer.settings.locations import Settings

__all__ = ["CommandLine", "Settings", "effective", "load", "secrets"]
