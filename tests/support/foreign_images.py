"""Images as others make them, and a depot of them in memory: what a source of ours has to understand.

The forms are those of buildah and docker (`plain_image`), of OLOT, of ORAS, of modctl (CNCF's ModelPack) and of KitOps.
"""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from syncer.errors import SourceMissing, Transient
from syncer.stores.oci.depot import Document

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
TAR = "application/vnd.oci.image.layer.v1.tar"
GZIP = f"{TAR}+gzip"
T = TypeVar("T")


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def member(name: str, kind: bytes = tarfile.REGTYPE, *, target: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    """A member of a tar without content."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, mode
    return info


def tar_of(
    entries: Iterable[tuple[str, bytes] | tarfile.TarInfo],
    *,
    form: int = tarfile.PAX_FORMAT,
    mode: int = 0o644,
    trimmed: bool = False,
) -> bytes:
    """A tar of files (path and content) and of members as they are; `trimmed` ends with the end marks."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for entry in entries:
            info, content = (
                (entry, b"") if isinstance(entry, tarfile.TarInfo) else (member(entry[0], mode=mode), entry[1])
            )
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    data = out.getvalue()
    return data[: tar_length(data)] + bytes(2 * tarfile.BLOCKSIZE) if trimmed else data


def tar_length(data: bytes) -> int:
    """Where the end marks of a tar begin."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        last = tar.getmembers()[-1]
    return last.offset_data + last.size + -last.size % tarfile.BLOCKSIZE


@dataclass
class Cut:
    """A body that gives a few bytes at once and may break."""

    data: memoryview
    breaks_after: int | None = None
    largest: int = 1000
    taken: int = 0

    def readinto(self, buffer: memoryview) -> int:
        if self.breaks_after is not None and self.taken >= self.breaks_after:
            raise Transient("the connection broke")
        count = min(len(buffer), len(self.data), self.largest)
        buffer[:count] = self.data[:count]
        self.data = self.data[count:]
        self.taken += count
        return count

    def close(self) -> None:
        self.data = memoryview(b"")


@dataclass
class DictionaryDepot:
    """A repository in memory; `reads` says which ranges were asked for."""

    name: str = "oci://memory/models"
    blobs: dict[str, bytes] = field(default_factory=dict)
    documents: dict[str, Document] = field(default_factory=dict)
    reads: list[tuple[str, int, int]] = field(default_factory=list)
    breaks_after: int | None = None

    def put(self, data: bytes) -> str:
        digest = digest_of(data)
        self.blobs[digest] = data
        return digest

    def descriptor(self, data: bytes, media_type: str, **annotations: str) -> dict[str, Any]:
        """Put a blob, and point to it; `_` in names of annotations stands for nothing."""
        found = {"mediaType": media_type, "digest": self.put(data), "size": len(data)}
        return found | ({"annotations": annotations} if annotations else {})

    def push(
        self,
        layers: Sequence[Mapping[str, Any]],
        *,
        config_type: str = CONFIG,
        reference: str = "",
        **more: Any,
    ) -> dict[str, Any]:
        """Put a manifest under its digest and `reference`, and point to it."""
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.descriptor(b"{}", config_type),
            "layers": list(layers),
            **more,
        }
        return self.tag(manifest, MANIFEST, reference=reference)

    def index(self, manifests: Sequence[Mapping[str, Any]], *, reference: str = "") -> dict[str, Any]:
        """Put an index."""
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(manifests)}
        return self.tag(document, INDEX, reference=reference)

    def tag(self, document: Mapping[str, Any], media_type: str, *, reference: str = "") -> dict[str, Any]:
        content = json.dumps(document).encode()
        digest = digest_of(content)
        self.blobs[digest] = content
        self.documents[digest] = self.documents[reference] = Document(media_type, digest, content)
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    def manifest(self, reference: str) -> Document | None:
        return self.documents.get(reference)

    def blob_size(self, digest: str) -> int | None:
        return len(self.blobs[digest]) if digest in self.blobs else None

    def read(self, digest: str, start: int, length: int) -> Cut:
        if digest not in self.blobs:
            raise SourceMissing(f"no blob {digest}")
        self.reads.append((digest, start, length))
        data = memoryview(self.blobs[digest])[start : start + length]
        breaks_after, self.breaks_after = self.breaks_after, None
        return Cut(data, breaks_after)

    def persistently(self, work: Callable[[], T]) -> T:
        return work()

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        pass

    def archive(self, path: Path, *, reference: str = "") -> None:
        """Write everything as an archive of an OCI layout, the image at `reference` as the one that it holds."""
        found = self.documents[reference]
        entry = {"mediaType": found.media_type, "digest": found.digest, "size": len(found.content)}
        index = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
        files = [(f"blobs/sha256/{digest.removeprefix('sha256:')}", data) for digest, data in self.blobs.items()]
        path.write_bytes(tar_of([*files, ("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'), ("index.json", index)]))


def plain_image(depot: DictionaryDepot, layers: Iterable[bytes], *, packed: bool = True) -> None:
    """What buildah and docker push."""
    kind = GZIP if packed else TAR
    depot.push([depot.descriptor(gzip.compress(layer, 1) if packed else layer, kind) for layer in layers])


def olot_image(depot: DictionaryDepot, files: Mapping[str, bytes], *, base: bytes = b"") -> None:
    """What OLOT makes: a layer for each file upon a base image."""
    layers = [depot.descriptor(gzip.compress(base or tar_of([("bin/sh", b"#!")])), GZIP)]
    for path, content in files.items():
        inside = f"models/{path}"
        told = {
            "olot.layer.content.digest": digest_of(content),
            "olot.layer.content.type": "file",
            "olot.layer.content.inlayerpath": f"/{inside}",
            "olot.layer.content.name": path.rpartition("/")[2],
        }
        folders = [member("models", tarfile.DIRTYPE)]
        layers.append(depot.descriptor(tar_of([*folders, (inside, content)]), TAR, **told))
    depot.push(layers)


def oras_artifact(depot: DictionaryDepot, files: Mapping[str, bytes], *, folders: Mapping[str, bytes] = {}) -> None:
    """What `oras push` makes: files as they are, and `folders` (a tar by its name) packed."""
    title = "org.opencontainers.image.title"
    layers = [depot.descriptor(data, "application/octet-stream", **{title: path}) for path, data in files.items()]
    for name, tar in folders.items():
        layers.append(
            depot.descriptor(gzip.compress(tar), GZIP, **{title: name, "io.deis.oras.content.unpack": "true"})
        )
    depot.push(layers, config_type="application/vnd.oci.empty.v1+json")


def modelpack_artifact(depot: DictionaryDepot, raw: Mapping[str, bytes], tars: Mapping[str, bytes] = {}) -> None:
    """What modctl makes: `raw` files, and `tars` by media type's end (`tar`, `tar+gzip`)."""
    path = "org.cncf.model.filepath"
    kind = "application/vnd.cncf.model.weight.v1"
    layers = [depot.descriptor(data, f"{kind}.raw", **{path: name}) for name, data in raw.items()]
    layers += [depot.descriptor(data, f"{kind}.{end}", **{path: "folder"}) for end, data in tars.items()]
    depot.push(layers, config_type="application/vnd.cncf.model.config.v1+json")
