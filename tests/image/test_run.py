"""The image as the platform runs it: any UID, nothing writable, no rights, the memory of the template."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from syncer import __version__
from tests.image.pods import TAG, Image, Pod, S3Server, Start, model_of, restrictions
from tests.support.manifests import secret

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]

SOURCE_KEYS = {"S3_SYNC_SRC__ACCESS_KEY": "source-access-key", "S3_SYNC_SRC__SECRET_KEY": "canary-source-secret"}

_noise = random.Random(20261121)
MODEL = {
    "config.json": b'{"model_type": "llama"}',
    "empty.txt": b"",
    "nested/deeper/tokenizer.json": _noise.randbytes(70_000),
    "odd name + 100%.txt": b"odd",
    "model.safetensors": _noise.randbytes(21 * 2**20 + 13),
}


@pytest.fixture
def stocked(s3: S3Server) -> S3Server:
    """The server with a model in one bucket, a sibling folder beside it, and an empty second bucket."""
    s3.put("source", {f"folder/{path}": body for path, body in MODEL.items()} | {"folder-2/config.json": b"sibling"})
    s3.put("demo", {})
    return s3


def in_template(name: str, s3: S3Server) -> Start:
    """A Job's template with this server behind its Secrets."""
    model_source = secret("model-source-s3.yaml") | SOURCE_KEYS
    model_source |= {"S3_SYNC_SRC__ENDPOINT": s3.endpoint, "S3_SYNC_SRC__PATH": "s3://source/folder/"}
    return Start.of_template(name, model_source, s3)


def test_says_its_version(image: Image, arbitrary_user: str) -> None:
    for entry in ([], ["--entrypoint=syncer"]):
        said = image.podman.ask("run", "--rm", *restrictions(arbitrary_user), *entry, TAG, "--version")
        assert __version__ in said


def test_bucket_to_bucket(pod: Pod, stocked: S3Server) -> None:
    start = in_template("synchronize-model.yaml", stocked)

    code, output = pod.run(start)
    assert code == 0, output
    assert model_of(stocked.contents("demo"), "models/") == MODEL
    said = pod.said()
    assert said["exit_code"] == 0
    assert said["files"] == len(MODEL)
    assert said["bytes"] == said["copied_bytes"] == sum(map(len, MODEL.values()))
    assert not stocked.client.list_multipart_uploads(Bucket="demo").get("Uploads")

    code, output = pod.run(start)
    assert code == 0, output
    assert pod.said()["copied_bytes"] == 0


def test_bucket_to_volume(pod: Pod, stocked: S3Server, tmp_path: Path) -> None:
    # The template reads from the data connection's own bucket; here that is the one with the model.
    start = in_template("mirror-to-pvc.yaml", stocked).with_variables(
        AWS_S3_BUCKET="source", S3_SYNC_SRC__PATH="s3://source/folder/"
    )
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o770)  # group 0, as a volume with fsGroup

    code, output = pod.run(start, f"--volume={volume}:/mnt/models")

    assert code == 0, output
    files = [path for path in volume.rglob("*") if path.is_file()]
    assert model_of({str(path.relative_to(volume)): path.read_bytes() for path in files}, "") == MODEL
    assert pod.said()["exit_code"] == 0
    # The next pod may have another UID of the same group.
    for path in volume.rglob("*"):
        mode = path.stat().st_mode
        assert mode & 0o070 == (mode & 0o700) >> 3, path


def test_the_gate_opens_when_the_model_is_sealed(pod: Pod, stocked: S3Server) -> None:
    gate = in_template("wait-for-model.yaml", stocked)
    code, output = pod.run(replace(gate, arguments=[*gate.arguments, "--deadline=1s"]))
    assert code == 69, output
    assert pod.said()["exit_code"] == 69

    code, output = pod.run(in_template("synchronize-model.yaml", stocked))
    assert code == 0, output
    code, output = pod.run(gate)
    assert code == 0, output


def test_a_missing_source_fails_for_good(pod: Pod, stocked: S3Server) -> None:
    start = in_template("synchronize-model.yaml", stocked)
    code, output = pod.run(start.with_variables(S3_SYNC_SRC__PATH="s3://source/nothing-here/"))
    assert code == 66, output
    said = pod.said()
    assert said["exit_code"] == 66
    assert said["message"]
    assert said["hint"]


@pytest.fixture
def silent_server() -> Iterator[tuple[str, threading.Event]]:
    """Takes connections and never says a word; the event is set when somebody has connected."""
    listener = socket.create_server(("127.0.0.1", 0))
    connected = threading.Event()
    held: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                held.append(listener.accept()[0])
            except OSError:  # the listener was closed: the test is over
                return
            connected.set()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", connected
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in held:
            connection.close()


def test_a_stop_signal_reaches_python_although_the_source_is_silent(
    image: Image, pod: Pod, stocked: S3Server, silent_server: tuple[str, threading.Event]
) -> None:
    endpoint, connected = silent_server
    start = in_template("synchronize-model.yaml", stocked)
    name = pod.start(start.with_variables(S3_SYNC_SRC__ENDPOINT=endpoint))
    try:
        assert connected.wait(timeout=30), image.podman("logs", name)
        image.podman.ask("kill", "--signal=TERM", name)
        # The 10 s that are promised, and what podman itself takes on a busy machine.
        assert image.podman.ask("wait", name, timeout=14) == "143"
    finally:
        image.podman("rm", "--force", "--time=0", name)
    assert pod.said()["exit_code"] == 143
