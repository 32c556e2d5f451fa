"""What a store can do is learned once and told once."""

import json

import pytest

from syncer import logs
from syncer.settings.locations import S3Location
from syncer.stores.abilities import Abilities, Seen


def told(capsys: pytest.CaptureFixture[str]) -> list[tuple[str, bool]]:
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {(line["event"], line["level"], line["store"]) for line in lines} <= {("ability_learned", "info", "s3://b/")}
    return [(line["ability"], line["has"]) for line in lines]


@pytest.fixture
def abilities() -> Abilities:
    logs.configure(terminal=False)
    return Abilities("s3://b/")


def test_nothing_is_known_before_it_was_shown(abilities: Abilities) -> None:
    assert abilities.has("copy_inside") is None
    abilities.learn("copy_inside", has=False)
    assert abilities.has("copy_inside") is False
    assert abilities.has("serve_ranges") is None


def test_what_is_no_news_is_not_told_again(abilities: Abilities, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        abilities.learn("copy_inside", has=True)
    abilities.learn("create_if_absent", has=False)
    assert told(capsys) == [("copy_inside", True), ("create_if_absent", False)]
    abilities.learn("copy_inside", has=False)
    assert told(capsys) == [("copy_inside", False)]


def test_a_store_that_is_opened_anew_is_known() -> None:
    seen = Seen()
    seen.at(S3Location("b", endpoint="https://one")).learn("copy_inside", has=True)
    assert seen.at(S3Location("b", endpoint="https://one")).has("copy_inside") is True
    assert seen.at(S3Location("b", endpoint="https://two")).has("copy_inside") is None
