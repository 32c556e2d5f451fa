"""A pod that may have no more threads: what can do without one does, and what cannot says what to do."""

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import cast

import pytest

from syncer import commands, entrypoint
from syncer.compressing import child
from syncer.compressing.task import Task
from syncer.entrypoint import SignalWatch
from syncer.errors import Interrupted
from syncer.lease import LEASE, Lease
from syncer.logs import logger
from syncer.metrics import _SCRAPES_AT_ONCE, Metrics, Server
from syncer.progress import Progress, Reporter
from syncer.report import LastWords
from syncer.settings.locations import DirectoryLocation, Settings
from syncer.stop import StopSwitch
from syncer.threads import NoThread, start
from tests.support import few_threads
from tests.support.memory_store import MemoryControl, MemoryVolume
from tests.support.scraping import scrape

SETTINGS = Settings(source=None, destination=DirectoryLocation(Path("/mnt")))


def test_a_thread_that_runs_already_is_a_mistake_and_no_limit() -> None:
    thread = threading.Thread(target=lambda: None)
    start(thread)
    with pytest.raises(RuntimeError, match="once"):
        start(thread)


def test_a_lease_that_nobody_could_renew_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    few_threads.none_called(monkeypatch, "lease")
    control = MemoryControl(MemoryVolume(), "model/.syncer/")
    with pytest.raises(NoThread), Lease(control, StopSwitch(), patience=60.0):
        raise AssertionError("without a beat")
    assert control.read(LEASE) is None


def test_a_deadline_that_nobody_could_keep_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    few_threads.allow(monkeypatch, lambda _thread: False)
    with pytest.raises(NoThread):
        StopSwitch().bounded(60.0)


def test_lines_and_figures_are_no_reason_to_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = few_threads.none_called(monkeypatch, "metrics", "progress")
    progress = Progress(total_bytes=1, total_files=1)
    with (
        Server(Metrics(lambda: SETTINGS), 0),
        Reporter(progress, log=logger(component="test"), interval=60, terminal=False),
    ):
        pass
    assert refused == ["metrics", "progress"]
    said = capsys.readouterr().err
    assert "metrics_not_served" in said
    assert "pids" in said


def test_scrapes_for_which_there_was_no_thread_cost_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(Metrics(lambda: SETTINGS), 0) as server:
        with monkeypatch.context() as patched:
            few_threads.allow(patched, lambda _thread: False)
            for _ in range(_SCRAPES_AT_ONCE + 1):
                with pytest.raises(OSError):  # noqa: PT011 - whichever way the connection ends
                    scrape(server.port)
        assert "syncer_run_info" in scrape(server.port)


def test_a_worker_that_nobody_could_listen_to_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    few_threads.none_called(monkeypatch, "worker")
    monkeypatch.setattr(child, "WORKER", (sys.executable, "-c", "import signal; signal.pause()"))
    with pytest.raises(NoThread):
        child.work(cast("Task", None), {}, StopSwitch(), logger(component="test"))


def test_a_worker_for_which_there_is_no_process_is_no_bug_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_process(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(subprocess, "Popen", no_process)
    with pytest.raises(NoThread):
        child.work(cast("Task", None), {}, StopSwitch(), logger(component="test"))


def test_a_stop_is_heard_by_all_though_nobody_can_tell_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    call = commands.Call(environ={}, stop=StopSwitch(), words=LastWords())
    call.bound(SETTINGS)
    heard: list[str] = []
    call.stop.on_throw(lambda: heard.append("woken"))
    refused = few_threads.allow(monkeypatch, lambda _thread: False)
    call.stop.throw(Interrupted())
    assert (heard, len(refused)) == (["woken"], 1)


def test_signals_stop_a_run_that_has_all_threads_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, left = StopSwitch(), list[int]()
    watch = SignalWatch(stop, LastWords(), leave=left.append, grace=0.01)
    refused = few_threads.none_called(monkeypatch, "stop", "last words")
    os.write(watch._writing, bytes([signal.SIGTERM]))
    watch.watch()
    os.close(watch._reading)
    os.close(watch._writing)
    assert isinstance(stop.error, Interrupted)
    assert (left, refused) == ([143], ["stop", "last words"])


def test_without_a_thread_for_signals_a_run_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    few_threads.allow(monkeypatch, lambda _thread: False)
    words = LastWords()

    def begin() -> None:
        start(threading.Thread(target=lambda: None))

    assert entrypoint.run([], StopSwitch(), words, before=begin) == os.EX_CONFIG
    assert words.outcome is not None
    assert "no thread may be started" in words.outcome.message
