"""Interleaved comparison of clients: medians over rounds, ratios to one of them, a Markdown table.

The machine drifts while it measures, so the clients take turns and every second round runs backwards.  Only ratios of
one such run mean something.  A run counts when the client exited with 0 *and* the destination holds what it should:
a client that copies nothing is very fast.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.process import Cost, run

GIB = 1 << 30
MIB = 1 << 20


@dataclass(frozen=True)
class Client:
    """A command line under measurement, with its whole environment."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]


class Scene(Protocol):
    """The world around a run."""

    def clear(self) -> None:
        """Make the destination empty."""
        ...

    def problem(self) -> str:
        """What is wrong with the destination now; empty when it holds exactly what it should."""
        ...

    def server_seconds(self) -> float:
        """CPU time of the servers until now."""
        ...


@dataclass
class Results:
    """Costs of all good runs, and words about the others, by the client's name."""

    gib: float
    good: dict[str, list[Cost]] = field(default_factory=dict)
    server: dict[str, list[float]] = field(default_factory=dict)
    bad: dict[str, list[str]] = field(default_factory=dict)

    def median(self, name: str, value: Callable[[Cost], float]) -> float:
        """Median of `value` over the good runs of a client; NaN when there are none."""
        costs = self.good.get(name)
        return statistics.median(map(value, costs)) if costs else float("nan")

    def cpu_per_gib(self, name: str) -> float:
        """CPU seconds per GiB, median."""
        return self.median(name, lambda cost: cost.cpu) / self.gib


def compare(
    clients: Sequence[Client], scene: Scene, *, gib: float, rounds: int, cores: frozenset[int] | None = None
) -> Results:
    """Run all clients `rounds` times, one after another; each starts from an empty destination."""
    results = Results(gib)
    for number in range(rounds):
        for client in clients if number % 2 == 0 else reversed(clients):
            _run_once(client, scene, results, cores)
    return results


def _run_once(client: Client, scene: Scene, results: Results, cores: frozenset[int] | None) -> None:
    scene.clear()
    before = scene.server_seconds()
    cost = run(client.command, environment=client.environment, cores=cores)
    served = scene.server_seconds() - before
    problem = scene.problem() if cost.status == 0 else f"exit {cost.status}\n{cost.output}"
    say(f"  {client.name}: {cost.wall:.2f} s, CPU {cost.cpu:.2f} s, peak {cost.peak_rss / MIB:.0f} MiB {problem}")
    if problem:
        results.bad.setdefault(client.name, []).append(problem)
        return
    results.good.setdefault(client.name, []).append(cost)
    results.server.setdefault(client.name, []).append(served)


def table(results: Results, clients: Sequence[Client], *, reference: str) -> str:
    """A Markdown table; ratios are to `reference`."""
    lines = [
        "| client | wall s | CPU s/GiB | user | sys | CPU ratio | peak RSS MiB | server CPU s/GiB | good runs |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    base = results.cpu_per_gib(reference)
    for client in clients:
        name = client.name
        good, bad = results.good.get(name, []), results.bad.get(name, [])
        if not good:
            lines.append(f"| {name} | failed | | | | | | | 0/{len(bad)} |")
            continue
        cells = [
            f"{results.median(name, lambda cost: cost.wall):.2f}",
            f"{results.cpu_per_gib(name):.3f}",
            f"{results.median(name, lambda cost: cost.user) / results.gib:.3f}",
            f"{results.median(name, lambda cost: cost.system) / results.gib:.3f}",
            f"{results.cpu_per_gib(name) / base:.2f}",
            f"{max(cost.peak_rss for cost in good) / MIB:.0f}",
            f"{statistics.median(results.server[name]) / results.gib:.3f}",
            f"{len(good)}/{len(good) + len(bad)}",
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


@dataclass(frozen=True)
class Target:
    """A promise about a ratio of CPU per GiB."""

    ours: str
    theirs: str
    at_most: float

    def verdict(self, results: Results) -> tuple[bool, str]:
        """Whether it is met, and one line that says so."""
        ratio = results.cpu_per_gib(self.ours) / results.cpu_per_gib(self.theirs)
        met = ratio <= self.at_most  # NaN, from runs that failed, is not
        word = "met" if met else "NOT MET"
        return met, f"{word}: CPU {self.ours} / {self.theirs} = {ratio:.2f} (target: at most {self.at_most})"


def objects_problem(listed: Iterable[Mapping[str, object]], expected: Mapping[str, int]) -> str:
    """Compare a stub's uploaded objects with the expected keys and sizes, in any one bucket; no control files."""
    found = {}
    buckets = set()
    for item in listed:
        bucket, _, key = str(item["name"]).partition("/")
        if ".syncer" not in key.split("/"):
            buckets.add(bucket)
            found[key] = item
    if len(buckets) > 1:
        return f"the copy is spread over several buckets: {', '.join(sorted(buckets))}"
    sizes = {key: item["size"] for key, item in found.items()}
    if sizes != dict(expected):
        return f"the destination holds {sizes}, expected {dict(expected)}"
    wrong = [key for key, item in found.items() if item["right"] is False]
    return f"wrong bytes in {', '.join(wrong)}" if wrong else ""


def files_problem(folder: Path, expected: Mapping[str, int]) -> str:
    """The same for the files of a directory, by size."""
    found = {
        file.relative_to(folder).as_posix(): file.stat().st_size
        for file in sorted(folder.rglob("*"))
        if file.is_file() and ".syncer" not in file.relative_to(folder).parts
    }
    return "" if found == dict(expected) else f"the destination holds {found}, expected {dict(expected)}"


def say(line: str) -> None:
    """Progress goes to stderr, so that stdout is the report alone."""
    print(line, file=sys.stderr, flush=True)
