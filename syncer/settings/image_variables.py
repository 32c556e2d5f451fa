"""The variables of images: part of the one definition of all variables, see `variables.py`."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict

from syncer.settings.defining import variable
from syncer.settings.values import AbsolutePath, Flag, Text, Words

IMAGE: Final = "Destination: ModelCar image"


class ImageVariables(BaseModel):
    """Which images, and how their registries are reached; `images.py` and `registries.py` make sense of them."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, defer_build=True)

    oci_image: Words = variable(
        "OCI_IMAGE",
        "",
        IMAGE,
        "`registry/repository:tag`, several separated by commas; written beside the bucket that another form names. "
        "Without a tag it is `MODEL_VERSION` where that is set, else `latest`",
    )
    oci_base_image: Text = variable(
        "OCI_BASE_IMAGE",
        "",
        IMAGE,
        "Image that the ModelCar is built upon, `registry/repository:tag` or `oci-archive:/mnt/base.tar`; one with a "
        "shell for KServe's sidecar, none for volumes",
    )
    oci_validate_tls: Flag = variable(
        "OCI_VALIDATE_TLS",
        True,
        IMAGE,
        "Check the certificates of image registries; `false` also allows a registry that speaks plain http",
    )
    registry_auth_file: AbsolutePath = variable(
        "REGISTRY_AUTH_FILE",
        None,
        IMAGE,
        "File with logins for image registries, as `docker login` and `podman login` write it; the only one then",
    )
    docker_config: AbsolutePath = variable(
        "DOCKER_CONFIG", None, IMAGE, "Folder with such a file: `.dockerconfigjson`, `config.json` or `auth.json`"
    )
