"""Which pod carries what: complete, disjoint, level, the same for everybody, and as few files cut as needed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from benchmarks.public_models import MODELS
from syncer.memory import MiB
from syncer.plan import cut_file
from syncer.shares import READ_BACK, Portion, Range, cut_paths, divide, weight
from syncer.stores.protocols import Cut, Limits

GiB = 1024 * MiB
S3 = Limits(smallest_part=5 * MiB, largest_part=5 * GiB, most_parts=10_000, largest_file=5 * 1024 * GiB)
FEW_PARTS = 10  # a fair share of fewer parts than that cannot be level within a tenth

cuts = st.builds(
    Cut,
    size=st.one_of(st.integers(0, 100), st.integers(0, 400 * MiB), st.integers(0, 40 * GiB)),
    part_size=st.sampled_from([1 * MiB, 8 * MiB, 105 * MiB]),
    in_order=st.booleans(),
)
file_sets = st.dictionaries(st.text("abc/", min_size=1, max_size=4), cuts, max_size=40)
counts = st.integers(1, 40)
read_backs = st.sampled_from([0, READ_BACK, 1])


def cut_by_plan(sizes: Sequence[int]) -> dict[str, Cut]:
    made = {f"{number:05}": cut_file(size, limits=S3, part_size=None) for number, size in enumerate(sizes)}
    return {path: cut for path, cut in made.items() if cut is not None}


def carried(portions: Sequence[Portion], files: Mapping[str, Cut]) -> list[tuple[str, int]]:
    """Every part that anybody carries, sorted."""
    parts = [(piece.path, part) for portion in portions for piece in portion.ranges for part in piece.parts]
    parts += [(path, part) for portion in portions for path in portion.whole for part in range(files[path].count)]
    return sorted(parts)


def largest(portions: Sequence[Portion], files: Mapping[str, Cut]) -> int:
    return max(portion.bytes(files) for portion in portions)


def lasts(portions: Sequence[Portion], files: Mapping[str, Cut], read_back: float) -> float:
    """The reckoning: the largest share, then the reading back."""
    return largest(portions, files) + read_back * sum(files[path].size for path in cut_paths(portions))


# Properties -----------------------------------------------------------------------------------------------------------


@given(files=file_sets, count=counts, read_back=read_backs)
def test_every_part_is_carried_by_exactly_one_pod(files: dict[str, Cut], count: int, read_back: float) -> None:
    portions = divide(files, count, read_back=read_back)
    assert len(portions) == count
    assert carried(portions, files) == sorted((path, part) for path, cut in files.items() for part in range(cut.count))
    assert sum(portion.bytes(files) for portion in portions) == sum(cut.size for cut in files.values())


@given(files=file_sets, count=counts, read_back=read_backs, seed=st.integers(0, 99))
def test_the_order_of_the_files_means_nothing(files: dict[str, Cut], count: int, read_back: float, seed: int) -> None:
    shuffled = list(files.items())
    random.Random(seed).shuffle(shuffled)
    assert divide(dict(shuffled), count, read_back=read_back) == divide(files, count, read_back=read_back)


@given(files=file_sets, count=counts, read_back=read_backs)
def test_what_comes_in_order_stays_whole_and_a_pod_has_one_range_of_a_file(
    files: dict[str, Cut], count: int, read_back: float
) -> None:
    portions = divide(files, count, read_back=read_back)
    assert not any(files[path].in_order for path in cut_paths(portions))
    for portion in portions:
        paths = [piece.path for piece in portion.ranges]
        assert len(paths) == len(set(paths))
        assert all(piece.count > 0 for piece in portion.ranges)
    by_file: dict[str, list[Range]] = {}
    for portion in portions:
        for piece in portion.ranges:
            by_file.setdefault(piece.path, []).append(piece)
    for pieces in by_file.values():  # one pod's range begins where that of the pod before it ends
        assert all(after.first == before.first + before.count for before, after in pairwise(pieces))


@given(files=file_sets, count=counts)
@example(files={str(n): Cut(1, MiB) for n in range(7)}, count=3)
def test_nobody_has_much_more_than_the_fair_share(files: dict[str, Cut], count: int) -> None:
    """Where nothing is read back: at most what the largest thing that cannot be cut adds to it."""
    portions = divide(files, count, read_back=0)
    total = sum(weight(cut) for cut in files.values())
    lump = max((weight(cut) if cut.in_order else min(weight(cut), cut.part_size) for cut in files.values()), default=0)
    assert largest(portions, files) <= max(1.1 * total / count, total / count + lump)


@given(files=file_sets, count=counts, read_back=read_backs)
def test_cutting_never_makes_the_run_longer(files: dict[str, Cut], count: int, read_back: float) -> None:
    uncut = {path: Cut(cut.size, cut.part_size, in_order=True) for path, cut in files.items()}
    whole = largest(divide(uncut, count), files)
    rounding = max((cut.part_size for cut in files.values()), default=0) + len(files) * MiB
    assert lasts(divide(files, count, read_back=read_back), files, read_back) <= whole + rounding


def test_no_pod_gets_all_the_small_files() -> None:
    files = {str(number): Cut(100, 8 * MiB) for number in range(2000)}
    files |= {f"large {number}": Cut(GiB + number * MiB, 8 * MiB) for number in range(8)}
    for portion in divide(files, 8):
        assert 240 <= len(portion.whole) <= 260


# Public models --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_shares_of_a_public_model_differ_by_at_most_a_tenth_from_the_fair_one(model: str) -> None:
    files = cut_by_plan(MODELS[model])
    total = sum(cut.size for cut in files.values())
    part = max(cut.part_size for cut in files.values())
    tried = [count for count in range(1, 257) if total >= count * FEW_PARTS * part]
    assert len(tried) > 100
    for count in tried:
        assert largest(divide(files, count, read_back=0), files) <= 1.1 * total / count, count


@pytest.mark.parametrize(("model", "most_pods"), [("Llama-3.1-70B", 6), ("Llama-3.1-405B", 16), ("DeepSeek-R1", 16)])
def test_a_dozen_shards_a_pod_are_level_without_a_cut(model: str, most_pods: int) -> None:
    """The usual case: nothing is read back."""
    files = cut_by_plan(MODELS[model])
    total = sum(cut.size for cut in files.values())
    for count in range(1, most_pods + 1):
        portions = divide(files, count)
        assert not cut_paths(portions)
        assert largest(portions, files) <= 1.1 * total / count


# Cases ----------------------------------------------------------------------------------------------------------------


def test_one_large_file_is_cut_even_if_it_must_be_read_back() -> None:
    files = {"model.gguf": Cut(400 * GiB, 41 * MiB), "README.md": Cut(1000, 8 * MiB)}
    portions = divide(files, 8)
    assert cut_paths(portions) == {"model.gguf"}
    assert largest(portions, files) <= 51 * GiB
    assert sum(portion.whole == ("README.md",) for portion in portions) == 1


def test_three_equal_files_stay_whole_on_two_pods_where_they_would_be_read_back() -> None:
    files = {name: Cut(5 * GiB, 8 * MiB) for name in "abc"}
    assert not cut_paths(divide(files, 2))
    level = divide(files, 2, read_back=0)
    assert len(cut_paths(level)) == 1
    assert largest(level, files) <= 7.6 * GiB


def test_pod_0_gets_the_odd_file_last() -> None:
    files = {name: Cut(5 * GiB, 8 * MiB, in_order=True) for name in "abcde"}
    assert [len(portion.whole) for portion in divide(files, 4)] == [1, 2, 1, 1]


def test_one_pod_carries_everything_whole() -> None:
    files = cut_by_plan(MODELS["Mistral-7B-v0.1"])
    [portion] = divide(files, 1, read_back=0)
    assert portion.ranges == ()
    assert set(portion.whole) == set(files)


def test_more_pods_than_work() -> None:
    assert [portion.whole for portion in divide({"a": Cut(0, MiB)}, 3)] == [(), ("a",), ()]
    assert divide({}, 2) == (Portion(), Portion())


def test_many_files_are_divided_quickly_enough_to_be_divided_by_everybody() -> None:
    files = {str(number): Cut(100 * number, 8 * MiB) for number in range(20_000)}
    portions = divide(files, 256)
    assert sum(len(portion.whole) for portion in portions) == 20_000


def test_the_last_part_of_a_range_may_be_short() -> None:
    cut = Cut(10, 4)
    assert Range("a", 0, 2).bytes(cut) == 8
    assert Range("a", 1, 2).bytes(cut) == 6
    assert list(Range("a", 1, 2).parts) == [1, 2]
