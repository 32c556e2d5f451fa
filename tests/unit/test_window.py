"""Digests of files whose parts arrive in any order, in any pieces, from many threads, some of them twice."""

import hashlib
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.digests import FileHash
from syncer.errors import WrongBytes
from syncer.memory import MemoryBudget
from syncer.window import LONGEST_WAIT_SECONDS, Holding, Loose, PartShare, Stalled, Window

CHUNK = 4
MAP = 16 * 1024
"""What the smallest buffer takes from a budget."""
PATIENCE = 30.0


class Part:
    """What a lane does with one part, step by step."""

    def __init__(self, share: PartShare, holding: Holding, data: bytes) -> None:
        self.share, self.holding, self.data = share, holding, data
        self.at = 0
        share.begin()

    def move(self, count: int, *, instead: bytes = b"") -> None:
        """The next `count` bytes arrive and are sent."""
        while count and self.at < len(self.data):
            room = self.share.room(min(count, len(self.data) - self.at))
            room[:] = instead[self.at :][: len(room)] if instead else self.data[self.at :][: len(room)]
            self.at += len(room)
            count -= len(room)
            self.share.take(len(room), last=self.at == len(self.data))

    def rest(self) -> None:
        if not self.data:
            self.share.take(0, last=True)
        self.move(len(self.data))

    def again(self) -> None:
        self.at = 0
        self.share.begin()

    def end(self) -> None:
        self.share.settle()
        self.share.leave()
        self.holding.drop()


class Bench:
    """A file in parts, and a window over it with memory for `buffers`."""

    def __init__(self, parts: list[bytes], *, buffers: int = 1000, clock: Callable[[], float] = lambda: 0.0) -> None:
        self.parts = parts
        self.data = b"".join(parts)
        self.budget = MemoryBudget(buffers * MAP)
        digest = FileHash(["sha256", "git_sha1"], len(self.data))
        self.window = Window(digest, self.budget, "file", clock=clock)

    def begin(self, index: int, *, kept: bool = False, check: Callable[[], None] = lambda: None) -> Part:
        holding = Holding(self.budget)
        assert holding.fit(len(self.parts[index]) if kept else CHUNK, kept=kept)
        return Part(self.window.share(index, holding, check), holding, self.parts[index])

    def check(self) -> None:
        assert self.window.digest.digests() == {
            "sha256": hashlib.sha256(self.data).hexdigest(),
            "git_sha1": hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest(),
        }
        assert (self.budget.reserved, self.window.shares) == (0, {})

    @property
    def hashed(self) -> str:
        return self.window.digest.digests()["sha256"]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# At most one part of them is empty, which is the whole file then.
files = st.one_of(st.just([b""]), st.lists(st.binary(min_size=1, max_size=11), min_size=1, max_size=6))


@given(files, st.booleans(), st.data())
def test_any_order_any_pieces_and_any_breaks_give_the_digest_of_the_whole(
    parts: list[bytes], kept: bool, data: st.DataObject
) -> None:
    bench = Bench(parts)
    under_way: dict[int, Part] = {}
    left = list(range(len(parts)))
    while left:
        index = data.draw(st.sampled_from(left), label="part")
        if index not in under_way:
            under_way[index] = bench.begin(index, kept=kept)
        part = under_way[index]
        match data.draw(st.sampled_from(["end", "move", "break", "leave"]), label="what"):
            case "end":
                part.rest()
                part.end()
                left.remove(index)
            case "move":
                part.move(data.draw(st.integers(1, 9)))
            case "break":
                part.again()
            case "leave" if bench.window.turn <= index:  # before its turn, or in the middle of it
                part.share.leave()
                part.holding.drop()
                del under_way[index]
            case _:
                pass
    bench.check()


def test_pieces_are_hashed_as_they_come_when_it_is_their_turn() -> None:
    bench = Bench([b"first", b"second"])
    first, second = bench.begin(0), bench.begin(1)
    first.move(3)
    assert bench.hashed == sha256(b"fir")
    second.move(3)
    assert bench.hashed == sha256(b"fir")


def test_the_turn_passes_before_the_destination_has_answered() -> None:
    bench = Bench([b"first", b"second", b"third"])
    first, second, third = bench.begin(0), bench.begin(1), bench.begin(2)
    third.move(2)
    second.rest()
    first.rest()
    assert bench.hashed == sha256(b"firstsecond")
    assert bench.window.turn == 2
    third.rest()
    for part in (third, first, second):
        part.end()
    bench.check()


def test_a_part_in_turn_that_breaks_takes_its_bytes_out_of_the_digest() -> None:
    bench = Bench([b"first", b"second"])
    part = bench.begin(0)
    part.move(4)
    part.again()
    assert bench.hashed == sha256(b"")
    part.rest()
    part.end()
    part = bench.begin(1)
    part.rest()
    part.end()
    bench.check()


def test_a_part_that_is_read_again_after_its_turn_must_have_the_same_bytes() -> None:
    bench = Bench([b"first", b"second"])
    part = bench.begin(0)
    part.rest()
    part.again()
    part.rest()
    part.again()
    part.move(4, instead=b"fjrst")
    with pytest.raises(WrongBytes, match="file: part 0 has other bytes"):
        part.move(1)


def test_parts_that_are_early_keep_their_memory_until_their_turn() -> None:
    bench = Bench([b"a", b"bbbbbb", b"cccc"])
    for index in (2, 1):
        part = bench.begin(index)
        part.rest()
        part.end()
    assert bench.budget.reserved == 3 * MAP
    part = bench.begin(0)
    part.rest()
    part.end()
    bench.check()


def test_many_threads_in_reverse_order_give_the_same_digest() -> None:
    parts = [bytes([index]) * (70 + index) for index in range(12)]
    bench = Bench(parts)
    gates = [threading.Event() for _ in range(len(parts) + 1)]
    gates[-1].set()

    def carry(index: int) -> None:
        gates[index + 1].wait(PATIENCE)
        part = bench.begin(index)
        part.rest()
        gates[index].set()
        part.end()

    threads = [threading.Thread(target=carry, args=(index,)) for index in range(len(parts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    bench.check()


# Without memory -----------------------------------------------------------------------------------------------------


class Waiter:
    """A lane ahead of its turn, in a thread of its own; `waits` is set when it asks whether to go on waiting."""

    def __init__(self, bench: Bench, index: int, *, first: int = CHUNK) -> None:
        self.waits = threading.Event()
        self.errors: list[Exception] = []
        self.part = bench.begin(index, check=self.waits.set)
        if first > 1:
            self.part.move(first - 1)
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        try:
            self.part.rest()
            self.part.end()
        except Exception as error:  # noqa: BLE001 - looked at in the test
            self.errors.append(error)
            self.part.share.leave()
            self.part.holding.drop()

    def join(self) -> None:
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


def test_a_lane_without_memory_waits_for_its_turn_and_goes_on_with_the_buffer_that_it_has() -> None:
    bench = Bench([b"0" * 20, b"1" * 20], buffers=2)
    first, ahead = bench.begin(0), Waiter(bench, 1)
    assert ahead.waits.wait(PATIENCE)
    assert ahead.part.at == CHUNK
    first.rest()
    ahead.join()
    first.end()
    bench.check()


def test_a_whole_part_without_memory_for_its_end_waits_too() -> None:
    bench = Bench([b"0" * 20, b"1" * CHUNK], buffers=2)
    first, ahead = bench.begin(0), Waiter(bench, 1)
    assert ahead.waits.wait(PATIENCE)
    assert ahead.part.at == CHUNK, "all of it is there"
    first.rest()
    ahead.join()
    first.end()
    bench.check()


def test_a_lane_without_memory_goes_on_when_there_is_some() -> None:
    bench = Bench([b"0" * 20, b"1" * 5], buffers=3)
    other = bench.budget.reserve(1)
    assert other is not None
    first, ahead = bench.begin(0), Waiter(bench, 1)
    assert ahead.waits.wait(PATIENCE)
    more = bench.budget.limit
    bench.budget.limit += 2 * MAP
    bench.budget.release(other)
    ahead.join()
    assert bench.budget.limit > more
    first.rest()
    first.end()
    bench.check()


def test_a_lane_that_has_waited_too_long_gives_its_part_back() -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += LONGEST_WAIT_SECONDS / 2
        return now[0]

    bench = Bench([b"0" * 20, b"1" * 20], buffers=2, clock=clock)
    first, ahead = bench.begin(0), Waiter(bench, 1)
    ahead.join()
    assert isinstance(ahead.errors[0], Stalled)
    assert bench.budget.reserved == MAP, "only what the first lane owns"
    first.rest()
    first.end()
    late = bench.begin(1)
    late.rest()
    late.end()
    bench.check()


def test_a_lane_that_gets_memory_at_the_last_moment_goes_on() -> None:
    """What another one gives back when it has waited too long is for those that have waited as long."""
    now = [0.0]
    bench = Bench([b"0" * 20, b"1" * CHUNK * 2], buffers=3, clock=lambda: now[0])
    first, other = bench.begin(0), bench.budget.reserve(1)

    def give_way() -> None:
        nonlocal other
        now[0] += LONGEST_WAIT_SECONDS
        if other is not None:
            bench.budget.release(other)
            other = None

    ahead = bench.begin(1, check=give_way)
    ahead.move(CHUNK + 1)
    assert ahead.at == CHUNK + 1
    first.rest()
    ahead.rest()
    for part in (first, ahead):
        part.end()
    bench.check()


def test_what_ends_the_wait_leaves_nothing_behind() -> None:
    bench = Bench([b"0" * 20, b"1" * 20], buffers=2)

    def refuse() -> None:
        raise ZeroDivisionError

    first, ahead = bench.begin(0), bench.begin(1, check=refuse)
    with pytest.raises(ZeroDivisionError):
        ahead.rest()
    ahead.share.leave()
    ahead.holding.drop()
    assert bench.budget.waiting == 0
    first.holding.drop()
    assert bench.budget.reserved == 0


def test_a_file_that_is_given_up_returns_all_memory_also_of_late_parts() -> None:
    bench = Bench([b"a" * 9, b"b" * 9, b"c" * 9])
    last, late, first = bench.begin(2), bench.begin(1), bench.begin(0)
    last.rest()
    last.end()
    late.rest()
    first.move(2)
    bench.window.drop()
    bench.window.drop()
    late.end()
    first.share.leave()
    first.holding.drop()
    assert bench.budget.reserved == 0


# Without order ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [False, True])
def test_parts_that_need_no_order_wait_for_nobody(kept: bool) -> None:
    parts = [b"first", b"second", b"third"]
    whole = b"".join(parts)
    digest = FileHash(["crc64nvme"], len(whole))
    budget = MemoryBudget(MAP)
    for index in (2, 0, 1):
        holding = Holding(budget)
        assert holding.fit(len(parts[index]) if kept else CHUNK, kept=kept)
        part = Part(Loose(digest, len(b"".join(parts[:index])), holding), holding, parts[index])
        part.move(3)
        part.again()
        part.rest()
        part.end()
    expected = FileHash(["crc64nvme"], len(whole))
    expected.update(memoryview(whole))
    assert digest.digests() == expected.digests()
    assert budget.reserved == 0


@pytest.mark.parametrize("kept", [False, True])
def test_the_only_part_of_a_file_waits_for_nobody(kept: bool) -> None:
    data = b"the whole file"
    digest = FileHash(["sha256", "git_sha1"], len(data))
    budget = MemoryBudget(MAP)
    holding = Holding(budget)
    assert holding.fit(len(data) if kept else CHUNK, kept=kept)
    part = Part(Loose(digest, 0, holding), holding, data)
    part.move(3)
    part.again()
    part.rest()
    part.end()
    expected = FileHash(["sha256", "git_sha1"], len(data))
    expected.update(memoryview(data))
    assert digest.digests() == expected.digests()
    assert budget.reserved == 0
