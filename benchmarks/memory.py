"""How much memory a run takes at its worst, on a model bigger than any machine's memory.

    python -m benchmarks.memory [--gib 20] [--directory-gib 2]

From S3 to S3 the object is virtual on both sides, so its size costs nothing but time.  Into a directory the bytes are
real; a smaller object has to do.  Exit 0 when both stay below the promise, else 1.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.clients import ours
from benchmarks.compare import GIB, MIB, say
from benchmarks.data_path import world
from benchmarks.process import run
from benchmarks.server import Objects

PROMISE = 200 * MIB


def measure(path: str, gib: float, *, base: Path | None) -> tuple[bool, str]:
    """One run with default settings: whether it kept the promise, and a row of the table."""
    objects = Objects("src/model/", 1, int(gib * GIB))
    with world(path, objects, tls=False, base=base) as made:
        made.clear()
        client = ours(made.leg())
        cost = run(client.command, environment=client.environment, limit=3600)
        problem = made.problem() if cost.status == 0 else f"exit {cost.status}: {cost.output}"
    if problem:
        say(problem)
        return False, f"| {path} | {gib:g} | failed | | | |"
    met = max(cost.peak_rss, cost.high_water) < PROMISE
    cells = (path, f"{gib:g}", f"{cost.peak_rss / MIB:.0f}", f"{cost.high_water / MIB:.0f}", f"{cost.wall:.1f}")
    return met, f"| {' | '.join(cells)} | {'met' if met else 'NOT MET'} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure both paths; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=20, help="size of the object from S3 to S3, 0: leave out")
    parser.add_argument("--directory-gib", type=float, default=2, help="size of the one into a directory, 0: leave out")
    parser.add_argument(
        "--folder", type=Path, help="where the directory is made (default: the system's place for them)"
    )
    given = parser.parse_args(arguments)
    wanted = [("s3-s3", given.gib), ("s3-dir", given.directory_gib)]
    rows = [measure(path, gib, base=given.folder) for path, gib in wanted if gib]
    print(f"## Peak memory of one file with default settings, promise: below {PROMISE // MIB} MiB\n")
    print("| path | GiB | ru_maxrss MiB | VmHWM MiB | wall s | promise |\n|---|---|---|---|---|---|")
    print("\n".join(row for _, row in rows))
    return 0 if all(met for met, _ in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
