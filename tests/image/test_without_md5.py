"""Where the host forbids MD5, as in FIPS mode: all is copied and proved, and ETags are compared where they may be.

Debian has no FIPS provider for OpenSSL, so a hook refuses in its place, as OpenSSL's Python does or wholly.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.image.hooks import Md5, without_md5
from tests.image.pods import TAG, Image, Pod, S3Server, Start, model_of, restrictions
from tests.support.fake_hub import FakeHub
from tests.support.image_registry import ImageRegistry

pytestmark = [pytest.mark.image, pytest.mark.timeout(300)]

_noise = random.Random(20261122)
MODEL = {f"small/{number}.json": _noise.randbytes(700 + number) for number in range(12)}
MODEL |= {"empty.txt": b"", "model.safetensors": _noise.randbytes((21 << 20) + 13)}
REFUSED: tuple[Md5, ...] = ("for security alone", "never")

ASK = """
import hashlib
def able(**more):
    try:
        return bool(hashlib.md5(b"", **more))
    except ValueError:
        return False
from syncer.stores.s3.etags import new_md5
print(able(), able(usedforsecurity=False), new_md5() is not None, len(hashlib.sha256(b"").digest()))
"""


@pytest.fixture
def stocked(s3: S3Server) -> S3Server:
    s3.put("source", {f"model/{path}": body for path, body in MODEL.items()})
    s3.put("demo", {})
    return s3


def from_bucket(s3: S3Server, destination: str, **more: str) -> Start:
    variables: dict[str, str] = {}
    for side in ("SRC", "DEST") if destination.startswith("s3:") else ("SRC",):
        variables |= {
            f"S3_SYNC_{side}__ENDPOINT": s3.endpoint,
            f"S3_SYNC_{side}__ACCESS_KEY": "access-key",
            f"S3_SYNC_{side}__SECRET_KEY": "canary-secret",
        }
    variables |= {"S3_SYNC_SRC__PATH": "s3://source/model/", "S3_SYNC_DEST__PATH": destination} | more
    return Start(variables, [], "256Mi")


@pytest.mark.parametrize(
    ("refused", "said"), [(REFUSED[0], "False True True 32"), (REFUSED[1], "False False False 32")]
)
def test_the_hook_refuses_as_such_a_host_does(
    image: Image, arbitrary_user: str, tmp_path: Path, refused: Md5, said: str
) -> None:
    options = [*restrictions(arbitrary_user), *without_md5(tmp_path / "hooks", refused), "--entrypoint=python3"]
    found = image.podman.ask("run", "--rm", *options, "--entrypoint=/opt/syncer/bin/python", TAG, "-c", ASK)
    assert found == said


@pytest.mark.parametrize("refused", REFUSED)
def test_between_buckets(pod: Pod, stocked: S3Server, tmp_path: Path, refused: Md5) -> None:
    options = without_md5(tmp_path / "hooks", refused)
    start = from_bucket(stocked, "s3://demo/models/", S3_SYNC_DELETE="true")
    code, output = pod.run(start, *options)
    assert code == 0, output
    assert model_of(stocked.contents("demo"), "models/") == MODEL

    # Several files at once are deleted by a request that used to carry an MD5.
    left = {path: body for path, body in MODEL.items() if not path.startswith("small/")}
    for path in MODEL.keys() - left.keys():
        stocked.client.delete_object(Bucket="source", Key=f"model/{path}")
    code, output = pod.run(start, *options)
    assert code == 0, output
    assert pod.said()["copied_bytes"] == 0
    assert model_of(stocked.contents("demo"), "models/") == left


def test_to_an_image(pod: Pod, stocked: S3Server, tmp_path: Path) -> None:
    with ImageRegistry() as registry:
        start = from_bucket(stocked, f"oci://{registry.authority}/team/model:1", OCI_VALIDATE_TLS="false")
        code, output = pod.run(start, *without_md5(tmp_path / "hooks", "never"))
        assert code == 0, output
        layers = registry.document("1")["layers"]
        assert len(layers) == len(MODEL)
        assert all(layer["digest"] in registry.repository().blobs for layer in layers)


def test_from_the_hub_to_a_volume(pod: Pod, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o770)
    with FakeHub() as hub:
        hub.create("team/model").commit(MODEL)
        variables = {
            "HUGGINGFACE_MODEL": "team/model",
            "HF_ENDPOINT": hub.endpoint,
            "S3_SYNC_DEST__PATH": "/mnt/models",
        }
        options = [*without_md5(tmp_path / "hooks", "never"), f"--volume={volume}:/mnt/models"]
        code, output = pod.run(Start(variables, [], "256Mi"), *options)
    assert code == 0, output
    files = {path.relative_to(volume).as_posix(): path.read_bytes() for path in volume.rglob("*") if path.is_file()}
    assert model_of(files, "") == MODEL


@pytest.mark.parametrize("refused", REFUSED)
def test_the_doctor_finds_nothing_wrong(pod: Pod, stocked: S3Server, tmp_path: Path, refused: Md5) -> None:
    start = from_bucket(stocked, "s3://demo/models/")
    code, output = pod.run(Start(start.variables, ["doctor"], start.memory), *without_md5(tmp_path / "hooks", refused))
    assert code == 0, output
    assert "Traceback" not in output
