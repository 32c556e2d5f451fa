"""What a file costs in memory from listing to seal, measured in a process of its own.

    python -m tests.support.file_costs first_run|second_run|journal

Why in a process of its own says `measured_memory`.
"""

import gc
import hashlib
import sys
import tracemalloc
from collections.abc import Callable
from typing import TypeVar

from syncer import marker
from syncer.journal import Journal, recover
from syncer.manifest import FileRecord, Listing, Manifest, ModelFile
from syncer.plan import Options, Plan, Recovered, make_plan
from syncer.stores.protocols import Limits
from tests.support.memory_store import MemoryControl, MemoryVolume

FILES = 1_000
SOURCE = "s3://source/model/"
T = TypeVar("T")


def cost_of(work: Callable[[], T]) -> tuple[T, float, float]:
    """What `work` returns, and the bytes for each file that this holds, and that `work` needed at most."""
    gc.freeze()  # what was there before need not be looked through
    tracemalloc.start()
    try:
        result = work()
        _, most = tracemalloc.get_traced_memory()
        gc.collect()  # empties the interpreter's own store of tuples that can be used again
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.unfreeze()
    return result, held / FILES, most / FILES


def etag(of: str) -> str:
    return hashlib.md5(of.encode(), usedforsecurity=False).hexdigest()


def listed() -> Listing:
    """As a store lists it: no text is the same object as that of another listing."""
    return Listing.of(ModelFile(f"shards/part-{n:06}.json", 1000 + n, etag(f"{n}")) for n in range(FILES))


def planned(wanted: Listing, there: Listing, previous: Manifest | None = None) -> Plan:
    return make_plan(
        wanted,
        there,
        source=SOURCE,
        previous=previous,
        recovered=Recovered(),
        limits=Limits(),
        options=Options(),
    )


def proved(plan: Plan) -> dict[str, FileRecord]:
    """As an errand records it; the destination's versions are others than the source's."""
    return {
        step.file.path: FileRecord(
            step.file.path,
            step.file.size,
            {"sha256": hashlib.sha256(step.file.path.encode()).hexdigest()},
            "stream",
            step.file.version,
            etag(step.file.path),
        )
        for step in plan.copy
    }


def first_run() -> None:
    wanted, held, _ = cost_of(listed)
    assert held < 310
    plan, held, most = cost_of(lambda: planned(wanted, Listing({})))
    assert len(plan.copy) == FILES
    assert (held < 160, most < 290) == (True, True)
    records, held, _ = cost_of(lambda: proved(plan))
    assert held < 320
    control = MemoryControl(MemoryVolume(), "model/.syncer/")
    manifest = Manifest(SOURCE, "", records)
    _, held, most = cost_of(lambda: marker.write_manifest(control, manifest))
    written = control.read(marker.MANIFEST)
    assert written is not None
    text = len(written[0]) / FILES
    assert (held < 1.1 * text, most < 1.3 * text) == (True, True)


def second_run() -> None:
    control = MemoryControl(MemoryVolume(), "model/.syncer/")
    marker.write_manifest(control, Manifest(SOURCE, "", proved(planned(listed(), Listing({})))))
    wanted = listed()
    there = Listing.of(ModelFile(file.path, file.size, etag(file.path)) for file in wanted.files.values())
    previous, held, most = cost_of(lambda: marker.read_manifest(control, wanted, there))
    assert previous is not None
    assert (held < 240, most < 560) == (True, True)
    plan, held, most = cost_of(lambda: planned(wanted, there, previous))
    assert len(plan.keep) == FILES
    assert (held < 20, most < 40) == (True, True)


def journal_of_a_run() -> None:
    wanted = listed()
    records = proved(planned(wanted, Listing({})))
    control = MemoryControl(MemoryVolume(), "model/.syncer/")
    journal = Journal(control, source=SOURCE)
    _, held, most = cost_of(lambda: journal.open_run(wanted.files))
    assert (held < 40, most < 60) == (True, True)  # the text of it
    for record in records.values():
        journal.finished(record, at_once=False)
    _, _, most = cost_of(journal.flush)
    assert most < 380
    recovered, held, _ = cost_of(lambda: recover(control, wanted))
    assert recovered.finished == records
    assert held < 430


if __name__ == "__main__":
    {"first_run": first_run, "second_run": second_run, "journal": journal_of_a_run}[sys.argv[1]]()
