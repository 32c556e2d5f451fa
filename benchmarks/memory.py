"""How much memory a run takes at its worst, on every way in, on a model bigger than any pod's memory.

    python -m benchmarks.memory [--gib 20] [--directory-gib 2] [--files 100000] [PATH ...]

Between servers the object is virtual on both sides, so its size costs nothing but time.  Where a directory or an image
takes part the bytes are real; a smaller object has to do.  The registry of images is Docker's: where it is not
installed, the table says so.  A second table is about very many files of 1 KiB from S3 to S3: a first run, and one that
finds nothing to do.  Exit 0 when all that was measured stays below the promise, else 1.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from benchmarks.clients import ours
from benchmarks.compare import GIB, MIB, say
from benchmarks.images import image_place, missing
from benchmarks.process import run
from benchmarks.server import Objects
from benchmarks.sources import REAL_FILES, client_of
from benchmarks.world import world

PROMISE = 200 * MIB
PATHS = ("s3-s3", "cos-s3", "hub-s3", "s3-dir", "hub-dir", "xet-dir", "dir-s3", "upload-s3", "s3-image", "image-dir")

_IMAGE = "image"


def measure(path: str, gib: float, *, base: Path | None) -> tuple[bool, str]:
    """One run with default settings: whether it kept the promise, and a row of the table."""
    source, target = path.split("-")
    if _IMAGE in {source, target} and (why := missing()):
        say(f"{path}: {why}")
        return True, f"| {path} | {gib:g} | not measured: {why} | | | | |"
    objects = Objects("src/model/", 1, int(gib * GIB))
    say(f"{path}: {gib:g} GiB")
    ends = f"{'dir' if source in REAL_FILES else 's3'}-{'s3' if target == _IMAGE else target}"
    with (
        world(ends, objects, tls=False, base=base) as made,
        image_place(made) if _IMAGE in {source, target} else nullcontext() as place,
        client_of(source, made, place, to_image=target == _IMAGE) as (client, folder),
    ):
        made.clear()
        cost = run(client.command, environment=client.environment, folder=folder, limit=3600)
        there = place.problem if place and target == _IMAGE else made.problem
        problem = there() if cost.status == 0 else f"exit {cost.status}: {cost.output}"
    if problem:
        say(problem)
        return False, f"| {path} | {gib:g} | failed | | | | |"
    met = max(cost.peak_rss, cost.high_water) < PROMISE
    cells = (
        path,
        f"{gib:g}",
        f"{cost.peak_rss / MIB:.0f}",
        f"{cost.high_water / MIB:.0f}",
        f"{cost.wall:.1f}",
        f"{cost.cpu / gib:.2f}",
    )
    return met, f"| {' | '.join(cells)} | {'met' if met else 'NOT MET'} |"


def measure_many(files: int) -> list[tuple[bool, str]]:
    """A first and a second run of a model of `files` small files: each as `measure` tells of its own."""
    say(f"{files:,} files")
    rows = []
    with world("s3-s3", Objects("src/model/", files, 1024), tls=False, base=None) as made:
        made.clear()
        client = ours(made.leg())
        for which in ("first", "second"):
            cost = run(client.command, environment=client.environment, limit=3600)
            problem = made.problem() if cost.status == 0 else f"exit {cost.status}: {cost.output}"
            met = not problem and max(cost.peak_rss, cost.high_water) < PROMISE
            if problem:
                say(problem)
            cells = (
                f"{which} run",
                f"{files:,}",
                f"{cost.peak_rss / MIB:.0f}",
                f"{cost.high_water / MIB:.0f}",
                f"{cost.wall:.1f}",
                f"{cost.cpu:.1f}",
            )
            rows.append((met, f"| {' | '.join(cells)} | {'failed' if problem else 'met' if met else 'NOT MET'} |"))
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the paths; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=20, help="size of the object between servers, 0: leave out")
    parser.add_argument(
        "--directory-gib",
        type=float,
        default=2,
        help="size of the one from or into a directory or an image, 0: leave out",
    )
    parser.add_argument(
        "--folder", type=Path, help="where the directory is made (default: the system's place for them)"
    )
    parser.add_argument("--files", type=int, default=100_000, help="how many small files from S3 to S3, 0: leave out")
    parser.add_argument("paths", nargs="*", metavar="PATH", help=f"of {', '.join(PATHS)} (default: all)")
    given = parser.parse_args(arguments)
    if unknown := set(given.paths) - set(PATHS):
        parser.error(f"no such path: {', '.join(sorted(unknown))}")
    sizes = {path: given.directory_gib if _has_real_bytes(path) else given.gib for path in given.paths or PATHS}
    rows = [measure(path, gib, base=given.folder) for path, gib in sizes.items() if gib]
    if rows:
        print(f"## Peak memory of one file with default settings, promise: below {PROMISE // MIB} MiB\n")
        print(
            "| path | GiB | ru_maxrss MiB | VmHWM MiB | wall s | CPU s/GiB | promise |\n|---|---|---|---|---|---|---|"
        )
        print("\n".join(row for _, row in rows))
    many = measure_many(given.files) if given.files else []
    if many:
        print(f"\n## Peak memory of very many files of 1 KiB, S3 to S3, promise: below {PROMISE // MIB} MiB\n")
        print("| | files | ru_maxrss MiB | VmHWM MiB | wall s | CPU s | promise |\n|---|---|---|---|---|---|---|")
        print("\n".join(row for _, row in many))
    return 0 if all(met for met, _ in rows + many) else 1


def _has_real_bytes(path: str) -> bool:
    source, target = path.split("-")
    return target in {"dir", _IMAGE} or source in REAL_FILES


if __name__ == "__main__":
    raise SystemExit(main())
