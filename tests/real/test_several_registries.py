"""One run into a bucket and two of Docker's own registries, set by nothing but the environment of the pipelines."""

import json
import shutil
from pathlib import Path

import pytest

from tests.support.buckets import running_moto
from tests.support.docker_registry import COMMANDS, DockerRegistry, running_registry
from tests.support.models import read_model, small_model, write_model
from tests.support.processes import Pod

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not all(map(shutil.which, COMMANDS)), reason=f"needs {', '.join(COMMANDS)} from the distribution's packages"
    ),
]


def write_pull_secret(folder: Path, *registries: DockerRegistry) -> str:
    """The logins of all, as a Secret of type `kubernetes.io/dockerconfigjson` is mounted."""
    auths: dict[str, object] = {}
    for registry in registries:
        auths |= json.loads(registry.auth_file.read_text())["auths"]
    write_model(folder, {".dockerconfigjson": json.dumps({"auths": auths}).encode()})
    return str(folder)


def test_a_bucket_and_two_registries_have_the_same_model(pod: Pod, tmp_path: Path) -> None:
    files = small_model()
    write_model(tmp_path / "source", files)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with (
        running_moto() as s3,
        running_registry(tmp_path / "one", auth="basic", https=True) as one,
        running_registry(tmp_path / "two", auth="bearer", https=True) as two,
    ):
        bucket = s3.new_bucket()
        environment = {
            "S3_SYNC_SRC__PATH": str(tmp_path / "source"),
            "S3_BUCKET": bucket,
            "S3_ENDPOINT_URL": s3.endpoint,
            "AWS_ACCESS_KEY_ID": s3.access_key,
            "AWS_SECRET_ACCESS_KEY": s3.secret_key,
            "MODEL_NAME": "granite",
            "OCI_IMAGE": f"{one.authority}/team/model:1.0, {two.authority}/team/model:1.0",
            "DOCKER_CONFIG": write_pull_secret(tmp_path / "auth", one, two),
            "AWS_CA_BUNDLE": str(one.ca_file),
            "SSL_CERT_FILE": str(two.ca_file),
        }
        first = pod.run(environment)
        assert first.code == 0, first
        assert s3.read(bucket, "model-data/granite/1.0.0/") == files
        for registry in (one, two):
            assert read_model(registry.unpacked("team/model:1.0", tmp_path / registry.folder.name)) == files
        digests = {uri.partition("@")[2] for uri in first.termination["uris"][1:]}
        assert len(digests) == 1
        again = pod.run(environment)
        assert (again.code, again.termination["copied_bytes"]) == (0, 0), again
        assert again.termination["uris"] == first.termination["uris"]

        denied = {**environment, "DOCKER_CONFIG": write_pull_secret(tmp_path / "other", one)}
        write_model(tmp_path / "source", {"new.json": b"[]"})
        failed = pod.run(denied)
        assert failed.code == 77, failed
        assert failed.termination["message"].startswith(f"1 of 3 destinations failed: oci://{two.authority}/")
        assert "new.json" in s3.read(bucket, "model-data/granite/1.0.0/")
        rest = pod.run(environment)
        assert (rest.code, rest.termination["copied_bytes"]) == (0, 2), rest
