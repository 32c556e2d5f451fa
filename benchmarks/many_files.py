"""What files cost by their number: copies of small ones, a listing and a plan, and a run with nothing left to do."""

from __future__ import annotations

from pathlib import Path

from benchmarks.clients import OURS, ours, relay
from benchmarks.compare import Client, compare, say
from benchmarks.peers import RCLONE, S5CMD_FILES, peers
from benchmarks.process import Cost, run
from benchmarks.results import Sample, Section
from benchmarks.server import Objects, Stub
from benchmarks.targets import CONTENTS, CPU, MEMORY, SOURCE_REQUESTS, TARGET_REQUESTS
from benchmarks.world import MEMORY_FOLDER, World, world

_LIMIT_SECONDS = 3600
_RELAY_LANES = 4
_KINDS = ("get", "head", "list", "put", "part", "delete", "requests")


def small(files: int, rounds: int) -> Section:
    """Copies of files of 10 KiB, with a count of our requests by side."""
    objects = Objects("src/model/", files, 10 * 1024)
    section = Section("small", f"S3 to S3, {files:,} files of 10 KiB")
    with world("s3-s3", objects, tls=False, base=_memory(), pinned=False) as made:
        names = [Path(name).name for name in objects.names]
        others = [peer for peer in peers(made.leg(), names=names, work=made.work) if peer.name in {S5CMD_FILES, RCLONE}]
        mine = ours(made.leg())
        watched = _Watched(made)
        reference = relay(made.leg(), lanes=_RELAY_LANES)
        results = compare([mine, *others, reference], watched, rounds=rounds)
        section.free = results.good
        section.failed = {name: words[0] for name, words in results.bad.items()}
        counts = watched.counts[0] if OURS in results.good else {}
    for client in section.free:
        section.facts[f"files a second: {client}"] = files / section.wall(client)
    if counts:
        section.facts |= counts
        section.facts[SOURCE_REQUESTS] = round((counts["source: requests"] - counts["source: list"]) / files, 2)
        moved = counts["destination: requests"] - counts["destination: list"]
        section.facts[TARGET_REQUESTS] = round(moved / files, 2)
        section.remarks.append("Requests a file are rounded to a hundredth: the lease and the journal are in them.")
    return section


def again(files: int) -> Section:
    """A second run of a model that has not changed."""
    objects = Objects("src/model/", files, 1024)
    section = Section("again", f"S3 to S3, second run of {files:,} unchanged files of 1 KiB")
    with world("s3-s3", objects, tls=False, base=_memory(), pinned=False) as made:
        made.clear()
        client = ours(made.leg())
        say(f"{section.name}: first run")
        if _run(section, client) is None:
            return section
        before = _counts(made)
        say(f"{section.name}: second run")
        cost = _run(section, client)
        if cost is None:
            return section
        counts = {name: count - before[name] for name, count in _counts(made).items()}
        section.free = {OURS: [Sample.of(cost)]}
    control = counts["destination: get"] + counts["destination: put"] + counts["destination: delete"]
    section.facts |= counts
    section.facts["requests for control files"] = control
    fetched = counts["source: requests"] - counts["source: list"]
    # A control file or two for every thousand files would still be no content: the manifest is a few MB at most.
    section.facts[CONTENTS] = fetched + max(0, control - _MOST_CONTROL_REQUESTS) + counts["destination: part"]
    return section


_MOST_CONTROL_REQUESTS = 30


def listing(files: int) -> Section:
    """`syncer plan` of many objects into an empty prefix: listings, planning and a line for each, no copy."""
    objects = Objects("src/model/", files, 1 << 20)
    section = Section("listing", f"`syncer plan`, S3 to S3, {files:,} objects")
    with world("s3-s3", objects, tls=False, base=_memory(), pinned=False) as made:
        made.clear()
        sync = ours(made.leg())
        say(f"{section.name}: {section.title}")
        cost = _run(section, Client(OURS, (*sync.command[:-1], "plan"), sync.environment))
        if cost is None:
            return section
        counts = _counts(made)
    section.free = {OURS: [Sample.of(cost)]}
    section.facts |= {CPU: cost.cpu, MEMORY: cost.peak_rss / 2**20, "listings": counts["source: list"]}
    return section


class _Watched:
    """A world that remembers what our first good run asked of both sides."""

    def __init__(self, made: World) -> None:
        self._made = made
        self.counts: list[dict[str, float]] = []

    def clear(self) -> None:
        """Make the destination empty and set the counters to nothing."""
        self._made.clear()

    def problem(self) -> str:
        """What is wrong with the destination."""
        self.counts.append(_counts(self._made))
        return self._made.problem()

    def server_seconds(self) -> float:
        """CPU time of both servers."""
        return self._made.server_seconds()


def _counts(made: World) -> dict[str, float]:
    found: dict[str, float] = {}
    sides: tuple[tuple[str, Stub], ...] = (("source", made.source), ("destination", made.target))
    for side, server in sides:
        stats = server.stats()
        found |= {f"{side}: {kind}": stats[kind] for kind in _KINDS}
    return found


def _run(section: Section, client: Client) -> Cost | None:
    cost = run(client.command, environment=client.environment, limit=_LIMIT_SECONDS)
    say(f"  {client.name}: {cost.wall:.2f} s, CPU {cost.cpu:.2f} s")
    if cost.status:
        section.failed[client.name] = f"exit {cost.status}\n{cost.output}"
        return None
    return cost


def _memory() -> Path | None:
    return MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None
