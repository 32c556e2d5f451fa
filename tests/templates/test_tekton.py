"""Tekton's documents: valid by its own schemas, every parameter reaches the code, and every pod may run anywhere."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from syncer import __version__
from syncer.report import Outcome, write_results
from syncer.settings.variables import known_names, secret_fields
from tests.support.manifests import ROOT, Document, documents
from tests.support.tekton import FOLDER, RUNS, TASKS, only, references, step, task, texts

SEEDS = {
    "HUGGINGFACE_MODEL",
    "HUGGINGFACE_ALLOW_PATTERNS",
    "COMPRESS_MODEL",
    "BITS",
    "GROUP_SIZE",
    "DATASET",
    "SEQUENCE_LENGTH",
    "MODEL_NAME",
    "MODEL_VERSION",
    "MODEL_REGISTRY_URL",
    "S3_BUCKET",
    "S3_ENDPOINT_URL",
    "OCI_IMAGE",
    "SKIP_TASKS",
}
OF_TEKTON = sorted(path.name for path in FOLDER.glob("*.yaml") if "tekton.dev" in path.read_text(encoding="utf-8"))
OF_KUBERNETES = ["storage.yaml", "rbac.yaml"]
NO_VARIABLES = {"IMAGE", "COMPRESS_IMAGE", "TOKEN_SECRET"}


@pytest.fixture(scope="module")
def pipeline() -> Document:
    return dict(only("pipeline.yaml")["spec"])


def schema_of(kind: str) -> dict[str, Any]:
    """The schema that Tekton's own definition has for v1; where it is not there, the skip is seen in the summary."""
    for folder in (ROOT, *ROOT.parents):
        path = folder / "shared" / "schemas" / "tekton" / f"{kind}.yaml"
        if path.is_file():
            break
    else:
        pytest.skip("Tekton's definitions are not there (shared/schemas/tekton): its documents were not validated")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    definition = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    [version] = [each for each in definition["spec"]["versions"] if each["name"] == "v1"]
    return dict(_closed(version["schema"]["openAPIV3Schema"]))


def _closed(schema: Any) -> Any:
    """The schema as an API server applies it: a field that is not in it is refused, not passed over."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(each) for name, each in schema.items()}
    if isinstance(closed.get("properties"), dict) and closed.get("type") == "object":
        closed.setdefault("additionalProperties", bool(closed.get("x-kubernetes-preserve-unknown-fields")))
    if closed.get("x-kubernetes-int-or-string"):
        closed.pop("type", None)
    return closed


@pytest.mark.parametrize("kind", ["Task", "Pipeline", "PipelineRun"])
def test_valid_by_tektons_own_definitions(kind: str) -> None:
    found = [only(name) for name in OF_TEKTON if only(name)["kind"] == kind]
    assert found
    schema = schema_of(kind.lower())
    schema["properties"]["metadata"] = {"type": "object"}
    validator = jsonschema.Draft202012Validator(schema)
    for document in found:
        assert document["apiVersion"] == "tekton.dev/v1"
        assert [error.message for error in validator.iter_errors(document)] == []
    broken = found[0] | {"spec": found[0]["spec"] | {"stepps": []}}
    assert not validator.is_valid(broken), "the schema refuses what it does not know"


@pytest.mark.parametrize("name", OF_KUBERNETES)
def test_valid_kubernetes(name: str) -> None:
    for document in documents(FOLDER / name):
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_the_kustomization_has_everything_but_the_runs() -> None:
    resources = set(only("kustomization.yaml")["resources"])
    assert resources == {path.name for path in FOLDER.glob("*.yaml")} - set(RUNS) - {"kustomization.yaml"}


def test_the_parameters_and_workspaces_of_the_field(pipeline: Document) -> None:
    assert {param["name"] for param in pipeline["params"]} >= SEEDS
    assert {workspace["name"] for workspace in pipeline["workspaces"]} == {
        "shared-workspace",
        "s3-credentials",
        "quay-auth",
    }


@pytest.mark.parametrize("name", TASKS)
def test_every_parameter_reaches_the_code(name: str) -> None:
    spec, one = task(name)["spec"], step(name)
    declared = {f"params.{param['name']}" for param in spec["params"]}
    declared |= {f"workspaces.{workspace['name']}.path" for workspace in spec.get("workspaces", ())}
    assert references(spec["steps"]) == declared
    variables = {variable["name"]: variable.get("value", "") for variable in one["env"]}
    assert set(variables) <= known_names()
    for param in {param["name"] for param in spec["params"]} - NO_VARIABLES:
        assert variables[param] == f"$(params.{param})", "by its own name and nothing around it"


def test_every_parameter_of_the_pipeline_reaches_a_task(pipeline: Document) -> None:
    declared = {param["name"]: param.get("default") for param in pipeline["params"]}
    handed_on = set()
    for use in pipeline["tasks"]:
        wanted = {param["name"]: param.get("default") for param in task(use["taskRef"]["name"])["spec"]["params"]}
        given = {param["name"]: param["value"] for param in use["params"]}
        assert given == {name: f"$(params.{name})" for name in wanted}, "a task gets all that it takes"
        assert {name: declared[name] for name in wanted} == wanted, "a default is the same everywhere"
        spaces = {workspace["name"] for workspace in task(use["taskRef"]["name"])["spec"]["workspaces"]}
        assert {each["name"]: each["workspace"] for each in use["workspaces"]} == {space: space for space in spaces}
        handed_on |= set(given)
    assert handed_on == set(declared)


def test_results_that_the_pipeline_names_are_those_of_its_tasks(pipeline: Document) -> None:
    for result in pipeline["results"]:
        [(name, wanted)] = re.findall(r"^\$\(tasks\.([a-z-]+)\.results\.([a-z-]+)\)$", result["value"])
        assert wanted in {each["name"] for each in task(name)["spec"]["results"]}
        assert not next(use for use in pipeline["tasks"] if use["name"] == name).get("when"), "it always runs"


@pytest.mark.parametrize("name", TASKS)
def test_results_are_those_that_are_written(name: str, tmp_path: Path) -> None:
    write_results(tmp_path, Outcome("succeeded"))
    assert {result["name"] for result in task(name)["spec"]["results"]} == {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_says_what_the_pipeline_takes(name: str, pipeline: Document) -> None:
    spec = only(name)["spec"]
    given = {param["name"] for param in spec["params"]}
    declared = {param["name"]: "default" in param for param in pipeline["params"]}
    assert {name for name, has_default in declared.items() if not has_default} <= given <= set(declared)
    assert {each["name"] for each in spec["workspaces"]} <= {each["name"] for each in pipeline["workspaces"]}
    assert {use["pipelineTaskName"] for use in spec.get("taskRunSpecs", ())} <= {
        use["name"] for use in pipeline["tasks"]
    }


@pytest.mark.parametrize("name", TASKS)
def test_every_step_may_run_under_the_strictest_constraint(name: str) -> None:
    one = step(name)
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "script" not in one
    assert "cpu" not in one["computeResources"]["limits"]


@pytest.mark.parametrize("name", RUNS)
def test_every_pod_of_a_run_has_the_same_user_and_group(name: str) -> None:
    template = only(name)["spec"]["taskRunTemplate"]
    pods = [template["podTemplate"], *(use["podTemplate"] for use in only(name)["spec"].get("taskRunSpecs", ()))]
    assert len({str(pod["securityContext"]) for pod in pods}) == 1
    for pod in pods:
        assert pod["enableServiceLinks"] is False
        assert not {"runAsUser", "fsGroup"} & pod["securityContext"].keys(), "OpenShift refuses what is not its own"
    [account] = [each for each in documents(FOLDER / "rbac.yaml") if each["kind"] == "ServiceAccount"]
    assert template["serviceAccountName"] == account["metadata"]["name"]
    claims = {each["metadata"]["name"] for each in documents(FOLDER / "storage.yaml")}
    [claim] = [
        each["persistentVolumeClaim"] for each in only(name)["spec"]["workspaces"] if "persistentVolumeClaim" in each
    ]
    assert claim["claimName"] in claims


@pytest.mark.parametrize("name", TASKS)
def test_the_command_is_the_images_own(name: str) -> None:
    [entry] = re.findall(r"^ENTRYPOINT (\[.*\])$", (ROOT / "Containerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert step(name)["command"] == yaml.safe_load(entry)


def test_one_version_everywhere(pipeline: Document) -> None:
    images = [text for name in OF_TEKTON for text in texts(only(name)) if "/demo/syncer" in text]
    assert images
    assert {image.rpartition(":")[2] for image in images} == {__version__}


def test_no_secret_is_a_parameter(pipeline: Document) -> None:
    secrets = set(secret_fields().values())
    assert not secrets & {param["name"] for param in pipeline["params"]}
    for name in TASKS:
        assert not secrets & {variable["name"] for variable in step(name)["env"] if "value" in variable}


def test_the_chapter_names_every_parameter_and_no_other(pipeline: Document) -> None:
    text = (ROOT / "docs/pipelines.md").read_text(encoding="utf-8")
    table = text.partition("## Parameters")[2].partition("Workspaces:")[0]
    named = {
        name
        for row in table.splitlines()
        for name in re.findall("`([A-Z_0-9]+)`", row.partition("|")[2].partition("|")[0])
    }
    assert named == {param["name"] for param in pipeline["params"]}
