"""The main job between buckets, as a pod runs it: on a stand-in, and in the ring of real servers on RADOS Gateway.

By both of its doors, http and https, with the same bodies.
"""

import json
from pathlib import Path
from typing import cast

import pytest

from tests.support.buckets import S3Server, free_port
from tests.support.models import oddly_named, read_model, small_model
from tests.support.processes import Pod
from tests.support.rados_gateway import RadosGateway

IMPATIENT = {"S3_SYNC_WAIT_FOR_DESTINATION": "0s"}
REAL = [pytest.param(name, marks=pytest.mark.real) for name in ("rgw-http", "rgw-https")]


@pytest.fixture(params=["moto", *REAL])
def s3(request: pytest.FixtureRequest) -> S3Server:
    if request.param == "moto":
        return cast("S3Server", request.getfixturevalue("moto"))
    gateway: RadosGateway = request.getfixturevalue("rgw")
    return gateway.server(https=request.param == "rgw-https")


def test_one_service_copies_inside_itself_and_the_manifest_says_so(s3: S3Server, pod: Pod) -> None:
    source, target = s3.new_bucket("source"), s3.new_bucket("demo")
    s3.fill(source, small_model(), prefix="m/")
    environment = s3.source_environment(source, "m/") | s3.connection_environment(target, endpoint=s3.endpoint)
    ended = pod.run_here(environment)
    assert ended.code == 0, ended
    assert s3.read(target, "models/") == small_model()
    manifest = json.loads(s3.control(target, "models/")[".syncer/manifest.json"])
    assert {entry["proved_by"] for entry in manifest["files"]} == {"server-copy"}
    assert pod.run_here(s3.connection_environment(target), "verify").code == 0
    s3.client.put_object(Bucket=target, Key="models/config.json", Body=b"{'model_type': 'bert'}")
    assert pod.run_here(s3.connection_environment(target), "verify").code == 65


def test_a_bucket_goes_into_a_volume(s3: S3Server, pod: Pod, tmp_path: Path) -> None:
    source = s3.new_bucket("source")
    s3.fill(source, small_model(), prefix="m/")
    volume = tmp_path / "mnt"
    volume.mkdir()
    ended = pod.run_here(s3.source_environment(source, "m") | {"S3_SYNC_DEST__PATH": f"{volume}/models"})
    assert ended.code == 0, ended
    assert read_model(volume / "models") == small_model()


def test_odd_keys_arrive_under_exactly_these_keys(s3: S3Server, pod: Pod) -> None:
    source, target = s3.new_bucket("source"), s3.new_bucket("demo")
    files = oddly_named(shards=50)
    s3.fill(source, files, prefix="models/a/")
    s3.fill(source, {"models/a/folder/": b"", "models/ab/sibling.bin": b"never", "models/a.bin": b"never"})
    environment = s3.source_environment(source, "models/a") | s3.connection_environment(target)
    ended = pod.run_here(environment)
    assert ended.code == 0, ended
    assert s3.read(target, "models/") == files
    again = pod.run_here(environment)
    assert (again.code, again.termination["copied_bytes"]) == (0, 0), again


def test_a_prefix_that_is_one_object_is_that_object(s3: S3Server, pod: Pod) -> None:
    source, target = s3.new_bucket("source"), s3.new_bucket("demo")
    s3.fill(source, {"m/model.gguf": b"weights", "m/model.gguf.txt": b"never"})
    ended = pod.run_here(s3.source_environment(source, "m/model.gguf") | s3.connection_environment(target))
    assert ended.code == 0, ended
    assert s3.read(target, "models/") == {"model.gguf": b"weights"}


def test_no_upload_stays_open_that_no_later_run_would_resume(s3: S3Server, pod: Pod) -> None:
    source, target = s3.new_bucket("source"), s3.new_bucket("demo")
    s3.fill(source, {"m/a.bin": b"x"})
    environment = s3.source_environment(source, "m/") | s3.connection_environment(target)
    assert pod.run_here(environment).code == 0
    # What a run leaves that is killed in a file which the source does not have any more when the next one starts.
    for path in ("gone.bin", "foreign.bin"):
        s3.client.create_multipart_upload(Bucket=target, Key=f"models/{path}")
    plan = {"format": 1, "source": f"s3://{source}/m/", "paths": ["gone.bin"]}
    s3.fill(target, {"models/.syncer/state/plan.json": json.dumps(plan).encode()})
    assert pod.run_here(environment).code == 0
    assert s3.open_uploads(target) == ["models/foreign.bin"]


def test_each_mistake_has_its_exit_code_and_a_hint(s3: S3Server, pod: Pod) -> None:
    source, target = s3.new_bucket("source"), s3.new_bucket("demo")
    s3.fill(source, {"m/a.bin": b"x"})
    good = s3.source_environment(source, "m/") | s3.connection_environment(target) | IMPATIENT
    dead = f"http://127.0.0.1:{free_port()}"
    cases = {
        "no such source bucket": (66, good | {"S3_SYNC_SRC__PATH": "s3://no-such-bucket-here/m/"}),
        "nothing below the prefix": (66, good | {"S3_SYNC_SRC__PATH": f"s3://{source}/nothing/"}),
        "no such destination bucket": (69, good | {"AWS_S3_BUCKET": "no-such-bucket-there"}),
        "dead destination": (69, good | {"AWS_S3_ENDPOINT": dead}),
        "typo": (78, good | {"S3_SYNC_SRC__ENDPIONT": dead}),
    }
    for name, (code, environment) in cases.items():
        ended = pod.run_here(environment)
        assert ended.code == code, (name, str(ended))
        assert ended.termination["exit_code"] == code, name
        assert ended.termination["status"] == "failed", name
        assert ended.termination["message"], name
        assert ended.termination["hint"], name
        assert "\n" not in ended.termination["message"], name
        assert "Traceback" not in ended.output, (name, str(ended))
        if name == "typo":
            assert "S3_SYNC_SRC__ENDPOINT" in ended.termination["message"] + ended.termination["hint"]
    assert s3.read(target) == {}


def test_wait_and_verify_follow_the_seal(s3: S3Server, pod: Pod) -> None:
    source, target = s3.new_bucket("source"), s3.new_bucket("demo")
    s3.fill(source, small_model(), prefix="m/")
    connection = s3.connection_environment(target)
    waited = pod.run_here(connection, "wait", "--deadline", "0s")
    assert waited.code == 69, waited
    assert pod.run_here(s3.source_environment(source, "m/") | connection).code == 0
    waited = pod.run_here(connection, "wait", "--deadline", "0s", "--source", f"s3://{source}/m/")
    assert waited.code == 0, waited
    assert pod.run_here(connection, "wait", "--deadline", "0s", "--source", "s3://another/").code == 69
    assert pod.run_here(connection, "verify").code == 0
    s3.client.put_object(Bucket=target, Key="models/config.json", Body=b"{'model_type': 'bert'}")
    found = pod.run_here(connection, "verify")
    assert found.code == 65, found
    assert "config.json" in found.termination["message"]


def test_plan_says_what_would_happen_and_touches_nothing(s3: S3Server, pod: Pod) -> None:
    source, target = s3.new_bucket("source"), s3.new_bucket("demo")
    s3.fill(source, small_model(), prefix="m/")
    ended = pod.run_here(s3.source_environment(source, "m/") | s3.connection_environment(target), "plan", "--json")
    assert ended.code == 0, ended
    assert "model.safetensors" in ended.output
    assert s3.keys(target) == {}
