"""One image for all tests of this folder, and an S3 server that its containers reach by the host's network."""

from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.image.pods import TAG, Image, Pod, S3Server
from tests.support.podman import Unavailable, build, prepare, snapshot


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    try:
        podman, base = prepare(tmp_path_factory.mktemp("podman"))
    except Unavailable as missing:
        pytest.skip(str(missing))
    context = snapshot(tmp_path_factory.mktemp("context"))
    return Image(podman, base, context, build(podman, base, context, TAG))


@pytest.fixture
def arbitrary_user(image: Image) -> str:
    """A UID that no file of the image names, with group 0, as OpenShift gives it."""
    return "54321:0" if image.podman.rootless() else "1000680000:0"


@pytest.fixture
def s3() -> Iterator[S3Server]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        # All servers of one process share their buckets.
        with urlopen(Request(f"{endpoint}/moto-api/reset", method="POST"), timeout=10):
            pass
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id="bystander",
            aws_secret_access_key="bystander",
            region_name="us-east-1",
        )
        yield S3Server(endpoint, client)
    finally:
        server.stop()


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """As one with an fsGroup: writable for group 0."""
    folder = tmp_path / "volume"
    folder.mkdir()
    folder.chmod(0o770)
    return folder


@pytest.fixture
def message(tmp_path: Path) -> Path:
    """The termination message as the kubelet makes it: empty, and everybody may write it."""
    file = tmp_path / "termination-log"
    file.touch()
    file.chmod(0o666)
    return file


@pytest.fixture
def pod(image: Image, arbitrary_user: str, message: Path) -> Pod:
    return Pod(image, arbitrary_user, message)
