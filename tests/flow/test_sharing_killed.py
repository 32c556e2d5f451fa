"""Pods of one run as processes that are killed and replaced; in the ring of real servers eight of them."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import cast

import pytest

from tests.support.buckets import S3Server
from tests.support.models import pattern
from tests.support.processes import Ended, Pod
from tests.support.rados_gateway import RadosGateway
from tests.support.tripwire import Relay, Tripwire

MiB = 1 << 20
SMALL_STEPS = {"S3_SYNC_TRANSFER_CONFIG__CHUNK_SIZE": "5MiB", "S3_SYNC_TRANSFER_CONFIG__MEMORY": "10MiB"}
SEALED = [".syncer/complete.json", ".syncer/manifest.json"]


@dataclass
class Job:
    """An Indexed Job without a cluster: who kills a pod starts its replacement."""

    server: S3Server
    folder: Path
    model: dict[str, bytes]
    count: int
    source: str = ""
    target: str = ""
    pods: dict[int, tuple[Pod, Popen[str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.source, self.target = self.server.new_bucket("source"), self.server.new_bucket("demo")
        self.server.fill(self.source, self.model, prefix="m/")

    def start(self, index: int, *, near: Relay | None = None, far: Relay | None = None, count: int = 0) -> Popen[str]:
        folder = self.folder / f"{index}-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        environment = (
            SMALL_STEPS
            | self.server.source_environment(self.source, "m/", endpoint=near.endpoint if near else "")
            | self.server.connection_environment(
                self.target, endpoint=f"http://localhost:{far.port}" if far is not None else ""
            )
            | {"S3_SYNC_SHARES": str(count or self.count), "JOB_COMPLETION_INDEX": str(index)}
        )
        pod = Pod(folder)
        self.pods[index] = pod, pod.start(environment)
        return self.pods[index][1]

    def end(self, index: int) -> Ended:
        pod, process = self.pods.pop(index)
        return pod.end(process)

    def kill(self, index: int) -> None:
        self.pods[index][1].kill()
        assert self.end(index).code == -9

    def check(self) -> dict[str, str]:
        """What is there is the model, sealed, and nothing else; how each file was proved."""
        assert self.server.read(self.target, "models/") == self.model
        control = self.server.control(self.target, "models/")
        assert sorted(control) == SEALED
        assert self.server.open_uploads(self.target) == []
        files = json.loads(control[".syncer/manifest.json"])["files"]
        return {entry["path"]: entry["proved_by"] for entry in files}


@pytest.fixture(params=["moto", pytest.param("rgw-http", marks=pytest.mark.real)])
def s3(request: pytest.FixtureRequest) -> S3Server:
    if request.param == "moto":
        return cast("S3Server", request.getfixturevalue("moto"))
    gateway: RadosGateway = request.getfixturevalue("rgw")
    return gateway.server()


@pytest.fixture
def relays(s3: S3Server) -> Iterator[list[Relay]]:
    """Four of them, each with a wire of its own."""
    with ExitStack() as running:
        yield [running.enter_context(Relay(Tripwire(), *s3.address)) for _ in range(4)]


def caught(relay: Relay, process: Popen[str]) -> None:
    while not relay.wire.caught.wait(0.02):
        assert process.poll() is None, process.communicate()[0][-3000:]


def test_killed_pods_are_replaced_and_nobody_else_begins_anew(
    s3: S3Server, tmp_path: Path, relays: list[Relay], request: pytest.FixtureRequest
) -> None:
    """One pod in the middle of its share, and index 0 when all that is left is to complete the file that was cut.

    On the real server also a pod before it has done anything, and five that nothing happens to.
    """
    near, early, far, again = relays
    real = "rgw" in request.node.name
    model = {"large.safetensors": pattern((81 if real else 21) * MiB, 1), "config.json": b"{}"}
    model |= {f"model-{n}.safetensors": pattern(4 * MiB, n) for n in range(9 if real else 0)}
    job = Job(s3, tmp_path, model, count=8 if real else 3)
    near.wire.set_on("^GET .*large")
    far.wire.set_on("^POST .*[?&]uploadId=")
    early.wire.set_on("^GET ")
    job.start(0, far=far)
    for index in range(2, job.count):
        job.start(index, near=early if index == 7 else None)
    caught(near, job.start(1, near=near))
    job.kill(1)
    near.wire.release(late=False)
    job.start(1, near=again)
    if real:
        caught(early, job.pods[7][1])
        job.kill(7)
        early.wire.release(late=False)
        job.start(7)
    caught(far, job.pods[0][1])
    ended = [job.end(index) for index in range(1, job.count)]
    assert [each.termination.get("reason") for each in ended] == ["Shared"] * len(ended), [*map(str, ended)]
    job.kill(0)
    far.wire.release(late=False)
    far.reset()
    job.start(0, far=far)
    last = job.end(0)
    assert last.code == 0, last
    proved = job.check()
    assert proved.pop("large.safetensors") == "readback"
    # Beside it only what the killed pod had begun to send.
    assert sum(proof != "stream" for proof in proved.values()) <= ended[0].termination["files"]
    assert far.count(r"^PUT .*partNumber") == 0
    share = max(each.termination["bytes"] for each in ended)
    assert again.down_bytes < share + MiB
