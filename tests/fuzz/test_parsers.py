"""A few hostile inputs for every parser: `make fuzz` has a million of them."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.mutation import json_values, mutate
from tests.fuzz.running import run
from tests.fuzz.target import Target, Violated, survive
from tests.fuzz.targets import TARGETS
from tests.support.captured import forget_logs
from tests.support.cos_places import own_redactor

_BY_NAME = pytest.mark.parametrize("name", TARGETS)


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """`run` sends the logs to a judge of its own."""
    yield
    forget_logs()


@_BY_NAME
def test_what_real_peers_say_is_survived(name: str) -> None:
    target = TARGETS[name]
    with own_redactor():
        for seed in target.seeds:
            survive(target, seed)


@_BY_NAME
@settings(max_examples=8)
@given(number=st.integers(0, 2**32))
def test_what_is_wrong_in_a_few_places_is_survived(name: str, number: int) -> None:
    target = TARGETS[name]
    with own_redactor():
        survive(target, mutate(random.Random(number), target.seeds, target.repaired))


@_BY_NAME
@settings(max_examples=8)
@given(data=st.binary(max_size=2000) | st.text(max_size=500).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_noise_is_survived(name: str, data: bytes) -> None:
    with own_redactor():
        survive(TARGETS[name], data)


def test_the_same_seed_gives_the_same_inputs() -> None:
    seeds = TARGETS["iam"].seeds
    first, second = ([mutate(random.Random(number), seeds, bytes) for number in range(50)] for _ in range(2))
    assert first == second
    assert len(set(first)) > 40


def test_json_is_given_values_of_every_type() -> None:
    found = {type(json_values(random.Random(number))) for number in range(300)}
    assert found >= {type(None), bool, int, float, str, list, dict}


def _stumble(data: bytes) -> None:
    match len(data) % 3:
        case 0:
            raise KeyError(data[:1])
        case 1:
            raise Violated("a promise")
        case _:
            bytearray(1 << 40)


def test_a_parser_that_stumbles_is_found_out() -> None:
    account = run(Target("stumbling", _stumble, (b"a", b"bb", b"ccc")), inputs=60, seed=1)
    assert account.outcomes == {"unexpected": 60}
    assert {finding.what.partition(" ")[0] for finding in account.findings} == {"KeyError", "Violated", "MemoryError"}
    assert all(finding.data for finding in account.findings)


def _hang(_data: bytes) -> None:
    while True:
        pass


def test_a_parser_that_hangs_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.running.SECONDS", 0.05)
    account = run(Target("hanging", _Once(), (b"a",)), inputs=3, seed=1)
    assert account.outcomes["unexpected"] == 3
    assert account.findings[0].what.startswith("TooSlow")


class _Once:
    """Answers the seed, which is fed without a limit, and hangs at everything after it."""

    def __init__(self) -> None:
        self._fed = 0

    def __call__(self, data: bytes) -> None:
        self._fed += 1
        if self._fed > 1:
            _hang(data)
