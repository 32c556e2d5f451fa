"""What somebody on the way could read or forge, as remarks for each run: unchecked certificates, keys over plain http.

Tokens are another matter: who has read one is who it says.  They are refused over http, see `Reading.check_plaintext`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import urlsplit

from syncer.settings.locations import (
    ArchiveLocation,
    CosLocation,
    DestinationLocation,
    ImageLocation,
    Network,
    S3Location,
    SourceLocation,
)
from syncer.settings.reading import Reading

_OF_THE_CLUSTER: Final = (".svc", ".svc.cluster.local", ".localhost")

_Location = SourceLocation | DestinationLocation | None


def remarks(
    reading: Reading, source: _Location, destinations: Sequence[DestinationLocation], network: Network
) -> Iterator[str]:
    """One sentence for each thing that is open; nothing where all is as it should be."""
    ends = [(source, "S3_SYNC_SRC__VALIDATE_TLS")]
    ends += [(each, "S3_SYNC_DEST__VALIDATE_TLS") for each in destinations]
    for location, switch in ends:
        for endpoint in _unverified(location):
            if endpoint[:8] in {"", "https://"}:
                yield f"{reading.layers.place(switch)}: the certificate of {endpoint or 'AWS'} is not checked"
        for image in _images(location):
            yield from _of_image(image)
        if isinstance(location, S3Location) and _signs_in_the_open(location):
            yield (
                f"{location.uri}: {location.endpoint} is plain http and no address of the cluster: everybody on the "
                "way can read the model and change it, and sees the keys at work; use https://"
            )
    for scheme, address in network.proxies.items():
        if host := _proxy_outside_that_knows_us(address):
            yield (
                f"{reading.layers.place(f'{scheme.upper()}_PROXY')}: the login for the proxy {host}, no address of "
                "the cluster, travels over http: everybody on the way can read it"
            )


def is_near(host: str) -> bool:
    """Whether `host` is this machine, a Service of the cluster, or in a network that the internet does not reach."""
    name = host.strip("[]").rstrip(".").lower()
    try:
        return ipaddress.ip_address(name).is_private
    except ValueError:
        return "." not in name or name.endswith(_OF_THE_CLUSTER)


def _proxy_outside_that_knows_us(address: str) -> str:
    """The host of a proxy outside the cluster that is told user and password; empty for all others."""
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
    except ValueError:
        return ""  # whoever needs it says what is wrong with it
    host = parts.hostname or ""
    return host if parts.username is not None and host and not is_near(host) else ""


def _unverified(location: _Location) -> tuple[str, ...]:
    match location:
        case S3Location(validate_tls=False):
            return (location.endpoint,)
        case CosLocation(bucket=S3Location(validate_tls=False)):
            return location.bucket.endpoint, location.iam_endpoint
        case _:
            return ()


def _images(location: _Location) -> Iterator[ImageLocation]:
    """The image, and the base image that it stands on."""
    if isinstance(location, ImageLocation):
        yield location
    if isinstance(location, ImageLocation | ArchiveLocation) and isinstance(location.base, ImageLocation):
        yield location.base


def _of_image(image: ImageLocation) -> Iterator[str]:
    if image.validate_tls:
        return
    yield f"the certificate of {image.registry} is not checked"
    # Without the check a registry is also asked over http; the login goes along only where that is allowed.
    if image.logins and image.plaintext_tokens and not is_near(urlsplit(f"//{image.registry}").hostname or ""):
        yield (
            f"the login for {image.registry} travels over http where that registry speaks no https: everybody on the "
            "way can read it"
        )


def _signs_in_the_open(location: S3Location) -> bool:
    parts = urlsplit(location.endpoint)
    has_keys = location.access_key is not None or location.ambient_keys
    return parts.scheme == "http" and has_keys and not is_near(parts.hostname or "")
