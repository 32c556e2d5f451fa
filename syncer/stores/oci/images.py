"""What our image says of itself: media types, annotations, and the documents that hold them.

The documents are those of the OCI image specification 1.1.  They hold deterministic facts alone: the same model upon
the same base is the same image, whenever and wherever it was pushed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from syncer.errors import InternalError
from syncer.manifest import FileRecord, Manifest, Origin
from syncer.stores.oci.depot import Document
from syncer.stores.oci.documents import Descriptor, ImageManifest, identified
from syncer.stores.oci.layers import FOLDER, layer_size
from syncer.stores.oci.layers import MEDIA_TYPE as LAYER_TYPE

MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"

_OURS: Final = "io.github.model-syncer."
PATH: Final = f"{_OURS}path"
VERSION: Final = f"{_OURS}version"
"""Of a layer: the version that the file had at its source."""
SIZE: Final = f"{_OURS}size"
SHA256: Final = f"{_OURS}sha256"
SOURCE: Final = f"{_OURS}source"
REVISION: Final = f"{_OURS}revision"
FINGERPRINT: Final = f"{_OURS}fingerprint"
RECIPE: Final = f"{_OURS}recipe"
"""Of a manifest, from here on only where the model has been somewhere before it came to `SOURCE`."""
ORIGIN: Final = f"{_OURS}origin"
ORIGIN_REVISION: Final = f"{_OURS}origin.revision"
ORIGIN_INPUTS: Final = f"{_OURS}origin.inputs"
TITLE: Final = "org.opencontainers.image.title"

_GIT_SHA1: Final = f"{_OURS}git_sha1"
_KIND: Final = "io.opendatahub.modelcar.layer.type"
_CARD: Final = re.compile(r"(?i)(readme|modelcard|model_card)(\.[a-z]+)?")
_DOCKER_LAYERS: Final = {
    "application/vnd.docker.image.rootfs.diff.tar.gzip": f"{LAYER_TYPE}+gzip",
    "application/vnd.docker.image.rootfs.diff.tar": LAYER_TYPE,
}
_NO_TIME: Final = "1970-01-01T00:00:00Z"


@dataclass(frozen=True)
class Base:
    """One platform's image that a model is put upon; `platform` is an index's entry, empty where there is no index."""

    config: Mapping[str, Any]
    layers: tuple[Descriptor, ...]
    platform: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Image:
    """What is pushed for one platform, besides the layers."""

    config: bytes
    document: Document
    platform: tuple[str, str]


def layer_entry(record: FileRecord) -> dict[str, Any]:
    """The descriptor of a file's layer, whose digest is the record's destination version."""
    told = {
        PATH: record.path,
        VERSION: record.source_version,
        SIZE: str(record.size),
        SHA256: record.digests["sha256"],
        TITLE: record.path,
    }
    if git := record.digests.get("git_sha1"):
        told[_GIT_SHA1] = git
    if _CARD.fullmatch(record.path):
        told[_KIND] = "modelcard"
    return {
        "mediaType": LAYER_TYPE,
        "digest": record.destination_version,
        "size": layer_size(record.path, record.size),
        "annotations": dict(sorted(told.items())),
    }


def record_of(layer: Descriptor) -> FileRecord | None:
    """The record that `layer_entry` made a descriptor of; None for anything else."""
    told = layer.annotations
    size, sha256 = told.get(SIZE, ""), told.get(SHA256, "")
    if not (size.isascii() and size.isdecimal() and len(size) < 20 and re.fullmatch(r"[0-9a-f]{64}", sha256)):
        return None
    path = told.get(PATH, "")
    try:
        if not path or layer_size(path, int(size)) != layer.size:
            return None
    except UnicodeEncodeError:
        return None
    return FileRecord(
        path=path,
        size=int(size),
        digests={"sha256": sha256, **({"git_sha1": told[_GIT_SHA1]} if told.get(_GIT_SHA1) else {})},
        proved_by="stream",  # by whichever way: who proved it is no fact about the image, whose digest it would change
        source_version=told.get(VERSION, ""),
        destination_version=layer.digest,
    )


def manifest_of(image: ImageManifest) -> Manifest | None:
    """What a run of ours proved about an image; None for an image of somebody else's."""
    records = [record for layer in image.layers if PATH in layer.annotations and (record := record_of(layer))]
    told = image.annotations
    if not records or FINGERPRINT not in told:
        return None
    manifest = Manifest(
        source=told.get(SOURCE, ""),
        revision=told.get(REVISION, ""),
        files={record.path: record for record in records},
        origin=_before_source(told),
    )
    return manifest if manifest.fingerprint == told[FINGERPRINT] else None


def origin_of(image: ImageManifest) -> Origin | None:
    """Where the model was before it became an image of ours, and what was done to it since."""
    told = image.annotations
    return _before_source(told) or (Origin(told[SOURCE], told.get(REVISION, "")) if told.get(SOURCE) else None)


def _before_source(told: Mapping[str, str]) -> Origin | None:
    if not told.get(ORIGIN):
        return None
    return Origin(*(told.get(name, "") for name in (ORIGIN, ORIGIN_REVISION, RECIPE, ORIGIN_INPUTS)))


def annotations_of(manifest: Manifest) -> dict[str, str]:
    """What the image says of the model as a whole."""
    told = {SOURCE: manifest.source, REVISION: manifest.revision, FINGERPRINT: manifest.fingerprint}
    if (origin := manifest.origin) is not None:
        told |= {ORIGIN: origin.source, ORIGIN_REVISION: origin.revision}
        told |= {RECIPE: origin.recipe, ORIGIN_INPUTS: origin.inputs}
    return {name: value for name, value in sorted(told.items()) if value}


def build(manifest: Manifest, bases: Sequence[Base]) -> tuple[list[Image], Document]:
    """An image for each of `bases`, or one without any; and the document that is the model: the image, or an index."""
    images = [build_image(manifest, base) for base in bases or (None,)]
    # What has one platform under an index keeps its index: that is how it says which one.
    single = not bases or bases[0].platform == ("", "")
    return images, images[0].document if single else build_index(images, manifest)


def build_image(manifest: Manifest, base: Base | None) -> Image:
    """Config and manifest of the model upon `base`; without one, of the model alone."""
    records = [manifest.files[path] for path in sorted(manifest.files)]
    layers = [layer_entry(record) for record in records]
    alone: dict[str, Any] = {"created": _NO_TIME, "architecture": "amd64", "os": "linux", "config": {}}
    config = dict(base.config) if base else alone
    below = dict(config.get("rootfs") or {}).get("diff_ids") or []
    if len(below) != (len(base.layers) if base else 0):
        raise InternalError("the base image's config was not checked")
    # Of a layer that is not compressed, the diff id is its own digest.
    config["rootfs"] = {"type": "layers", "diff_ids": [*below, *(layer["digest"] for layer in layers)]}
    history: Any = config.get("history") if base and base.layers else []
    if isinstance(history, list) and (history or not below):
        steps = [{"created": _NO_TIME, "created_by": f"{FOLDER}/{record.path}"} for record in records]
        config["history"] = [*history, *steps]
    content = dump(config)
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": entry(content, CONFIG_TYPE),
        "layers": [*map(base_entry, base.layers if base else ()), *layers],
        "annotations": annotations_of(manifest),
    }
    return Image(content, identified(dump(document), MANIFEST_TYPE), base.platform if base else ("", ""))


def build_index(images: Sequence[Image], manifest: Manifest) -> Document:
    """One name for the model upon several platforms."""
    entries = [
        entry(image.document.content, MANIFEST_TYPE)
        | {"platform": {"architecture": image.platform[1], "os": image.platform[0]}}
        for image in images
    ]
    content = {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "manifests": entries,
        "annotations": annotations_of(manifest),
    }
    return identified(dump(content), INDEX_TYPE)


def base_entry(layer: Descriptor) -> dict[str, Any]:
    """A base image's layer among ours; Docker's names for what is the same are left behind."""
    return {
        "mediaType": _DOCKER_LAYERS.get(layer.media_type, layer.media_type),
        "digest": layer.digest,
        "size": layer.size,
    }


def entry(content: bytes, media_type: str) -> dict[str, Any]:
    """A descriptor of a small document."""
    return {"mediaType": media_type, "digest": identified(content, media_type).digest, "size": len(content)}


def dump(document: Mapping[str, Any]) -> bytes:
    """A document's bytes, the same for the same content."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
