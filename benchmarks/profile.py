"""Where the CPU goes between S3 and S3, beside the limit: the same bytes moved by the kernel alone (`splice.py`).

    python -m benchmarks.profile [--gib 4] [--tls] [--crc]

Samples our process by perf where it may be used, with the kernel's part of every call; else by py-spy of `make bench`,
which sees no kernel: what a call costs there is in its name all the same.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks.clients import BENCH, CRC, OURS_OPAQUE, SPLICE, ours, relay, splice
from benchmarks.compare import GIB, Client, compare, say
from benchmarks.process import run
from benchmarks.results import median
from benchmarks.server import Objects
from benchmarks.world import MEMORY_FOLDER, client_cores, world

KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("receive, in the kernel", ("sys_recv", "sys_read", "__libc_recv", "tcp_recvmsg", "sys_pread")),
    ("send, in the kernel", ("sys_send", "sys_write", "__libc_send", "tcp_sendmsg", "sys_pwrite")),
    ("waiting and waking of threads", ("futex", "pthread_cond", "take_gil", "drop_gil", "sys_poll", "do_poll")),
    ("MD5 of parts", ("md5", "MD5")),
    ("hash", ("sha256", "SHA256", "EVP_Digest", "crc64", "crc32", "EVP_update", "EVP_hash", "_hashlib")),
    ("TLS", ("_ssl.", "_ssl_", "SSL_", "ssl3_", "tls13", "aes", "AES", "gcm", "libssl")),
    ("memory", ("page_fault", "memcpy", "memmove", "madvise", "sys_mmap", "sys_munmap", "clear_page")),
)
"""What a sample is for, by what its stack names; the first kind that fits has it."""
INTERPRETER, OTHER = "interpreter", "other"


def kind_of(stack: Sequence[str]) -> str:
    """The kind of a stack, its innermost frame first.  The interpreter has what it does itself, not what it calls."""
    for kind, names in KINDS:
        if any(name in frame for frame in stack for name in names):
            return kind
    return INTERPRETER if "python" in stack[0].lower() or "_Py" in stack[0] else OTHER


def perf_stacks(text: str) -> Iterator[tuple[Sequence[str], int]]:
    """Samples of `perf script -F ip,sym,dso`: stacks, innermost frame first."""
    for sample in text.split("\n\n"):
        frames = [line.strip().split(" ", 1)[-1] for line in sample.splitlines() if line.startswith((" ", "\t"))]
        if frames:
            yield frames, 1


def folded_stacks(text: str) -> Iterator[tuple[Sequence[str], int]]:
    """Samples of py-spy's `raw` format: `outer;inner count`."""
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        if count.isdigit():
            yield stack.split(";")[::-1], int(count)


def shares(stacks: Iterable[tuple[Sequence[str], int]]) -> dict[str, float]:
    """The part of all samples that each kind has, the largest first."""
    found: Counter[str] = Counter()
    for stack, count in stacks:
        found[kind_of(stack)] += count
    total = sum(found.values())
    return {kind: count / total for kind, count in found.most_common()}


def sampled(client: Client, folder: Path) -> tuple[str, dict[str, float]]:
    """Run a client under a sampler: which one it was, and the shares.  `SystemExit` when there is none."""
    data = folder / "samples"
    if perf := shutil.which("perf"):
        command = [
            perf,
            "record",
            "-q",
            "-F",
            "299",
            "--call-graph",
            "dwarf,4096",
            "-o",
            str(data),
            "--",
            *client.command,
        ]
        if run(command, environment=client.environment, cores=client_cores()).status == 0:
            asked = [perf, "script", "-i", str(data), "-F", "ip,sym,dso"]
            text = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
            return "perf", shares(perf_stacks(text))
        say("perf may not be used here")
    spy = shutil.which("py-spy", path=str(BENCH))
    if not spy:
        raise SystemExit("neither perf nor py-spy: `make bench` installs the second")
    command = [spy, "record", "--native", "--format", "raw", "--rate", "200", "-o", str(data), "--", *client.command]
    cost = run(command, environment=client.environment, cores=client_cores())
    if cost.status:
        raise SystemExit(f"py-spy: {cost.output}")
    return "py-spy", shares(folded_stacks(data.read_text()))


def report(gib: float, files: int, *, tls: bool, crc: bool) -> str:
    """The table."""
    objects = Objects("src/model/", files, int(gib * GIB / files))
    base = MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None
    with world("s3-s3", objects, tls=tls, base=base) as made, tempfile.TemporaryDirectory() as folder:
        mine = ours(made.leg("opaque"), name=OURS_OPAQUE, settings=CRC if crc else {})
        limit = [] if tls else [splice(made.leg(), lanes=files)]
        plain = compare([mine, relay(made.leg(), lanes=files), *limit], made, rounds=2, cores=client_cores())
        made.clear()
        by, found = sampled(mine, Path(folder))
    cpu = {name: median(plain.good, name, lambda sample: sample.cpu) / gib for name in plain.good}
    if OURS_OPAQUE not in cpu:
        raise SystemExit(f"no profile: {plain.bad[OURS_OPAQUE][0]}")
    lines = [f"| S3 to S3, {'https' if tls else 'http'}, {gib:g} GiB, by {by} | share | CPU s/GiB |", "|---|---|---|"]
    lines += [f"| {kind} | {share:.0%} | {share * cpu[OURS_OPAQUE]:.3f} |" for kind, share in found.items()]
    lines += [f"| **{name}, all** | | **{seconds:.3f}** |" for name, seconds in cpu.items()]
    if SPLICE in cpu:
        lines.append(f"| of ours without the hash, over {SPLICE} | | {_without_hash(cpu, found):.2f} |")
    return "\n".join(lines)


def _without_hash(cpu: dict[str, float], found: dict[str, float]) -> float:
    return cpu[OURS_OPAQUE] * (1 - found.get("hash", 0.0)) / cpu[SPLICE]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=4)
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--tls", action="store_true", help="over https")
    parser.add_argument("--crc", action="store_true", help="with S3_SYNC_DIGEST=crc64nvme")
    given = parser.parse_args(arguments)
    print(report(given.gib, given.files, tls=given.tls, crc=given.crc))


if __name__ == "__main__":
    main()
