"""`wait`: the last phase's gate opens at the right seal, and says why it is still shut."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from syncer import marker, stores
from syncer.errors import (
    ConfigurationError,
    CredentialsRefused,
    DeadlinePassed,
    EndpointUnreachable,
    Interrupted,
    NotThereYet,
    SyncerError,
)
from syncer.gate import Awaited, wait
from syncer.manifest import Origin
from syncer.marker import Seal
from syncer.settings.locations import DirectoryLocation, Settings
from syncer.stop import StopSwitch
from tests.support.memory_store import MemoryDestination, MemoryVolume

SEAL = Seal("sha256:ab", "s3://bucket/model/", "r1", files=1, bytes=1, seconds=1.0, completed_at="2026-01-01")
SETTINGS = Settings(source=None, destination=DirectoryLocation(Path("/nowhere")))


class World(StopSwitch):
    """A stop switch whose pauses move the clock; `events` happen at their second."""

    def __init__(self, **events: Callable[[], object]) -> None:
        self.now = 0.0
        super().__init__(clock=self.clock)
        self.pauses: list[float] = []
        self.events = {float(name.removeprefix("at_")): event for name, event in events.items()}

    def clock(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        for second in sorted(self.events):
            if second <= self.now:
                self.events.pop(second)()


class Place(MemoryDestination):
    """`broken` is what reading a control file raises."""

    def __init__(self) -> None:
        super().__init__(MemoryVolume())
        self.broken: SyncerError | None = None
        whole = self.control.read

        def read(name: str) -> tuple[bytes, str] | None:
            if self.broken is not None:
                raise self.broken
            return whole(name)

        self.control.read = read  # type: ignore[method-assign]  # a fault for tests

    def seal(self, seal: Seal) -> None:
        marker.seal(self.control, seal)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place()
    monkeypatch.setattr(stores, "open_destination", lambda _location, _network: made)
    return made


def await_seal(world: World, awaited: Awaited | None = None, *, deadline: float | None = 100.0) -> Seal:
    [found] = wait(SETTINGS, world, awaited or Awaited(), deadline=deadline, clock=world.clock)
    assert found.digest == found.seal.fingerprint
    return found.seal


def test_a_sealed_destination_is_passed_at_once(place: Place) -> None:
    place.seal(SEAL)
    world = World()
    assert await_seal(world) == SEAL
    assert (world.pauses, place.closed) == ([], True)


def test_the_gate_opens_when_the_seal_comes(place: Place) -> None:
    world = World(at_12=lambda: place.seal(SEAL))
    assert await_seal(world) == SEAL
    assert world.pauses == [5.0, 5.0, 5.0]


def test_no_time_at_all_is_one_look(place: Place) -> None:
    world = World()
    with pytest.raises(NotThereYet, match="not sealed yet"):
        await_seal(world, deadline=0.0)
    assert world.pauses == []
    place.seal(SEAL)
    assert await_seal(World(), deadline=0.0) == SEAL


def test_the_deadline_is_kept_to_the_second_and_says_why(place: Place) -> None:
    world = World()
    with pytest.raises(NotThereYet, match="not sealed yet after 12 s") as caught:
        await_seal(world, deadline=12.0)
    assert caught.value.exit_code == os.EX_UNAVAILABLE
    assert world.pauses == [5.0, 5.0, 2.0]
    assert place.closed


@pytest.mark.parametrize(
    ("awaited", "reason"),
    [
        (Awaited(source="s3://other/"), "of another source, s3://bucket/model/"),
        (Awaited(revision="r2"), "of another revision, r1"),
        (Awaited(source="s3://bucket/model/", revision="r2"), "of another revision, r1"),
    ],
    ids=str,
)
def test_an_old_seal_does_not_pass(place: Place, awaited: Awaited, reason: str) -> None:
    place.seal(SEAL)
    with pytest.raises(NotThereYet, match=reason):
        await_seal(World(), awaited)


@pytest.mark.parametrize(
    "awaited",
    [Awaited(source="s3://bucket/model"), Awaited(revision="r1"), Awaited("s3://bucket/model/", "r1")],
    ids=str,
)
def test_the_right_seal_passes(place: Place, awaited: Awaited) -> None:
    world = World(
        at_1=lambda: place.seal(replace(SEAL, source="s3://old/", revision="r0")), at_7=lambda: place.seal(SEAL)
    )
    assert await_seal(world, awaited) == SEAL


@pytest.mark.parametrize("fault", [EndpointUnreachable("nobody answers"), NotThereYet("no such bucket")], ids=repr)
def test_a_place_that_is_not_there_yet_is_waited_for(place: Place, fault: SyncerError) -> None:
    place.broken = fault
    with pytest.raises(NotThereYet, match=fault.message):
        await_seal(World(), deadline=20.0)
    place.seal(SEAL)
    assert await_seal(World(at_10=lambda: setattr(place, "broken", None))) == SEAL


def test_a_refusal_is_not_waited_for(place: Place) -> None:
    place.broken = CredentialsRefused("wrong secret")
    world = World()
    with pytest.raises(CredentialsRefused):
        await_seal(world)
    assert (world.pauses, place.closed) == ([], True)


def test_a_stop_ends_the_waiting(place: Place) -> None:
    world = World()
    world.events[20.0] = lambda: world.throw(Interrupted())
    with pytest.raises(Interrupted):
        await_seal(world, deadline=None)
    assert world.now == 20.0


def test_the_deadline_of_the_run_counts_too(place: Place) -> None:
    world = World()
    world._deadline = 30.0
    with pytest.raises(DeadlinePassed):
        await_seal(world, deadline=None)
    assert world.now == 30.0


def test_whoever_waits_is_told_why_every_now_and_then(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[dict[str, object]] = []

    class Lines:
        def info(self, event: str, **fields: object) -> None:
            said.append({"event": event} | fields)

    monkeypatch.setattr("syncer.gate.logger", lambda **_fields: Lines())
    with suppress(NotThereYet):
        await_seal(World(), deadline=60.0)
    assert [line["waited_seconds"] for line in said] == [0, 10, 20, 30, 40, 50]
    assert all("not sealed yet" in str(line["reason"]) for line in said)


def test_without_a_destination_there_is_nothing_to_wait_for() -> None:
    with pytest.raises(ConfigurationError, match="no destination"):
        wait(replace(SETTINGS, destination=None), World(), Awaited(), deadline=None)


@pytest.mark.parametrize(
    ("sealed", "asked"),
    [
        ("s3://bucket/model/", "s3a://bucket/model"),
        ("/mnt/source", "file:///mnt/source/"),
        ("file:///mnt/source", "/mnt/source"),
    ],
)
def test_a_source_has_several_spellings(sealed: str, asked: str) -> None:
    assert Awaited(source=asked).why_not(replace(SEAL, source=sealed)) == ""
    assert Awaited(source=asked + "-2").why_not(replace(SEAL, source=sealed)) != ""


def test_a_model_that_came_by_a_volume_is_known_by_its_origin() -> None:
    seal = replace(SEAL, source="/workspace/model", revision="", origin=Origin("hf://owner/name", "c0ffee"))
    for awaited in (
        Awaited(source="hf://owner/name"),
        Awaited(revision="c0ffee"),
        Awaited("hf://owner/name", "c0ffee"),
        Awaited(source="file:///workspace/model"),
    ):
        assert awaited.why_not(seal) == ""
    assert "hf://owner/name" in Awaited(source="hf://owner/other").why_not(seal)
    assert "c0ffee" in Awaited(revision="main").why_not(seal)
    assert Awaited("/workspace/model", "c0ffee").why_not(seal) != ""
