"""Pods that read from the Hub what costs seconds: two gigabytes, and copies that are killed."""

import json
import re
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.fake_hub import FakeHub, Generated
from tests.support.models import pattern, read_model, sha256
from tests.support.processes import Pod
from tests.support.rados_gateway import RadosGateway
from tests.support.tripwire import relayed

pytestmark = pytest.mark.real

MiB = 1 << 20
GiB = 1 << 30
SHARD = 2 * GiB
MOST_MEMORY = 200 * MiB
MOST_ON_DISK = 4 * MiB
TOKEN = "hf_canary_of_the_hub_0123456789"
SMALL = {f"part {n:02}/config.json": b'{"number": %d}' % n for n in range(39)}
IN_FLIGHT = 20 * MiB
SMALL_STEPS = {"S3_SYNC_TRANSFER_CONFIG__CHUNK_SIZE": "5MiB", "S3_SYNC_TRANSFER_CONFIG__MEMORY": "20MiB"}


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        hub.tokens.add(TOKEN)
        yield hub


def environment_of(hub: FakeHub) -> dict[str, str]:
    return {
        "HUGGINGFACE_MODEL": "team/model",
        "HF_ENDPOINT": hub.endpoint,
        "HF_TOKEN": TOKEN,
        "S3_SYNC_ALLOW_PLAINTEXT_TOKENS": "true",
    }


def watching(process: subprocess.Popen[str], peaks: list[int]) -> Callable[[int], None]:
    """Keeps the process's own high-water mark of memory, looked at with every MiB that it is sent."""

    def look(_: int) -> None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        if found := re.search(r"VmHWM:\s+(\d+) kB", status):
            peaks.append(int(found[1]) * 1024)

    return look


def digest_of(hub: FakeHub) -> str:
    repository = hub.find("team/model")
    assert repository is not None
    return repository.commits[repository.branches["main"]]["shard.safetensors"].sha256


def test_two_gigabytes_go_into_a_volume_in_little_memory(hub: FakeHub, pod: Pod, tmp_path: Path) -> None:
    commit = hub.create("team/model").commit({"shard.safetensors": Generated(SHARD), **SMALL})
    volume, peaks = tmp_path / "mnt", list[int]()
    volume.mkdir()
    process = pod.start(environment_of(hub) | {"S3_SYNC_DEST__PATH": str(volume)}, "-vvvvv")
    hub.on_bytes = watching(process, peaks)
    ended = pod.end(process, seconds=280)
    assert ended.code == 0, ended
    assert (ended.termination["revision"], ended.termination["files"]) == (commit, 40)
    assert 0 < max(peaks) < MOST_MEMORY
    manifest = json.loads((volume / ".syncer/manifest.json").read_bytes())
    digests = {entry["path"]: entry["digests"]["sha256"] for entry in manifest["files"]}
    assert digests == {path: sha256(data) for path, data in SMALL.items()} | {"shard.safetensors": digest_of(hub)}
    shard = volume / "shard.safetensors"
    assert shard.stat().st_size == SHARD
    summed = subprocess.run(["sha256sum", str(shard)], capture_output=True, text=True, check=True).stdout.split()[0]
    shard.unlink()
    assert summed == digest_of(hub)
    assert TOKEN not in ended.output
    assert "X-Amz-Signature=" not in ended.output


def test_two_gigabytes_go_into_a_bucket_without_scratch_disk(hub: FakeHub, pod: Pod, rgw: RadosGateway) -> None:
    server = rgw.server()
    bucket, peaks = server.new_bucket("hub"), list[int]()
    hub.create("team/model").commit({"shard.safetensors": Generated(SHARD), **SMALL})
    process = pod.start(environment_of(hub) | server.connection_environment(bucket))
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (MOST_ON_DISK, MOST_ON_DISK))
    hub.on_bytes = watching(process, peaks)
    ended = pod.end(process, seconds=280)
    assert ended.code == 0, ended
    assert 0 < max(peaks) < MOST_MEMORY
    manifest = json.loads(server.control(bucket, "models/")[".syncer/manifest.json"])
    digests = {entry["path"]: entry["digests"]["sha256"] for entry in manifest["files"]}
    assert digests["shard.safetensors"] == digest_of(hub)
    assert server.keys(bucket, "models/shard")["models/shard.safetensors"] == SHARD
    server.client.delete_object(Bucket=bucket, Key="models/shard.safetensors")


def test_a_killed_copy_resumes_with_little_read_twice(hub: FakeHub, pod: Pod, tmp_path: Path) -> None:
    weights = pattern(80 * MiB)
    repository = hub.create("team/model")
    repository.commit({"model.safetensors": weights, "config.json": b"{}"})
    volume = tmp_path / "mnt"
    volume.mkdir()
    environment = SMALL_STEPS | environment_of(hub) | {"S3_SYNC_DEST__PATH": str(volume)}
    with relayed(*hub.storage_address) as relay:
        hub.advertised_storage = relay.endpoint
        relay.wire.set_at("bytes", 50 * MiB)
        process = pod.start(environment)
        assert relay.wire.caught.wait(60)
        process.kill()
        pod.end(process)
        assert not (volume / ".syncer/complete.json").exists()
        commit = repository.commit({"config.json": b"[]"})
        read_before = relay.down_bytes
        relay.wire.release(late=False)
        ended = pod.run(environment, "-vvvvv")
        read_after = relay.down_bytes - read_before
    assert ended.code == 0, ended
    assert ended.termination["revision"] == commit
    assert read_model(volume) == {"model.safetensors": weights, "config.json": b"[]"}
    # What was in flight, and what was not synced to the volume yet, which is done every 32 MiB.
    assert read_after < 30 * MiB + IN_FLIGHT + 64 * MiB
    assert sorted(path.name for path in (volume / ".syncer").iterdir()) == ["complete.json", "manifest.json"]
    assert TOKEN not in ended.output


def test_each_refusal_has_its_exit_code_and_the_page_to_visit(hub: FakeHub, pod: Pod, tmp_path: Path) -> None:
    hub.create("team/model", gated=True).commit(SMALL)
    hub.create("team/private", private=True).commit(SMALL)
    good = environment_of(hub) | {"S3_SYNC_DEST__PATH": str(tmp_path / "models")}
    anonymous = {name: value for name, value in good.items() if name != "HF_TOKEN"}
    cases = {
        "gated": (77, good),
        "gated, no token": (77, anonymous),
        "private, no token": (77, anonymous | {"HUGGINGFACE_MODEL": "team/private"}),
        "private": (66, good | {"HUGGINGFACE_MODEL": "team/private"}),
        "wrong token": (77, good | {"HF_TOKEN": "hf_canary_of_somebody_else"}),
        "unknown revision": (66, good | {"HUGGINGFACE_REVISION": "v9"}),
        "nothing left": (66, good | {"HUGGINGFACE_ALLOW_PATTERNS": "*.gguf"}),
    }
    for name, (code, environment) in cases.items():
        ended = pod.run(environment, "-vvvvv")
        assert ended.code == code, (name, str(ended))
        assert ended.termination["hint"], name
        if "gated" in name or "private" in name:
            assert f"{hub.endpoint}/team/" in ended.termination["hint"], name
        for secret in (TOKEN, "hf_canary_of_somebody_else"):
            assert secret not in ended.output + json.dumps(ended.termination), name
    assert not (tmp_path / "models").exists()
