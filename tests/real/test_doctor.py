"""`syncer doctor` as a process before real servers: what is right, what is wrong, and that nothing is left there."""

import base64
import json
import shutil
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.support.buckets import S3Server
from tests.support.docker_registry import COMMANDS, USER, running_registry
from tests.support.models import small_model, write_model
from tests.support.processes import Ended, Pod
from tests.support.rados_gateway import RadosGateway

pytestmark = pytest.mark.real

FOREIGN = {"models/theirs.bin": b"theirs"}
WRONG = "canary-secret-of-nobody"
PROBED = ("there", "list", "write", "read", "multipart", "delete")


@pytest.fixture(params=["http", "https"])
def server(request: pytest.FixtureRequest, rgw: RadosGateway) -> S3Server:
    return rgw.server(https=request.param == "https")


@pytest.fixture
def target(server: S3Server) -> str:
    bucket = server.new_bucket("target")
    server.fill(bucket, FOREIGN)
    return bucket


@pytest.fixture
def environ(server: S3Server, target: str) -> dict[str, str]:
    source = server.new_bucket("source")
    server.fill(source, small_model(), prefix="m/")
    told = server.source_environment(source, "m/") | server.connection_environment(target)
    return told | ({"AWS_CA_BUNDLE": server.ca_file} if server.ca_file else {})


def rows(ended: Ended) -> list[dict[str, Any]]:
    """What was printed; all words of the process are on one stream."""
    document = json.loads("{\n" + ended.output.partition("\n{\n")[2].partition("\n}\n")[0] + "\n}")
    assert document["exit_code"] == ended.code, ended
    return list(document["steps"])


def steps(ended: Ended, at: str) -> dict[str, dict[str, Any]]:
    """The rows at a place, by their step."""
    return {row["step"]: row for row in rows(ended) if row["at"].startswith(at)}


def test_a_gateway_lets_us_do_all_that_a_run_does(
    server: S3Server, environ: dict[str, str], target: str, pod: Pod
) -> None:
    ended = pod.run(environ, "doctor", "-vvvvv")
    assert (ended.code, ended.termination["reason"]) == (0, "Examined"), ended
    found = steps(ended, f"s3://{target}/")
    assert {step: found[step]["result"] for step in PROBED} == dict.fromkeys(PROBED, "ok")
    way = steps(ended, server.endpoint)
    assert "TLS" in way if server.ca_file else "connection" in way
    assert way["clock"]["result"] == "ok"
    assert server.read(target) | server.control(target) == FOREIGN
    assert server.open_uploads(target) == []
    assert server.secret_key not in ended.output


@pytest.mark.parametrize(
    ("wrong", "step", "code", "named"),
    [
        ({"S3_SYNC_SRC__SECRET_KEY": WRONG}, "list", 77, "S3_SYNC_SRC__SECRET_KEY"),
        ({"AWS_SECRET_ACCESS_KEY": WRONG}, "there", 77, "AWS_SECRET_ACCESS_KEY"),
        ({"AWS_S3_BUCKET": "no-such-bucket-there"}, "there", 69, "AWS_S3_BUCKET"),
        ({"S3_SYNC_SRC__PATH": "s3://no-such-bucket-here/m/"}, "list", 66, "S3_SYNC_SRC__PATH"),
    ],
)
def test_what_a_gateway_refuses_is_the_first_failure(
    environ: dict[str, str], pod: Pod, wrong: dict[str, str], step: str, code: int, named: str
) -> None:
    ended = pod.run(environ | wrong, "doctor", "-vvvvv")
    assert ended.code == code, ended
    failed = next(row for row in rows(ended) if row["result"] == "failed")
    assert failed["step"] == step
    assert named in failed["hint"]
    assert WRONG not in ended.output


@pytest.mark.parametrize("server", ["https"], indirect=True)
def test_a_gateway_whose_authority_nobody_has_named_ends_at_tls(
    server: S3Server, environ: dict[str, str], target: str, pod: Pod
) -> None:
    del environ["AWS_CA_BUNDLE"]
    ended = pod.run(environ, "doctor")
    assert ended.code == 78, ended
    way = steps(ended, server.endpoint)
    assert (way["TLS"]["result"], way["clock"]["result"]) == ("failed", "skipped")
    assert "AWS_CA_BUNDLE" in way["TLS"]["hint"]
    assert {row["result"] for row in steps(ended, f"s3://{target}/").values()} == {"skipped"}
    unchecked = pod.run(environ, "doctor", "--no-src-validate", "--no-dest-validate")
    assert unchecked.code == 0, unchecked
    assert "not checked" in steps(unchecked, server.endpoint)["TLS"]["seen"]


@pytest.mark.skipif(
    not all(map(shutil.which, COMMANDS)), reason=f"needs {', '.join(COMMANDS)} from the distribution's packages"
)
@pytest.mark.parametrize("https", [False, True])
@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_a_registry_of_images_takes_an_upload_and_none_is_left(
    auth: Literal["basic", "bearer"], https: bool, pod: Pod, tmp_path: Path
) -> None:
    source = write_model(tmp_path / "source", small_model())
    place = tmp_path / "registry"
    place.mkdir()
    with running_registry(place, auth=auth, https=https) as registry:
        trust = {"AWS_CA_BUNDLE": str(registry.ca_file)} if https else {"OCI_VALIDATE_TLS": "false"}
        environ = {"S3_SYNC_SRC__PATH": str(source), "OCI_IMAGE": f"{registry.authority}/team/model:1"} | trust
        right = pod.run(environ | {"REGISTRY_AUTH_FILE": str(registry.auth_file)}, "doctor", "-vvvvv")
        wrong_login = tmp_path / "wrong.json"
        login = base64.b64encode(f"{USER}:{WRONG}".encode()).decode()
        wrong_login.write_text(json.dumps({"auths": {registry.authority: {"auth": login}}}))
        wrong = pod.run(environ | {"REGISTRY_AUTH_FILE": str(wrong_login)}, "doctor", "-vvvvv")
        assert registry.repository("team/model").uploads() == []
        assert registry.repository("team/model").manifests() == {}
    assert right.code == 0, right
    assert steps(right, "oci://")["there"]["seen"] == "an upload was begun and given up"
    assert (wrong.code, steps(wrong, "oci://")["there"]["exit_code"]) == (77, 77), wrong
    assert WRONG not in wrong.output
    assert login not in wrong.output
