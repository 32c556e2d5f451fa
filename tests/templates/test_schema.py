"""Every template is what Kubernetes says it is, in the versions that OpenShift 4.16 and later bring."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from syncer import __version__
from tests.support.manifests import TEMPLATES, documents, job, template_files

VERSIONS = ["1.29", "1.31", kubernetes_validate.latest_version()]
FILES = [*template_files(), *sorted((TEMPLATES / "patches").glob("*.yaml"))]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_valid_kubernetes(path: Path, version: str) -> None:
    found = documents(path)
    assert found
    for document in found:
        kubernetes_validate.validate(document, version, strict=True)


def test_the_schemas_refuse_an_unknown_field() -> None:
    broken = job("synchronize-model.yaml")
    broken["spec"]["podFailurePolicies"] = broken["spec"].pop("podFailurePolicy")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


def test_the_promised_templates_are_there() -> None:
    assert {path.name for path in template_files()} >= {
        "synchronize-model.yaml",
        "synchronize-model-ibm-cos.yaml",
        "synchronize-model-indexed.yaml",
        "model-source-s3.yaml",
        "model-source-ibm-cos.yaml",
        "model-source-huggingface.yaml",
        "model-source-uploaded.yaml",
        "model-source-directory.yaml",
        "model-source-oci.yaml",
        "mirror-to-pvc.yaml",
        "wait-for-model.yaml",
    }


def test_environment_values_are_strings() -> None:
    # An unquoted true or 5 passes YAML and is refused by the API server only.
    for path in template_files():
        for document in documents(path):
            data = document.get("stringData", {})
            assert all(isinstance(value, str) for value in data.values()), path.name


@pytest.fixture
def kustomization() -> dict[str, Any]:
    [document] = documents(TEMPLATES / "kustomization.yaml")
    return document


def test_kustomization_names_files_that_exist(kustomization: dict[str, Any]) -> None:
    assert kustomization["kind"] == "Kustomization"
    assert kustomization["namespace"] == "demo"
    for name in kustomization["resources"]:
        assert (TEMPLATES / name).is_file()


def test_kustomization_keeps_the_gate_apart(kustomization: dict[str, Any]) -> None:
    # Its PreSync hook would wait for the PostSync hook of the same application: for ever.
    assert "wait-for-model.yaml" not in kustomization["resources"]


def test_commented_patches_of_the_kustomization_are_the_ones_there_are() -> None:
    text = (TEMPLATES / "kustomization.yaml").read_text(encoding="utf-8")
    for path in (TEMPLATES / "patches").glob("*.yaml"):
        assert f"#   - path: patches/{path.name}\n" in text


VARIANTS = ["synchronize-model-ibm-cos.yaml", "synchronize-model-indexed.yaml"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_kustomization_offers_the_variants_of_the_job_and_never_two(
    kustomization: dict[str, Any], variant: str
) -> None:
    # They have one name, and kustomize refuses two resources of one name.
    assert variant not in kustomization["resources"]
    text = (TEMPLATES / "kustomization.yaml").read_text(encoding="utf-8")
    assert f"  # - {variant}\n" in text


@pytest.mark.parametrize("name", ["synchronize-model.yaml", *VARIANTS, "mirror-to-pvc.yaml", "wait-for-model.yaml"])
def test_one_image_of_this_version_everywhere(name: str, kustomization: dict[str, Any]) -> None:
    [image] = kustomization["images"]
    [container] = job(name)["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"{image['name']}:{image['newTag']}"
    assert image["newTag"] == __version__
