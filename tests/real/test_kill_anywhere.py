"""Runs that are killed at random steps of a copy, and run again until they are done.

Steps are requests, bytes or changes of a file system, never seconds, so that a seed repeats them as far as threads do.
`SYNCER_KILL_POINTS` says how many for each destination, `SYNCER_KILL_SEED` which (CONTRIBUTING.md).
"""

import os
import random
import shutil
import signal
import statistics
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.buckets import S3Server
from tests.support.docker_registry import running_registry
from tests.support.kill_places import BucketPlace, FolderPlace, ImagePlace, Place
from tests.support.models import pattern
from tests.support.processes import Ended, Pod
from tests.support.rados_gateway import RadosGateway
from tests.support.tripwire import Changes, Relay, Tripwire, Unit

pytestmark = pytest.mark.real

POINTS = int(os.environ.get("SYNCER_KILL_POINTS", "8"))
SEED = os.environ.get("SYNCER_KILL_SEED", "1")
MiB = 1 << 20
KINDS = ("bucket", "folder", "image")

# Six files of two parts, two of them under way at once; and small ones, which are noted by the beat, not one by one.
MODEL = {f"model-{number}.safetensors": pattern(6 * MiB + number, number) for number in range(6)} | {
    "config.json": b'{"model_type": "bert"}',
    "tokenizer/vocab.txt": pattern(50_000, 9),
    "empty.txt": b"",
}
SIZE = sum(map(len, MODEL.values()))
SMALL_STEPS = {
    "S3_SYNC_TRANSFER_CONFIG__CHUNK_SIZE": "5MiB",
    "S3_SYNC_TRANSFER_CONFIG__MEMORY": "10MiB",
    "S3_SYNC_TRANSFER_CONFIG__MAX_FILES": "2",
}
IN_FLIGHT = 2 * (6 * MiB + 5)
"""What one kill may cost: two files under way, where no part of them is known to be there (images, volumes)."""
SMALL_TALK = 256 * 1024
"""Control requests and headers of one run, and the small files."""


@dataclass(frozen=True)
class Point:
    """Where a run is caught, how it ends, and whether what was on the wire arrives after its death."""

    unit: Unit
    share: float
    signal: signal.Signals
    late: bool


@dataclass
class Site:
    """A source behind a relay, a place, and what a whole undisturbed run takes."""

    place: Place
    wire: Tripwire
    near: Relay
    pod: Pod
    server: S3Server
    source: dict[str, str]
    whole: dict[str, int] = field(default_factory=dict)
    near_whole: int = 0
    sent_whole: int = 0

    def anew(self) -> None:
        self.place.anew()
        self.near.reset()
        self.wire.reset()

    @property
    def environment(self) -> dict[str, str]:
        return self.source | SMALL_STEPS | self.place.environment()

    def measure(self) -> None:
        """One run that nobody disturbs."""
        self.anew()
        ended = self.pod.run(self.environment)
        assert ended.code == 0, ended
        self.place.check(MODEL, caught=0)
        assert self.place.seals() == 1
        self.whole = dict(self.wire.seen)
        if isinstance(self.place, FolderPlace):
            self.whole |= {"bytes": self.near.down_bytes, "changes": len(self.place.changes.seen)}
        self.near_whole, self.sent_whole = self.near.down_bytes, self.place.sent() or 0

    def attempt(self, point: Point) -> tuple[Ended, str]:
        """A run that is caught at the point, if it comes that far; how it ended, and at what it was caught."""
        self.wire.reset()
        at = max(1, round(point.share * self.whole[point.unit]))
        if isinstance(self.place, FolderPlace) and point.unit == "changes":
            caught = self.place.changes.environment(at, point.signal)
            before = len(self.place.changes.caught)
            ended = self.pod.run(self.environment | caught)
            return ended, "".join(self.place.changes.caught[before:])
        self.wire.set_at(point.unit, at)
        process = self.pod.start(self.environment)
        while not self.wire.caught.wait(0.02) and process.poll() is None:
            pass
        if not self.wire.caught.is_set():
            return self.pod.end(process), ""
        process.send_signal(point.signal)
        if point.signal == signal.SIGKILL:
            process.wait()
        held = self.wire.held
        self.wire.release(late=point.late)
        return self.pod.end(process), held


@pytest.fixture(scope="module")
def server(rgw: RadosGateway) -> S3Server:
    return S3Server(rgw.http_endpoint, access_key=rgw.access_key, secret_key=rgw.secret_key, region=rgw.region)


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


def points_of(kind: str, units: tuple[Unit, ...]) -> list[Point]:
    """As many as are wanted, evenly spread over a run, in no order."""
    numbers = random.Random(f"{SEED} {kind}")
    found = [
        Point(
            units[index % len(units)],
            (index + numbers.random()) / POINTS,
            signal.SIGKILL if numbers.random() < 0.6 else signal.SIGTERM,
            numbers.random() < 0.5,
        )
        for index in range(POINTS)
    ]
    numbers.shuffle(found)
    return found


@pytest.mark.timeout(60 + 10 * POINTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_may_be_killed_anywhere(kind: str, make_site: Callable[[str], Site]) -> None:
    site = make_site(kind)
    site.measure()
    points = points_of(kind, site.place.units)
    numbers = random.Random(f"{SEED} {kind} rounds")
    twice: list[tuple[int, int, int]] = []
    while points:
        chain = [points.pop() for _ in range(min(len(points), numbers.randint(1, 4)))]
        kills, read, sent = run_until_done(site, chain)
        if kills:
            twice.append((kills, read, sent))
    tell(kind, twice)


def run_until_done(site: Site, chain: list[Point]) -> tuple[int, int, int]:
    """How many runs were caught, and what was read and sent twice for that, in bytes."""
    site.anew()
    story: list[str] = []
    caught = runs = 0
    ended: Ended | None = None
    try:
        for point in chain:
            ended, held = site.attempt(point)
            runs += 1
            story.append(f"{point} caught at {held or 'nothing'}: {ended.code}")
            caught += bool(held)
            expected = {0} if not held else {-9} if point.signal == signal.SIGKILL else {0, 143}
            assert ended.code in expected, ended
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
        first = site.pod.start(site.environment)
        assert site.wire.caught.wait(60)
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


def fill_up(path: Path) -> None:
    """Take all the room there is; the run may still be writing what it had read, so the rest is not known before."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(64 * 1024))


def test_a_volume_that_fills_up_is_73_and_goes_on_once_there_is_room(
    make_site: Callable[[str], Site], tmp_path: Path
) -> None:
    mount = tmp_path / "volume"
    mount.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60m", "none", mount], check=False).returncode
    ):
        pytest.skip("only root can mount a small volume")
    try:
        site = make_site("folder")
        site.anew()
        site.wire.set_at("bytes", SIZE // 2)
        process = site.pod.start(site.environment)
        assert site.wire.caught.wait(60)
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
    finally:
        subprocess.run(["umount", "--lazy", mount], check=True)
