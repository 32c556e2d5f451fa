"""The schemas of the Model Registry's OpenAPI document, and bodies held against them.

`schemas/model-registry.json` has those schemas and operations that a registration touches, as the document of
kubeflow/model-registry (Apache-2.0, API v1alpha3) has them.  Written anew by `python -m tests.support.registry_schemas
DOCUMENT`; a test compares it with the document where that is at hand.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import jsonschema
import yaml

EXTRACT = Path(__file__).with_name("schemas") / "model-registry.json"
PREFIX = "/api/model_registry/v1alpha3/"
NEEDED = (
    "Error",
    "ModelArtifact",
    "ModelArtifactCreate",
    "ModelArtifactUpdate",
    "ModelVersion",
    "ModelVersionCreate",
    "ModelVersionUpdate",
    "RegisteredModel",
    "RegisteredModelCreate",
    "RegisteredModelUpdate",
    "RegisteredModelList",
    "BaseResourceList",
)
OPERATIONS = (
    "registered_model",
    "registered_models",
    "registered_models/{registeredmodelId}",
    "model_version",
    "model_versions",
    "model_versions/{modelversionId}",
    "model_versions/{modelversionId}/artifacts",
    "model_artifacts/{modelartifactId}",
)


def document() -> Path | None:
    """The OpenAPI document: where a variable says, else beside this repository."""
    if said := os.environ.get("SYNCER_TEST_REGISTRY_OPENAPI"):
        return Path(said)
    root = Path(__file__).parents[2]
    for folder in (root, root.parent):
        path = folder / "shared" / "openapi" / "model-registry.yaml"
        if path.is_file():
            return path
    return None


def extract(path: Path) -> dict[str, Any]:
    """What is needed of the document at `path`."""
    whole = yaml.safe_load(path.read_text(encoding="utf-8"))
    schemas = whole["components"]["schemas"]
    found: dict[str, Any] = {}
    todo = list(NEEDED)
    while todo:
        name = todo.pop()
        if name not in found:
            found[name] = _bare(schemas[name])
            todo += _names(found[name])
    parameters = whole["components"]["parameters"]
    operations = {}
    for name in OPERATIONS:
        entry = whole["paths"][PREFIX + name]
        for method in {"get", "post", "patch"} & entry.keys():
            asked = [*entry.get("parameters", ()), *entry[method].get("parameters", ())]
            meant = [parameters[each["$ref"].rpartition("/")[2]] if "$ref" in each else each for each in asked]
            operations[f"{method.upper()} {name}"] = {
                "query": sorted(each["name"] for each in meant if each["in"] == "query"),
                "answers": sorted(entry[method]["responses"]),
            }
    return {"schemas": dict(sorted(found.items())), "operations": dict(sorted(operations.items()))}


class Schemas:
    """The extract; `problems` says what is wrong with a body."""

    def __init__(self) -> None:
        self._extract = json.loads(EXTRACT.read_text(encoding="utf-8"))
        self._root = {"components": {"schemas": self._extract["schemas"]}}

    def problems(self, name: str, body: object) -> list[str]:
        """What schema `name` has against `body`; unknown fields too, as the server's decoder refuses them."""
        validator = jsonschema.Draft202012Validator({**self._root, "$ref": f"#/components/schemas/{name}"})
        found = [f"{'/'.join(map(str, error.path))}: {error.message}" for error in validator.iter_errors(body)]
        if isinstance(body, dict):
            found += [f"{field}: unknown field" for field in sorted(body.keys() - self._fields(name))]
        return found

    def takes(self, operation: str, query: Mapping[str, str]) -> bool:
        """Whether an operation such as `GET model_version` knows these parameters."""
        known = self._extract["operations"].get(operation)
        return known is not None and query.keys() <= set(known["query"])

    def answers(self, operation: str) -> list[str]:
        return cast("list[str]", self._extract["operations"][operation]["answers"])

    def _fields(self, name: str) -> set[str]:
        return set(self._of(self._extract["schemas"][name]))

    def _of(self, schema: Mapping[str, Any]) -> set[str]:
        found = set(schema.get("properties", ()))
        if reference := schema.get("$ref"):
            found |= self._fields(reference.rpartition("/")[2])
        for part in schema.get("allOf", ()):
            found |= self._of(part)
        return found


def _bare(schema: Any) -> Any:
    """`schema` without its prose."""
    match schema:
        case dict():
            return {
                name: _bare(value)
                for name, value in schema.items()
                if not (name in {"description", "example"} and not isinstance(value, dict))
            }
        case list():
            return [_bare(each) for each in schema]
        case _:
            return schema


def _names(schema: Any) -> list[str]:
    match schema:
        case dict():
            own = [str(schema["$ref"]).rpartition("/")[2]] if isinstance(schema.get("$ref"), str) else []
            return own + [name for value in schema.values() for name in _names(value)]
        case list():
            return [name for each in schema for name in _names(each)]
        case _:
            return []


if __name__ == "__main__":
    EXTRACT.write_text(json.dumps(extract(Path(sys.argv[1])), indent=1) + "\n", encoding="utf-8")
