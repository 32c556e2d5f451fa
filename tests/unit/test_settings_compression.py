"""The variables of compression: what they mean, and that nothing is asked of who has it off."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from syncer.settings import effective, load, secrets
from syncer.settings.child import inherited
from syncer.settings.locations import Compression, HubDataset
from tests.support.refused_settings import only_problem, problems

ENDS = {"S3_SYNC_SRC__PATH": "s3://models/granite", "S3_SYNC_DEST__PATH": "/mnt/models"}
ON = ENDS | {"COMPRESS_MODEL": "true", "S3_SYNC_SCRATCH_DIR": "/scratch"}


def compression(**more: str) -> Compression:
    found = load(ON | more).compression
    assert found is not None
    return found


def test_the_defaults_are_those_of_the_pipelines() -> None:
    assert compression() == Compression(dataset=HubDataset("c4"), scratch=Path("/scratch"))


def test_all_that_can_be_said(tmp_path: Path) -> None:
    found = compression(
        BITS="8",
        GROUP_SIZE="-1",
        DATASET=str(tmp_path),
        SEQUENCE_LENGTH="512",
        NUM_CALIBRATION_SAMPLES="64",
        COMPRESSION_IGNORE='["lm_head", "re:.*gate, too"]',
    )
    assert found == Compression(
        scheme="W8A16", bits=8, group_size=-1, dataset=tmp_path, sequence_length=512, samples=64,
        ignore=("lm_head", "re:.*gate, too"), scratch=Path("/scratch"),
    )  # fmt: skip


@pytest.mark.parametrize("word", ["false", "no", "0", "off", ""])
def test_who_does_not_compress_is_asked_nothing(word: str) -> None:
    wrong = {"BITS": "5", "GROUP_SIZE": "x", "DATASET": "/nowhere", "SEQUENCE_LENGTH": "-1", "COMPRESSION_SCHEME": "?"}
    assert load(ENDS | wrong | {"COMPRESS_MODEL": word}).compression is None
    assert load(ON | wrong | {"SKIP_TASKS": "compress-model"}).compression is None


def test_all_problems_at_once() -> None:
    found = problems(
        ON | {
            "BITS": "5", "GROUP_SIZE": "100", "DATASET": "/nowhere/at/all", "SEQUENCE_LENGTH": "8",
            "NUM_CALIBRATION_SAMPLES": "many", "COMPRESSION_IGNORE": "'lm_head'",
        }
    )  # fmt: skip
    assert [problem.split()[0] for problem in found] == [
        "BITS", "DATASET", "GROUP_SIZE", "SEQUENCE_LENGTH", "NUM_CALIBRATION_SAMPLES", "COMPRESSION_IGNORE",
    ]  # fmt: skip
    assert found[0].startswith("BITS must be 4 or 8")


@pytest.mark.parametrize(
    ("scheme", "data", "algorithm"),
    [
        ("FP8_DYNAMIC", "", "rtn"),
        ("fp8_dynamic", "c4", "rtn"),
        ("W8A8", "", "rtn"),
        ("INT8", "ultrachat_200k", "gptq"),
        ("W8A16", "", "rtn"),
        ("W8A16", "c4", "gptq"),
        ("W4A16", "", "gptq"),
        ("FP8", "", "calibrated"),
        ("NVFP4", "", "calibrated"),
        ("NVFP4A16", "", "rtn"),
    ],
)
def test_the_scheme_decides_what_is_needed(scheme: str, data: str, algorithm: str) -> None:
    found = compression(COMPRESSION_SCHEME=scheme, **({"DATASET": data} if data else {}))
    assert found.scheme == {"INT8": "W8A8"}.get(scheme, scheme.upper())
    assert found.algorithm == algorithm
    assert (found.dataset is None) == (algorithm == "rtn")


def test_what_pipelines_hand_on_is_no_remark() -> None:
    defaults = {"BITS": "4", "GROUP_SIZE": "128", "DATASET": "c4", "COMPRESSION_SCHEME": "FP8_DYNAMIC"}
    assert load(ON | defaults).notes == ()
    notes = load(ON | defaults | {"BITS": "3", "GROUP_SIZE": "64", "DATASET": "wikitext"}).notes
    assert [note.split()[0] for note in notes] == ["BITS", "DATASET", "GROUP_SIZE"]


def test_an_unknown_scheme_names_those_there_are() -> None:
    problem = only_problem(ON | {"COMPRESSION_SCHEME": "W3A16"})
    assert problem.startswith("COMPRESSION_SCHEME must be one of W4A16, ")


@pytest.mark.parametrize("name", ["c4 en", "../c4", "a/b/c", "relative/../c4", "-", ".hidden", "~/data"])
def test_what_is_no_data_set(name: str) -> None:
    if name == "-":
        assert compression(DATASET=name).dataset == HubDataset("-")  # the Hub will say so
        return
    assert only_problem(ON | {"DATASET": name}).startswith("DATASET ")


def test_a_cluster_without_internet_is_told_what_to_do() -> None:
    problem = only_problem(ON | {"HF_HUB_OFFLINE": "1"})
    assert "HF_HUB_OFFLINE forbids" in problem
    assert "set DATASET to the path" in problem
    assert compression(HF_HUB_OFFLINE="1", COMPRESSION_SCHEME="FP8_DYNAMIC").dataset is None


def test_the_token_goes_along_and_shows_nowhere() -> None:
    settings = load(ON | {"HF_TOKEN": "hf_canary", "HF_ENDPOINT": "https://hub.example.com"})
    assert settings.compression is not None
    assert settings.compression.dataset == HubDataset("c4", "https://hub.example.com", SecretStr("hf_canary"))
    assert "canary" not in repr(settings) + str(effective(settings))
    assert "hf_canary" in secrets(settings)


def test_places() -> None:
    missing = only_problem(ENDS | {"COMPRESS_MODEL": "true"})
    assert missing.startswith("COMPRESS_MODEL is set but S3_SYNC_SCRATCH_DIR is missing")
    assert "one inside the other" in only_problem(ON | {"S3_SYNC_SCRATCH_DIR": "/mnt/models/scratch"})
    by_hand = {"S3_SYNC_LOCAL_UPLOAD_COMPLETE": "true"}
    assert any("stays as it is" in problem for problem in problems(ON | by_hand))


def test_alone_it_needs_two_folders_and_no_scratch() -> None:
    folders = {"S3_SYNC_SRC__PATH": "/mnt/a", "S3_SYNC_DEST__PATH": "/mnt/b"}
    assert load(folders, compresses=True).compression is not None
    assert load(folders | {"COMPRESS_MODEL": "false"}, compresses=True).compression is None


def test_a_child_gets_no_variable_of_ours() -> None:
    environ = {
        "PATH": "/bin", "CUDA_VISIBLE_DEVICES": "0", "HF_TOKEN": "canary", "S3_SYNC_SRC__SECRET_KEY_FILE": "/x",
        "AWS_PROFILE": "canary", "https_proxy": "http://user:canary@proxy", "HTTPS_PROXY": "http://user:canary@proxy",
    }  # fmt: skip
    assert inherited({"HOME": "/x"}, environ) == {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "0", "HOME": "/x"}
