"""Runs that are killed at random steps of a copy, and run again until they are done.

Steps are requests, bytes or changes of a file system, never seconds, so that a seed repeats them as far as threads do.
`SYNCER_KILL_POINTS` says how many for each destination, `SYNCER_KILL_SEED` which (docs/reliability.md).
"""

import fcntl
import json
import os
import random
import shutil
import signal
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.buckets import S3Server
from tests.support.docker_registry import running_registry
from tests.support.famine import Famine, famine
from tests.support.kill_places import BucketPlace, FolderPlace, ImagePlace, Place
from tests.support.kill_site import IN_FLIGHT, MODEL, SIZE, SMALL_TALK, Death, MiB, Point, Site
from tests.support.processes import Ended, Pod
from tests.support.rados_gateway import RadosGateway
from tests.support.small_volumes import failing_volume, fill_up, small_volume
from tests.support.tripwire import Changes, Relay, Tripwire, Unit

pytestmark = pytest.mark.real

POINTS = int(os.environ.get("SYNCER_KILL_POINTS", "8"))
SEED = os.environ.get("SYNCER_KILL_SEED", "1")
KINDS = ("bucket", "folder", "image")
BUSY = 300 + 20 * POINTS
"""Seconds that a test of so many points may take where eight others want the same two cores."""


@pytest.fixture(scope="module")
def server(rgw: RadosGateway) -> S3Server:
    return rgw.server()


@pytest.fixture(scope="module")
def source(server: S3Server) -> str:
    bucket = server.new_bucket("source")
    server.fill(bucket, MODEL, prefix="m/")
    return bucket


@pytest.fixture
def make_site(server: S3Server, source: str, tmp_path: Path, pod: Pod) -> Iterator[Callable[[str], Site]]:
    with ExitStack() as running:

        def make(kind: str) -> Site:
            wire = Tripwire()
            near = running.enter_context(Relay(wire, *server.address))
            place: Place
            if kind == "bucket":
                place = BucketPlace(server, running.enter_context(Relay(wire, *server.address)))
            elif kind == "folder":
                place = FolderPlace(tmp_path / "volume", Changes(tmp_path / "hook"))
            else:
                if shutil.which("docker-registry") is None:
                    pytest.skip("docker-registry is not installed")
                folder = tmp_path / "registry"
                folder.mkdir()
                registry = running.enter_context(running_registry(folder))
                host, _, port = registry.authority.partition(":")
                place = ImagePlace(registry, running.enter_context(Relay(wire, host, int(port))))
            environment = server.source_environment(source, "m/", endpoint=f"http://127.0.0.1:{near.port}")
            return Site(place, wire, near, pod, server, environment)

        yield make


def points_of(kind: str, units: tuple[Unit, ...], number: int, deaths: dict[Death, float]) -> list[Point]:
    """As many as are wanted, evenly spread over a run, in no order; of each death its share."""
    numbers = random.Random(f"{SEED} {kind}")
    found = [
        Point(
            units[index % len(units)],
            (index + numbers.random()) / number,
            numbers.choices(list(deaths), list(deaths.values()))[0],
            numbers.random() < 0.5,
        )
        for index in range(number)
    ]
    numbers.shuffle(found)
    return found


@pytest.mark.timeout(BUSY)
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_may_be_killed_anywhere(kind: str, make_site: Callable[[str], Site]) -> None:
    site = make_site(kind)
    site.measure()
    tell(kind, kill(kind, site, points_of(kind, site.place.units, POINTS, {"killed": 0.6, "terminated": 0.4})))


@pytest.mark.timeout(BUSY)
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_may_be_out_of_memory_anywhere(kind: str, make_site: Callable[[str], Site]) -> None:
    """The kernel kills it then, at the next page that it wants: a pod that reaches its limit.

    Until then it goes on, so that what was on the wire arrives.
    """
    with famine() as hunger:
        site = make_site(kind)
        site.measure()
        points = points_of(kind, site.place.units, max(2, POINTS // 4), {"starved": 1.0})
        tell(kind, kill(kind, site, [replace(point, late=True) for point in points], hunger))
        assert hunger.kills


def kill(kind: str, site: Site, points: list[Point], hunger: Famine | None = None) -> list[tuple[int, int, int]]:
    """At all points, some of them on the way to one and the same model; see `run_until_done` for what comes back."""
    numbers = random.Random(f"{SEED} {kind} rounds")
    twice: list[tuple[int, int, int]] = []
    while points:
        chain = [points.pop() for _ in range(min(len(points), numbers.randint(1, 4)))]
        kills, read, sent = run_until_done(site, chain, hunger)
        if kills:
            twice.append((kills, read, sent))
    return twice


def run_until_done(site: Site, chain: list[Point], hunger: Famine | None) -> tuple[int, int, int]:
    """How many runs were caught, and what was read and sent twice for that, in bytes."""
    site.anew()
    story: list[str] = []
    caught = runs = 0
    ended: Ended | None = None
    try:
        for point in chain:
            ended, held = site.attempt(point, hunger)
            runs += 1
            story.append(f"{point} caught at {held or 'nothing'}: {ended.code}")
            caught += bool(held)
            assert ended.code in (point.codes if held else {0}), ended
            sealed = site.place.look(MODEL)
            assert sealed or ended.code
        if ended is None or ended.code:
            site.wire.reset()
            ended = site.pod.run(site.environment)
            runs += 1
            assert ended.code == 0, ended
        site.place.check(MODEL, caught=caught)
        assert site.place.seals() == 1
        read = max(0, site.near.down_bytes - site.near_whole)
        sent = max(0, (site.place.sent() or 0) - site.sent_whole)
        assert max(read, sent) <= caught * IN_FLIGHT + runs * SMALL_TALK, (read, sent)
    except BaseException as error:
        error.add_note(f"seed {SEED}, {POINTS} points: " + "\n".join(story))
        raise
    print("\n".join(story), f"\n    read twice {read / MiB:.2f} MiB, sent twice {sent / MiB:.2f} MiB")
    return caught, read, sent


def tell(kind: str, twice: list[tuple[int, int, int]]) -> None:
    """The distribution of what a kill costs, for `-s`."""
    kills = sum(kills for kills, _, _ in twice)
    for name, costs in (("read", [read / k for k, read, _ in twice]), ("sent", [sent / k for k, _, sent in twice])):
        deciles = statistics.quantiles(costs, n=10, method="inclusive") if len(costs) > 1 else costs
        shown = " ".join(f"{cost / MiB:.1f}" for cost in (min(costs), *deciles, max(costs)))
        print(
            f"{kind}: {kills} kills, of {SIZE / MiB:.0f} MiB {name} twice for each (least, deciles, most): {shown} MiB"
        )


@pytest.mark.parametrize("kind", KINDS)
def test_two_jobs_at_once_leave_one_model(kind: str, make_site: Callable[[str], Site], tmp_path: Path) -> None:
    """A bucket or volume has a lease, which the second does not get; an image that is there already is kept."""
    site = make_site(kind)
    site.anew()
    (tmp_path / "other").mkdir()
    other = Pod(tmp_path / "other")
    with Relay(Tripwire(), *site.server.address) as straight:
        environment = site.environment | {
            "S3_SYNC_SRC__ENDPOINT": f"http://127.0.0.1:{straight.port}",
            "S3_SYNC_WAIT_FOR_DESTINATION": "1s",
        }
        # The first is silent in the middle of its source; its lease, where there is one, goes on.
        site.wire.only = site.near
        site.wire.set_at("bytes", SIZE // 2)
        first = site.start_until_caught()
        assert site.wire.held
        second = other.run(environment)
        assert site.place.look(MODEL) == (kind == "image")
        site.wire.release(late=True)
        ended = site.pod.end(first)
        assert (ended.code, second.code) == (0, 0 if kind == "image" else 69), f"{ended}\n{second}"
        site.place.check(MODEL, caught=0)
        again = other.run(environment)
        assert (again.code, again.termination["copied_bytes"]) == (0, 0), again
        site.place.check(MODEL, caught=0)
        assert site.place.seals() == 1


@pytest.mark.parametrize("kind", ["bucket", "folder"])
def test_a_run_that_was_suspended_for_long_loses_its_destination(
    kind: str, make_site: Callable[[str], Site], tmp_path: Path
) -> None:
    """A node that sleeps: the second run takes over and seals, and the first touches nothing when it wakes up."""
    site = make_site(kind)
    site.anew()
    site.wire.only = site.near
    site.wire.set_at("bytes", SIZE // 2)
    (tmp_path / "impatience").mkdir()
    hasty = impatience(tmp_path / "impatience")
    first = site.start_until_caught(hasty)
    assert site.wire.held
    with between_writes(site.place):
        first.send_signal(signal.SIGSTOP)
        os.waitpid(first.pid, os.WUNTRACED)
    site.wire.release(late=True)
    (tmp_path / "other").mkdir()
    second = Pod(tmp_path / "other").run(site.environment | hasty)
    assert second.code == 0, second
    assert "took the lease over from" in second.output
    site.place.check(MODEL, caught=1)
    there = site.place.state()
    first.send_signal(signal.SIGCONT)
    ended = site.pod.end(first)
    assert (ended.code, ended.termination["message"]) == (69, "another run has taken this destination over"), ended
    # What was on its way when the run was suspended arrives when it wakes up: a note of a file that was done, perhaps.
    there, now = (
        {path: told for path, told in it.items() if not path.startswith(".syncer/state/")}
        for it in (there, site.place.state())
    )
    if kind == "folder":
        # What it had in memory it may write once more into a file that the second has gone on with: the same bytes, at
        # the same places, as only parts of the same version of a source's file are gone on with.
        there, now = (
            {path: (told[0] * (path not in MODEL), told[1]) for path, told in it.items()} for it in (there, now)
        )
    assert now == there
    for _ in range(3):  # a server may take its time with such a note, even until the next run is over
        again = site.pod.run(site.environment)
        assert again.code == 0, again
        if not any(path.startswith(".syncer/state/") for path in site.place.state()):
            break
    site.place.check(MODEL, caught=1)


@contextmanager
def between_writes(place: Place) -> Iterator[None]:
    """A moment in which nobody writes a control file: who is suspended in the middle of that keeps a folder's lock."""
    with ExitStack() as opened:
        if isinstance(place, FolderPlace):
            lock = opened.enter_context((place.folder / ".syncer/state/lock").open("rb"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def impatience(folder: Path) -> dict[str, str]:
    """A program that takes a silent holder's lease after two seconds instead of twenty."""
    (folder / "sitecustomize.py").write_text("import syncer.lease\nsyncer.lease.SILENCE_SECONDS = 2.0\n")
    return {"PYTHONPATH": f"{folder}:{Path(__file__).parents[2]}", "PYTHONDONTWRITEBYTECODE": "1"}


def test_what_was_resumed_is_read_back_once(make_site: Callable[[str], Site]) -> None:
    """What a killed run has sent of a file, no later run has seen on its way."""
    site = make_site("bucket")
    assert isinstance(site.place, BucketPlace)
    site.anew()
    site.wire.set_on(r"^POST .*[?&]uploadId=")  # all parts of a file are there, and it is not
    first = site.start_until_caught()
    first.kill()
    first.wait()
    site.wire.release(late=False)
    assert site.pod.end(first).code == -9
    site.place.relay.reset()
    site.near.reset()
    ended = site.pod.run(site.environment)
    assert ended.code == 0, ended
    site.place.check(MODEL, caught=1)
    _, manifest = site.place.state()[".syncer/manifest.json"]
    proved = json.loads(manifest)["files"]
    read_back = sum(each["size"] for each in proved if each["proved_by"] == "readback")
    assert read_back >= 6 * MiB
    assert read_back <= site.place.relay.down_bytes <= read_back + SMALL_TALK
    assert site.near.down_bytes <= SIZE - 6 * MiB + SMALL_TALK


def test_a_volume_that_fills_up_is_73_and_goes_on_once_there_is_room(
    make_site: Callable[[str], Site], tmp_path: Path
) -> None:
    mount = tmp_path / "volume"
    with small_volume(mount, "60m"):
        site = make_site("folder")
        site.anew()
        site.wire.set_at("bytes", SIZE // 2)
        process = site.start_until_caught()
        fill_up(mount / "others")
        site.wire.release(late=True)
        ended = site.pod.end(process)
        assert (ended.code, ended.termination["reason"]) == (73, "OutOfSpace"), ended
        assert not site.place.look(MODEL)
        ended = site.pod.run(site.environment)
        assert ended.code == 73, ended  # still no room
        (mount / "others").unlink()
        ended = site.pod.run(site.environment)
        assert ended.code == 0, ended
        site.place.check(MODEL, caught=0)
        assert site.near.down_bytes <= SIZE + IN_FLIGHT + 3 * SMALL_TALK


def test_a_volume_that_becomes_read_only_is_77_and_goes_on_once_it_is_repaired(
    make_site: Callable[[str], Site], tmp_path: Path
) -> None:
    """What the kernel does with a file system that has an error: files that are open cannot be written either."""
    with failing_volume(tmp_path, tmp_path / "volume", 120 * MiB) as volume:
        site = make_site("folder")
        site.anew()
        site.wire.set_at("bytes", SIZE // 2)
        process = site.start_until_caught()
        volume.fail()
        site.wire.release(late=True)
        ended = site.pod.end(process)
        for again in (ended, site.pod.run(site.environment)):
            assert (again.code, again.termination["reason"]) == (77, "CredentialsRefused"), again
            assert "read-only" in again.termination["hint"], again
            assert "Traceback" not in again.output
        assert not site.place.look(MODEL)
        volume.repair()
        ended = site.pod.run(site.environment)
        assert ended.code == 0, ended
        site.place.check(MODEL, caught=1)
        assert site.near.down_bytes <= SIZE + IN_FLIGHT + 3 * SMALL_TALK
