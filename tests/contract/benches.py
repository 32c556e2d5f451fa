"""What the contract suite needs to put a store on the bench: the store, and a way around it to compare bytes.

One line in `BENCHES` for each kind of store; a test refuses a registered store without one.
"""

import itertools
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from syncer.settings.locations import DestinationLocation, DirectoryLocation, GatheredLocation, Network, S3Location
from syncer.stores import open_destination, open_source
from syncer.stores.protocols import Destination, Source
from syncer.stores.uploaded import UploadedSource
from tests.support.abilities import Able
from tests.support.archive_bench import ArchiveBench
from tests.support.buckets import S3Server
from tests.support.cos_places import cos_location, own_redactor
from tests.support.fake_cos import FakeCos
from tests.support.fake_hub_bench import HubBench
from tests.support.fake_iam import FakeIam
from tests.support.image_bench import DockerShelf, FakeShelf, ImageBench
from tests.support.memory_store import MemoryDestination, MemorySource, MemoryVolume
from tests.support.rados_gateway import RadosGateway

SECRET = "canary-secret-key-0123456789"
MiB = 1024 * 1024


class Bench(Protocol):
    """One folder for one model in one store; `place` and `network` are what the settings say of it.

    `part_size` is a part as small as the store takes; `takes_control_characters` is about names; the other flags are
    those of `Able`.  `put`, `remove` and `far_end` go around the code under test, by full path below the folder,
    control files included; `put_beside` puts a file into a folder whose name begins alike.
    """

    part_size: int
    takes_control_characters: bool
    parts_in_any_order: bool
    resumes_within_files: bool
    holds_any_path: bool
    keeps_control_files: bool
    rewinds: bool
    outlives_a_cut: bool

    @property
    def place(self) -> DestinationLocation: ...
    def below(self, folder: str) -> DestinationLocation:
        """A folder inside it."""
        ...

    @property
    def network(self) -> Network: ...

    def source(self) -> Source: ...
    def single(self, path: str) -> Source:
        """A source whose location is this one file."""
        ...

    def nowhere(self) -> Source:
        """A source whose folder is not there."""
        ...

    def destination(self) -> Destination: ...
    def put(self, files: Mapping[str, bytes]) -> None: ...
    def put_beside(self, path: str, data: bytes) -> None: ...
    def remove(self, path: str) -> None: ...
    def far_end(self) -> dict[str, bytes]: ...
    def close(self) -> None:
        """Close all that was handed out."""
        ...


def needs(bench: Bench, ability: str) -> None:
    """Skip a test of what a store cannot do, and says so by its `Limits` or in its description."""
    if not getattr(bench, ability):
        pytest.skip(f"{type(bench).__name__} has not: {ability}")


class MemoryBench(Able):
    part_size = 64
    takes_control_characters = True

    network = Network()

    def __init__(self) -> None:
        self.volume = MemoryVolume()

    @property
    def place(self) -> DestinationLocation:
        pytest.skip("no settings name it")

    def below(self, folder: str) -> DestinationLocation:
        pytest.skip("no settings name it")

    def source(self) -> Source:
        return MemorySource(self.volume, "models/a/")

    def single(self, path: str) -> Source:
        return MemorySource(self.volume, "models/a/", only=path)

    def nowhere(self) -> Source:
        return MemorySource(self.volume, "models/nowhere/")

    def destination(self) -> Destination:
        return MemoryDestination(self.volume, "models/a/")

    def put(self, files: Mapping[str, bytes]) -> None:
        self.volume.fill("models/a/", dict(files))

    def put_beside(self, path: str, data: bytes) -> None:
        self.volume.put(f"models/ab/{path}", data)

    def remove(self, path: str) -> None:
        del self.volume.objects[f"models/a/{path}"]

    def far_end(self) -> dict[str, bytes]:
        start = "models/a/"
        return {key[len(start) :]: it.data for key, it in self.volume.objects.items() if key.startswith(start)}

    def close(self) -> None:
        """Nothing is open."""


class UploadedBench(MemoryBench):
    """The source over a destination; the destination itself is the one in memory."""

    def source(self) -> Source:
        return UploadedSource(self.destination())

    def single(self, path: str) -> Source:
        pytest.skip("a destination is never one file")

    def nowhere(self) -> Source:
        return UploadedSource(MemoryDestination(self.volume, "models/nowhere/"))


class DirectoryBench(Able):
    part_size = 64
    takes_control_characters = True

    network = Network()

    def __init__(self, folder: Path) -> None:
        self.root = folder / "models" / "a"
        self._seconds = itertools.count(1_700_000_000)

    @property
    def place(self) -> DestinationLocation:
        self.root.parent.mkdir(exist_ok=True)
        return DirectoryLocation(self.root)

    def below(self, folder: str) -> DestinationLocation:
        return DirectoryLocation(self.root / folder)

    def source(self) -> Source:
        return open_source(DirectoryLocation(self.root), Network())

    def single(self, path: str) -> Source:
        return open_source(DirectoryLocation(self.root / path), Network())

    def nowhere(self) -> Source:
        return open_source(DirectoryLocation(self.root.parent / "nowhere"), Network())

    def destination(self) -> Destination:
        return open_destination(self.place, Network())

    def put(self, files: Mapping[str, bytes]) -> None:
        for path, data in files.items():
            self._put(self.root / path, data)

    def put_beside(self, path: str, data: bytes) -> None:
        self._put(self.root.parent / "ab" / path, data)

    def remove(self, path: str) -> None:
        (self.root / path).unlink()

    def far_end(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in self.root.rglob("*")
            if path.is_file() and not path.is_symlink()
        }

    def close(self) -> None:
        """Nothing is open."""

    def _put(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        # The clock of a volume may tick too slowly for two changes in one test.
        second = next(self._seconds)
        os.utime(path, (second, second))


class GatheredBench(DirectoryBench):
    """One path of several that somebody might name: its files have versions of their own."""

    def source(self) -> Source:
        return self._gathered(self.root)

    def single(self, path: str) -> Source:
        return self._gathered(self.root / path)

    def nowhere(self) -> Source:
        return self._gathered(self.root.parent / "nowhere")

    def _gathered(self, path: Path) -> Source:
        return open_source(GatheredLocation((path,), told=str(self.root)), Network())


class S3Bench(Able):
    part_size = 5 * MiB
    takes_control_characters = True

    def __init__(self, server: S3Server) -> None:
        self.server = server
        self._open = ExitStack()
        self.client = server.client
        self._open.callback(self.client.close)
        self.bucket = server.new_bucket("contract")

    def location(self, prefix: str) -> S3Location:
        return self.server.location(self.bucket, prefix)

    @property
    def place(self) -> DestinationLocation:
        return self.location("models/a/")

    def below(self, folder: str) -> DestinationLocation:
        return self.location(f"models/a/{folder}/")

    @property
    def network(self) -> Network:
        return self.server.network

    def source(self) -> Source:
        return self._source("models/a")

    def single(self, path: str) -> Source:
        return self._source(f"models/a/{path}")

    def nowhere(self) -> Source:
        return self._source("models/nowhere/")

    def destination(self) -> Destination:
        destination = open_destination(self.place, self.network)
        self._open.callback(destination.close)
        return destination

    def close(self) -> None:
        self._open.close()

    def _source(self, prefix: str) -> Source:
        source = open_source(self.location(prefix), self.network)
        self._open.callback(source.close)
        return source

    def put(self, files: Mapping[str, bytes]) -> None:
        self.server.fill(self.bucket, files, "models/a/")

    def put_beside(self, path: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=f"models/ab/{path}", Body=data)

    def remove(self, path: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=f"models/a/{path}")

    def far_end(self) -> dict[str, bytes]:
        return self.server.read(self.bucket, "models/a/") | self.server.control(self.bucket, "models/a/")


class MotoBench(S3Bench):
    """moto runs in this process: many objects are put into its memory without a request for each."""

    takes_control_characters = False  # its routing of URLs has none

    def put(self, files: Mapping[str, bytes]) -> None:
        backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        for path, data in files.items():
            backend.put_object(self.bucket, f"models/a/{path}", data)


class CosBench(MotoBench):
    """The same bucket, behind a door that wants a token; each source logs in with a passcode of its own."""

    def __init__(self, server: S3Server) -> None:
        super().__init__(server)
        self._open.enter_context(own_redactor())
        self.iam = self._open.enter_context(FakeIam())
        self.cos = self._open.enter_context(FakeCos(self.iam, server.endpoint))

    def _source(self, prefix: str) -> Source:
        source = open_source(cos_location(self.iam, self.cos.url, bucket=self.bucket, prefix=prefix), self.network)
        self._open.callback(source.close)
        return source


def _s3(request: pytest.FixtureRequest) -> Bench:
    return MotoBench(request.getfixturevalue("moto"))


def _rgw(request: pytest.FixtureRequest, *, https: bool) -> Bench:
    gateway: RadosGateway = request.getfixturevalue("rgw")
    return S3Bench(gateway.server(https=https))


def _registry(request: pytest.FixtureRequest, fixture: str) -> Bench:
    return ImageBench(DockerShelf(request.getfixturevalue(fixture)))


@dataclass(frozen=True)
class Line:
    """One kind of store on the bench: the registered classes that it covers, and whether it can be written to."""

    make: Callable[[pytest.FixtureRequest], Bench]
    covers: tuple[str, ...]
    writes: bool = True
    marks: tuple[pytest.MarkDecorator, ...] = ()


BENCHES: dict[str, Line] = {
    "memory": Line(lambda _: MemoryBench(), ()),
    "uploaded": Line(lambda _: UploadedBench(), ("syncer.stores.uploaded:UploadedSource",), writes=False),
    "directory": Line(
        lambda request: DirectoryBench(request.getfixturevalue("tmp_path")),
        ("syncer.stores.directory:DirectorySource", "syncer.stores.directory:DirectoryDestination"),
    ),
    "gathered": Line(
        lambda request: GatheredBench(request.getfixturevalue("tmp_path")),
        ("syncer.stores.gathered:GatheredSource",),
        writes=False,
    ),
    "cos": Line(
        lambda request: CosBench(request.getfixturevalue("moto")), ("syncer.stores.cos:CosSource",), writes=False
    ),
    "s3": Line(_s3, ("syncer.stores.s3:S3Source", "syncer.stores.s3:S3Destination")),
    "noobaa": Line(lambda request: MotoBench(request.getfixturevalue("noobaa")), ()),
    "huggingface": Line(lambda _: HubBench(SECRET), ("syncer.stores.huggingface:HuggingFaceSource",), writes=False),
    "archive": Line(
        lambda request: ArchiveBench(request.getfixturevalue("tmp_path")),
        ("syncer.stores.oci.source:OciSource", "syncer.stores.oci.archive_destination:ArchiveDestination"),
    ),
    "image": Line(lambda _: ImageBench(FakeShelf(SECRET)), ("syncer.stores.oci.destination:OciDestination",)),
    "rgw-http": Line(lambda request: _rgw(request, https=False), (), marks=(pytest.mark.real,)),
    "rgw-https": Line(lambda request: _rgw(request, https=True), (), marks=(pytest.mark.real,)),
    "registry-http": Line(lambda request: _registry(request, "basic_registry"), (), marks=(pytest.mark.real,)),
    "registry-https": Line(lambda request: _registry(request, "bearer_registry"), (), marks=(pytest.mark.real,)),
}
