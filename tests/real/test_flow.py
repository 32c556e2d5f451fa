"""The main job against a real S3 server, over http and https, as a pod runs it."""

import io
import json
from pathlib import Path

import pytest

from tests.support.buckets import S3Server
from tests.support.models import oddly_named, pattern, read_model, small_model
from tests.support.processes import Pod
from tests.support.rados_gateway import RadosGateway
from tests.support.tripwire import relayed

pytestmark = pytest.mark.real

MiB = 1 << 20
CANARIES = ("syncer-secret-key", "not-the-secret-key-of-anybody")


@pytest.fixture(params=["rgw-http", "rgw-https"])
def server(request: pytest.FixtureRequest, rgw: RadosGateway) -> S3Server:
    return rgw.server(https=request.param == "rgw-https")


def both_ends(server: S3Server, source: str, target: str) -> dict[str, str]:
    return server.source_environment(source, "m/") | server.connection_environment(target)


def test_a_model_arrives_whole_and_a_second_run_copies_nothing(server: S3Server, pod: Pod) -> None:
    source, target = server.new_bucket("source"), server.new_bucket("target")
    server.fill(source, small_model(), prefix="m/")
    environment = both_ends(server, source, target)
    ended = pod.run(environment, "-vvvvv")
    assert ended.code == 0, ended
    assert server.read(target, "models/") == small_model()
    manifest = json.loads(server.control(target, "models/")[".syncer/manifest.json"])
    assert {entry["proved_by"] for entry in manifest["files"]} == {"stream"}
    again = pod.run(environment)
    assert (again.code, again.termination["copied_bytes"]) == (0, 0), again
    assert pod.run(environment, "verify").code == 0
    for canary in CANARIES:
        assert canary not in ended.output + again.output


def test_a_bucket_goes_into_a_volume_and_back(server: S3Server, pod: Pod, tmp_path: Path) -> None:
    source, target = server.new_bucket("source"), server.new_bucket("target")
    server.fill(source, small_model(), prefix="m/")
    volume = tmp_path / "mnt"
    environment = both_ends(server, source, target)
    down = {name: value for name, value in environment.items() if name.startswith(("S3_SYNC_SRC", "AWS_CA"))}
    ended = pod.run(down | {"S3_SYNC_DEST__PATH": str(volume)})
    assert ended.code == 0, ended
    assert read_model(volume) == small_model()
    up = {name: value for name, value in environment.items() if name.startswith("AWS_")}
    ended = pod.run(up | {"S3_SYNC_SRC__PATH": str(volume)})
    assert ended.code == 0, ended
    assert server.read(target, "models/") == small_model()


def test_a_wrong_secret_is_77_at_either_end(server: S3Server, pod: Pod) -> None:
    source, target = server.new_bucket("source"), server.new_bucket("target")
    server.fill(source, {"m/a.bin": b"x"})
    environment = both_ends(server, source, target)
    for name in ("S3_SYNC_SRC__SECRET_KEY", "AWS_SECRET_ACCESS_KEY"):
        ended = pod.run(environment | {name: CANARIES[1]}, "-vvvvv")
        assert ended.code == 77, (name, str(ended))
        assert ended.termination["reason"] == "CredentialsRefused"
        assert name in ended.termination["hint"], ended.termination
        for canary in CANARIES:
            assert canary not in ended.output
            assert canary not in json.dumps(ended.termination)
    assert server.read(target) == {}


@pytest.mark.timeout(300)
def test_more_objects_than_a_listing_has_on_a_page_arrive_under_their_keys(server: S3Server, pod: Pod) -> None:
    if server.ca_file:
        pytest.skip("the number of objects is the same over https")
    source, target = server.new_bucket("source"), server.new_bucket("target")
    files = oddly_named(shards=1090)
    server.fill(source, files, prefix="m/")
    server.fill(source, {"m/folder/": b"", "ma/sibling.bin": b"never"})
    environment = both_ends(server, source, target)
    ended = pod.run(environment | {"S3_SYNC_SRC__PATH": f"s3://{source}/m"})
    assert ended.code == 0, ended
    assert server.read(target, "models/") == files
    again = pod.run(environment)
    assert (again.code, again.termination["copied_bytes"]) == (0, 0), again


@pytest.mark.timeout(300)
def test_a_large_file_survives_a_kill_at_default_settings(server: S3Server, pod: Pod) -> None:
    if server.ca_file:
        pytest.skip("the relay counts what http carries")
    source, target = server.new_bucket("source"), server.new_bucket("target")
    weights = pattern(512 * MiB)
    server.client.upload_fileobj(io.BytesIO(weights), source, "m/model.safetensors")
    with relayed(*server.address) as relay:
        environment = both_ends(server, source, target) | {"S3_SYNC_SRC__ENDPOINT": relay.endpoint}
        relay.wire.set_at("bytes", 300 * MiB)
        process = pod.start(environment)
        assert relay.wire.caught.wait(100)
        process.kill()
        pod.end(process)
        assert server.open_uploads(target) == ["models/model.safetensors"]
        before = relay.down_bytes
        relay.wire.release(late=False)
        ended = pod.run(environment)
        read_again = relay.down_bytes - before - 212 * MiB
    assert ended.code == 0, ended
    print(f"sent twice: {read_again / MiB:.1f} MiB of 512")
    # What the lanes had in flight: 32 of them with 5 MiB each, at most, where the store keeps them waiting.
    assert read_again <= 160 * MiB
    assert server.open_uploads(target) == []
    body = server.client.get_object(Bucket=target, Key="models/model.safetensors")["Body"]
    assert body.read() == weights
    assert sorted(server.control(target, "models/")) == [".syncer/complete.json", ".syncer/manifest.json"]


def test_the_open_uploads_of_others_stay(server: S3Server, pod: Pod) -> None:
    source, target = server.new_bucket("source"), server.new_bucket("target")
    server.fill(source, {"m/new.bin": b"weights"})
    theirs = ["models/elsewhere.bin", "modelsx/new.bin"]
    for key in ("models/gone.bin", "models/new.bin", *theirs):
        server.client.create_multipart_upload(Bucket=target, Key=key)
    # What a run leaves that is killed between opening an upload and writing its name down.
    plan = {"format": 1, "source": f"s3://{source}/m/", "paths": ["gone.bin"]}
    server.fill(target, {"models/.syncer/state/plan.json": json.dumps(plan).encode()})
    assert pod.run_here(both_ends(server, source, target)).code == 0
    assert sorted(server.open_uploads(target)) == theirs
    assert server.read(target, "models/") == {"new.bin": b"weights"}
