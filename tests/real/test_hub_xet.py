"""Pods that fetch by the Hub's own transfer into a volume: in little memory, proved, killed, refused."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.fake_hub import FakeHub
from tests.support.fake_xet import CHUNK, FakeXet, XetFile
from tests.support.models import read_model
from tests.support.processes import Ended, Pod

pytestmark = pytest.mark.real

MiB = 1 << 20
MOST_MEMORY = 200 * MiB
TOKEN = "hf_canary_of_the_hub_0123456789"
SMALL = {f"part {n:02}/config.json": b'{"number": %d}' % n for n in range(10)}


@dataclass
class Site:
    """A Hub, the xet store in front of it, and a volume that a pod writes to."""

    hub: FakeHub
    store: FakeXet
    pod: Pod
    volume: Path

    def publish(self, *files: XetFile) -> None:
        self.store.files += files
        self.hub.create("team/model").commit({**{file.path: file for file in files}, **SMALL})

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HUGGINGFACE_MODEL": "team/model",
            "HF_ENDPOINT": self.store.url,
            "HF_TOKEN": TOKEN,
            "S3_SYNC_ALLOW_PLAINTEXT_TOKENS": "true",
            "S3_SYNC_HF_XET": "true",
            "S3_SYNC_DEST__PATH": str(self.volume),
        }

    def run(self) -> Ended:
        ended = self.pod.run(self.environment, "-vvvvv")
        for secret in (TOKEN, "signature=s", *self.store.tokens):
            assert secret not in ended.output
        return ended

    def proofs(self) -> dict[str, str]:
        manifest = json.loads((self.volume / ".syncer/manifest.json").read_bytes())
        return {entry["path"]: entry["proved_by"] for entry in manifest["files"] if entry["path"] not in SMALL}

    def arrived(self, file: XetFile) -> bool:
        with (self.volume / file.path).open("rb") as there:
            same = all(there.read(CHUNK) == file.chunk(index) for index in range(file.chunks))
            return same and not there.read(1)


@pytest.fixture
def site(pod: Pod, tmp_path: Path) -> Iterator[Site]:
    volume = tmp_path / "mnt"
    volume.mkdir()
    with FakeHub() as hub, FakeXet(hub=hub.endpoint, hub_token=TOKEN) as store:
        hub.tokens.add(TOKEN)
        yield Site(hub, store, pod, volume)


def test_gigabytes_arrive_in_little_memory_and_are_read_back(site: Site) -> None:
    files = [XetFile(600 * MiB + number, seed=number, woven=4, path=f"{number}.safetensors") for number in range(3)]
    site.publish(*files)
    peaks = list[int]()
    process = site.pod.start(site.environment, "-vvvvv")

    def look() -> None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        if found := re.search(r"VmHWM:\s+(\d+) kB", status):
            peaks.append(int(found[1]) * 1024)

    site.store.on_chunk = look
    ended = site.pod.end(process, seconds=280)
    assert ended.code == 0, ended
    assert 0 < max(peaks) < MOST_MEMORY
    assert site.proofs() == {file.path: "readback" for file in files}
    assert all(site.arrived(file) for file in files)
    assert not site.hub.requests("storage", "repos/" + files[0].sha256()), "nothing of it came by ranged HTTP"


def test_a_wrong_byte_of_the_store_is_found_and_the_file_comes_by_ranged_http(site: Site) -> None:
    file = XetFile(40 * MiB + 5, flipped_at=33 * MiB)
    site.publish(file)
    ended = site.run()
    assert ended.code == 0, ended
    assert site.arrived(file)
    assert site.proofs() == {file.path: "stream"}
    assert site.store.count("/xorbs/") > 0


def test_a_store_that_refuses_costs_a_warning(site: Site) -> None:
    files = [XetFile(20 * MiB, seed=number, path=f"{number}.safetensors") for number in range(3)]
    site.publish(*files)
    site.store.refused = 99
    ended = site.run()
    assert ended.code == 0, ended
    assert all(site.arrived(file) for file in files)
    assert set(site.proofs().values()) == {"stream"}
    assert "fetch_abandoned" in ended.output


def test_a_killed_pod_leaves_nothing_that_the_next_one_trips_over(site: Site) -> None:
    file = XetFile(40 * MiB)
    site.publish(file)
    site.store.gate.clear()
    process = site.pod.start(site.environment)
    assert site.store.reached.wait(60)
    process.kill()
    site.pod.end(process)
    site.store.gate.set()
    ended = site.run()
    assert ended.code == 0, ended
    assert site.arrived(file)
    assert set(read_model(site.volume)) == {file.path, *SMALL}
    assert sorted(path.name for path in (site.volume / ".syncer").iterdir()) == ["complete.json", "manifest.json"]
    assert site.run().termination["copied_bytes"] == 0


def test_a_pod_that_is_told_to_stop_does_not_wait_for_the_store(site: Site) -> None:
    site.publish(XetFile(40 * MiB))
    site.store.gate.clear()
    process = site.pod.start(site.environment)
    assert site.store.reached.wait(60)
    process.terminate()
    ended = site.pod.end(process, seconds=10)
    assert ended.code == 143, ended
