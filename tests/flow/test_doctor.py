"""`syncer doctor` against servers: what it finds, how each step fails, and that it leaves nothing behind."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from syncer.errors import CredentialsRefused, Transient
from syncer.examining import Examination, examine
from syncer.examining.findings import Finding
from syncer.settings import CommandLine
from syncer.settings.locations import Settings
from syncer.stop import StopSwitch
from syncer.stores.directory import DirectoryDestination
from syncer.stores.s3.control import S3ControlFolder
from syncer.stores.s3.upload import MultipartUpload
from tests.support.buckets import S3Server
from tests.support.fake_hub import FakeHub
from tests.support.fake_registry import FakeRegistry
from tests.support.image_registry import PASSWORD, USER, ImageRegistry
from tests.support.processes import Ended, Pod
from tests.support.scripted_server import ScriptedServer, reply

FOREIGN = {"models/.syncer/complete.json": b"somebody's seal", "models/theirs.bin": b"theirs"}


def examined(environ: Mapping[str, str]) -> Examination:
    return examine(environ, CommandLine(), adopt=lambda _: None, stop=StopSwitch())


def row(found: Examination, step: str, at: str) -> Finding:
    (finding,) = [it for it in found.findings if it.step == step and at in it.at]
    return finding


def verdicts(found: Examination, at: str) -> dict[str, str]:
    return {it.step: it.verdict for it in found.findings if it.at.startswith(at)}


@pytest.fixture
def bucket(s3: S3Server) -> str:
    """A destination in which something lies already."""
    bucket = s3.new_bucket("examined")
    s3.fill(bucket, FOREIGN)
    return bucket


@pytest.fixture
def environ(s3: S3Server, bucket: str, source: Path) -> dict[str, str]:
    return {"S3_SYNC_SRC__PATH": str(source)} | s3.connection_environment(bucket)


def printed(ended: Ended) -> dict[str, Any]:
    """The one document of several lines among the lines of the log."""
    document: dict[str, Any] = json.loads("{\n" + ended.output.partition("\n{\n")[2].partition("\n}\n")[0] + "\n}")
    return document


def left_as_it_was(s3: S3Server, bucket: str) -> bool:
    there = s3.read(bucket) | s3.control(bucket)
    return there == FOREIGN and not s3.open_uploads(bucket)


def test_a_bucket_is_tried_with_everything_that_a_run_does(s3: S3Server, environ: dict[str, str], bucket: str) -> None:
    found = examined(environ)
    assert found.failure is None, found.failure
    assert verdicts(found, f"s3://{bucket}") == dict.fromkeys(
        ("there", "list", "write", "read", "multipart", "delete"), "ok"
    ) | {"space": "skipped"}
    assert row(found, "list", "file:///").seen.endswith("bytes")
    assert left_as_it_was(s3, bucket)


def test_the_command_prints_json_without_a_secret_and_ends_like_its_first_failure(
    s3: S3Server, environ: dict[str, str], pod: Pod
) -> None:
    secret = {"HF_TOKEN": "hf_canarycanarycanary", "AWS_SECRET_ACCESS_KEY": "canary/secret/of/the/bucket"}
    ended = pod.run_here(environ | secret, "doctor")
    assert ended.code == 0, ended
    steps = printed(ended)["steps"]
    assert {"settings", "user", "memory", "name", "connection", "clock", "write"} <= {step["step"] for step in steps}
    assert ended.termination["reason"] == "Examined"
    ended = pod.run_here(environ | secret | {"AWS_S3_BUCKET": "nowhere", "S3_SYNC_DEADLINE": "1h"}, "doctor", "-vvvvv")
    document = printed(ended)
    assert (ended.code, document["exit_code"], ended.termination["exit_code"]) == (69, 69, 69)
    assert "canary" not in ended.output + json.dumps(ended.termination)


@pytest.mark.parametrize(
    ("step", "place", "method", "code"),
    [
        ("write", S3ControlFolder, "write", 77),
        ("read", S3ControlFolder, "read", 77),
        ("multipart", MultipartUpload, "finish", 77),
        ("list", S3ControlFolder, None, 77),
    ],
)
def test_what_the_store_refuses_is_the_step_that_fails(
    s3: S3Server,
    environ: dict[str, str],
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    step: str,
    place: type,
    method: str | None,
    code: int,
) -> None:
    def refuse(*_: object, **__: object) -> Any:
        raise CredentialsRefused("the store says no", hint="ask for the right")

    if method is None:
        monkeypatch.setattr("syncer.stores.s3.destination.folder_listing", refuse)
    else:
        monkeypatch.setattr(place, method, refuse)
    found = examined(environ)
    assert found.failure is not None
    assert (found.failure.step, found.outcome.exit_code, found.outcome.hint) == (step, code, "ask for the right")
    if step == "read":
        monkeypatch.undo()
        names = [key for key in s3.keys(bucket) if "doctor-" in key]
        assert not names  # removed, though nobody could look
        assert row(found, "delete", bucket).verdict == "failed"
    assert left_as_it_was(s3, bucket)


def test_wrong_bytes_from_the_store_are_65(
    s3: S3Server, environ: dict[str, str], bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = S3ControlFolder.read
    monkeypatch.setattr(
        S3ControlFolder, "read", lambda self, name: (found := real(self, name)) and (b"framed" + found[0], found[1])
    )
    found = examined(environ)
    assert (row(found, "read", bucket).exit_code, row(found, "multipart", bucket).exit_code) == (65, 65)
    assert row(found, "delete", bucket).verdict == "ok"
    assert left_as_it_was(s3, bucket)


def test_what_cannot_be_removed_is_named(
    s3: S3Server, environ: dict[str, str], bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise CredentialsRefused("no right to delete")

    with monkeypatch.context() as patch:
        patch.setattr(S3ControlFolder, "remove", refuse)
        found = examined(environ)
    delete = row(found, "delete", bucket)
    left = {key.removeprefix("models/") for key in s3.keys(bucket) if "doctor-" in key}
    assert len(left) == 2
    assert all(name in delete.seen for name in left)
    assert delete.exit_code == 77


def test_a_stop_in_the_middle_leaves_nothing_either(
    s3: S3Server, environ: dict[str, str], bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, real = StopSwitch(), MultipartUpload.open_part

    def stopped(self: MultipartUpload, index: int) -> Any:
        stop.throw(Transient("stopped by a test"))
        return real(self, index)

    monkeypatch.setattr(MultipartUpload, "open_part", stopped)
    with pytest.raises(Transient, match="stopped by a test"):
        examine(environ, CommandLine(), adopt=lambda _: None, stop=stop)
    assert left_as_it_was(s3, bucket)


def test_a_bucket_that_is_not_there_is_69_and_a_source_66(environ: dict[str, str], s3: S3Server) -> None:
    found = examined(environ | {"AWS_S3_BUCKET": "nowhere", **s3.source_environment("nowhere-either", "m/")})
    assert row(found, "list", "s3://nowhere-either").exit_code == 66
    assert row(found, "there", "s3://nowhere/").exit_code == 69
    assert verdicts(found, "s3://nowhere/")["delete"] == "skipped"
    assert found.outcome.exit_code == 66  # the first


def test_a_source_whose_bytes_do_not_come_fails_at_reading(
    environ: dict[str, str], source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise CredentialsRefused("listing only")

    monkeypatch.setattr("syncer.stores.directory.source.DirectorySource.read", refuse)
    found = examined(environ)
    assert (row(found, "list", source.as_uri()).verdict, row(found, "read", source.as_uri()).exit_code) == ("ok", 77)


# Folders and volumes --------------------------------------------------------------------------------------------------


def test_a_folder_is_left_as_it_was(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    found = examined({"S3_SYNC_SRC__PATH": str(source), "S3_SYNC_DEST__PATH": str(target)})
    assert found.failure is None, found.failure
    assert verdicts(found, target.as_uri())["delete"] == "ok"
    assert "to be copied" in row(found, "space", target.as_uri()).seen
    assert not list(target.iterdir())


def test_a_folder_that_is_yet_to_come_is_not_made(source: Path, target: Path) -> None:
    target.parent.mkdir()
    found = examined({"S3_SYNC_SRC__PATH": str(source), "S3_SYNC_DEST__PATH": str(target)})
    assert found.failure is None, found.failure
    assert verdicts(found, target.as_uri())["write"] == "skipped"
    assert not list(target.parent.iterdir())


def test_a_volume_that_is_not_mounted_is_78_and_one_that_is_too_small_73(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"S3_SYNC_SRC__PATH": str(source), "S3_SYNC_DEST__PATH": "/not-mounted-anywhere/models"}
    assert row(examined(environ), "there", "file:///not-mounted").exit_code == 78
    target.mkdir(parents=True)
    monkeypatch.setattr(DirectoryDestination, "free_bytes", lambda _: 10)
    found = examined(environ | {"S3_SYNC_DEST__PATH": str(target)})
    assert row(found, "space", target.as_uri()).exit_code == 73


# Hub, registries, IBM COS ---------------------------------------------------------------------------------------------


def test_the_hub_lets_us_in_or_says_why_not(target: Path) -> None:
    with FakeHub() as hub:
        hub.create("team/model").commit({"config.json": b"{}"})
        hub.create("team/private", private=True).commit({"config.json": b"{}"})
        environ = {"HF_ENDPOINT": hub.endpoint, "S3_SYNC_DEST__PATH": str(target)}
        target.mkdir(parents=True)
        found = examined(environ | {"HUGGINGFACE_MODEL": "team/model"})
        assert (verdicts(found, "hf://team/model"), found.failure) == ({"list": "ok", "read": "ok"}, None)
        refused = examined(environ | {"HUGGINGFACE_MODEL": "team/private"})
    assert row(refused, "list", "hf://").exit_code == 77
    assert "HF_TOKEN" in row(refused, "list", "hf://").hint


def test_the_model_registry_is_asked_and_told_nothing(environ: dict[str, str], s3: S3Server, bucket: str) -> None:
    with FakeRegistry() as registry:
        registry.tokens.add("right")
        environ |= {"MODEL_REGISTRY_URL": registry.url, "MODEL_NAME": "m", "S3_SYNC_ALLOW_PLAINTEXT_TOKENS": "true"}
        found = examined(environ | {"MODEL_REGISTRY_TOKEN": "right"})
        assert row(found, "registry", registry.url).verdict == "ok"
        refused = examined(environ | {"MODEL_REGISTRY_TOKEN": "canary-wrong"})
        assert not registry.written
    assert row(refused, "registry", registry.url).exit_code == 77
    assert "canary" not in str(refused.findings)


@pytest.mark.parametrize(("password", "code"), [(PASSWORD, 0), ("canary-wrong", 77)])
def test_an_image_registry_takes_an_upload_that_is_given_up(
    source: Path, tmp_path: Path, password: str, code: int
) -> None:
    with ImageRegistry(auth="bearer") as registry:
        logins = {"auths": {registry.authority: {"username": USER, "password": password}}}
        (tmp_path / "config.json").write_text(json.dumps(logins))
        found = examined(
            {
                "S3_SYNC_SRC__PATH": str(source),
                "OCI_IMAGE": f"{registry.authority}/team/model:1",
                "OCI_VALIDATE_TLS": "false",
                "REGISTRY_AUTH_FILE": str(tmp_path / "config.json"),
            }
        )
        assert not registry.uploads
        assert not registry.repository().blobs
    assert row(found, "there", "oci://").exit_code == code
    assert "canary" not in str(found.findings)


def test_an_image_as_source_is_read_or_missing(target: Path, source: Path, tmp_path: Path) -> None:
    target.mkdir(parents=True)
    with ImageRegistry() as registry:
        found = examined(
            {
                "S3_SYNC_SRC__PATH": f"oci://{registry.authority}/team/model:1",
                "OCI_VALIDATE_TLS": "false",
                "S3_SYNC_DEST__PATH": str(target),
            }
        )
    assert row(found, "read", "oci://").exit_code == 66


def test_a_passcode_is_never_spent(target: Path) -> None:
    target.mkdir(parents=True)
    with ScriptedServer(lambda heard: heard.say(reply(200))) as iam:
        found = examined(
            {
                "S3_SYNC_COS_BUCKET": "b",
                "S3_SYNC_COS_ENDPOINT": iam.url,
                "S3_SYNC_COS_IAM_ENDPOINT": iam.url,
                "S3_SYNC_COS_TEMPORARY_PASSCODE": "CanaryCode1",
                "S3_SYNC_ALLOW_PLAINTEXT_TOKENS": "true",
                "S3_SYNC_DEST__PATH": str(target),
            }
        )
        assert {(heard.method, heard.target) for heard in iam.heard} == {("HEAD", "/")}
    assert verdicts(found, "cos://") == {"list": "skipped", "read": "skipped"}
    assert "passcode" in row(found, "list", "cos://").seen
    assert found.failure is None, found.failure


def test_settings_are_adopted_before_anybody_is_asked(environ: dict[str, str]) -> None:
    adopted: list[Settings] = []

    def adopt(settings: Settings) -> None:
        adopted.append(settings)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        examine(environ, CommandLine(), adopt=adopt, stop=StopSwitch())
    assert len(adopted) == 1
