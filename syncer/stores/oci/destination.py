"""A registry as the place where a model goes to: one image, one layer for each file, streamed.

A file's layer is sent while the file is read, without a copy on any disk; the image appears, whole, when its manifest
gets the tag.  What the image at the tag has, or what a killed run had finished, is not sent again.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection, Iterable
from contextlib import closing
from dataclasses import replace

from syncer.errors import ConfigurationError, CredentialsRefused, NotThereYet, Transient, WrongBytes
from syncer.logs import logger
from syncer.manifest import FileRecord, Listing, Manifest, ModelFile
from syncer.retry import SMALL_REQUEST, Patience
from syncer.settings.locations import ImageLocation, Network
from syncer.stores.abilities import Abilities
from syncer.stores.oci import leftovers
from syncer.stores.oci.bases import VARIABLE, BaseImage
from syncer.stores.oci.control import Held, ImageControlFolder, seal_of
from syncer.stores.oci.depot import Document, KnowsLayers
from syncer.stores.oci.documents import is_digest, manifest_at
from syncer.stores.oci.images import Base, build, manifest_of
from syncer.stores.oci.layers import data_offset, layer_size
from syncer.stores.oci.names import name_problems, warn_of_layers
from syncer.stores.oci.reading import with_sha256
from syncer.stores.oci.registry import Registry
from syncer.stores.oci.uploads import LayerUpload
from syncer.stores.protocols import Body, ControlFolder, Cut, Limits, OpenUpload, Source, Upload
from syncer.wire import Timeouts


class OciDestination:
    """An image under a tag.  See `Destination`, `NamedByDigest` and `ServerCopy` for the promises."""

    def __init__(
        self,
        location: ImageLocation,
        network: Network,
        *,
        abilities: Abilities | None = None,
        timeouts: Timeouts | None = None,
        patience: Patience = SMALL_REQUEST,
    ) -> None:
        self._location = location
        self._network = network
        self._registry = Registry(
            location, network, writes=True, abilities=abilities, timeouts=timeouts, patience=patience
        )
        self._control = ImageControlFolder(load=self._load, save=self._save)
        self._log = logger(component="oci")
        self._lock = threading.Lock()
        self._smallest = 1
        self._image: Document | None = None
        self._foreign = False
        self._files: dict[str, ModelFile] = {}

    @property
    def name(self) -> str:
        """See `Destination`."""
        return self._location.uri

    @property
    def uri(self) -> str:
        """By digest where it is known: a tag may name another image tomorrow."""
        return f"{self._registry.name}@{self.digest}" if self.digest else self._location.uri

    @property
    def digest(self) -> str:
        """See `NamedByDigest`."""
        return self._image.digest if self._image is not None else ""

    @property
    def limits(self) -> Limits:
        """Chunks come in order; what `prepare` was told of their size."""
        return Limits(smallest_part=self._smallest, parts_in_order=True)

    @property
    def control(self) -> ControlFolder:
        """See `Destination`."""
        return self._control

    def prepare(self) -> None:
        """See `Destination`: an upload is begun and given up."""
        upload = self._registry.upload()
        if upload is not None:
            self._smallest = max(1, upload.smallest)
            upload.cancel()

    def listing(self) -> Listing:
        """The files of the image at the tag, if it is ours, and those that are finished and wait for their image."""
        self._control.names()  # which looks at the registry, once
        with self._lock:
            return Listing.of(self._files.values())

    def foreign(self) -> str:
        """See `KnownByTag`."""
        self._control.names()
        return self.digest if self._foreign else ""

    def name_problems(self, paths: Collection[str]) -> list[str]:
        """See `names.py`."""
        warn_of_layers(paths, self.name)
        return name_problems(paths)

    def free_bytes(self) -> int | None:
        """No registry tells."""
        return None

    def open_uploads(self) -> list[OpenUpload]:
        """No registry tells; it removes what is left in its own time."""
        return []

    def begin(self, file: ModelFile, cut: Cut, *, resume: str = "") -> Upload:
        """See `Destination`.  Half a layer is never resumed: its hash is lost with the process."""
        upload = self._registry.upload()
        if upload is None:
            raise Transient(f"{self._registry.name}: the registry began no upload", store=self._registry.name)
        return LayerUpload(upload, file, cut, lambda digest: self._finished(file, digest))

    def abort_upload(self, upload: OpenUpload) -> None:
        """There is nothing to find it by."""

    def read(self, file: ModelFile, start: int, length: int) -> Body:
        """See `Destination`: out of the middle of the layer."""
        if not is_digest(file.version):
            raise WrongBytes(f"{self.name}: {file.path} is not there", store=self.name, path=file.path)
        return self._registry.read(file.version, data_offset(file.path, file.size) + start, length)

    def delete(self, paths: Iterable[str]) -> None:
        """The next image does not have them."""
        self._control.names()
        with self._lock:
            for path in paths:
                self._files.pop(path, None)

    def commit(self, manifest: Manifest) -> None:
        """See `Destination`.  The tag comes last; when it names this very image already, nothing is pushed."""
        manifest = replace(manifest, files={path: with_sha256(it, self.read) for path, it in manifest.files.items()})
        if self._location.base is None:
            self._log.info(
                "base_image_missed",
                reason="KServe's sidecar mode needs a shell in the image; as a volume, or fetched, it serves without",
                hint=f"name a base image in {VARIABLE}",
            )
            self._push(manifest, (), None)
            return
        with closing(BaseImage(self._location.base, self._network)) as image:
            self._push(manifest, image.platforms(), image)

    def copy_inside(self, source: Source, file: ModelFile) -> str | None:
        """See `ServerCopy`: a layer that another repository of the registry has is linked (`mount`).

        Where the registry refuses to link, the bytes are sent, and their refusal would be the one that counts.
        """
        told = source.layer_of(file) if isinstance(source, KnowsLayers) else None
        if told is None or told[0].registry != self._location.registry or "sha256" not in file.digests:
            return None
        image, digest = told
        if image.repository != self._location.repository and not self._linked(digest, image.repository):
            return None
        if self._registry.blob_size(digest) != layer_size(file.path, file.size):
            return None
        self._finished(file, digest)
        return digest

    def layer_of(self, file: ModelFile) -> tuple[ImageLocation, str] | None:
        """See `KnowsLayers`: here the digest is the file's version."""
        return (self._location, file.version) if is_digest(file.version) else None

    def interrupt(self) -> None:
        """See `Destination`."""
        self._registry.interrupt()

    def close(self) -> None:
        """See `Destination`."""
        self._registry.close()

    def _linked(self, digest: str, repository: str) -> bool:
        try:
            upload = self._registry.upload(mount=digest, source=repository)
        except (ConfigurationError, CredentialsRefused, NotThereYet):
            return False
        if upload is not None:
            upload.cancel()
        return upload is None

    def _push(self, manifest: Manifest, bases: tuple[Base, ...], image: BaseImage | None) -> None:
        images, final = build(manifest, bases)
        registry, tag = self._registry, self._location.tag
        there = registry.manifest(tag)
        if there is not None and there.digest == final.digest:
            self._image = final
            self._log.info("image_kept", image=self.uri)
            return
        if self._foreign:
            self._log.warning("image_replaced", image=self.name, reason="the one at the tag was not made here")
        for base in bases:
            for layer in base.layers:
                if image is not None:
                    image.bring(layer, registry)
        for each in images:
            registry.push_small(each.config, f"sha256:{hashlib.sha256(each.config).hexdigest()}")
            if each.document != final:
                registry.push_manifest(each.document.digest, each.document)
        registry.push_manifest(tag, final)
        self._image, self._foreign = final, False
        self._log.info("image_pushed", image=self.uri, tag=tag, layers=len(manifest.files))

    def _load(self) -> Held:
        """What the registry has for us: the image at the tag, and what a killed run had finished."""
        registry = self._registry
        held: dict[str, bytes] = {}
        document = registry.manifest(self._location.tag)
        if document is not None:
            manifest = self._ours(document)
            self._image, self._foreign = document, manifest is None
            if manifest is not None:
                held.update(seal_of(manifest))
                self._remember(manifest.files.values())
        state = leftovers.load(registry, self._location.tag)
        held.update(state)
        self._remember(leftovers.finished(state).values())
        return held

    def _ours(self, document: Document) -> Manifest | None:
        try:
            return manifest_of(manifest_at(document, self._registry.manifest, where=self.name)[1])
        except (ConfigurationError, WrongBytes):
            return None  # whatever lies under the tag, it is nothing of ours

    def _save(self, state: Held) -> None:
        if state:
            leftovers.save(self._registry, self._location.tag, state)
        else:
            leftovers.forget(self._registry, self._location.tag, self._image)

    def _remember(self, records: Iterable[FileRecord]) -> None:
        for record in records:
            file = ModelFile(record.path, record.size, record.destination_version, record.digests)
            with self._lock:
                self._files[record.path] = file

    def _finished(self, file: ModelFile, digest: str) -> None:
        self._control.names()  # so that what the registry has does not come over it later
        with self._lock:
            self._files[file.path] = ModelFile(file.path, file.size, digest)
