"""The command line: old forms stay valid, every end is an exit code and a report."""

import dataclasses
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from syncer import cli, gate, job, logs, redaction
from syncer.cli import with_command
from syncer.errors import CredentialsRefused, InternalError, Interrupted, NotThereYet, Transient, UnsafeNames
from syncer.manifest import ModelFile
from syncer.marker import Seal
from syncer.plan import Plan, Step, Why
from syncer.redaction import MASK, Redactor
from syncer.report import LastWords
from syncer.settings import Settings
from syncer.stop import StopSwitch
from syncer.stores.protocols import Cut
from syncer.verify import Differences
from tests.support.captured import forget_logs

SECRET = "wJalrXUtnFEMI-not-a-real-key"


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(redaction, "_OF_THIS_PROCESS", Redactor())
    monkeypatch.setattr(logs, "catch_strays", lambda: None)
    yield
    logs.configure(terminal=False)
    forget_logs()


@dataclasses.dataclass
class Ran:
    code: int
    message: dict[str, Any]
    out: str
    lines: list[dict[str, Any]]


class Program:
    """The command line with an environment of its own and a termination message to look at."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys
        self.stop = StopSwitch()
        self.message = folder / "termination-log"
        self.environ = {
            "S3_SYNC_SRC__PATH": "s3://a/folder/",
            "S3_SYNC_SRC__ENDPOINT": "https://store.invalid",
            "S3_SYNC_SRC__ACCESS_KEY": "AKIAEXAMPLEKEY",
            "S3_SYNC_SRC__SECRET_KEY": SECRET,
            "S3_SYNC_DEST__PATH": "/mnt/models",
            "TERMINATION_MESSAGE_PATH": str(self.message),
            "RESULTS_DIR": str(folder / "results"),
        }
        (folder / "results").mkdir()
        self.message.write_text("")

    def __call__(self, *arguments: str) -> Ran:
        words = LastWords()
        code = cli.run(arguments, environ=self.environ, stop=self.stop, words=words)
        captured = self.capsys.readouterr()
        lines = [json.loads(line) for line in captured.err.splitlines()]
        text = self.message.read_text()
        return Ran(code, json.loads(text) if text else {}, captured.out, lines)


@pytest.fixture
def program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Program:
    return Program(tmp_path, capsys)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """What settings `job.sync` was called with."""
    calls: list[Settings] = []

    def sync(settings: Settings, stop: StopSwitch, show: object) -> job.Result:
        calls.append(settings)
        return job.Result(source="s3://a/", destination="/mnt/models", uris=("file:///mnt/models/",), files=2, bytes=10)

    monkeypatch.setattr(job, "sync", sync)
    return calls


def raising(error: BaseException) -> Callable[..., Any]:
    def work(*_: object, **__: object) -> Any:
        raise error

    return work


def test_what_the_message_has_no_room_for_is_in_the_log(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = tuple(f"'bad/{n:03}' is absolute" for n in range(300))
    refused = UnsafeNames(f"300 name(s) cannot be held: {problems[0]}; and 299 more", problems=problems)
    monkeypatch.setattr(job, "sync", raising(refused))
    ran = program()
    assert ran.code == 65
    assert [line["problems"] for line in ran.lines if line["event"] == "problems_found"] == [list(problems)]
    monkeypatch.setattr(job, "sync", raising(UnsafeNames("1 name: 'x' is absolute", problems=("'x' is absolute",))))
    assert "problems_found" not in [line["event"] for line in program().lines]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ([], ["sync"]),
        (["-vvvvv", "--no-dest-validate"], ["sync", "-vvvvv", "--no-dest-validate"]),
        (["s3://a/b/", "/mnt/x"], ["sync", "s3://a/b/", "/mnt/x"]),
        (["-s", "plan", "s3://a/", "/x"], ["sync", "-s", "plan", "s3://a/", "/x"]),
        (["-v", "plan", "--json"], ["plan", "-v", "--json"]),
        (["--max-files", "3", "verify"], ["verify", "--max-files", "3"]),
        (["wait", "--deadline", "2h"], ["wait", "--deadline", "2h"]),
        (["--", "plan"], ["sync", "--", "plan"]),
        (["--help"], ["--help"]),
        (["-h"], ["--help"]),
        (["sync", "--help"], ["sync", "--help"]),
    ],
)
def test_the_command_may_be_missing_or_come_later(given: Sequence[str], meant: Sequence[str]) -> None:
    assert with_command(given) == list(meant)


@pytest.mark.parametrize("word", [[], ["sync"]])
def test_all_old_flags_work_with_and_without_the_word(program: Program, seen: list[Settings], word: list[str]) -> None:
    del program.environ["S3_SYNC_SRC__PATH"]
    del program.environ["S3_SYNC_DEST__PATH"]
    flags = "-vv -s http://src:1 -d http://dest:2 --src-region r1 --dest-region r2 --no-src-validate --no-dest-validate"
    knobs = "--max-threads-per-file 3 --max-files 4 --chunk-size 16MiB -f s3://a/b/ s3://c/d/"
    ran = program(*word, *flags.split(), *knobs.split())
    assert ran.code == 0, ran.message
    (settings,) = seen
    source, destination = settings.source, settings.destination
    assert source is not None
    assert destination is not None
    assert (source.uri, destination.uri) == ("s3://a/b/", "s3://c/d/")
    assert [getattr(source, name) for name in ("endpoint", "region", "validate_tls")] == ["http://src:1", "r1", False]
    assert [getattr(destination, name) for name in ("endpoint", "region", "validate_tls")] == [
        "http://dest:2",
        "r2",
        False,
    ]
    transfer = settings.transfer
    assert (transfer.max_threads_per_file, transfer.max_files) == (3, 4)
    assert (transfer.chunk_size, transfer.force) == (16 * 2**20, True)


def test_long_flags_work_too(program: Program, seen: list[Settings]) -> None:
    ran = program("--verbose", "--src-endpoint", "http://s:1", "--src-validate", "--dest-validate", "--force")
    assert ran.code == 0
    assert seen[0].transfer.force


def test_success_is_told_everywhere_and_the_last_line_has_the_messages_fields(
    program: Program, seen: list[Settings]
) -> None:
    ran = program()
    assert ran.code == 0
    assert (ran.message["status"], ran.message["reason"], ran.message["files"]) == ("succeeded", "UpToDate", 2)
    assert ran.message["uri"] == "file:///mnt/models/"
    assert (program.folder / "results" / "status").read_text() == "succeeded"
    assert [ran.lines[0]["event"], ran.lines[-1]["event"]] == ["settings_loaded", "run_finished"]
    assert {name: ran.lines[-1][name] for name in ran.message} == ran.message


def test_the_effective_settings_are_the_first_line_and_masked(program: Program, seen: list[Settings]) -> None:
    ran = program("-vvvvv")
    assert ran.lines[0]["source"]["uri"] == "s3://a/folder/"
    assert ran.lines[0]["source"]["secret_key"] == MASK
    assert SECRET not in json.dumps(ran.lines)


def test_nothing_to_do_is_a_skip_and_a_success(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "sync", lambda *_: job.Result(source="", skipped="no destination is configured"))
    ran = program()
    assert (ran.code, ran.message["status"], ran.message["message"]) == (0, "skipped", "no destination is configured")


def test_a_failure_has_its_code_message_and_hint_without_secrets(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = CredentialsRefused(f"refused {SECRET}", hint="look at S3_SYNC_SRC__SECRET_KEY")
    monkeypatch.setattr(job, "sync", raising(error))
    ran = program("-v")
    assert ran.code == 77
    assert ran.message["message"] == f"refused {MASK}"
    seen = "`syncer doctor` would say: name at https://store.invalid: the host name store.invalid is not known"
    assert ran.message["hint"] == f"look at S3_SYNC_SRC__SECRET_KEY; {seen}"
    assert (ran.message["source"], ran.message["destination"]) == ("s3://a/folder/", "file:///mnt/models")
    assert (program.folder / "results" / "reason").read_text() == "CredentialsRefused"
    assert SECRET not in json.dumps(ran.lines)
    assert [line["event"] for line in ran.lines[-2:]] == ["run_failed", "run_finished"]


# A broken pipe is what command line libraries take for their own and pass over in silence.
@pytest.mark.parametrize("error", [ZeroDivisionError("oops"), InternalError("oops"), BrokenPipeError(32, "oops")])
def test_a_bug_is_70_with_a_traceback_in_the_log(
    program: Program, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(job, "sync", raising(error))
    ran = program()
    assert (ran.code, ran.message["reason"]) == (70, "InternalError")
    crash = ran.lines[-2]
    assert (crash["event"], crash["level"]) == ("run_crashed", "error")
    assert "Traceback" in crash["exception"]
    assert "oops" in ran.message["message"]


def test_what_breaks_because_of_a_stop_is_reported_as_the_stop(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(settings: Settings, stop: StopSwitch, show: object) -> job.Result:
        stop.throw(Interrupted(15))
        raise Transient("the connection was cut")

    monkeypatch.setattr(job, "sync", interrupted)
    ran = program()
    assert (ran.code, ran.message["reason"]) == (143, "Interrupted")


def test_a_success_beats_a_stop_that_came_too_late(program: Program, seen: list[Settings]) -> None:
    program.stop.throw(Interrupted(15))
    assert program().code == 0


def test_the_deadline_of_the_settings_stops_the_job_and_so_does_a_signal(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def until_stopped(settings: Settings, stop: StopSwitch, show: object) -> job.Result:
        stop.wait(60)
        stop.check()
        raise AssertionError

    monkeypatch.setattr(job, "sync", until_stopped)
    program.environ["S3_SYNC_DEADLINE"] = "10ms"
    assert program().message["reason"] == "DeadlinePassed"
    program.environ["S3_SYNC_DEADLINE"] = "1h"
    program.stop.throw(Interrupted(2))
    assert program().code == 130


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--no-such-flag"], "--no-such-flag"),
        (["a", "b", "c"], "c"),
        (["--max-files"], "--max-files"),
        (["--max-files", "many"], "--max-files"),
        (["verify", "--force"], "--force"),
        (["wait", "--deadline", "soon"], "--deadline"),
        (["upload"], "PATH"),
        (["upload", "x", "--wait", "soon"], "--wait"),
        (["doctor", "--force"], "--force"),
    ],
)
def test_bad_usage_is_78_with_one_line_and_a_hint(program: Program, arguments: Sequence[str], words: str) -> None:
    ran = program(*arguments)
    assert ran.code == 78
    assert words in ran.message["message"]
    assert "\n" not in ran.message["message"]
    assert ran.message["hint"]
    assert ran.out == ""


@pytest.mark.parametrize(("arguments", "command"), [(["--nope"], "sync"), (["upload", "--nope"], "upload")])
def test_bad_usage_names_the_help_of_its_command(program: Program, arguments: list[str], command: str) -> None:
    assert f"`syncer {command} --help`" in program(*arguments).message["hint"]


def test_a_typo_in_the_environment_is_78_and_reported_where_asked(program: Program) -> None:
    program.environ["S3_SYNC_SRC__ENDPIONT"] = "http://x"
    ran = program()
    assert ran.code == 78
    assert "S3_SYNC_SRC__ENDPOINT" in ran.message["message"]
    assert (program.folder / "results" / "status").read_text() == "failed"


def test_plan_prints_json_on_standard_output_and_nothing_else_there(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Step(ModelFile("a/b\n.bin", 2048, "v1"), Cut(2048, 1024), why=Why.NEW)
    made = Plan((step,), (), (), ("old.bin",), ("theirs.bin",), (), ())
    monkeypatch.setattr(job, "plan", lambda *_: {"file:///mnt/models": made})
    ran = program("plan", "--json")
    document = json.loads(ran.out)
    assert document["copy"] == [{"path": r"a/b\n.bin", "bytes": 2048, "parts": 2, "why": "new"}]
    assert (document["delete"], document["foreign"]) == (["old.bin"], ["theirs.bin"])
    assert (document["source"], document["destination"]) == ("s3://a/folder/", "file:///mnt/models")
    assert ran.code == 0
    assert ran.message["message"] == "copy 1 file (2.0 KiB), keep 0, delete 1, refuse because of 1"

    table = program("plan").out
    assert r"copy    a/b\n.bin" in table
    assert "theirs.bin" in table
    assert "copy 1 file (2.0 KiB)" in table.splitlines()[-1]


def test_verify_names_every_difference_and_is_65(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Differences({"w": "size 1, not 2"}, ("m",), ("e",), files=3, bytes=9)
    monkeypatch.setattr(job, "verify", lambda *_: {"file:///mnt/models": found})
    del program.environ["S3_SYNC_SRC__PATH"]
    ran = program("verify")
    assert (ran.code, ran.message["files"]) == (65, 3)
    named = [line["difference"] for line in ran.lines if line["event"] == "difference_found"]
    assert [name.split(":")[0] for name in named] == ["wrong", "missing", "extra"]


def test_several_destinations_are_told_of_by_name(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan((), (), (), ("old.bin",), (), (), ())
    monkeypatch.setattr(job, "plan", lambda *_: {"s3://a/": plan, "oci://q.io/b:1": plan})
    assert [each["destination"] for each in json.loads(program("plan", "--json").out)] == ["s3://a/", "oci://q.io/b:1"]
    ran = program("plan")
    assert [line for line in ran.out.splitlines() if "://" in line] == ["s3://a/", "oci://q.io/b:1"]
    assert ran.message["message"].startswith("s3://a/: copy 0 files")

    right, wrong = Differences({}, (), (), files=3, bytes=9), Differences({"w": "size 1, not 2"}, (), (), files=3)
    found = {"s3://a/": right, "s3://b/": wrong, "oci://q.io/b:1": CredentialsRefused("not yours")}
    monkeypatch.setattr(job, "verify", lambda *_: found)
    ran = program("verify")
    assert (ran.code, ran.message["files"]) == (65, 6)
    assert "2 of 3 destinations failed: s3://b/: " in ran.message["message"]
    assert ran.message["message"].endswith("oci://q.io/b:1: not yours; as it should be: s3://a/")
    assert [line["difference"] for line in ran.lines if line["event"] == "difference_found"] == [
        "s3://b/: wrong: w: size 1, not 2"
    ]


def test_verify_without_differences_succeeds(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "verify", lambda *_: {"file:///mnt/other": Differences({}, (), (), files=3, bytes=9)})
    ran = program("verify", "/mnt/other")
    assert (ran.code, ran.message["destination"], ran.message["bytes"]) == (0, "file:///mnt/other", 9)


def test_wait_looks_for_the_seal_that_was_asked_for(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def wait(
        settings: Settings, stop: StopSwitch, awaited: gate.Awaited, *, deadline: float | None
    ) -> list[gate.Found]:
        asked.update(source=awaited.source, revision=awaited.revision, deadline=deadline)
        seal = Seal(
            "sha256:0", "s3://a/", "r1", files=1, bytes=2, seconds=3.0, completed_at="2026-01-01T00:00:00+00:00"
        )
        return [gate.Found(seal, seal.fingerprint)]

    monkeypatch.setattr(gate, "wait", wait)
    for name in ("S3_SYNC_SRC__PATH", "S3_SYNC_SRC__ACCESS_KEY", "S3_SYNC_SRC__SECRET_KEY"):
        del program.environ[name]
    ran = program("wait", "/mnt/gate", "--source", "s3://a/", "--revision", "r1", "--deadline", "2h")
    assert asked == {"source": "s3://a/", "revision": "r1", "deadline": 7200.0}
    assert (ran.code, ran.message["destination"], ran.message["revision"]) == (0, "file:///mnt/gate", "r1")

    program("wait", "--deadline", "0s")
    assert asked["deadline"] == 0.0

    monkeypatch.setattr(gate, "wait", raising(NotThereYet("not sealed after 7200 s")))
    assert program("wait").code == 69


def test_results_of_verify_leave_the_workspace_alone(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = program.folder / "workspace"
    workspace.mkdir()
    program.environ["S3_SYNC_WORKSPACE"] = str(workspace)
    monkeypatch.setattr(job, "verify", lambda *_: {"": Differences({}, (), ())})
    program("verify")
    assert not list(workspace.iterdir())


def test_a_closed_standard_output_changes_nothing(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "plan", lambda *_: {"": Plan((), (), (), (), (), (), ())})
    closed = io.StringIO()
    closed.close()
    for stream in (closed, None):
        monkeypatch.setattr(sys, "stdout", stream)
        assert program("plan", "--json").code == 0


def test_version_and_help_import_nothing_heavy() -> None:
    code = (
        "import sys; from syncer import cli; from syncer.report import LastWords; from syncer.stop import StopSwitch\n"
        "for flags in (['--version'], ['--help'], ['sync', '--help']):\n"
        "    assert cli.run(flags, environ={}, stop=StopSwitch(), words=LastWords()) == 0\n"
        # (Typer's own help imports pydantic.)
        "heavy = {'boto3', 'botocore', 'syncer.settings', 'rich', 'asyncio'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("syncer ")
    assert "--no-dest-validate" in done.stdout
