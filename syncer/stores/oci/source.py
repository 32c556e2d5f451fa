"""An image, in a registry or in an archive, as the place that a model comes from.

Whatever made the image, the bytes of every file are proved: our own images, OLOT's and artifacts tell each file's
digest in the manifest, which is pinned by its own.  The layers of other images tell only their own, so they are read
once while the model is listed: that proves the layer, and gives the digest of each file in it, which the engine then
compares as it does for every source.  Such an image is therefore read twice; one of ours is not.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from syncer.errors import ConfigurationError, SourceChanged, SourceMissing, WrongBytes
from syncer.logs import logger
from syncer.manifest import Listing, ModelFile, Origin, is_control_path
from syncer.settings.locations import ArchiveLocation, ImageLocation, Network
from syncer.stores.directory.faults import shown
from syncer.stores.oci.archive import Archive
from syncer.stores.oci.depot import open_depot
from syncer.stores.oci.documents import Descriptor, ImageManifest, manifest_at
from syncer.stores.oci.images import manifest_of, origin_of
from syncer.stores.oci.layers import FOLDER, head, tail
from syncer.stores.oci.layout import RawFile, TarLayer, layout_of, our_files
from syncer.stores.oci.members import Damaged, Window
from syncer.stores.oci.reading import range_of
from syncer.stores.oci.streams import (
    MOST_MILESTONES_TOGETHER,
    BlobReader,
    ForwardTape,
    Inflated,
    InflatedBody,
    Milestones,
    Proved,
    inflation_limit,
)
from syncer.stores.oci.unpacking import Entry, LayerFiles, Overlay, Place, inside, read_layer, refuse
from syncer.stores.protocols import Body

VARIABLE = "S3_SYNC_SRC__PATH"
_HEADERS_AHEAD = 8 * 1024
"""Bytes that are fetched for the headers of a layer of one file: folders, and the file's own."""
_SEGMENT = 8 * 1024 * 1024
"""Bytes of a packed layer that are asked for at once for a range of what is in it: nobody knows how many it takes."""


@dataclass
class _Image:
    """What is known of the image that was listed."""

    revision: str = ""
    files: dict[str, ModelFile] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    origin: Origin | None = None
    ours: bool = False


class OciSource:
    """Implements `Source`, `TellsOrigin` and `KnowsLayers`.

    The tag is resolved once, by `listing()`; from then on everything is read by digest, so that a tag which moves
    in the middle changes nothing.
    """

    def __init__(self, location: ImageLocation | ArchiveLocation, network: Network) -> None:
        self._location = location
        self._depot = open_depot(location, network, variable=VARIABLE)
        self._image = _Image()
        self._looked_through: dict[str, LayerFiles] = {}
        self._milestones: dict[str, Milestones] = {}
        self._sizes: dict[str, int] = {}
        self._stopped = threading.Event()  # for a listing that looks through layers, which may take minutes
        self._log = logger(component="oci")

    @property
    def name(self) -> str:
        """The reference as the user gave it."""
        return self._location.uri

    @property
    def revision(self) -> str:
        """The digest that the reference had, after `listing()`."""
        return self._image.revision

    @property
    def origin(self) -> Origin | None:
        """Where the model was before it became an image of ours."""
        return self._image.origin

    def listing(self) -> Listing:
        """All files of the model; `UnsafeNames` with what cannot be read as a file."""
        document = self._depot.manifest("")
        if document is None:
            raise SourceMissing(
                f"there is no image {self.name}",
                hint=f"check {VARIABLE}: the registry, the repository and the tag",
                stage="list",
                store=self.name,
            )
        if document.digest == self._image.revision:
            return Listing.of(self._image.files.values())
        _, manifest = manifest_at(document, self._depot.manifest, where=self.name)
        places = self._places(manifest)
        if not places:
            raise SourceMissing(
                f"there is no file of a model in {self.name}",
                hint=f"a ModelCar has its files below /{FOLDER}; check {VARIABLE}",
                stage="list",
                store=self.name,
            )
        files = {
            path: ModelFile(path, place.size, f"sha256:{place.sha256}", {"sha256": place.sha256})
            for path, place in places.items()
        }
        self._image = _Image(document.digest, files, places, origin_of(manifest), manifest_of(manifest) is not None)
        return Listing.of(files.values())

    def look_again(self, file: ModelFile) -> ModelFile:
        """An archive may be another one by now, of which nothing is taken; what a digest names never changes."""
        if isinstance(self._depot, Archive):
            self._depot.close()
            document = self._depot.manifest("")
            if document is None or document.digest != self._image.revision:
                raise SourceChanged(
                    f"{self.name} was replaced while it was read",
                    hint="start it again: it takes the image that is there by then",
                    store=self.name,
                    path=file.path,
                )
        found = self._image.files.get(file.path)
        if found is None:
            raise SourceMissing(f"{shown(file.path)} is gone from {self.name}", store=self.name, path=file.path)
        return found

    def read(self, file: ModelFile, start: int, length: int) -> Body:
        """Open a range where it lies: in a blob, or in what a packed one unpacks to."""
        image = self._image
        place = image.places.get(file.path)
        if place is None or image.files[file.path].version != file.version:
            raise SourceChanged(
                f"{shown(file.path)} is another one in {self.name} by now", store=self.name, path=file.path
            )
        if isinstance(self._depot, Archive) and self._depot.blob_size(place.blob) is None:
            raise self._depot.changed()  # it was there when we listed: another lane has opened the archive's successor
        if not place.packed:
            return self._depot.read(place.blob, place.offset + start, length)
        begin = place.offset + start
        size = self._sizes[place.blob]
        stream = Inflated(
            lambda at: BlobReader(self._depot, place.blob, size, start=at, segment=_SEGMENT),
            limit=inflation_limit(size),
            start=self._milestones[place.blob].before(begin),
        )
        return InflatedBody(stream, start=begin, length=length, store=self.name)

    def layer_of(self, file: ModelFile) -> tuple[ImageLocation, str] | None:
        """See `KnowsLayers`: what surrounds the file in the layer is read and compared, the file is not."""
        image, location = self._image, self._location
        place = image.places.get(file.path)
        if not image.ours or place is None or not isinstance(location, ImageLocation):
            return None
        before, after = head(file.path, file.size), tail(file.size)
        if image.files[file.path].version != file.version or place.offset != len(before):
            return None
        if self._depot.blob_size(place.blob) != len(before) + file.size + len(after):
            return None
        if range_of(self._depot, place.blob, 0, len(before)) != before:
            return None
        there = range_of(self._depot, place.blob, len(before) + file.size, len(after))
        return (location, place.blob) if there == after else None

    def interrupt(self) -> None:
        self._stopped.set()
        self._depot.interrupt()

    def close(self) -> None:
        self._depot.close()

    def _places(self, manifest: ImageManifest) -> dict[str, Place]:
        """Where each file of the model lies; layers are looked through only where the manifest does not tell."""
        ours = our_files(manifest, name=self.name)
        if ours is not None:
            return {path: place for path, place in ours.items() if not is_control_path(path)}
        layout = layout_of(manifest)
        overlay = Overlay(layout.root)
        for part in layout.parts:
            try:
                overlay.add(self._raw(part) if isinstance(part, RawFile) else self._tar(part, layout.root))
            except Damaged as error:
                raise WrongBytes(
                    f"the layer {part.layer.digest} of {self.name} cannot be read: {error}",
                    hint="the image is damaged, or of a kind that nobody knows; push it again",
                    stage="list",
                    store=self.name,
                ) from error
        files, problems = overlay.files()
        refuse(problems, name=self.name)
        return files

    def _raw(self, part: RawFile) -> LayerFiles:
        path = inside(part.path)
        if not path or part.path.startswith("/"):
            raise ConfigurationError(
                f"the layer {part.layer.digest} of {self.name} has no name to call its file by: {shown(part.path)}",
                hint="push the artifact again with relative names, from the folder of the model",
            )
        layer = part.layer
        place = Place(layer.digest, 0, layer.size, layer.digest.removeprefix("sha256:"))
        return LayerFiles(entries=[Entry(path, place=place)])

    def _tar(self, part: TarLayer, root: str) -> LayerFiles:
        """What a layer holds; one that was looked through is not read again when a listing is repeated."""
        digest = part.layer.digest
        if digest in self._looked_through:
            return self._looked_through[digest]
        if part.packing in {"zstd", "unknown"}:
            raise self._unreadable(part)
        if part.known:
            found = self._headers(part, root)
        else:
            try:
                found = self._whole(part, root)
            except WrongBytes:
                found = self._whole(part, root)  # it may have been the way, which can be another one now
        self._looked_through[digest] = found
        return found

    def _headers(self, part: TarLayer, root: str) -> LayerFiles:
        """The headers alone, of a layer with one file whose digest the manifest tells."""
        layer = part.layer
        tape = Window(
            lambda at, count: range_of(self._depot, layer.digest, at, count), layer.size, ahead=_HEADERS_AHEAD
        )
        found = read_layer(tape, root, blob=layer.digest, packed=False, some=None, known=part.known)
        files = [entry.path for entry in found.entries if not entry.folder]
        if files != [part.path]:
            raise Damaged(f"it should hold {shown(part.path)} alone, and has {', '.join(map(shown, files[:3]))}")
        return found

    def _whole(self, part: TarLayer, root: str) -> LayerFiles:
        """Everything, once: the layer is proved, and each file's digest is known afterwards."""
        layer = part.layer
        packed = part.packing == "gzip"
        reader = BlobReader(self._depot, layer.digest, layer.size, stopped=self._stopped)
        proved = Proved(reader, layer.digest, store=self.name)
        milestones = Milestones()
        stream = (
            Inflated(lambda _: proved, limit=inflation_limit(layer.size), milestones=milestones) if packed else proved
        )
        tape = ForwardTape(stream)
        try:
            found = read_layer(tape, root, blob=layer.digest, packed=packed, some=tape.some)
        except Damaged:
            proved.prove()  # that the bytes are not the layer's says more than what is wrong with them
            raise
        else:
            proved.prove()
        finally:
            proved.close()
        if packed and any(entry.place is not None for entry in found.entries):
            self._keep(layer, milestones)
        self._log.info("layer_examined", layer=layer.digest, bytes=layer.size, files=len(found.entries))
        return found

    def _keep(self, layer: Descriptor, milestones: Milestones) -> None:
        """Remember where reading can begin, within the memory that all layers have together."""
        self._milestones[layer.digest] = milestones
        self._sizes[layer.digest] = layer.size
        while sum(it.count for it in self._milestones.values()) > MOST_MILESTONES_TOGETHER:
            densest = max(self._milestones.values(), key=lambda it: it.count)
            if densest.count == 1:
                return
            densest.thin_out()

    def _unreadable(self, part: TarLayer) -> ConfigurationError:
        how = "compressed with zstd" if part.packing == "zstd" else f"of the kind {shown(part.layer.media_type)}"
        return ConfigurationError(
            f"the layer {part.layer.digest} of {self.name} is {how}, which is not read",
            hint="copy the image once with skopeo copy --dest-compress-format gzip, and name the copy",
        )
