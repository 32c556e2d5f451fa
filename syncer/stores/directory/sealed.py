"""A folder that a run has sealed, as a source: where its files were before, and what their bytes have to be."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from syncer.claims import from_json
from syncer.manifest import BY_HAND, DigestName, Digests, Listing, Manifest, ModelFile, Origin, taking_records
from syncer.stores.directory.control import DirectoryControl

_MANIFEST: Final = "manifest.json"
_SEAL: Final = "complete.json"
_PROOFS: Final[tuple[DigestName, ...]] = ("sha256", "crc64nvme")


def sealed_manifest(control: DirectoryControl, listing: Listing) -> Manifest | None:
    """The manifest of the folder that `listing` shows; None unless it is sealed and as the manifest says.

    Paths, sizes and versions are compared, and no byte is read.
    """
    seal = _document(control, _SEAL)
    document = None if seal is None else _document(control, _MANIFEST, listing)
    if seal is None or document is None:
        return None
    try:
        manifest = Manifest.from_json(document)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None
    as_proved = manifest.files.keys() == listing.files.keys() and all(
        (record.size, record.destination_version) == (listing.files[path].size, listing.files[path].version)
        for path, record in manifest.files.items()
    )
    return manifest if as_proved and seal.get("manifest") == manifest.fingerprint else None


def origin_of(manifest: Manifest) -> Origin | None:
    """Where the files were before they came to this folder; None where people brought them."""
    if manifest.origin is not None or not manifest.source:
        return manifest.origin
    return None if manifest.source == BY_HAND else Origin(manifest.source, manifest.revision)


def with_digests(listing: Listing, manifest: Manifest) -> Listing:
    """`listing` with the digest that each file had when it was proved: what has another one by now is damaged."""

    def expected(file: ModelFile) -> ModelFile:
        digests = manifest.files[file.path].digests
        known: Mapping[DigestName, str] = {name: digests[name] for name in _PROOFS if name in digests}
        return dataclasses.replace(file, digests=Digests.of(known)) if known else file

    return dataclasses.replace(listing, files={path: expected(file) for path, file in listing.files.items()})


def _document(control: DirectoryControl, name: str, *listings: Listing) -> Mapping[str, Any] | None:
    found = control.read(name)
    try:
        document = None if found is None else from_json(found[0], taking_records(*listings))
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
