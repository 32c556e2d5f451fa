"""What was measured: samples by section and client, as they are kept in `build/bench/results.json`."""

from __future__ import annotations

import json
import math
import resource
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from benchmarks.process import Cost


@dataclass(frozen=True)
class Sample:
    """One good run: seconds, and bytes of memory; `served` are the servers' CPU seconds."""

    wall: float
    user: float
    system: float
    memory: int
    served: float = 0.0

    @classmethod
    def of(cls, cost: Cost, served: float = 0.0) -> Self:
        """What a run cost.  What the kernel recorded is never below our own size; below that, what was seen counts."""
        mine = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        memory = cost.peak_rss if cost.peak_rss > mine else cost.high_water or cost.peak_rss
        return cls(cost.wall, cost.user, cost.system, memory, served)

    @property
    def cpu(self) -> float:
        """User and system seconds together."""
        return self.user + self.system


Samples = dict[str, list[Sample]]


@dataclass
class Section:
    """One question.  `pinned`: the client on other cores than the servers; `free`: all on all cores; `start`: no bytes.

    `facts` are figures that are no samples, each by a name that a person understands; `text` is a table that somebody
    else has made.
    """

    name: str
    title: str
    gib: float = 0.0
    pinned: Samples = field(default_factory=dict)
    free: Samples = field(default_factory=dict)
    start: Samples = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    text: str = ""

    @property
    def clients(self) -> list[str]:
        """All that took part, in the order in which they were named."""
        return list(dict.fromkeys([*self.pinned, *self.free, *self.failed]))

    def cpu(self, client: str) -> float:
        """CPU seconds of a whole run per GiB, median; NaN when nothing was measured."""
        return median(self.pinned or self.free, client, _cpu) / self.gib if self.gib else math.nan

    def start_cpu(self, client: str) -> float:
        """CPU seconds of a run with next to no bytes; 0 when it was not measured."""
        found = median(self.start, client, _cpu)
        return 0.0 if math.isnan(found) else found

    def rate(self, client: str) -> float:
        """CPU seconds that a GiB costs once the client has started: what is left of `cpu` in a long run."""
        return max(self.cpu(client) - self.start_cpu(client) / self.gib, 0.0) if self.gib else math.nan

    def wall(self, client: str) -> float:
        """Seconds of a run on all cores, median; of a pinned one where there are no others."""
        return median(self.free or self.pinned, client, lambda sample: sample.wall)

    def memory(self, client: str) -> int:
        """The most memory of any run in bytes, 0 when there was none."""
        return max((sample.memory for sample in self.samples(client)), default=0)

    def samples(self, client: str) -> list[Sample]:
        """All runs with bytes."""
        return [*self.pinned.get(client, ()), *self.free.get(client, ())]

    def least(self, value: Callable[[str], float], clients: Iterable[str]) -> float:
        """The smallest figure among clients; NaN when none has any."""
        found = [figure for client in clients if not math.isnan(figure := value(client))]
        return min(found, default=math.nan)


def _cpu(sample: Sample) -> float:
    return sample.cpu


def median(samples: Mapping[str, list[Sample]], client: str, value: Callable[[Sample], float]) -> float:
    """Median of `value` over the runs of a client; NaN when there are none."""
    runs = samples.get(client)
    return statistics.median(map(value, runs)) if runs else math.nan


@dataclass
class Report:
    """All that one `make bench` found, and where."""

    command: str
    date: str
    machine: dict[str, str]
    versions: dict[str, str]
    sections: dict[str, Section] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Keep it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `write` kept."""
        kept = json.loads(path.read_text())
        kept["sections"] = {name: _section(values) for name, values in kept["sections"].items()}
        return cls(**kept)


def _section(values: dict[str, Any]) -> Section:
    for kind in ("pinned", "free", "start"):
        values[kind] = {client: [Sample(**run) for run in runs] for client, runs in values[kind].items()}
    return Section(**values)
