"""Reads Kubernetes manifests as a cluster would: documents, kustomize's patches, and the environment of a container.

Knows as much of Kubernetes as `job-templates/` uses and refuses the rest, so that a test never passes over something.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "job-templates"

Document = dict[str, Any]

# By what the API server matches the items of these lists when a strategic merge patch is applied; others are replaced.
_MERGE_KEYS = {"containers": "name", "volumes": "name", "volumeMounts": "mountPath", "env": "name"}
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")


def documents(path: Path) -> list[Document]:
    """All documents of one file, in order."""
    return [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document is not None]


def template_files() -> list[Path]:
    """Every manifest that is meant for a cluster; not the patches and not the kustomization."""
    return sorted(path for path in TEMPLATES.glob("*.yaml") if path.name != "kustomization.yaml")


def job(name: str) -> Document:
    """The Job of `job-templates/NAME`."""
    [found] = [document for document in documents(TEMPLATES / name) if document["kind"] == "Job"]
    return found


def secret(name: str) -> dict[str, str]:
    """The `stringData` of the Secret in `job-templates/NAME`."""
    [found] = [document for document in documents(TEMPLATES / name) if document["kind"] == "Secret"]
    return dict(found["stringData"])


def container(document: Document) -> Document:
    """The only container of a Job."""
    [only] = document["spec"]["template"]["spec"]["containers"]
    return dict(only)


def patched(document: Document, patch: Document) -> Document:
    """What a strategic merge patch makes of a document."""
    merged = deepcopy(document)
    _merge(merged, patch)
    return merged


def environment(
    spec: Document,
    *,
    secrets: Mapping[str, Mapping[str, str]],
    config_maps: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[str, str]:
    """The variables that a container starts with, by the kubelet's rules.

    Raises `KeyError` for a Secret, ConfigMap or key that is not there: then the pod would wait.
    `$(NAME)` sees what stands before it under `env`, and nothing that came by `envFrom`.
    """
    objects = {"secretRef": secrets, "configMapRef": config_maps or {}}
    result: dict[str, str] = {}
    for source in spec.get("envFrom", []):
        [(kind, reference)] = source.items()
        if set(reference) != {"name"}:
            raise NotImplementedError(f"envFrom with {sorted(reference)}")
        result.update(objects[kind][reference["name"]])
    visible: dict[str, str] = {}
    for entry in spec.get("env", []):
        visible[entry["name"]] = _value(entry, visible, secrets)
    return result | visible


def _value(entry: Document, visible: Mapping[str, str], secrets: Mapping[str, Mapping[str, str]]) -> str:
    match entry:
        case {"value": str(text)}:
            return _REFERENCE.sub(lambda found: _resolve(found, visible), text)
        case {"valueFrom": {"secretKeyRef": {"name": name, "key": key}}}:
            return secrets[name][key]
        case _:
            raise NotImplementedError(f"env entry {entry}")


def _resolve(found: re.Match[str], visible: Mapping[str, str]) -> str:
    name = found.group(1)
    return "$" if name is None else visible.get(name, found.group(0))


def _merge(target: Document, patch: Document) -> None:
    for key, value in patch.items():
        present = target.get(key)
        if isinstance(present, dict) and isinstance(value, dict):
            _merge(present, value)
        elif isinstance(present, list) and key in _MERGE_KEYS:
            _merge_list(present, value, _MERGE_KEYS[key])
        else:
            target[key] = deepcopy(value)


def _merge_list(target: list[Document], patch: list[Document], key: str) -> None:
    by_name = {item[key]: item for item in target}
    for item in patch:
        if item[key] in by_name:
            _merge(by_name[item[key]], item)
        else:
            target.append(deepcopy(item))
