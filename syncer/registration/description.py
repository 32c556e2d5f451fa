"""What is written into the registry about a model: pure, and the same for the same model.

The forms are those of the OpenShift AI dashboard and of its connections (`concepts/modelRegistry/utils` of
odh-dashboard): the URI of a bucket names its endpoint, else the dashboard cannot take it apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlencode

from syncer.manifest import BY_HAND, Manifest
from syncer.registration.card import Card
from syncer.settings.locations import (
    ArchiveLocation,
    DestinationLocation,
    DirectoryLocation,
    ImageLocation,
    S3Location,
)

_FORMATS: Final = (
    (".safetensors", "safetensors", "1", "pytorch"),
    (".gguf", "gguf", "1", "llama.cpp"),
    (".onnx", "onnx", "1", "onnx"),
)
"""Ending, name and version of the format, framework; the first that some file has.  What has none is safetensors too:
so it says for every model that the field's pipelines register."""

OURS: Final = frozenset({
    "source", "source_uri", "huggingface_model", "revision", "framework", "compressed", "storage_type", "files",
    "bytes", "manifest", "uris", "license", "base_model", "library_name", "pipeline_tag", "language", "quantization",
    "recipe",
})  # fmt: skip
"""The custom properties that a run writes, and that a later run may replace or remove."""


@dataclass(frozen=True)
class Description:
    """A model that lies at its destination.

    `uri` is the artifact's, in the registry's form; `uris` are all destinations, where there are several.
    `storage_path` is the prefix without the bucket.  `bytes` and `files` are counts; `manifest` is the fingerprint.
    `source` and `revision` are where the model was first; `recipe` says how it was compressed since, if it was.
    """

    uri: str
    source: str
    revision: str = ""
    recipe: str = ""
    files: int = 0
    bytes: int = 0
    manifest: str = ""
    storage_type: str = ""
    storage_path: str = ""
    uris: tuple[str, ...] = ()
    card: Card = field(default_factory=Card)
    model_format: tuple[str, str] = ("safetensors", "1")
    framework: str = "pytorch"

    def properties(self) -> dict[str, Any]:
        """Custom properties.  Counts of bytes are text: the registry's numbers have 32 bits."""
        kind = kind_of(self.source)
        texts = {
            "source": kind,
            "source_uri": self.source,
            "huggingface_model": self.source.removeprefix("hf://").partition("@")[0] if kind == "huggingface" else "",
            "revision": self.revision,
            "framework": self.framework,
            "storage_type": self.storage_type,
            "files": str(self.files),
            "bytes": str(self.bytes),
            "manifest": self.manifest,
            "uris": " ".join(self.uris) if len(self.uris) > 1 else "",
            "recipe": self.recipe,
            **({"quantization": self.recipe} | self.card.texts()),
        }
        found: dict[str, Any] = {name: text_value(text) for name, text in texts.items() if text}
        compressed = bool(self.card.quantization or self.recipe)
        return found | {"compressed": {"metadataType": "MetadataBoolValue", "bool_value": compressed}}

    def artifact(self, *, storage_key: str) -> dict[str, Any]:
        """The fields of the artifact that is there."""
        name, version = self.model_format
        fields = {
            "uri": self.uri,
            "state": "LIVE",
            "modelFormatName": name,
            "modelFormatVersion": version,
            "storageKey": storage_key,
            "storagePath": self.storage_path,
        }
        return {name: value for name, value in fields.items() if value}

    def of_the_model(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """What the card adds to the registered model that is there: nothing where somebody has written already.

        Tags become labels, which are the dashboard's custom properties without a value.
        """
        there = entry.get("customProperties") or {}
        texts = dict.fromkeys(self.card.tags, "") | self.card.texts()
        texts.pop("quantization", None)  # of one version, not of the model
        wanted: dict[str, Any] = {name: text_value(text) for name, text in texts.items() if name not in there}
        found: dict[str, Any] = {"customProperties": wanted} if wanted else {}
        if self.card.description and not entry.get("description"):
            found["description"] = self.card.description
        return found


def text_value(text: str) -> dict[str, str]:
    """A custom property that is text; what is no Unicode in the name of a folder is replaced."""
    return {"metadataType": "MetadataStringValue", "string_value": text.encode(errors="replace").decode()}


def kind_of(source: str) -> str:
    """What the field's pipelines call a source: `huggingface`, `s3`, and so on."""
    if source == BY_HAND:
        return BY_HAND
    scheme = source.partition("://")[0] if "://" in source else ""
    return {"hf": "huggingface", "s3a": "s3", "file": "directory", "": "directory"}.get(scheme, scheme)


def describe(
    location: DestinationLocation,
    uri: str,
    manifest: Manifest,
    *,
    card: Card | None = None,
    uris: tuple[str, ...] = (),
    claim: str = "",
) -> Description:
    """The model that `manifest` proves at a destination whose own URI is `uri`.

    `uris` are the artifact URIs of all destinations, `claim` is the one of `artifact_uri`.  A model that came by way of
    another store (a pipeline's workspace, an image) has its `origin` as its source.
    """
    storage_type, storage_path = storage_of(location)
    model_format, framework = format_of(manifest.files)
    origin = manifest.origin
    return Description(
        uri=artifact_uri(location, uri, claim=claim),
        source=origin.source if origin else manifest.source,
        revision=origin.revision if origin else manifest.revision,
        recipe=origin.recipe if origin else "",
        files=len(manifest.files),
        bytes=manifest.total_bytes,
        manifest=manifest.fingerprint,
        storage_type=storage_type,
        storage_path=storage_path,
        uris=uris,
        card=card or Card(),
        model_format=model_format,
        framework=framework,
    )


def artifact_uri(location: DestinationLocation, uri: str, *, claim: str = "") -> str:
    """The URI that the registry gets for a destination whose own URI is `uri`: an image's has its digest.

    A directory is known to this pod alone; with `claim`, the PersistentVolumeClaim and the path in it, KServe finds it.
    """
    if isinstance(location, DirectoryLocation) and claim:
        return "pvc://" + _quoted(claim)
    if isinstance(location, ArchiveLocation):
        return "oci-archive:" + _quoted(str(location.path))  # as it is but for blanks: several stand in one property
    if not isinstance(location, S3Location):
        return uri
    endpoint = location.endpoint or _amazon(location.region)
    query = {"endpoint": endpoint} | ({"defaultRegion": location.region} if location.region else {})
    path = _quoted(location.prefix.strip("/"))
    return f"s3://{location.bucket}/{path}?{urlencode(query)}"


def storage_of(location: DestinationLocation) -> tuple[str, str]:
    """Kind of the storage, and the path in it for whoever serves by a connection."""
    match location:
        case S3Location():
            return "s3", location.prefix.strip("/")
        case ImageLocation():
            return "oci", ""
        case ArchiveLocation():
            return "oci-archive", ""
        case _:
            return "pvc", ""


def format_of(paths: Iterable[str]) -> tuple[tuple[str, str], str]:
    """Format with its version, and framework, by the names of the files."""
    names = [path.lower() for path in paths]
    for ending, name, version, framework in _FORMATS:
        if any(path.endswith(ending) for path in names):
            return (name, version), framework
    _, name, version, framework = _FORMATS[0]
    return (name, version), framework


def _quoted(path: str) -> str:
    return quote(path, safe="/!$&'()*+,;=:@~-._", errors="replace")


def _amazon(region: str) -> str:
    return f"https://s3.{region}.amazonaws.com" if region else "https://s3.amazonaws.com"
