"""A pod that may have so many threads and no more (pids in cgroups(7)): `Thread.start` says what it says there."""

import threading
from collections.abc import Callable

import pytest


def allow(monkeypatch: pytest.MonkeyPatch, may_start: Callable[[threading.Thread], bool]) -> list[str]:
    """From here on only those threads start that `may_start`; returns the names of the others, as they are refused."""
    refused: list[str] = []
    begin = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if not may_start(thread):
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    return refused


def none_called(monkeypatch: pytest.MonkeyPatch, *names: str) -> list[str]:
    """No thread that has one of `names`."""
    return allow(monkeypatch, lambda thread: thread.name not in names)
