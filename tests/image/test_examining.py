"""`syncer doctor` in the image, restricted as in a cluster: it tells the pod as it is, and looks nowhere else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.image.hooks import audited, auditing, place
from tests.image.pods import NOWHERE_TO_WRITE, Pod, S3Server, Start

pytestmark = [pytest.mark.image, pytest.mark.timeout(300)]


@pytest.fixture
def doctor(s3: S3Server) -> Start:
    s3.put("source", {"model/config.json": b"{}", "model/model.safetensors": bytes(6 << 20)})
    s3.put("demo", {})
    source = {
        "S3_SYNC_SRC__ENDPOINT": s3.endpoint,
        "S3_SYNC_SRC__ACCESS_KEY": "source-access-key",
        "S3_SYNC_SRC__SECRET_KEY": "canary-source-secret",
        "S3_SYNC_SRC__PATH": "s3://source/model/",
    }
    return replace(Start.of_template("synchronize-model.yaml", source, s3), arguments=["doctor"])


def rows(output: str) -> list[dict[str, Any]]:
    """The findings of the one document of several lines."""
    document = json.loads("{\n" + ("\n" + output).partition("\n{\n")[2].partition("\n}\n")[0] + "\n}")
    found: list[dict[str, Any]] = document["steps"]
    return found


def seen(output: str, step: str) -> str:
    (row,) = [row for row in rows(output) if row["step"] == step]
    return str(row["seen"])


def test_it_tells_user_and_limit_and_finds_all_well(
    pod: Pod, s3: S3Server, doctor: Start, arbitrary_user: str, tmp_path: Path
) -> None:
    code, output = pod.run(doctor, *NOWHERE_TO_WRITE, *auditing(tmp_path / "hooks"))
    assert code == 0, output
    assert "Traceback" not in output
    user, group = arbitrary_user.split(":")
    assert seen(output, "user") == f"UID {user}, GID {group}, groups {group}"
    assert seen(output, "memory").startswith("limit 256 MiB, in use ")
    assert {row["result"] for row in rows(output)} <= {"ok", "skipped"}
    assert audited(output) == {place(s3.endpoint)}
    assert s3.contents("demo") == {}


def test_it_says_what_is_wrong_with_a_volume_of_another_group(pod: Pod, doctor: Start, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o700)
    start = doctor.with_variables(S3_SYNC_DEST__PATH="/mnt/models")
    code, output = pod.run(start, *NOWHERE_TO_WRITE, f"--volume={volume}:/mnt/models")
    assert code == 78, output
    assert "Traceback" not in output
    (row,) = [row for row in rows(output) if row["step"] == "user"]
    assert row["result"] == "failed"
    assert "mode 0700" in str(row)
    assert "fsGroup" in str(row)


def test_too_small_a_limit_is_found_before_the_kernel_finds_it(pod: Pod, doctor: Start) -> None:
    code, output = pod.run(replace(doctor, memory="96Mi"), *NOWHERE_TO_WRITE)
    assert code == 78, output
    (row,) = [row for row in rows(output) if row["step"] == "memory"]
    assert row["result"] == "failed"
    assert "S3_SYNC_TRANSFER_CONFIG__MEMORY" in str(row)
