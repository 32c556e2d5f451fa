"""Which file the next lane works on: large ones first, small ones beside them, never more at once than was set."""

import pytest

from syncer.digests import FileHash
from syncer.flight import Flight, Task
from syncer.manifest import ModelFile
from syncer.memory import MemoryBudget, MiB
from syncer.schedule import LANES, MEMORY, MOST_LANES, Schedule, Sizing
from syncer.stores.protocols import Cut, Upload
from syncer.window import Window
from tests.support.memory_store import MemoryDestination, MemoryVolume

PART = 10
KiB = 1024


def task(path: str, size: int, part: int = PART) -> Task:
    return Task(ModelFile(path, size, "v"), Cut(size, part))


def upload() -> Upload:
    return MemoryDestination(MemoryVolume()).begin(ModelFile("any", 1, "v"), Cut(1, 1))


class Lanes:
    """Plays the engine: each `draw` is one lane that comes free; what it begins has a window if it is `in_order`."""

    def __init__(self, sizing: Sizing, tasks: list[Task], *, in_order: bool = True) -> None:
        self.schedule = Schedule(sizing, tasks)
        self.in_order = in_order

    def draw(self) -> str | None:
        flight = self.schedule.draw()
        if flight is None:
            return None
        if flight.upload is None:
            flight.upload = upload()
            flight.undrawn = list(range(flight.task.cut.count))
            if self.in_order:
                file = flight.task.file
                flight.window = Window(FileHash(["sha256"], file.size), MemoryBudget(MiB), file.path)
        flight.draw()
        return flight.task.file.path

    def done(self) -> bool:
        return self.schedule.done

    def leave(self, path: str) -> None:
        self.schedule.leave(self.flight(path))

    def end(self, path: str, *, instead: Task | None = None) -> None:
        flight = self.flight(path)
        while flight.lanes:
            self.schedule.leave(flight)
        self.schedule.end(flight, instead=instead)

    def flight(self, path: str) -> Flight:
        (flight,) = [flight for flight in self.schedule.flights if flight.task.file.path == path]
        return flight


def test_small_files_go_beside_large_ones_and_the_biggest_go_first() -> None:
    small = [task(f"small-{size}", size) for size in range(1, 10)]
    large = [task(f"large-{size}", size) for size in range(100, 150, 10)]
    lanes = Lanes(Sizing(lanes=8, files=8), [*reversed(small), *large])
    assert [lanes.draw() for _ in range(8)] == [
        *("small-1", "small-2"),  # a quarter of the lanes, in the order of their names
        *("large-140", "large-130", "large-120", "large-110", "large-100"),
        "large-140",  # no large one is left to start: more lanes for those under way
    ]


def test_small_files_have_all_lanes_when_nothing_else_is_left() -> None:
    lanes = Lanes(Sizing(lanes=8, files=8), [task(f"{n}", 1) for n in range(9)])
    assert len({lanes.draw() for _ in range(8)}) == 8
    assert lanes.draw() is None, "eight files are under way already"
    lanes.end("0")
    assert lanes.draw() == "8"


def test_only_small_files_are_left_when_the_last_large_one_has_ended() -> None:
    lanes = Lanes(Sizing(lanes=8, files=8), [task("small", 1), task("large", 100)])
    assert not lanes.schedule.only_small
    assert (lanes.draw(), lanes.draw()) == ("small", "large")
    assert not lanes.schedule.only_small
    lanes.end("large")
    assert lanes.schedule.only_small


def test_one_file_has_all_lanes() -> None:
    lanes = Lanes(Sizing(lanes=8, files=8, lanes_per_file=8), [task("large", 100)])
    assert [lanes.draw() for _ in range(9)] == ["large"] * 8 + [None]


def test_no_more_files_at_once_than_was_set() -> None:
    lanes = Lanes(Sizing(lanes=8, files=2), [task("a", 30), task("b", 20), task("c", 20), task("d", 1)])
    assert [lanes.draw() for _ in range(5)] == ["d", "a", "a", "a", None]
    lanes.end("d")
    assert lanes.draw() == "b"


def test_no_more_files_at_once_than_there_are_lanes() -> None:
    lanes = Lanes(Sizing(lanes=2, files=64, most=64), [task("a", 30), task("b", 20), task("c", 20)])
    assert [lanes.draw() for _ in range(2)] == ["a", "b"]
    lanes.leave("a")
    assert lanes.draw() == "a", "what is under way goes on before anything else begins"
    lanes.schedule.lanes = 3
    assert lanes.draw() == "c"


def test_no_more_lanes_on_one_file_than_was_set() -> None:
    lanes = Lanes(Sizing(lanes=8, files=8, lanes_per_file=3), [task("a", 100), task("b", 100)])
    drawn = [lanes.draw() for _ in range(7)]
    assert (drawn.count("a"), drawn.count("b"), drawn.count(None)) == (3, 3, 1)


def test_the_file_with_the_fewest_lanes_gets_the_next() -> None:
    lanes = Lanes(Sizing(lanes=8, files=8, lanes_per_file=8), [task("a", 100), task("b", 60)])
    assert [lanes.draw() for _ in range(5)] == ["a", "b", "a", "b", "a"]


def test_no_lane_joins_a_file_that_is_given_up_or_drawn() -> None:
    lanes = Lanes(Sizing(), [task("a", 20), task("b", 15)])
    assert [lanes.draw() for _ in range(4)] == ["a", "b", "a", "b"]
    assert lanes.draw() is None
    lanes = Lanes(Sizing(), [task("a", 100)])
    lanes.draw()
    lanes.flight("a").given_up = ValueError()  # type: ignore[assignment]  # any error will do
    assert lanes.draw() is None


@pytest.mark.parametrize(("in_order", "most"), [(True, 1 + 7), (False, 64)])
def test_no_more_lanes_go_ahead_than_memory_serves(in_order: bool, most: int) -> None:
    lanes = Lanes(Sizing(lanes=64, memory=4 * PART), [task("a", 1000)], in_order=in_order)
    assert [lanes.draw() for _ in range(64)].count("a") == most, "seven eighths of it, at half a part each"


def test_parts_larger_than_memory_have_one_lane() -> None:
    lanes = Lanes(Sizing(lanes=8, memory=PART), [task("a", 1000, part=8 * PART)])
    assert [lanes.draw() for _ in range(2)] == ["a", None]
    lanes.leave("a")
    assert lanes.draw() == "a"


def test_nobody_joins_a_file_where_a_lane_has_waited_in_vain_until_the_turn_has_passed() -> None:
    lanes = Lanes(Sizing(), [task("a", 100)])
    assert [lanes.draw(), lanes.draw()] == ["a", "a"]
    flight = lanes.flight("a")
    assert flight.window is not None
    flight.stalled_at = flight.window.turn
    flight.put_back(1)
    lanes.leave("a")
    assert lanes.draw() is None
    flight.window.turn = 1
    assert lanes.draw() == "a"
    assert flight.undrawn[0] == 2, "the part that was put back is the next"


def test_fewer_lanes_go_ahead_where_one_has_waited_in_vain() -> None:
    lanes = Lanes(Sizing(lanes=64, memory=4 * PART), [task("a", 1000)])
    assert [lanes.draw(), lanes.draw()] == ["a", "a"]
    lanes.flight("a").stalled_at = 0
    window = lanes.flight("a").window
    assert window is not None
    window.turn = 1
    while lanes.draw():
        pass
    assert lanes.flight("a").lanes == 1 + 5, "seven eighths of it, at three quarters of a part each"


def urgent(lanes: Lanes) -> Flight | None:
    return lanes.schedule.urgent


def test_a_part_for_which_all_others_wait_comes_before_everything_else() -> None:
    lanes = Lanes(Sizing(lanes=8, lanes_per_file=2), [task("a", 100), task("b", 90), task("c", 1)])
    assert [lanes.draw() for _ in range(5)] == ["c", "a", "b", "a", "b"]
    flight = lanes.flight("b")
    assert flight.window is not None
    flight.window.turn = 1
    flight.put_back(1)
    assert urgent(lanes) is None, "its lane may just be done with the one before"
    flight.stalled_at = 0
    assert urgent(lanes) is flight
    assert lanes.draw() == "b", "also with all the lanes that it may have"
    assert urgent(lanes) is None


def test_a_file_for_which_a_lane_has_no_memory_is_the_next_one_again() -> None:
    schedule = Schedule(Sizing(), [task("a", 100), task("b", 90)])
    flight = schedule.draw()
    assert flight is not None
    schedule.give_back(flight)
    assert schedule.flights == {}
    again = schedule.draw()
    assert again is not None
    assert again.task.file.path == "a"


def test_a_file_that_starts_again_is_the_next_one() -> None:
    lanes = Lanes(Sizing(lanes=8, files=1), [task("a", 100), task("b", 90)])
    assert lanes.draw() == "a"
    lanes.end("a", instead=task("a", 50))
    assert lanes.draw() == "a"
    lanes.end("a", instead=task("a", 5))
    assert lanes.draw() == "a"


def test_done_is_when_nothing_waits_and_nothing_flies() -> None:
    lanes = Lanes(Sizing(), [task("a", 1), task("b", 100)])
    assert not lanes.done()
    lanes.draw()
    lanes.end("a")
    assert not lanes.done()
    lanes.draw()
    assert not lanes.done()
    lanes.end("b")
    assert lanes.done()
    assert lanes.draw() is None


def test_no_more_lanes_are_wanted_than_there_are_parts() -> None:
    assert Schedule(Sizing(), [task("a", 15), task("b", 0)]).most_lanes == 3
    assert Schedule(Sizing(), [task("a", 1000)]).most_lanes == LANES
    assert Schedule(Sizing(most=20), [task("a", 1000)]).most_lanes == 20


@pytest.mark.parametrize(
    ("max_files", "max_threads", "memory", "expected"),
    [
        (None, None, None, Sizing(LANES, 64, 64, MEMORY, MOST_LANES)),
        (5, None, None, Sizing(LANES, 5, 64, MEMORY, MOST_LANES)),
        (None, 3, None, Sizing(LANES, 64, 3, MEMORY, MOST_LANES)),
        (2, 2, None, Sizing(8, 2, 2, MEMORY, 8)),
        (5, 4, 128 * MiB, Sizing(20, 5, 4, 112 * MiB, 20)),
        (None, None, 96 * MiB, Sizing(LANES, 64, 64, MEMORY, MOST_LANES)),
        (None, None, 32 * MiB, Sizing(LANES, 64, 64, 16 * MiB, MOST_LANES)),
        (None, None, MiB, Sizing(LANES, 64, 64, MiB // 2, MOST_LANES)),
        (1000, 1000, None, Sizing(64, 1000, 1000, MEMORY, 64)),
        (32, None, None, Sizing(LANES, 32, 64, MEMORY, MOST_LANES)),
    ],
)
def test_sizing_follows_the_legacy_knobs_within_reason(
    max_files: int | None, max_threads: int | None, memory: int | None, expected: Sizing
) -> None:
    assert Sizing.choose(max_files=max_files, max_threads_per_file=max_threads, memory=memory) == expected


@pytest.mark.parametrize(("processors", "lanes"), [(0.5, 2), (1, 2), (2, 2), (2.5, 3), (4, LANES), (64, LANES)])
def test_a_small_pod_begins_with_a_lane_for_each_of_its_processors(processors: float, lanes: int) -> None:
    small = Sizing.choose(max_files=None, max_threads_per_file=None, memory=None, processors=processors)
    assert small == Sizing(lanes, 64, 64, MEMORY, MOST_LANES)
    set_by_hand = Sizing.choose(max_files=3, max_threads_per_file=4, memory=None, processors=processors)
    assert set_by_hand.lanes == 12


@pytest.mark.parametrize(
    ("memory", "lanes", "chunk"),
    [
        (MEMORY, 8, MiB),
        (MEMORY, 64, 128 * KiB),
        (32 * MiB, 64, 64 * KiB),
        (32 * MiB, 4, MiB),
        (MiB, 8, 16 * KiB),
        (1, 1, 16 * KiB),
    ],
)
def test_all_lanes_together_own_an_eighth_of_the_memory(memory: int, lanes: int, chunk: int) -> None:
    assert Sizing(memory=memory).chunk(lanes) == chunk


def test_parts_that_must_come_in_order_have_one_lane_a_file() -> None:
    tasks = [Task(ModelFile(path, 100, "v"), Cut(100, PART, in_order=True)) for path in ("a", "b")]
    lanes = Lanes(Sizing(lanes=8, files=8), tasks)
    assert [lanes.draw() for _ in range(3)] == ["a", "b", None]
    window = lanes.flight("a").window
    assert window is not None
    window.turn = 1  # all of the first part is hashed, but it is not at the destination yet
    assert lanes.draw() is None
    lanes.leave("a")
    assert lanes.draw() == "a"
