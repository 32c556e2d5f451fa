"""An engine between two stores in memory, without patience and with everything counted, for tests of the engine."""

import hashlib
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from syncer.errands import CopyErrand
from syncer.flight import Task
from syncer.journal import Journal
from syncer.manifest import DigestName
from syncer.memory import Buffer, MemoryBudget
from syncer.plan import cut_file
from syncer.progress import Progress
from syncer.retry import Patience
from syncer.schedule import Sizing
from syncer.stop import StopSwitch
from syncer.stores.protocols import Destination, Limits, Source
from syncer.transfer import Engine
from tests.support.memory_store import MemoryDestination, MemorySource, MemoryVolume

KiB = 1024
LIMITS = Limits(most_parts=10_000)


def pattern(size: int, seed: int = 0) -> bytes:
    """Bytes in which every part differs from every other."""
    return random.Random(seed).randbytes(size)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class WatchedBudget(MemoryBudget):
    """Remembers the most that was held, idle buffers included."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.most = 0

    def reserve(self, size: int) -> Buffer | None:
        buffer = super().reserve(size)
        with self._lock:
            self.most = max(self.most, self.reserved + self._idle_bytes)
        return buffer


@dataclass
class Bench:
    """Both ends and an engine between them; replace what a test wants to injure, then `carry`."""

    part: int = 64 * KiB
    sizing: Sizing = field(default_factory=Sizing)
    stop: StopSwitch = field(default_factory=StopSwitch)
    clock: Callable[[], float] | None = None
    limits: Limits = LIMITS

    def __post_init__(self) -> None:
        self.here = MemoryVolume()
        self.there = MemoryVolume()
        self.source: Source = MemorySource(self.here)
        self.destination: Destination = MemoryDestination(self.there, limits=self.limits)
        self.pauses: list[float] = []
        self.progress = Progress(total_bytes=0, total_files=0)
        self.patience = Patience(seconds=300.0, clock=lambda: sum(self.pauses), sleep=self.pauses.append)
        self.errand: CopyErrand | None = None
        self.budget = WatchedBudget(self.sizing.memory)

    def fill(self, files: Mapping[str, bytes]) -> None:
        self.here.fill("model/", dict(files))

    def task(self, path: str, *, resume: str = "", digests: Mapping[DigestName, str] | None = None) -> Task:
        (task,) = [task for task in self.tasks() if task.file.path == path]
        return replace(task, file=replace(task.file, digests=digests or {}), resume=resume)

    def tasks(self) -> list[Task]:
        made = []
        for file in MemorySource(self.here).listing().files.values():
            cut = cut_file(file.size, limits=self.limits, part_size=self.part)
            assert cut is not None
            made.append(Task(file, cut))
        return made

    def carry(self, *tasks: Task, journal: Journal | None = None, digest: DigestName = "sha256") -> CopyErrand:
        """Carry `tasks`, or all files; what must hold after every run is checked here."""
        wanted = list(tasks) or self.tasks()
        self.progress = Progress(total_bytes=sum(task.file.size for task in wanted), total_files=len(wanted))
        errand = CopyErrand(
            self.source,
            self.destination,
            journal or Journal(self.destination.control, source=self.source.name),
            cut=lambda size: cut_file(size, limits=self.limits, part_size=self.part),
        )
        errand.digest = digest
        self.errand = errand
        changes: dict[str, Any] = {"clock": self.clock} if self.clock else {}
        engine = Engine(self.sizing, self.stop, self.progress, self.patience, **changes)
        engine.budget = self.budget
        try:
            engine.run(errand, wanted)
        finally:
            errand.close()
            assert self.budget.reserved == 0, "every buffer came back"
            assert lanes() == [], "no thread is left behind"
        return errand

    def arrived(self) -> dict[str, bytes]:
        """The content of the destination, without control files."""
        return {
            key.removeprefix("model/"): stored.data
            for key, stored in self.there.objects.items()
            if "/.syncer/" not in key
        }


def lanes() -> list[str]:
    """The threads of engines that are still alive."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("lane-")]
