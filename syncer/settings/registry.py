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
_API: Final = re.compile(r"/api/model_registry(/v[0-9a-z]+)?/?$")
_DATABASE_PORT: Final = 3306
_DATABASE: Final = (
    "is the address of the MySQL database behind the registry, not of the registry: name its REST service, such as "
    "https://NAME-rest.apps.example.com or https://NAME.rhoai-model-registries.svc:8443"
)


def read_registry(reading: Reading) -> RegistryLocation | None:
    """The registry that the variables describe; None when there is none, or problems, which are left in `reading`."""
    variables = reading.variables
    if not variables.registry_url:
        return None
    before = len(reading.problems)
    endpoint = reading.attempt(_URL, _endpoint, variables.registry_url)
    if not variables.model_name and not reading.is_set(_NAME):
        place = reading.layers.place(_URL)
        reading.problems.append(
            f"{place} is set but {_NAME} is missing: what the model is to be called in the registry"
        )
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
    )


def _endpoint(text: str) -> str:
    """The service's URL; the path of its API, which people copy along, is found out anew."""
    scheme = text.partition("://")[0].lower() if "://" in text else ""
    if scheme in {"mysql", "jdbc:mysql", "mysqlx", "mariadb", "jdbc:mariadb"}:
        raise ValueError(_DATABASE)
    endpoint = parse_endpoint(text)
    if urlsplit(endpoint).port == _DATABASE_PORT:
        raise ValueError(_DATABASE)
    return _API.sub("", endpoint)


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
