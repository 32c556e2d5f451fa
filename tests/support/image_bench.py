"""A registry on the bench of the contract suite; what is put there is made, and what is there is read, by tarfile."""

import io
import tarfile
from collections.abc import Mapping

import pytest

from syncer.settings.locations import Network
from syncer.stores import open_destination, open_source
from syncer.stores.protocols import Destination, Source
from tests.support.abilities import Able
from tests.support.archive_bench import our_image
from tests.support.image_registry import ImageRegistry


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

    def __init__(self, secret: str) -> None:
        self._registry = ImageRegistry(auth="bearer", password=secret)
        self._repository = self._registry.repository()
        self._files: dict[str, bytes] = {}
        self._open: list[Source | Destination] = []
        self._listed = False

    def source(self) -> Source:
        self._listed = True
        return self._source("latest")

    def single(self, path: str) -> Source:
        pytest.skip("an image is never one file")

    def nowhere(self) -> Source:
        return self._source("nowhere")

    def destination(self) -> Destination:
        destination = open_destination(self._registry.location(), Network())
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
        named = self._registry.named()
        for digest in [digest for digest in self._repository.blobs if digest not in named]:
            del self._repository.blobs[digest]

    def far_end(self) -> dict[str, bytes]:
        blobs = self._repository.blobs
        at_tag = self._registry.document()["layers"] if "latest" in self._repository.tags else []
        named = self._registry.named()
        waiting = [digest for digest in blobs if digest not in named]
        return {
            path: data
            for digest in [*(it["digest"] for it in at_tag), *waiting]
            for path, data in files_of(blobs[digest])
        }

    def close(self) -> None:
        for store in self._open:
            store.close()
        self._registry.close()

    def _source(self, tag: str) -> Source:
        source = open_source(self._registry.location(tag=tag), Network())
        self._open.append(source)
        return source

    def _push(self, tag: str, files: Mapping[str, bytes]) -> None:
        depot = our_image(files)
        document = depot.documents[""]
        self._repository.blobs |= depot.blobs
        self._repository.tags[tag] = document.digest
        former = {} if tag == "latest" else self._repository.manifests
        self._repository.manifests = former | {document.digest: (document.media_type, document.content)}


def files_of(blob: bytes) -> list[tuple[str, bytes]]:
    try:
        with tarfile.open(fileobj=io.BytesIO(blob), mode="r:") as layer:
            readers = [(it.name.removeprefix("models/"), layer.extractfile(it)) for it in layer if it.isfile()]
            return [(name, data.read()) for name, data in readers if data is not None]
    except tarfile.ReadError:
        return []  # a config or a manifest
