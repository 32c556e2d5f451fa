"""What one step of a pipeline makes of the variables that all its steps are given."""

import json
from pathlib import Path

import pytest

from syncer.errors import ConfigurationError
from syncer.report import Outcome, write_workspace
from syncer.settings import effective, load
from syncer.settings.locations import DirectoryLocation

ENDS = {"S3_SYNC_SRC__PATH": "/mnt/shared/model", "S3_SYNC_DEST__PATH": "/mnt/models"}
COMPRESSED = {"S3_SYNC_COMPRESSED_PATH": "/mnt/shared/compressed"}
ALL = "pull-model-from-huggingface, compress-model, upload-model-to-s3, build-and-push-modelcar, upload, register"


@pytest.mark.parametrize(
    ("stage", "heeded"),
    [
        ("", {"download", "compress", "upload", "upload-model-to-s3", "build-and-push-modelcar", "register"}),
        ("download", {"download"}),
        ("compress", {"compress"}),
        ("Upload", {"upload", "upload-model-to-s3", "build-and-push-modelcar", "register"}),
        ("register", {"upload-model-to-s3", "build-and-push-modelcar", "register"}),
    ],
)
def test_a_step_heeds_what_concerns_it(stage: str, heeded: set[str]) -> None:
    settings = load(ENDS | {"SKIP_TASKS": ALL, "S3_SYNC_STAGE": stage})
    assert settings.skip == heeded
    assert effective(settings).get("stage", "") == stage.lower()


def test_a_stage_that_is_none() -> None:
    with pytest.raises(ConfigurationError, match="S3_SYNC_STAGE must be download, compress, upload or register"):
        load(ENDS | {"S3_SYNC_STAGE": "evaluate"})


@pytest.mark.parametrize(
    ("wish", "folder"),
    [
        ({}, "model"),
        ({"COMPRESS_MODEL": "false"}, "model"),
        ({"COMPRESS_MODEL": "no"}, "model"),
        ({"COMPRESS_MODEL": "true"}, "compressed"),
        ({"COMPRESS_MODEL": "True", "SKIP_TASKS": "compress-model"}, "compressed"),
        ({"COMPRESS_MODEL": "1", "BITS": "nonsense", "DATASET": "/not/there"}, "compressed"),
    ],
)
def test_the_folder_that_is_uploaded(wish: dict[str, str], folder: str) -> None:
    settings = load(ENDS | COMPRESSED | wish)
    assert settings.source == DirectoryLocation(Path("/mnt/shared") / folder)
    assert settings.compression is None


@pytest.mark.parametrize(("stage", "told"), [("", True), ("download", True), ("upload", False)])
def test_only_who_downloads_tells_of_the_download(tmp_path: Path, stage: str, told: bool) -> None:
    settings = load(ENDS | {"S3_SYNC_STAGE": stage, "S3_SYNC_WORKSPACE": str(tmp_path)})
    write_workspace(settings, Outcome("succeeded", source="hf://team/model", revision="c0ffee"))
    status = tmp_path / ".pipeline-metadata" / "download-status.json"
    assert status.exists() == told
    assert not told or json.loads(status.read_bytes())["hf_revision"] == "c0ffee"
