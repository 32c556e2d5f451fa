"""The memory promise: never above the limit, nothing lost, buffers used again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.errors import InternalError
from syncer.memory import Buffer, MemoryBudget, MiB


def reserved(budget: MemoryBudget, size: int) -> Buffer:
    buffer = budget.reserve(size)
    assert buffer is not None
    return buffer


def held(budget: MemoryBudget) -> int:
    """Bytes of all maps, those kept for reuse included."""
    return budget.reserved + sum(capacity * len(areas) for capacity, areas in budget._idle.items())


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1, MiB, MiB + 1, 8 * MiB])
def test_a_buffer_has_the_bytes_that_were_asked_for(size: int) -> None:
    budget = MemoryBudget(16 * MiB)
    buffer = reserved(budget, size)
    assert len(buffer.view) == size
    assert size <= buffer.capacity <= max(64 * 1024, 2 * size)
    buffer.view[:] = b"x" * size
    budget.release(buffer)
    assert budget.reserved == 0


sizes = st.one_of(st.integers(0, 200_000), st.integers(MiB - 1, 5 * MiB))


@given(st.lists(st.one_of(sizes, st.just("release")), max_size=40), st.data())
def test_the_limit_holds_whatever_comes_and_goes(asks: list[int | str], data: st.DataObject) -> None:
    budget = MemoryBudget(4 * MiB)
    out: list[Buffer] = []
    for ask in asks:
        if isinstance(ask, int):
            buffer = budget.reserve(ask)
            if buffer is not None:
                out.append(buffer)
        elif out:
            budget.release(out.pop(data.draw(st.integers(0, len(out) - 1))))
        alone = len(out) == 1 and out[0].capacity > budget.limit
        assert held(budget) <= (out[0].capacity if alone else budget.limit)
        assert budget.reserved == sum(buffer.capacity for buffer in out)
        assert budget._idle_bytes == held(budget) - budget.reserved


def test_a_full_budget_says_no_and_has_room_again_after_a_release() -> None:
    budget = MemoryBudget(2 * MiB)
    first, second = reserved(budget, MiB), reserved(budget, MiB)
    assert budget.reserve(1) is None
    budget.release(second)
    assert reserved(budget, 1).capacity == 16 * 1024
    assert len(first.view) == MiB


def test_one_buffer_may_exceed_the_limit_when_nothing_else_is_out() -> None:
    budget = MemoryBudget(MiB)
    small = reserved(budget, 1)
    assert budget.reserve(3 * MiB) is None
    budget.release(small)
    large = reserved(budget, 3 * MiB)
    assert held(budget) == 3 * MiB, "nothing idle is kept beside it"
    assert budget.reserve(1) is None
    budget.release(large)
    assert held(budget) == 0, "and it is not kept for reuse"


def test_buffers_find_a_second_user() -> None:
    budget = MemoryBudget(4 * MiB)
    first = reserved(budget, MiB - 5)
    area = first._map
    budget.release(first)
    again = reserved(budget, MiB)
    assert again._map is area


def test_idle_buffers_make_room_for_other_sizes() -> None:
    budget = MemoryBudget(4 * MiB)
    for buffer in [reserved(budget, MiB) for _ in range(4)]:
        budget.release(buffer)
    assert held(budget) == 4 * MiB
    reserved(budget, 2 * MiB)
    assert held(budget) == 4 * MiB


def test_a_narrowed_buffer_gives_all_of_its_memory_back() -> None:
    budget = MemoryBudget(4 * MiB)
    buffer = reserved(budget, 2 * MiB)
    buffer.narrow(3)
    assert len(buffer.view) == 3
    budget.release(buffer)
    assert budget.reserved == 0


def test_a_released_view_is_void() -> None:
    budget = MemoryBudget(MiB)
    buffer = reserved(budget, 10)
    view = buffer.view
    budget.release(buffer)
    with pytest.raises(ValueError, match="released"):
        view[0] = 1


def test_giving_back_twice_is_noticed() -> None:
    budget = MemoryBudget(MiB)
    buffer = reserved(budget, 10)
    budget.release(buffer)
    with pytest.raises(InternalError):
        budget.release(buffer)


def test_a_map_that_the_system_refuses_is_not_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_file: int, _size: int) -> None:
        raise OSError(12, "Cannot allocate memory")

    budget = MemoryBudget(MiB)
    with monkeypatch.context() as patch:
        patch.setattr("syncer.memory.mmap.mmap", refuse)
        with pytest.raises(OSError, match="allocate"):
            budget.reserve(1)
    assert budget.reserved == 0
    assert len(reserved(budget, MiB).view) == MiB


# Waiting in line ----------------------------------------------------------------------------------------------------


def test_who_has_the_lowest_rank_is_served_first() -> None:
    budget = MemoryBudget(2 * MiB)
    out = [reserved(budget, MiB), reserved(budget, MiB)]
    far, near, late = budget.queue(MiB, 7), budget.queue(MiB, 1), budget.queue(MiB, 3)
    assert budget.waiting == 3
    for waiting in (near, late):
        budget.release(out.pop(0))
        assert waiting.buffer is not None
        waiting.wait(30)
        out.append(waiting.buffer)
    assert (budget.waiting, far.buffer) == (1, None)
    assert budget.leave(near) is near.buffer
    assert budget.leave(far) is None
    assert budget.waiting == 0


def test_whoever_gives_up_a_place_in_line_no_longer_holds_up_the_others() -> None:
    budget = MemoryBudget(2 * MiB)
    reserved(budget, MiB)
    large, small = budget.queue(2 * MiB, 1), budget.queue(MiB, 2)
    assert (large.buffer, small.buffer) == (None, None)
    assert budget.leave(large) is None
    assert small.buffer is not None


def test_a_buffer_that_is_free_is_there_at_once() -> None:
    budget = MemoryBudget(MiB)
    waiting = budget.queue(MiB, 0)
    assert budget.leave(waiting) is waiting.buffer is not None
