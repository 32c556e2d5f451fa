"""compose.yaml runs the same image in the same manner as a cluster, with pinned servers that nobody else reaches."""

import re
from typing import Any

import pytest

from syncer import __version__
from tests.support.manifests import ROOT, documents


@pytest.fixture
def services() -> dict[str, Any]:
    [document] = documents(ROOT / "compose.yaml")
    return dict(document["services"])


def test_servers_are_pinned_to_a_release(services: dict[str, Any]) -> None:
    for name in ("minio", "buckets"):
        assert re.fullmatch(r"quay\.io/minio/[a-z]+:RELEASE\.[0-9TZ-]+", services[name]["image"])


def test_ports_are_open_on_this_machine_only(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_credentials_are_obviously_local_and_agree(services: dict[str, Any]) -> None:
    server, syncer = services["minio"]["environment"], services["syncer"]["environment"]
    user, password = server["MINIO_ROOT_USER"], server["MINIO_ROOT_PASSWORD"]
    assert (user, password) == ("local-only", "local-only-secret")
    assert syncer["S3_SYNC_SRC__ACCESS_KEY"] == syncer["AWS_ACCESS_KEY_ID"] == user
    assert syncer["S3_SYNC_SRC__SECRET_KEY"] == syncer["AWS_SECRET_ACCESS_KEY"] == password
    assert services["buckets"]["environment"]["MC_HOST_local"] == f"http://{user}:{password}@minio:9000"


def test_both_buckets_are_made_before_the_copy(services: dict[str, Any]) -> None:
    syncer, buckets = services["syncer"], services["buckets"]
    [script] = buckets["command"]
    source = re.fullmatch(r"s3://([^/]+)/(.+)", syncer["environment"]["S3_SYNC_SRC__PATH"])
    assert source is not None
    assert f"mc mb --ignore-existing local/{source[1]} local/{syncer['environment']['AWS_S3_BUCKET']}\n" in script
    assert f"/model local/{source[1]}/{source[2]}\n" in script
    assert syncer["depends_on"] == {"buckets": {"condition": "service_completed_successfully"}}
    assert buckets["depends_on"] == {"minio": {"condition": "service_healthy"}}


def test_runs_as_a_cluster_would(services: dict[str, Any]) -> None:
    syncer = services["syncer"]
    assert syncer["user"] == "1000680000:0"
    assert syncer["read_only"] is True
    assert syncer["cap_drop"] == ["ALL"]
    assert syncer["security_opt"] == ["no-new-privileges"]
    assert syncer["mem_limit"] == "256m"
    assert "tmpfs" not in syncer
    assert "volumes" not in syncer


def test_builds_this_version(services: dict[str, Any]) -> None:
    syncer = services["syncer"]
    assert syncer["build"] == {"context": ".", "dockerfile": "Containerfile"}
    assert syncer["image"] == f"localhost/syncer:{__version__}"
