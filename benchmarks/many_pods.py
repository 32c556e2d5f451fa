"""What several pods bring where each has a limit of its own: as many processes here, each with a cap on its bandwidth.

    python -m benchmarks.many_pods                               # 8 processes beside one, 32 files
    python -m benchmarks.many_pods --pods 4 --files 1 --mib 256  # one file that is cut and read back

Processes of one machine share its cores, so the cap has to be low: what is shown is how the work is shared, and what
the sharing itself costs in seconds and requests.  `benchmarks.scale_model` has the rest, on paper.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.clients import ours
from benchmarks.server import Objects
from benchmarks.world import MEMORY_FOLDER, World, world

_MIB = 1 << 20
_LIMIT_SECONDS = 600


@dataclass(frozen=True)
class Shared:
    """One run of so many processes: seconds from the first start to the last end, and what each of them said."""

    seconds: float
    ends: tuple[dict[str, Any], ...]
    requests: int

    @property
    def bytes_of_each(self) -> list[int]:
        """What each process carried: index 0 tells of the whole model, and has what the others do not."""
        first, *others = (int(end["copied_bytes"]) for end in self.ends)
        return [first - sum(others), *others]


def run(made: World, pods: int, bandwidth: int) -> Shared:
    """Copy everything by `pods` processes, each limited to `bandwidth` MiB/s; SystemExit when one fails."""
    made.clear()
    settings = {"S3_SYNC_TRANSFER_CONFIG__BANDWIDTH": f"{bandwidth}MiB", "S3_SYNC_SHARES": str(pods)}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as work:
        processes = []
        for index in range(pods):
            told = Path(work) / str(index)
            told.touch()
            more = {"JOB_COMPLETION_INDEX": str(index), "TERMINATION_MESSAGE_PATH": str(told)}
            client = ours(made.leg("opaque"), settings=settings | more)
            processes.append(
                subprocess.Popen(
                    client.command, env=client.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            )
        try:
            for process in processes:
                process.wait(_LIMIT_SECONDS)
        finally:
            for process in processes:
                process.kill()
        seconds = time.monotonic() - began
        ends = tuple(json.loads((Path(work) / str(index)).read_bytes() or b"{}") for index in range(pods))
    if failed := [end.get("message", "killed") for end in ends if end.get("status") != "succeeded"]:
        raise SystemExit(f"{len(failed)} of {pods} processes failed: {failed[0]}")
    if problem := made.problem():
        raise SystemExit(problem)
    return Shared(seconds, ends, sum(int(stub.stats()["requests"]) for stub in (made.source, made.target)))


def table(alone: Shared, shared: Shared) -> str:
    """Markdown: both runs, and what each process of the second one carried."""
    lines = ["| processes | seconds | speed-up | requests | bytes of each process, MiB |", "|---|---|---|---|---|"]
    for each in (alone, shared):
        carried = ", ".join(f"{count / _MIB:.0f}" for count in each.bytes_of_each)
        speed = alone.seconds / each.seconds
        lines.append(f"| {len(each.ends)} | {each.seconds:.1f} | {speed:.2f} | {each.requests} | {carried} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=8)
    parser.add_argument("--files", type=int, default=32)
    parser.add_argument("--mib", type=int, default=16, help="size of each file")
    parser.add_argument("--bandwidth", type=int, default=8, help="MiB/s of each process")
    asked = parser.parse_args(arguments)
    base = MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None
    objects = Objects("src/model/", asked.files, asked.mib * _MIB)
    with world("s3-s3", objects, tls=False, base=base, flags=(), pinned=False) as made:
        alone, shared = run(made, 1, asked.bandwidth), run(made, asked.pods, asked.bandwidth)
    sys.stdout.write(f"{asked.files} file(s) of {asked.mib} MiB, {asked.bandwidth} MiB/s for each process\n\n")
    sys.stdout.write(table(alone, shared) + "\n")


if __name__ == "__main__":
    main()
