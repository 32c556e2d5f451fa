"""The environment of a process that we start ourselves: ours, without anything that this program is told by it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from syncer.settings.layers import FILE_SUFFIX
from syncer.settings.variables import known_names

_ENV: Final = os.environ
_OF_LIBRARIES: Final = ("AWS_", "HF_", "HUGGING", "S3_SYNC_", "TRANSFORMERS_", "DATASETS_", "LLM_COMPRESSOR_")
"""What libraries in the child would obey, or find a secret in, without anybody having said so here."""


def inherited(told: Mapping[str, str], environ: Mapping[str, str] = _ENV) -> dict[str, str]:
    """What the child gets: `told`, and of ours what is none of this program's (paths, devices, locale).  No secret."""
    ours = known_names() | {name + FILE_SUFFIX for name in known_names()}
    ours |= {name.upper() for name in ours} | {name.lower() for name in ours}
    kept = {name: value for name, value in environ.items() if name not in ours and not name.startswith(_OF_LIBRARIES)}
    return kept | dict(told)
