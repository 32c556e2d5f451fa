"""What a store can do is learned once and told once."""

import json
from contextlib import closing
from pathlib import Path
from typing import get_args

import pytest

from syncer import logs
from syncer.settings.locations import Network, S3Location
from syncer.stores import abilities as abilities_module
from syncer.stores.abilities import Abilities, Ability, Seen
from syncer.stores.oci.registry import Registry
from tests.support.image_registry import ImageRegistry, digest_of


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


def test_every_ability_is_learned_somewhere() -> None:
    package = Path(abilities_module.__file__).parent
    code = "".join(path.read_text() for path in package.rglob("*.py") if path.name != "abilities.py")
    assert [ability for ability in get_args(Ability) if f'"{ability}"' not in code] == []


def test_a_registry_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    """Layers are linked, an upload and a tag are removed, a range is served."""
    logs.configure(terminal=False)
    with ImageRegistry() as there, closing(Registry(there.location(), Network(), writes=True)) as registry:
        there.repository("other/model").blobs[digest_of(b"weights")] = b"weights"
        assert registry.upload(mount=digest_of(b"weights"), source="other/model") is None
        for _ in range(2):
            registry.read(digest_of(b"weights"), 1, 3).close()
            upload = registry.upload()
            assert upload is not None
            upload.cancel()
        there.repository().manifests[digest_of(b"{}")] = ("application/json", b"{}")
        there.repository().tags["latest"] = digest_of(b"{}")
        registry.forget("latest", digest_of(b"{}"))
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    learned = [(it["ability"], it["has"]) for it in told if it["event"] == "ability_learned"]
    assert learned == [("link_layers", True), ("serve_ranges", True), ("remove_uploads", True), ("remove_tags", True)]


@pytest.mark.parametrize("deletes", [True, False])
def test_a_registry_that_removes_nothing_says_so(deletes: bool, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(terminal=False)
    with ImageRegistry() as there, closing(Registry(there.location(), Network(), writes=True)) as registry:
        there.deletes, there.links, there.serves_ranges = deletes, False, False
        there.repository().blobs[digest_of(b"weights")] = b"weights"
        registry.read(digest_of(b"weights"), 1, 3).close()
        assert registry.upload(mount=digest_of(b"none"), source="other/model") is not None
        there.repository().manifests[digest_of(b"{}")] = ("application/json", b"{}")
        there.repository().tags["latest"] = digest_of(b"{}")
        registry.forget("latest", digest_of(b"{}"))
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    learned = {it["ability"]: it["has"] for it in told if it["event"] == "ability_learned"}
    assert learned == {"link_layers": False, "serve_ranges": False, "remove_tags": deletes}


def test_a_store_that_is_opened_anew_is_known() -> None:
    seen = Seen()
    seen.at(S3Location("b", endpoint="https://one")).learn("copy_inside", has=True)
    assert seen.at(S3Location("b", endpoint="https://one")).has("copy_inside") is True
    assert seen.at(S3Location("b", endpoint="https://two")).has("copy_inside") is None
