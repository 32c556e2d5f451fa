"""What many pods would take, on paper: requests, listings, memory, balance and time for 1 to 256 pods.

    python -m benchmarks.scale_model                # the tables of docs/many-pods.md
    python -m benchmarks.scale_model --store 100 --links 1 2.5:25 --pods 1 8 --models DeepSeek-R1

Nothing is copied.  The files are cut by `plan.cut_file` and divided by `shares.divide`, as a run does it; requests are
counted by what each file and each pod sends; the time is the slowest of what bounds a pod:

- its own links to the source and to the destination, and what each store gives all pods together;
- what one process moves and hashes (`POD_RATE`);
- for a file that one pod carries whole: how fast one file can be hashed, as SHA-256 goes from byte to byte;
- the answers that it waits for, with so many lanes at once.

After the slowest pod index 0 reads back what was cut, where the digest does not combine.  What the model leaves out:
starting pods, other users of the links, repeated requests.
"""

from __future__ import annotations

import argparse
import sys
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from benchmarks.public_models import MODELS
from syncer.lease import BEAT_SECONDS
from syncer.manifest import ModelFile
from syncer.plan import cut_file
from syncer.shares import READ_BACK, Portion, cut_paths, divide
from syncer.sharing.board import POLL_SECONDS, SharedFile, SharedPlan, publish
from syncer.stores.protocols import ControlFolder, Cut
from syncer.stores.s3.destination import LIMITS

GB: Final = 10**9
MiB: Final = 2**20
_GBIT: Final = 10**9 / 8
_PAGE: Final = 1000
"""Keys that one answer of ListObjectsV2 holds."""
_LISTINGS: Final = 3
"""Of index 0: the source once, the destination before the plan and before the seal.  All others list the source."""

HASH_RATE: Final = 1.9 * GB
"""Bytes a second of SHA-256 over one file on one core: 0.56 s a GiB on the machine of `benchmarks/README.md`."""
POD_RATE: Final = 2.0 * GB
"""Bytes a second that one process moves, whatever its link: an assumption, near what the relays take there."""
LANES: Final = 32
LATENCY: Final = 0.03
"""Seconds until a store answers a request."""

SYNTHETIC: Final = {
    "1 TB in one file": (10**12,),
    "1 TB in 200 files": (5 * GB,) * 200,
    "1 TB in 100,000 files": (10**7,) * 100_000,
}
SHOWN: Final = ("Llama-3.1-70B", "Llama-3.1-405B", "DeepSeek-R1", *SYNTHETIC)
PODS: Final = (1, 4, 16, 64, 256)
LINKS: Final = ("1", "10", "100", "1:10")
STORE: Final = 200.0


@dataclass(frozen=True)
class World:
    """What the network gives, in bytes a second: each pod from the source and to the destination, a store to all."""

    source: float
    destination: float
    store: float

    @classmethod
    def of(cls, links: str, store: float) -> World:
        """From Gbit/s: `10`, or `1:10` where the source is farther away than the destination."""
        source, _, destination = links.partition(":")
        return cls(float(source) * _GBIT, float(destination or source) * _GBIT, store * _GBIT)


@dataclass(frozen=True)
class Shared:
    """One model among some pods."""

    files: Mapping[str, Cut]
    portions: tuple[Portion, ...]
    read_back: float

    @classmethod
    def of(cls, files: Mapping[str, Cut], count: int, *, read_back: float) -> Shared:
        """Divide, at what the reading back of a cut file costs."""
        return cls(files, divide(files, count, read_back=read_back), read_back)

    @property
    def imbalance(self) -> float:
        """The largest share over the fair one."""
        return max(portion.bytes(self.files) for portion in self.portions) * len(self.portions) / size(self.files)

    @property
    def proved_again(self) -> int:
        """Bytes that index 0 reads back."""
        return sum(self.files[path].size for path in cut_paths(self.portions)) if self.read_back else 0

    def seconds(self, world: World) -> float:
        """From the first byte to the last one that is proved."""
        rate = min(world.source, world.destination, POD_RATE)
        slowest = max(self._carrying(portion, rate) for portion in self.portions)
        return max(slowest, size(self.files) / world.store) + self._reading_back(world)

    def _carrying(self, portion: Portion, rate: float) -> float:
        parts = sum(piece.count for piece in portion.ranges) + sum(self.files[path].count for path in portion.whole)
        largest = max((self.files[path].size for path in portion.whole), default=0) if self.read_back else 0
        return max(portion.bytes(self.files) / rate, largest / HASH_RATE, 2 * parts * LATENCY / LANES)

    def _reading_back(self, world: World) -> float:
        if not self.proved_again:
            return 0.0
        largest = max(self.files[path].size for path in cut_paths(self.portions))
        return max(self.proved_again / min(world.destination, world.store, POD_RATE), largest / HASH_RATE)


def cut(sizes: Sequence[int]) -> dict[str, Cut]:
    """The files of these sizes, as a run cuts them for a bucket."""
    made = {f"{number:06}": cut_file(size, limits=LIMITS, part_size=None) for number, size in enumerate(sizes)}
    return {path: one for path, one in made.items() if one is not None}


def size(files: Mapping[str, Cut]) -> int:
    """Bytes of a model."""
    return sum(one.size for one in files.values())


def requests(files: Mapping[str, Cut]) -> int:
    """For the bytes, however many pods there are: a read and a write a part, a beginning and an end for several."""
    return sum(2 * one.count + (2 if one.count > 1 else 0) for one in files.values())


def listings(files: Mapping[str, Cut], count: int) -> int:
    """Requests for the listings of all pods."""
    return (_LISTINGS + count - 1) * -(-len(files) // _PAGE)


class Board:
    """Takes what is written to the destination's control files, and knows how much that is."""

    def __init__(self) -> None:
        self.bytes = 0

    def write(self, _name: str, data: bytes) -> None:
        """Take a file."""
        self.bytes += len(data)


def plan_costs(sizes: Sequence[int], count: int) -> tuple[int, int]:
    """Bytes of the plan as every pod reads it, and as every pod holds it with its division, measured here."""
    tracemalloc.start()
    plan = SharedPlan(
        run="01795274852000000000-abcdef",
        source="s3://bucket/folder/",
        revision="",
        count=count,
        files={
            path: SharedFile(ModelFile(path, one.size, f"{path:>032}"), one.part_size)
            for path, one in cut(sizes).items()
        },
        apart=True,
    )
    assert plan.portions
    memory, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    board = Board()
    publish(cast("ControlFolder", board), plan, holder="0" * 32)
    return board.bytes, memory


def talk(count: int) -> float:
    """Requests a second beside the bytes.

    With each beat a pod reads and writes its lease and looks at the notice, and index 0 looks which shares are done.
    """
    return count * 3 / BEAT_SECONDS + 1 / POLL_SECONDS if count > 1 else 2 / BEAT_SECONDS


def model_table(models: Mapping[str, Sequence[int]], most: int) -> Iterator[str]:
    """What a model takes, and the most when it is shared."""
    yield f"| model | files | GB | requests for the bytes | listings: 1 pod, {most} pods | plan: read, held by a pod |"
    yield "|---|---|---|---|---|---|"
    for name, sizes in models.items():
        files = cut(sizes)
        read, held = plan_costs(sizes, most)
        row = f"{len(files):,} | {size(files) / GB:,.0f} | {requests(files):,}"
        asked = f"{listings(files, 1):,}, {listings(files, most):,}"
        yield f"| {name} | {row} | {asked} | {read / MiB:.1f} MiB, {held / MiB:.1f} MiB |"


def shares_table(divided: Mapping[str, Mapping[int, tuple[Shared, Shared]]], pods: Sequence[int]) -> Iterator[str]:
    """The largest share, where the fair one is 1, and what is read back."""
    yield f"| model | cut files are | {' | '.join(f'{count} pods' if count > 1 else '1 pod' for count in pods)} |"
    yield f"|---|---|{'---|' * len(pods)}"
    for name, by_count in divided.items():
        for turn, proof in enumerate(("read back", "combined")):
            cells = (by_count[count][turn] for count in pods)
            yield f"| {name} | {proof} | {' | '.join(_balance(shared) for shared in cells)} |"


def time_table(
    divided: Mapping[str, Mapping[int, tuple[Shared, Shared]]], links: Sequence[str], store: float
) -> Iterator[str]:
    """How long it takes with SHA-256, and after the slash with a digest that combines, where that differs."""
    yield f"| model | pods | {' | '.join(f'{link} Gbit/s' for link in links)} |"
    yield f"|---|---|{'---|' * len(links)}"
    for name, by_count in divided.items():
        for count, both in by_count.items():
            worlds = [World.of(link, store) for link in links]
            cells = (" / ".join(dict.fromkeys(_duration(each.seconds(world)) for each in both)) for world in worlds)
            yield f"| {name} | {count} | {' | '.join(cells)} |"


def talk_table(pods: Sequence[int]) -> Iterator[str]:
    """What the pods ask of the destination beside the bytes."""
    yield f"| pods | {' | '.join(map(str, pods))} |"
    yield f"|---|{'---|' * len(pods)}"
    yield f"| requests a second beside the bytes | {' | '.join(f'{talk(count):.1f}' for count in pods)} |"


def _balance(shared: Shared) -> str:
    again = f", {shared.proved_again / GB:,.0f} GB read back" if shared.proved_again else ""
    return f"{shared.imbalance:.2f}{again}"


def _duration(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def tables(models: Mapping[str, Sequence[int]], pods: Sequence[int], links: Sequence[str], store: float) -> str:
    """All of them, as Markdown."""
    divided = {
        name: {
            count: (Shared.of(files, count, read_back=READ_BACK), Shared.of(files, count, read_back=0))
            for count in pods
        }
        for name, files in ((name, cut(sizes)) for name, sizes in models.items())
    }
    each = (
        model_table(models, max(pods)),
        shares_table(divided, pods),
        time_table(divided, links, store),
        talk_table(pods),
    )
    return "\n\n".join("\n".join(table) for table in each)


def main(arguments: Sequence[str]) -> int:
    """Print the tables."""
    known = {**MODELS, **SYNTHETIC}
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale_model", description=str(__doc__).partition("\n")[0]
    )
    parser.add_argument("--models", nargs="+", choices=known, default=SHOWN)
    parser.add_argument("--pods", nargs="+", type=int, default=PODS)
    parser.add_argument("--links", nargs="+", default=LINKS, help="each pod's in Gbit/s; 1:10 for a farther source")
    parser.add_argument("--store", type=float, default=STORE, help="what each store gives all pods, in Gbit/s")
    options = parser.parse_args(arguments)
    models = {name: known[name] for name in options.models}
    sys.stdout.write(f"{tables(models, options.pods, options.links, options.store)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
