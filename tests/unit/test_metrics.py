"""What is told to Prometheus: from where, for how long, and that nobody is told a name."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request
from contextlib import nullcontext
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from syncer.errors import SourceChanged, Transient
from syncer.metrics import METRICS, Metrics, Server
from syncer.progress import PHASES, Figures, Progress, enter
from syncer.settings.locations import (
    DirectoryLocation,
    HuggingFaceLocation,
    S3Location,
    Settings,
    UploadedByHand,
)
from tests.support.carrying import Bench, pattern
from tests.support.injured import FlakySource
from tests.support.scraping import samples, scrape

SETTINGS = Settings(
    source=HuggingFaceLocation("owner/secret-model", endpoint="https://hub"),
    destination=DirectoryLocation(Path("/mnt")),
)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def told(metrics: Metrics) -> dict[str, float]:
    return {
        sample.name + "".join(f"/{value}" for _, value in sorted(sample.labels.items())): sample.value
        for family in metrics.collect()
        for sample in family.samples
    }


def test_every_metric_is_told_and_no_other() -> None:
    names = {sample.name for family in Metrics(lambda: SETTINGS).collect() for sample in family.samples}
    assert names | {"syncer_retries_total"} == set(METRICS)  # nothing was tried again yet


def test_names_follow_the_conventions() -> None:
    for name, described in METRICS.items():
        assert name.startswith("syncer_")
        assert name.endswith("_total") == (described.kind == "counter")
        assert described.about[0].isupper()


def test_what_an_engine_did_counts_once_it_is_over_too() -> None:
    bench, metrics = Bench(), Metrics(lambda: SETTINGS)
    data = pattern(5 * bench.part)
    bench.fill({"large": data, "small": b"x"})
    bench.source = FlakySource(bench.source, times=2)
    metrics.enter("copying")
    bench.carry()
    size = len(data) + 1
    with metrics.watching(bench.progress):
        during = told(metrics)
    after = told(metrics)
    for figures in (during, after):
        assert figures["syncer_read_bytes_total/file/hf"] >= size
        assert figures["syncer_written_bytes_total/file/hf"] >= size
        assert figures["syncer_files_total"] == 2
        assert figures["syncer_parts_total"] == 6
        assert figures["syncer_retries_total/Transient"] == 2
        assert figures["syncer_read_back_bytes_total"] == 0
        assert figures["syncer_parts_in_flight"] == figures["syncer_memory_reserved_bytes"] == 0
    assert during["syncer_goal_bytes"] == during["syncer_done_bytes"] == size
    assert after["syncer_goal_bytes"] == 0


def test_what_is_read_to_prove_is_no_copy() -> None:
    metrics, progress = Metrics(lambda: SETTINGS), Progress(total_bytes=10, total_files=1)
    progress.counted_by(lambda: Figures(read_bytes=10, sent_bytes=10, parts=1))
    metrics.enter("proving")
    with metrics.watching(progress):
        pass
    figures = told(metrics)
    assert figures["syncer_read_back_bytes_total"] == 10
    assert (
        figures["syncer_read_bytes_total/file/hf"]
        == figures["syncer_parts_total"]
        == figures["syncer_files_total"]
        == 0
    )


def test_causes_are_classes_of_errors_and_a_busy_store_is_one_of_its_own() -> None:
    metrics, progress = Metrics(lambda: SETTINGS), Progress(total_bytes=1, total_files=1)
    busy = Transient("slow down: bucket/secret-key")
    busy.busy = True
    with metrics.watching(progress):
        for error in (busy, busy, Transient("broke"), SourceChanged("secret/path")):
            progress.retried(error)
        figures = told(metrics)
    assert {name: value for name, value in figures.items() if "retries" in name} == {
        "syncer_retries_total/Busy": 2,
        "syncer_retries_total/Transient": 1,
        "syncer_retries_total/SourceChanged": 1,
    }


def test_seconds_are_those_of_the_phases() -> None:
    clock = Clock()
    metrics = Metrics(lambda: SETTINGS, clock=clock)
    for phase, seconds in (("listing", 1.0), ("copying", 2.0), ("proving", 4.0), ("copying", 8.0), ("finished", 16.0)):
        enter(metrics, phase)  # type: ignore[arg-type]  # a phase
        clock.now += seconds
    figures = told(metrics)
    spent = {phase: figures[f"syncer_phase_seconds_total/{phase}"] for phase in PHASES}
    assert {phase: seconds for phase, seconds in spent.items() if seconds} == {
        "listing": 1.0,
        "copying": 10.0,
        "proving": 4.0,
        "finished": 16.0,
    }
    assert figures["syncer_last_success_timestamp_seconds"] > 1_700_000_000


def test_who_only_shows_progress_is_not_told_of_phases() -> None:
    enter(lambda _progress: nullcontext(), "copying")


@pytest.mark.parametrize(
    ("settings", "kinds"),
    [
        (SETTINGS, ("hf", "file")),
        (
            Settings(
                source=S3Location(bucket="b", prefix="secret/", endpoint="http://e", scheme="cos"),
                destination=S3Location(bucket="b", prefix="c/", endpoint="http://e"),
                further=(DirectoryLocation(Path("/secret")),),
            ),
            ("cos", "s3,file"),
        ),
        (Settings(source=UploadedByHand(), destination=None), ("uploaded", "")),
        (Settings(source=None, destination=None), ("", "")),
    ],
)
def test_kinds_of_places_are_told_and_no_names(settings: Settings, kinds: tuple[str, str]) -> None:
    metrics = Metrics(lambda: settings)
    [info] = [family for family in metrics.collect() if family.name == "syncer_run_info"]
    labels = info.samples[0].labels
    assert (labels["source"], labels["destination"]) == kinds
    assert "secret" not in str(told(metrics))


# The server -----------------------------------------------------------------------------------------------------------


def test_a_scrape_is_answered_in_the_form_that_prometheus_reads() -> None:
    with Server(Metrics(lambda: SETTINGS), 0) as server:
        text = scrape(server.port)
    assert {family.name for family in text_string_to_metric_families(text)} == {
        name.removesuffix("_total") for name in METRICS
    }
    assert samples(text)["syncer_files_total"] == 0


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/", 404), ("GET", "/metrics/x", 404), ("POST", "/metrics", 501)]
)
def test_nothing_else_is_answered(method: str, path: str, status: int) -> None:
    with Server(Metrics(lambda: SETTINGS), 0) as server:
        request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", method=method)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=30)
        caught.value.close()
    assert caught.value.code == status


def test_a_port_that_is_taken_is_a_warning_and_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    with Server(Metrics(lambda: SETTINGS), 0) as first, Server(Metrics(lambda: SETTINGS), first.port) as second:
        assert "syncer_run_info" in scrape(first.port)
        assert second.port == first.port
    said = capsys.readouterr().err
    assert "metrics_not_served" in said
    assert "S3_SYNC_METRICS_PORT" in said


def test_who_asks_and_says_nothing_holds_nobody_up() -> None:
    with Server(Metrics(lambda: SETTINGS), 0) as server:
        silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
        assert "syncer_run_info" in scrape(server.port)
    for each in silent:
        each.close()
    assert "metrics" not in {thread.name for thread in threading.enumerate()}


def test_a_host_without_ipv6_is_served_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with Server(Metrics(lambda: SETTINGS), 0) as server:
        assert "syncer_run_info" in scrape(server.port)
