"""What a run takes besides bytes a second: memory, cores, its start."""

from __future__ import annotations

from pathlib import Path

from benchmarks import profile, startup
from benchmarks.clients import OURS, OURS_OPAQUE, ours, relay
from benchmarks.compare import GIB, Results, compare, say
from benchmarks.results import Section, median
from benchmarks.server import Objects
from benchmarks.targets import FIRST_REQUEST, GROWTH, SMALL_MEMORY, SPEED_UP
from benchmarks.world import MEMORY_FOLDER, client_cores, server_cores, world

_MIB = 1 << 20
_TIMES = 8


def memory(gib: float) -> Section:
    """One file, and eight times the same; then with the smallest memory that we promise anything for.

    What is over before there are more lanes than at first says nothing of them: the smaller one takes some seconds.
    """
    section = Section("memory", f"Peak memory, S3 to S3, one file of {gib:g} GiB and of {_TIMES * gib:g} GiB")
    once, many, little = f"{OURS}, {gib:g} GiB", f"{OURS}, {_TIMES * gib:g} GiB", f"{OURS}, MEMORY=32MiB"
    small = {"S3_SYNC_TRANSFER_CONFIG__MEMORY": "32MiB"}
    for name, size, settings in ((once, gib, {}), (many, _TIMES * gib, {}), (little, _TIMES * gib, small)):
        objects = Objects("src/model/", 1, int(size * GIB))
        with world("s3-s3", objects, tls=False, base=_memory(), pinned=False) as made:
            say(f"{section.name}: {name}")
            client = ours(made.leg("opaque"), name=name, settings=settings)
            results = compare([client], made, rounds=1, limit=3600)
        section.free |= results.good
        section.failed |= {name: words[0] for name, words in results.bad.items()}
    if section.memory(little):
        section.facts[SMALL_MEMORY] = section.memory(little) / _MIB
    if section.memory(once) and section.memory(many):
        section.facts[GROWTH] = round(section.memory(many) / section.memory(once), 2)
    return section


def cores(gib: float, rounds: int) -> Section:
    """The same copy on one core and on two, by us and by the reference; the servers take their part of the second."""
    section = Section("cores", f"S3 to S3, {gib:g} GiB in 4 files, the client on one core and on all")
    objects = Objects("src/model/", 4, int(gib * GIB / 4))
    for scheme in ("http", "https"):
        with world("s3-s3", objects, tls=scheme == "https", base=_memory()) as made:
            say(f"{section.name}: {scheme}")
            leg = made.leg("opaque")
            clients = [ours(leg, name=OURS_OPAQUE), relay(leg, lanes=objects.count)]
            one = compare(clients, made, rounds=rounds, cores=client_cores())
            made.pin(None)
            every = compare(clients, made, rounds=rounds)
            made.pin(server_cores())
        for client in clients:
            _compare_cores(section, scheme, client.name, one, every)
    return section


def _compare_cores(section: Section, scheme: str, name: str, one: Results, every: Results) -> None:
    """Put one client's runs over one scheme, on one core and on all, into the section."""
    whose = f"{name}, {scheme}"
    if bad := one.bad.get(name) or every.bad.get(name):
        section.failed[whose] = bad[0]
        return
    section.free |= {f"{whose}, one core": one.good[name], f"{whose}, all cores": every.good[name]}
    section.facts[f"{whose}: cores used"] = round(median(every.good, name, lambda it: it.cpu / it.wall), 2)
    walls = [section.wall(f"{whose}, {which}") for which in ("one core", "all cores")]
    section.facts[f"{whose}{SPEED_UP}"] = round(walls[0] / walls[1], 2)


def start() -> Section:
    """CPU until the first request, on every way; and the whole run that has no bytes to move."""
    section = Section("startup", "Start: CPU seconds to the first request")
    found = startup.measure()
    section.facts |= found
    section.facts[FIRST_REQUEST] = max(seconds for way, seconds in found.items() if way != startup.BY_HAND)
    return section


def profiled(gib: float) -> Section:
    """Where our CPU goes between S3 and S3."""
    tables = [profile.report(gib, 4, tls=tls, crc=False) for tls in (False, True)]
    return Section("profile", "Where the CPU goes, beside the limit", text="\n\n".join(tables))


def _memory() -> Path | None:
    return MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None
