"""What a run that failed says of the way to its far ends, and how little that may cost."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from syncer.errors import (
    ConfigurationError,
    CredentialsRefused,
    DeadlinePassed,
    EndpointUnreachable,
    InternalError,
    Interrupted,
    OutOfSpace,
    SourceMissing,
    SyncerError,
    Transient,
    WrongBytes,
)
from syncer.examining import afterwards, examine
from syncer.report import Outcome, outcome_of_error
from syncer.settings import CommandLine, load
from syncer.settings.locations import Settings
from syncer.stop import StopSwitch
from tests.support.buckets import S3Server, free_port
from tests.support.processes import Pod
from tests.support.scripted_server import Heard, ScriptedServer, reply

POINTER = "`syncer doctor` looks at each step"
SKEWED = b"<Error><Code>RequestTimeTooSkewed</Code><Message>m</Message></Error>"
KEYS = {"S3_SYNC_SRC__ACCESS_KEY": "AKIACANARY", "S3_SYNC_SRC__SECRET_KEY": "canary-secret"}
IMPATIENT = {"S3_SYNC_WAIT_FOR_DESTINATION": "0s"}


def from_bucket(url: str, target: Path) -> Settings:
    said = {"S3_SYNC_SRC__PATH": "s3://b/m/", "S3_SYNC_SRC__ENDPOINT": url, "S3_SYNC_DEST__PATH": str(target)}
    return load(said | KEYS)


def hint(error: SyncerError, settings: Settings, stop: StopSwitch | None = None, seconds: float = 60.0) -> str:
    before = outcome_of_error(error)
    after = afterwards.with_finding(before, error, settings, stop or StopSwitch(), seconds=seconds)
    assert replace(after, hint="") == replace(before, hint="")
    return after.hint


def test_a_clock_that_is_wrong_is_in_the_hint_of_the_refusal(pod: Pod, target: Path) -> None:
    def script(heard: Heard) -> None:
        heard.body()
        heard.say(reply(403, SKEWED, date="Thu, 01 Jan 2015 12:00:00 GMT"))

    target.parent.mkdir()
    with ScriptedServer(script) as server:
        url = server.url
        environ = {"S3_SYNC_SRC__PATH": "s3://b/m/", "S3_SYNC_SRC__ENDPOINT": url} | KEYS
        ended = pod.run_here(environ | {"S3_SYNC_DEST__PATH": str(target)})
    assert ended.code == 77, ended
    assert f"`syncer doctor` would say: clock at {url}: our clock is" in ended.termination["hint"]
    assert "canary" not in ended.output + json.dumps(ended.termination)


def test_what_the_message_says_is_not_said_twice(s3: S3Server, pod: Pod, source: Path) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    environ = {"S3_SYNC_SRC__PATH": str(source)} | s3.connection_environment("demo") | IMPATIENT
    refused = pod.run_here(environ | {"AWS_S3_ENDPOINT": dead})
    missing = pod.run_here(environ | {"AWS_S3_BUCKET": "nowhere"})
    doctor = pod.run_here(environ | {"AWS_S3_ENDPOINT": dead}, "doctor")
    assert (refused.code, missing.code, doctor.code) == (69, 69, 69)
    for ended in (refused, missing):
        assert ended.termination["hint"].endswith(f"; {POINTER}"), ended
    assert "doctor" not in doctor.termination["hint"]


@pytest.mark.parametrize("kind", [CredentialsRefused, EndpointUnreachable, SourceMissing, Transient])
def test_failures_at_a_far_end_say_what_is_wrong_on_the_way(kind: type[SyncerError], tmp_path: Path) -> None:
    settings = from_bucket("https://store.invalid", tmp_path)
    told = "`syncer doctor` would say: name at https://store.invalid: the host name store.invalid is not known"
    assert hint(kind("failed", hint="look there"), settings) == f"look there; {told}"
    assert hint(kind("failed"), settings) == told


@pytest.mark.parametrize(
    "error",
    [
        ConfigurationError("wrong"),
        WrongBytes("wrong"),
        OutOfSpace("full"),
        InternalError("ours"),
        Interrupted(),
        DeadlinePassed("late"),
    ],
)
def test_all_other_failures_say_what_they_said(error: SyncerError, tmp_path: Path) -> None:
    with ScriptedServer(lambda heard: heard.say(reply(200))) as server:
        assert "doctor" not in hint(error, from_bucket(server.url, tmp_path))
        assert server.connections == 0


def test_nothing_is_looked_at_after_a_stop_or_where_no_far_end_is(source: Path, tmp_path: Path) -> None:
    error, stop = SourceMissing("gone", hint="look there"), StopSwitch()
    stop.throw(Interrupted())
    with ScriptedServer(lambda heard: heard.say(reply(200))) as server:
        assert hint(error, from_bucket(server.url, tmp_path), stop) == "look there"
        assert server.connections == 0
    folders = load({"S3_SYNC_SRC__PATH": str(source), "S3_SYNC_DEST__PATH": str(tmp_path / "volume")})
    assert hint(error, folders) == "look there"


def test_a_silent_peer_and_a_stop_are_not_waited_for(tmp_path: Path) -> None:
    asked, stop = threading.Event(), StopSwitch()

    def script(heard: Heard) -> None:
        asked.set()

    def stopper() -> None:
        asked.wait(60)
        stop.throw(Interrupted())

    with ScriptedServer(script) as server:
        settings = from_bucket(server.url, tmp_path)
        assert hint(Transient("failed"), settings, seconds=0.3) == POINTER
        asked.clear()
        thread = threading.Thread(target=stopper)
        thread.start()
        assert hint(Transient("failed"), settings, stop, seconds=3600.0) == POINTER
        thread.join()


def test_nobody_logs_in_and_a_passcode_is_not_spent(target: Path) -> None:
    with ScriptedServer(lambda heard: heard.say(reply(200))) as server:
        settings = load(
            {
                "S3_SYNC_COS_BUCKET": "b",
                "S3_SYNC_COS_ENDPOINT": server.url,
                "S3_SYNC_COS_IAM_ENDPOINT": server.url,
                "S3_SYNC_COS_TEMPORARY_PASSCODE": "CanaryCode1",
                "S3_SYNC_ALLOW_PLAINTEXT_TOKENS": "true",
                "MODEL_REGISTRY_URL": server.url,
                "MODEL_REGISTRY_TOKEN": "canary-token",
                "MODEL_NAME": "m",
                "S3_SYNC_DEST__PATH": str(target),
            }
        )
        assert hint(Transient("failed"), settings) == POINTER
        asked = [(heard.method, heard.target, heard.headers) for heard in server.heard]
    assert asked
    assert {(method, at) for method, at, _ in asked} == {("HEAD", "/")}
    assert not any("authorization" in headers for *_, headers in asked)


def test_trouble_with_the_hint_changes_nothing_else(
    s3: S3Server, pod: Pod, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> Outcome:
        raise RuntimeError("broken")

    monkeypatch.setattr(afterwards, "with_finding", broken)
    environ = {"S3_SYNC_SRC__PATH": str(source)} | s3.connection_environment("nowhere") | IMPATIENT
    ended = pod.run_here(environ)
    assert (ended.code, ended.termination["reason"]) == (69, "NotThereYet"), ended
    assert "doctor" not in ended.termination["hint"]
    assert "broken" not in ended.output


def test_the_deadline_of_the_settings_ends_the_doctor_too(pod: Pod, target: Path) -> None:
    target.mkdir(parents=True)
    with ScriptedServer(lambda _heard: None) as silent:
        environ = {"S3_SYNC_SRC__PATH": "s3://b/m/", "S3_SYNC_SRC__ENDPOINT": silent.url} | KEYS
        environ |= {"S3_SYNC_DEST__PATH": str(target), "S3_SYNC_DEADLINE": "1s"}
        ended = pod.run_here(environ, "doctor")
    assert (ended.code, ended.termination["reason"]) == (69, "DeadlinePassed"), ended
    assert '"step": "deadline"' in ended.output
    assert '"step": "settings"' in ended.output  # what was seen by then is told


def test_a_signal_ends_the_doctor_without_a_table(source: Path, target: Path) -> None:
    stop = StopSwitch()

    def adopt(_settings: Settings) -> StopSwitch:
        bounded = stop.bounded(3600.0)
        stop.throw(Interrupted())
        return bounded

    environ = {"S3_SYNC_SRC__PATH": str(source), "S3_SYNC_DEST__PATH": str(target)}
    with pytest.raises(Interrupted):
        examine(environ, CommandLine(), adopt=adopt, stop=stop)
