"""An archive on the bench of the contract suite; what is put there is made, and what is there is read, by tarfile."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from syncer.settings.locations import ArchiveLocation, DestinationLocation, Network
from syncer.stores import open_destination, open_source
from syncer.stores.protocols import Destination, Source
from tests.support.abilities import Able
from tests.support.foreign_images import TAR, DictionaryDepot, member, tar_of

_OURS = "io.github.model-syncer."
_CONTROL = ".syncer/"


class ArchiveBench(Able):
    """See `Bench`.  An archive is sealed as a whole: what was finished before shows in the partial one beside it."""

    part_size = 64
    takes_control_characters = True
    parts_in_any_order = False
    resumes_within_files = False
    holds_any_path = False
    network = Network()

    def __init__(self, folder: Path) -> None:
        self._path = folder / "model.tar"
        self._control = folder / ".model.tar.syncer"
        self._files: dict[str, bytes] = {}
        self._open: list[Source | Destination] = []
        self._listed = False

    @property
    def place(self) -> DestinationLocation:
        return ArchiveLocation(self._path)

    def below(self, folder: str) -> DestinationLocation:
        raise NotImplementedError

    def source(self) -> Source:
        self._listed = True
        return self._source(self._path)

    def single(self, path: str) -> Source:
        pytest.skip("an archive is never one file")

    def nowhere(self) -> Source:
        return self._source(self._path.with_name("nowhere.tar"))

    def destination(self) -> Destination:
        destination = open_destination(self.place, self.network)
        self._open.append(destination)
        return destination

    def put(self, files: Mapping[str, bytes]) -> None:
        if self._listed:
            pytest.skip("what a source has opened it reads for ever")
        for path in files:
            if path.startswith(_CONTROL):
                file = self._control / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(files[path])
        self._files |= {path: data for path, data in files.items() if not path.startswith(_CONTROL)}
        our_archive(self._path, self._files)

    def put_beside(self, path: str, data: bytes) -> None:
        our_archive(self._path.with_name("model.tar2"), {path: data})

    def remove(self, path: str) -> None:
        if self._listed:
            pytest.skip("what a source has opened it reads for ever")
        del self._files[path]
        our_archive(self._path, self._files)

    def far_end(self) -> dict[str, bytes]:
        partial = self._path.with_name(".model.tar.partial")
        found = files_in(self._path) | files_in(partial)
        below = [path for path in self._control.rglob("*") if path.is_file()]
        return found | {str(path.relative_to(self._control)): path.read_bytes() for path in below}

    def close(self) -> None:
        for store in self._open:
            store.close()

    def _source(self, path: Path) -> Source:
        source = open_source(ArchiveLocation(path), Network())
        self._open.append(source)
        return source


def our_archive(path: Path, files: Mapping[str, bytes]) -> None:
    """An archive as a run of ours leaves it."""
    temporary = path.with_name("put.tar")
    our_image(files).archive(temporary)
    temporary.replace(path)


def our_image(files: Mapping[str, bytes]) -> DictionaryDepot:
    """An image as a run of ours makes it."""
    depot = DictionaryDepot()
    layers, prints = [], hashlib.sha256()
    for name in sorted(files):
        sha256 = hashlib.sha256(files[name]).hexdigest()
        parts = ["models", *name.split("/")]
        folders = [member("/".join(parts[:depth]), tarfile.DIRTYPE, mode=0o775) for depth in range(1, len(parts))]
        told = {"path": name, "size": str(len(files[name])), "sha256": sha256, "version": "v1"}
        layers.append(
            depot.descriptor(
                tar_of([*folders, (f"models/{name}", files[name])], mode=0o664, trimmed=True),
                TAR,
                **{_OURS + key: value for key, value in told.items()},
            )
        )
        prints.update(json.dumps([name, len(files[name]), [["sha256", sha256]]]).encode())
    depot.push(layers, annotations={f"{_OURS}source": "s3://x/", f"{_OURS}fingerprint": f"sha256:{prints.hexdigest()}"})
    return depot


def files_in(path: Path) -> dict[str, bytes]:
    """The files in all layers of an archive, also of one that is not finished."""
    if not path.exists():
        return {}
    found = {}
    with tarfile.open(path, mode="r:", ignore_zeros=True) as archive:
        for blob in archive:
            content = archive.extractfile(blob)
            if not blob.name.startswith("blobs/") or content is None:
                continue
            try:
                with tarfile.open(fileobj=io.BytesIO(content.read()), mode="r:") as layer:
                    for it in layer:
                        if it.isfile() and (data := layer.extractfile(it)) is not None:
                            found[it.name.removeprefix("models/")] = data.read()
            except tarfile.ReadError:
                continue  # a config or a manifest
    return found
