"""Whole runs with a registry beside them: announced before bytes move, live after the commit, taken back on failure."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from syncer import bringing
from syncer.errors import OutOfSpace
from syncer.registration import Registration
from syncer.stores.directory import DirectoryDestination, DirectorySource
from tests.support import fake_registry
from tests.support.buckets import S3Server, free_port
from tests.support.fake_registry import FakeRegistry, Reply
from tests.support.models import read_model, small_model, write_model
from tests.support.processes import Pod

pytestmark = pytest.mark.usefixtures("impatient")

TOKEN = "canary-of-the-registry-0123456789"


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as server:
        server.tokens.add(TOKEN)
        yield server


@pytest.fixture
def environment(registry: FakeRegistry, tmp_path: Path) -> dict[str, str]:
    """A folder into a volume, with all places that a pipeline looks at."""
    write_model(tmp_path / "source", small_model())
    for name in ("volume", "results", "workspace"):
        (tmp_path / name).mkdir()
    return {
        "S3_SYNC_SRC__PATH": str(tmp_path / "source"),
        "S3_SYNC_DEST__PATH": str(tmp_path / "volume" / "models"),
        "S3_SYNC_WAIT_FOR_DESTINATION": "0s",
        "S3_SYNC_WORKSPACE": str(tmp_path / "workspace"),
        "RESULTS_DIR": str(tmp_path / "results"),
    } | named(registry.url)


def named(url: str) -> dict[str, str]:
    return {
        "MODEL_REGISTRY_URL": url,
        "MODEL_REGISTRY_TOKEN": TOKEN,
        "S3_SYNC_ALLOW_PLAINTEXT_TOKENS": "true",
        "MODEL_NAME": "granite",
        "MODEL_VERSION": "full-fp16-2511",
    }


def seal_of(tmp_path: Path) -> dict[str, Any]:
    return dict(json.loads((tmp_path / "volume/models/.syncer/complete.json").read_text()))


def everything_written(tmp_path: Path) -> str:
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    return "".join(path.read_bytes().decode("latin-1") for path in files)


def test_a_bucket_is_registered_in_the_dashboards_form_and_once(
    s3: S3Server, pod: Pod, registry: FakeRegistry, tmp_path: Path
) -> None:
    write_model(tmp_path / "source", small_model())
    target = s3.new_bucket("models")
    keys = {"AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": s3.secret_key}
    environ = {
        "S3_SYNC_SRC__PATH": str(tmp_path / "source"),
        "S3_BUCKET": target,
        "S3_ENDPOINT_URL": s3.endpoint,
        "MODEL_REGISTRY_STORAGE_KEY": "s3-credentials",
        **keys,
        **named(registry.url),
    }
    ended = pod.run_here(environ)
    assert ended.code == 0, ended
    assert s3.read(target, "model-data/granite/full-fp16-2511/") == small_model()
    assert registry.artifact["state"] == "LIVE"
    assert registry.artifact["uri"].startswith(
        f"s3://{target}/model-data/granite/full-fp16-2511?endpoint=http%3A%2F%2F"
    )
    assert registry.artifact["storagePath"] == "model-data/granite/full-fp16-2511"
    registry.asked.clear()
    again = pod.run_here(environ)
    assert again.code == 0, again
    assert registry.written == []
    assert again.termination["ModelVersion"] == {"id": registry.version["id"]}


def test_the_source_is_asked_first_and_the_registry_before_anything_is_awaited(
    pod: Pod, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A passcode lives for five minutes; a registry may be away for one, and a destination for hours."""
    asked: list[str] = []
    for owner, name in ((DirectorySource, "listing"), (Registration, "check"), (DirectoryDestination, "prepare")):
        monkeypatch.setattr(owner, name, noting(asked, owner.__name__, getattr(owner, name)))
    assert pod.run_here(environment).code == 0
    assert asked == ["DirectorySource", "Registration", "DirectoryDestination"]


def noting(asked: list[str], name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    def noted(*arguments: Any) -> Any:
        asked.append(name)
        return work(*arguments)

    return noted


def test_the_ids_reach_everybody_who_asks(
    pod: Pod, registry: FakeRegistry, environment: dict[str, str], tmp_path: Path
) -> None:
    ended = pod.run_here(environment, "-vvvvv")
    assert ended.code == 0, ended
    ids = {
        "RegisteredModel": registry.model["id"],
        "ModelVersion": registry.version["id"],
        "ModelArtifact": registry.artifact["id"],
    }
    assert {name: ended.termination[name]["id"] for name in ids} == ids
    assert seal_of(tmp_path)["registry"] == ids
    assert (tmp_path / "results/model-id").read_text() == ids["RegisteredModel"]
    assert (tmp_path / "results/model-version-id").read_text() == ids["ModelVersion"]
    assert (tmp_path / "workspace/model_version_id").read_text() == ids["ModelVersion"]
    assert registry.text("bytes") == str(sum(map(len, small_model().values())))
    assert TOKEN not in ended.output + everything_written(tmp_path)


def test_bytes_move_only_once_the_registry_knows_and_the_artifact_is_pending_while_they_do(
    pod: Pod, registry: FakeRegistry, environment: dict[str, str], tmp_path: Path
) -> None:
    seen: list[tuple[str, bool]] = []

    def look(method: str, path: str) -> Reply | None:
        seen.append((f"{method} {path.rpartition('/')[2]}", (tmp_path / "volume/models/config.json").exists()))
        return None

    registry.before = look
    assert pod.run_here(environment).code == 0
    assert seen[0] == ("GET registered_models", False)
    assert seen[[step for step, _ in seen].index("POST artifacts")] == ("POST artifacts", False)
    assert seen[-1][1]
    assert any(step.startswith("PATCH") and there for step, there in seen)


@pytest.mark.parametrize(
    ("url", "answer", "code", "words"),
    [
        ("http://mysql.rhoai-model-registries.svc:3306", None, 78, "MySQL database"),
        ("http://localhost:{free}", None, 69, "cannot connect"),
        ("", fake_registry.DOWN, 69, "is down"),
        ("", fake_registry.UNAUTHORIZED, 77, "refuses MODEL_REGISTRY_TOKEN"),
        ("", fake_registry.FORBIDDEN, 77, "does not let MODEL_REGISTRY_TOKEN"),
        ("", Reply(404, page="nothing"), 78, "is no Model Registry"),
    ],
)
def test_each_trouble_is_told_apart_before_a_byte_moves(
    pod: Pod,
    registry: FakeRegistry,
    environment: dict[str, str],
    tmp_path: Path,
    url: str,
    answer: Reply | None,
    code: int,
    words: str,
) -> None:
    if answer is not None:
        registry.before = lambda _method, _path: answer
    if url:
        environment |= {"MODEL_REGISTRY_URL": url.replace("{free}", str(free_port()))}
    ended = pod.run_here(environment, "-vvvvv")
    assert ended.code == code, ended
    assert words in ended.termination["message"]
    assert ended.termination["hint"]
    assert not (tmp_path / "volume/models").exists()
    assert (tmp_path / "results/model-id").read_text() == ""
    assert TOKEN not in ended.output + everything_written(tmp_path)


def test_a_failed_run_leaves_the_artifact_abandoned_and_the_next_finishes_it(
    pod: Pod, registry: FakeRegistry, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OutOfSpace("the volume is full", hint="make room")

    with monkeypatch.context() as patch:
        patch.setattr(bringing, "carry", full)
        failed = pod.run_here(environment)
    assert failed.code == 73, failed
    assert registry.artifact["state"] == "ABANDONED"
    assert "ModelArtifact" not in failed.termination
    ended = pod.run_here(environment)
    assert ended.code == 0, ended
    assert registry.artifact["state"] == "LIVE"
    before = json.dumps(registry.artifact)
    (tmp_path / "source/new.bin").write_bytes(b"new")
    with monkeypatch.context() as patch:
        patch.setattr(bringing, "carry", full)
        assert pod.run_here(environment).code == 73
    assert json.dumps(registry.artifact) == before, "a live one is never touched by a run that fails"


def test_a_seal_outlives_a_registry_that_says_no(
    pod: Pod, registry: FakeRegistry, environment: dict[str, str], tmp_path: Path
) -> None:
    assert pod.run_here(environment | {"SKIP_TASKS": "register"}).code == 0
    sealed = seal_of(tmp_path)
    (tmp_path / "source/new.bin").write_bytes(b"new")
    registry.before = lambda method, _path: fake_registry.FORBIDDEN if method == "POST" else None
    ended = pod.run_here(environment)
    assert ended.code == 77, ended
    assert seal_of(tmp_path) == sealed
    assert not (tmp_path / "volume/models/new.bin").exists()


def test_a_registry_that_goes_away_meanwhile_leaves_no_seal_and_the_next_run_resumes(
    pod: Pod, registry: FakeRegistry, environment: dict[str, str], tmp_path: Path
) -> None:
    def gone(_method: str, _path: str) -> Reply | None:
        return fake_registry.DOWN if (tmp_path / "volume/models/config.json").exists() else None

    registry.before = gone
    failed = pod.run_here(environment)
    assert failed.code == 69, failed
    assert not (tmp_path / "volume/models/.syncer/complete.json").exists()
    registry.before = lambda _method, _path: None
    ended = pod.run_here(environment)
    assert ended.code == 0, ended
    assert ended.termination["copied_bytes"] == 0
    assert registry.artifact["state"] == "LIVE"
    assert read_model(tmp_path / "volume/models") == small_model()


def test_another_source_is_patched_and_the_change_is_said(
    pod: Pod, registry: FakeRegistry, environment: dict[str, str], tmp_path: Path
) -> None:
    assert pod.run_here(environment).code == 0
    write_model(tmp_path / "elsewhere", small_model())
    ended = pod.run_here(environment | {"S3_SYNC_SRC__PATH": str(tmp_path / "elsewhere")})
    assert ended.code == 0, ended
    assert "registration_changed" in ended.output
    assert registry.text("source_uri") == str(tmp_path / "elsewhere")
    assert [len(entries) for entries in registry.entries.values()] == [1, 1, 1]


def test_registering_alone(pod: Pod, registry: FakeRegistry, environment: dict[str, str], tmp_path: Path) -> None:
    skipped = pod.run_here(environment | {"SKIP_TASKS": "register-with-registry"})
    assert skipped.code == 0, skipped
    assert registry.asked == []
    assert seal_of(tmp_path)["registry"] == {}
    uploads = (tmp_path / "workspace/.pipeline-metadata/download-status.json").read_text()
    alone = {name: value for name, value in environment.items() if name != "S3_SYNC_SRC__PATH"}
    ended = pod.run_here(alone, "register")
    assert ended.code == 0, ended
    assert ended.termination["reason"] == "Registered"
    assert seal_of(tmp_path)["registry"]["ModelVersion"] == registry.version["id"]
    assert (tmp_path / "workspace/model_version_id").read_text() == registry.version["id"]
    assert (tmp_path / "workspace/.pipeline-metadata/download-status.json").read_text() == uploads
    assert registry.text("source_uri") == str(tmp_path / "source")
    registry.asked.clear()
    assert pod.run_here(alone, "register").code == 0
    assert registry.written == []
    assert pod.run_here(alone | {"SKIP_TASKS": "register"}, "register").termination["status"] == "skipped"


@pytest.mark.parametrize("skip", ["download,upload", "upload", "pull-model-from-huggingface, compress-model, upload"])
def test_what_is_there_already_is_registered(
    pod: Pod, registry: FakeRegistry, environment: dict[str, str], tmp_path: Path, skip: str
) -> None:
    """A pipeline that is started again after its upload skips the stages behind it, and wants the rest."""
    assert pod.run_here(environment | {"SKIP_TASKS": "register"}).code == 0
    (tmp_path / "source/new.bin").write_bytes(b"new")
    ended = pod.run_here(environment | {"SKIP_TASKS": skip})
    assert ended.code == 0, ended
    assert ended.termination["reason"] == "Registered"
    assert ended.termination["ModelVersion"] == {"id": registry.version["id"]}
    assert seal_of(tmp_path)["registry"]["ModelVersion"] == registry.version["id"]
    assert not (tmp_path / "volume/models/new.bin").exists()


@pytest.mark.parametrize("command", [(), ("register",)])
def test_of_the_pods_of_an_indexed_job_index_0_registers(
    pod: Pod, registry: FakeRegistry, environment: dict[str, str], tmp_path: Path, command: tuple[str, ...]
) -> None:
    assert pod.run_here(environment | {"SKIP_TASKS": "register"}).code == 0
    of_job = environment | {"SKIP_TASKS": "" if command else "download", "S3_SYNC_SHARES": "3"}
    for index in "1", "2":
        ended = pod.run_here(of_job | {"JOB_COMPLETION_INDEX": index}, *command)
        assert (ended.code, ended.termination["status"]) == (0, "skipped"), ended
        assert ended.termination["message"].startswith("index 0 registers the model")
    assert registry.asked == []
    ended = pod.run_here(of_job | {"JOB_COMPLETION_INDEX": "0"}, *command)
    assert (ended.code, ended.termination["reason"]) == (0, "Registered"), ended
    assert seal_of(tmp_path)["registry"]["ModelVersion"] == registry.version["id"]


def test_bytes_that_are_skipped_and_not_there_cannot_be_registered(
    pod: Pod, registry: FakeRegistry, environment: dict[str, str]
) -> None:
    ended = pod.run_here(environment | {"SKIP_TASKS": "download,upload"})
    assert ended.code == 66, ended
    assert registry.written == []
    skipped = pod.run_here(environment | {"SKIP_TASKS": "download,upload,register"})
    assert (skipped.code, skipped.termination["status"]) == (0, "skipped")


def test_a_version_by_the_convention(
    pod: Pod, registry: FakeRegistry, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "source/config.json").write_bytes(b'{"torch_dtype": "bfloat16"}')
    assert pod.run_here(environment | {"SKIP_TASKS": "register"}).code == 0
    month = seal_of(tmp_path)["completed_at"][2:7].replace("-", "")
    for _ in range(2):
        assert pod.run_here(environment, "register", "--version-from", "auto").code == 0
        assert registry.version["name"] == f"full-bf16-{month}"
    wrong = pod.run_here(environment, "register", "--version-from", "a b")
    assert (wrong.code, "--version-from" in wrong.termination["message"]) == (78, True)


def test_what_is_not_sealed_is_not_registered(pod: Pod, registry: FakeRegistry, environment: dict[str, str]) -> None:
    ended = pod.run_here(environment, "register")
    assert ended.code == 66, ended
    assert "is not sealed" in ended.termination["message"]
    assert registry.written == []


def test_no_registry_to_register_at(pod: Pod, environment: dict[str, str]) -> None:
    ended = pod.run_here(environment | {"MODEL_REGISTRY_URL": ""}, "register")
    assert ended.code == 78, ended
    assert "MODEL_REGISTRY_URL" in ended.termination["hint"]


def test_looking_and_waiting_need_no_registry(pod: Pod, registry: FakeRegistry, environment: dict[str, str]) -> None:
    assert pod.run_here(environment | {"SKIP_TASKS": "register"}).code == 0
    broken = environment | {"MODEL_REGISTRY_URL": "mysql://x", "MODEL_NAME": ""}
    for command in (("verify",), ("wait", "--deadline", "0s")):
        assert pod.run_here(broken, *command).code == 0, command
    assert pod.run_here(environment, "plan").code == 0
    assert registry.asked == []


def test_the_model_card_goes_along_and_nobodys_words_are_replaced(
    pod: Pod, registry: FakeRegistry, environment: dict[str, str], tmp_path: Path
) -> None:
    card = b"---\nlicense: apache-2.0\nbase_model: a/b\ntags: [granite, chat]\n---\n# Title\n\nA small model.\n"
    (tmp_path / "source/README.md").write_bytes(card)
    (tmp_path / "source/config.json").write_bytes(b'{"quantization_config": {"quant_method": "gptq"}}')
    registry.create("registered_models", {"name": "granite", "description": "", "customProperties": {"chat": mine()}})
    assert pod.run_here(environment).code == 0
    assert registry.text("license") == "apache-2.0"
    assert registry.text("quantization") == "gptq"
    assert registry.version["customProperties"]["compressed"]["bool_value"] is True
    assert registry.model["description"] == "A small model."
    properties = registry.model["customProperties"]
    assert properties["chat"] == mine(), "what somebody has written stays"
    assert {name: value["string_value"] for name, value in properties.items() if name != "chat"} == {
        "license": "apache-2.0",
        "base_model": "a/b",
        "granite": "",
    }
    registry.model["description"] = "better words"
    registry.asked.clear()
    assert pod.run_here(environment).code == 0
    assert registry.written == []
    assert registry.model["description"] == "better words"


def mine() -> dict[str, str]:
    return {"metadataType": "MetadataStringValue", "string_value": "mine"}
