"""What the registry is told of a model: forms that the dashboard can take apart again, the same for the same model."""

import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from syncer.manifest import FileRecord, Manifest, Origin
from syncer.registration import describe
from syncer.registration.card import Card
from syncer.registration.description import OURS, artifact_uri, format_of, kind_of
from syncer.settings.locations import (
    ArchiveLocation,
    DestinationLocation,
    DirectoryLocation,
    ImageLocation,
    S3Location,
)
from tests.support.registry_schemas import EXTRACT, Schemas, document, extract

MINIO = S3Location("models", "model-data/granite/1.0.0/", endpoint="http://minio.minio.svc:9000", region="us-east-1")


def manifest(*paths: str, source: str = "hf://ibm/granite", size: int = 40 * 10**9) -> Manifest:
    records = {path: FileRecord(path, size, {}, "stream", "", "") for path in paths}
    return Manifest(source=source, revision="c0ffee", files=records)


def test_the_uri_is_in_the_dashboards_form() -> None:
    uri = artifact_uri(MINIO, MINIO.uri)
    assert uri == (
        "s3://models/model-data/granite/1.0.0?endpoint=http%3A%2F%2Fminio.minio.svc%3A9000&defaultRegion=us-east-1"
    )
    parts = urlsplit(uri)
    assert (parts.hostname, parts.path) == ("models", "/model-data/granite/1.0.0")
    assert parse_qs(parts.query) == {"endpoint": [MINIO.endpoint], "defaultRegion": ["us-east-1"]}


@pytest.mark.parametrize(
    ("region", "query"),
    [
        ("", "endpoint=https%3A%2F%2Fs3.amazonaws.com"),
        ("eu-west-1", "endpoint=https%3A%2F%2Fs3.eu-west-1.amazonaws.com&defaultRegion=eu-west-1"),
    ],
)
def test_amazon_has_an_endpoint_too(region: str, query: str) -> None:
    """Without one the dashboard takes the URI for no bucket at all."""
    assert artifact_uri(S3Location("b", "m/", region=region), "") == f"s3://b/m?{query}"


def test_a_prefix_that_looks_like_a_query() -> None:
    uri = artifact_uri(S3Location("b", "what?/so #1/", endpoint="https://e"), "")
    assert urlsplit(uri).path == "/what%3F/so%20%231"


@pytest.mark.parametrize(
    ("location", "own", "uri", "kind"),
    [
        (DirectoryLocation(Path("/mnt/models")), "file:///mnt/models/", "file:///mnt/models/", "pvc"),
        (ImageLocation("quay.io", "a/b"), "oci://quay.io/a/b@sha256:00", "oci://quay.io/a/b@sha256:00", "oci"),
        (
            ArchiveLocation(Path("/mnt/a b.tar")),
            "oci-archive:/mnt/a b.tar",
            "oci-archive:/mnt/a%20b.tar",
            "oci-archive",
        ),
    ],
)
def test_other_destinations_keep_their_own(location: DestinationLocation, own: str, uri: str, kind: str) -> None:
    told = describe(location, own, manifest("a"))
    assert (told.uri, told.storage_type, told.storage_path) == (uri, kind, "")
    assert "storagePath" not in told.artifact(storage_key="k")


def test_a_volume_is_known_by_its_claim() -> None:
    """What a pod calls /mnt/models is pvc://CLAIM/PATH to KServe; only the user knows which claim that is."""
    volume = DirectoryLocation(Path("/mnt/models/granite"))
    told = describe(volume, "file:///mnt/models/granite/", manifest("a"), claim="model-storage/granite 3")
    assert (told.uri, told.storage_type) == ("pvc://model-storage/granite%203", "pvc")
    assert describe(MINIO, MINIO.uri, manifest("a"), claim="model-storage").uri.startswith("s3://")


def test_a_model_that_came_by_a_workspace_keeps_its_origin() -> None:
    """The pipeline's next step reads a folder; the registry wants to know the Hub's model and its revision."""
    origin = Origin("hf://ibm/granite@main", "c0ffee", recipe="GPTQ W4A16 group_size=128")
    there = replace(manifest("a.safetensors", source="/workspace/model"), revision="", origin=origin)
    told = describe(MINIO, MINIO.uri, there, card=Card(quantization="compressed-tensors")).properties()
    assert {name: told[name]["string_value"] for name in ("source", "source_uri", "huggingface_model", "revision")} == {
        "source": "huggingface",
        "source_uri": "hf://ibm/granite@main",
        "huggingface_model": "ibm/granite",
        "revision": "c0ffee",
    }
    assert told["recipe"]["string_value"] == "GPTQ W4A16 group_size=128"
    assert told["quantization"]["string_value"] == "compressed-tensors"
    assert told["compressed"]["bool_value"] is True
    assert told.keys() <= OURS


def test_a_recipe_alone_says_that_it_is_compressed() -> None:
    there = replace(manifest("a"), origin=Origin("hf://ibm/granite", recipe="FP8_DYNAMIC"))
    told = describe(MINIO, MINIO.uri, there).properties()
    assert (told["quantization"]["string_value"], told["compressed"]["bool_value"]) == ("FP8_DYNAMIC", True)
    assert "revision" not in told, "the revision of the workspace's folder is not the model's"


def test_names_that_are_no_unicode() -> None:
    """A folder's name may be any bytes; what is sent is what comes back, so that the next run changes nothing."""
    there = manifest("a", source="/mnt/\udcff")
    assert describe(MINIO, MINIO.uri, there).properties()["source_uri"]["string_value"] == "/mnt/?"
    assert artifact_uri(S3Location("b", "\udcff/", endpoint="https://e"), "").startswith("s3://b/%3F?")


def test_what_the_manifest_says() -> None:
    told = describe(MINIO, MINIO.uri, manifest("a.safetensors", "config.json"))
    properties = told.properties()
    texts = {name: value.get("string_value") for name, value in properties.items() if name != "compressed"}
    assert texts == {
        "source": "huggingface",
        "source_uri": "hf://ibm/granite",
        "huggingface_model": "ibm/granite",
        "revision": "c0ffee",
        "framework": "pytorch",
        "storage_type": "s3",
        "files": "2",
        "bytes": "80000000000",
        "manifest": told.manifest,
    }
    assert told.artifact(storage_key="")["storagePath"] == "model-data/granite/1.0.0"
    assert "storageKey" not in told.artifact(storage_key="")
    schemas = Schemas()
    assert schemas.problems("ModelVersionUpdate", {"customProperties": properties}) == []
    assert schemas.problems("ModelArtifactUpdate", told.artifact(storage_key="k")) == []


def test_several_places_are_all_named() -> None:
    told = describe(MINIO, MINIO.uri, manifest("a"), uris=("s3://a/b", "oci://q/r@sha256:00"))
    assert told.properties()["uris"]["string_value"] == "s3://a/b oci://q/r@sha256:00"


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("hf://a/b@main", "huggingface"),
        ("s3://b/p/", "s3"),
        ("cos://b/p/", "cos"),
        ("file:///mnt/x", "directory"),
        ("uploaded-by-hand", "uploaded-by-hand"),
        ("oci://r/a:1", "oci"),
        ("models/", "directory"),
    ],
)
def test_kinds_of_sources(source: str, kind: str) -> None:
    assert kind_of(source) == kind


@pytest.mark.parametrize(
    ("paths", "name"),
    [
        (["m.safetensors", "m.onnx"], "safetensors"),
        (["M-Q4.GGUF", "README.md"], "gguf"),
        (["onnx/model.onnx"], "onnx"),
        (["pytorch_model.bin"], "safetensors"),
    ],
)
def test_formats(paths: list[str], name: str) -> None:
    assert format_of(paths)[0] == (name, "1")


def test_the_schemas_are_those_of_the_document() -> None:
    path = document()
    if path is None:
        pytest.skip("the Model Registry's OpenAPI document is not at hand; SYNCER_TEST_REGISTRY_OPENAPI can name it")
    assert json.loads(EXTRACT.read_text(encoding="utf-8")) == extract(path)


def test_the_schemas_refuse_what_the_document_refuses() -> None:
    schemas = Schemas()
    assert schemas.problems("ModelVersionCreate", {"name": "1"}) != []
    assert schemas.problems("ModelArtifactUpdate", {"state": "ALIVE"}) != []
    assert schemas.problems("ModelArtifactUpdate", {"name": "never changes"}) == ["name: unknown field"]
    for wrong in ({"metadataType": "MetadataStringValue", "int_value": "5"}, {"string_value": "5"}, "5"):
        assert schemas.problems("ModelVersionUpdate", {"customProperties": {"bytes": wrong}}) != []
