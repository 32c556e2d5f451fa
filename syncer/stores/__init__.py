"""Where models come from and where they go: one module per kind of store, opened lazily.

A new store is one module, one line here and one line in `tests/contract/`.
"""

from __future__ import annotations

import importlib
from typing import Final, cast

from syncer.errors import ConfigurationError
from syncer.settings.locations import (
    ArchiveLocation,
    CosLocation,
    DestinationLocation,
    DirectoryLocation,
    GatheredLocation,
    HuggingFaceLocation,
    ImageLocation,
    Network,
    S3Location,
    SourceLocation,
    UploadedByHand,
)
from syncer.stores.abilities import Seen
from syncer.stores.protocols import Destination, Source

SOURCES: Final[dict[type, str]] = {
    S3Location: "syncer.stores.s3:S3Source",
    CosLocation: "syncer.stores.cos:CosSource",
    DirectoryLocation: "syncer.stores.directory:DirectorySource",
    HuggingFaceLocation: "syncer.stores.huggingface:HuggingFaceSource",
    UploadedByHand: "syncer.stores.uploaded:UploadedSource",
    GatheredLocation: "syncer.stores.gathered:GatheredSource",
    ImageLocation: "syncer.stores.oci.source:OciSource",
    ArchiveLocation: "syncer.stores.oci.source:OciSource",
}
DESTINATIONS: Final[dict[type, str]] = {
    S3Location: "syncer.stores.s3:S3Destination",
    DirectoryLocation: "syncer.stores.directory:DirectoryDestination",
    ImageLocation: "syncer.stores.oci.destination:OciDestination",
    ArchiveLocation: "syncer.stores.oci.archive_destination:ArchiveDestination",
}


def open_source(
    location: SourceLocation,
    network: Network,
    *,
    destination: Destination | None = None,
    former: Source | None = None,
) -> Source:
    """The source at `location`; `destination` is needed where the model was uploaded by hand.

    `former` is the source of an earlier attempt in this process, whose login goes on where it cannot be repeated.
    """
    kind = _load(SOURCES[type(location)])
    match location:
        case UploadedByHand():
            return cast("Source", kind(destination, verify=location.verify))
        case DirectoryLocation() | GatheredLocation():
            return cast("Source", kind(location))
        case CosLocation():
            return cast("Source", kind(location, network, former=former))
        case _:
            return cast("Source", kind(location, network))


def open_destination(
    location: DestinationLocation | None, network: Network, *, seen: Seen | None = None
) -> Destination:
    """The destination at `location`; `ConfigurationError` when there is none.

    `seen` is what this run knows of its stores already.
    """
    if location is None:
        raise ConfigurationError(
            "no destination is configured",
            hint="set S3_SYNC_DEST__PATH, or AWS_S3_BUCKET with its data connection",
        )
    kind = _load(DESTINATIONS[type(location)])
    match location:
        case DirectoryLocation():
            return cast("Destination", kind(location))
        case S3Location() | ImageLocation():
            return cast("Destination", kind(location, network, abilities=(seen or Seen()).at(location)))
        case _:
            return cast("Destination", kind(location, network))


def _load(path: str) -> type:
    module, _, name = path.partition(":")
    return cast("type", getattr(importlib.import_module(module), name))
