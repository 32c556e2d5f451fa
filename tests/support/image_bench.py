"""Registries on the bench of the contract suite; what is put there is made, and what is there is read, by tarfile."""

import io
import json
import tarfile
from collections.abc import Mapping
from itertools import count
from typing import Any, Protocol

import pytest

from syncer.settings.locations import DestinationLocation, ImageLocation, Network
from syncer.stores import open_destination, open_source
from syncer.stores.protocols import Destination, Source
from tests.support.abilities import Able
from tests.support.archive_bench import our_image
from tests.support.docker_registry import DockerRegistry
from tests.support.foreign_images import DictionaryDepot
from tests.support.image_registry import ImageRegistry

_numbers = count(1)


class Shelf(Protocol):
    """One repository, around the code under test."""

    network: Network
    outlives_a_cut: bool

    def location(self, tag: str) -> ImageLocation: ...
    def push(self, tag: str, depot: DictionaryDepot, *, alone: bool) -> None:
        """Let `tag` name the depot's image; with `alone` nothing else is left in the repository."""
        ...

    def blobs(self) -> Mapping[str, bytes]:
        """Layers and configurations by digest."""
        ...

    def document(self, tag: str) -> dict[str, Any] | None: ...
    def named(self) -> set[str]:
        """The digests that any manifest names."""
        ...

    def close(self) -> None: ...


class FakeShelf:
    """In a registry of this process."""

    network = Network()
    outlives_a_cut = True

    def __init__(self, secret: str) -> None:
        self._registry = ImageRegistry(auth="bearer", password=secret)
        self._repository = self._registry.repository()

    def location(self, tag: str) -> ImageLocation:
        return self._registry.location(tag=tag)

    def push(self, tag: str, depot: DictionaryDepot, *, alone: bool) -> None:
        if alone:
            self._repository.blobs.clear()
            self._repository.manifests.clear()
        document = depot.documents[""]
        self._repository.blobs |= depot.blobs
        self._repository.tags[tag] = document.digest
        self._repository.manifests[document.digest] = (document.media_type, document.content)

    def blobs(self) -> Mapping[str, bytes]:
        return self._repository.blobs

    def document(self, tag: str) -> dict[str, Any] | None:
        return self._registry.document(tag) if tag in self._repository.tags else None

    def named(self) -> set[str]:
        return self._registry.named()

    def close(self) -> None:
        self._registry.close()


class DockerShelf:
    """In Docker's own registry, by the files in its folder.  Half a chunk costs it the upload."""

    outlives_a_cut = False

    def __init__(self, registry: DockerRegistry) -> None:
        self._registry = registry
        self._name = f"contract/model-{next(_numbers)}"
        self._files = registry.repository(self._name)
        self.network = Network(ca_files=(registry.ca_file,) if registry.https else ())

    def location(self, tag: str) -> ImageLocation:
        return self._registry.location(self._name, tag)

    def push(self, tag: str, depot: DictionaryDepot, *, alone: bool) -> None:
        if alone:
            self._files.clear()
        self._files.put(tag, depot.documents[""].content, depot.blobs)

    def blobs(self) -> Mapping[str, bytes]:
        return self._files.blobs()

    def document(self, tag: str) -> dict[str, Any] | None:
        content = self._files.manifests().get(self._files.tag(tag))
        return json.loads(content) if content is not None else None

    def named(self) -> set[str]:
        found = [json.loads(content) for content in self._files.manifests().values()]
        return {it["digest"] for one in found for it in [*one.get("layers", ()), *filter(None, [one.get("config")])]}

    def close(self) -> None:
        """The registry is everybody's."""


class ImageBench(Able):
    """See `Bench`.  An image is sealed as a whole: what was finished before lies in the registry without one.

    Its control folder is a view of the image, and nothing that lies anywhere.
    """

    part_size = 64
    takes_control_characters = True
    parts_in_any_order = False
    resumes_within_files = False
    holds_any_path = False
    keeps_control_files = False
    rewinds = False

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self.outlives_a_cut = shelf.outlives_a_cut
        self._files: dict[str, bytes] = {}
        self._open: list[Source | Destination] = []
        self._listed = False

    @property
    def place(self) -> DestinationLocation:
        return self._shelf.location("latest")

    def below(self, folder: str) -> DestinationLocation:
        raise NotImplementedError

    @property
    def network(self) -> Network:
        return self._shelf.network

    def source(self) -> Source:
        self._listed = True
        return self._source("latest")

    def single(self, path: str) -> Source:
        pytest.skip("an image is never one file")

    def nowhere(self) -> Source:
        return self._source("nowhere")

    def destination(self) -> Destination:
        destination = open_destination(self.place, self.network)
        self._open.append(destination)
        return destination

    def put(self, files: Mapping[str, bytes]) -> None:
        if self._listed:
            pytest.skip("what a source has listed it reads for ever")
        self._files |= {path: data for path, data in files.items() if not path.startswith(".syncer/")}
        self._push("latest", self._files)

    def put_beside(self, path: str, data: bytes) -> None:
        self._push("latest2", {path: data})

    def remove(self, path: str) -> None:
        if self._listed:
            pytest.skip("what a source has listed it reads for ever")
        del self._files[path]
        self._push("latest", self._files)

    def far_end(self) -> dict[str, bytes]:
        blobs, named = self._shelf.blobs(), self._shelf.named()
        at_tag = (self._shelf.document("latest") or {"layers": []})["layers"]
        waiting = [digest for digest in blobs if digest not in named]
        return {
            path: data
            for digest in [*(it["digest"] for it in at_tag), *waiting]
            for path, data in files_of(blobs[digest])
        }

    def close(self) -> None:
        for store in self._open:
            store.close()
        self._shelf.close()

    def _source(self, tag: str) -> Source:
        source = open_source(self._shelf.location(tag), self._shelf.network)
        self._open.append(source)
        return source

    def _push(self, tag: str, files: Mapping[str, bytes]) -> None:
        self._shelf.push(tag, our_image(files), alone=tag == "latest")


def files_of(blob: bytes) -> list[tuple[str, bytes]]:
    try:
        with tarfile.open(fileobj=io.BytesIO(blob), mode="r:") as layer:
            readers = [(it.name.removeprefix("models/"), layer.extractfile(it)) for it in layer if it.isfile()]
            return [(name, data.read()) for name, data in readers if data is not None]
    except tarfile.ReadError:
        return []  # a config or a manifest
