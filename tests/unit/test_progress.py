"""Progress: counting from many threads, a smoothed rate, and displays that never fail a run."""

import io
import json
import threading
from typing import Any, cast

import pytest
from rich.console import Console

from syncer import logs
from syncer.progress import Progress, Reporter, Snapshot, _live_display, printed_bytes, printed_seconds, render


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Lines:
    """A log that remembers."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []

    def info(self, event: str, **fields: Any) -> None:
        assert event == "progress_made"
        self.said.append(fields)


def test_a_snapshot_says_what_is_done_what_is_left_and_what_is_in_flight() -> None:
    clock = Clock()
    progress = Progress(total_bytes=1000, total_files=3, clock=clock)
    progress.file_started("a", 400)
    progress.file_started("b", 600)
    progress.moved("a", 400)
    progress.file_finished("a")
    progress.moved("b", 100)
    clock.now += 5
    snapshot = progress.snapshot()
    assert (snapshot.done_bytes, snapshot.total_bytes, snapshot.done_files, snapshot.total_files) == (500, 1000, 1, 3)
    assert snapshot.bytes_per_second == 100
    assert snapshot.remaining_seconds == 5
    assert snapshot.elapsed_seconds == 5
    assert [(file.path, file.done, file.size) for file in snapshot.in_flight] == [("b", 100, 600)]
    assert snapshot.fields()["percent"] == 50.0


def test_the_rate_follows_the_last_seconds_and_not_the_whole_run() -> None:
    clock = Clock()
    progress = Progress(total_bytes=10_000, total_files=1, clock=clock)
    seen: list[float] = []
    for _ in range(20):
        progress.moved("a", 100)
        clock.now += 10
        progress.snapshot()
    for _ in range(4):
        progress.moved("a", 10)
        clock.now += 10
        seen.append(progress.snapshot().bytes_per_second)
    assert seen[-1] == pytest.approx(1.0)


def test_a_stall_is_seen_and_nothing_is_promised() -> None:
    clock = Clock()
    progress = Progress(total_bytes=10, total_files=1, clock=clock)
    assert progress.snapshot().remaining_seconds is None
    progress.moved("a", 5)
    for _ in range(4):
        clock.now += 10
        progress.snapshot()
    assert progress.snapshot().bytes_per_second == 0
    assert progress.snapshot().remaining_seconds is None


def test_a_file_that_starts_again_takes_its_bytes_back() -> None:
    progress = Progress(total_bytes=10, total_files=1, clock=Clock())
    progress.file_started("a", 10)
    progress.moved("a", 7)
    progress.moved("a", -7)
    progress.file_started("a", 12)
    progress.grew(2)
    snapshot = progress.snapshot()
    assert (snapshot.done_bytes, snapshot.total_bytes, snapshot.in_flight[0].done) == (0, 12, 0)


def test_no_byte_is_lost_between_threads() -> None:
    progress = Progress(total_bytes=40_000, total_files=1)
    progress.file_started("a", 40_000)

    def move() -> None:
        for _ in range(10_000):
            progress.moved("a", 1)

    threads = [threading.Thread(target=move) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert progress.snapshot().done_bytes == 40_000
    assert progress.snapshot().in_flight[0].done == 40_000


def test_an_empty_model_is_done_at_once() -> None:
    fields = Progress(total_bytes=0, total_files=0, clock=Clock()).snapshot().fields()
    assert (fields["percent"], fields["remaining_seconds"]) == (100.0, 0)
    json.dumps(fields)


def test_in_a_pod_a_line_comes_every_interval_and_one_at_the_end() -> None:
    lines = Lines()
    pauses: list[float] = []
    twice = threading.Event()

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        if len(pauses) > 2:
            twice.set()
            return True
        return False

    progress = Progress(total_bytes=10, total_files=1)
    with Reporter(progress, log=cast("logs.Log", lines), interval=7.0, terminal=False, wait=wait):
        assert twice.wait(10)
        progress.moved("a", 10)
    assert pauses[:2] == [7.0, 7.0]
    assert [line["done_bytes"] for line in lines.said] == [0, 0, 10]


def test_a_log_that_breaks_does_not_break_the_run() -> None:
    class Broken:
        def info(self, event: str, **fields: Any) -> None:
            raise RuntimeError(event)

    with Reporter(
        Progress(total_bytes=1, total_files=1), log=cast("logs.Log", Broken()), interval=60, terminal=False
    ) as reporter:
        assert reporter is not None


def test_on_a_terminal_the_last_line_comes_too(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    progress = Progress(total_bytes=10, total_files=1)
    with Reporter(progress, log=cast("logs.Log", lines), interval=60, terminal=True):
        progress.moved("a", 10)
    assert [line["done_bytes"] for line in lines.said] == [10]


def shown(snapshot: Snapshot) -> str:
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    console.print(render(snapshot))
    return cast("io.StringIO", console.file).getvalue()


def test_the_display_names_total_files_rate_and_remaining_time() -> None:
    clock = Clock()
    progress = Progress(total_bytes=4 * 1024**3, total_files=20, clock=clock)
    for number in range(10):
        progress.file_started(f"weights/[bold]{number}\x1b[2J.safetensors", 1024**3)
    progress.moved("weights/[bold]3\x1b[2J.safetensors", 1024**3 // 2)
    clock.now += 8
    text = shown(progress.snapshot())
    assert "0/20 files" in text
    assert "512.0 MiB of 4.0 GiB" in text
    assert "64.0 MiB/s, 56s left" in text
    assert r"weights/[bold]0\x1b[2J.safetensors" in text
    assert "and 2 more" in text


def test_the_display_survives_a_broken_progress() -> None:
    class Broken(Progress):
        def snapshot(self) -> Snapshot:
            raise RuntimeError

    console = Console(file=io.StringIO(), force_terminal=True)
    live = _live_display(Broken(total_bytes=1, total_files=1), console)
    live.start(refresh=True)
    live.stop()


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 * 1024**4, "3.0 TiB"), (1024**5, "1024.0 TiB")],
)
def test_bytes_for_people(count: int, text: str) -> None:
    assert printed_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "?"), (0.4, "0s"), (59.6, "1m00s"), (185, "3m05s"), (3725, "1h02m")]
)
def test_seconds_for_people(seconds: float | None, text: str) -> None:
    assert printed_seconds(seconds) == text
