"""Which pod of an Indexed Job carries what.  Pure: the plan's files and the number of pods in, a portion for each out.

Every pod computes the same division by itself, from the plan that all of them read, so nobody has to hand work out.  A
portion depends on the files and the number of pods alone: not on the order of the files, not on what is done already,
and not on which pods are alive.  A lost pod's replacement has the portion of the lost one, and all others keep theirs.

**Whole files first.**  SHA-256 does not combine: a file whose parts went through several pods is proved by reading all
of it back, and that begins when its last part is there.  A file that one pod carries is proved on its way.  So files
stay whole where that balances, and one is cut only where the run ends sooner by it, what is read back included.  With a
digest that combines nothing is read back (`read_back=0`), and files are cut until the shares are level.

**The reckoning.**  A run lasts as long as its largest share, and then as long as the reading back of all cut files by
one pod.  For files of about equal sizes cutting hardly ever pays with SHA-256; for one file that is larger than several
fair shares it does.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from syncer.memory import MiB
from syncer.stores.protocols import Cut

RULE: Final = 1
"""Goes up whenever `divide` gives other portions for the same files: two rules must not meet in one run."""
READ_BACK: Final = 0.6
"""What a byte costs that is read back and hashed, where one that is copied and hashed costs 1: the way out is saved."""
_PER_FILE: Final = MiB
"""What a file costs beside its bytes, in bytes: its requests.  So no pod gets all the small ones."""
_LEVEL: Final = 1.09
"""A share that is larger than the fair one by this much is level; with what weights and bytes differ by, a tenth."""
_GRAIN: Final = 0.01
"""Files below this much of a fair share can be put anywhere: the reckoning takes them for a liquid."""


@dataclass(frozen=True)
class Range:
    """Parts of a cut file that lie side by side: `count` parts from part `first`, as its cut numbers them."""

    path: str
    first: int
    count: int

    @property
    def parts(self) -> range:
        """The indices of the parts."""
        return range(self.first, self.first + self.count)

    def bytes(self, cut: Cut) -> int:
        """Bytes of the range in a file that was cut by `cut`."""
        end = self.first + self.count
        return min(cut.size, cut.offset(end)) - cut.offset(self.first)


@dataclass(frozen=True)
class Portion:
    """What one pod carries: its parts of cut files, which come first as somebody waits for them, and whole files.

    Either may be empty, where there are more pods than work.
    """

    ranges: tuple[Range, ...] = ()
    whole: tuple[str, ...] = ()

    def bytes(self, files: Mapping[str, Cut]) -> int:
        """Bytes that this pod copies."""
        return sum(piece.bytes(files[piece.path]) for piece in self.ranges) + sum(
            files[path].size for path in self.whole
        )


def weight(cut: Cut) -> int:
    """What carrying a file costs, in bytes: its own, and something for its requests."""
    return cut.size + _PER_FILE


def divide(files: Mapping[str, Cut], count: int, *, read_back: float = READ_BACK) -> tuple[Portion, ...]:
    """One portion for each of `count` pods; together they are all `files`, and no part is in two of them.

    `read_back` is what a byte of a cut file costs once more at the end; 0 where nothing is read back.  Files whose
    parts come in order stay whole.  With 0, no portion is more than a tenth above the fair one, unless a file that
    must stay whole or a single part is itself larger than that.
    """
    order = sorted(files, key=lambda path: (-files[path].size, path))
    cuttable = [path for path in order if files[path].count > 1 and not files[path].in_order] if count > 1 else []
    cut = cuttable[: _how_many_to_cut(files, order, cuttable, count, read_back)]
    apart = frozenset(cut)
    whole: list[list[str]] = [[] for _ in range(count)]
    loads = [0] * count
    kept = [path for path in order if path not in apart]
    for path, index in zip(kept, _place((weight(files[path]) for path in kept), loads), strict=True):
        whole[index].append(path)
    ranges = _pour(cut, files, loads)
    return tuple(Portion(ranges=tuple(pieces), whole=tuple(paths)) for pieces, paths in zip(ranges, whole, strict=True))


def cut_paths(portions: Iterable[Portion]) -> frozenset[str]:
    """The files that were cut: several pods carry them, or one of them in ranges."""
    return frozenset(piece.path for portion in portions for piece in portion.ranges)


def _how_many_to_cut(
    files: Mapping[str, Cut], order: Sequence[str], cuttable: Sequence[str], count: int, read_back: float
) -> int:
    """How many of the largest files to cut, so that the run ends as early as can be; as few as come near to that."""
    total = sum(weight(cut) for cut in files.values())
    level = _LEVEL * total / count
    lumps = [path for path in order if weight(files[path]) > _GRAIN * total / count]
    best, chosen, number, apart_bytes = float("inf"), 0, 0, 0
    while True:
        apart = frozenset(cuttable[:number])
        loads = [0] * count
        for _ in _place((weight(files[path]) for path in lumps if path not in apart), loads):
            pass
        lasts = max(*loads, total / count) + read_back * apart_bytes
        if lasts < best:
            best, chosen = lasts, number
        if best <= level or number == len(cuttable):
            return chosen
        further = min(len(cuttable), number + max(1, number // 16))
        if not read_back:  # whatever is larger than a level share must be cut in any case
            while further < len(cuttable) and weight(files[cuttable[further]]) > level:
                further += 1
        apart_bytes += sum(files[path].size for path in cuttable[number:further])
        number = further
        if total / count + read_back * apart_bytes >= best:
            return chosen


def _place(weights: Iterable[int], loads: list[int]) -> Iterable[int]:
    """Put one weight after the other upon the lightest load, and yield which that was.

    The largest first makes it the rule that is known as LPT.  Pod 0 comes last among equals, as it has more to do.
    """
    count = len(loads)
    lightest = [(load, (index - 1) % count) for index, load in enumerate(loads)]
    heapq.heapify(lightest)
    for more in weights:
        load, turn = lightest[0]
        heapq.heapreplace(lightest, (load + more, turn))
        index = (turn + 1) % count
        loads[index] = load + more
        yield index


def _pour(cut: Sequence[str], files: Mapping[str, Cut], loads: Sequence[int]) -> list[list[Range]]:
    """Share the parts of the `cut` files out upon the `loads`, as water would find its level.

    The files lie one behind the other, and each pod takes the stretch that fills its gap, to the nearest whole part: so
    no pod has more than one range of a file.
    """
    ranges: list[list[Range]] = [[] for _ in loads]
    room = _gaps(loads, sum(files[path].size for path in cut))
    ends = list(accumulate(room))
    start = 0.0
    for path in cut:
        one = files[path]
        first = 0
        for index, end in enumerate(ends):
            if end <= start and index < len(ends) - 1:
                continue
            last = one.count if index == len(ends) - 1 else min(one.count, round((end - start) / one.part_size))
            if last > first:
                ranges[index].append(Range(path, first, last - first))
                first = last
            if first == one.count:
                break
        start += one.size
    return ranges


def _gaps(loads: Sequence[int], pool: int) -> list[float]:
    """How much of `pool` goes upon each load, so that all that get something end level."""
    level, below, used = 0.0, 0, 0
    for load in sorted(loads):
        if below and load * below - used >= pool:
            break
        below, used = below + 1, used + load
        level = (pool + used) / below
    return [max(0.0, level - load) for load in loads]
