"""Which file the next lane works on: large ones first, small ones beside them, never more at once than was set."""

import pytest

from syncer.flight import Flight, Task
from syncer.manifest import ModelFile
from syncer.memory import MiB
from syncer.schedule import LANES, MEMORY, Schedule, Sizing
from syncer.stores.protocols import Cut

PART = 10


def task(path: str, size: int) -> Task:
    return Task(ModelFile(path, size, "v"), Cut(size, PART))


class Lanes:
    """Plays the engine: each `draw` is one lane that comes free, `park` one that finds no more on its flight."""

    def __init__(self, sizing: Sizing, tasks: list[Task], *, relayed: frozenset[str] = frozenset()) -> None:
        self.schedule = Schedule(sizing, tasks)
        self.relayed = relayed

    def draw(self) -> str | None:
        choice = self.schedule.choose()
        if choice is None:
            return None
        if isinstance(choice, Task):
            flight = Flight(choice, relayed=choice.file.path in self.relayed)
            self.schedule.start(flight)
            flight.undrawn.extend(range(choice.cut.count))
        else:
            flight = choice
        flight.lanes += 1
        flight.undrawn.popleft()
        return flight.task.file.path

    def done(self) -> bool:
        return self.schedule.done

    def end(self, path: str, *, instead: Task | None = None) -> None:
        (flight,) = [flight for flight in self.schedule.flights if flight.task.file.path == path]
        self.schedule.end(flight, instead=instead)

    def flight(self, path: str) -> Flight:
        (flight,) = [flight for flight in self.schedule.flights if flight.task.file.path == path]
        return flight


def test_small_files_go_beside_large_ones_and_the_biggest_go_first() -> None:
    small = [task(f"small-{size}", size) for size in range(1, 10)]
    large = [task(f"large-{size}", size) for size in range(100, 150, 10)]
    lanes = Lanes(Sizing(lanes=8, files=8), [*small, *large])
    assert [lanes.draw() for _ in range(8)] == [
        *("small-9", "small-8"),  # a quarter of the lanes
        *("large-140", "large-130", "large-120", "large-110", "large-100"),
        "large-140",  # no large one is left to start: more lanes for those under way
    ]


def test_small_files_have_all_lanes_when_nothing_else_is_left() -> None:
    lanes = Lanes(Sizing(lanes=8, files=8), [task(f"{n}", 1) for n in range(9)])
    assert len({lanes.draw() for _ in range(8)}) == 8
    assert lanes.draw() is None, "eight files are under way already"
    lanes.end("0")
    assert lanes.draw() == "8"


def test_one_file_has_all_lanes() -> None:
    lanes = Lanes(Sizing(lanes=8, files=8, lanes_per_file=8), [task("large", 100)])
    assert [lanes.draw() for _ in range(8)] == ["large"] * 8
    assert lanes.schedule.choose() is None


def test_no_more_files_at_once_than_was_set() -> None:
    lanes = Lanes(Sizing(lanes=8, files=2), [task("a", 30), task("b", 20), task("c", 20), task("d", 1)])
    assert [lanes.draw() for _ in range(5)] == ["d", "a", "a", "a", None]
    lanes.end("d")
    assert lanes.draw() == "b"


def test_no_more_lanes_on_one_file_than_was_set() -> None:
    lanes = Lanes(Sizing(lanes=8, files=8, lanes_per_file=3), [task("a", 100), task("b", 100)])
    drawn = [lanes.draw() for _ in range(7)]
    assert (drawn.count("a"), drawn.count("b"), drawn.count(None)) == (3, 3, 1)


def test_a_relayed_file_has_one_lane() -> None:
    lanes = Lanes(Sizing(), [task("a", 100)], relayed=frozenset({"a"}))
    assert [lanes.draw(), lanes.draw()] == ["a", None]
    lanes.flight("a").lanes -= 1
    assert lanes.draw() == "a"


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


@pytest.mark.parametrize(
    ("max_files", "max_threads", "memory", "expected"),
    [
        (None, None, None, Sizing(LANES, LANES, LANES, MEMORY)),
        (5, None, None, Sizing(LANES, 5, LANES, MEMORY)),
        (None, 3, None, Sizing(LANES, LANES, 3, MEMORY)),
        (2, 2, None, Sizing(LANES, 2, 2, MEMORY)),
        (5, 4, 128 * MiB, Sizing(20, 5, 4, 128 * MiB)),
        (1000, 1000, None, Sizing(64, 1000, 1000, MEMORY)),
        (32, None, None, Sizing(LANES, 32, LANES, MEMORY)),
    ],
)
def test_sizing_follows_the_legacy_knobs_within_reason(
    max_files: int | None, max_threads: int | None, memory: int | None, expected: Sizing
) -> None:
    assert Sizing.choose(max_files=max_files, max_threads_per_file=max_threads, memory=memory) == expected


def test_parts_that_must_come_in_order_have_one_lane_a_file() -> None:
    tasks = [Task(ModelFile(path, 100, "v"), Cut(100, PART, in_order=True)) for path in ("a", "b")]
    lanes = Lanes(Sizing(lanes=8, files=8), tasks)
    assert [lanes.draw() for _ in range(3)] == ["a", "b", None]
    lanes.flight("a").lanes -= 1
    assert lanes.draw() == "a"
