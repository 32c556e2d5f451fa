"""Who collects and shows the figures finds those that there are, in pods that have them."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from syncer.metrics import METRICS, PATH
from syncer.progress import PHASES
from syncer.settings import load
from tests.support.manifests import ROOT, TEMPLATES, container, documents, environment, job, patched, template_files

FOLDER = TEMPLATES / "monitoring"
JOBS = [path.name for path in template_files() for document in documents(path) if document["kind"] == "Job"]
OF_PROMETHEUS = {"namespace", "pod"}
"""Labels that Prometheus adds to what it collects from a pod."""

_METRIC = re.compile(r"\b(syncer_[a-z_]+)(?:\{([^}]*)\})?(\[)?")
_BY = re.compile(r"by \(([a-z, ]+)\)")


def only(name: str) -> dict[str, Any]:
    [document] = documents(FOLDER / name)
    return document


def dashboard() -> dict[str, Any]:
    [text] = only("dashboard.yaml")["data"].values()
    return dict(json.loads(text))


def rules() -> list[dict[str, Any]]:
    return [rule for group in only("rules.yaml")["spec"]["groups"] for rule in group["rules"]]


def expressions() -> Iterator[str]:
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            yield target["expr"]
    for variable in dashboard()["templating"]["list"][1:]:
        yield variable["query"]
    for rule in rules():
        yield rule["expr"]


@pytest.mark.parametrize("expression", list(expressions()))
def test_only_metrics_and_labels_that_there_are(expression: str) -> None:
    found = list(_METRIC.finditer(expression))
    assert found
    grouped = {label.strip() for group in _BY.findall(expression) for label in group.split(",")}
    for match in found:
        described = METRICS[match[1]]
        known = OF_PROMETHEUS | set(described.labels)
        assert {pair.partition("=")[0].strip(" ~!") for pair in _pairs(match[2])} <= known
        assert grouped <= known
        # A counter says nothing by itself, and a gauge has no rate.
        over_time = re.search(rf"(rate|increase|changes)\({re.escape(match[0])}", expression) if match[3] else None
        assert bool(over_time) == bool(match[3])
        if described.kind == "counter":
            assert over_time
        assert over_time is None or (over_time[1] == "changes") == (described.kind == "gauge")
    assert expression.count("(") == expression.count(")")


def _pairs(labels: str | None) -> list[str]:
    return re.findall(r"[a-z]+ ?[=!]~?", labels or "")


def test_phases_in_the_rules_are_phases() -> None:
    named = [
        name for rule in rules() for group in re.findall(r'phase=~"([^"]+)"', rule["expr"]) for name in group.split("|")
    ]
    assert named
    assert set(named) <= set(PHASES)


def test_every_metric_that_moves_is_shown() -> None:
    shown = " ".join(expressions())
    assert {name for name in METRICS if name not in shown} == {"syncer_last_success_timestamp_seconds"}


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    document = only("dashboard.yaml")
    assert document["kind"] == "ConfigMap"
    assert document["metadata"]["labels"]["grafana_dashboard"] == "1"
    board = dashboard()
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["title"] and panel["datasource"]["uid"] == "${datasource}" for panel in panels)
    taken = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(taken) == len(set(taken)), "no panel lies upon another"
    assert max(x for x, _ in taken) < 24
    assert board["uid"]


@pytest.mark.parametrize("name", JOBS)
def test_the_monitor_selects_our_pods(name: str) -> None:
    labels = job(name)["spec"]["template"]["metadata"]["labels"]
    assert only("podmonitor.yaml")["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_the_patch_opens_the_port_where_the_monitor_looks() -> None:
    [patch] = documents(TEMPLATES / "patches" / "metrics.yaml")
    [endpoint] = only("podmonitor.yaml")["spec"]["podMetricsEndpoints"]
    assert endpoint["path"] == PATH
    for name in ("synchronize-model.yaml", "synchronize-model-ibm-cos.yaml", "synchronize-model-indexed.yaml"):
        spec = container(patched(job(name), patch))
        [port] = spec["ports"]
        assert port["name"] == endpoint["port"]
        found = environment(spec, secrets={"demo-models": {}, "model-source": {"HUGGINGFACE_MODEL": "a/b"}})
        found |= {"S3_SYNC_DEST__PATH": "/mnt/models", "JOB_COMPLETION_INDEX": "0"}
        assert load(found).reporting.metrics_port == port["containerPort"]


def test_the_fields_are_those_of_the_operators_api() -> None:
    # monitoring.coreos.com/v1, as its reference describes it: as much of it as is used here.
    monitor, rule = only("podmonitor.yaml"), only("rules.yaml")
    assert monitor["apiVersion"] == rule["apiVersion"] == "monitoring.coreos.com/v1"
    assert (monitor["kind"], rule["kind"]) == ("PodMonitor", "PrometheusRule")
    assert set(monitor["spec"]) == {"selector", "podMetricsEndpoints"}
    assert set(rule["spec"]) == {"groups"}
    for each in rules():
        assert set(each) <= {"alert", "expr", "for", "labels", "annotations"}
        assert {"summary", "description"} == set(each["annotations"])


def test_the_kustomization_has_all_of_it() -> None:
    assert {path.name for path in FOLDER.glob("*.yaml")} == {
        *only("kustomization.yaml")["resources"],
        "kustomization.yaml",
    }


def test_the_page_tells_of_every_metric_and_phase() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    for name, described in METRICS.items():
        assert f"| `{name}` | {described.kind} | {', '.join(described.labels)} | {described.about} |" in page
    for phase in PHASES:
        assert f"`{phase}`" in page
