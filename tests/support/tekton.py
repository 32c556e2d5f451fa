"""Reads Tekton documents as its controller would, as far as `job-templates/tekton/` uses them; refuses the rest."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.manifests import TEMPLATES, Document, documents

FOLDER = TEMPLATES / "tekton"
TASKS = ("fetch-model", "compress-model", "upload-model", "register-model", "sync-model")
RUNS = sorted(path.name for path in FOLDER.glob("pipelinerun-*.yaml"))
_REFERENCE = re.compile(r"\$\(([^()]+)\)")


def only(name: str) -> Document:
    """The document of a file that has one."""
    [document] = documents(FOLDER / name)
    return document


def task(name: str) -> Document:
    return only(f"{name}.yaml")


def step(name: str) -> Document:
    """The one step of a task."""
    [found] = task(name)["spec"]["steps"]
    return dict(found)


def texts(value: object) -> Iterator[str]:
    """All texts in a document, keys aside."""
    match value:
        case str():
            yield value
        case dict():
            for each in value.values():
                yield from texts(each)
        case list():
            for each in value:
                yield from texts(each)


def references(value: object) -> set[str]:
    """Everything that `$(…)` names in a document."""
    return {name for text in texts(value) for name in _REFERENCE.findall(text)}


def substituted(text: str, known: Mapping[str, str]) -> str:
    """`text` with all references replaced; KeyError for what nobody knows."""
    return _REFERENCE.sub(lambda match: known[match[1]], text)


@dataclass
class Run:
    """A run of the pipeline: what it was given, and what its tasks have said so far.

    `carry_out` is called with a task's name, arguments and environment, and a folder for its results; it returns the
    exit code.  `secrets` are those that steps take variables from, `workspaces` the folders that are bound.
    """

    params: Mapping[str, str]
    workspaces: Mapping[str, Path]
    folder: Path
    carry_out: Callable[[str, list[str], dict[str, str]], int]
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    results: dict[str, dict[str, str]] = field(default_factory=dict)

    def go(self) -> dict[str, int]:
        """Run the tasks in their order until one fails; the exit code of each that ran."""
        pipeline = only("pipeline.yaml")["spec"]
        known = _params(pipeline["params"], self.params)
        before = ""
        for use in pipeline["tasks"]:
            assert use.get("runAfter", []) == ([before] if before else [])
            before = use["name"]
            if not all(_holds(guard, known) for guard in use.get("when", ())):
                continue
            given = {param["name"]: substituted(param["value"], known) for param in use["params"]}
            bound = {each["name"]: each["workspace"] for each in use["workspaces"]}
            if self.run_task(use["taskRef"]["name"], given, bound):
                break
        return self.codes

    def run_task(self, name: str, params: Mapping[str, str], bound: Mapping[str, str]) -> int:
        """Run one task's step as it is written; `bound` maps its workspaces to those of the run."""
        spec, [one] = task(name)["spec"], task(name)["spec"]["steps"]
        known = _params(spec["params"], params)
        for workspace in spec.get("workspaces", ()):
            path = self.workspaces.get(bound.get(workspace["name"], ""))
            assert path is not None or workspace.get("optional")
            known[f"workspaces.{workspace['name']}.path"] = "" if path is None else str(path)
        results = self.folder / "results" / name
        results.mkdir(parents=True, exist_ok=True)
        environ = {"RESULTS_DIR": str(results)}
        for variable in one["env"]:
            value = self._value(variable, known)
            if value is not None:
                environ[variable["name"]] = value
        self.codes[name] = self.carry_out(name, [substituted(each, known) for each in one["args"]], environ)
        self.results[name] = {path.name: path.read_text() for path in results.iterdir()}
        return self.codes[name]

    def _value(self, variable: Mapping[str, Any], known: Mapping[str, str]) -> str | None:
        if "value" in variable:
            return substituted(variable["value"], known)
        wanted = variable["valueFrom"]["secretKeyRef"]
        value = self.secrets.get(substituted(wanted["name"], known), {}).get(wanted["key"])
        assert value is not None or wanted["optional"]
        return value


def _params(declared: list[Document], given: Mapping[str, str]) -> dict[str, str]:
    names = {param["name"] for param in declared}
    assert set(given) <= names, set(given) - names
    values = {param["name"]: param["default"] for param in declared if "default" in param} | dict(given)
    assert set(values) == names, names - set(values)
    return {f"params.{name}": value for name, value in values.items()}


def _holds(guard: Mapping[str, Any], known: Mapping[str, str]) -> bool:
    return (substituted(guard["input"], known) in guard["values"]) == {"in": True, "notin": False}[guard["operator"]]
