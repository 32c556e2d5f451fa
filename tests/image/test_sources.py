"""Every way in as the platform runs it, with models bigger than a pod's memory: right bytes, little memory, no scratch.

The containers of these tests have not one folder to write to, but for the volume where there is one.
"""

from __future__ import annotations

import hashlib
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from tests.image.pods import DESTINATION_KEYS, NOWHERE_TO_WRITE, Ended, Pod, S3Server, Start
from tests.support.fake_cos import FakeCos
from tests.support.fake_hub import FakeHub
from tests.support.fake_iam import FakeIam
from tests.support.fake_xet import FakeXet, XetFile
from tests.support.manifests import secret

pytestmark = [pytest.mark.image, pytest.mark.timeout(300)]

MiB = 1 << 20
MOST_MEMORY = 200 * MiB
WEIGHTS = XetFile(270 * MiB + 13, woven=4)
SHARDS = [XetFile(34 * MiB + number, seed=number, path=f"{number}.safetensors") for number in range(8)]
"""As much in several files: moto reads a whole object for each range of it."""
SMALL = {"config.json": b'{"model_type": "llama"}', "empty.txt": b"", "nested/odd name + 100%.txt": b"odd"}
CONTROL_FILES = 1 * MiB
"""Journal, manifest and marker on a volume."""
TERMINATION_MESSAGE = 64 * 1024
"""In blocks of whatever disk it lies on."""
TOKEN = "hf_canary_of_the_hub_0123456789"


@pytest.fixture(scope="module")
def expected() -> dict[str, str]:
    """SHA-256 by path."""
    return digests(SMALL) | {WEIGHTS.path: WEIGHTS.sha256()}


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        hub.tokens.add(TOKEN)
        hub.create("team/model").commit({WEIGHTS.path: WEIGHTS, **SMALL})
        yield hub


@pytest.fixture
def demo(s3: S3Server) -> S3Server:
    s3.put("demo", {})
    return s3


def digests(files: Mapping[str, bytes]) -> dict[str, str]:
    return {path: hashlib.sha256(body).hexdigest() for path, body in files.items()}


def in_bucket(s3: S3Server, bucket: str = "demo") -> dict[str, str]:
    """SHA-256 by path of what was copied to `models/`."""
    found = {}
    for entry in s3.client.list_objects_v2(Bucket=bucket, Prefix="models/")["Contents"]:
        body = s3.client.get_object(Bucket=bucket, Key=entry["Key"])["Body"]
        found[entry["Key"].removeprefix("models/")] = hashlib.file_digest(body, "sha256").hexdigest()
    assert found.pop(".syncer/complete.json")
    return {path: sha256 for path, sha256 in found.items() if not path.startswith(".syncer/")}


def in_volume(volume: Path) -> dict[str, str]:
    """The same of a volume."""
    assert (volume / ".syncer/complete.json").exists()
    found = {}
    for path in volume.rglob("*"):
        if path.is_file() and ".syncer" not in path.parts:
            with path.open("rb") as file:
                found[path.relative_to(volume).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def assert_modest(ended: Ended, *, to_volume: bool = False) -> None:
    """Little memory, and nothing on any disk but the model itself where it goes to a volume, once."""
    assert ended.code == 0, ended.output
    assert 0 < ended.peak < MOST_MEMORY
    if not to_volume:
        assert ended.written <= TERMINATION_MESSAGE
    elif ended.written:  # a volume in memory is not counted
        assert WEIGHTS.size <= ended.written <= WEIGHTS.size + CONTROL_FILES


# ------------------------------------------------------------------------------------------------------------ IBM COS


@pytest.fixture
def authority(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's context, and a folder as the Job's volume `authorities` is."""
    ours = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.issue_cert("localhost").configure_cert(context)
    folder = tmp_path / "authorities"
    folder.mkdir(mode=0o755)
    ours.cert_pem.write_to_path(folder / "ca-bundle.crt")
    return context, folder


def test_a_passcode_brings_the_model_once(pod: Pod, demo: S3Server, authority: tuple[ssl.SSLContext, Path]) -> None:
    context, authorities = authority
    prefix = "trained_models/ID/model"
    model = SMALL | {shard.path: shard.content() for shard in SHARDS}
    demo.put("source", {f"{prefix}/{path}": body for path, body in model.items()} | {f"{prefix}-2/other.bin": b"no"})
    with FakeIam(time.time, context=context) as iam, FakeCos(iam, demo.endpoint, context=context) as cos:
        values = {
            "S3_SYNC_COS_BUCKET": "source",
            "S3_SYNC_COS_INSTANCE_CRN": "crn:v1:bluemix:public:cloud-object-storage:global:a/ACC:INST:bucket:source",
            "S3_SYNC_COS_TEMPORARY_PASSCODE": iam.new_passcode(),
            "S3_SYNC_COS_ENDPOINT": cos.url,
            "S3_SYNC_COS_IAM_ENDPOINT": iam.url,
        }
        template = secret("model-source-ibm-cos.yaml")
        start = Start.of_template("synchronize-model-ibm-cos.yaml", template | values, demo)
        options = [*NOWHERE_TO_WRITE, f"--volume={authorities}:/etc/ssl/custom-certs:ro"]

        ended = pod.watch(start, *options)
        assert_modest(ended)
        assert in_bucket(demo) == digests(model)
        assert pod.said()["exit_code"] == 0
        assert [asked.status for asked in iam.asked] == [200]

        requests = len(cos.seen)
        code, output = pod.run(start, *options)
        assert code == 77, output
        said = pod.said()
        assert said["exit_code"] == 77
        assert "BXNIM0602E" in str(said)
        assert "S3_SYNC_COS_TEMPORARY_PASSCODE" in said["hint"]
        assert [asked.status for asked in iam.asked] == [200, 400]
        # Whoever failed looks whether the far end is there at all: without a token, and asking for nothing.
        assert {(seen.method, seen.target, seen.token) for seen in cos.seen[requests:]} <= {("HEAD", "/", "")}

        for issued in iam.issued:
            assert issued not in ended.output + output + str(said)


# ------------------------------------------------------------------------------------------------------- Hugging Face


@pytest.fixture
def from_hub(hub: FakeHub, demo: S3Server) -> Callable[..., Start]:
    """The usual Job with the Hub's Secret, into the bucket or another `path`; keywords are more of that Secret."""

    def start(path: str = "", *, endpoint: str = hub.endpoint, **more: str) -> Start:
        values = {"HUGGINGFACE_MODEL": "team/model", "HF_ENDPOINT": endpoint, "HF_TOKEN": TOKEN}
        values |= {"S3_SYNC_ALLOW_PLAINTEXT_TOKENS": "true"} | more | ({"S3_SYNC_DEST__PATH": path} if path else {})
        return Start.of_template("synchronize-model.yaml", secret("model-source-huggingface.yaml") | values, demo)

    return start


def test_hub_to_bucket(pod: Pod, from_hub: Callable[..., Start], demo: S3Server, expected: dict[str, str]) -> None:
    assert_modest(pod.watch(from_hub(), *NOWHERE_TO_WRITE))
    assert in_bucket(demo) == expected


def test_hub_to_volume(pod: Pod, from_hub: Callable[..., Start], volume: Path, expected: dict[str, str]) -> None:
    ended = pod.watch(from_hub("/mnt/models"), *NOWHERE_TO_WRITE, f"--volume={volume}:/mnt/models")
    assert_modest(ended, to_volume=True)
    assert in_volume(volume) == expected


def test_hub_to_volume_by_its_own_transfer(
    pod: Pod, hub: FakeHub, from_hub: Callable[..., Start], volume: Path, expected: dict[str, str]
) -> None:
    with FakeXet([WEIGHTS], hub=hub.endpoint, hub_token=TOKEN) as store:
        start = from_hub("/mnt/models", endpoint=store.url, S3_SYNC_HF_XET="true")
        before = hub.bytes_served
        ended = pod.watch(start, f"--volume={volume}:/mnt/models")
        assert_modest(ended, to_volume=True)
        assert in_volume(volume) == expected
        assert hub.bytes_served - before < MiB, "the weights came another way"
        assert "readback" in (volume / ".syncer/manifest.json").read_text("utf-8")


def test_the_hubs_own_transfer_needs_a_folder_in_memory_and_does_without_it_otherwise(
    pod: Pod, from_hub: Callable[..., Start], volume: Path
) -> None:
    few = XetFile(20 * MiB, seed=1)
    with FakeHub() as hub, FakeXet([few], hub=hub.endpoint, hub_token=TOKEN) as store:
        hub.tokens.add(TOKEN)
        hub.create("team/model").commit({few.path: few})
        start = from_hub("/mnt/models", endpoint=store.url, S3_SYNC_HF_XET="true")
        code, output = pod.run(start, *NOWHERE_TO_WRITE, f"--volume={volume}:/mnt/models")
        assert code == 0, output
        assert in_volume(volume) == {few.path: few.sha256()}
        assert store.count("/xorbs/") == 0
        assert "no writable /dev/shm" in output


# -------------------------------------------------------------------------------------------------------------- upload


def test_upload(pod: Pod, demo: S3Server, tmp_path: Path, expected: dict[str, str]) -> None:
    here = tmp_path / "here"
    for path, body in SMALL.items():
        (here / "model" / path).parent.mkdir(parents=True, exist_ok=True)
        (here / "model" / path).write_bytes(body)
    (here / "model" / WEIGHTS.path).write_bytes(WEIGHTS.content())
    start = Start.of_template("synchronize-model.yaml", {}, demo)
    connection = {"AWS_S3_ENDPOINT": demo.endpoint, "AWS_S3_BUCKET": "demo", "AWS_DEFAULT_REGION": "local"}
    upload = replace(start, variables=connection | DESTINATION_KEYS, arguments=["upload", "model/"])
    options = [*NOWHERE_TO_WRITE, f"--volume={here}:/upload:ro", "--workdir=/upload"]
    assert_modest(pod.watch(upload, *options))
    assert in_bucket(demo) == expected
