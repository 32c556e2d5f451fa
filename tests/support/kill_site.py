"""A source behind a relay, a destination, and runs between them that are caught at a chosen step and die there."""

import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tests.support.buckets import S3Server
from tests.support.famine import Famine
from tests.support.kill_places import FolderPlace, Place
from tests.support.models import pattern
from tests.support.processes import Ended, Pod
from tests.support.tripwire import Relay, Tripwire, Unit

MiB = 1 << 20

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

Death = Literal["killed", "terminated", "starved"]
"""SIGKILL, SIGTERM, or the kernel's choice once there is no memory left (a pod's limit)."""

_SIGNALS = {"killed": signal.SIGKILL, "terminated": signal.SIGTERM, "starved": 0}


@dataclass(frozen=True)
class Point:
    """Where a run is caught, how it ends, and whether what was on the wire arrives after its death."""

    unit: Unit
    share: float
    death: Death
    late: bool

    @property
    def codes(self) -> set[int]:
        """How a run that was caught there may end: a signal may come too late for it."""
        return {"killed": {-9}, "terminated": {0, 143}, "starved": {0, -9}}[self.death]


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

    def start_until_caught(self, more: Mapping[str, str] = {}) -> subprocess.Popen[str]:
        """A run that is held now; the wire knows where.  As long as that may take on a busy machine."""
        process = self.pod.start(self.environment | dict(more))
        while not self.wire.caught.wait(0.02) and process.poll() is None:
            pass
        return process

    def attempt(self, point: Point, famine: Famine | None = None) -> tuple[Ended, str]:
        """A run that is caught at the point, if it comes that far; how it ended, and at what it was caught."""
        self.wire.reset()
        at = max(1, round(point.share * self.whole[point.unit]))
        if isinstance(self.place, FolderPlace) and point.unit == "changes":
            group = famine.members if famine is not None else None
            caught = self.place.changes.environment(at, _SIGNALS[point.death], group)
            before = len(self.place.changes.caught)
            ended = self.pod.run(self.environment | caught)
            return ended, "".join(self.place.changes.caught[before:])
        self.wire.set_at(point.unit, at)
        process = self.start_until_caught()
        if not self.wire.caught.is_set():
            return self.pod.end(process), ""
        if famine is not None:
            famine.strike(process.pid)
        else:
            process.send_signal(_SIGNALS[point.death])
        if point.death == "killed":
            process.wait()
        held = self.wire.held
        self.wire.release(late=point.late)
        return self.pod.end(process), held
