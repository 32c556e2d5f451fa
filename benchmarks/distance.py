"""What the distance to a store costs: latency, a cap on every connection, a link that all of them share.

The stub pretends it (`-l`, `-r`, `-R`), on both sides, so that any machine shows the same.  Servers and clients share
all cores.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks.clients import CRC, OURS_CRC, OURS_OPAQUE, RELAY_CRC, ours, relay_crc
from benchmarks.compare import GIB, MIB, Client, compare, say
from benchmarks.peers import peers
from benchmarks.results import Section
from benchmarks.server import Objects
from benchmarks.targets import FILLED, OFF_BY
from benchmarks.world import MEMORY_FOLDER, World, world

LATENCY_FLAGS = ("-l", "40", "-r", "60")
LINK_MIB, CONNECTION_MIB = 200, 8
LINK_FLAGS = ("-l", "50", "-r", str(CONNECTION_MIB), "-R", str(LINK_MIB))
LIMIT_MIB = 100
RELAY_LANES = 32
_OURS_ALONE = 1


def latency(gib: float, rounds: int) -> Section:
    """40 ms to the first byte and 60 MiB/s for each connection: everybody as they come."""
    objects = Objects("src/model/", 4, int(gib * GIB / 4))
    title = f"S3 to S3, both 40 ms away, 60 MiB/s a connection, 4 files of {objects.size // MIB} MiB"
    section = Section("latency", title, gib)
    with _far(objects, LATENCY_FLAGS) as made:
        names = [Path(name).name for name in objects.names]
        crc = ours(made.leg(), name=OURS_CRC, settings=CRC)
        reference = relay_crc(made.leg(), lanes=RELAY_LANES)
        others = peers(
            made.leg(), names=names, work=made.work
        )  # by what the stub pretends, hardly by the machine: once
        clients = [_mine(made), crc, reference, *others]
        wanted = [client for client in clients if not client.name.startswith("Debian")]
        _measure(section, made, wanted, rounds, once=frozenset(client.name for client in others))
    section.remarks.append(
        f"{RELAY_CRC} has {RELAY_LANES} lanes from its first byte on, as it cuts files; the one with SHA-256 cannot "
        "and would be held to one connection a file."
    )
    for client in section.free:
        section.facts[f"MiB/s: {client}"] = gib * 1024 / section.wall(client)
    return section


def link(name: str, files: int, size: int) -> Section:
    """50 ms, a cap on each connection and a link that takes 25 of them to fill: we alone, by default settings."""
    objects = Objects("src/model/", files, size)
    gib = files * size / GIB
    title = f"S3 to S3, 50 ms, {CONNECTION_MIB} MiB/s a connection, {LINK_MIB} MiB/s in all: "
    each = f"{size / GIB:.3g} GiB" if size >= GIB else f"{size // MIB} MiB"
    title += f"{files} file{'s' if files > 1 else ''} of {each}"
    section = Section(name, title, gib)
    with _far(objects, LINK_FLAGS) as made:
        _measure(section, made, [_mine(made)], _OURS_ALONE)
    rate = gib * 1024 / section.wall(OURS_OPAQUE)
    section.facts |= {"MiB/s of the whole run": rate, FILLED: rate / LINK_MIB}
    return section


def bandwidth(gib: float) -> Section:
    """Our own limit, by two runs of different sizes: what they have in common, start and end, is in both."""
    section = Section("bandwidth", f"S3 to S3, limited by us to {LIMIT_MIB} MiB/s, {gib:g} and {3 * gib:g} GiB")
    for times in (1, 3):
        with _far(Objects("src/model/", 4, int(times * gib * GIB / 4)), ()) as made:
            limited = _mine(made, S3_SYNC_TRANSFER_CONFIG__BANDWIDTH=f"{LIMIT_MIB}MiB")
            _measure(section, made, [limited], _OURS_ALONE)
    walls = [sample.wall for sample in section.free.get(OURS_OPAQUE, ())]
    if len(walls) == len((1, 3)):
        rate = 2 * gib * 1024 / (walls[1] - walls[0])
        section.facts |= {"MiB/s": rate, OFF_BY: abs(rate / LIMIT_MIB - 1)}
    return section


def _far(objects: Objects, flags: tuple[str, ...]) -> AbstractContextManager[World]:
    base = MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None
    return world("s3-s3", objects, tls=False, base=base, flags=flags, pinned=False)


def _mine(made: World, **settings: str) -> Client:
    return ours(made.leg("opaque"), name=OURS_OPAQUE, settings=settings)


def _measure(
    section: Section, made: World, clients: list[Client], rounds: int, *, once: frozenset[str] = frozenset()
) -> None:
    say(f"{section.name}: {section.title}")
    results = compare(clients, made, rounds=rounds, once=once)
    for name, samples in results.good.items():
        section.free.setdefault(name, []).extend(samples)
    section.failed |= {name: words[0] for name, words in results.bad.items()}
