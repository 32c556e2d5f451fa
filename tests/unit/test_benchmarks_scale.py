"""The paper model of many pods: its arithmetic, and that the documentation shows what it prints."""

from __future__ import annotations

import pytest

from benchmarks.public_models import MODELS
from benchmarks.scale_model import (
    HASH_RATE,
    LINKS,
    POD_RATE,
    PODS,
    STORE,
    Shared,
    World,
    cut,
    listings,
    requests,
    shares_table,
    size,
    talk_table,
    time_table,
)
from syncer.memory import MiB
from syncer.shares import READ_BACK
from tests.support.manifests import ROOT
from tests.support.measured_memory import of_its_own

PAGE = ROOT / "docs" / "many-pods.md"
SLOW = World(source=100.0, destination=100.0, store=10_000.0)


def test_requests_of_small_files_and_of_files_in_parts() -> None:
    assert requests(cut([1000, 0])) == 2 * 2
    assert requests(cut([20 * MiB])) == 2 * 4 + 2
    assert listings(cut([1] * 1001), 1) == 6
    assert listings(cut([1] * 1001), 4) == 6 + 3 * 2


def test_a_second_pod_halves_the_time_until_the_store_has_no_more_to_give() -> None:
    files = cut([10_000] * 100)
    one, ten = (Shared.of(files, count, read_back=READ_BACK).seconds(SLOW) for count in (1, 10))
    assert one == pytest.approx(10_000)
    assert ten == pytest.approx(1_000)
    narrow = World(source=100.0, destination=100.0, store=200.0)
    assert Shared.of(files, 10, read_back=READ_BACK).seconds(narrow) == pytest.approx(5_000)


def test_the_reading_back_of_a_cut_file_comes_on_top_and_at_the_speed_of_the_destination() -> None:
    files = cut([10**9])
    proved, level = (Shared.of(files, 10, read_back=cost) for cost in (READ_BACK, 0))
    world = World.of("0.8:8", store=800)
    assert proved.proved_again == 10**9
    assert level.proved_again == 0
    assert level.seconds(world) == pytest.approx(1.0, rel=0.1)
    assert proved.seconds(world) == pytest.approx(level.seconds(world) + 1.0, rel=0.1)


def test_one_file_is_hashed_by_one_core_and_one_process_has_a_limit_too() -> None:
    fast = World.of("1000", store=10_000)
    files = cut([10**11])
    assert Shared.of(files, 1, read_back=READ_BACK).seconds(fast) == pytest.approx(10**11 / HASH_RATE)
    assert Shared.of(files, 1, read_back=0).seconds(fast) == pytest.approx(10**11 / POD_RATE)


def test_the_plan_of_more_files_takes_more_to_read_and_to_hold() -> None:
    program = "from benchmarks.scale_model import plan_costs\nfor n in (200, 2000): print(*plan_costs([10] * n, 4))"
    few, held_few, many, held_many = map(int, of_its_own("-c", program).split())
    assert many > 5 * few > 0
    assert held_many > 5 * held_few > 0


def test_the_tables_are_printed() -> None:
    small = ["--models", "Mistral-7B-v0.1", "--pods", "1", "2", "--links", "1", "--store", "10"]
    printed = of_its_own("-m", "benchmarks.scale_model", *small)
    assert printed.count("| Mistral-7B-v0.1 |") == 1 + 2 + 2
    assert "| Mistral-7B-v0.1 | read back | 1.00 | 1.37 |" in printed


def test_the_page_shows_what_is_printed() -> None:
    page = PAGE.read_text(encoding="utf-8")
    names = ("Llama-3.1-70B", "DeepSeek-R1")
    divided = {
        name: {
            count: tuple(Shared.of(cut(MODELS[name]), count, read_back=cost) for cost in (READ_BACK, 0))
            for count in PODS
        }
        for name in names
    }
    lines = [*shares_table(divided, PODS), *time_table(divided, LINKS, STORE), *talk_table(PODS)]  # type: ignore[arg-type]  # pairs
    assert len(lines) > 15
    for line in lines:
        assert line in page
    for name in names:
        files = cut(MODELS[name])
        assert f"| {name} | {len(files):,} | {size(files) / 1e9:,.0f} | {requests(files):,} |" in page
