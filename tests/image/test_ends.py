"""How a container ends in the middle of an upload, and that it goes on when it is started again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.image.pods import NOWHERE_TO_WRITE, Image, Pod, S3Server, Start, model_of
from tests.support.manifests import job
from tests.support.tripwire import Relay, Tripwire

pytestmark = [pytest.mark.image, pytest.mark.timeout(300)]

MiB = 1 << 20
GRACE_SECONDS = job("synchronize-model.yaml")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]

_noise = random.Random(20261123)
MODEL = {f"{number}.safetensors": _noise.randbytes(12 * MiB + number) for number in range(4)}
MODEL |= {"config.json": b"{}", "empty.txt": b""}
SIZE = sum(map(len, MODEL.values()))
CAUGHT_AT = 30 * MiB
"""Bytes of data and of small talk: two files are there then, or most of them."""
PART = 5 * MiB
SMALL_STEPS = {
    "S3_SYNC_TRANSFER_CONFIG__CHUNK_SIZE": "5MiB",
    "S3_SYNC_TRANSFER_CONFIG__MEMORY": "10MiB",
    "S3_SYNC_TRANSFER_CONFIG__MAX_FILES": "2",
}
SMALL_TALK = MiB


@dataclass(frozen=True)
class Wired:
    """A server behind relays for either end; the wire holds what passes one of them."""

    s3: S3Server
    wire: Tripwire
    source: Relay
    destination: Relay

    def start(self, destination: str) -> Start:
        variables = {"S3_SYNC_SRC__PATH": "s3://source/model/", "S3_SYNC_DEST__PATH": destination} | SMALL_STEPS
        sides = {"SRC": self.source} | ({"DEST": self.destination} if destination.startswith("s3:") else {})
        for side, relay in sides.items():
            variables |= {
                f"S3_SYNC_{side}__ENDPOINT": f"http://127.0.0.1:{relay.port}",
                f"S3_SYNC_{side}__ACCESS_KEY": "access-key",
                f"S3_SYNC_{side}__SECRET_KEY": "canary-secret",
            }
        return Start(variables, [], "256Mi")


@pytest.fixture
def wired(s3: S3Server) -> Iterator[Wired]:
    s3.put("source", {f"model/{path}": body for path, body in MODEL.items()})
    s3.put("demo", {})
    wire = Tripwire()
    with ExitStack() as stack:
        place = urlsplit(s3.endpoint)
        source, destination = (
            stack.enter_context(Relay(wire, str(place.hostname), int(place.port or 0))) for _ in range(2)
        )
        stack.callback(wire.release, late=False)
        yield Wired(s3, wire, source, destination)


@pytest.mark.parametrize(("signal", "code"), [("TERM", 143), ("INT", 130)])
def test_a_signal_ends_an_upload_within_the_grace_period(
    image: Image, pod: Pod, wired: Wired, signal: str, code: int
) -> None:
    wired.wire.only = wired.destination
    wired.wire.set_at("bytes", CAUGHT_AT)
    name = pod.start(wired.start("s3://demo/models/"), *NOWHERE_TO_WRITE)
    try:
        assert wired.wire.caught.wait(timeout=60), image.podman("logs", name)
        image.podman.ask("kill", f"--signal={signal}", name)
        assert image.podman.ask("wait", name, timeout=GRACE_SECONDS) == str(code)
        logs = image.podman("logs", name)
    finally:
        image.podman("rm", "--force", "--time=0", name)
    assert pod.said()["exit_code"] == code
    assert "Traceback" not in logs.stdout + logs.stderr
    assert ".syncer/complete.json" not in str(wired.s3.contents("demo").keys())


@pytest.mark.parametrize("destination", ["s3://demo/models/", "/mnt/models"])
def test_a_killed_container_that_is_started_again_goes_on(
    image: Image, pod: Pod, wired: Wired, tmp_path: Path, destination: str
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o770)
    counted = wired.destination if destination.startswith("s3:") else wired.source
    wired.wire.only = counted
    wired.wire.set_at("bytes", CAUGHT_AT)
    options = [*NOWHERE_TO_WRITE, f"--volume={volume}:/mnt/models"]
    name = pod.start(wired.start(destination), *options)
    try:
        assert wired.wire.caught.wait(timeout=60), image.podman("logs", name)
        image.podman.ask("kill", "--signal=KILL", name)
        assert image.podman.ask("wait", name) == "137"
        wired.wire.release(late=False)
        image.podman.ask("start", name)
        assert image.podman.ask("wait", name) == "0", image.podman("logs", name)
        # Nothing of it was remembered in the container: what goes on may be another one.
        changed = {line.split()[1] for line in image.podman.ask("diff", name).splitlines()}
    finally:
        image.podman("rm", "--force", "--time=0", name)

    found = {path.relative_to(volume).as_posix(): path.read_bytes() for path in volume.rglob("*") if path.is_file()}
    there = model_of(found, "") if found else model_of(wired.s3.contents("demo"), "models/")
    assert there == MODEL
    assert pod.said()["copied_bytes"] < SIZE
    passed = counted.up_bytes if destination.startswith("s3:") else counted.down_bytes
    print(f"{destination}: {passed / SIZE:.2f} of the model's bytes in both runs; changed: {changed}")
    # Two files were under way; a bucket keeps their parts, and a volume those that are synced.
    assert SIZE <= passed <= SIZE + 4 * PART + SMALL_TALK
    assert not [path for path in changed if not path.startswith(("/mnt", "/dev", "/etc", "/proc", "/run", "/sys"))]
