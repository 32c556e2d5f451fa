"""Sources whose names lead elsewhere in time: all pods read the revision that the plan names, and no other."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from syncer import marker
from syncer.errors import SourceChanged
from syncer.progress import Progress
from syncer.settings.locations import (
    ArchiveLocation,
    DirectoryLocation,
    HuggingFaceLocation,
    Settings,
    SourceLocation,
)
from syncer.sharing import board, leading
from syncer.stores.directory import DirectoryDestination
from tests.flow.pods import Cluster, shared_plan, until
from tests.support.buckets import S3Server
from tests.support.fake_hub import FakeHub
from tests.support.foreign_images import DictionaryDepot, olot_image, plain_image, tar_of
from tests.support.image_registry import ImageRegistry
from tests.support.models import pattern, read_model

MiB = 1 << 20
FIRST = {
    "model-1.safetensors": pattern(100_000, 1),
    "model-2.safetensors": pattern(100_000, 2),
    "model-3.safetensors": pattern(100_000, 3),
    "config.json": b'{"model_type": "bert"}',
    "tokenizer/vocab.txt": pattern(5_000, 4),
    "empty.txt": b"",
}
SECOND = {path: data[::-1] for path, data in FIRST.items() if path != "empty.txt"} | {"generation_config.json": b"{}"}
LARGE = {"large.safetensors": (81 * pattern(65_521, 5))[: 5 * MiB + 7], "config.json": b"{}"}


@dataclass
class Place:
    """A model under a name: `put` makes the name lead to other files and tells their revision, `remove` nowhere."""

    location: SourceLocation
    put: Callable[[dict[str, bytes]], str]
    remove: Callable[[], None]


@contextmanager
def of_the_hub() -> Iterator[Place]:
    with FakeHub() as hub:
        repository = hub.create("team/model")

        def put(files: dict[str, bytes]) -> str:
            there = repository.commits.get(repository.branches.get("main", ""), {})
            return repository.commit(files, remove=tuple(path for path in there if path not in files))

        location = HuggingFaceLocation("team/model", revision="main", endpoint=hub.endpoint)
        yield Place(location, put, repository.branches.clear)


@contextmanager
def of_a_registry(push: Callable[[DictionaryDepot, dict[str, bytes]], None]) -> Iterator[Place]:
    with ImageRegistry(auth="bearer") as registry:
        repository = registry.repository()

        def put(files: dict[str, bytes]) -> str:
            depot = DictionaryDepot()
            push(depot, files)
            repository.blobs |= depot.blobs
            repository.manifests |= {each.digest: (each.media_type, each.content) for each in depot.documents.values()}
            repository.tags["latest"] = depot.documents[""].digest
            return repository.tags["latest"]

        yield Place(registry.location(), put, repository.tags.clear)


def packed(depot: DictionaryDepot, files: dict[str, bytes]) -> None:
    plain_image(depot, [tar_of((f"models/{path}", data) for path, data in files.items())])


PLACES: dict[str, Callable[[], AbstractContextManager[Place]]] = {
    "hub": of_the_hub,
    "image": lambda: of_a_registry(olot_image),
    "packed image": lambda: of_a_registry(packed),
}


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with PLACES[request.param]() as place:
        yield place


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "POLL_SECONDS", 0.02)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    (tmp_path / "volume").mkdir()
    return tmp_path / "volume/models"


def sealed_revision(volume: Path) -> str:
    seal = marker.read_seal(DirectoryDestination(DirectoryLocation(volume)).control)
    return seal.revision if seal is not None else ""


def test_a_name_that_leads_elsewhere_meanwhile_mixes_nothing(place: Place, volume: Path) -> None:
    cluster = Cluster(Settings(source=place.location, destination=DirectoryLocation(volume)))
    planned = place.put(FIRST)
    leader = cluster.start(0)
    assert shared_plan(volume).revision == planned
    place.put(SECOND)
    moved = cluster.start(1).end()
    place.remove()
    gone = cluster.start(2).end()
    assert [(each.reason, each.revision) for each in (moved, gone)] == [("Shared", planned)] * 2
    assert 0 not in (moved.files, gone.files)
    assert leader.end().revision == planned
    assert read_model(volume) == FIRST
    assert sealed_revision(volume) == planned


@pytest.mark.parametrize("place", ["hub", "packed image"], indirect=True)
def test_several_pods_bring_the_parts_of_one_file(place: Place, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leading, "READ_BACK", 0.0)
    bucket = s3.new_bucket("demo")
    settings = Settings(source=place.location, destination=s3.location(bucket, "m/"))
    cluster = Cluster(replace(settings, transfer=replace(settings.transfer, chunk_size=5 * MiB)))
    place.put(LARGE)
    first, *others = cluster.run()
    assert s3.read(bucket, "m/") == LARGE
    assert sorted(s3.control(bucket, "m/")) == [".syncer/complete.json", ".syncer/manifest.json"]
    assert first.files == len(LARGE)
    assert [each.bytes // MiB for each in others] == [5, 0], "index 2 has its last bytes"
    assert others[1].bytes >= 7


def test_an_archive_that_was_replaced_meanwhile_is_not_read(tmp_path: Path, volume: Path) -> None:
    archive = tmp_path / "model.tar"
    images: list[bytes] = []
    for files in FIRST, SECOND:
        depot = DictionaryDepot()
        olot_image(depot, files)
        depot.archive(archive)
        images.append(archive.read_bytes())
    archive.write_bytes(images[0])
    cluster = Cluster(Settings(ArchiveLocation(archive), DirectoryLocation(volume)), 2)
    leader = cluster.start(0)
    plan, control = shared_plan(volume), DirectoryDestination(DirectoryLocation(volume)).control
    until(lambda: board.read_done(control, plan.run, 0) is not None)  # it reads the archive no more
    archive.write_bytes(images[1])
    with pytest.raises(SourceChanged, match="not what index 0 has planned from"):
        cluster.start(1).end()
    archive.write_bytes(images[0])
    assert cluster.start(1).end().reason == "Shared"
    leader.end()
    assert read_model(volume) == FIRST


def test_an_archive_that_is_replaced_in_the_middle_is_not_mixed(tmp_path: Path, volume: Path) -> None:
    archive = tmp_path / "model.tar"

    def write(files: dict[str, bytes]) -> None:
        depot = DictionaryDepot()
        olot_image(depot, files)
        depot.archive(archive)

    @contextmanager
    def replaces(_progress: Progress) -> Iterator[None]:
        write(SECOND)
        yield

    cluster = Cluster(Settings(ArchiveLocation(archive), DirectoryLocation(volume)), 1)
    write(FIRST)
    with pytest.raises(SourceChanged, match="while it was read"):
        cluster.start(0, show=replaces).end()
    assert sealed_revision(volume) == ""
    [second] = cluster.run(delete="recorded")
    assert sealed_revision(volume) == second.revision
    assert read_model(volume) == SECOND
