"""What is said on each run of what others on the way could read: unchecked certificates, keys over plain http."""

import base64
import json
from pathlib import Path

import pytest

from syncer.settings import load
from syncer.settings.exposure import is_near
from tests.support.refused_settings import problems

KEYS = {"S3_SYNC_SRC__ACCESS_KEY": "AKIACANARY", "S3_SYNC_SRC__SECRET_KEY": "canary-secret"}
SOURCE = {"S3_SYNC_SRC__PATH": "s3://source/m/", **KEYS}
VOLUME = {"S3_SYNC_DEST__PATH": "/mnt/models"}
CONNECTION = {"AWS_S3_BUCKET": "demo", "AWS_ACCESS_KEY_ID": "AKIACANARY2", "AWS_SECRET_ACCESS_KEY": "canary-2"}
COS = {"S3_SYNC_COS_BUCKET": "b", "S3_SYNC_COS_INSTANCE_REGION": "us-south", **KEYS}
FROM_DIRECTORY = {"S3_SYNC_SRC__PATH": "/mnt/source"}


def notes(*environs: dict[str, str], about: str) -> list[str]:
    environ = {name: value for each in environs for name, value in each.items()}
    return [note for note in load(environ).notes if about in note]


@pytest.mark.parametrize(
    ("host", "near"),
    [
        ("minio", True),
        ("s3.openshift-storage.svc", True),
        ("s3.openshift-storage.svc.cluster.local", True),
        ("S3.openshift-storage.SVC.", True),
        ("localhost", True),
        ("127.0.0.1", True),
        ("[::1]", True),
        ("10.1.2.3", True),
        ("172.31.0.1", True),
        ("192.168.1.1", True),
        ("fd00::1", True),
        ("172.32.0.1", False),
        ("8.8.8.8", False),
        ("2600::1", False),
        ("s3.example.com", False),
        ("svc", True),
        ("evil-svc.example.com", False),
        ("x.svc.cluster.local.example.com", False),
    ],
)
def test_what_is_the_cluster_and_what_is_not(host: str, near: bool) -> None:
    assert is_near(host) is near


@pytest.mark.parametrize(
    "environ",
    [
        {**SOURCE, **VOLUME, "S3_SYNC_SRC__ENDPOINT": "http://s3.example.com:9000"},
        {**SOURCE, **VOLUME, "S3_SYNC_SRC__ENDPOINT": "http://8.8.8.8"},
        {**FROM_DIRECTORY, **CONNECTION, "AWS_S3_ENDPOINT": "http://s3.example.com"},
        {**COS, **VOLUME, "S3_SYNC_COS_ENDPOINT": "http://s3.example.com"},
        {"S3_SYNC_SRC__PATH": "s3://b/m", **VOLUME, "S3_SYNC_SRC__ENDPOINT": "http://s3.example.com"},
    ],
)
def test_keys_over_plain_http_outside_the_cluster_are_told(environ: dict[str, str]) -> None:
    [note] = notes(environ, about="plain http")
    assert "use https://" in note
    assert "canary" not in note


@pytest.mark.parametrize("endpoint", ["https://s3.example.com", "http://minio:9000", "http://rgw.rook.svc", ""])
def test_inside_the_cluster_and_over_https_there_is_nothing_to_tell(endpoint: str) -> None:
    assert notes({**SOURCE, **VOLUME}, {"S3_SYNC_SRC__ENDPOINT": endpoint}, about="plain http") == []


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({**SOURCE, **VOLUME, "S3_SYNC_SRC__VALIDATE_TLS": "false"}, ["AWS"]),
        ({**COS, **VOLUME, "S3_SYNC_SRC__VALIDATE_TLS": "false"}, ["cloud-object-storage"]),
        (
            {**FROM_DIRECTORY, **CONNECTION, "AWS_S3_ENDPOINT": "https://s.example", "S3_SYNC_DEST__VALIDATE_TLS": "0"},
            ["https://s.example"],
        ),
        (
            {"S3_SYNC_SRC__PATH": "oci://one.example/a:1", **VOLUME, "S3_SYNC_SRC__VALIDATE_TLS": "false"},
            ["one.example"],
        ),
        (
            {**FROM_DIRECTORY, "OCI_IMAGE": "one.example/a:1", "OCI_BASE_IMAGE": "two.example/b:1"}
            | {"OCI_VALIDATE_TLS": "false"},
            ["one.example", "two.example"],
        ),
        (
            {**FROM_DIRECTORY, "S3_SYNC_DEST__PATH": "oci-archive:/mnt/m.tar", "OCI_BASE_IMAGE": "two.example/b:1"}
            | {"OCI_VALIDATE_TLS": "false"},
            ["two.example"],
        ),
        (
            {**FROM_DIRECTORY, **CONNECTION, "AWS_S3_ENDPOINT": "https://s.example", "OCI_IMAGE": "one.example/a:1"}
            | {"OCI_VALIDATE_TLS": "false", "S3_SYNC_DEST__VALIDATE_TLS": "false"},
            ["https://s.example", "one.example"],
        ),
    ],
)
def test_every_certificate_that_is_not_checked_is_told(environ: dict[str, str], told: list[str]) -> None:
    said = notes(environ, about="is not checked")
    assert len(said) == len(told)
    assert all(any(f"certificate of {name}" in note or name in note for note in said) for name in told)


def test_a_login_that_may_travel_over_http_is_told(tmp_path: Path) -> None:
    login = base64.b64encode(b"me:canary-password").decode()
    auths = {name: {"auth": login} for name in ("one.example", "registry.svc:5000")}
    (tmp_path / "auth.json").write_text(json.dumps({"auths": auths}))
    environ = {**FROM_DIRECTORY, "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json"), "OCI_VALIDATE_TLS": "false"}
    allowed = {"S3_SYNC_ALLOW_PLAINTEXT_TOKENS": "true"}
    assert notes(environ, {"OCI_IMAGE": "one.example/a:1"}, about="over http") == []
    assert notes(environ, allowed, {"OCI_IMAGE": "registry.svc:5000/a:1"}, about="over http") == []
    [note] = notes(environ, allowed, {"OCI_IMAGE": "one.example/a:1"}, about="over http")
    assert "one.example" in note


@pytest.mark.parametrize(
    ("proxy", "told"),
    [
        ("http://me:canary-password@proxy.example.com:3128", True),
        ("me:canary-password@proxy.example.com:3128", True),
        ("http://proxy.example.com:3128", False),
        ("http://me:canary-password@proxy.infra.svc:3128", False),
        ("http://me:canary-password@10.0.0.7:3128", False),
        ("http://[broken", False),
    ],
)
def test_a_proxys_login_outside_the_cluster_is_told(proxy: str, told: bool) -> None:
    said = notes({**FROM_DIRECTORY, **VOLUME, "HTTPS_PROXY": proxy}, about="proxy")
    assert len(said) == told
    assert not any("canary" in note or "me:" in note for note in said)


PLAIN = "http://10.1.2.3:8080"
COS_PLACE = {
    "S3_SYNC_COS_BUCKET": "b",
    "S3_SYNC_COS_INSTANCE_REGION": "us-south",
    "S3_SYNC_COS_API_KEY": "canary-key-1",
}
HUB = {"HUGGINGFACE_MODEL": "team/model", "HF_TOKEN": "hf_canarycanarycanary", "HF_ENDPOINT": PLAIN}
COMPRESSED = {"COMPRESS_MODEL": "true", "S3_SYNC_SCRATCH_DIR": "/scratch", "DATASET": "c4"}


@pytest.mark.parametrize(
    ("environ", "variable"),
    [
        ({**COS_PLACE, **VOLUME, "S3_SYNC_COS_ENDPOINT": PLAIN}, "S3_SYNC_COS_ENDPOINT"),
        ({**COS_PLACE, **VOLUME, "S3_SYNC_COS_IAM_ENDPOINT": PLAIN}, "S3_SYNC_COS_IAM_ENDPOINT"),
        ({**HUB, **VOLUME}, "HF_ENDPOINT"),
        ({**HUB, **COMPRESSED, **VOLUME, "HUGGINGFACE_MODEL": "", **FROM_DIRECTORY}, "HF_ENDPOINT"),
        (
            {**FROM_DIRECTORY, **VOLUME, "MODEL_REGISTRY_URL": PLAIN, "MODEL_NAME": "m"}
            | {"MODEL_REGISTRY_TOKEN": "canary-token-1"},
            "MODEL_REGISTRY_URL",
        ),
    ],
)
def test_no_token_goes_over_http_unless_that_is_allowed_and_then_it_is_told(
    environ: dict[str, str], variable: str
) -> None:
    """Image registries find out for themselves what they speak: `test_credentials_on_the_way.py`."""
    [problem] = problems(environ)
    assert problem.startswith(f"{variable} is an http:// address")
    assert "S3_SYNC_ALLOW_PLAINTEXT_TOKENS" in problem
    allowed = {**environ, "S3_SYNC_ALLOW_PLAINTEXT_TOKENS": "true"}
    assert notes(allowed, about=f"{variable} is an http:// address: everybody on the way can read the token")
