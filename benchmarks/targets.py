"""Every target for one pod, one line each: what is computed, and the bound.

CPU is that of the client's processes for a GiB, without its start and end (a run with one file of 1 KiB), which count
for nothing in a model's gigabytes and have a target of their own; it is subtracted from everybody.  Where the
destination is S3, ours is the row against opaque ETags, as NooBaa's are: the others compare nothing.  The cheapest way
of each peer counts: s5cmd by pipes or by files, rclone as it comes or tuned.

Beside a ratio to a peer stands what the references reach by the same computation: the relay with the same digest, a
plain loop that moves and hashes, and where there is one the copy without any (`zero copy`).  On a machine that hashes
slowly a bound may lie below both.  It stays a bound all the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from benchmarks.clients import OURS, OURS_CRC, OURS_OPAQUE, RELAY, RELAY_CRC, SPLICE, STOCK
from benchmarks.peers import HUB_CLIENT, RCLONE, RCLONE_TUNED, S5CMD, S5CMD_FILES, S5CMD_PIPES
from benchmarks.results import Section
from benchmarks.startup import BY_HAND

Sections = Mapping[str, Section]
PEERS = {
    "s5cmd": (S5CMD, S5CMD_FILES, S5CMD_PIPES),
    "rclone": (RCLONE, RCLONE_TUNED),
    "s3-sync (stock boto3)": (STOCK,),
}
EVERY_PEER = (*(name for names in PEERS.values() for name in names), HUB_CLIENT)
SCHEMES = ("http", "https")
PATHS = ("s3-s3", "s3-dir", "dir-s3", "hub-s3", "s3-oci")
LEVEL = 1.1
"""What counts as level: no more above one than a few rounds on a busy machine vary."""
MET, MISSED, MISSED_BY_ALL, UNKNOWN = "met", "NOT MET", "NOT MET, nor by the reference", "not measured"
Value = Callable[[Sections], float]


@dataclass(frozen=True)
class Target:
    """A figure of some sections and its bound: at most, unless it says at least.

    `references` are the same figure of others than us, by their names, the one that is judged first.
    """

    name: str
    value: Value
    bound: float
    at_least: bool = False
    references: Mapping[str, Value] = field(default_factory=dict)

    def keeps(self, value: float) -> bool:
        """Whether a figure is within the bound."""
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass(frozen=True)
class Verdict:
    """What became of a target.  A figure that nobody measured is NaN; `references` has those that were measured."""

    target: Target
    value: float
    references: Mapping[str, float] = field(default_factory=dict)

    @property
    def word(self) -> str:
        """Met, not met (by the reference neither, where there is one), or not measured."""
        if math.isnan(self.value):
            return UNKNOWN
        if self.target.keeps(self.value):
            return MET
        judged = next(iter(self.references.values()), self.target.bound)
        return MISSED if self.target.keeps(judged) else MISSED_BY_ALL


def verdicts(sections: Sections) -> list[Verdict]:
    """All targets against what was measured."""
    return [_judged(target, sections) for target in TARGETS]


def _judged(target: Target, sections: Sections) -> Verdict:
    figures = {name: value(sections) for name, value in target.references.items()}
    return Verdict(
        target, target.value(sections), {n: figure for n, figure in figures.items() if not math.isnan(figure)}
    )


def proving(section: Section) -> str:
    """Our row with SHA-256 that is compared."""
    return OURS_OPAQUE if OURS_OPAQUE in section.clients else OURS


def cpu_ratio(where: str, theirs: Iterable[str], *, of: str = "") -> Value:
    """The CPU of a client, ours with SHA-256 if it is not named, over that of the cheapest of `theirs`."""
    names = tuple(theirs)

    def value(sections: Sections) -> float:
        section = sections.get(where)
        if section is None:
            return math.nan
        return section.rate(of or proving(section)) / (section.least(section.rate, names) or math.nan)

    return value


def wall_ratio(where: str, theirs: Iterable[str], *, of: str = "") -> Value:
    """The fastest of `theirs` over a client: how many times as long everybody else takes."""
    names = tuple(theirs)

    def value(sections: Sections) -> float:
        section = sections.get(where)
        return section.least(section.wall, names) / section.wall(of or proving(section)) if section else math.nan

    return value


def _against(ratio: Callable[..., Value], where: str, theirs: Iterable[str], *references: str) -> dict[str, Value]:
    """The same ratio of the references in our place."""
    return {name: ratio(where, theirs, of=name) for name in references}


def fact(where: str, name: str) -> Callable[[Sections], float]:
    """A figure that the section has computed by itself."""
    return lambda sections: sections[where].facts.get(name, math.nan) if where in sections else math.nan


def most_memory(sections: Sections) -> float:
    """The most that any run of ours took by default, in MiB."""
    found = [
        section.memory(client)
        for section in sections.values()
        for client in section.clients
        if client.startswith(OURS) and "MEMORY" not in client and section.memory(client)
    ]
    return max(found) / 2**20 if found else math.nan


def _cpu_targets() -> Iterable[Target]:
    for path in PATHS:
        for scheme in SCHEMES:
            where = f"{path}-{scheme}"
            digests = "the two SHA-256 of an image" if path == "s3-oci" else "SHA-256"
            yield Target(f"{where}: CPU, of the relay with {digests}", cpu_ratio(where, [RELAY]), 1.15)
    shares = (("s3-s3", PEERS, 1 / 3, 1 / 2), ("dir-s3", _uploaders(), 0.6, 0.6))
    smaller = (("s3-s3", PEERS, 1 / 8, 1 / 3), ("dir-s3", _uploaders(), 1 / 4, 1 / 3))
    for crc, table in ((False, shares), (True, smaller)):
        for path, peers, *bounds in table:
            for scheme, bound in zip(SCHEMES, bounds, strict=True):
                for peer, names in peers.items():
                    where = f"{path}-{scheme}"
                    what = f"{where}: CPU{' with crc64nvme' if crc else ''}, of {peer}'s"
                    yield _cpu(what, where, names, bound, crc=crc)
    for path in ("s3-dir", "s3-disk"):
        for scheme in SCHEMES:
            for peer in ("s5cmd", "rclone"):
                where = f"{path}-{scheme}"
                yield _cpu(f"{where}: CPU with crc64nvme, of {peer}'s", where, PEERS[peer], 1, crc=True)
                yield _cpu(f"{where}: CPU, of {peer}'s (level)", where, PEERS[peer], LEVEL)


def _cpu(what: str, where: str, theirs: Iterable[str], bound: float, *, crc: bool = False) -> Target:
    references = _against(cpu_ratio, where, theirs, RELAY_CRC if crc else RELAY, SPLICE)
    return Target(what, cpu_ratio(where, theirs, of=OURS_CRC if crc else ""), bound, references=references)


def _uploaders() -> dict[str, tuple[str, ...]]:
    return {"s5cmd": PEERS["s5cmd"], "stock boto3": (STOCK,)}


def _wall_targets() -> Iterable[Target]:
    for path in ("s3-s3", "s3-dir", "s3-disk", "dir-s3", "hub-s3"):
        for scheme in SCHEMES:
            least = {"http": 3.0, "https": 2.0}[scheme] if path == "s3-s3" else 1.0
            where = f"{path}-{scheme}"
            what = f"{where}: wall time of the fastest peer, of ours"
            yield _wall(what, where, EVERY_PEER, least, RELAY, SPLICE)


def _wall(what: str, where: str, theirs: Iterable[str], bound: float, *references: str) -> Target:
    others = _against(wall_ratio, where, theirs, *references)
    return Target(what, wall_ratio(where, theirs), bound, at_least=True, references=others)


def _other_targets() -> Iterable[Target]:
    for peer, names in PEERS.items():
        what = f"40 ms, 60 MiB/s a connection: our throughput, of {peer}'s"
        untuned = [name for name in names if name != RCLONE_TUNED]  # everybody as they come
        yield _wall(what, "latency", untuned, 4, RELAY_CRC)
    yield Target("50 ms, cap a connection: link filled by one file", fact("link-one", FILLED), 0.9, at_least=True)
    yield Target("50 ms, cap a connection: link filled by many files", fact("link-many", FILLED), 0.9, at_least=True)
    yield Target("small files: requests a file at the source", fact("small", SOURCE_REQUESTS), 1.0)
    yield Target("small files: requests a file at the destination", fact("small", TARGET_REQUESTS), 1.0)
    for peer, least in (("s5cmd", 2), ("rclone", 1)):
        yield _wall(f"small files: our files a second, of {peer}'s", "small", PEERS[peer], least, RELAY)
    yield Target("listing and planning 100,000 objects: CPU s", fact("listing", CPU), 2)
    yield Target("listing and planning 100,000 objects: MiB", fact("listing", MEMORY), 150)
    yield Target("second run, unchanged: requests for contents", fact("again", CONTENTS), 0)
    yield Target("most memory of any run by default, MiB", most_memory, 200)
    yield Target("most memory with MEMORY=32MiB, MiB", fact("memory", SMALL_MEMORY), 64)
    yield Target("memory with 8 times the model, of that with 1", fact("memory", GROWTH), 1.1)
    for scheme in SCHEMES:
        what = f"more than one core used, {scheme}: wall time on one core, of that on two"
        mine, theirs = (fact("cores", f"{client}, {scheme}{SPEED_UP}") for client in (OURS_OPAQUE, RELAY))
        yield Target(what, mine, LEVEL, at_least=True, references={RELAY: theirs})
    yield Target("start to the first request, CPU s", fact("startup", FIRST_REQUEST), 0.4)
    yield Target("uploaded by hand: whole run, CPU s", fact("startup", BY_HAND), 0.5)
    yield Target("bandwidth limit: off by", fact("bandwidth", OFF_BY), 0.05)


FILLED, SOURCE_REQUESTS, TARGET_REQUESTS = "share of the link filled", "source, a file", "destination, a file"
CPU, MEMORY, CONTENTS = "CPU s", "peak RSS MiB", "requests for contents, but for control files"
SMALL_MEMORY, GROWTH = "peak RSS MiB with MEMORY=32MiB", "peak RSS, 8 times the bytes over 1"
FIRST_REQUEST = "the dearest way"
OFF_BY, SPEED_UP = "off by", ": wall time on one core, of that on all"
TARGETS: tuple[Target, ...] = (*_cpu_targets(), *_wall_targets(), *_other_targets())
