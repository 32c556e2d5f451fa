"""IBM Cloud Object Storage's regions and their hosts.

IBM serves the same list, with every host, at `https://control.cloud-object-storage.cloud.ibm.com/v2/endpoints`; it is
written down here because a cluster may reach the store and not that page.
"""

from __future__ import annotations

import re
from typing import Final

from syncer.settings.values import EndpointKind

GEOS: Final = ("ap", "eu", "us")
"""Cross-region: IBM calls them `us-geo`, their hosts `s3.us.…`."""

REGIONS: Final = (
    "au-syd", "br-sao", "ca-mon", "ca-tor", "eu-de", "eu-es", "eu-gb", "in-che", "in-mum", "jp-osa", "jp-tok",
    "us-east", "us-south",
)  # fmt: skip
SITES: Final = ("ams03", "che01", "mon01", "par01", "sjc04", "sng01")
"""Single data centers."""

DOMAIN: Final = "cloud-object-storage.appdomain.cloud"
_KNOWN: Final = frozenset(GEOS + REGIONS + SITES)
_CLASS: Final = re.compile(r"-(standard|vault|cold|flex|smart|onerate-active)$")
"""A bucket's storage class, which the console and the location constraint write behind the region."""


def parse_region(text: str) -> str:
    """The region as its host has it: `us-geo` is `us`, `US-South-smart` is `us-south`."""
    region = bare_region(text)
    if region not in _KNOWN:
        known = ", ".join([*(f"{geo}-geo" for geo in GEOS), *REGIONS, *SITES])
        raise ValueError(f"must be one of IBM's regions: {known}; for another one set S3_SYNC_COS_ENDPOINT")
    return region


def bare_region(text: str) -> str:
    """`text` as a region's name without geo and storage class, known or not; empty for what cannot be a name."""
    region = _CLASS.sub("", "-".join(text.lower().replace("_", "-").split()))
    geo = region.removesuffix("-geo")
    region = geo if geo in GEOS else region
    return region if re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,62}", region) else ""


def endpoint_of(region: str, kind: EndpointKind) -> str:
    """The URL of a region's endpoint on the public, the private or the direct (VPC) network."""
    network = "" if kind == "public" else f"{kind}."
    return f"https://s3.{network}{region}.{DOMAIN}"
