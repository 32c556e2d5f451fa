"""The image that a model is put upon: found, understood, and its layers brought to where the model goes."""

from __future__ import annotations

import hashlib
from contextlib import closing

from syncer.claims import from_json
from syncer.errors import ConfigurationError, Transient, WrongBytes
from syncer.settings.locations import ArchiveLocation, ImageLocation, Network
from syncer.stores.oci.depot import Document, open_depot
from syncer.stores.oci.documents import Descriptor, ImageManifest, is_attachment, read_document
from syncer.stores.oci.images import Base
from syncer.stores.oci.reading import small_blob
from syncer.stores.oci.registry import Registry

VARIABLE = "OCI_BASE_IMAGE"
_PIECE = 1024 * 1024


class BaseImage:
    """An image in a registry or in an archive; of one with several platforms, all."""

    def __init__(self, location: ImageLocation | ArchiveLocation, network: Network) -> None:
        self.name = location.uri
        self._location = location
        self.depot = open_depot(location, network, variable=VARIABLE)

    def platforms(self) -> tuple[Base, ...]:
        """One for each platform; a single one without a name for an image that is not in an index."""
        document = self.depot.manifest("")
        if document is None:
            raise ConfigurationError(
                f"there is no base image {self.name}",
                hint=f"check {VARIABLE}: the registry, the repository and the tag",
            )
        found = read_document(document, where=self.name)
        if isinstance(found, ImageManifest):
            return (self._base(found, ("", "")),)
        entries = [entry for entry in found.manifests if not is_attachment(entry)]
        if not entries:
            raise self._unfit("an index without any image")
        return tuple(self._base(self._below(entry), entry.platform) for entry in entries)

    def bring(self, layer: Descriptor, registry: Registry) -> None:
        """Make a layer be in `registry`: linked where it is the same registry, else sent through this process."""
        if registry.blob_size(layer.digest) == layer.size:
            return
        here = self._location
        near = isinstance(here, ImageLocation) and here.registry == registry.location.registry
        if near and isinstance(here, ImageLocation):
            upload = registry.upload(mount=layer.digest, source=here.repository)
            if upload is None:
                return
            upload.cancel()
        registry.session.persistently(lambda: self._send(layer, registry))

    def close(self) -> None:
        """Let go."""
        self.depot.close()

    def _send(self, layer: Descriptor, registry: Registry) -> None:
        upload = registry.upload()
        if upload is None:
            return
        digest, left = hashlib.sha256(), layer.size
        piece = memoryview(bytearray(min(_PIECE, layer.size) or 1))
        chunk = upload.chunk(0, layer.size)
        try:
            with closing(self.depot.read(layer.digest, 0, layer.size)) as body:
                while left:
                    count = body.readinto(piece[: min(left, len(piece))])
                    if not count:
                        raise Transient(f"{self.name}: {layer.digest} ended early", store=self.name)
                    digest.update(piece[:count])
                    chunk.send(piece[:count])
                    left -= count
            chunk.finish()
            if f"sha256:{digest.hexdigest()}" != layer.digest:
                raise WrongBytes(f"{self.name}: {layer.digest} has other bytes than it says", store=self.name)
            upload.close(layer.digest)
        except BaseException:
            chunk.cancel()
            upload.cancel()
            raise

    def _below(self, entry: Descriptor) -> ImageManifest:
        document: Document | None = self.depot.manifest(entry.digest)
        found = read_document(document, where=self.name) if document is not None else None
        if not isinstance(found, ImageManifest):
            raise self._unfit(f"an index whose entry {entry.digest} is no image")
        return found

    def _base(self, manifest: ImageManifest, platform: tuple[str, str]) -> Base:
        unfit = self._unfit("no image that runs: its config does not tell its layers")
        try:
            config = from_json(small_blob(self.depot, manifest.config))
            layers = config["rootfs"]["diff_ids"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise unfit from None
        if not isinstance(layers, list) or len(layers) != len(manifest.layers):
            raise unfit
        return Base(config, manifest.layers, platform)

    def _unfit(self, what: str) -> ConfigurationError:
        return ConfigurationError(f"the base image {self.name} is {what}", hint=f"name another one in {VARIABLE}")
