"""What kind of image it is: who made its layers, and so where its files lie and who has proved them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from syncer.errors import UnsafeNames
from syncer.stores.directory.faults import shown
from syncer.stores.oci.documents import Descriptor, ImageManifest
from syncer.stores.oci.images import TITLE, manifest_of
from syncer.stores.oci.layers import FOLDER, data_offset
from syncer.stores.oci.unpacking import Place, inside

Packing = Literal["none", "gzip", "zstd", "unknown"]

_OLOT: Final = "olot.layer.content."
_UNPACK: Final = "io.deis.oras.content.unpack"
_FILE_PATHS: Final = ("org.cncf.model.filepath", "org.cnai.model.filepath", TITLE)
_IMAGE_CONFIGS: Final = frozenset(
    {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"}
)
_SHA256: Final = re.compile(r"sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class RawFile:
    """A layer that is one file as it is; its digest is the file's."""

    layer: Descriptor
    path: str


@dataclass(frozen=True)
class TarLayer:
    """A layer that is a tar of files; `known` is the digest of its one file, at `path`, where somebody told it."""

    layer: Descriptor
    packing: Packing
    known: str = ""
    path: str = ""


@dataclass(frozen=True)
class Layout:
    """All layers that hold files of the model, the lowest first, and the folder that it lies in, empty for none."""

    parts: tuple[RawFile | TarLayer, ...]
    root: str


def layout_of(manifest: ImageManifest) -> Layout:
    """How the files of an image that we did not make are found.

    Artifacts are told from images by their config: ORAS and modctl (CNCF's ModelPack) have files as layers, named by
    annotations, or tars of folders, as KitOps has.  Everything else is a file system with the model below `/models`.
    Of OLOT's layers only the headers are needed; but not every layer of its images is sure to have its annotations,
    which skopeo drops where it packs a layer on its way, so that the others are looked at, too.
    """
    if manifest.config.media_type in _IMAGE_CONFIGS:
        return Layout(tuple(map(_of_image, manifest.layers)), FOLDER)
    return Layout(tuple(map(_artifact, manifest.layers)), "")


def packing_of(media_type: str) -> Packing:
    """How a tar layer is compressed: `…tar`, `…tar+gzip`, `…tar.gzip` (Docker) and so on."""
    kind = media_type.partition(";")[0].lower()
    for packing, endings in _PACKINGS.items():
        if kind.endswith(endings):
            return packing
    return "unknown"


_PACKINGS: Final[Mapping[Packing, tuple[str, ...]]] = {
    "gzip": (".tar+gzip", ".tar.gzip", ".tar.gz", ".tar+gz", "/tar+gzip"),
    "zstd": (".tar+zstd", ".tar.zstd"),
    "none": (".tar", "/tar", "/x-tar"),
}


def _of_image(layer: Descriptor) -> TarLayer:
    told = layer.annotations
    digest = _SHA256.fullmatch(told.get(f"{_OLOT}digest", "")) if told.get(f"{_OLOT}type") == "file" else None
    path = told.get(f"{_OLOT}inlayerpath", "").strip("/")
    packing = packing_of(layer.media_type)
    # Of a packed layer nobody knows where the file begins without reading it, so that its digest is no gain.
    if digest is None or not path or packing != "none":
        return TarLayer(layer, packing)
    return TarLayer(layer, packing, known=digest[1], path=path)


def _artifact(layer: Descriptor) -> RawFile | TarLayer:
    packing = packing_of(layer.media_type)
    path = next((told for name in _FILE_PATHS if (told := layer.annotations.get(name))), "")
    # To ORAS a file may well be a tar; only what it packed itself is meant to be unpacked.
    by_oras = TITLE in layer.annotations and not any(name in layer.annotations for name in _FILE_PATHS[:2])
    if by_oras and layer.annotations.get(_UNPACK) != "true":
        return RawFile(layer, path)
    if by_oras:
        return TarLayer(layer, "gzip" if packing == "unknown" else packing)
    if packing == "unknown":
        return RawFile(layer, path)
    return TarLayer(layer, packing)


def our_files(manifest: ImageManifest, *, name: str) -> dict[str, Place] | None:
    """The files of an image that we made, told by its manifest alone; None for any other image.

    Layers without our annotations are those of the base image, which the fingerprint says: one that lost annotations on
    its way (skopeo drops them where it packs a layer) is an image like all others.
    """
    told = manifest_of(manifest)
    if told is None:
        return None
    if hostile := [path for path in told.files if inside(path) != path]:
        raise UnsafeNames(
            f"{name} has a path that leads out of the image: {shown(hostile[0])}",
            problems=tuple(f"{shown(path)} leads out of the image" for path in hostile),
            hint="do not trust this image",
            store=name,
        )
    return {
        path: Place(record.destination_version, data_offset(path, record.size), record.size, record.digests["sha256"])
        for path, record in told.files.items()
    }
