"""The sources of `memory.py`: who serves the bytes of each, and what the client is told of it.

The stub has the bytes wherever that is possible: behind the tests' fake IAM as IBM COS, and as the storage that the
tests' fake Hub redirects to.  Only the xet store is in Python, and makes its bytes up.
"""

from __future__ import annotations

import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.clients import OURS, REPOSITORY, Leg, base_environment, ours
from benchmarks.compare import Client
from benchmarks.images import Place
from benchmarks.server import ACCESS_KEY, REGION, SECRET_KEY, Stub
from benchmarks.world import World
from tests.support.fake_hub import FakeHub, File
from tests.support.fake_iam import FakeIam
from tests.support.fake_xet import FakeXet, XetFile

REAL_FILES = frozenset({"dir", "upload"})
_PLAINTEXT = {"S3_SYNC_ALLOW_PLAINTEXT_TOKENS": "true"}
_PIECE = 1 << 20


@contextmanager
def client_of(
    source: str, made: World, place: Place | None = None, *, to_image: bool = False
) -> Iterator[tuple[Client, Path | None]]:
    """Our client for the world's leg with its beginning at `source`, and the folder that it runs in.

    An image at `place` is the source `image`, or with `to_image` the end of the way from the world's own beginning.
    """
    elsewhere = replace(made.leg(), source="", src_endpoint="")
    match source:
        case "cos":
            with FakeIam() as iam:
                yield ours(elsewhere, settings=_of_cos(made, iam)), None
        case "hub":
            with hub_of({"team/model": made}) as endpoint:
                yield ours(elsewhere, settings=hub_settings(endpoint, "team/model")), None
        case "xet":
            files = [
                XetFile(made.objects.size, seed=number, woven=4, path=name.rpartition("/")[2])
                for number, name in enumerate(made.objects.names)
            ]
            with FakeHub() as hub, FakeXet(files, hub=hub.endpoint) as store:
                hub.create("team/model").commit({file.path: file for file in files})
                yield ours(elsewhere, settings=hub_settings(store.url, "team/model") | {"S3_SYNC_HF_XET": "true"}), None
        case "upload":
            yield _uploading(elsewhere, made.leg().source), made.files.parent
        case "image" if place:
            yield place.from_image(), None
        case _ if place and to_image:
            yield place.to_image(), None
        case _:
            yield ours(made.leg()), None


def _of_cos(made: World, iam: FakeIam) -> dict[str, str]:
    bucket, _, prefix = made.objects.prefix.partition("/")
    return _PLAINTEXT | {
        "S3_SYNC_USE_IBMCLOUD_CLI": "true",
        "S3_SYNC_COS_INSTANCE_CRN": f"crn:v1:bluemix:public:cloud-object-storage:global:a/ACC:INST:bucket:{bucket}",
        "S3_SYNC_COS_INSTANCE_REGION": "us-geo",
        "S3_SYNC_COS_BUCKET": bucket,
        "S3_SYNC_COS_MODEL_PREFIX": prefix,
        "S3_SYNC_COS_TEMPORARY_PASSCODE": iam.new_passcode(),
        "S3_SYNC_COS_ENDPOINT": made.source.url,
        "S3_SYNC_COS_IAM_ENDPOINT": iam.url,
    }


def hub_settings(endpoint: str, repository: str) -> dict[str, str]:
    """Ours for a repository of a Hub."""
    return _PLAINTEXT | {"HUGGINGFACE_MODEL": repository, "HF_ENDPOINT": endpoint}


@contextmanager
def hub_of(repositories: Mapping[str, World]) -> Iterator[str]:
    """A Hub whose storage is the worlds' source; its endpoint."""
    with _StubbedHub() as stubbed:
        for name, made in repositories.items():
            stubbed.create(name).commit(_published(made))
        yield stubbed.endpoint


def _uploading(leg: Leg, source: str) -> Client:
    """`syncer upload` of what is in a folder, without a cluster."""
    environment = base_environment(leg) | {
        "AWS_S3_ENDPOINT": leg.dest_endpoint,
        "AWS_S3_BUCKET": leg.target.split("/")[2],
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": REGION,
    }
    command = (sys.executable, str(REPOSITORY / "entrypoint.py"), "upload", f"{Path(source).name}/")
    return Client(OURS, command, environment)


class _Virtual:
    """An object of the stub as the content of a repository's file."""

    def __init__(self, stub: Stub, name: str, size: int) -> None:
        self.url = f"{stub.url}/{name}"
        self.size = size
        self._stub = stub

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` to before `end`: for the digest that the repository tells."""
        if start < end:
            asked = urllib.request.Request(self.url, headers={"Range": f"bytes={start}-{end - 1}"})
            with self._stub.opener().open(asked) as answer:
                yield from iter(lambda: answer.read(_PIECE), b"")


def _published(made: World) -> dict[str, _Virtual]:
    """The world's objects by their names in the repository."""
    return {name.rpartition("/")[2]: _Virtual(made.source, name, made.objects.size) for name in made.objects.names}


class _StubbedHub(FakeHub):
    """A Hub whose storage is the stub."""

    def sign(self, file: File) -> str:
        """Where the stub has it; it takes no signatures."""
        assert isinstance(file.content, _Virtual)
        return file.content.url
