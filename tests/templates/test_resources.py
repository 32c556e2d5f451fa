"""The templates ask for the memory that was measured, with a margin; and the documentation tells the same figures."""

import re

import pytest

from benchmarks.measured import COPIES, MARGIN, WAITING, least_limit
from tests.support.manifests import ROOT, container, documents, job, template_files
from tests.support.tekton import TASKS, step

PAGE = (ROOT / "docs/pod.md").read_text(encoding="utf-8")
COMPRESSES = "compress-model"
"""Holds a whole model in memory; docs/compression.md tells how much."""

JOBS = sorted(path.name for path in template_files() if any(document["kind"] == "Job" for document in documents(path)))


def mebibytes(quantity: str) -> int:
    found = re.fullmatch(r"(\d+)Mi", quantity)
    assert found is not None, quantity
    return int(found[1])


@pytest.mark.parametrize("name", JOBS)
def test_a_job_gets_what_was_measured_and_the_margin(name: str) -> None:
    waits = name == "wait-for-model.yaml"
    limit = mebibytes(container(job(name))["resources"]["limits"]["memory"])
    least = least_limit(WAITING if waits else COPIES)
    assert least <= limit < 2 * least, "neither too little nor a node's memory for nothing"


@pytest.mark.parametrize("name", [name for name in TASKS if name != COMPRESSES])
def test_a_task_gets_at_least_as_much(name: str) -> None:
    assert mebibytes(step(name)["computeResources"]["limits"]["memory"]) >= least_limit(COPIES)


def test_the_page_has_these_figures() -> None:
    rows = dict(re.findall(r"^\| (.+?) \| (\d+) \|$", PAGE, re.MULTILINE))
    assert {what: int(size) for what, size in rows.items()} == COPIES | WAITING
    assert f"{MARGIN:g} times" in PAGE
