"""The Model Registry: where it is, who we are there, and what the model is called."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from syncer.settings.addresses import parse_endpoint
from syncer.settings.locations import RegistryLocation
from syncer.settings.reading import Reading

SERVICE_ACCOUNT_TOKEN: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
"""Where Kubernetes mounts the token of a pod's ServiceAccount, and exchanges it about once an hour."""

_URL: Final = "MODEL_REGISTRY_URL"
_TOKEN: Final = "MODEL_REGISTRY_TOKEN"  # noqa: S105 - the name of a variable
_NAME: Final = "MODEL_NAME"
_VERSION: Final = "MODEL_VERSION"
_LONGEST_NAME: Final = 200
"""The registry's database keeps 255 characters, with the parent's id before them."""
_API: Final = re.compile(r"/api/model_registry(/.*)?$")
_DATABASES: Final = {3306: "MySQL", 5432: "PostgreSQL"}
_DATABASE_SCHEMES: Final = {
    "mysql": "MySQL",
    "mysqlx": "MySQL",
    "mariadb": "MySQL",
    "postgres": "PostgreSQL",
    "postgresql": "PostgreSQL",
}
_CLAIM: Final = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(/[^/\s]+)*")


def read_registry(reading: Reading) -> RegistryLocation | None:
    """The registry that the variables describe; None when there is none, or problems, which are left in `reading`."""
    variables = reading.variables
    if not variables.registry_url:
        return None
    before = len(reading.problems)
    for name, text in ((_NAME, variables.model_name), (_VERSION, variables.model_version)):
        if len(text) > _LONGEST_NAME or not text.isprintable():
            reading.problems.append(
                f"{reading.layers.place(name)} must have at most {_LONGEST_NAME} characters, all of them printable: "
                "it becomes a name in the registry"
            )
    endpoint = reading.attempt(_URL, _endpoint, variables.registry_url)
    if not variables.model_name and not reading.is_set(_NAME):
        place = reading.layers.place(_URL)
        reading.problems.append(
            f"{place} is set but {_NAME} is missing: what the model is to be called in the registry"
        )
    claim = reading.attempt("MODEL_REGISTRY_CLAIM", _claim, variables.registry_claim) or ""
    if variables.registry_token is not None:
        reading.check_token(_TOKEN, variables.registry_token, "token")
        reading.check_plaintext(_URL, endpoint or "")
    if endpoint is None or not variables.model_name or len(reading.problems) > before:
        return None
    return RegistryLocation(
        endpoint=endpoint,
        model=variables.model_name,
        version=variables.model_version,
        token=variables.registry_token,
        token_file=None if variables.registry_token else _token_file(reading, endpoint),
        author=variables.registry_author,
        storage_key=variables.registry_storage_key,
        claim=claim,
    )


def _endpoint(text: str) -> str:
    """The service's URL; the path of its API, which people copy along, is found out anew."""
    scheme = text.partition("://")[0].lower().removeprefix("jdbc:") if "://" in text else ""
    endpoint = "" if scheme in _DATABASE_SCHEMES else parse_endpoint(text)
    if kind := _DATABASE_SCHEMES.get(scheme) or _DATABASES.get(urlsplit(endpoint).port or 0):
        raise ValueError(
            f"is the address of the {kind} database behind the registry, not of the registry: name its REST service, "
            "such as https://NAME-rest.apps.example.com or https://NAME.rhoai-model-registries.svc:8443"
        )
    return _API.sub("", endpoint)


def _claim(text: str) -> str:
    """`claim/path`, as behind `pvc://` in an InferenceService."""
    claim = text.removeprefix("pvc://").rstrip("/")
    if claim and (_CLAIM.fullmatch(claim) is None or {".", ".."} & set(claim.split("/"))):
        raise ValueError(
            "must be the name of a PersistentVolumeClaim and the path in it, such as model-storage/granite"
        )
    return claim


def _token_file(reading: Reading, endpoint: str) -> Path | None:
    """The ServiceAccount's token, which every pod has: where it must not travel, that is a note and no problem."""
    try:
        if not SERVICE_ACCOUNT_TOKEN.is_file():
            return None
    except OSError:
        return None
    if endpoint.startswith("http://") and not reading.variables.plaintext_tokens:
        reading.notes.append(
            f"{reading.layers.place(_URL)} is an http:// address: the ServiceAccount's token is not sent there; "
            "S3_SYNC_ALLOW_PLAINTEXT_TOKENS=true would send it"
        )
        return None
    return SERVICE_ACCOUNT_TOKEN
