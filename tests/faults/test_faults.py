"""Every fault at every store in every phase does what docs/reliability.md says.

`make reliability` writes what is measured into the document instead of comparing it.  `SYNCER_FAULTS=all` compares the
whole of it; otherwise a part of it is compared, always the same one, of all stores, phases and faults.
"""

import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults import table
from tests.faults.frame import FOR_EVER, Bench, measure, measure_once, undisturbed
from tests.faults.stores import STORES
from tests.support.processes import Pod

pytestmark = pytest.mark.real

ALL = os.environ.get("SYNCER_FAULTS") == "all" or "SYNCER_RELIABILITY" in os.environ
ONE_IN = 8
"""Of how many cases one is compared, where not all are."""
FOR_EVER_ONE_IN = 40
"""Of how many one is also tried with the fault for ever: such runs take long."""


def _number(*case: str) -> int:
    return zlib.crc32("\n".join(case).encode())


CASES = [
    pytest.param(
        store.key,
        row.name,
        phase.name,
        id=f"{store.key}-{phase.name}-{row.name}".replace(" ", "_"),
    )
    for store in STORES.values()
    for phase in store.phases
    for row in store.rows
    if row.fits(phase.kinds) and (ALL or _number(store.key, row.name, phase.name) % ONE_IN == 0)
]


Benches = Callable[[str], Bench]


@pytest.fixture(scope="session")
def bench_of(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Benches]:
    """The benches that were asked for, each with a run behind it that nobody disturbed."""
    made: dict[str, Bench] = {}
    with ExitStack() as running:

        def bench(key: str) -> Bench:
            if key not in made:
                folder = tmp_path_factory.mktemp(key)
                pod = Pod(tmp_path_factory.mktemp("pod"))
                made[key] = running.enter_context(STORES[key].bench(request, folder))
                made[key].anew()
                undisturbed(made[key], pod)
                made[key].learn()
            return made[key]

        yield bench


@pytest.mark.parametrize(("key", "row_name", "phase_name"), CASES)
def test_what_happens_is_what_the_table_says(
    key: str, row_name: str, phase_name: str, bench_of: Benches, pod: Pod
) -> None:
    store, bench = STORES[key], bench_of(key)
    row = next(row for row in store.rows if row.name == row_name)
    phase = next(phase for phase in store.phases if phase.name == phase_name)
    if folder := os.environ.get("SYNCER_RELIABILITY"):
        table.note(Path(folder), key, row_name, phase_name, measure(bench, pod, row, phase))
        return
    said = table.cell(key, row_name, phase_name)
    if ALL or _number(key, row_name, phase_name) % FOR_EVER_ONE_IN == 0:
        assert measure(bench, pod, row, phase) == said, "docs/reliability.md says otherwise"
    else:
        once = measure_once(bench, pod, row, phase)
        assert once == said.partition(FOR_EVER)[0], "docs/reliability.md says otherwise"
