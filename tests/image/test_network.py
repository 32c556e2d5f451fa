"""Nobody is talked to but who was named: behind walls that count what else leaves, and by what Python is asked for.

The walls see every packet, whichever library sends it; the hook sees names and addresses, whatever becomes of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.server import ACCESS_KEY, REGION, SECRET_KEY, Objects, Stub, build, compiler
from tests.image.hooks import audited, auditing, place
from tests.image.pods import NOWHERE_TO_WRITE, Image, Pod, S3Server, Start
from tests.support.fake_hub import FakeHub
from tests.support.image_registry import ImageRegistry
from tests.support.manifests import secret
from tests.support.walled_network import NoWalls, WalledNetwork, walled_network

pytestmark = [pytest.mark.image, pytest.mark.timeout(300)]

MODEL = Objects("src/model/", 3, (9 << 20) + 1)
FILES = {"config.json": b'{"model_type": "llama"}', "model.safetensors": bytes(9 << 20)}
TOKEN = "hf_canary_of_the_hub_0123456789"


# --------------------------------------------------------------------------------------------------------------- walls


@pytest.fixture
def walls() -> Iterator[WalledNetwork]:
    try:
        with walled_network() as made:
            yield made
    except NoWalls as missing:
        pytest.skip(str(missing))


@pytest.fixture
def walled_pod(image: Image, arbitrary_user: str, message: Path, walls: WalledNetwork) -> Pod:
    return Pod(image, arbitrary_user, message, network=walls.network)


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Stub]:
    """On every address of this machine, so that the test asks it by the loopback."""
    if compiler() is None:
        pytest.skip("no C compiler here: the cheap S3 server cannot be built")
    with Stub(build(tmp_path), buckets=["demo"], objects=[MODEL], flags=["-V", "-a", "0.0.0.0"]) as server:
        yield server


def from_behind(walls: WalledNetwork, stub: Stub, *, to: str) -> Start:
    keys = {
        "ENDPOINT": f"http://{walls.address}:{stub.port}",
        "ACCESS_KEY": ACCESS_KEY,
        "SECRET_KEY": SECRET_KEY,
        "REGION": REGION,
    }
    variables = {f"S3_SYNC_{side}__{name}": value for side in ("SRC", "DEST") for name, value in keys.items()}
    if not to.startswith("s3:"):
        variables = {name: value for name, value in variables.items() if not name.startswith("S3_SYNC_DEST__")}
    variables |= {"S3_SYNC_SRC__PATH": f"s3://{MODEL.prefix}", "S3_SYNC_DEST__PATH": to}
    return Start(variables, [], "256Mi")


def into_registry(registry: ImageRegistry, s3: S3Server) -> Start:
    variables = {
        "S3_SYNC_SRC__ENDPOINT": s3.endpoint,
        "S3_SYNC_SRC__ACCESS_KEY": "source-access-key",
        "S3_SYNC_SRC__SECRET_KEY": "canary-source-secret",
        "S3_SYNC_SRC__PATH": "s3://source/model/",
        "S3_SYNC_DEST__PATH": f"oci://{registry.authority}/team/model:1",
        "OCI_VALIDATE_TLS": "false",
    }
    return Start(variables, [], "256Mi")


def test_the_walls_count_what_goes_elsewhere(image: Image, walls: WalledNetwork) -> None:
    assert walls.strays() == 0
    look_up = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'?', ('198.51.100.1', 53))"
    options = ["--rm", f"--network={walls.network}", "--entrypoint=python3"]
    image.podman("run", *options, image.base, "-c", look_up)
    assert walls.strays() == 1


def test_nothing_else_leaves_on_the_way_between_buckets(walled_pod: Pod, walls: WalledNetwork, stub: Stub) -> None:
    start = from_behind(walls, stub, to="s3://demo/models/")
    code, output = walled_pod.run(start, *NOWHERE_TO_WRITE)
    assert code == 0, output
    found = {item["name"]: item["right"] for item in stub.stats()["objects"] if ".syncer" not in item["name"]}
    assert found == {f"demo/models/{name.rpartition('/')[2]}": True for name in MODEL.names}
    assert walls.strays() == 0


def test_nothing_else_leaves_on_the_way_to_a_volume(
    walled_pod: Pod, walls: WalledNetwork, stub: Stub, tmp_path: Path
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o770)
    start = from_behind(walls, stub, to="/mnt/models")
    code, output = walled_pod.run(start, *NOWHERE_TO_WRITE, f"--volume={volume}:/mnt/models")
    assert code == 0, output
    for name in MODEL.names:
        with stub.opener().open(f"{stub.url}/{name}") as answer:
            assert (volume / name.rpartition("/")[2]).read_bytes() == answer.read()
    assert walls.strays() == 0


# ---------------------------------------------------------------------------------------------------------------- hook


@pytest.fixture
def demo(s3: S3Server) -> S3Server:
    s3.put("demo", {})
    return s3


def test_the_hub_is_asked_for_the_model_and_nobody_for_anything_else(pod: Pod, demo: S3Server, tmp_path: Path) -> None:
    with FakeHub() as hub:
        hub.tokens.add(TOKEN)
        hub.create("team/model").commit(FILES)
        values = {"HUGGINGFACE_MODEL": "team/model", "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN}
        values |= {"S3_SYNC_ALLOW_PLAINTEXT_TOKENS": "true"}
        start = Start.of_template("synchronize-model.yaml", secret("model-source-huggingface.yaml") | values, demo)
        code, output = pod.run(start, *auditing(tmp_path / "hooks"))
        assert code == 0, output
        assert demo.contents("demo")["models/model.safetensors"] == FILES["model.safetensors"]
        assert audited(output) == {place(hub.endpoint), place(hub.storage), place(demo.endpoint)}


def test_an_image_goes_to_its_registry_alone(pod: Pod, demo: S3Server, tmp_path: Path) -> None:
    demo.put("source", {f"model/{path}": body for path, body in FILES.items()})
    with ImageRegistry() as registry:
        start = into_registry(registry, demo)
        code, output = pod.run(start, *auditing(tmp_path / "hooks"))
        assert code == 0, output
        assert registry.repositories["team/model"].tags
        assert audited(output) == {place(registry.url), place(demo.endpoint)}
