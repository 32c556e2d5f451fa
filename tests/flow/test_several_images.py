"""The pipeline's Secrets as a pod gets them: a bucket and images in two registries, in one run."""

import base64
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from syncer.errors import Transient
from syncer.manifest import ModelFile
from syncer.stores.directory import DirectorySource
from syncer.stores.oci import leftovers
from syncer.stores.protocols import Body
from tests.support.buckets import S3Server
from tests.support.image_bench import files_of
from tests.support.image_registry import USER, ImageRegistry
from tests.support.models import pattern, write_model
from tests.support.processes import Pod

FILES = {
    "config.json": b'{"model_type": "bert"}',
    "model.safetensors": pattern(200_003),
    "sub/empty.txt": b"",
}


@pytest.fixture
def registries() -> Iterator[list[ImageRegistry]]:
    with ExitStack() as opened:
        yield [opened.enter_context(ImageRegistry(auth="basic")), opened.enter_context(ImageRegistry(auth="bearer"))]


@pytest.fixture
def environment(s3: S3Server, registries: list[ImageRegistry], tmp_path: Path) -> dict[str, str]:
    write_model(tmp_path / "source", FILES)
    write_logins(tmp_path, registries)
    for name in ("results", "workspace"):
        (tmp_path / name).mkdir()
    return {
        "S3_SYNC_SRC__PATH": str(tmp_path / "source"),
        "S3_BUCKET": s3.new_bucket("images"),
        "S3_ENDPOINT_URL": s3.endpoint,
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        "MODEL_NAME": "granite",
        "MODEL_VERSION": "2.0",
        "OCI_IMAGE": ", ".join(f"{each.authority}/Team/Model" for each in registries),
        "OCI_VALIDATE_TLS": "false",
        "DOCKER_CONFIG": str(tmp_path / "docker"),
        "RESULTS_DIR": str(tmp_path / "results"),
        "S3_SYNC_WORKSPACE": str(tmp_path / "workspace"),
        "S3_SYNC_WAIT_FOR_DESTINATION": "0s",
    }


def write_logins(folder: Path, registries: list[ImageRegistry], *, password: str = "") -> None:
    auths = {
        each.authority: {"auth": base64.b64encode(f"{USER}:{password or each.password}".encode()).decode()}
        for each in registries
    }
    write_model(folder / "docker", {".dockerconfigjson": json.dumps({"auths": auths}).encode()})


def image(registry: ImageRegistry) -> dict[str, bytes]:
    """The files of the image, layer by layer."""
    blobs = registry.repository().blobs
    return {
        path: data for layer in registry.document("2.0")["layers"] for path, data in files_of(blobs[layer["digest"]])
    }


def pushed(registry: ImageRegistry) -> list[str]:
    """What was sent since the last look, but for the upload that is begun and given up to see whether it may be."""
    asked, registry.asked = registry.asked, []
    return [each.path for each in asked if each.method in {"PUT", "PATCH"}]


def test_all_are_written_from_one_reading_and_nothing_is_sent_twice(
    s3: S3Server,
    pod: Pod,
    registries: list[ImageRegistry],
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    read: list[str] = []
    original = DirectorySource.read

    def noted(self: DirectorySource, file: ModelFile, start: int, length: int) -> Body:
        read.append(file.path)
        return original(self, file, start, length)

    monkeypatch.setattr(DirectorySource, "read", noted)
    ran = pod.run_here(environment)
    assert ran.code == 0, ran
    assert sorted(read) == ["config.json", "model.safetensors"]
    bucket = environment["S3_BUCKET"]
    assert s3.read(bucket, "model-data/granite/2.0/") == FILES
    assert [image(each) for each in registries] == [FILES, FILES]
    digests = [each.repository().tags["2.0"] for each in registries]
    assert ran.termination["uris"] == [
        f"s3://{bucket}/model-data/granite/2.0/",
        *(f"oci://{each.authority}/team/model@{digest}" for each, digest in zip(registries, digests, strict=True)),
    ]
    assert (tmp_path / "results/digest").read_text().split(",")[1:] == digests
    assert (tmp_path / "workspace/model_s3_uri").read_text() == f"s3://{bucket}/model-data/granite/2.0"
    assert ran.termination["destination"].count(", ") == 2
    assert digests[0] == digests[1], "the same bytes are the same image, wherever they are read"
    assert "3 destinations are written" in ran.output

    for each in registries:
        pushed(each)
    assert pod.run_here(environment).termination["copied_bytes"] == 0
    assert [pushed(each) for each in registries] == [[], []]
    assert pod.run_here(environment, "verify").code == 0
    assert pod.run_here(environment, "wait", "--deadline", "0s").code == 0
    assert "copy 0 files" in pod.run_here(environment, "plan").output


def test_a_registry_that_refuses_leaves_the_others_finished(
    s3: S3Server, pod: Pod, registries: list[ImageRegistry], environment: dict[str, str], tmp_path: Path
) -> None:
    write_logins(tmp_path, registries[1:], password="not-this-one")
    first = registries[0]
    write_model(tmp_path / "docker", {"config.json": json.dumps({"auths": {first.authority: {
        "username": USER, "password": first.password}}}).encode()})  # fmt: skip
    failed = pod.run_here(environment)
    assert failed.code == 77, failed
    told = failed.termination["message"]
    assert told.startswith(f"1 of 3 destinations failed: oci://{registries[1].authority}/team/model:2.0: ")
    assert f"; finished: s3://{environment['S3_BUCKET']}/model-data/granite/2.0/; oci://{first.authority}/" in told
    assert "not-this-one" not in failed.output + json.dumps(failed.termination)
    assert image(first) == FILES

    write_logins(tmp_path, registries)
    pushed(first)
    ran = pod.run_here(environment)
    assert ran.code == 0, ran
    assert pushed(first) == []
    assert image(registries[1]) == FILES


def test_an_image_has_only_what_the_source_has_now(
    pod: Pod, registries: list[ImageRegistry], environment: dict[str, str], tmp_path: Path
) -> None:
    assert pod.run_here(environment).code == 0
    (tmp_path / "source/config.json").unlink()
    write_model(tmp_path / "source", {"new.json": b"[]"})
    assert pod.run_here(environment).code == 0
    now = {path: data for path, data in FILES.items() if path != "config.json"} | {"new.json": b"[]"}
    assert [image(each) for each in registries] == [now, now]
    assert pod.run_here(environment).termination["copied_bytes"] == 0


def test_the_state_of_a_run_that_was_killed_once_its_image_was_there_goes_with_the_next_run(
    pod: Pod, registries: list[ImageRegistry], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise Transient("killed")

    with monkeypatch.context() as patch:
        patch.setattr(leftovers, "forget", killed)
        assert pod.run_here(environment).code == 75
    assert [sorted(each.repository().tags) for each in registries] == [["2.0", "2.0-syncer-state"]] * 2
    ran = pod.run_here(environment)
    assert (ran.code, ran.termination["copied_bytes"]) == (0, 0), ran
    assert [sorted(each.repository().tags) for each in registries] == [["2.0"]] * 2
    assert [image(each) for each in registries] == [FILES, FILES]


def test_an_image_is_a_source(
    pod: Pod, registries: list[ImageRegistry], environment: dict[str, str], tmp_path: Path
) -> None:
    assert pod.run_here(environment).code == 0
    ran = pod.run_here(
        {
            "S3_SYNC_SRC__PATH": f"oci://{registries[1].authority}/team/model:2.0",
            "S3_SYNC_SRC__VALIDATE_TLS": "false",
            "S3_SYNC_SRC__CREDENTIALS_DIR": environment["DOCKER_CONFIG"],
            "S3_SYNC_DEST__PATH": f"oci-archive:{tmp_path}/model.tar",
        }
    )
    assert ran.code == 0, ran
    back = pod.run_here(
        {
            "S3_SYNC_SRC__PATH": f"oci-archive:{tmp_path}/model.tar",
            "S3_SYNC_DEST__PATH": str(tmp_path / "volume"),
        }
    )
    assert back.code == 0, back
    assert {path: (tmp_path / "volume" / path).read_bytes() for path in FILES} == FILES


def test_upload_takes_no_image(
    pod: Pod, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = pod.run_here(environment, "upload", "source")
    assert ran.code == 78
    assert "upload takes a bucket or a folder" in ran.termination["message"]
