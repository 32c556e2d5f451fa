"""docs/reliability.md has a cell for every case there is, and no other; what is in them, tests/faults measures."""

import re

import pytest

from tests.faults import table
from tests.faults.frame import FOR_EVER, MEANINGS
from tests.faults.stores import STORES

OUTCOME = re.compile(rf"{'|'.join(map(re.escape, MEANINGS))}|\d\d")


@pytest.mark.parametrize("key", STORES)
def test_no_cell_is_empty(key: str) -> None:
    store, text = STORES[key], table.DOCUMENT.read_text(encoding="utf-8")
    cells = dict(table.cells_of(key, table.parts(text)[key]))
    rows = [row for row in store.rows if any(row.fits(phase.kinds) for phase in store.phases)]
    assert cells.keys() == {(key, row.name, phase.name) for row in rows for phase in store.phases}
    for row in rows:
        for phase in store.phases:
            said = cells[key, row.name, phase.name]
            if row.fits(phase.kinds):
                assert all(OUTCOME.fullmatch(word) for word in said.split(FOR_EVER)), said
                assert "70" not in said
            else:
                assert said == table.CANNOT
                assert row.why_not


def test_the_legend_is_the_one_of_the_code() -> None:
    text = table.DOCUMENT.read_text(encoding="utf-8")
    assert table.renewed(text, {}) == text


def test_what_is_measured_comes_into_its_table_and_nothing_else_changes() -> None:
    text = table.DOCUMENT.read_text(encoding="utf-8")
    where = ("directory-source", "EIO", "list")
    new = table.renewed(text, {where: "75"})
    assert dict(table.cells_of(where[0], table.parts(new)[where[0]]))[where] == "75"
    for name, part in table.parts(text).items():
        assert name == where[0] or table.parts(new)[name] == part
