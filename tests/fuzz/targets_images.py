"""Images as they lie: layers, documents, archives."""

import gzip
import json
import os
import tarfile
from collections.abc import Callable
from functools import cache
from typing import Final

from syncer.manifest import FileRecord, Manifest
from syncer.settings.locations import ArchiveLocation, Network
from syncer.stores.oci.control import seal_of
from syncer.stores.oci.documents import ImageManifest, identified, read_document
from syncer.stores.oci.growing import GrowingArchive
from syncer.stores.oci.images import annotations_of, build, manifest_of
from syncer.stores.oci.source import OciSource
from tests.fuzz.answers import drain
from tests.fuzz.target import Target, Violated, check_listing, scratch
from tests.support.foreign_images import (
    INDEX,
    DictionaryDepot,
    member,
    modelpack_artifact,
    olot_image,
    oras_artifact,
    plain_image,
    tar_of,
)

_ARCHIVE: Final = ArchiveLocation(scratch() / "image.tar")


def _read_image(source: OciSource) -> None:
    """List an image, and read each file of it."""
    try:
        listing = source.listing()
        check_listing(listing)
        for file in list(listing.files.values())[:20]:
            if ".." in file.path.split("/") or file.path.startswith("/"):
                raise Violated(f"a path that leads out: {file.path!r:.200}")
            if 0 < file.size < 1 << 20:
                drain(source.read(file, 0, file.size))
                drain(source.read(file, file.size - 1, 1))
    finally:
        source.close()


def _over(depot: DictionaryDepot) -> OciSource:
    source = OciSource(_ARCHIVE, Network())
    source._depot = depot
    return source


def _layer(packed: bool) -> Callable[[bytes], None]:
    def feed(data: bytes) -> None:
        depot = DictionaryDepot()
        kind = "application/vnd.oci.image.layer.v1.tar" + ("+gzip" if packed else "")
        depot.push([depot.descriptor(_LOWER, "application/vnd.oci.image.layer.v1.tar"), depot.descriptor(data, kind)])
        _read_image(_over(depot))

    return feed


def _packed_layer(data: bytes) -> None:
    """The tar inside the gzip is the hostile one."""
    _layer(packed=True)(gzip.compress(data, 1))


def _manifest(data: bytes) -> None:
    """The documents of an image: a manifest or an index, whose blobs are there."""
    depot = _depot_with_all()
    depot.documents[""] = identified(data, "application/vnd.oci.image.manifest.v1+json")
    found = read_document(depot.documents[""], where="image")
    if isinstance(found, ImageManifest) and (manifest := manifest_of(found)) is not None:
        seal_of(manifest)
        annotations_of(manifest)
    _read_image(_over(depot))


def _archive(data: bytes) -> None:
    _ARCHIVE.path.write_bytes(data)
    _read_image(OciSource(_ARCHIVE, Network()))


def _growing(data: bytes) -> None:
    """What a killed run left of an archive is walked, claimed and gone on with."""
    path = scratch() / "growing.partial"
    path.write_bytes(data)
    archive = GrowingArchive(path)
    try:
        archive.recover()
        for digest in list(archive.blobs)[:5]:
            if found := archive.read(digest):
                os.close(found[0])
        archive.add(b"{}")
        archive.finish({"index.json": b"{}"})
        if path.stat().st_size > len(data) + 16 * 1024:
            raise Violated(f"{len(data)} bytes have become {path.stat().st_size}")
    finally:
        archive.close()


_LOWER: Final = tar_of([("models/config.json", b"{}"), ("models/lower/a", b"a"), ("etc/passwd", b"x")])
_UPPER: Final = tar_of(
    [
        member("models", tarfile.DIRTYPE),
        ("models/model.safetensors", bytes(600)),
        ("models/" + "long/" * 40 + "name", b"long"),
        ("models/lower/.wh.a", b""),
        member("models/link", tarfile.SYMTYPE, target="model.safetensors"),
        member("models/up", tarfile.SYMTYPE, target="../models/config.json"),
        member("models/hard", tarfile.LNKTYPE, target="models/config.json"),
    ]
)
_LINKS: Final = tar_of(
    [
        ("models/.wh..wh..opq", b""),
        ("models/a/b/c", b"c"),
        member("models/circle", tarfile.SYMTYPE, target="circle"),
        member("models/folder", tarfile.SYMTYPE, target="a/b"),
        member("models/out", tarfile.SYMTYPE, target="../../etc/passwd"),
        member("models/nowhere", tarfile.SYMTYPE, target="/models/x/y"),
        member("models/pipe", tarfile.FIFOTYPE),
    ]
)
_GNU: Final = tar_of(
    [("models/" + "n" * 150, b"gnu"), member("models/l", tarfile.SYMTYPE, target="t" * 150)], form=tarfile.GNU_FORMAT
)
_USTAR: Final = tar_of([("models/a/b", b"ustar"), ("models/" + "p/" * 60 + "c", b"d")], form=tarfile.USTAR_FORMAT)


def _sparse() -> bytes:
    header = bytearray(member("models/sparse", tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    header[482] = 1
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(512) + bytes(1024)


def _large() -> bytes:
    info = member("models/large")
    info.size = 1 << 62
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


def _summed(tar: bytes) -> bytes:
    """The checksums of all headers put right."""
    data = bytearray(tar)
    for start in range(0, len(data) - 511, 512):
        if data[start + 257 : start + 262] == b"ustar":
            data[start + 148 : start + 156] = b" " * 8
            data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
    return bytes(data)


_TARS: Final = (_UPPER, _LINKS, _GNU, _USTAR, _sparse(), _large())


@cache
def _all_depots() -> tuple[DictionaryDepot, ...]:
    depots = tuple(DictionaryDepot() for _ in range(4))
    plain_image(depots[0], [_LOWER, _UPPER])
    olot_image(depots[1], {"model.safetensors": bytes(600), "sub/config.json": b"{}"})
    oras_artifact(depots[2], {"model.safetensors": bytes(60)}, folders={"folder": tar_of([("folder/a", b"a")])})
    modelpack_artifact(depots[3], {"model.safetensors": bytes(60)}, {"tar": tar_of([("folder/a", b"a")])})
    return depots


def _depot_with_all() -> DictionaryDepot:
    depot = DictionaryDepot()
    for each in _all_depots():
        depot.blobs.update(each.blobs)
        depot.documents.update({name: document for name, document in each.documents.items() if name})
    return depot


def _ours() -> bytes:
    """An image that we made, by its manifest alone."""
    records = {
        path: FileRecord(path, 5, {"sha256": "a" * 64}, "stream", "v", f"sha256:{'b' * 64}")
        for path in ("config.json", "sub/model.safetensors")
    }
    return build(Manifest("hf://owner/name", "rev", records), ())[1].content


def _documents() -> tuple[bytes, ...]:
    contents = [depot.documents[""].content for depot in _all_depots()]
    below = _all_depots()[0].documents[""]
    entry = {
        "mediaType": below.media_type,
        "digest": below.digest,
        "size": len(below.content),
        "platform": {"os": "linux", "architecture": "amd64"},
    }
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry, entry]}).encode()
    return (*contents, index, _ours())


def _archives() -> tuple[bytes, ...]:
    path = scratch() / "seed.tar"
    contents = []
    for depot in _all_depots():
        depot.archive(path)
        contents.append(path.read_bytes())
    return tuple(contents)


def _growing_seeds() -> tuple[bytes, ...]:
    path = scratch() / "seed.partial"
    archive = GrowingArchive(path)
    archive.add(b"first")
    archive.add(b"second" * 200)
    berth = archive.reserve(700)
    archive.write(b"half", berth.start)
    archive.close()
    data = path.read_bytes()
    path.unlink()
    return (data,)


TARGETS: Final = (
    Target("tar-layer", _layer(packed=False), _TARS, _summed),
    Target("tar-in-gzip", _packed_layer, _TARS, _summed),
    Target("gzip-layer", _layer(packed=True), tuple(gzip.compress(tar) for tar in _TARS)),
    Target("oci-documents", _manifest, _documents()),
    Target("oci-archive", _archive, _archives(), _summed),
    Target("oci-growing", _growing, _growing_seeds(), _summed),
)
