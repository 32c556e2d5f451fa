"""Images as sources and destinations: what their names mean, which forms go together, and whose logins are found."""

import base64
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.settings import CommandLine, Settings, effective, load, secrets
from syncer.settings.images import Reference, parse_reference
from syncer.settings.locations import ArchiveLocation, ImageLocation, RegistryLogin, S3Location
from tests.support.refused_settings import only_problem, problems

DIRECTORY = {"S3_SYNC_SRC__PATH": "/mnt/source"}
PIPELINE = {
    "S3_BUCKET": "models",
    "S3_ENDPOINT_URL": "https://minio:9000",
    "MODEL_NAME": "granite",
    "AWS_ACCESS_KEY_ID": "dest-key",
    "AWS_SECRET_ACCESS_KEY": "dest-secret",
}
DIGEST = "sha256:" + "0a" * 32


def images(environ: dict[str, str], said: CommandLine | None = None) -> list[ImageLocation]:
    found = load({**DIRECTORY, **environ}, command_line=said).destinations
    return [each for each in found if isinstance(each, ImageLocation)]


def image(environ: dict[str, str], said: CommandLine | None = None) -> ImageLocation:
    [found] = images(environ, said)
    return found


def auth(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def write_auths(path: Path, auths: dict[str, Any], **more: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"auths": auths, **more}))
    return str(path)


def shown(login: RegistryLogin) -> tuple[str, str, str, str]:
    """Scope, user, password, identity token."""
    password, token = login.password, login.identity_token
    return (
        login.scope,
        login.username,
        password.get_secret_value() if password else "",
        token.get_secret_value() if token else "",
    )


# References ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("quay.io/org/model:1.0", Reference("quay.io", "org/model", "1.0")),
        ("quay.io/org/model", Reference("quay.io", "org/model")),
        ("oci://quay.io/org/model:1.0", Reference("quay.io", "org/model", "1.0")),
        ("docker://Quay.IO/org/model:V1", Reference("quay.io", "org/model", "V1")),
        ("localhost:5000/m:1", Reference("localhost:5000", "m", "1")),
        ("localhost/m", Reference("localhost", "m")),
        ("[::1]:5000/m:1", Reference("[::1]:5000", "m", "1")),
        ("image-registry.openshift-image-registry.svc:5000/ns/a/b/c__d:x", Reference(
            "image-registry.openshift-image-registry.svc:5000", "ns/a/b/c__d", "x")),
        ("docker.io/busybox:1.36", Reference("docker.io", "library/busybox", "1.36")),
        ("index.docker.io/me/x", Reference("docker.io", "me/x")),
        ("quay.io/Me/Granite-3.1-8B:v1", Reference("quay.io", "me/granite-3.1-8b", "v1", lowered=True)),
        (f"quay.io/m@{DIGEST}", Reference("quay.io", "m", digest=DIGEST)),
        (f"quay.io/m:1@{DIGEST}", Reference("quay.io", "m", "1", DIGEST)),
    ],
)  # fmt: skip
def test_references(text: str, expected: Reference) -> None:
    assert parse_reference(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "model", "org/model:1", "quay.io", "quay.io/", "quay.io/a//b", "quay.io/a b", "quay.io/-a", "quay.io/a:",
        "quay.io/a:b:c", "quay.io/a:-x", "https://quay.io/a", "oci:///a/b", "user:pass@quay.io/a", "quay.io/a@sha256:1",
        "quay.io/a@sha512:" + "0" * 128, "quay.io:0/a", "quay.io:x/a", "quay.io/" + "a" * 300, "quay.io/a:" + "b" * 129,
        "quay.io/é", "..io/a", "quay.io/a/../b",
    ],
)  # fmt: skip
def test_references_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must "):
        parse_reference(text)


@given(st.lists(st.sampled_from(["a", "quay.io", ":", "/", "@", DIGEST, "oci", "//", ".", "A", "\0", "é", "5000"])))
def test_any_text_is_a_reference_or_refused(parts: list[str]) -> None:
    text = "".join(parts)
    with contextlib.suppress(ValueError):
        found = parse_reference(text)
        assert found.registry
        assert found.repository == found.repository.lower()


# Forms ---------------------------------------------------------------------------------------------------------------


def test_the_pipelines_image_stands_beside_its_bucket() -> None:
    settings = load({**DIRECTORY, **PIPELINE, "OCI_IMAGE": "quay.io/a/b:1, registry.local:5000/a/b:1"})
    assert [each.uri for each in settings.destinations] == [
        "s3://models/model-data/granite/1.0.0/",
        "oci://quay.io/a/b:1",
        "oci://registry.local:5000/a/b:1",
    ]
    assert isinstance(settings.destination, S3Location)
    assert settings.notes[0].startswith("3 destinations are written: s3://models/")


def test_an_image_alone_leaves_the_aws_names_to_the_source() -> None:
    settings = load({"S3_SYNC_SRC__PATH": "s3://from/x/", "OCI_IMAGE": "quay.io/a/b:1", "AWS_ACCESS_KEY_ID": "key",
                     "AWS_SECRET_ACCESS_KEY": "secret"})  # fmt: skip
    assert isinstance(settings.source, S3Location)
    assert settings.source.access_key is not None
    assert [each.uri for each in settings.destinations] == ["oci://quay.io/a/b:1"]


def test_the_explicit_form_stands_alone() -> None:
    settings = load({**DIRECTORY, **PIPELINE, "S3_SYNC_DEST__PATH": "oci://quay.io/a/b:2", "OCI_IMAGE": "q.io/x:1"})
    assert [each.uri for each in settings.destinations] == ["oci://quay.io/a/b:2"]
    assert any("OCI_IMAGE" in note and "not used" in note for note in settings.notes)
    archive = load({**DIRECTORY, "S3_SYNC_DEST__PATH": "oci-archive:/mnt/x.tar"}).destination
    assert archive == ArchiveLocation(Path("/mnt/x.tar"))


def test_an_image_as_source() -> None:
    def source(path: str) -> object:
        return load({"S3_SYNC_SRC__PATH": path, "S3_SYNC_DEST__PATH": "/mnt/models", "MODEL_VERSION": "9"}).source

    assert source("oci://quay.io/a/b") == ImageLocation("quay.io", "a/b", "latest")
    assert source(f"oci://quay.io/a/b:1@{DIGEST}") == ImageLocation("quay.io", "a/b", "1", DIGEST)
    assert source("oci-archive:/mnt/x.tar") == ArchiveLocation(Path("/mnt/x.tar"))


@pytest.mark.parametrize(
    ("version", "tag"), [({}, "latest"), ({"MODEL_VERSION": "2.1"}, "2.1"), ({"MODEL_VERSION": ""}, "latest")]
)
def test_without_a_tag_it_is_the_models_version(version: dict[str, str], tag: str) -> None:
    assert image({"OCI_IMAGE": "quay.io/a/b", **version}).tag == tag


def test_a_base_image_is_for_every_image() -> None:
    both = images({"OCI_IMAGE": "quay.io/a/b:1,q.io/c:1", "OCI_BASE_IMAGE": "docker.io/busybox:1.36"})
    base = ImageLocation("docker.io", "library/busybox", "1.36")
    assert [each.base for each in both] == [base, base]
    archive = {"S3_SYNC_DEST__PATH": "oci-archive:/mnt/x.tar", "OCI_BASE_IMAGE": "oci-archive:/mnt/base.tar"}
    assert load({**DIRECTORY, **archive}).destination == ArchiveLocation(
        Path("/mnt/x.tar"), base=ArchiveLocation(Path("/mnt/base.tar"))
    )


def test_capitals_are_lowered_with_a_note() -> None:
    settings = load({**DIRECTORY, "OCI_IMAGE": "quay.io/Me/Granite:V1"})
    assert settings.destinations[0].uri == "oci://quay.io/me/granite:V1"
    assert any("no capitals" in note and "me/granite" in note for note in settings.notes)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"OCI_IMAGE": "granite:1"}, ["OCI_IMAGE", "registry's host"]),
        ({"OCI_IMAGE": " , "}, ["OCI_IMAGE", "names no image"]),
        ({"OCI_IMAGE": f"quay.io/a@{DIGEST}"}, ["OCI_IMAGE", "tag instead"]),
        ({"OCI_IMAGE": "quay.io/a:1, quay.io/A:1"}, ["quay.io/a:1 2 times"]),
        ({"OCI_IMAGE": "quay.io/a", "MODEL_VERSION": "1+x"}, ["OCI_IMAGE has no tag", "MODEL_VERSION"]),
        ({"OCI_IMAGE": "quay.io/a:1", "OCI_BASE_IMAGE": "busybox"}, ["OCI_BASE_IMAGE", "registry's host"]),
        ({"S3_SYNC_DEST__PATH": "oci-archive:x.tar"}, ["S3_SYNC_DEST__PATH", "absolute path"]),
        ({"S3_SYNC_DEST__PATH": "oci-archive:/mnt/x.tar:1"}, ["S3_SYNC_DEST__PATH", "no tag"]),
        ({"S3_SYNC_DEST__PATH": "oci-archive:/mnt/x/"}, ["S3_SYNC_DEST__PATH", "of a file"]),
        ({"S3_SYNC_DEST__PATH": "oci://granite"}, ["S3_SYNC_DEST__PATH", "registry's host"]),
        ({"S3_SYNC_DEST__PATH": "oci-archive:/mnt/source/x.tar"}, ["lies inside the source"]),
        ({"S3_SYNC_SRC__PATH": "oci://q.io/a:1", "S3_SYNC_DEST__PATH": "oci://q.io/a:1"}, ["same place"]),
        ({"S3_SYNC_SRC__PATH": "oci-archive:/m/a.tar", "S3_SYNC_DEST__PATH": "oci-archive:/m/a.tar"}, ["same place"]),
    ],
)
def test_images_that_are_none(environ: dict[str, str], words: list[str]) -> None:
    problem = only_problem({**DIRECTORY, **environ})
    for word in words:
        assert word in problem


@pytest.mark.parametrize(
    ("skip", "left"),
    [
        ("upload-model-to-s3", ["oci://quay.io/a:1"]),
        ("build-and-push-modelcar", ["s3://models/model-data/granite/1.0.0/"]),
    ],
)
def test_a_task_stands_for_its_own_destination(skip: str, left: list[str]) -> None:
    settings = load({**DIRECTORY, **PIPELINE, "OCI_IMAGE": "quay.io/a:1", "SKIP_TASKS": skip})
    assert [each.uri for each in settings.destinations] == left
    assert "upload" not in settings.skip


def test_nothing_is_left_when_both_tasks_are_skipped() -> None:
    skip = {"SKIP_TASKS": "upload-model-to-s3, build-and-push-modelcar"}
    assert "upload" in load({**DIRECTORY, **PIPELINE, "OCI_IMAGE": "quay.io/a:1", **skip}).skip
    assert "upload" in load({**DIRECTORY, "OCI_IMAGE": "quay.io/a:1", **skip}).skip


def test_certificates_are_checked_unless_the_images_own_switch_says_otherwise() -> None:
    pipeline = {"OCI_IMAGE": "quay.io/a:1"}
    assert image(pipeline).validate_tls
    # The field's Jobs say this of their bucket, and do not mean a registry on the internet.
    assert image(pipeline, CommandLine(dest_validate=False)).validate_tls
    assert not image({**pipeline, "OCI_VALIDATE_TLS": "false"}).validate_tls
    assert not image(pipeline, CommandLine(tls_verify=False)).validate_tls
    explicit = {"S3_SYNC_DEST__PATH": "oci://quay.io/a:1", "OCI_BASE_IMAGE": "quay.io/base:1"}
    found = image(explicit, CommandLine(dest_validate=False))
    assert isinstance(found.base, ImageLocation)
    assert (found.validate_tls, found.base.validate_tls) == (False, False)
    settings = load({**DIRECTORY, **explicit, "OCI_VALIDATE_TLS": "false"})
    assert "the certificate of quay.io is not checked" in settings.notes


# Logins --------------------------------------------------------------------------------------------------------------


def logins(environ: dict[str, str], reference: str = "quay.io/org/model:1") -> list[tuple[str, str, str, str]]:
    return [shown(login) for login in image({"OCI_IMAGE": reference, **environ}).logins]


def test_an_auth_file_stands_alone(tmp_path: Path) -> None:
    file = write_auths(tmp_path / "auth.json", {"quay.io": {"auth": auth("me", "pass:word")}, "other": {"auth": "!"}})
    write_auths(tmp_path / "docker/config.json", {"quay.io/org": {"auth": auth("you", "x")}})
    environ = {"REGISTRY_AUTH_FILE": file, "DOCKER_CONFIG": str(tmp_path / "docker")}
    assert logins(environ) == [("quay.io", "me", "pass:word", "")]


@pytest.mark.parametrize("name", [".dockerconfigjson", "config.json", "auth.json"])
def test_a_mounted_secret_is_found_by_any_of_its_names(tmp_path: Path, name: str) -> None:
    write_auths(tmp_path / name, {"quay.io": {"auth": auth("me", "secret")}})
    assert logins({"DOCKER_CONFIG": str(tmp_path)}) == [("quay.io", "me", "secret", "")]
    assert logins({"S3_SYNC_DEST__CREDENTIALS_DIR": str(tmp_path)}) == [("quay.io", "me", "secret", "")]
    source = {"S3_SYNC_SRC__PATH": "oci://quay.io/a:1", "S3_SYNC_SRC__CREDENTIALS_DIR": str(tmp_path)}
    found = load({**source, "S3_SYNC_DEST__PATH": "/mnt/models"}).source
    assert isinstance(found, ImageLocation)
    assert len(found.logins) == 1


def test_what_docker_and_podman_leave_is_found(tmp_path: Path) -> None:
    write_auths(tmp_path / "run/containers/auth.json", {"quay.io": {"auth": auth("podman", "1")}})
    write_auths(
        tmp_path / "home/.docker/config.json",
        {"quay.io": {"auth": auth("docker", "2")}, "quay.io/org": {"auth": auth("docker", "3")}},
    )
    environ = {"XDG_RUNTIME_DIR": str(tmp_path / "run"), "HOME": str(tmp_path / "home")}
    assert logins(environ) == [("quay.io", "podman", "1", ""), ("quay.io/org", "docker", "3", "")]


@pytest.mark.parametrize(
    ("key", "reference", "scope"),
    [
        ("https://quay.io/v1/", "quay.io/a:1", "quay.io"),
        ("https://index.docker.io/v1/", "docker.io/me/a:1", "docker.io"),
        ("QUAY.io/org/team", "quay.io/a:1", "quay.io/org/team"),
        ("http://localhost:5000", "localhost:5000/a:1", "localhost:5000"),
    ],
)
def test_keys_of_all_spellings(tmp_path: Path, key: str, reference: str, scope: str) -> None:
    file = write_auths(tmp_path / "x", {key: {"username": "me", "password": "secret"}})
    assert logins({"REGISTRY_AUTH_FILE": file}, reference) == [(scope, "me", "secret", "")]


def test_identity_tokens(tmp_path: Path) -> None:
    entry = {"auth": auth("00000000-0000-0000-0000-000000000000", ""), "identitytoken": "refresh-token"}
    file = write_auths(tmp_path / "x", {"quay.io": entry})
    assert logins({"REGISTRY_AUTH_FILE": file}) == [
        ("quay.io", "00000000-0000-0000-0000-000000000000", "", "refresh-token")
    ]


def test_a_helper_is_refused_only_where_it_would_be_needed(tmp_path: Path) -> None:
    own = {"quay.io": {"auth": auth("me", "secret")}, "other.io": {}}
    file = write_auths(tmp_path / "x", own, credsStore="desktop", credHelpers={"gcr.io": "gcloud"})
    assert len(logins({"REGISTRY_AUTH_FILE": file})) == 1
    problem = only_problem({**DIRECTORY, "OCI_IMAGE": "other.io/a:1", "REGISTRY_AUTH_FILE": file})
    assert "credential helper for other.io" in problem
    file = write_auths(tmp_path / "y", {}, credHelpers={"gcr.io": "gcloud"})
    assert logins({"REGISTRY_AUTH_FILE": file}) == []
    assert "gcr.io" in only_problem({**DIRECTORY, "OCI_IMAGE": "gcr.io/a:1", "REGISTRY_AUTH_FILE": file})


@pytest.mark.parametrize(
    "content",
    [
        "canary",
        '{"auths": "canary"}',
        '["canary"]',
        '{"auths": {"quay.io": "canary"}}',
        '{"auths": {"quay.io": {"auth": "canary!"}}}',
        '{"auths": {"quay.io": {"auth": "Y2FuYXJ5"}}}',
        '{"auths": {"quay.io": {"auth": 7}}}',
        '{"auths": {"quay.io": {"username": ["canary"], "password": "canary"}}}',
        "[" * 50_000,
        "x" * 70_000,
    ],
)
def test_a_malformed_file_is_one_problem_that_does_not_show_it(tmp_path: Path, content: str) -> None:
    (tmp_path / "auth.json").write_text(content)
    environ = {**DIRECTORY, "OCI_IMAGE": "quay.io/a:1, quay.io/b:1"}
    assert only_problem({**environ, "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}).startswith("REGISTRY_AUTH_FILE")
    assert only_problem({**environ, "DOCKER_CONFIG": str(tmp_path)}).startswith("DOCKER_CONFIG/auth.json")


def test_what_was_named_must_be_there(tmp_path: Path) -> None:
    missing = {**DIRECTORY, "OCI_IMAGE": "quay.io/a:1", "REGISTRY_AUTH_FILE": str(tmp_path / "none.json")}
    assert "REGISTRY_AUTH_FILE cannot be read" in only_problem(missing)
    settings = load({**DIRECTORY, "OCI_IMAGE": "quay.io/a:1,quay.io/b:1", "DOCKER_CONFIG": str(tmp_path)})
    assert sum("DOCKER_CONFIG names a folder that has none of" in note for note in settings.notes) == 1


def test_no_login_is_shown_and_all_are_hidden(tmp_path: Path) -> None:
    entries = {"quay.io": {"auth": auth("me", "canary-password")}, "quay.io/x": {"identitytoken": "canary-token"}}
    file = write_auths(tmp_path / "auth.json", entries)
    environ = {**DIRECTORY, **PIPELINE, "OCI_IMAGE": "quay.io/a:1", "REGISTRY_AUTH_FILE": file}
    settings: Settings = load({**environ, "OCI_BASE_IMAGE": "quay.io/base:1"})
    told = json.dumps(effective(settings)) + repr(settings)
    assert "canary" not in told
    assert auth("me", "canary-password") not in told
    assert {"canary-password", "canary-token", auth("me", "canary-password")} <= set(secrets(settings))
    [shown_image] = effective(settings)["further_destinations"]
    assert shown_image["logins"] == ["quay.io", "quay.io/x"]
    assert shown_image["base"] == "oci://quay.io/base:1"


def test_all_problems_at_once(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("canary")
    found = problems({**DIRECTORY, "OCI_IMAGE": "nothing, quay.io/a:1", "DOCKER_CONFIG": str(tmp_path),
                      "OCI_BASE_IMAGE": "busybox", "S3_BUCKET": "b"})  # fmt: skip
    assert len(found) == 4
