"""What source, destination and wishes must not be together, however good each is by itself."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from syncer.settings.locations import (
    ArchiveLocation,
    CosLocation,
    DestinationLocation,
    DirectoryLocation,
    ImageLocation,
    S3Location,
    SourceLocation,
)
from syncer.settings.regions import DOMAIN
from syncer.settings.values import DeleteMode

_ON_VOLUMES = (DirectoryLocation, ArchiveLocation)
_DEFAULT_PORTS = {"http": 80, "https": 443}


def broken_rules(
    source: SourceLocation | None, destination: DestinationLocation | None, *, delete: DeleteMode
) -> Iterator[str]:
    """One line for each."""
    match source, destination:
        case S3Location(), S3Location():
            yield from _overlap_in_bucket(source, destination)
        case CosLocation(), S3Location():
            yield from _overlap_in_bucket(source.bucket, destination)
        case ImageLocation(), ImageLocation() if _image(source) == _image(destination):
            yield f"source and destination are the same place, {destination.uri}"
    if isinstance(source, _ON_VOLUMES) and isinstance(destination, _ON_VOLUMES):
        yield from _overlap(_real(source.path), _real(destination.path), source.uri, destination.uri)
    if delete == "all" and isinstance(destination, S3Location) and not destination.prefix:
        yield "S3_SYNC_DELETE=all is refused at the root of a bucket: give the destination a folder of its own"


def written_twice(destinations: Sequence[DestinationLocation]) -> Iterator[str]:
    """One line for each image that is named more than once."""
    images = Counter(_image(each) for each in destinations if isinstance(each, ImageLocation))
    for (registry, repository, tag), times in images.items():
        if times > 1:
            yield f"OCI_IMAGE names {registry}/{repository}:{tag} {times} times"


def broken_shares(share: int | None, shares: int | None) -> Iterator[str]:
    """One line for a pod that cannot tell which of the pods it is, or how many there are."""
    if shares is not None and shares > 1 and share is None:
        yield "S3_SYNC_SHARES: the pods of an Indexed Job share the work, and JOB_COMPLETION_INDEX is not set here"
    elif shares is not None and share is not None and share >= shares:
        yield f"S3_SYNC_SHARES is {shares}, and JOB_COMPLETION_INDEX counts from 0: it must be the Job's completions"
    elif shares is None and share:
        yield "S3_SYNC_SHARES must be the Job's completions: without it each pod would do the whole work"


def unshareable(
    source: SourceLocation | None, destinations: Sequence[DestinationLocation], *, compresses: bool
) -> Iterator[str]:
    """One line for each reason why several pods cannot share this work."""
    if len(destinations) > 1:
        yield f"S3_SYNC_SHARES: pods share the work for one destination, not for {len(destinations)}"
    if images := [each.uri for each in destinations if isinstance(each, ImageLocation | ArchiveLocation)]:
        yield f"S3_SYNC_SHARES: an image is pushed by one pod, {images[0]} too: set S3_SYNC_SHARES=1"
    if compresses:
        yield "S3_SYNC_SHARES: one pod compresses a model: set S3_SYNC_SHARES=1, or COMPRESS_MODEL=false"
    if isinstance(source, CosLocation) and source.logs_in_once:
        yield (
            "S3_SYNC_SHARES: S3_SYNC_COS_TEMPORARY_PASSCODE lets one pod log in: give S3_SYNC_COS_API_KEY, "
            "or set S3_SYNC_SHARES=1"
        )


def same_service(one: S3Location, other: S3Location) -> bool:
    """Whether both are at the same service; all of AWS is one, and all of IBM COS: a bucket's name is unique there."""
    return _service(one.endpoint) == _service(other.endpoint)


def _image(location: ImageLocation) -> tuple[str, str, str]:
    return location.registry, location.repository, location.digest or location.tag


def _overlap_in_bucket(source: S3Location, destination: S3Location) -> Iterator[str]:
    if source.bucket != destination.bucket or not same_service(source, destination):
        return
    # A source without a slash at its end may be a folder or one object; neither may lie in the other end's folder.
    yield from _overlap(source.folder, destination.prefix, source.uri, destination.uri)


def _overlap(source: str, destination: str, source_uri: str, destination_uri: str) -> Iterator[str]:
    if source == destination:
        yield f"source and destination are the same place, {destination_uri}"
    elif destination.startswith(source):
        yield f"the destination {destination_uri} lies inside the source {source_uri}"
    elif source.startswith(destination):
        yield f"the source {source_uri} lies inside the destination {destination_uri}"


def _real(path: Path) -> str:
    """The place itself, whatever links lead there, with a slash at its end."""
    return os.path.realpath(path).rstrip("/") + "/"


def _service(endpoint: str) -> tuple[str, int | None, str]:
    parts = urlsplit(endpoint)
    host = (parts.hostname or "").rstrip(".")
    if not endpoint or host.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        return "amazonaws.com.cn" if host.endswith(".cn") else "amazonaws.com", None, ""
    if host.endswith(f".{DOMAIN}"):
        return DOMAIN, None, ""
    return host, parts.port or _DEFAULT_PORTS[parts.scheme], parts.path
