"""The Jobs' `podFailurePolicy` and the error classes of the code say the same."""

from typing import Any

import pytest

from syncer import errors
from tests.support.manifests import container, job

TEMPLATES = [
    "synchronize-model.yaml",
    "synchronize-model-ibm-cos.yaml",
    "synchronize-model-indexed.yaml",
    "mirror-to-pvc.yaml",
    "wait-for-model.yaml",
]

# The first group of the contract: what no repetition mends.  All other codes count against backoffLimit.
FINAL = {65, 66, 73, 77, 78}


def error_classes() -> list[type[errors.SyncerError]]:
    found: list[type[errors.SyncerError]] = [errors.SyncerError]
    for known in found:
        found.extend(known.__subclasses__())
    return found


@pytest.fixture(params=TEMPLATES)
def rules(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return list(job(request.param)["spec"]["podFailurePolicy"]["rules"])


def test_a_disruption_is_ignored_before_anything_else(rules: list[dict[str, Any]]) -> None:
    # First, because a pod that is drained may also exit with a code of its own.
    assert rules[0] == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}


def test_final_codes_fail_the_job_at_once(rules: list[dict[str, Any]]) -> None:
    [rule] = rules[1:]
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"]["operator"] == "In"
    assert set(rule["onExitCodes"]["values"]) == FINAL


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_rule_is_about_a_container_that_there_is(name: str) -> None:
    document = job(name)
    rule = document["spec"]["podFailurePolicy"]["rules"][1]
    assert rule["onExitCodes"]["containerName"] == container(document)["name"]


@pytest.mark.parametrize("error", error_classes(), ids=lambda error: error.__name__)
def test_every_error_is_in_one_group(error: type[errors.SyncerError], rules: list[dict[str, Any]]) -> None:
    fails_at_once = error.exit_code in rules[1]["onExitCodes"]["values"]
    assert fails_at_once == (error.exit_code in FINAL)
    assert error.exit_code in FINAL | {69, 70, 75, 130, 143}


@pytest.mark.parametrize("error", error_classes(), ids=lambda error: error.__name__)
def test_what_may_be_tried_again_never_fails_the_job(
    error: type[errors.SyncerError], rules: list[dict[str, Any]]
) -> None:
    if error.retryable:
        assert error.exit_code not in rules[1]["onExitCodes"]["values"]


def test_no_final_code_without_an_error_that_has_it() -> None:
    assert {error.exit_code for error in error_classes()} >= FINAL
