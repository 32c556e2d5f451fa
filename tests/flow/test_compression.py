"""Whole runs with a compression in the middle; a small program stands in for the library, which has its own ring."""

import importlib.util
import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from syncer import cli, job
from syncer.compressing import child, folder
from syncer.errors import (
    ConfigurationError,
    EndpointUnreachable,
    InternalError,
    Interrupted,
    OutOfSpace,
    SourceMissing,
    SyncerError,
)
from syncer.marker import read_manifest, read_seal
from syncer.report import LastWords
from syncer.settings.locations import Compression, DirectoryLocation, Settings
from syncer.stop import StopSwitch
from syncer.stores.directory import DirectoryDestination
from tests.flow.conftest import in_silence
from tests.support.models import read_model
from tests.support.small_llama import CONFIG, fake_worker, write_llama

RECIPE = "FP8_DYNAMIC rtn ignore lm_head"
Worker = tuple[Path, Path]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_llama(tmp_path / "source")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


@pytest.fixture
def settings(source: Path, target: Path, scratch: Path) -> Settings:
    target.parent.mkdir()
    return Settings(
        source=DirectoryLocation(source),
        destination=DirectoryLocation(target),
        wait_for_destination=0.0,
        compression=Compression(
            scheme="FP8_DYNAMIC", algorithm="rtn", bits=8, group_size=0, dataset=None, scratch=scratch
        ),
    )


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return install(tmp_path, monkeypatch)


def install(where: Path, monkeypatch: pytest.MonkeyPatch, *, before: str = "") -> Path:
    command, log = fake_worker(where, before=before)
    monkeypatch.setattr(child, "WORKER", command)
    monkeypatch.setattr(child, "refuse_without_library", lambda: None)
    return log


def sync(settings: Settings, stop: StopSwitch | None = None) -> job.Result:
    return job.sync(settings, stop or StopSwitch(), in_silence)


def how_often(tasks: Path) -> int:
    return len(tasks.read_text().splitlines()) if tasks.exists() else 0


def test_what_arrives_is_the_compressed_model_under_its_own_name(
    settings: Settings, source: Path, target: Path, scratch: Path, tasks: Path
) -> None:
    before = read_model(source)
    result = sync(settings)
    assert read_model(source) == before
    there = read_model(target)
    assert there.keys() == {"config.json", "model.safetensors", "tokenizer.json", "LICENSE", "docs/card.md"}
    assert there["model.safetensors"] == before["model.safetensors"][::2]
    assert there["LICENSE"] == before["LICENSE"]
    assert json.loads(there["config.json"])["quantization_config"] == {"quant_method": "compressed-tensors"}
    manifest = read_manifest(DirectoryDestination(DirectoryLocation(target)).control)
    assert manifest is not None
    assert manifest.origin is not None
    assert manifest.source == str(source)
    assert manifest.origin.recipe == RECIPE
    assert manifest.origin.inputs.startswith("sha256:")
    assert result.bytes_before == sum(map(len, before.values()))
    assert result.bytes == sum(map(len, there.values()))
    assert how_often(tasks) == 1
    assert not any(scratch.iterdir())


def test_a_second_run_neither_compresses_nor_writes(settings: Settings, target: Path, tasks: Path) -> None:
    sync(settings)
    marks = {path: path.stat().st_mtime_ns for path in target.rglob("*") if path.is_file()}
    result = sync(settings)
    assert how_often(tasks) == 1
    assert (result.copied_files, result.deleted_files) == (0, 0)
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*") if path.is_file()} == marks


def test_a_plan_knows_what_is_settled(settings: Settings, target: Path, tasks: Path) -> None:
    [before] = job.plan(settings, StopSwitch()).values()
    assert len(before.copy) == 6
    assert not target.exists()
    sync(settings)
    [after] = job.plan(settings, StopSwitch()).values()
    assert after.changes_nothing
    assert how_often(tasks) == 1


def test_another_recipe_and_another_original_are_compressed_anew(
    settings: Settings, source: Path, target: Path, tasks: Path
) -> None:
    sync(settings)
    assert settings.compression is not None
    other = replace(settings, compression=replace(settings.compression, ignore=("lm_head", "q_proj")))
    sync(other)
    assert how_often(tasks) == 2
    write_llama(source, filling=9)
    sync(other)
    assert how_often(tasks) == 3
    assert read_model(target)["model.safetensors"] == read_model(source)["model.safetensors"][::2]


def test_a_destination_that_was_touched_is_repaired(settings: Settings, target: Path, tasks: Path) -> None:
    sync(settings)
    (target / "model.safetensors").write_bytes(b"something else")
    with pytest.raises(SyncerError, match="not ours"):
        sync(settings)
    assert how_often(tasks) == 2
    sync(replace(settings, transfer=replace(settings.transfer, force=True)))
    assert len(read_model(target)["model.safetensors"]) > 100


def test_several_destinations_get_the_same_bytes_and_one_that_is_lost_gets_them_from_the_other(
    settings: Settings, target: Path, tasks: Path
) -> None:
    other = target.parent / "other"
    both = replace(settings, further=(DirectoryLocation(other),))
    sync(both)
    first = read_model(target)
    assert read_model(other) == first
    shutil.rmtree(other)
    sync(both)
    assert read_model(other) == first
    assert how_often(tasks) == 1


def test_after_a_failure_the_fetched_original_and_the_result_are_kept(
    settings: Settings, source: Path, target: Path, scratch: Path, tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OutOfSpace("full")

    with monkeypatch.context() as broken:
        broken.setattr(DirectoryDestination, "begin", full)
        with pytest.raises(OutOfSpace):
            sync(settings)
    [place] = scratch.iterdir()
    assert read_model(place / "compressed").keys() >= {"config.json", "model.safetensors"}
    sync(settings)
    assert how_often(tasks) == 1
    assert not any(scratch.iterdir())
    assert read_model(target)["LICENSE"] == b"of the model"


def test_a_model_from_a_bucket_is_fetched_once(
    settings: Settings, source: Path, target: Path, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any source that is no folder: here one that is told to be none."""
    monkeypatch.setattr("syncer.bridge.DirectoryLocation", _Elsewhere)
    install(tmp_path, monkeypatch, before='tell("refused", kind="model", message="no such layer"); sys.exit()')
    with pytest.raises(ConfigurationError, match="no such layer"):
        sync(settings)
    [place] = scratch.iterdir()
    fetched = place / "original"
    assert read_model(fetched).keys() == read_model(source).keys()
    seal = read_seal(DirectoryDestination(DirectoryLocation(fetched)).control)
    assert seal is not None
    tasks = install(tmp_path, monkeypatch)
    tasks.unlink()
    sync(settings)
    assert json.loads(tasks.read_text())["original"] == str(fetched)
    manifest = read_manifest(DirectoryDestination(DirectoryLocation(target)).control)
    assert manifest is not None
    assert manifest.source == str(source)


class _Elsewhere(DirectoryLocation):
    pass


@pytest.mark.parametrize(
    ("before", "kind", "words"),
    [
        ('tell("refused", kind="data", message="no text"); sys.exit()', ConfigurationError, "no text"),
        ('tell("refused", kind="memory", message="3 GiB"); sys.exit()', ConfigurationError, "3 GiB"),
        ('tell("refused", kind="unreachable", message="no way"); sys.exit()', EndpointUnreachable, "no way"),
        ('tell("failed", number=28, message="full"); sys.exit()', OutOfSpace, "full"),
        ('tell("failed", number=0, message="KeyError: x"); sys.exit()', InternalError, "KeyError: x"),
        ("import os; os.kill(os.getpid(), 9)", ConfigurationError, "memory is short"),
        ('print("last words", file=sys.stderr); sys.exit(3)', InternalError, "ended with 3: last words"),
        ("print('no JSON'); sys.exit(0)", InternalError, "ended with 0"),
    ],
)
def test_what_the_worker_cannot_do_is_an_error_by_remedy(
    settings: Settings, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    before: str, kind: type[SyncerError], words: str,
) -> None:  # fmt: skip
    install(tmp_path, monkeypatch, before=before)
    with pytest.raises(kind, match=words):
        sync(settings)
    assert not target.exists()


def test_a_stop_ends_the_worker_and_the_run(
    settings: Settings, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = threading.Event()
    log = install(tmp_path, monkeypatch, before='tell("layer", done=1, total=9); sys.stdin.read()')
    noted = child._Heard.note

    def note(self: child._Heard, said: dict[str, object]) -> None:
        noted(self, said)
        reached.set()

    monkeypatch.setattr(child._Heard, "note", note)
    stop = StopSwitch()

    def throw() -> None:
        reached.wait(30)
        stop.throw(Interrupted())

    thrower = threading.Thread(target=throw)
    thrower.start()
    with pytest.raises(Interrupted):
        sync(settings, stop)
    thrower.join()
    assert how_often(log) == 1
    [place] = scratch.iterdir()
    assert not list(place.glob("*/made"))


def test_what_is_not_ours_is_not_overwritten(settings: Settings, source: Path, tmp_path: Path, tasks: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years of work")
    assert settings.compression is not None
    desk = folder.Desk(settings, settings.compression, StopSwitch(), in_silence)
    origin, listing = folder.origin_of(source, settings.compression)
    with pytest.raises(ConfigurationError, match="no model of ours"):
        folder.compress(desk, source, foreign, origin, listing)
    assert (foreign / "thesis.txt").read_text() == "years of work"
    assert how_often(tasks) == 0


def test_what_cannot_be_compressed_is_said_before_anything_starts(
    settings: Settings, source: Path, target: Path, tasks: Path
) -> None:
    (source / "config.json").write_text(json.dumps(CONFIG | {"quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(ConfigurationError, match="compressed already, by gptq"):
        sync(settings)
    (source / "config.json").unlink()
    with pytest.raises(ConfigurationError, match=r"no config\.json"):
        sync(settings)
    shutil.rmtree(source)
    with pytest.raises(SourceMissing):
        sync(settings)
    assert how_often(tasks) == 0
    assert not target.exists()


def test_an_installation_without_the_library_says_so_before_it_fetches(settings: Settings, scratch: Path) -> None:
    if importlib.util.find_spec("llmcompressor"):
        pytest.skip("the library is installed here")
    with pytest.raises(ConfigurationError, match="is not installed") as caught:
        sync(settings)
    assert "Containerfile" in caught.value.hint
    assert not list(scratch.glob("*/original"))


def test_alone_from_folder_to_folder(
    source: Path, tmp_path: Path, tasks: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = tmp_path / "compressed"
    environ = {"COMPRESSION_SCHEME": "FP8_DYNAMIC", "RESULTS_DIR": str(tmp_path / "none")}

    def compress(**more: str) -> LastWords:
        words = LastWords()
        cli.run(["compress", str(source), str(result)], environ=environ | more, stop=StopSwitch(), words=words)
        return words

    words = compress(SKIP_TASKS="compress-model")
    assert words.outcome is not None
    assert words.outcome.message == "SKIP_TASKS names compress"
    words = compress(COMPRESS_MODEL="false")
    assert words.outcome is not None
    assert (words.outcome.status, words.outcome.message) == ("skipped", "COMPRESS_MODEL is false")
    words = compress()
    assert words.outcome is not None
    assert (words.outcome.exit_code, words.outcome.reason) == (0, "Compressed")
    assert "compressed from" in words.outcome.message
    assert read_model(result)["model.safetensors"] == read_model(source)["model.safetensors"][::2]
    words = compress()
    assert words.outcome is not None
    assert words.outcome.reason == "UpToDate"
    assert how_often(tasks) == 1
    words = LastWords()
    cli.run(["compress", str(source), "s3://bucket/x"], environ=environ, stop=StopSwitch(), words=words)
    assert words.outcome is not None
    assert words.outcome.exit_code == 78
    assert "must both be paths" in words.outcome.message
