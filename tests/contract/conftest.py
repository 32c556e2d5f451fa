"""Each test of the contract runs once for each store."""

from collections.abc import Iterator

import pytest

from tests.contract.benches import BENCHES, Bench


def _parameters(*, writing: bool) -> list[object]:
    return [
        pytest.param(name, marks=line.marks, id=name) for name, line in BENCHES.items() if line.writes or not writing
    ]


@pytest.fixture(params=_parameters(writing=False))
def readable(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Every store that a model can come from."""
    bench = BENCHES[request.param].make(request)
    yield bench
    bench.close()


@pytest.fixture(params=_parameters(writing=True))
def writable(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Every store that a model can go to."""
    bench = BENCHES[request.param].make(request)
    yield bench
    bench.close()
