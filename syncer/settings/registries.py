"""Logins for image registries, from the files that Docker, Podman and Kubernetes keep them in.

`REGISTRY_AUTH_FILE` stands alone.  Without it the files are asked in this order, and the first that knows a scope wins:
the folder `DOCKER_CONFIG`, the mounted Secret of the end that the image is, and what `docker login` and `podman login`
leave (containers-auth.json(5), `$XDG_RUNTIME_DIR/containers/auth.json` and `~/.docker/config.json`).  Programs that a
file names to ask for a login are not run.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import SecretStr

from syncer.claims import from_json
from syncer.settings.layers import read_small
from syncer.settings.locations import RegistryLogin
from syncer.settings.reading import Reading
from syncer.settings.values import undecodable

AUTH_FILE: Final = "REGISTRY_AUTH_FILE"
DOCKER: Final = "DOCKER_CONFIG"
_NAMES: Final = (".dockerconfigjson", "config.json", "auth.json")
"""What the file is called in a Secret of type `kubernetes.io/dockerconfigjson`, by Docker, and by Podman."""

_DOCKER_HUB: Final = frozenset({"index.docker.io", "registry-1.docker.io"})
_API: Final = re.compile(r"/v[12]$")


@dataclass(frozen=True)
class _File:
    """A file of logins: what the user would call it, and whether the user has named it."""

    place: str
    path: str
    named: bool = True


def logins_for(reading: Reading, registry: str, *, end: Literal["SRC", "DEST"]) -> tuple[RegistryLogin, ...]:
    """Every login for `registry` (a host, perhaps with a port) and for what is below it.

    What cannot be understood is a problem, and so is a registry for which there is only a program to ask.
    """
    logins: dict[str, RegistryLogin] = {}
    helpers: list[str] = []
    for file in _files(reading, end):
        document = _document(reading, file)
        for scope, entry in _entries(document, registry):
            try:
                login = _login(scope, entry)
            except ValueError as error:
                _report(reading, f"{file.place}: the login for {registry} {error}")
                continue
            if login is not None:
                logins.setdefault(scope, login)
        helped = document.get("credHelpers")
        if document.get("credsStore") or (isinstance(helped, dict) and registry in helped):
            helpers.append(file.place)
    if helpers and not logins:
        _report(
            reading,
            f"{helpers[0]} names a credential helper for {registry}, a program that is not here: use a file with the "
            "login itself, such as a Secret of type kubernetes.io/dockerconfigjson",
        )
    reading.secrets += [
        secret for login in logins.values() for secret in (login.password, login.identity_token) if secret is not None
    ]
    return tuple(logins.values())


def _files(reading: Reading, end: str) -> Iterator[_File]:
    """The files that are there, the one that wins first."""
    variables, layers = reading.variables, reading.layers
    if variables.registry_auth_file is not None:
        yield _File(layers.place(AUTH_FILE), str(variables.registry_auth_file))
        return
    if variables.docker_config is not None:
        place, folder = layers.place(DOCKER), str(variables.docker_config)
        files = list(_in_folder(place, folder))
        if not files:
            note = f"{place} names a folder that has none of {', '.join(_NAMES)}; it is not used"
            if note not in reading.notes:
                reading.notes.append(note)
        yield from files
    secret = variables.src_folder if end == "SRC" else variables.dest_folder
    if secret is not None:
        yield from _in_folder(f"S3_SYNC_{end}__CREDENTIALS_DIR", str(secret))
    for variable, rest in (("XDG_RUNTIME_DIR", "containers/auth.json"), ("HOME", ".docker/config.json")):
        folder = layers.surroundings.get(variable, "")
        path = f"{folder}/{rest}"
        if folder.startswith("/") and os.path.isfile(path):  # noqa: PTH113 - Path's raises if forbidden
            yield _File(f"${variable}/{rest}", path, named=False)


def _in_folder(place: str, folder: str) -> Iterator[_File]:
    for name in _NAMES:
        path = f"{folder}/{name}"
        if os.path.lexists(path):
            yield _File(f"{place}/{name}", path)


def _document(reading: Reading, file: _File) -> dict[str, Any]:
    """The file as an object with `auths`; empty, and a problem, for anything else."""
    try:
        text = read_small(file.path)
        try:
            document = from_json(text) if text.strip() else {}
        except ValueError:
            raise ValueError('is no JSON: it must be as `docker login` writes it, {"auths": {…}}') from None
        auths = document.get("auths") or {} if isinstance(document, dict) else None
        if not isinstance(auths, dict) or not all(isinstance(entry, dict) for entry in auths.values()):
            raise ValueError('must be as `docker login` writes it, {"auths": {"quay.io": {"auth": …}}}')
    except ValueError as error:
        if file.named:
            _report(reading, f"{file.place} {error}")
        elif (note := f"{file.place} {error}; it is not used") not in reading.notes:
            reading.notes.append(note)
        return {}
    return dict(document)


def _entries(document: Mapping[str, Any], registry: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What the file has for `registry` and for what is below it, by scope."""
    for key, entry in (document.get("auths") or {}).items():
        scope = _scope(key)
        if scope.partition("/")[0] == registry:
            yield scope, entry


def _scope(key: str) -> str:
    """The key of an entry as `host` or `host/path`; Docker writes old ones as the URL of an API."""
    bare = re.sub(r"(?i)^https?://", "", key).rstrip("/")
    bare = _API.sub("", bare)
    host, slash, path = bare.partition("/")
    host = host.lower()
    return f"{'docker.io' if host in _DOCKER_HUB else host}{slash}{path}"


def _login(scope: str, entry: Mapping[str, Any]) -> RegistryLogin | None:
    """One entry; None for an empty one, which Docker writes where a program keeps the login."""
    username, password = entry.get("username"), entry.get("password")
    if auth := entry.get("auth"):
        username, password = _decoded(auth)
    token = entry.get("identitytoken")
    values = [value or "" for value in (username, password, token)]
    if not all(isinstance(value, str) and not undecodable(value) for value in values):
        raise ValueError("must have text for auth, username, password and identitytoken")
    username, password, token = values
    if not (username and password) and not token:
        return None
    return RegistryLogin(
        scope,
        username=username,
        password=SecretStr(password) if password and not token else None,
        identity_token=SecretStr(token) if token else None,
    )


def _decoded(auth: object) -> tuple[str, str]:
    try:
        text = base64.b64decode(auth.strip() if isinstance(auth, str) else b"", validate=True).decode()
    except ValueError:
        text = ""
    username, colon, password = text.rstrip("\0").partition(":")
    if not colon:
        raise ValueError("has an auth that is not base64 of user:password")
    return username, password


def _report(reading: Reading, problem: str) -> None:
    if problem not in reading.problems:
        reading.problems.append(problem)
