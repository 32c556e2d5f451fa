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


OCI: Final = "Destination: ModelCar image"
STAGES: Final = "Compression"
LATER_KNOBS: Final = "Engine, in a later version"


class LaterVariables(BaseModel):
    """The variables whose time comes."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    oci_image: Text = variable("OCI_IMAGE", "", OCI, "`registry/repo:tag`, several separated by commas")
    oci_base_image: Text = variable("OCI_BASE_IMAGE", "", OCI, "Base image of the ModelCar")
    registry_auth_file: Text = variable("REGISTRY_AUTH_FILE", "", OCI, "Credentials for the image registry")
    docker_config: Text = variable("DOCKER_CONFIG", "", OCI, "Folder with Docker's `config.json`")

    compress: Text = variable("COMPRESS_MODEL", "", STAGES, "Compress on the way")

    bandwidth: Text = variable(
        "S3_SYNC_TRANSFER_CONFIG__BANDWIDTH", "", LATER_KNOBS, "Limit, such as `200MiB` a second"
    )
    digest: Text = variable("S3_SYNC_DIGEST", "sha256", LATER_KNOBS, "What proves the bytes; only `sha256` now")
    metrics_port: Text = variable("S3_SYNC_METRICS_PORT", "", LATER_KNOBS, "Port for metrics; no effect now")
    scratch: Text = variable("S3_SYNC_SCRATCH_DIR", "", LATER_KNOBS, "Scratch folder of compression; no effect now")


def refusals(variables: LaterVariables, *, skip: frozenset[str], explicit_destination: bool) -> Iterator[str]:
    """One line for everything that is asked for and that this version would silently leave out."""
    if variables.oci_image and not explicit_destination and "build-and-push-modelcar" not in skip:
        yield f"OCI_IMAGE: a ModelCar image {NOT_YET}; unset it or add build-and-push-modelcar to SKIP_TASKS"
    # Pipelines pass their parameters on as they are: "false" and "" both mean that nobody wants it.
    if variables.compress.lower() not in {"", "false", "no", "0", "off"} and "compress" not in skip:
        yield f"COMPRESS_MODEL: compression {NOT_YET}; set it to false or add compress-model to SKIP_TASKS"
    if variables.bandwidth:
        yield f"S3_SYNC_TRANSFER_CONFIG__BANDWIDTH: a bandwidth limit {NOT_YET}; unset it"
    if variables.digest.lower() != "sha256":
        yield f"S3_SYNC_DIGEST: any proof but sha256 {NOT_YET}; unset it"


def remarks(variables: LaterVariables) -> Iterator[str]:
    """One line for everything that is set, has no effect in this version, and harms nobody by that."""
    if variables.metrics_port:
        yield "S3_SYNC_METRICS_PORT has no effect: metrics are not in this version yet"
