"""What `make bench` makes of its samples: figures, verdicts, tables."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import questions
from benchmarks.clients import OURS, OURS_CRC, OURS_OPAQUE, RELAY, RELAY_CRC, SPLICE, STOCK
from benchmarks.page import renewed
from benchmarks.peers import RCLONE, RCLONE_TUNED, S5CMD
from benchmarks.report import behind, markdown, section_table, verdict_table
from benchmarks.results import Report, Sample, Section
from benchmarks.targets import (
    MISSED,
    MISSED_BY_ALL,
    TARGETS,
    Target,
    Verdict,
    fact,
    most_memory,
    verdicts,
    wall_ratio,
)


def runs(*cpu: float, wall: float = 1.0, memory: int = 1 << 20) -> list[Sample]:
    return [Sample(wall, seconds, 0.0, memory, served=0.5) for seconds in cpu]


def named(found: list[Verdict], name: str) -> Verdict:
    (verdict,) = [verdict for verdict in found if verdict.target.name == name]
    return verdict


def a_section(name: str = "s3-s3-http") -> Section:
    return Section(
        name,
        "S3 to S3",
        gib=2,
        pinned={OURS_OPAQUE: runs(3, 9, 4), OURS: runs(10), OURS_CRC: runs(2), RELAY: runs(4, 4), STOCK: runs(8)},
        free={OURS_OPAQUE: runs(4, wall=2), STOCK: runs(8, wall=9), S5CMD: runs(20, wall=7)},
        start={OURS_OPAQUE: runs(0.4, 0.4)},
        failed={RCLONE: "exit 1\n| something | happened"},
    )


def test_figures_are_medians_a_gib_with_and_without_the_start() -> None:
    section = a_section()
    assert section.cpu(OURS_OPAQUE) == 2.0
    assert section.rate(OURS_OPAQUE) == pytest.approx(1.8)
    assert section.rate(RELAY) == 2.0
    assert section.wall(OURS_OPAQUE) == 2.0
    assert math.isnan(section.cpu(RCLONE))


def test_ratio_is_that_of_the_row_that_is_compared_and_of_the_cheapest_peer() -> None:
    section = a_section()
    section.pinned |= {RCLONE: runs(30), RCLONE_TUNED: runs(20)}
    found = verdicts({section.name: section})
    assert named(found, "s3-s3-http: CPU, of the relay with SHA-256").value == pytest.approx(0.9)
    assert named(found, "s3-s3-http: CPU, of rclone's").value == pytest.approx(0.18)
    assert named(found, "s3-s3-http: CPU with crc64nvme, of s3-sync (stock boto3)'s").word == "NOT MET"
    assert wall_ratio(section.name, [STOCK, S5CMD])({section.name: section}) == 3.5


def test_references_are_judged_by_the_same_computation() -> None:
    section = a_section()
    section.pinned |= {RCLONE: runs(10), RELAY: runs(4), RELAY_CRC: runs(0.8), SPLICE: runs(2)}
    section.free |= {RELAY: runs(4, wall=4), SPLICE: runs(2, wall=1)}
    found = verdicts({section.name: section})
    proved = named(found, "s3-s3-http: CPU, of rclone's")
    assert proved.references == {RELAY: pytest.approx(0.4), SPLICE: pytest.approx(0.2)}
    assert proved.value == pytest.approx(0.36)
    assert proved.word == MISSED_BY_ALL, "0.4 of the relay's is above a third"
    crc = named(found, "s3-s3-http: CPU with crc64nvme, of rclone's")
    assert crc.references == {RELAY_CRC: pytest.approx(0.08), SPLICE: pytest.approx(0.2)}
    assert crc.value == pytest.approx(0.2)
    assert crc.word == MISSED, "the reference with the same digest reaches an eighth"
    wall = named(found, "s3-s3-http: wall time of the fastest peer, of ours")
    assert wall.references == {RELAY: pytest.approx(1.75), SPLICE: pytest.approx(7)}
    assert named(found, "s3-s3-http: CPU, of the relay with SHA-256").references == {}


@pytest.mark.parametrize(
    ("value", "reference", "word"),
    [(0.9, 2.0, "met"), (2.0, 0.9, MISSED), (2.0, 1.1, MISSED_BY_ALL), (2.0, math.nan, MISSED)],
)
def test_word_says_whether_the_reference_keeps_the_bound(value: float, reference: float, word: str) -> None:
    measured = {} if math.isnan(reference) else {RELAY: reference}
    assert Verdict(Target("a figure", fact("there", "so much"), 1.0), value, measured).word == word


def test_what_the_reference_misses_too_is_told_apart() -> None:
    section = a_section()
    section.pinned |= {RCLONE: runs(10), RELAY_CRC: runs(0.8)}
    report = Report("make bench", "2026-01-01", {"cores": "2"}, {}, {section.name: section})
    own, by_all = behind(report).split("The reference misses these too, on this machine:")
    assert "- s3-s3-http: CPU with crc64nvme, of rclone's: 0.20, wanted at most 0.125 (relay+crc64nvme 0.08)" in own
    assert "- s3-s3-http: CPU, of rclone's: 0.36, wanted at most 0.333 (relay+sha256 0.40)" in by_all
    rows = verdict_table(verdicts(report.sections)).splitlines()
    assert len({row.count("|") for row in rows}) == 1
    assert (
        "| s3-s3-http: CPU, of rclone's | ≤ 0.333 | 0.360 | relay+sha256 0.400 | NOT MET, nor by the reference |"
        in rows
    )


def test_bounds_of_the_ratios_to_peers_are_those_of_the_issue() -> None:
    bounds = {target.name: target.bound for target in TARGETS}
    assert bounds["s3-s3-http: CPU, of rclone's"] == pytest.approx(1 / 3)
    assert bounds["s3-s3-https: CPU, of s5cmd's"] == pytest.approx(1 / 2)
    assert bounds["s3-s3-http: CPU with crc64nvme, of rclone's"] == pytest.approx(1 / 8)
    assert bounds["s3-s3-https: CPU with crc64nvme, of rclone's"] == pytest.approx(1 / 3)
    assert bounds["dir-s3-https: CPU with crc64nvme, of s5cmd's"] == pytest.approx(1 / 3)
    assert bounds["40 ms, 60 MiB/s a connection: our throughput, of rclone's"] == 4


def test_nothing_measured_is_neither_met_nor_missed() -> None:
    found = verdicts({})
    assert {verdict.word for verdict in found} == {"not measured"}
    assert len({target.name for target in TARGETS}) == len(TARGETS)
    assert math.isnan(most_memory({}))


class Asked(dict[str, Section]):
    """No sections, but a memory of which were looked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def get(self, name: str, _: object = None) -> None:  # type: ignore[override]
        self.names.add(name)

    def __contains__(self, name: object) -> bool:
        self.names.add(str(name))
        return False


def test_every_target_is_about_a_section_that_is_measured() -> None:
    asked = Asked()
    verdicts(asked)
    assert asked.names <= set(asked_with())
    assert set(asked_with()) - asked.names == {"profile"}, "a section that no target looks at"


def asked_with(**values: object) -> dict[str, Any]:
    return {
        **questions(argparse.Namespace(**{"full": False, "scale": 1.0, "gib": None, "rounds": 1, "free": 1} | values))
    }


def test_links_are_filled_with_what_the_targets_say_unless_scaled() -> None:
    asked = asked_with()
    assert asked["link-one"].args == ("link-one", 1, 20 << 30)
    assert asked["link-many"].args == ("link-many", 200, 100 << 20)
    assert asked["latency"].args[0] == 4
    assert asked_with(scale=0.1)["link-many"].args == ("link-many", 20, 100 << 20)


@pytest.mark.parametrize(
    ("given", "stores", "files"),
    [({}, 2, 1), ({"scale": 0.5}, 1, 0.5), ({"gib": 3}, 3, 3), ({"full": True}, 4, 4)],
)
def test_more_goes_between_stores_unless_a_size_is_asked_for(
    given: dict[str, object], stores: float, files: float
) -> None:
    asked = asked_with(**given)
    assert asked["s3-s3-https"].args[1].gib == stores
    assert asked["s3-dir-http"].args[1].gib == files


@pytest.mark.parametrize(
    ("value", "at_least", "word"),
    [(0.9, False, "met"), (1.1, False, "NOT MET"), (0.9, True, "NOT MET"), (1.1, True, "met")],
)
def test_bound_is_kept_from_the_right_side(value: float, at_least: bool, word: str) -> None:
    target = Target("a figure", fact("there", "so much"), 1.0, at_least=at_least)
    assert Verdict(target, target.value({"there": Section("there", "", facts={"so much": value})})).word == word


def test_table_names_failures_and_has_as_many_cells_in_every_row() -> None:
    rows = [row for row in section_table(a_section()).splitlines() if row.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1
    assert any("failed: exit 1 … / something / happened" in row for row in rows)
    ours = next(row for row in rows if row.startswith(f"| {OURS_OPAQUE} "))
    assert [cell.strip() for cell in ours.split("|")[2:7]] == ["2.000", "1.50-4.50", "0.40", "1.800", "0.90"]


def test_report_is_the_same_after_it_was_kept(tmp_path: Path) -> None:
    report = Report("make bench", "2026-01-01", {"cores": "2"}, {"s5cmd": "v2"}, {"s3-s3-http": a_section()})
    report.broken["latency"] = "no server"
    report.write(tmp_path / "results.json")
    again = Report.read(tmp_path / "results.json")
    assert again == report
    assert "**latency did not run**: no server" in markdown(again)


def test_page_has_the_measured_parts_between_its_marks_and_nothing_else_changes() -> None:
    report = Report("make bench", "2026-01-01", {"cores": "2"}, {"s5cmd": "v2"}, {"s3-s3-http": a_section()})
    page = "Words.\n\n<!-- measured: behind -->\nold\n<!-- /measured -->\n\nMore.\n"
    fresh = renewed(page, report)
    assert fresh.startswith("Words.\n\n<!-- measured: behind -->\n- s3-s3-http: CPU")
    assert "old" not in fresh
    assert fresh.endswith("<!-- /measured -->\n\nMore.\n")
    assert renewed(fresh, report) == fresh
    with pytest.raises(KeyError):
        renewed("<!-- measured: nobody -->\n<!-- /measured -->", report)
