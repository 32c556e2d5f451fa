"""One model at several destinations is one model in the registry, which knows all its places."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from syncer import job
from syncer.errors import ConfigurationError, OutOfSpace, SourceMissing
from syncer.settings.locations import ArchiveLocation, DirectoryLocation, RegistryLocation, Settings
from syncer.stop import StopSwitch
from syncer.stores.directory import DirectoryDestination
from tests.flow.conftest import in_silence
from tests.support.fake_registry import FakeRegistry
from tests.support.models import read_model, small_model, write_model

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as server:
        yield server


def test_all_places_of_a_model_are_told(registry: FakeRegistry, tmp_path: Path) -> None:
    write_model(tmp_path / "source", small_model())
    folders = [tmp_path / name for name in ("first", "second")]
    settings = several(registry, tmp_path)
    result = job.sync(settings, StopSwitch(), in_silence)
    assert registry.artifact["uri"] == result.uris[0] == folders[0].as_uri() + "/"
    assert registry.text("uris").split() == [folder.as_uri() + "/" for folder in folders]
    for folder in folders:
        assert read_model(folder) == small_model()
        assert json.loads((folder / ".syncer/complete.json").read_bytes())["registry"] == result.registry
    registry.asked.clear()
    assert job.sync(settings, StopSwitch(), in_silence).registry == result.registry
    assert job.register(settings, StopSwitch()).registry == result.registry
    assert registry.written == []


def test_an_archive_is_registered_as_one(registry: FakeRegistry, tmp_path: Path) -> None:
    """Nobody serves it; the registry knows where it lies until it is pushed."""
    write_model(tmp_path / "source", small_model())
    archive = ArchiveLocation(tmp_path / "granite.tar")
    settings = replace(several(registry, tmp_path), destination=archive, further=())
    result = job.sync(settings, StopSwitch(), in_silence)
    assert registry.artifact["uri"] == f"oci-archive:{tmp_path}/granite.tar"
    assert (registry.text("storage_type"), "storagePath" in registry.artifact) == ("oci-archive", False)
    registry.asked.clear()
    assert job.register(settings, StopSwitch()).digest == result.digest
    assert registry.written == []


def test_registering_alone_gives_every_place_its_ids(registry: FakeRegistry, tmp_path: Path) -> None:
    write_model(tmp_path / "source", small_model())
    settings = several(registry, tmp_path)
    job.sync(replace(settings, registry=None), StopSwitch(), in_silence)
    result = job.register(settings, StopSwitch())
    assert len(result.uris) == 2
    assert result.digest.count("sha256:") == 2
    for name in ("first", "second"):
        assert json.loads((tmp_path / name / ".syncer/complete.json").read_bytes())["registry"] == result.registry
    assert registry.artifact["uri"] == result.uris[0]
    assert registry.text("uris").split() == list(result.uris)


@pytest.mark.parametrize(
    ("other", "words"),
    [(False, "is not sealed"), (True, "has another model than")],
)
def test_places_that_hold_other_models_are_not_registered_as_one(
    registry: FakeRegistry, tmp_path: Path, other: bool, words: str
) -> None:
    write_model(tmp_path / "source", small_model())
    settings = several(registry, tmp_path)
    alone = replace(settings, registry=None, further=())
    job.sync(alone, StopSwitch(), in_silence)
    (tmp_path / "source/config.json").write_bytes(b"{ }")
    if other:
        job.sync(replace(alone, destination=settings.further[0]), StopSwitch(), in_silence)
    with pytest.raises(SourceMissing, match=words):
        job.register(settings, StopSwitch())
    assert registry.written == []


def test_nothing_is_live_before_every_place_is_whole(
    registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "source", small_model())
    settings = several(registry, tmp_path)
    begin = DirectoryDestination.begin

    def full(self: DirectoryDestination, *arguments: object, **more: object) -> object:
        if "second" in self.name:
            raise OutOfSpace("the volume is full", hint="make room")
        return begin(self, *arguments, **more)  # type: ignore[arg-type]  # whatever it was called with

    with monkeypatch.context() as patch:
        patch.setattr(DirectoryDestination, "begin", full)
        with pytest.raises(OutOfSpace):
            job.sync(settings, StopSwitch(), in_silence)
    assert registry.artifact["state"] == "ABANDONED"
    assert "uri" not in registry.artifact
    result = job.sync(settings, StopSwitch(), in_silence)
    assert registry.artifact["state"] == "LIVE"
    assert registry.text("uris").split() == list(result.uris)


def test_no_place_at_all(registry: FakeRegistry, tmp_path: Path) -> None:
    settings = replace(several(registry, tmp_path), destination=None, further=())
    with pytest.raises(ConfigurationError, match="no destination"):
        job.register(settings, StopSwitch())


def several(registry: FakeRegistry, tmp_path: Path) -> Settings:
    """From a folder into two others, with a registry."""
    return Settings(
        DirectoryLocation(tmp_path / "source"),
        DirectoryLocation(tmp_path / "first"),
        further=(DirectoryLocation(tmp_path / "second"),),
        registry=RegistryLocation(registry.url, "granite", "1"),
        wait_for_destination=0.0,
    )
