"""What a byte costs on its way through us: against the least that Python can do, and against what people use instead.

    python -m benchmarks.data_path [--path s3-s3|s3-dir|s3-disk|dir-s3|hub-s3|s3-oci] [--tls] [--gib 4] [--no-peers]

Where the destination is S3 we are measured twice with SHA-256, because we check what the store says about each part: at
most stores its ETag is an MD5, which costs us an MD5 of our own, and at some it is not.  Once more with CRC-64/NVME.
One untimed round tells whether every client delivers the right bytes; those that do are measured in interleaved
rounds, with the client and the servers on cores of their own, then on all cores.  Exit 1 when one did not deliver.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import sources
from benchmarks.clients import BENCH, CRC, OURS_CRC, OURS_OPAQUE, Leg, obstore, ours, relay, relay_crc, splice
from benchmarks.compare import GIB, Client, Results, Scene, compare, say
from benchmarks.images import Place, image_place, missing
from benchmarks.peers import ONCE, hub_peers, peers
from benchmarks.report import section_table
from benchmarks.results import Section
from benchmarks.server import Objects
from benchmarks.world import MEMORY_FOLDER, TINY, World, client_cores, server_cores, world

PATHS = ("s3-s3", "s3-dir", "s3-disk", "dir-s3", "hub-s3", "s3-oci")
TITLES = {
    "s3-s3": "S3 to S3, two endpoints",
    "s3-dir": "S3 to a directory in memory",
    "s3-disk": "S3 to a directory on the disk",
    "dir-s3": "directory in memory to S3",
    "hub-s3": "Hugging Face to S3",
    "s3-oci": "S3 to an image in Docker's registry",
}


@dataclass(frozen=True)
class Plan:
    """How much is measured.  `free` rounds are those on all cores."""

    gib: float = 1.0
    files: int = 4
    rounds: int = 3
    free: int = 2
    with_peers: bool = True
    folder: Path | None = None
    """Where folders are made, in place of memory and the system's place for temporary files."""


@dataclass(frozen=True)
class Stage:
    """Who takes part, in which scene; `starters` are the same with next to nothing to do."""

    made: World
    scene: Scene
    clients: Sequence[Client]
    starters: Sequence[Client]


@contextmanager
def stage(path: str, plan: Plan, *, tls: bool) -> Iterator[Stage]:
    """Everything up and running; `SystemExit` says what is missing."""
    objects = Objects("src/model/", plan.files, int(plan.gib * GIB / plan.files))
    source, target = path.split("-")
    ends = f"{'dir' if source == 'dir' else 's3'}-{'s3' if target in {'s3', 'oci'} else 'dir'}"
    in_memory = MEMORY_FOLDER if MEMORY_FOLDER.is_dir() and path != "s3-disk" else None
    with ExitStack() as stack:
        made = stack.enter_context(world(ends, objects, tls=tls, base=plan.folder or in_memory))
        tiny = replace(made, objects=TINY)
        if source == "dir":
            tiny.fill_folder()
        if target == "oci":
            if why := missing():
                raise SystemExit(why)
            place = stack.enter_context(image_place(made, tls=tls))
            small = replace(place, made=tiny, repository="team/tiny")
            yield Stage(made, place, _into_image(place), _into_image(small))
        elif source == "hub":
            endpoint = stack.enter_context(sources.hub_of({"team/model": made, "team/tiny": tiny}))
            clients = _from_hub(made, endpoint, "team/model", with_peers=plan.with_peers)
            yield Stage(made, made, clients, _from_hub(tiny, endpoint, "team/tiny", with_peers=plan.with_peers))
        else:
            yield Stage(made, made, _plain(made, tls, plan), _plain(tiny, tls, plan))


def _ours(made: World, *, leg: Leg | None = None, settings: dict[str, str] | None = None) -> list[Client]:
    """Us with every proof."""
    base, more = leg or made.leg(), settings or {}
    if not made.path.endswith("s3"):
        return [ours(base, settings=more), ours(base, name=OURS_CRC, settings=more | CRC)]
    opaque = replace(base, target=made.leg("opaque").target)
    return [
        ours(opaque, name=OURS_OPAQUE, settings=more),
        ours(base, settings=more),
        ours(base, name=OURS_CRC, settings=more | CRC),
    ]


def _references(leg: Leg, made: World) -> list[Client]:
    return [relay(leg, lanes=made.objects.count), relay_crc(leg, lanes=made.objects.count)]


def _plain(made: World, tls: bool, plan: Plan) -> list[Client]:  # noqa: FBT001 - as the world's own
    leg = made.leg()
    clients = [*_ours(made), *_references(leg, made)]
    if made.path == "s3-s3":
        clients += [] if tls else [splice(leg, lanes=made.objects.count)]
        clients += [obstore(leg, files=made.objects.count)] if (BENCH / "python").exists() else []
    names = [Path(name).name for name in made.objects.names]
    return clients + (peers(leg, names=names, work=made.work) if plan.with_peers else [])


def _from_hub(made: World, endpoint: str, repository: str, *, with_peers: bool) -> list[Client]:
    """The relay reads the Hub's storage as it reads S3: that is where the bytes are."""
    settings = sources.hub_settings(endpoint, repository)
    elsewhere = replace(made.leg(), source="", src_endpoint="")
    clients = [*_ours(made, leg=elsewhere, settings=settings), *_references(made.leg(), made)]
    if not with_peers:
        return clients
    return clients + hub_peers(made.leg(), endpoint=endpoint, repository=repository, work=made.work)


def _into_image(place: Place) -> list[Client]:
    crc = replace(place.to_image(**CRC), name=OURS_CRC)
    return [place.to_image(), crc, place.relay(lanes=place.made.objects.count)]


def measure(path: str, plan: Plan, *, tls: bool) -> Section:
    """All clients on one path."""
    scheme = "https" if tls else "http"
    with stage(path, plan, tls=tls) as ready:
        made, cores = ready.made, client_cores()
        gib = made.objects.count * made.objects.size / GIB
        section = Section(f"{path}-{scheme}", f"{TITLES[path]}, {scheme}", gib)
        say(f"{section.name}, round 0: right bytes?")
        made.check_bytes(on=True)
        section.failed = _words(compare(ready.clients, ready.scene, rounds=1, cores=cores))
        made.check_bytes(on=False)
        able = [client for client in ready.clients if client.name not in section.failed]
        say(f"{plan.rounds} rounds of {gib:g} GiB, client and servers apart")
        pinned = compare(able, ready.scene, rounds=plan.rounds, cores=cores, once=ONCE)
        starters = [client for client in ready.starters if client.name not in section.failed]
        say("start and end alone")
        section.start = compare(starters, _Unchecked(ready.scene), rounds=2, cores=cores, once=ONCE).good
        say(f"{plan.free} rounds on all cores")
        made.pin(None)
        free = compare(able, ready.scene, rounds=plan.free, once=ONCE)
        made.pin(server_cores())
        section.pinned, section.free = pinned.good, free.good
        section.failed |= _words(pinned) | _words(free)
    return section


def _words(results: Results) -> dict[str, str]:
    return {name: words[0] for name, words in results.bad.items()}


@dataclass(frozen=True)
class _Unchecked:
    """A scene whose destination nobody looks at."""

    scene: Scene

    def clear(self) -> None:
        """Make the destination empty."""
        self.scene.clear()

    def problem(self) -> str:
        """Nothing."""
        return ""

    def server_seconds(self) -> float:
        """As it is."""
        return self.scene.server_seconds()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure one path; the exit status."""
    plan = Plan()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=4, help="bytes of a run in GiB")
    parser.add_argument("--files", type=int, default=plan.files, help="files that they are cut into")
    parser.add_argument("--rounds", type=int, default=plan.rounds)
    parser.add_argument("--free", type=int, default=0, help="rounds on all cores in addition")
    parser.add_argument("--path", choices=PATHS, default="s3-s3")
    parser.add_argument(
        "--tls", action="store_true", help="HTTPS on both sides (the stub then needs OpenSSL's headers)"
    )
    parser.add_argument("--no-peers", action="store_true", help="us and the references alone")
    parser.add_argument("--folder", type=Path, help="where directories are made (default: in memory, or the disk)")
    given = parser.parse_args(arguments)
    plan = Plan(given.gib, given.files, given.rounds, given.free, not given.no_peers, given.folder)
    section = measure(given.path, plan, tls=given.tls)
    print(section_table(section))
    return 1 if section.failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
