"""Hugging Face as the source: which model and revision, at which Hub, with which token."""

from __future__ import annotations

from typing import Final

from pydantic import SecretStr

from syncer.settings.addresses import parse_endpoint
from syncer.settings.layers import read_small
from syncer.settings.locations import DestinationLocation, DirectoryLocation, HuggingFaceLocation
from syncer.settings.reading import Reading
from syncer.settings.repositories import Repository, is_hub_address, parse_repository, parse_revision
from syncer.settings.values import absolute_path, one_line

_PATH: Final = "S3_SYNC_SRC__PATH"
_MODEL: Final = "HUGGINGFACE_MODEL"
_REVISION: Final = "HUGGINGFACE_REVISION"
_ENDPOINT: Final = "HF_ENDPOINT"
_FILE: Final = "HF_TOKEN_PATH"
_OFFLINE: Final = "HF_HUB_OFFLINE"
_XET: Final = "S3_SYNC_HF_XET"
_VALIDATE: Final = "S3_SYNC_SRC__VALIDATE_TLS"


def hub_asked(reading: Reading) -> str:
    """The variable that asks for a model of the Hub, else empty."""
    if is_hub_address(reading.variables.src_path):
        return reading.layers.place(_PATH)
    return reading.layers.place(_MODEL) if reading.variables.hub_model else ""


def choose_hub(reading: Reading, destination: DestinationLocation | None) -> HuggingFaceLocation | None:
    """The model that the variables describe; None when there are problems, which are left in `reading`."""
    variables = reading.variables
    before = len(reading.problems)
    repository = _repository(reading)
    endpoint = reading.attempt(_ENDPOINT, parse_endpoint, variables.hf_endpoint)
    token = choose_token(reading)
    if token is not None:
        reading.check_plaintext(_ENDPOINT, endpoint or "")
    if offline := forbidden_by(reading):
        reading.problems.append(
            f"{offline} forbids to ask the Hugging Face Hub: unset it, or take the model from a directory or a bucket"
        )
    volume = isinstance(destination, DirectoryLocation)
    if variables.hf_xet and destination is not None and not volume:
        reading.notes.append(f"{reading.layers.place(_XET)} has no effect: the destination is no directory")
    if not variables.src_validate_tls:
        reading.notes.append(
            f"{reading.layers.place(_VALIDATE)} has no effect: the Hub's certificate is always checked"
        )
    if repository is None or endpoint is None or len(reading.problems) > before:
        return None
    return HuggingFaceLocation(
        repository=repository.name,
        revision=repository.revision,
        allow=variables.hub_allow,
        ignore=variables.hub_ignore,
        token=token,
        endpoint=endpoint,
        xet=variables.hf_xet and volume,
        plaintext_tokens=variables.plaintext_tokens,
    )


def forbidden_by(reading: Reading) -> str:
    """The variable that forbids it, else empty.  The Hub's own client obeys these two too, and in this order."""
    name = _OFFLINE if reading.is_set(_OFFLINE) else "TRANSFORMERS_OFFLINE"
    variables = reading.variables
    meant = variables.hf_offline if name == _OFFLINE else variables.transformers_offline
    return reading.layers.place(name) if meant else ""


def _repository(reading: Reading) -> Repository | None:
    """The one repository and revision that all variables agree on."""
    variables = reading.variables
    path = variables.src_path if is_hub_address(variables.src_path) else ""
    named = {
        name: reading.attempt(name, parse_repository, text)
        for name, text in ((_PATH, path), (_MODEL, variables.hub_model))
        if text
    }
    revision = reading.attempt(_REVISION, parse_revision, variables.hub_revision) if variables.hub_revision else ""
    found = {name: repository for name, repository in named.items() if repository is not None}
    if len({repository.name for repository in found.values()}) > 1:
        one, other = map(reading.layers.place, found)
        reading.problems.append(f"2 sources at once: {one} and {other} name different models; unset one of them")
        return None
    revisions = {name: repository.revision for name, repository in found.items() if repository.revision}
    if revision:
        revisions[_REVISION] = revision
    if len(set(revisions.values())) > 1:
        places = " and ".join(map(reading.layers.place, revisions))
        reading.problems.append(f"{places} name different revisions; say only one of them")
        return None
    if len(found) < len(named) or not found or revision is None:
        return None
    name = next(iter(found.values())).name
    return Repository(name, next(iter(revisions.values()), ""))


def choose_token(reading: Reading) -> SecretStr | None:
    """The first token that there is; a file with one is read only where no variable holds it."""
    variables = reading.variables
    tokens = (
        ("HF_TOKEN", variables.hf_token),
        ("HUGGINGFACE_TOKEN", variables.huggingface_token),
        ("HUGGING_FACE_HUB_TOKEN", variables.hub_token),
    )
    given = [(name, token) for name, token in tokens if token]
    if not given:
        return _token_of_file(reading) if variables.hf_token_path else None
    (name, token), *others = given
    reading.check_token(name, token, "access token")
    unused = [other for other, another in others if another != token]
    unused += [_FILE] if variables.hf_token_path else []
    if unused:
        places = ", ".join(map(reading.layers.place, unused))
        reading.notes.append(f"the token of the Hub is that of {reading.layers.place(name)}; not used: {places}")
    return token


def _token_of_file(reading: Reading) -> SecretStr | None:
    text = reading.attempt(_FILE, _content, reading.variables.hf_token_path)
    if text is None:
        return None
    token = SecretStr(text)
    reading.check_token(_FILE, token, "access token")
    return token


def _content(path: str) -> str:
    text = read_small(str(absolute_path(path))).strip().removeprefix("\ufeff").strip()
    if not text:
        raise ValueError("names a file that is empty")
    return one_line(text)
