"""Digests of files whose parts arrive in any order, in any pieces, from many threads."""

import hashlib
import threading

from hypothesis import given
from hypothesis import strategies as st

from syncer.digests import FileHash
from syncer.memory import Buffer, MemoryBudget
from syncer.window import Window


class Bench:
    """A file in parts, the buffers that carry them, and a window over it; counts what comes back."""

    def __init__(self, parts: list[bytes]) -> None:
        self.parts = parts
        self.data = b"".join(parts)
        self.budget = MemoryBudget(1 << 30)
        self.released: list[Buffer] = []
        self.window = Window(FileHash(["sha256", "git_sha1"], len(self.data)), self.release)
        self.buffers = [self.filled(part) for part in parts]

    def filled(self, part: bytes) -> Buffer:
        buffer = self.budget.reserve(len(part))
        assert buffer is not None
        buffer.view[:] = part
        return buffer

    def release(self, buffer: Buffer) -> None:
        self.released.append(buffer)
        self.budget.release(buffer)

    def check(self) -> None:
        assert self.window.digest.digests() == {
            "sha256": hashlib.sha256(self.data).hexdigest(),
            "git_sha1": hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest(),
        }
        assert len(self.released) == len(self.parts)
        assert self.budget.reserved == 0


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=7), st.data())
def test_any_order_and_any_pieces_give_the_digest_of_the_whole(parts: list[bytes], data: st.DataObject) -> None:
    bench = Bench(parts)
    filled = dict.fromkeys(range(len(parts)), 0)
    while filled:
        index = data.draw(st.sampled_from(sorted(filled)))
        step = data.draw(st.integers(1, 4))
        if step > len(parts[index]) - filled[index]:
            del filled[index]
            bench.window.complete(index, bench.buffers[index])
        else:
            filled[index] += step
            bench.window.advance(index, bench.buffers[index], filled[index])
    bench.check()


def test_pieces_are_hashed_as_they_come_when_it_is_their_turn() -> None:
    bench = Bench([b"first", b"second"])
    bench.window.advance(0, bench.buffers[0], 3)
    assert bench.window.digest.digests()["sha256"] == hashlib.sha256(b"fir").hexdigest()
    bench.window.advance(1, bench.buffers[1], 6)
    assert bench.window.digest.digests()["sha256"] == hashlib.sha256(b"fir").hexdigest()


def test_a_part_that_is_sent_again_is_hashed_once() -> None:
    bench = Bench([b"first"])
    for filled in (3, 1, 3, 5):
        bench.window.advance(0, bench.buffers[0], filled)
    bench.window.complete(0, bench.buffers[0])
    bench.check()


def test_parts_that_are_early_keep_their_buffers_until_their_turn() -> None:
    bench = Bench([b"a", b"b", b"c"])
    bench.window.complete(2, bench.buffers[2])
    bench.window.complete(1, bench.buffers[1])
    assert bench.released == []
    bench.window.complete(0, bench.buffers[0])
    bench.check()


def test_many_threads_in_reverse_order_give_the_same_digest() -> None:
    parts = [bytes([index]) * (70_000 + index) for index in range(12)]
    bench = Bench(parts)
    gates = [threading.Event() for _ in range(len(parts) + 1)]
    gates[-1].set()

    def carry(index: int) -> None:
        gates[index + 1].wait(30)
        for filled in range(0, len(parts[index]), 10_000):
            bench.window.advance(index, bench.buffers[index], filled)
        bench.window.complete(index, bench.buffers[index])
        gates[index].set()

    threads = [threading.Thread(target=carry, args=(index,)) for index in range(len(parts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    bench.check()


def test_a_file_that_is_given_up_returns_all_buffers_also_of_late_parts() -> None:
    bench = Bench([b"a", b"b", b"c"])
    bench.window.complete(2, bench.buffers[2])
    bench.window.drop()
    bench.window.drop()
    assert bench.released == [bench.buffers[2]]
    bench.window.complete(1, bench.buffers[1])
    bench.window.complete(0, bench.buffers[0])
    assert bench.released == [bench.buffers[2], bench.buffers[1], bench.buffers[0]]
    assert bench.budget.reserved == 0
