"""One entry of the registry: found by its name, else created, on a conflict found again, then changed if it differs.

Names never change.  What others have written stays: of the custom properties only our own are replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from syncer.errors import Transient
from syncer.registration.answers import STAGE
from syncer.registration.rest import Rest

ARTIFACT: Final = "model-artifact"
_PAGE: Final = "100"
_MOST_PAGES: Final = 100

Entry = Mapping[str, Any]


def ensure_model(rest: Rest, name: str, body: Entry) -> dict[str, Any]:
    """The registered model called `name`, created with `body` where there is none."""
    return _ensure(rest, ("registered_model", {"name": name}), "registered_models", {**body, "name": name})


def ensure_version(rest: Rest, model_id: str, name: str, body: Entry) -> dict[str, Any]:
    """The version called `name` of a model, created with `body` where there is none."""
    created = {**body, "name": name, "registeredModelId": model_id}
    return _ensure(rest, ("model_version", {"name": name, "parentResourceId": model_id}), "model_versions", created)


def find_artifact(rest: Rest, version_id: str, name: str) -> dict[str, Any] | None:
    """The artifact of a version that is the model: the one called `name`, else the only one there is."""
    artifacts: list[dict[str, Any]] = []
    query = {"pageSize": _PAGE}
    for _ in range(_MOST_PAGES):
        page = rest.get(f"model_versions/{version_id}/artifacts", query) or {}
        found = page.get("items")
        found = found if isinstance(found, list) else []
        artifacts += [
            each for each in found if isinstance(each, dict) and each.get("artifactType", ARTIFACT) == ARTIFACT
        ]
        token = page.get("nextPageToken")
        if not isinstance(token, str) or not token or not found:
            break
        query["nextPageToken"] = token
    named = [each for each in artifacts if each.get("name") == name]
    if named:
        return _with_id(rest, named[0])
    return _with_id(rest, artifacts[0]) if len(artifacts) == 1 else None


def ensure_artifact(rest: Rest, version_id: str, name: str, body: Entry) -> tuple[dict[str, Any], bool]:
    """The artifact of a version, and whether it was created now, with `body`."""
    if found := find_artifact(rest, version_id, name):
        return found, False
    created = rest.post(f"model_versions/{version_id}/artifacts", {**body, "artifactType": ARTIFACT, "name": name})
    if created is not None:
        return _with_id(rest, created), True
    if found := find_artifact(rest, version_id, name):
        return found, False
    raise _neither("artifact", name)


def read_artifact(rest: Rest, number: str) -> dict[str, Any] | None:
    """An artifact as it is now."""
    return rest.get(f"model_artifacts/{number}")


def change(rest: Rest, path: str, entry: Entry, wanted: Entry, *, ours: frozenset[str] = frozenset()) -> Entry:
    """Change what differs from `wanted`; nothing is asked when nothing does.

    `ours` are the custom properties that are replaced or removed; those of others stay.
    """
    changed = {name: value for name, value in wanted.items() if entry.get(name) != value}
    if "customProperties" in wanted:
        there = entry.get("customProperties")
        there = there if isinstance(there, dict) else {}
        merged = {name: value for name, value in there.items() if name not in ours} | wanted["customProperties"]
        changed.pop("customProperties", None)
        if merged != there:
            changed["customProperties"] = merged
    if not changed:
        return entry
    if path.startswith("model_artifacts/"):
        changed["artifactType"] = ARTIFACT
    return _with_id(rest, rest.patch(path, changed))


def _ensure(rest: Rest, question: tuple[str, Mapping[str, str]], folder: str, body: Entry) -> dict[str, Any]:
    found = rest.get(*question) or rest.post(folder, body) or rest.get(*question)
    if found is None:
        raise _neither(folder, str(body.get("name")))
    return _with_id(rest, found)


def _with_id(rest: Rest, entry: dict[str, Any]) -> dict[str, Any]:
    """The entry: whatever else answers, a proxy with a page of its own for one, has no ids that fit into a path."""
    rest.number(entry)
    return entry


def _neither(what: str, name: str) -> Transient:
    return Transient(
        f"the Model Registry neither has nor takes {name} ({what})",
        hint="somebody may be deleting it at this moment, or another kind of entry has the name",
        stage=STAGE,
    )
