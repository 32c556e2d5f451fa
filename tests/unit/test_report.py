"""How a run ended, told to Kubernetes, Tekton, older pipelines and the log; each only where its place exists."""

import io
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from syncer import logs, redaction, report
from syncer.errors import ConfigurationError, CredentialsRefused, SyncerError
from syncer.redaction import MASK, Redactor
from syncer.report import LastWords, Outcome, outcome_of_error, termination_message
from syncer.settings.locations import DirectoryLocation, Reporting, S3Location, Settings
from tests.support.captured import forget_logs

KEYS = [
    "status",
    "reason",
    "message",
    "hint",
    "source",
    "destination",
    "uri",
    "uris",
    "revision",
    "files",
    "bytes",
    "copied_bytes",
    "seconds",
    "exit_code",
]
DONE = Outcome(
    status="succeeded",
    source="s3://a/folder/",
    destination="s3://b/models/",
    uris=("s3://b/models/",),
    revision="abc",
    files=3,
    bytes=5000,
    copied_bytes=40,
    seconds=1.23456,
    digest="sha256:00",
)


@pytest.fixture(autouse=True)
def log_lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    monkeypatch.setattr(redaction, "_OF_THIS_PROCESS", Redactor())
    stream = io.StringIO()
    logs.configure(stream=stream, terminal=False)
    yield stream
    logs.configure(terminal=False)
    forget_logs()


@pytest.fixture
def places(tmp_path: Path) -> Reporting:
    (tmp_path / "termination-log").write_text("of an earlier container, and longer than what comes now" * 100)
    (tmp_path / "results").mkdir()
    (tmp_path / "workspace").mkdir()
    return Reporting(
        termination_message=tmp_path / "termination-log",
        results=tmp_path / "results",
        workspace=tmp_path / "workspace",
    )


def to_bucket(places: Reporting, **more: Any) -> Settings:
    return Settings(
        source=S3Location("a", "folder/"),
        destination=S3Location(
            "b", "model-data/granite/1.0.0/", endpoint="https://s3.example:9000", secret_key=SecretStr("hush-hush-hush")
        ),
        reporting=places,
        model_name="granite",
        model_version="1.0.0",
        **more,
    )


def said(places: Reporting) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(places.termination_message.read_text(encoding="utf-8"))
    return message


def test_the_termination_message_has_the_contracts_keys_in_their_order(places: Reporting) -> None:
    report.write_termination_message(places.termination_message, DONE)
    message = said(places)
    assert list(message) == KEYS
    assert message["uri"] == "s3://b/models/"
    assert message["uris"] == ["s3://b/models/"]
    assert (message["files"], message["bytes"], message["copied_bytes"], message["seconds"]) == (3, 5000, 40, 1.235)


def test_registered_ids_are_nested_objects() -> None:
    outcome = Outcome(status="succeeded", registry={"RegisteredModel": "1", "ModelVersion": "2", "ModelArtifact": "3"})
    message = json.loads(termination_message(outcome))
    assert list(message) == [*KEYS, "RegisteredModel", "ModelVersion", "ModelArtifact"]
    assert message["ModelVersion"] == {"id": "2"}


def test_no_file_is_created_for_the_termination_message(tmp_path: Path) -> None:
    report.write_termination_message(tmp_path / "absent", DONE)
    assert not list(tmp_path.iterdir())


def test_tektons_own_termination_message_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "_TEKTON", tmp_path / "tekton")
    (tmp_path / "tekton").mkdir()
    own = tmp_path / "tekton" / "termination"
    own.write_text("[]")
    link = tmp_path / "link"
    link.symlink_to(own)
    for path in (own, link):
        report.write_termination_message(path, DONE)
    assert own.read_text() == "[]"


@given(
    st.builds(
        Outcome,
        status=st.sampled_from(["succeeded", "skipped", "failed"]),
        **{
            name: st.text(max_size=60).map(lambda text: text * 150) | st.text()
            for name in ("message", "hint", "source", "destination", "revision", "reason")
        },
        uris=st.lists(st.text().map(lambda text: text * 40), max_size=30).map(tuple),
        files=st.none() | st.integers(0, 10**15),
        registry=st.just({}) | st.just({"RegisteredModel": "7" * 900}),
    )
)
def test_the_termination_message_is_small_and_whole_json_for_any_text(outcome: Outcome) -> None:
    encoded = termination_message(outcome)
    assert len(encoded) < 4096
    message = json.loads(encoded.decode("utf-8"))
    assert list(message)[: len(KEYS)] == KEYS
    assert isinstance(message["uris"], list)


def test_prose_gives_way_before_names_do() -> None:
    outcome = Outcome(status="failed", message="é" * 5000, hint="do this", source="s3://a/" + "k" * 900, exit_code=78)
    message = json.loads(termination_message(outcome))
    assert message["message"].startswith("é" * 1000)
    assert message["message"].endswith("…")
    assert (message["hint"], message["source"]) == ("do this", outcome.source)
    assert len(termination_message(outcome)) > 4000


@pytest.mark.parametrize("status", ["succeeded", "skipped", "failed"])
def test_every_result_is_written_in_every_outcome(places: Reporting, status: Any) -> None:
    report.write_results(places.results, Outcome(status=status, reason="Why"))
    assert {path.name: path.read_text() for path in places.results.iterdir()} == {
        "status": status,
        "reason": "Why",
        "uri": "",
        "digest": "",
        "files": "",
        "bytes": "",
        "revision": "",
        "model-id": "",
        "model-version-id": "",
    }


def test_results_tell_what_is_known(places: Reporting) -> None:
    report.write_results(places.results, DONE)
    known = {path.name: path.read_text() for path in places.results.iterdir() if path.read_text()}
    assert known == {
        "status": "succeeded",
        "uri": "s3://b/models/",
        "digest": "sha256:00",
        "files": "3",
        "bytes": "5000",
        "revision": "abc",
    }


def test_no_results_without_their_folder(tmp_path: Path) -> None:
    report.write_results(tmp_path / "absent", DONE)
    assert not list(tmp_path.iterdir())


def test_workspace_files_for_a_bucket(places: Reporting) -> None:
    report.write_workspace(to_bucket(places), DONE)
    folder = places.workspace
    assert folder is not None
    assert (folder / "model_s3_uri").read_text() == "s3://b/model-data/granite/1.0.0"
    status = json.loads((folder / ".pipeline-metadata/download-status.json").read_text())
    assert list(status) == [
        "stage",
        "timestamp_utc",
        "hf_repo",
        "hf_revision",
        "model_size_bytes",
        "download_time_seconds",
    ]
    upload = json.loads((folder / "metadata/minio-upload.json").read_text())
    assert upload.pop("upload_timestamp").endswith("Z")
    assert upload == {
        "model_name": "granite",
        "version_name": "1.0.0",
        "minio_endpoint": "https://s3.example:9000",
        "minio_bucket": "b",
        "s3_prefix": "model-data/granite/1.0.0",
        "s3_uri": "s3://b/model-data/granite/1.0.0",
        "upload_duration_seconds": 1.235,
        "total_size": 5000,
        "pattern": "*",
    }
    assert not (folder / "model_version_id").exists()
    assert (folder / "model_s3_uri").stat().st_mode & stat.S_IWGRP
    assert (folder / "metadata").stat().st_mode & stat.S_IWGRP
    assert sorted(path.name for path in folder.iterdir()) == [".pipeline-metadata", "metadata", "model_s3_uri"]


def test_workspace_of_a_directory_has_no_bucket_files(places: Reporting, tmp_path: Path) -> None:
    settings = Settings(source=None, destination=DirectoryLocation(tmp_path), reporting=places)
    outcome = Outcome(
        status="succeeded", source="hf://ibm/granite@main", revision="c0ffee", registry={"ModelVersion": "12"}
    )
    report.write_workspace(settings, outcome)
    folder = places.workspace
    assert folder is not None
    status = json.loads((folder / ".pipeline-metadata/download-status.json").read_text())
    assert (status["hf_repo"], status["hf_revision"]) == ("ibm/granite", "c0ffee")
    assert (folder / "model_version_id").read_text() == "12"
    assert not (folder / "model_s3_uri").exists()
    assert not (folder / "metadata").exists()


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_a_run_without_a_model_leaves_the_workspace_as_it_is(places: Reporting, status: Any) -> None:
    report.write_workspace(to_bucket(places), Outcome(status=status))
    assert places.workspace is not None
    assert not list(places.workspace.iterdir())


def test_an_error_becomes_an_outcome_with_message_hint_and_code() -> None:
    outcome = outcome_of_error(CredentialsRefused("no such key", hint="look at AWS_ACCESS_KEY_ID"), source="s3://a/")
    assert (outcome.status, outcome.reason, outcome.exit_code) == ("failed", "CredentialsRefused", 77)
    assert (outcome.message, outcome.hint, outcome.source) == ("no such key", "look at AWS_ACCESS_KEY_ID", "s3://a/")


def test_all_problems_of_the_settings_are_in_the_message() -> None:
    outcome = outcome_of_error(ConfigurationError("2 problems", problems=("no A", "no B")))
    assert outcome.message == "2 problems: no A; no B"
    assert outcome.exit_code == 78


@pytest.mark.parametrize(
    ("error", "reason", "code"),
    [
        (ZeroDivisionError("x"), "InternalError", 70),
        (KeyboardInterrupt(), "Interrupted", 130),
        (SyncerError("x"), "InternalError", 70),
    ],
)
def test_what_is_none_of_ours_is_a_bug(error: BaseException, reason: str, code: int) -> None:
    outcome = outcome_of_error(error)
    assert (outcome.reason, outcome.exit_code) == (reason, code)


def test_last_words_go_everywhere_once_and_end_with_one_line(places: Reporting, log_lines: io.StringIO) -> None:
    words = LastWords(clock=iter([10.0, 12.5]).__next__)
    words.concern(to_bucket(places), workspace=True)
    logs.register_secrets(["hush-hush-hush"])
    outcome = words.failure(CredentialsRefused("key hush-hush-hush refused", hint="use a better one"))
    assert words.say(outcome)
    assert not words.say(DONE)
    assert words.outcome == outcome
    message = said(places)
    assert message["message"] == f"key {MASK} refused"
    assert (message["source"], message["destination"]) == ("s3://a/folder/", "s3://b/model-data/granite/1.0.0/")
    assert message["seconds"] == 2.5
    assert (places.results / "status").read_text() == "failed"
    (line,) = [json.loads(line) for line in log_lines.getvalue().splitlines()]
    assert (line["event"], line["level"]) == ("run_finished", "error")
    assert {name: line[name] for name in KEYS} == message


def test_trouble_with_one_report_neither_raises_nor_stops_the_others(places: Reporting, log_lines: io.StringIO) -> None:
    places.termination_message.unlink()
    places.termination_message.mkdir()
    (places.results / "status").mkdir()
    words = LastWords()
    words.concern(to_bucket(places), workspace=True)
    assert words.say(DONE)
    assert places.workspace is not None
    assert (places.workspace / "model_s3_uri").exists()
    events = [json.loads(line)["event"] for line in log_lines.getvalue().splitlines()]
    assert events == ["report_failed", "report_failed", "run_finished"]


def test_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    words = LastWords()
    words.report_to(Reporting(termination_message=pipe, results=tmp_path / "absent"))
    assert words.say(DONE)


def test_a_person_gets_message_and_hint_as_plain_last_lines() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream, terminal=True)
    LastWords().say(outcome_of_error(ConfigurationError("no source\nis set", hint="set S3_SYNC_SRC__PATH")))
    assert stream.getvalue().splitlines()[-2:] == [r"error: no source\nis set", "hint:  set S3_SYNC_SRC__PATH"]
