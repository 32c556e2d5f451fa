"""Each test of the contract runs once for each store."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.contract.benches import BENCHES, SECRET, Bench
from tests.support.buckets import S3Server, running_moto
from tests.support.noobaa_like import running_noobaa_like


def _parameters(*, writing: bool) -> list[object]:
    return [
        pytest.param(name, marks=line.marks, id=name) for name, line in BENCHES.items() if line.writes or not writing
    ]


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    """One S3 server in this process for the whole run; its buckets are cheap."""
    with running_moto() as server:
        yield replace(server, secret_key=SECRET)


@pytest.fixture(scope="session")
def noobaa() -> Iterator[S3Server]:
    """The same, with the habits of another store."""
    with running_noobaa_like() as server:
        yield replace(server, secret_key=SECRET)


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
