"""The configuration as a run uses it, fit for the first log line: no secret in it, only whether there is one."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from syncer.redaction import MASK
from syncer.settings.locations import (
    ArchiveLocation,
    Compression,
    CosLocation,
    DirectoryLocation,
    GatheredLocation,
    HubDataset,
    HuggingFaceLocation,
    ImageLocation,
    Network,
    RegistryLocation,
    RegistryLogin,
    S3Location,
    Settings,
    UploadedByHand,
)


def effective(settings: Settings) -> dict[str, Any]:
    """All that is set or chosen, as values that JSON can hold, without what is empty."""
    transfer, reporting = settings.transfer, settings.reporting
    return _filled(
        {
            "source": _location(settings.source),
            "destination": _location(settings.destination),
            "further_destinations": [_filled(_location(each)) for each in settings.further],
            "network": {
                "ca_files": [str(path) for path in settings.network.ca_files],
                "proxies": {scheme: _without_login(url) for scheme, url in settings.network.proxies.items()},
                "no_proxy": settings.network.no_proxy,
            },
            "transfer": {
                "chunk_size": transfer.chunk_size,
                "max_files": transfer.max_files,
                "max_threads_per_file": transfer.max_threads_per_file,
                "memory": transfer.memory,
                "bandwidth": transfer.bandwidth and str(transfer.bandwidth),
                "digest": settings.digest,
                "force": transfer.force,
            },
            "reporting": {
                "termination_message": str(reporting.termination_message),
                "results": str(reporting.results),
                "workspace": str(reporting.workspace or ""),
                "progress_interval": reporting.progress_interval,
                "metrics_port": reporting.metrics_port,
            },
            "delete": settings.delete,
            "share": dataclasses.asdict(settings.share) if settings.share else {},
            "deadline": settings.deadline,
            "wait_for_destination": settings.wait_for_destination,
            "skip": sorted(settings.skip),
            "stage": settings.stage,
            "model_name": settings.model_name,
            "model_version": settings.model_version if settings.model_name else "",
            "registry": _registry(settings.registry),
            "compression": _compression(settings.compression),
            "variables": sorted(settings.origins),
            "from": {name: place for name, place in settings.origins.items() if place != name},
        }
    )


def secrets(settings: Settings) -> list[str]:
    """Every secret value that the environment held, needed or not; for the log's redaction and for nothing else."""
    found = [secret.get_secret_value() for secret in settings.every_secret]
    for location in (settings.source, *settings.destinations):
        found += [secret.get_secret_value() for secret in _secrets_of(location) if secret is not None]
    return list(dict.fromkeys([*found, *_logins(settings.network)]))


def _secrets_of(location: object) -> tuple[SecretStr | None, ...]:
    match location:
        case S3Location():
            return location.access_key, location.secret_key, location.session_token
        case CosLocation():
            return location.passcode, location.api_key
        case HuggingFaceLocation():
            return (location.token,)
        case ImageLocation():
            return (*_secrets_of_logins(location.logins), *_secrets_of(location.base))
        case ArchiveLocation():
            return _secrets_of(location.base)
        case _:
            return ()


def _secrets_of_logins(logins: Iterable[RegistryLogin]) -> Iterator[SecretStr | None]:
    """Also user and password as they travel, and as they stand in their file."""
    for login in logins:
        yield login.password
        yield login.identity_token
        if login.password is not None:
            pair = f"{login.username}:{login.password.get_secret_value()}"
            yield SecretStr(base64.b64encode(pair.encode()).decode())


def _location(location: object) -> dict[str, Any]:
    match location:
        case S3Location():
            return {
                "uri": location.uri,
                "endpoint": location.endpoint or "AWS",
                "region": location.region,
                "access_key": _masked(location.access_key),
                "secret_key": _masked(location.secret_key),
                "session_token": _masked(location.session_token),
                "validate_tls": location.validate_tls,
                "ambient_keys": None if location.access_key else location.ambient_keys,
            }
        case CosLocation():
            return {
                "uri": location.uri,
                "endpoint": location.bucket.endpoint,
                "region": location.bucket.region,
                "passcode": _masked(location.passcode),
                "api_key": _masked(location.api_key),
                "iam_endpoint": location.iam_endpoint,
                "token_cache": str(location.token_cache or ""),
                "validate_tls": location.bucket.validate_tls,
                "plaintext_tokens": location.plaintext_tokens,
            }
        case HuggingFaceLocation():
            return {
                "uri": location.uri,
                "endpoint": location.endpoint,
                "token": _masked(location.token),
                "allow": list(location.allow),
                "ignore": list(location.ignore),
                "xet": location.xet,
                "plaintext_tokens": location.plaintext_tokens,
            }
        case ImageLocation():
            return {
                "uri": location.uri,
                "logins": sorted(login.scope for login in location.logins),
                "base": location.base.uri if location.base else "",
                "validate_tls": location.validate_tls,
                "plaintext_tokens": location.plaintext_tokens,
            }
        case ArchiveLocation():
            return {"uri": location.uri, "base": location.base.uri if location.base else ""}
        case DirectoryLocation() | GatheredLocation():
            return {"uri": location.uri}
        case UploadedByHand():
            return {"uri": location.uri, "verify": location.verify}
        case _:
            return {}


def _registry(location: RegistryLocation | None) -> dict[str, Any]:
    if location is None:
        return {}
    return {
        "endpoint": location.endpoint,
        "model": location.model,
        "version": location.version,
        "token": _masked(location.token),
        "token_file": str(location.token_file or ""),
        "author": location.author,
        "storage_key": location.storage_key,
        "claim": location.claim,
    }


def _compression(wanted: Compression | None) -> dict[str, Any]:
    if wanted is None:
        return {}
    data = wanted.dataset
    return {
        "scheme": wanted.scheme,
        "algorithm": wanted.algorithm,
        "group_size": wanted.group_size or None,
        "dataset": data.name if isinstance(data, HubDataset) else str(data or ""),
        "dataset_token": _masked(data.token) if isinstance(data, HubDataset) else "",
        "sequence_length": wanted.sequence_length if data else None,
        "samples": wanted.samples if data else None,
        "ignore": list(wanted.ignore),
        "scratch": str(wanted.scratch or ""),
    }


def _masked(secret: SecretStr | None) -> str:
    return MASK if secret else ""


def _without_login(url: str) -> str:
    """A proxy's URL without user and password, whatever else is wrong with it."""
    scheme, separator, rest = url.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _logins(network: Network) -> list[str]:
    """Proxy URLs that hold a password, and the password as it is written and as it is meant."""
    found = []
    for url in network.proxies.values():
        if "@" not in url:
            continue
        found.append(url)
        try:
            password = urlsplit(url if "://" in url else f"http://{url}").password or ""
        except ValueError:
            continue
        found += [part for part in dict.fromkeys((password, unquote(password))) if part]
    return found


def _filled(values: dict[str, Any]) -> dict[str, Any]:
    """`values` without what is empty, all the way down; zero and False mean something."""
    result = {}
    for name, value in values.items():
        kept = _filled(value) if isinstance(value, dict) else value
        if kept is not None and kept != "" and kept not in ({}, []):
            result[name] = kept
    return result
