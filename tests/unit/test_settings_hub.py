"""Hugging Face as the source: model and revision, patterns, token, mirror, and what does not go together."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from syncer.settings import effective, load, secrets
from syncer.settings.locations import HuggingFaceLocation, Settings
from tests.support.refused_settings import only_problem, problems

VOLUME = {"S3_SYNC_DEST__PATH": "/mnt/models"}
BUCKET = {"S3_SYNC_DEST__PATH": "s3://b/models/"}
MODEL = {"HUGGINGFACE_MODEL": "ibm/granite", **VOLUME}


def hub(environ: Mapping[str, str]) -> HuggingFaceLocation:
    return source_of(load(environ))


def source_of(settings: Settings) -> HuggingFaceLocation:
    assert isinstance(settings.source, HuggingFaceLocation)
    return settings.source


def token_of(settings: Settings) -> str:
    token = source_of(settings).token
    return token.get_secret_value() if token else ""


def note(settings: Settings, *words: str) -> bool:
    return any(all(word in each for word in words) for each in settings.notes)


# Model and revision --------------------------------------------------------------------------------------------------


def test_a_model_by_its_name_alone() -> None:
    settings = load(MODEL)
    assert settings.source == HuggingFaceLocation("ibm/granite")
    assert settings.notes == ()


@pytest.mark.parametrize(
    ("path", "model", "revision", "uri"),
    [
        ("hf://ibm/granite", "", "", "hf://ibm/granite"),
        ("hf://ibm/granite@v1", "", "", "hf://ibm/granite@v1"),
        ("hf://ibm/granite", "", "v1", "hf://ibm/granite@v1"),
        ("hf://ibm/granite@v1", "", "v1", "hf://ibm/granite@v1"),
        ("", "ibm/granite", "v1", "hf://ibm/granite@v1"),
        ("", "gpt2", "", "hf://gpt2"),
        ("", "https://huggingface.co/ibm/granite", "main", "hf://ibm/granite@main"),
        ("", "https://huggingface.co/ibm/granite/tree/v1", "", "hf://ibm/granite@v1"),
        ("hf://ibm/granite@v1", "ibm/granite", "", "hf://ibm/granite@v1"),
        ("hf://ibm/granite", "ibm/granite@v1", "v1", "hf://ibm/granite@v1"),
    ],
)
def test_models_and_revisions(path: str, model: str, revision: str, uri: str) -> None:
    said = {"S3_SYNC_SRC__PATH": path, "HUGGINGFACE_MODEL": model, "HUGGINGFACE_REVISION": revision}
    assert hub({**VOLUME, **said}).uri == uri


@pytest.mark.parametrize(
    ("path", "model", "revision", "words"),
    [
        ("hf://ibm/granite", "ibm/other", "", ["2 sources at once", "S3_SYNC_SRC__PATH and HUGGINGFACE_MODEL"]),
        ("hf://ibm/granite@v1", "", "v2", ["S3_SYNC_SRC__PATH and HUGGINGFACE_REVISION", "different revisions"]),
        ("", "ibm/granite@v1", "v2", ["HUGGINGFACE_MODEL and HUGGINGFACE_REVISION", "different revisions"]),
        ("hf://ibm/granite@v1", "ibm/granite@v2", "", ["S3_SYNC_SRC__PATH and HUGGINGFACE_MODEL", "revisions"]),
        ("", "ibm/granite", "a b", ["HUGGINGFACE_REVISION", "branch"]),
        ("hf://ibm/granite@", "", "", ["S3_SYNC_SRC__PATH", "branch"]),
        ("hf://canary/a/b", "", "", ["S3_SYNC_SRC__PATH", "owner/name"]),
        ("", "canary..x/y", "", ["HUGGINGFACE_MODEL", "`..`"]),
        ("", "https://canary:canary@mirror.example/a/b", "", ["HUGGINGFACE_MODEL", "HF_ENDPOINT"]),
        ("", "can\nary", "", ["HUGGINGFACE_MODEL", "line break"]),
    ],
)
def test_models_that_are_none(path: str, model: str, revision: str, words: list[str]) -> None:
    said = {"S3_SYNC_SRC__PATH": path, "HUGGINGFACE_MODEL": model, "HUGGINGFACE_REVISION": revision}
    problem = only_problem({**VOLUME, **said})
    for word in words:
        assert word in problem


def test_a_model_beside_another_source() -> None:
    problem = only_problem({**MODEL, "S3_SYNC_SRC__PATH": "s3://bucket/folder/"})
    assert problem == "2 sources at once: HUGGINGFACE_MODEL (Hugging Face) and S3_SYNC_SRC__PATH; unset all but one"


def test_a_pipeline_that_passes_an_empty_model_means_none() -> None:
    environ = {"HUGGINGFACE_MODEL": "", "HUGGINGFACE_REVISION": "main", "HF_TOKEN_PATH": "/no/such/file"}
    found = load({**VOLUME, **environ, "S3_SYNC_SRC__PATH": "s3://bucket/folder/", "HF_HUB_OFFLINE": "1"})
    assert found.source is not None
    assert found.source.uri == "s3://bucket/folder/"


def test_a_model_is_no_destination() -> None:
    problem = only_problem({"S3_SYNC_SRC__PATH": "/mnt/x", "S3_SYNC_DEST__PATH": "hf://ibm/granite"})
    assert problem.startswith("S3_SYNC_DEST__PATH names the Hugging Face Hub, which is a source only")


def test_all_problems_at_once() -> None:
    found = problems(
        {
            **VOLUME,
            "S3_SYNC_SRC__PATH": "hf://canary",
            "HUGGINGFACE_MODEL": "a/b/c",
            "HUGGINGFACE_REVISION": "-canary",
            "HUGGINGFACE_ALLOW_PATTERNS": "['canary']",
            "HF_TOKEN": "Bearer canary",
            "HF_ENDPOINT": "ftp://canary",
            "HF_HUB_OFFLINE": "1",
        }
    )
    assert sorted(each.split(" ")[0] for each in found) == [
        "HF_ENDPOINT",
        "HF_HUB_OFFLINE",
        "HF_TOKEN",
        "HUGGINGFACE_ALLOW_PATTERNS",
        "HUGGINGFACE_MODEL",
        "HUGGINGFACE_REVISION",
    ]


def test_patterns() -> None:
    said = {"HUGGINGFACE_ALLOW_PATTERNS": "*.json, *.safetensors", "HUGGINGFACE_IGNORE_PATTERNS": '["a b/*", "c,d"]'}
    found = hub({**MODEL, **said})
    assert (found.allow, found.ignore) == (("*.json", "*.safetensors"), ("a b/*", "c,d"))


# Token ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "token", "unused"),
    [
        ({"HF_TOKEN": "one1"}, "one1", []),
        ({"HUGGINGFACE_TOKEN": "two2"}, "two2", []),
        ({"HUGGING_FACE_HUB_TOKEN": "three"}, "three", []),
        ({"HF_TOKEN": "same", "HUGGING_FACE_HUB_TOKEN": "same"}, "same", []),
        ({"HUGGINGFACE_TOKEN": "two2", "HUGGING_FACE_HUB_TOKEN": "three"}, "two2", ["HUGGING_FACE_HUB_TOKEN"]),
        (
            {"HUGGING_FACE_HUB_TOKEN": "three", "HUGGINGFACE_TOKEN": "two2", "HF_TOKEN": "one1"},
            "one1",
            ["HUGGINGFACE_TOKEN", "HUGGING_FACE_HUB_TOKEN"],
        ),
        ({"HF_TOKEN": "one1", "HF_TOKEN_PATH": "/no/such/file"}, "one1", ["HF_TOKEN_PATH"]),
    ],
)
def test_the_first_token_wins(tokens: dict[str, str], token: str, unused: list[str]) -> None:
    settings = load({**MODEL, **tokens})
    assert token_of(settings) == token
    assert bool(settings.notes) == bool(unused)
    assert not unused or note(settings, *unused, "not used")


def test_the_token_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"\xef\xbb\xbfcanary-of-file\n")
    settings = load({**MODEL, "HF_TOKEN_PATH": str(tmp_path / "token")})
    assert token_of(settings) == "canary-of-file"
    assert secrets(settings) == ["canary-of-file"]
    assert "canary" not in repr(settings) + str(effective(settings))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read: No such file"),
        (b" \n", "names a file that is empty"),
        (b"can\nary", "line break"),
        (b"Bearer canary", "only the access token itself"),
        (b"\xff\xfe", "not text"),
    ],
)
def test_files_that_hold_no_token(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    problem = only_problem({**MODEL, "HF_TOKEN_PATH": str(path)})
    assert problem.startswith("HF_TOKEN_PATH ")
    assert reason in problem
    # The Job of another source may name the file all the same.
    load({**VOLUME, "S3_SYNC_SRC__PATH": "/mnt/x", "HF_TOKEN_PATH": str(path)})


def test_a_path_of_a_token_that_depends_on_where_we_are() -> None:
    assert only_problem({**MODEL, "HF_TOKEN_PATH": "~/token"}).startswith("HF_TOKEN_PATH must be an absolute path")


def test_a_mounted_secret_may_hold_the_token_and_the_model(tmp_path: Path) -> None:
    (tmp_path / "HF_TOKEN").write_text("canary-mounted\n")
    (tmp_path / "HUGGINGFACE_MODEL").write_text("ibm/granite\n")
    settings = load({**VOLUME, "S3_SYNC_SRC__CREDENTIALS_DIR": str(tmp_path)})
    assert (source_of(settings).repository, token_of(settings)) == ("ibm/granite", "canary-mounted")


def test_no_secret_in_what_may_be_shown() -> None:
    tokens = {"HF_TOKEN": "canary-1", "HUGGINGFACE_TOKEN": "canary-2", "HUGGING_FACE_HUB_TOKEN": "canary-3"}
    settings = load({**MODEL, **tokens, "HUGGINGFACE_ALLOW_PATTERNS": "*.json"})
    for shown in (str(effective(settings)), repr(settings), str(settings), str(settings.notes)):
        assert "canary" not in shown
    assert secrets(settings) == ["canary-1", "canary-2", "canary-3"]
    source = effective(settings)["source"]
    assert (source["token"], source["uri"], source["allow"]) == ("***", "hf://ibm/granite", ["*.json"])


# The Hub and its mirrors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "endpoint"),
    [
        ("", "https://huggingface.co"),
        ("hub.example", "https://hub.example"),
        ("https://mirror.example/hf/", "https://mirror.example/hf"),
        ("http://olah.svc:8090", "http://olah.svc:8090"),
    ],
)
def test_mirrors(written: str, endpoint: str) -> None:
    assert hub({**MODEL, "HF_ENDPOINT": written}).endpoint == endpoint


def test_no_token_over_http_unless_it_is_meant() -> None:
    environ = {**MODEL, "HF_ENDPOINT": "http://olah.svc:8090", "HF_TOKEN": "canary"}
    problem = only_problem(environ)
    assert problem.startswith("HF_ENDPOINT is an http:// address")
    assert "S3_SYNC_ALLOW_PLAINTEXT_TOKENS=true" in problem
    settings = load({**environ, "S3_SYNC_ALLOW_PLAINTEXT_TOKENS": "true"})
    assert source_of(settings).plaintext_tokens is True
    assert note(settings, "HF_ENDPOINT", "http://")


def test_offline_is_taken_at_its_word() -> None:
    problem = only_problem({**MODEL, "HF_HUB_OFFLINE": "1"})
    assert problem.startswith("HF_HUB_OFFLINE forbids")
    assert only_problem({**MODEL, "TRANSFORMERS_OFFLINE": "1"}).startswith("TRANSFORMERS_OFFLINE forbids")
    assert hub({**MODEL, "HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "1"}).repository == "ibm/granite"


def test_xet_is_for_directories() -> None:
    assert hub({**MODEL, "S3_SYNC_HF_XET": "true"}).xet is True
    assert hub(MODEL).xet is False
    settings = load({**MODEL, **BUCKET, "S3_SYNC_HF_XET": "true"})
    assert source_of(settings).xet is False
    assert note(settings, "S3_SYNC_HF_XET has no effect")


def test_the_certificate_of_the_hub_is_always_checked() -> None:
    assert note(load({**MODEL, "S3_SYNC_SRC__VALIDATE_TLS": "false"}), "S3_SYNC_SRC__VALIDATE_TLS has no effect")
