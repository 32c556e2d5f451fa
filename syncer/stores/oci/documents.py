"""Manifests and indexes that others wrote, as values: bounded, and refused by name where they make no sense.

The formats are those of the OCI image specification 1.1 and of Docker's image manifest, version 2, schema 2; the fields
that we read are called the same in both.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from syncer.claims import from_json, is_size
from syncer.errors import ConfigurationError, WrongBytes
from syncer.stores.oci.depot import Document

LARGEST_DOCUMENT: Final = 4 * 1024 * 1024
"""What registries have to take (distribution specification 1.1); nobody writes larger ones."""
MOST_DESCRIPTORS: Final = 10_000
DEEPEST_INDEX: Final = 3

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_MANIFESTS: Final = frozenset(
    {"application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"}
)
_INDEXES: Final = frozenset(
    {"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"}
)
ACCEPTED: Final = ", ".join(sorted(_MANIFESTS | _INDEXES))
"""What a registry is told that we understand."""
_REFERENCE_TYPE: Final = "vnd.docker.reference.type"  # BuildKit's mark of provenance and the like
_FIRST_CHOICE: Final = ("linux", "amd64")


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A pointer to a blob or to another document; `platform` is (os, architecture), empty where nobody says."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str]
    platform: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class ImageManifest:
    """One image, or one artifact that looks like one."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str]


@dataclass(frozen=True)
class ImageIndex:
    """Several manifests under one name."""

    manifests: tuple[Descriptor, ...]


def is_digest(text: object) -> bool:
    """Whether this is a digest of the one kind that we can prove."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def identified(content: bytes, media_type: str) -> Document:
    """A document by its content: the digest is what the bytes have."""
    return Document(media_type=media_type, digest=f"sha256:{hashlib.sha256(content).hexdigest()}", content=content)


def read_document(document: Document, *, where: str) -> ImageManifest | ImageIndex:
    """What `document` says.  `where` is printable and names it in errors.

    Raises `WrongBytes` for what is damaged or larger than anybody writes, `ConfigurationError` for what is sound but of
    a kind that holds no model.
    """
    if len(document.content) > LARGEST_DOCUMENT:
        raise _damaged(where, f"has {len(document.content)} bytes")
    try:
        found = from_json(document.content)
    except ValueError as error:
        raise _damaged(where, "is no JSON") from error
    if not isinstance(found, dict):
        raise _damaged(where, "is no JSON object")
    kind = _text(found.get("mediaType")) or document.media_type
    if kind in _INDEXES or (kind not in _MANIFESTS and "manifests" in found):
        return ImageIndex(_descriptors(found.get("manifests"), where=where))
    if found.get("schemaVersion") == 1:
        raise ConfigurationError(
            f"{where} is an image in Docker's first format, which nothing makes any more",
            hint="push it again with a current tool, or copy it with skopeo copy --format oci",
        )
    if "layers" not in found:
        raise ConfigurationError(f"{where} is no image: its manifest has no layers", hint="check S3_SYNC_SRC__PATH")
    return ImageManifest(
        config=_descriptor(found.get("config"), where=where),
        layers=_descriptors(found["layers"], where=where),
        annotations=_annotations(found.get("annotations"), where=where),
    )


def manifest_at(
    document: Document, fetch: Callable[[str], Document | None], *, where: str
) -> tuple[Document, ImageManifest]:
    """The manifest that `document` is, or leads to: for models the platforms' images have the same model layers.

    Of several the one for linux/amd64 is taken, else the first for Linux, else the first; what tools attach to an image
    (attestations) is no image.  `fetch` gets a document by digest.
    """
    for _ in range(DEEPEST_INDEX + 1):
        found = read_document(document, where=where)
        if isinstance(found, ImageManifest):
            return document, found
        chosen = choose(found.manifests)
        if chosen is None:
            raise ConfigurationError(f"{where} is an index without any image", hint="check S3_SYNC_SRC__PATH")
        below = fetch(chosen.digest)
        if below is None:
            raise _damaged(where, f"names the manifest {chosen.digest}, which is not there")
        if below.digest != chosen.digest:
            raise _damaged(where, f"names the manifest {chosen.digest}, and gets {below.digest}")
        document = below
    raise _damaged(where, f"has indexes within indexes, deeper than {DEEPEST_INDEX}")


def choose(manifests: Sequence[Descriptor]) -> Descriptor | None:
    """The image to take out of an index, or None where there is none."""
    images = [entry for entry in manifests if not is_attachment(entry)]
    linux = [entry for entry in images if entry.platform[0] == "linux"]
    exact = [entry for entry in linux if entry.platform == _FIRST_CHOICE]
    return next(iter(exact or linux or images), None)


def is_attachment(entry: Descriptor) -> bool:
    """Whether an index's entry only tells something about another one."""
    return _REFERENCE_TYPE in entry.annotations or entry.platform == ("unknown", "unknown")


def _descriptors(entries: Any, *, where: str) -> tuple[Descriptor, ...]:
    if not isinstance(entries, list):
        raise _damaged(where, "has no list of descriptors")
    if len(entries) > MOST_DESCRIPTORS:
        raise _damaged(where, f"has {len(entries)} descriptors")
    return tuple(_descriptor(entry, where=where) for entry in entries)


def _descriptor(entry: Any, *, where: str) -> Descriptor:
    if not isinstance(entry, dict):
        raise _damaged(where, "has a descriptor that is no object")
    digest, size, kind = entry.get("digest"), entry.get("size"), entry.get("mediaType", "")
    if not is_digest(digest):
        raise _damaged(where, f"has {_glimpse(digest)} where a sha256 digest belongs")
    if not is_size(size) or size >= 1 << 60:
        raise _damaged(where, f"has {_glimpse(size)} where a size belongs")
    if not isinstance(kind, str):
        raise _damaged(where, "has a media type that is no text")
    platform = entry.get("platform")
    return Descriptor(
        media_type=kind,
        digest=str(digest),
        size=size,
        annotations=_annotations(entry.get("annotations"), where=where),
        platform=(_text(platform.get("os")), _text(platform.get("architecture")))
        if isinstance(platform, dict)
        else ("", ""),
    )


def _annotations(entry: Any, *, where: str) -> Mapping[str, str]:
    if entry is None:
        return {}
    if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
        raise _damaged(where, "has annotations that are no texts")
    return entry


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _glimpse(value: Any) -> str:
    """A value for people; of what is nested, as deep as a stranger likes, the kind alone."""
    return f"{value!r:.100}" if value is None or isinstance(value, str | int | float) else f"a {type(value).__name__}"


def _damaged(where: str, what: str) -> WrongBytes:
    return WrongBytes(f"{where} {what}", hint="the image is damaged; push it again", stage="list", store=where)
