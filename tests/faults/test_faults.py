"""Every fault at every store in every phase does what docs/reliability.md says.

`make reliability` writes what is measured into the document instead of comparing it.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults import table
from tests.faults.frame import Bench, measure, undisturbed
from tests.faults.stores import STORES
from tests.support.processes import Pod

CASES = [
    pytest.param(
        store.key,
        row.name,
        phase.name,
        id=f"{store.key}-{phase.name}-{row.name}".replace(" ", "_"),
        marks=[pytest.mark.real] if store.real else [],
    )
    for store in STORES.values()
    for phase in store.phases
    for row in store.rows
    if row.fits(phase.kinds)
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
    measured = measure(bench, pod, row, phase)
    if folder := os.environ.get("SYNCER_RELIABILITY"):
        table.note(Path(folder), key, row_name, phase_name, measured)
    else:
        assert measured == table.cell(key, row_name, phase_name), "docs/reliability.md says otherwise"
