"""What a job registers of its destinations: an image by digest, all places of one model, nothing that differs."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import pytest

from syncer import marker, registering
from syncer.errors import ConfigurationError, NotThereYet, SourceMissing, Transient
from syncer.lease import LEASE
from syncer.manifest import DigestName, FileRecord, Manifest, ModelFile
from syncer.registering import Place
from syncer.registration.naming import version_name
from syncer.settings.locations import (
    ArchiveLocation,
    DirectoryLocation,
    ImageLocation,
    RegistryLocation,
    S3Location,
    Settings,
)
from syncer.stop import StopSwitch
from tests.support.fake_registry import FakeRegistry
from tests.support.memory_store import MemoryBody, MemoryDestination, MemoryVolume
from tests.support.registrations import Make, registrations

DIGEST = "sha256:" + "a" * 64
BUCKET = S3Location("models", "granite/", endpoint="https://e")
IMAGE = ImageLocation("quay.io", "org/granite", tag="1.0.0")
CONFIG = b'{"torch_dtype": "bfloat16"}'


class Image(MemoryDestination):
    """A destination whose content has a digest, and that still calls itself by its tag."""

    digest = DIGEST

    @property
    def uri(self) -> str:
        return IMAGE.uri


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as server:
        yield server


@pytest.fixture
def make(registry: FakeRegistry) -> Iterator[Make]:
    with registrations(registry.url) as maker:
        yield maker


@pytest.fixture
def settings(registry: FakeRegistry) -> Settings:
    return Settings(None, BUCKET, registry=RegistryLocation(registry.url, "granite", "1.0.0"), wait_for_destination=0.0)


def sealed(kind: type[MemoryDestination] = MemoryDestination, **digests: str) -> MemoryDestination:
    """A destination with one file, `config.json`, and the seal over it."""
    destination = kind(MemoryVolume())
    destination.volume.fill(destination.prefix, {"config.json": CONFIG})
    known = cast("Mapping[DigestName, str]", digests)
    record = FileRecord("config.json", len(CONFIG), known, "stream", "", "")
    manifest = Manifest(source="hf://ibm/granite", revision="c0ffee", files={record.path: record})
    marker.write_manifest(destination.control, manifest)
    told = (manifest.fingerprint, manifest.source, manifest.revision, 1, len(CONFIG), 1.0, "2025-11-05T00:00:00+00:00")
    marker.seal(destination.control, marker.Seal(*told))
    return destination


def test_an_image_is_registered_by_its_digest(registry: FakeRegistry, make: Make, settings: Settings) -> None:
    """The tag may be another image tomorrow."""
    places: list[Place] = [(IMAGE, sealed(Image))]
    registering.sealed_model(settings, places, make(), StopSwitch())
    assert registry.artifact["uri"] == f"oci://quay.io/org/granite@{DIGEST}"
    assert "storagePath" not in registry.artifact
    assert registry.text("storage_type") == "oci"
    assert "uris" not in registry.version["customProperties"]


def test_all_places_in_their_order(registry: FakeRegistry, make: Make, settings: Settings) -> None:
    """A bucket knows more digests of a file than an image does, so that their fingerprints differ."""
    places: list[Place] = [
        (BUCKET, sealed(sha256="1", git_sha1="2")),
        (IMAGE, sealed(Image, sha256="1")),
        (ArchiveLocation(Path("/mnt/a b.tar")), sealed(sha256="1")),
        (DirectoryLocation(Path("/mnt/models")), sealed()),
    ]
    seal = registering.sealed_model(settings, places, make(), StopSwitch())
    assert registry.text("uris").split(" ") == [
        "s3://models/granite?endpoint=https%3A%2F%2Fe",
        f"oci://quay.io/org/granite@{DIGEST}",
        "oci-archive:/mnt/a%20b.tar",
        places[3][1].uri,
    ]
    assert registry.artifact["uri"] == registry.text("uris").split(" ")[0]
    for _, destination in places:
        found = marker.read_seal(destination.control)
        assert found is not None
        assert (
            found.registry
            == seal.registry
            == {
                "RegisteredModel": registry.model["id"],
                "ModelVersion": registry.version["id"],
                "ModelArtifact": registry.artifact["id"],
            }
        )


def test_one_digest_that_differs_is_another_model(registry: FakeRegistry, make: Make, settings: Settings) -> None:
    places: list[Place] = [(BUCKET, sealed(sha256="1")), (IMAGE, sealed(Image, sha256="2"))]
    with pytest.raises(SourceMissing, match="has another model than"):
        registering.sealed_model(settings, places, make(), StopSwitch())
    assert registry.written == []


def test_digests_of_images_and_of_everything_else() -> None:
    bucket, image = sealed(), sealed(Image)
    seal = marker.read_seal(bucket.control)
    assert seal is not None
    assert registering.digest_of(image, seal) == DIGEST
    assert registering.digest_of(bucket, seal) == seal.fingerprint


def test_a_card_that_cannot_be_read_only_embellishes(
    registry: FakeRegistry, make: Make, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: MemoryDestination, file: ModelFile, start: int, length: int) -> MemoryBody:
        raise Transient("the store is busy")

    monkeypatch.setattr(MemoryDestination, "read", broken)
    registering.sealed_model(settings, [(BUCKET, sealed())], make(), StopSwitch())
    assert registry.artifact["state"] == "LIVE"


def test_an_image_has_no_month() -> None:
    assert version_name("auto", completed_at="2025-11-05T00:00:00+00:00", config=CONFIG) == "full-bf16-2511"
    with pytest.raises(ConfigurationError, match="an image has none") as raised:
        version_name("auto", completed_at="")
    assert "MODEL_VERSION" in raised.value.hint


def test_the_leases_of_all_places_are_taken_in_one_order(make: Make, settings: Settings) -> None:
    """Two of us that were told the same places in another order would wait for each other's leases else."""
    image, bucket = sealed(Image), sealed()
    first, second = sorted((bucket, image), key=lambda destination: destination.uri)
    first.control.write(LEASE, b'{"holder": "somebody", "name": "other-pod"}')
    for places in ([(BUCKET, bucket), (IMAGE, image)], [(IMAGE, image), (BUCKET, bucket)]):
        before = second.volume.requests["control"]
        with pytest.raises(NotThereYet, match="other-pod"):
            registering.sealed_model(settings, cast("list[Place]", places), make(), StopSwitch())
        assert second.volume.requests["control"] == before
