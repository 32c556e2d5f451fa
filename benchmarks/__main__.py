"""`make bench`: every path and every question, against the peers; a table, plots, and each target met or not.

    make bench                                   # all of it, some 45 minutes on 2 quiet cores
    make bench ARGS="--only s3-s3-http latency"  # some of it; a name's beginning will do
    make bench ARGS="--full"                     # more bytes and files: hours
    make bench ARGS="--scale 0.1 --rounds 1"     # does all of it work? the figures say little

Writes results.json, results.md and the plots to build/bench.  What cannot be measured is told, and the rest goes on:
exit 1 then.  Whether targets are met does not matter for it: this machine may be busy.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks import data_path, distance, footprint, many_files
from benchmarks.clients import BENCH, REPOSITORY
from benchmarks.compare import GIB, MIB, say
from benchmarks.data_path import PATHS, Plan
from benchmarks.peers import versions
from benchmarks.report import markdown
from benchmarks.results import Report, Section

BUSY_LOAD = 0.5
MORE_GIB = 2
"""Into stores where nothing has to lie on a disk, unless a size was asked for: the start of a run counts for less."""
_MORE = frozenset({"s3-s3", "dir-s3"})
OUTPUT = REPOSITORY / "build" / "bench"
Question = Callable[[], Section]


def questions(given: argparse.Namespace) -> dict[str, Question]:
    """All sections by their names, in order."""
    full, scale = given.full, given.scale
    least = (given.gib or (4 if full else 1)) * scale
    plan = Plan(least, 4, given.rounds, given.free)
    more = plan if given.gib or full else replace(plan, gib=MORE_GIB * scale)
    asked: dict[str, Question] = {
        f"{path}-{scheme}": partial(data_path.measure, path, more if path in _MORE else plan, tls=scheme == "https")
        for path in PATHS
        for scheme in ("http", "https")
    }
    return asked | {
        "latency": partial(distance.latency, 4 * scale, given.free),
        "link-one": partial(distance.link, "link-one", 1, int(20 * GIB * scale)),
        "link-many": partial(distance.link, "link-many", int(200 * scale) or 1, 100 * MIB),
        "bandwidth": partial(distance.bandwidth, (1 if full else 0.5) * scale),
        "small": partial(many_files.small, int(20_000 * scale), 3 if full else 2),
        "again": partial(many_files.again, int((100_000 if full else 20_000) * scale)),
        "listing": partial(many_files.listing, int(100_000 * scale)),
        "memory": partial(footprint.memory, 2.5 * scale),
        "cores": partial(footprint.cores, plan.gib, given.free),
        "startup": footprint.start,
        "profile": partial(footprint.profiled, plan.gib),
    }


def machine() -> dict[str, str]:
    """Where it was measured, and how busy it was."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    load = os.getloadavg()[0]
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "CPU": model,
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "load at the start": f"{load:.1f}" + (" (BUSY: only ratios, if anything)" if load > BUSY_LOAD else ""),
    }


def draw(results: Path, folder: Path) -> bool:
    """Draw the plots in the environment that has what it takes; whether it worked."""
    python = BENCH / "python"
    if not python.exists():
        say("no plots: `make bench` installs what draws them")
        return False
    done = subprocess.run([python, "-m", "benchmarks.plots", results, folder], cwd=REPOSITORY, check=False)
    return done.returncode == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask all questions; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], metavar="NAME", help="sections, or how their names begin")
    parser.add_argument("--full", action="store_true", help="more bytes and files: 4 GiB a run, 100,000 files")
    parser.add_argument("--scale", type=float, default=1, help="this many times as much: 0.1 shows that all works")
    parser.add_argument(
        "--gib", type=float, help="bytes of a run on each path in GiB (default 1, S3 or a folder to S3 2; full: 4)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="with the client and the servers on cores of their own")
    parser.add_argument("--free", type=int, default=2, help="rounds on all cores")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    given = parser.parse_args(arguments)
    asked = {name: ask for name, ask in questions(given).items() if name.startswith(tuple(given.only))}
    if not asked:
        parser.error(f"no such section; there are {', '.join(questions(given))}")
    words = shlex.join(arguments if arguments is not None else sys.argv[1:])
    command = f"make bench ARGS={shlex.quote(words)}" if words else "make bench"
    report = Report(command, time.strftime("%Y-%m-%d"), machine(), versions())
    say(", ".join(f"{name} {value}" for name, value in report.machine.items()))
    for name, ask in asked.items():
        say(f"== {name}")
        try:
            report.sections[name] = ask()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - what cannot be measured does not end the rest
            say(traceback.format_exc())
            report.broken[name] = f"{type(error).__name__}: {error}"
        report.write(given.output / "results.json")
    written = markdown(report)
    (given.output / "results.md").write_text(written)
    drawn = draw(given.output / "results.json", given.output)
    print(written)
    failed = report.broken or any(section.failed for section in report.sections.values())
    return 1 if failed or not drawn else 0


if __name__ == "__main__":
    raise SystemExit(main())
