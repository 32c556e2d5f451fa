"""The last step: the `model-source` Secret which says that the model is there, so that the Job completes."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from syncer.errors import ConfigurationError
from syncer.uploading.paths import Parcel

if TYPE_CHECKING:
    from syncer.cluster import Cluster

NAME: Final = "model-source"
_FLAG: Final = "S3_SYNC_LOCAL_UPLOAD_COMPLETE"
_DIRECTORY: Final = "S3_SYNC_DEST__DEFAULT_DIRECTORY"
_WHERE_A_JOB_LOOKS: Final = "models"
_TOOLS: Final = ("oc", "kubectl")


def content(parcels: Sequence[Parcel], prefix: str) -> dict[str, str]:
    """What the Secret says of a model that was uploaded below `prefix`.

    The Job looks for a model in `models/`; where it is elsewhere, as a folder that kept its name is, the Secret says
    so.  Raises `ConfigurationError` for several such folders, of which the Job could look at none.
    """
    folders = {parcel.folder for parcel in parcels}
    if "" not in folders and len(folders) > 1:
        raise ConfigurationError(
            "--finish would not know which of these folders the Job is to look at",
            hint="finish with the upload of the one that is to be served",
        )
    folder = prefix.strip("/") if "" in folders else f"{prefix}{folders.pop()}".strip("/")
    return {_FLAG: "true"} | ({_DIRECTORY: folder} if folder != _WHERE_A_JOB_LOOKS else {})


def finish(cluster: Cluster, namespace: str, name: str, values: Mapping[str, str]) -> str:
    """Create the Secret and tell so; where there is one it is left alone, and how to replace it is told instead."""
    if cluster.create_secret(namespace, name, values):
        return f"Created the Secret {namespace}/{name}: the Job that waits for it can complete."
    found = cluster.secret(namespace, name) or {}
    if all(found.get(key) == value for key, value in values.items()):
        return f"The Secret {namespace}/{name} is there already and says so: nothing to do."
    return f"The Secret {namespace}/{name} is there already and was left alone. To replace it:\n" + "\n".join(
        f"  {command}" for command in replacing(namespace, name, values)
    )


def next_step(namespace: str, name: str, values: Mapping[str, str]) -> str:
    """What a person does who did not ask for `--finish`."""
    lines = "\n".join(f"  {command}" for command in creating(namespace, name, values))
    return f"To let the Job complete, upload once more with --finish, or run one of these:\n{lines}"


def creating(namespace: str, name: str, values: Mapping[str, str]) -> tuple[str, ...]:
    """The commands that create the Secret, for `oc` and for `kubectl`."""
    said = " ".join(f"--from-literal={shlex.quote(f'{key}={value}')}" for key, value in values.items())
    return tuple(f"{tool} -n {namespace} create secret generic {name} {said}" for tool in _TOOLS)


def replacing(namespace: str, name: str, values: Mapping[str, str]) -> tuple[str, ...]:
    """The commands that put the Secret in the place of the one that is there."""
    commands = zip(_TOOLS, creating(namespace, name, values), strict=True)
    return tuple(f"{create} --dry-run=client -o yaml | {tool} -n {namespace} replace -f -" for tool, create in commands)
