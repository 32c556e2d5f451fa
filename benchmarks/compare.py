"""Interleaved comparison of clients.

The machine drifts while it measures, so the clients take turns and every second round runs backwards.  Only ratios of
one such run mean something.  A run counts when the client exited with 0 *and* the destination holds what it should:
a client that copies nothing is very fast.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.process import run
from benchmarks.results import Sample

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
    """Samples of all good runs, and words about the others, by the client's name."""

    good: dict[str, list[Sample]] = field(default_factory=dict)
    bad: dict[str, list[str]] = field(default_factory=dict)


def compare(
    clients: Sequence[Client],
    scene: Scene,
    *,
    rounds: int,
    cores: frozenset[int] | None = None,
    once: frozenset[str] = frozenset(),
    limit: float = 600,
) -> Results:
    """Run all clients `rounds` times, one after another; each starts from an empty destination.

    Those whose names are in `once` take part in the first round alone.
    """
    results = Results()
    for number in range(rounds):
        taking_part = [client for client in clients if not number or client.name not in once]
        for client in taking_part if number % 2 == 0 else reversed(taking_part):
            _run_once(client, scene, results, cores, limit)
    return results


def _run_once(client: Client, scene: Scene, results: Results, cores: frozenset[int] | None, limit: float) -> None:
    scene.clear()
    before = scene.server_seconds()
    cost = run(client.command, environment=client.environment, cores=cores, limit=limit)
    served = scene.server_seconds() - before
    problem = scene.problem() if cost.status == 0 else f"exit {cost.status}\n{cost.output}"
    say(f"  {client.name}: {cost.wall:.2f} s, CPU {cost.cpu:.2f} s, peak {cost.peak_rss / MIB:.0f} MiB {problem}")
    if problem:
        results.bad.setdefault(client.name, []).append(problem)
    else:
        results.good.setdefault(client.name, []).append(Sample.of(cost, served))


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
