"""The main job against MinIO, the server of compose.yaml, wherever a container engine is."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.buckets import S3Server
from tests.support.minio import running_minio
from tests.support.models import read_model, small_model
from tests.support.processes import Pod

pytestmark = pytest.mark.container


@pytest.fixture(scope="module")
def minio() -> Iterator[S3Server]:
    with running_minio() as server:
        yield server


def test_a_model_arrives_whole_and_a_second_run_copies_nothing(minio: S3Server, pod: Pod) -> None:
    source, target = minio.new_bucket("source"), minio.new_bucket("target")
    minio.fill(source, small_model(), prefix="m/")
    environment = minio.source_environment(source, "m/") | minio.connection_environment(target)
    ended = pod.run(environment, "-vvvvv", "--no-dest-validate")
    assert ended.code == 0, ended
    assert minio.read(target, "models/") == small_model()
    manifest = json.loads(minio.control(target, "models/")[".syncer/manifest.json"])
    assert {entry["proved_by"] for entry in manifest["files"]} == {"stream"}
    again = pod.run(environment)
    assert (again.code, again.termination["copied_bytes"]) == (0, 0), again
    assert minio.open_uploads(target) == []
    assert minio.secret_key not in ended.output + again.output


def test_a_bucket_goes_into_a_volume(minio: S3Server, pod: Pod, tmp_path: Path) -> None:
    source = minio.new_bucket("source")
    minio.fill(source, small_model(), prefix="m/")
    volume = tmp_path / "mnt"
    ended = pod.run(minio.source_environment(source, "m/") | {"S3_SYNC_DEST__PATH": str(volume)})
    assert ended.code == 0, ended
    assert read_model(volume) == small_model()


def test_a_wrong_secret_is_77(minio: S3Server, pod: Pod) -> None:
    source, target = minio.new_bucket("source"), minio.new_bucket("target")
    minio.fill(source, {"m/a.bin": b"x"})
    environment = minio.source_environment(source, "m/") | minio.connection_environment(target)
    ended = pod.run(environment | {"S3_SYNC_SRC__SECRET_KEY": "not-the-secret-key-of-anybody"})
    assert ended.code == 77, ended
