"""What `make bench` makes of its samples: figures, verdicts, tables."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import pytest

from benchmarks.__main__ import questions
from benchmarks.clients import OURS, OURS_CRC, OURS_OPAQUE, RELAY, STOCK
from benchmarks.page import renewed
from benchmarks.peers import RCLONE, RCLONE_TUNED, S5CMD
from benchmarks.report import markdown, section_table
from benchmarks.results import Report, Sample, Section
from benchmarks.targets import TARGETS, Target, Verdict, fact, most_memory, verdicts, wall_ratio


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
    given = argparse.Namespace(full=False, scale=1.0, gib=None, rounds=1, free=1)
    assert asked.names <= set(questions(given))
    assert set(questions(given)) - asked.names == {"profile"}, "a section that no target looks at"


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
