"""One run at a time: waiting, taking over, beating, losing."""

import json
import math
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from syncer.errors import DeadlinePassed, Interrupted, NotThereYet, Transient
from syncer.lease import LEASE, SILENCE_SECONDS, Holder, Lease, process_started, this_host
from syncer.stop import StopSwitch
from syncer.stores.protocols import ControlConflict
from tests.support.memory_store import MemoryControl, MemoryVolume

ELSEWHERE = Holder(identity="other", host="another-boot/pid:[1]", pid=1, started="5", name="other-pod")


class World:
    """A control folder, and a clock that moves when somebody waits; `events` happen at their second."""

    def __init__(self, *, conditional: bool = True) -> None:
        self.volume = MemoryVolume()
        self.control = MemoryControl(self.volume, "model/.syncer/", supports_conditions=conditional)
        self.stop = StopSwitch()
        self.now = 0.0
        self.events: dict[float, Callable[[], object]] = {}
        self.told: list[str] = []

    def clock(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds
        for second in sorted(self.events):
            if second <= self.now:
                self.events.pop(second)()

    def lease(self, control: MemoryControl | None = None, **changes: object) -> Lease:
        lease = Lease(
            control or self.control,
            self.stop,
            patience=60.0,
            told=self.told.append,
            clock=self.clock,
            pause=self.pause,
        )
        return replace(lease, **changes)  # type: ignore[arg-type]  # fields of Lease

    def held_by(self, holder: Holder, *, beat: int = 0) -> None:
        self.control.write(
            LEASE,
            json.dumps(
                {
                    "holder": holder.identity,
                    "host": holder.host,
                    "pid": holder.pid,
                    "started": holder.started,
                    "name": holder.name,
                    "beat": beat,
                }
            ).encode(),
        )

    def holder(self) -> str | None:
        found = self.control.read(LEASE)
        return None if found is None else str(json.loads(found[0]).get("holder"))


@pytest.fixture(params=[True, False], ids=["conditional", "plain"])
def world(request: pytest.FixtureRequest) -> World:
    return World(conditional=request.param)


def test_a_free_place_is_taken_at_once_and_left_clean(world: World) -> None:
    with world.lease() as lease:
        assert world.holder() == lease.holder.identity
        assert world.now <= 1.0, "a store without conditional writes needs a second look, nothing else waits"
    assert world.holder() is None
    assert not [thread for thread in threading.enumerate() if thread.name == "lease"]


def test_who_was_replaced_hears_of_it_before_what_cannot_be_taken_back(world: World) -> None:
    with world.lease() as lease:
        lease.confirm()
        world.held_by(ELSEWHERE)
        with pytest.raises(NotThereYet, match="taken this destination over"):
            lease.confirm()
    assert world.stop.thrown
    assert world.holder() == "other"


def test_a_stopped_run_does_not_seal(world: World) -> None:
    with world.lease() as lease:
        world.stop.throw(Interrupted())
        with pytest.raises(Interrupted):
            lease.confirm()


def test_the_lease_says_who_holds_it(world: World) -> None:
    with world.lease():
        document = json.loads((world.control.read(LEASE) or (b"", ""))[0])
    assert (document["pid"], document["host"]) == (os.getpid(), this_host())
    assert document["started"] == process_started(os.getpid()) != ""


def test_a_second_run_waits_until_the_first_has_ended(world: World) -> None:
    world.held_by(ELSEWHERE)
    world.events = {float(second): partial(world.held_by, ELSEWHERE, beat=second) for second in range(5, 30, 5)}
    world.events[31.0] = lambda: world.control.remove(LEASE)
    with world.lease() as lease:
        assert world.holder() == lease.holder.identity
        assert 31.0 <= world.now <= 33.0
    begun, ended = world.told
    assert "(other-pod, process 1)" in begun
    assert "waiting for 60 s at most" in begun
    assert "(other-pod, process 1) has ended after 3" in ended


def test_patience_ends_with_the_holders_name(world: World) -> None:
    world.held_by(ELSEWHERE)
    world.events = {float(second): partial(world.held_by, ELSEWHERE, beat=second) for second in range(5, 100, 5)}
    with pytest.raises(NotThereYet, match=r"other-pod, process 1\b") as caught, world.lease():
        pytest.fail("another run holds it")
    assert caught.value.exit_code == os.EX_UNAVAILABLE
    assert caught.value.hint.endswith("S3_SYNC_WAIT_FOR_DESTINATION says how long to wait for it")
    assert 60.0 <= world.now <= 62.0
    assert world.holder() == "other"
    assert len(world.told) == 1, "told once, however long it takes"


def test_without_an_end_to_the_patience_a_holder_that_beats_is_waited_for(world: World) -> None:
    world.held_by(ELSEWHERE)
    world.events = {float(second): partial(world.held_by, ELSEWHERE, beat=second) for second in range(15, 3000, 15)}
    with world.lease(patience=math.inf):
        assert world.now >= 2985.0 + SILENCE_SECONDS
    assert world.told[0].endswith("waiting until it ends, or is silent for 20 s")


def test_a_patience_too_short_to_replace_a_silent_run_says_so(world: World) -> None:
    world.held_by(ELSEWHERE)
    with pytest.raises(NotThereYet) as caught, world.lease(patience=10.0):
        pytest.fail("another run holds it")
    assert "waiting for 10 s, which is too short" in world.told[0]
    assert "S3_SYNC_WAIT_FOR_DESTINATION" in caught.value.hint
    assert "from 20s on" in caught.value.hint


def test_a_deadline_says_what_was_waited_for(world: World) -> None:
    world.stop = StopSwitch(deadline=10.0, clock=world.clock)
    world.held_by(ELSEWHERE)
    with pytest.raises(DeadlinePassed, match=r"has passed while it waited for another run \(other-pod, process 1\)"):
        world.lease()._acquire()


def test_without_patience_one_look_is_enough(world: World) -> None:
    world.held_by(ELSEWHERE)
    with pytest.raises(NotThereYet, match="other-pod"), world.lease(patience=0.0):
        pytest.fail("another run holds it")
    assert world.now == 0.0


def test_a_stop_ends_the_waiting(world: World) -> None:
    world.held_by(ELSEWHERE)
    world.events = {3.0: lambda: world.stop.throw(Interrupted())}
    with pytest.raises(Interrupted), world.lease():
        pytest.fail("another run holds it")
    assert world.now < 5.0


def test_a_silent_holder_is_replaced_after_twenty_seconds_and_not_before(world: World) -> None:
    world.held_by(ELSEWHERE)
    with world.lease() as lease:
        assert SILENCE_SECONDS <= world.now <= SILENCE_SECONDS + 2
        assert world.holder() == lease.holder.identity
    assert "waiting" in world.told[0]
    assert "took the lease over from other-pod" in world.told[1]


def test_every_beat_starts_the_silence_anew(world: World) -> None:
    world.held_by(ELSEWHERE)
    world.events = {19.0: lambda: world.held_by(ELSEWHERE, beat=1)}
    with world.lease():
        assert 19.0 + SILENCE_SECONDS <= world.now <= 19.0 + SILENCE_SECONDS + 2


def test_a_dead_process_of_this_host_is_replaced_at_once(world: World) -> None:
    world.held_by(Holder(identity="dead", pid=os.getpid(), started="1", name="here"))
    with world.lease() as lease:
        assert world.holder() == lease.holder.identity
        assert world.now <= 1.0
    assert "here" in world.told[0]


def test_what_an_earlier_attempt_of_the_run_left_is_taken_at_once(world: World) -> None:
    first = world.lease()
    first._acquire()
    world.lease(holder=first.holder, patience=0.0)._acquire()
    assert world.holder() == first.holder.identity
    assert world.told == []


def test_a_living_process_of_this_host_is_not(world: World) -> None:
    world.held_by(Holder(identity="alive"))
    with pytest.raises(NotThereYet), world.lease(patience=10.0):
        pytest.fail("another run holds it")
    assert world.holder() == "alive"


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"pid": "x", "holder": 5}'], ids=repr)
def test_a_lease_that_cannot_be_understood_is_waited_for_like_a_silent_one(world: World, data: bytes) -> None:
    world.control.write(LEASE, data)
    with world.lease():
        assert SILENCE_SECONDS <= world.now <= SILENCE_SECONDS + 2


def test_somebody_elses_lease_is_not_removed_at_the_end(world: World) -> None:
    with world.lease():
        world.held_by(ELSEWHERE)
    assert world.holder() == "other"


def test_a_lease_that_cannot_be_removed_does_not_fail_the_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise Transient("no")

    with world.lease():
        monkeypatch.setattr(world.control, "remove", refuse)


# Races --------------------------------------------------------------------------------------------------------------


class Racing(MemoryControl):
    """Just before the first write, somebody else's arrives."""

    def __init__(self, world: World, then: Callable[[], object]) -> None:
        super().__init__(world.volume, "model/.syncer/", supports_conditions=world.control.supports_conditions)
        self.then: Callable[[], object] | None = then

    def write(self, name: str, data: bytes, *, expected: str | None = None) -> str:
        then, self.then = self.then, None
        if then is not None:
            then()
        return super().write(name, data, expected=expected)


def test_a_lost_race_is_lost_and_names_the_winner() -> None:
    world = World()
    racing = Racing(world, lambda: world.held_by(ELSEWHERE))
    with pytest.raises(NotThereYet, match="other-pod"), world.lease(racing, patience=0.0):
        pytest.fail("the other run was faster")
    assert world.holder() == "other"


def test_a_lost_takeover_is_lost() -> None:
    world = World()
    winner = replace(ELSEWHERE, identity="winner")
    world.held_by(ELSEWHERE)
    racing = Racing(world, lambda: world.held_by(winner))
    with pytest.raises(NotThereYet), world.lease(racing, patience=SILENCE_SECONDS + 5):
        pytest.fail("the other run was faster")
    assert world.holder() == "winner"


def test_without_conditional_writes_the_last_writer_wins_and_the_other_sees_it() -> None:
    world = World(conditional=False)
    world.events = {0.5: lambda: world.held_by(ELSEWHERE)}
    with pytest.raises(NotThereYet, match="other-pod"), world.lease(patience=5.0):
        pytest.fail("the other run wrote last")
    assert world.holder() == "other"


def test_a_store_that_always_says_conflict_is_not_asked_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()

    def refuse(name: str, data: bytes, *, expected: str | None = None) -> str:
        raise ControlConflict(name)

    monkeypatch.setattr(world.control, "write", refuse)
    with pytest.raises(NotThereYet), world.lease():
        pytest.fail("it cannot be had")
    assert world.volume.requests["control"] < 300


class LosingAnswers(MemoryControl):
    """Every write with a condition arrives, but is repeated by the SDK as if it had not: the repetition conflicts."""

    def write(self, name: str, data: bytes, *, expected: str | None = None) -> str:
        super().write(name, data, expected=expected)
        raise ControlConflict(name)


def test_our_own_write_whose_answer_was_lost_is_ours() -> None:
    world = World()
    with world.lease(LosingAnswers(world.volume, "model/.syncer/")) as lease:
        assert world.now == 0.0
        lease._beat()
        lease._beat()
        assert not world.stop.thrown
        assert world.holder() == lease.holder.identity
    assert world.holder() is None


def test_after_a_lost_answer_beats_arrive_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the version of before, no later beat would, and the lease would look silent to others."""
    world = World()
    lease = world.lease()
    lease._acquire()
    losing = LosingAnswers(world.volume, "model/.syncer/")
    with monkeypatch.context() as patch:
        patch.setattr(lease, "control", losing)
        lease._beat()
    lease._beat()
    assert b'"beat": 2' in (world.control.read(LEASE) or (b"", ""))[0]
    assert not world.stop.thrown


# Beats --------------------------------------------------------------------------------------------------------------


class Beats:
    """Plays the keeper's clock: so many beats, then the end."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.pauses: list[float] = []

    def wait(self, seconds: float) -> bool:
        self.pauses.append(seconds)
        self.left -= 1
        return self.left < 0

    def set(self) -> None:
        pass

    def is_set(self) -> bool:
        return self.left < 0


def keep(lease: Lease, beats: int) -> list[float]:
    """Run the keeper for so many beats in this thread."""
    over = Beats(beats)
    lease._over = over  # type: ignore[assignment]  # a clock for tests
    lease._keep()
    return over.pauses


def test_each_beat_changes_the_file_and_keeps_the_lease(world: World) -> None:
    seen: list[bytes | None] = []
    lease = world.lease(every_beat=lambda: seen.append((world.control.read(LEASE) or (None, ""))[0]))
    lease._acquire()
    assert keep(lease, 4) == [5.0] * 5
    assert len(set(seen)) == 4
    assert world.holder() == lease.holder.identity
    assert not world.stop.thrown


def test_a_failed_beat_is_told_and_the_next_one_counts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = world.lease()
    lease._acquire()
    whole = world.control.write

    def fail(name: str, data: bytes, *, expected: str | None = None) -> str:
        monkeypatch.setattr(world.control, "write", whole)
        raise Transient("busy")

    monkeypatch.setattr(world.control, "write", fail)
    keep(lease, 2)
    assert world.told == ["the lease could not be renewed: busy"]
    assert not world.stop.thrown
    assert b'"beat": 2' in (world.control.read(LEASE) or (b"", ""))[0]


def test_what_goes_with_a_beat_cannot_cost_it(world: World) -> None:
    def fail() -> None:
        raise Transient("the journal is full")

    lease = world.lease(every_beat=fail)
    lease._acquire()
    keep(lease, 3)
    assert len(world.told) == 3
    assert b'"beat": 3' in (world.control.read(LEASE) or (b"", ""))[0]


@pytest.mark.parametrize("gone", [False, True], ids=["taken", "removed"])
def test_a_run_whose_lease_was_taken_stops(world: World, gone: bool) -> None:
    lease = world.lease()
    lease._acquire()
    if gone:
        world.control.remove(LEASE)
    else:
        world.held_by(ELSEWHERE)
    keep(lease, 1)
    assert isinstance(world.stop.error, NotThereYet)
    assert world.holder() == (None if gone else "other"), "and it does not take it back"


def test_a_beat_that_comes_behind_the_end_stops_nobody(world: World) -> None:
    # The keeper hung in a request when the run ended, and another attempt of this process has the stop switch now.
    lease = world.lease()
    lease._acquire()
    lease._keeper.start()
    lease.__exit__(None, None, None)
    assert world.holder() is None
    lease._beat()
    assert not world.stop.thrown


# Processes ----------------------------------------------------------------------------------------------------------


def test_a_process_is_known_by_its_number_and_its_start() -> None:
    assert process_started(os.getpid()) == process_started(os.getpid()) != ""
    assert process_started(2**22 + 1) == ""
    assert not Holder().is_gone()
    assert Holder(started="1").is_gone()
    assert Holder(pid=2**22 + 1).is_gone()
    assert not replace(Holder(started="1"), host="elsewhere").is_gone()


def test_a_host_without_a_name_is_never_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object) -> None:
        raise PermissionError("no /proc here")

    monkeypatch.setattr("pathlib.Path.readlink", refuse)
    assert this_host() != this_host()
    assert not Holder(started="1").is_gone()


def test_who_was_silent_for_long_asks_before_it_begins_something_new() -> None:
    world = World()
    with world.lease() as lease:
        world.held_by(ELSEWHERE)
        lease.still_ours()  # a moment later nobody can have taken it
        world.now += SILENCE_SECONDS
        with pytest.raises(NotThereYet, match="taken this destination over"):
            lease.still_ours()
