"""A run that is scraped while it copies, as Prometheus would."""

import socket
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from syncer import job
from syncer.progress import Phase, Progress
from syncer.settings.locations import Settings
from syncer.stop import StopSwitch
from tests.support.buckets import S3Server, free_port
from tests.support.models import pattern, read_model, write_model
from tests.support.processes import Pod
from tests.support.scraping import samples, scrape
from tests.support.tripwire import relayed

MiB = 1 << 20
SMALL_STEPS = {"S3_SYNC_TRANSFER_CONFIG__CHUNK_SIZE": "5MiB", "S3_SYNC_TRANSFER_CONFIG__MEMORY": "20MiB"}


def test_a_run_tells_how_far_it_is_while_it_copies(s3: S3Server, pod: Pod) -> None:
    source, target = s3.new_bucket("source"), s3.new_bucket("demo")
    weights = pattern(8 * MiB)
    s3.fill(source, {"secret-folder/secret-name.safetensors": weights, "secret-folder/config.json": b"{}"})
    port = free_port()
    with relayed(*s3.address) as relay:
        environment = (
            SMALL_STEPS
            | s3.source_environment(source, "secret-folder/")
            | s3.connection_environment(target, endpoint=relay.endpoint)
            | {"S3_SYNC_METRICS_PORT": str(port)}
        )
        relay.wire.set_at("bytes", 3 * MiB)
        process = pod.start(environment)
        assert relay.wire.caught.wait(60)
        text = scrape(port)
        figures = samples(text)
        relay.wire.release(late=True)
        ended = pod.end(process)
    assert ended.code == 0, ended
    assert s3.read(target, "models/") == {"secret-name.safetensors": weights, "config.json": b"{}"}
    assert figures["syncer_run_info"] == 1
    assert figures["syncer_goal_bytes"] == len(weights) + 2
    assert 0 < figures["syncer_read_bytes_total"] <= len(weights) + 2
    assert 0 < figures["syncer_written_bytes_total"] <= len(weights) + 2  # what is held may lie in the sockets
    assert figures["syncer_files_in_flight"] >= 1
    assert figures["syncer_parts_in_flight"] >= 1
    assert figures["syncer_lanes"] >= 1
    assert figures["syncer_memory_reserved_bytes"] > 0
    assert figures["syncer_phase_seconds_total/listing"] > 0
    assert figures["syncer_phase_seconds_total/copying"] > 0
    assert figures["syncer_phase_seconds_total/sealing"] == 0
    assert figures["syncer_last_success_timestamp_seconds"] == 0
    for secret in (s3.access_key, s3.secret_key, "secret-", source, target):
        assert secret not in text


class Following:
    """Shows nothing and remembers the phases."""

    def __init__(self) -> None:
        self.phases: list[Phase] = []

    def __call__(self, _progress: Progress) -> AbstractContextManager[None]:
        return nullcontext()

    def enter(self, phase: Phase) -> None:
        self.phases.append(phase)


def test_a_run_goes_through_its_phases_and_a_second_one_copies_nothing(settings: Settings) -> None:
    first, second = Following(), Following()
    job.sync(settings, StopSwitch(), first)
    job.sync(settings, StopSwitch(), second)
    around = ["listing", "waiting", "planning"], ["registering", "sealing", "finished"]
    assert first.phases == [*around[0], "copying", "proving", *around[1]]
    assert second.phases == [*around[0], *around[1]]


def test_a_port_that_is_taken_costs_no_run(pod: Pod, tmp_path: Path) -> None:
    write_model(tmp_path / "source", {"config.json": b"{}"})
    with socket.create_server(("", 0)) as taken:
        ended = pod.run_here(
            {
                "S3_SYNC_SRC__PATH": str(tmp_path / "source"),
                "S3_SYNC_DEST__PATH": str(tmp_path / "target"),
                "S3_SYNC_METRICS_PORT": str(taken.getsockname()[1]),
            }
        )
    assert ended.code == 0, ended
    assert read_model(tmp_path / "target") == {"config.json": b"{}"}
    assert "metrics_not_served" in ended.output
