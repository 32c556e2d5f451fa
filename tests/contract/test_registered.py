"""A registered store without its line in the contract suite is not finished."""

import importlib
import inspect

import pytest

from syncer.stores import DESTINATIONS, SOURCES
from syncer.stores.protocols import Destination, Source
from tests.contract.benches import BENCHES

COVERED = {covered for line in BENCHES.values() for covered in line.covers}


@pytest.mark.parametrize("store", sorted({*SOURCES.values(), *DESTINATIONS.values()}))
def test_every_registered_store_is_on_the_bench(store: str) -> None:
    assert store in COVERED, f"{store} needs a line in BENCHES of tests/contract/benches.py"


def test_nothing_is_on_the_bench_that_is_not_registered() -> None:
    assert {*SOURCES.values(), *DESTINATIONS.values()} >= COVERED


@pytest.mark.parametrize(
    ("registered", "contract"),
    [(store, Source) for store in SOURCES.values()] + [(store, Destination) for store in DESTINATIONS.values()],
)
def test_every_registered_store_has_all_members(registered: str, contract: type) -> None:
    module, _, name = registered.partition(":")
    store = getattr(importlib.import_module(module), name)
    wanted = {name for name, _ in inspect.getmembers(contract) if not name.startswith("_")}
    assert {name for name in wanted if not hasattr(store, name)} <= {"control"}
