"""What the contract names and this version does not do yet.

The names are known, so that no Secret of the field is called a typo, and whoever asks for such a thing is told in one
sentence instead of getting half of it.  An issue that delivers something moves its variables to `variables.py` and
takes its refusal out of `refusals`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from syncer.settings.values import Text

NOT_YET: Final = "is not in this version yet"


def variable(name: str, default: Any, section: str, description: str) -> Any:
    """A field of the one definition: what the parser, the documentation and the search for typos know of a variable."""
    return Field(default=default, alias=name, description=description, json_schema_extra={"section": section})


LATER_KNOBS: Final = "Engine, in a later version"


class LaterVariables(BaseModel):
    """The variables whose time comes."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    bandwidth: Text = variable(
        "S3_SYNC_TRANSFER_CONFIG__BANDWIDTH", "", LATER_KNOBS, "Limit, such as `200MiB` a second"
    )
    digest: Text = variable("S3_SYNC_DIGEST", "sha256", LATER_KNOBS, "What proves the bytes; only `sha256` now")
    metrics_port: Text = variable("S3_SYNC_METRICS_PORT", "", LATER_KNOBS, "Port for metrics; no effect now")


def refusals(variables: LaterVariables) -> Iterator[str]:
    """One line for everything that is asked for and that this version would silently leave out."""
    if variables.bandwidth:
        yield f"S3_SYNC_TRANSFER_CONFIG__BANDWIDTH: a bandwidth limit {NOT_YET}; unset it"
    if variables.digest.lower() != "sha256":
        yield f"S3_SYNC_DIGEST: any proof but sha256 {NOT_YET}; unset it"


def remarks(variables: LaterVariables) -> Iterator[str]:
    """One line for everything that is set, has no effect in this version, and harms nobody by that."""
    if variables.metrics_port:
        yield "S3_SYNC_METRICS_PORT has no effect: metrics are not in this version yet"
