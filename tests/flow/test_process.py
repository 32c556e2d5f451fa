"""The main job as a pod runs it: environment in, bytes, termination message and exit code out."""

import json
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.support.buckets import S3Server, free_port
from tests.support.models import pattern, read_model, sha256, small_model
from tests.support.processes import Pod
from tests.support.tripwire import relayed

# Little in flight, so that little data shows how little is sent twice: 4 parts of 5 MiB.
IN_FLIGHT = 20 * 1024 * 1024
SMALL_STEPS = {"S3_SYNC_TRANSFER_CONFIG__CHUNK_SIZE": "5MiB", "S3_SYNC_TRANSFER_CONFIG__MEMORY": "20MiB"}
LEGACY = ("-vvvvv", "--no-dest-validate")
WEIGHTS = 50 * 1024 * 1024
IMPATIENT = {"S3_SYNC_WAIT_FOR_DESTINATION": "0s"}
MiB = 1 << 20


def test_the_s3_secret_and_the_data_connection_run_the_main_job(s3: S3Server, pod: Pod) -> None:
    source, target = s3.new_bucket("source"), s3.new_bucket("demo")
    s3.fill(source, small_model(), prefix="folder/")
    environment = (
        s3.source_environment(source, "folder/")
        | {"S3_SYNC_TRANSFER_CONFIG__MAX_FILES": "5", "S3_SYNC_SRC__VALIDATE_TLS": "true"}
        | s3.connection_environment(target)
    )
    ended = pod.run(environment, *LEGACY)
    assert ended.code == 0, ended
    assert s3.read(target, "models/") == small_model()
    assert ended.termination["status"] == "succeeded"
    assert ended.termination["exit_code"] == 0
    assert ended.termination["copied_bytes"] == sum(map(len, small_model().values()))
    assert sorted(s3.control(target, "models/")) == [".syncer/complete.json", ".syncer/manifest.json"]
    again = pod.run(environment, *LEGACY)
    assert again.code == 0, again
    assert again.termination["copied_bytes"] == 0
    for secret in (s3.secret_key, s3.access_key):
        assert secret not in ended.output + again.output


def test_a_killed_copy_resumes_with_little_sent_twice(s3: S3Server, pod: Pod) -> None:
    source, target = s3.new_bucket("source"), s3.new_bucket("demo")
    weights = pattern(WEIGHTS)
    s3.fill(source, {"w/model.safetensors": weights})
    with relayed(*s3.address) as relay:
        environment = (
            SMALL_STEPS
            | s3.source_environment(source, "w/", endpoint=relay.endpoint)
            | s3.connection_environment(target)
        )
        relay.wire.set_at("bytes", 30 * MiB)
        process = pod.start(environment)
        assert relay.wire.caught.wait(60)
        process.kill()
        pod.end(process)
        assert s3.open_uploads(target) == ["models/model.safetensors"]
        assert "models/.syncer/complete.json" not in s3.keys(target)
        read_before = relay.down_bytes
        relay.wire.release(late=False)
        ended = pod.run(environment)
        read_after = relay.down_bytes - read_before
    assert ended.code == 0, ended
    assert s3.read(target, "models/") == {"model.safetensors": weights}
    assert read_after < WEIGHTS - 30 * MiB + IN_FLIGHT + MiB
    assert s3.open_uploads(target) == []
    manifest = json.loads(s3.control(target, "models/")[".syncer/manifest.json"])
    assert manifest["files"][0]["proved_by"] == "readback"
    assert sorted(s3.control(target, "models/")) == [".syncer/complete.json", ".syncer/manifest.json"]


@pytest.mark.real  # it needs no gateway, but the time of a ring that has more of it
def test_a_run_that_is_killed_while_it_reads_back_leaves_only_that(s3: S3Server, pod: Pod) -> None:
    source, target = s3.new_bucket("source"), s3.new_bucket("demo")
    weights = pattern(WEIGHTS)
    s3.fill(source, {"w/model.safetensors": weights})
    with relayed(*s3.address) as near, relayed(*s3.address) as far:
        environment = (
            SMALL_STEPS
            | s3.source_environment(source, "w/", endpoint=near.endpoint)
            | s3.connection_environment(target, endpoint=far.endpoint)
        )
        near.wire.set_at("bytes", 30 * MiB)
        process = pod.start(environment)
        assert near.wire.caught.wait(60)
        process.kill()
        pod.end(process)
        near.wire.release(late=False)
        far.wire.set_on(r"^GET .*/models/model\.safetensors$")  # nobody but the read-back asks for it
        process = pod.start(environment)
        assert far.wire.caught.wait(60)
        process.kill()
        pod.end(process)
        assert s3.read(target, "models/") == {"model.safetensors": weights}
        assert "models/.syncer/complete.json" not in s3.keys(target)
        read_before = near.down_bytes
        far.wire.release(late=False)
        ended = pod.run(environment)
        read_after = near.down_bytes - read_before
    assert ended.code == 0, ended
    assert read_after < MiB
    assert ended.termination["copied_bytes"] == 0
    manifest = json.loads(s3.control(target, "models/")[".syncer/manifest.json"])
    assert manifest["files"][0]["proved_by"] == "readback"
    assert manifest["files"][0]["digests"] == {"sha256": sha256(weights)}
    assert sorted(s3.control(target, "models/")) == [".syncer/complete.json", ".syncer/manifest.json"]


@pytest.mark.real  # it needs no gateway, but the time of a ring that has more of it
def test_a_killed_copy_into_a_volume_resumes(s3: S3Server, pod: Pod, tmp_path: Path) -> None:
    source = s3.new_bucket("source")
    weights = pattern(96 * MiB)
    s3.fill(source, {"w/model.safetensors": weights})
    volume = tmp_path / "mnt"
    with relayed(*s3.address) as relay:
        environment = (
            SMALL_STEPS
            | s3.source_environment(source, "w/", endpoint=relay.endpoint)
            | {"S3_SYNC_DEST__PATH": str(volume)}
        )
        volume.mkdir()
        relay.wire.set_at("bytes", 90 * MiB)
        process = pod.start(environment)
        assert relay.wire.caught.wait(60)
        process.kill()
        pod.end(process)
        read_before = relay.down_bytes
        relay.wire.release(late=False)
        ended = pod.run(environment)
        read_after = relay.down_bytes - read_before
    assert ended.code == 0, ended
    assert read_model(volume) == {"model.safetensors": weights}
    # A volume is told to keep what it has every 64 MiB, and the parts that it was told of are not read again.
    assert read_after < 96 * MiB - 64 * MiB + MiB
    assert sorted(path.name for path in (volume / ".syncer").iterdir()) == ["complete.json", "manifest.json"]


def test_a_stopped_run_ends_in_time_though_the_peer_is_silent(s3: S3Server, pod: Pod) -> None:
    source, target = s3.new_bucket("source"), s3.new_bucket("demo")
    s3.fill(source, {"w/model.safetensors": pattern(40 * MiB)})
    with relayed(*s3.address) as relay:
        environment = (
            SMALL_STEPS
            | s3.source_environment(source, "w/", endpoint=relay.endpoint)
            | s3.connection_environment(target)
        )
        relay.wire.set_at("bytes", 20 * MiB)
        process = pod.start(environment)
        assert relay.wire.caught.wait(60)
        told = time.monotonic()
        process.send_signal(signal.SIGTERM)
        ended = pod.end(process)
        assert time.monotonic() - told < 10
        assert ended.code == 143, ended
        assert (ended.termination["status"], ended.termination["reason"]) == ("failed", "Interrupted")
        relay.wire.release(late=False)
        resumed = pod.run(environment)
    assert resumed.code == 0, resumed
    assert s3.open_uploads(target) == []


def test_a_peer_that_never_answers_holds_up_neither_a_stop_nor_a_deadline(s3: S3Server, pod: Pod) -> None:
    target = s3.new_bucket("demo")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        environment = s3.source_environment("source", "m/", endpoint=endpoint) | s3.connection_environment(target)
        process = pod.start(environment)
        with silent.accept()[0]:
            told = time.monotonic()
            process.send_signal(signal.SIGTERM)
            ended = pod.end(process)
            assert time.monotonic() - told < 6
        assert (ended.code, ended.termination["reason"]) == (143, "Interrupted")
        begun = time.monotonic()
        ended = pod.run(environment | {"S3_SYNC_DEADLINE": "1s"})
        assert time.monotonic() - begun < 20
        assert (ended.code, ended.termination["reason"]) == (69, "DeadlinePassed")


def test_bad_usage_is_78_and_not_the_library_s_2(pod: Pod) -> None:
    ended = pod.run({}, "--no-such-flag")
    assert ended.code == 78, ended
    assert ended.termination["exit_code"] == 78


def test_no_secret_is_in_anything_that_a_run_says_or_leaves(s3: S3Server, pod: Pod) -> None:
    source, target = s3.new_bucket("source"), s3.new_bucket("demo")
    s3.fill(source, small_model(), prefix="m/")
    results, workspace = pod.folder / "results", pod.folder / "workspace"
    results.mkdir()
    workspace.mkdir()
    canaries = {
        "S3_SYNC_SRC__ACCESS_KEY": "AKIACANARYSOURCEKEY1",
        "S3_SYNC_SRC__SECRET_KEY": "canary/source+secret=of/forty/characters",
        "S3_SYNC_SRC__SESSION_TOKEN": "canary-source-session-token//with+signs==",
        "AWS_ACCESS_KEY_ID": "AKIACANARYTARGETKEY2",
        "AWS_SECRET_ACCESS_KEY": "canary-target-secret-of-forty-characters",
        "AWS_SESSION_TOKEN": "canary-target-session-token",
    }
    environment = s3.source_environment(source, "m/") | s3.connection_environment(target) | canaries
    environment |= {
        "RESULTS_DIR": str(results),
        "S3_SYNC_WORKSPACE": str(workspace),
        "HTTPS_PROXY": "http://canary-user:canary-proxy-password@127.0.0.1:9",
    }
    secrets = [*canaries.values(), "canary-proxy-password"]
    ended = [
        pod.run(environment, *LEGACY),
        pod.run(environment, "verify", "-vvvvv"),
        pod.run(environment, "plan", "-vvvvv", "--json"),
        pod.run(environment | {"S3_SYNC_DEST__PATH": "s3://elsewhere/", "S3_SYNC_SRC__ENDPIONT": "x"}, "-vvvvv"),
        pod.run(environment | {"S3_SYNC_SRC__PATH": "s3://no-such-bucket-here/m/"}, "-vvvvv"),
        pod.run(environment | {"AWS_S3_ENDPOINT": f"http://127.0.0.1:{free_port()}"} | IMPATIENT, "-vvvvv"),
    ]
    assert [one.code for one in ended] == [0, 0, 0, 78, 66, 69], [str(one) for one in ended]
    left = "".join(path.read_text() for path in pod.folder.rglob("*") if path.is_file())
    left += "".join(data.decode() for data in s3.control(target, "models/").values())
    said = "".join(one.output for one in ended)
    assert "Synchronized" in said
    assert "models" in left
    for secret in secrets:
        assert secret not in said
        assert secret not in left
