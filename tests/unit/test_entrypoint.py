"""The process: signals are heard whatever the main thread does, and every end has its exit code and its report."""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncer import cli, entrypoint, redaction
from syncer.entrypoint import GRACE_SECONDS, SignalWatch
from syncer.errors import Interrupted
from syncer.redaction import Redactor
from syncer.report import LastWords, Outcome
from syncer.settings.locations import Reporting
from syncer.stop import StopSwitch

ENTRYPOINT = Path(__file__).parents[2] / "entrypoint.py"
QUICK = 5.0
"""Seconds in which a process ends that waits for nothing, on a busy machine."""


class Watched:
    """A watch whose pipe the test writes into, and what it did."""

    def __init__(self, *, grace: float) -> None:
        self.stop, self.words = StopSwitch(), LastWords()
        self.left: list[int] = []
        self.watch = SignalWatch(self.stop, self.words, leave=self.left.append, grace=grace)

    def signal(self, *numbers: int) -> None:
        os.write(self.watch._writing, bytes(numbers))

    def close(self) -> None:
        os.close(self.watch._reading)
        os.close(self.watch._writing)


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched(grace=0.05)
    yield watched
    watched.close()


def test_the_first_signal_throws_the_switch_and_an_overdue_run_is_spoken_for(watched: Watched, tmp_path: Path) -> None:
    message = tmp_path / "termination-log"
    message.write_text("")
    watched.words.report_to(Reporting(termination_message=message, results=tmp_path / "absent"))
    watched.signal(signal.SIGCHLD, signal.SIGTERM)
    watched.watch.watch()
    assert isinstance(watched.stop.error, Interrupted)
    assert watched.left == [143]
    assert json.loads(message.read_text())["reason"] == "Interrupted"


def test_a_second_signal_leaves_at_once_with_last_words_even_when_a_waker_hangs(tmp_path: Path) -> None:
    watched = Watched(grace=60.0)
    message = tmp_path / "termination-log"
    message.write_text("")
    watched.words.report_to(Reporting(termination_message=message, results=tmp_path / "absent"))
    let_go = threading.Event()

    def hang() -> None:
        let_go.wait(30)

    watched.stop.on_throw(hang)
    watched.signal(signal.SIGTERM, signal.SIGINT)
    watched.watch.watch()
    assert watched.left == [130]
    assert json.loads(message.read_text())["exit_code"] == 130
    let_go.set()
    watched.close()


def test_what_the_run_said_before_stays_its_end(watched: Watched) -> None:
    watched.words.say(Outcome(status="succeeded"))
    watched.signal(signal.SIGTERM)
    watched.watch.watch()
    assert watched.left == [0]


def test_grace_and_report_stay_below_the_contracts_ten_seconds() -> None:
    assert GRACE_SECONDS + entrypoint._REPORT_SECONDS < 10


def test_what_fails_outside_of_everything_is_still_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> int:
        raise ImportError("no such library")

    monkeypatch.setattr(redaction, "_OF_THIS_PROCESS", Redactor())
    monkeypatch.setattr(cli, "run", broken)
    words = LastWords()
    assert entrypoint.run([], StopSwitch(), words) == 70
    assert words.outcome is not None
    assert "no such library" in words.outcome.message
    assert gc.isenabled()


PROGRAM = """
import runpy, sys, threading, time, types
import syncer.entrypoint
from syncer.errors import CredentialsRefused
syncer.entrypoint.SignalWatch.__init__.__kwdefaults__["grace"] = float(sys.argv.pop(1))
what = sys.argv.pop(1)

def sync(settings, stop, show):
    if what != "quick":
        print("ready", flush=True)
    match what:
        case "polite":
            stop.wait(100)
            stop.check()
        case "deaf":
            threading.Event().wait(100)
        case "silent peer":
            import socket
            ours, theirs = socket.socketpair()
            ours.recv(1)
        case "stuck thread":
            threading.Thread(target=time.sleep, args=(100,)).start()
            raise CredentialsRefused("refused", hint="ask again")
        case "quick":
            return types.SimpleNamespace(skipped="nothing to do")

sys.modules["syncer.job"] = fake = types.ModuleType("syncer.job")
fake.sync = sync
import syncer
syncer.job = fake
sys.argv[0] = {entrypoint!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Process:
    """The real entry point with a made-up job, in a process of its own."""

    def __init__(self, folder: Path, what: str, *, grace: float = 60.0, **streams: Any) -> None:
        self.message = folder / "termination-log"
        self.message.write_text("")
        script = folder / "program.py"
        script.write_text(PROGRAM.replace("{entrypoint!r}", repr(str(ENTRYPOINT))))
        environ = {
            "PATH": os.defpath,
            "PYTHONPATH": str(ENTRYPOINT.parent),
            "S3_SYNC_SRC__PATH": "/mnt/source",
            "S3_SYNC_DEST__PATH": "/mnt/models",
            "TERMINATION_MESSAGE_PATH": str(self.message),
        }
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
        arguments = [sys.executable, str(script), str(grace), what]
        self.process = subprocess.Popen(arguments, env=environ, text=True, **streams)

    def when_ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n", self.process.communicate(timeout=30)

    def end(self) -> tuple[int, dict[str, Any]]:
        try:
            code = self.process.wait(timeout=30)
        finally:
            self.process.kill()
            for stream in (self.process.stdout, self.process.stderr):
                if stream is not None and not stream.closed:
                    stream.close()
        return code, json.loads(self.message.read_text())


@pytest.mark.parametrize(
    ("number", "what", "grace", "code"),
    [
        (signal.SIGTERM, "polite", 60.0, 143),
        (signal.SIGINT, "polite", 60.0, 130),
        (signal.SIGTERM, "deaf", 0.2, 143),
        (signal.SIGINT, "silent peer", 0.2, 130),
    ],
)
def test_a_signal_ends_the_process_with_its_code_and_a_report(
    tmp_path: Path, number: signal.Signals, what: str, grace: float, code: int
) -> None:
    process = Process(tmp_path, what, grace=grace)
    process.when_ready()
    begun = time.monotonic()
    process.process.send_signal(number)
    ended, message = process.end()
    assert ended == code
    assert time.monotonic() - begun < QUICK
    assert (message["status"], message["reason"], message["exit_code"]) == ("failed", "Interrupted", code)
    assert message["hint"]
    assert message["destination"] == "file:///mnt/models"


def test_a_second_signal_ends_a_deaf_process_at_once(tmp_path: Path) -> None:
    process = Process(tmp_path, "deaf", grace=60.0)
    process.when_ready()
    begun = time.monotonic()
    process.process.send_signal(signal.SIGTERM)
    process.process.send_signal(signal.SIGINT)
    code, message = process.end()
    assert code in {130, 143}
    assert time.monotonic() - begun < QUICK
    assert (message["reason"], message["exit_code"]) == ("Interrupted", code)


def test_a_thread_that_listens_to_a_silent_peer_does_not_hold_up_the_end(tmp_path: Path) -> None:
    begun = time.monotonic()
    code, message = Process(tmp_path, "stuck thread").end()
    assert (code, message["reason"], message["hint"]) == (77, "CredentialsRefused", "ask again")
    assert time.monotonic() - begun < 2 * QUICK


def test_streams_that_are_closed_or_not_read_change_nothing(tmp_path: Path) -> None:
    reading, writing = socket.socketpair()
    reading.close()
    for streams in ({"stdout": writing, "stderr": writing}, {"preexec_fn": lambda: os.closerange(1, 3)}):
        code, message = Process(tmp_path, "quick", **streams).end()
        assert (code, message["status"]) == (0, "skipped")
    writing.close()


def test_importing_the_entry_point_is_light() -> None:
    code = (
        "import sys, syncer.entrypoint\n"
        "heavy = {'typer', 'rich', 'pydantic', 'boto3', 'asyncio'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
