"""Second runs into a volume: what only it shows. The stories of every kind of destination are in `test_anywhere.py`."""

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from syncer import job, lease, marker, preflight, registering
from syncer import journal as state
from syncer.errors import ConfigurationError, NotThereYet, OutOfSpace, SourceMissing, Transient
from syncer.progress import Progress
from syncer.settings.locations import DirectoryLocation, Settings, UploadedByHand
from syncer.stop import StopSwitch
from syncer.stores.directory import DirectoryDestination
from tests.flow.conftest import Run, in_silence
from tests.support.models import read_model, write_model


def manifest_of(folder: Path) -> dict[str, dict[str, object]]:
    document = json.loads((folder / ".syncer/manifest.json").read_bytes())
    return {entry["path"]: entry for entry in document["files"]}


def seal_of(folder: Path) -> dict[str, object]:
    return dict(json.loads((folder / ".syncer/complete.json").read_bytes()))


def test_a_second_run_copies_nothing_and_leaves_the_seal_alone(run: Run, target: Path) -> None:
    run()
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*") if path.is_file()}
    result = run()
    assert (result.copied_bytes, result.copied_files) == (0, 0)
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*") if path.is_file()} == before


def test_a_foreign_file_that_appears_while_the_run_copies_is_named_and_stays(
    run: Run, settings: Settings, source: Path, target: Path
) -> None:
    model, theirs = read_model(source), {"config.json": b"somebody else's", "model.safetensors": b"too"}

    @contextmanager
    def somebody_writes(_progress: Progress) -> Iterator[None]:
        write_model(target, theirs)
        yield

    with pytest.raises(ConfigurationError, match=r"config\.json; model\.safetensors") as refused:
        job.sync(settings, StopSwitch(), somebody_writes)
    assert "S3_SYNC_TRANSFER_CONFIG__FORCE" in refused.value.hint
    assert read_model(target) == model | theirs
    assert not (target / ".syncer/complete.json").exists()
    assert not list((target / ".syncer/state").glob("p*-*"))

    with pytest.raises(ConfigurationError, match="not ours and differ"):
        run()  # what an earlier run meant to write there does not make it ours
    (target / "config.json").write_bytes(model["config.json"])
    (target / "model.safetensors").unlink()
    assert run().copied_files == 1
    assert read_model(target) == model
    assert manifest_of(target)["config.json"]["proved_by"] == "readback"


def test_force_replaces_also_what_appears_while_the_run_copies(settings: Settings, source: Path, target: Path) -> None:
    @contextmanager
    def somebody_writes(_progress: Progress) -> Iterator[None]:
        write_model(target, {"config.json": b"somebody else's"})
        yield

    forced = replace(settings, transfer=replace(settings.transfer, force=True))
    job.sync(forced, StopSwitch(), somebody_writes)
    assert read_model(target) == read_model(source)


@pytest.mark.parametrize(
    ("where", "what"), [(preflight, "refuse_full"), (registering, "committed_model")], ids=["plan", "seal"]
)
def test_a_run_that_was_suspended_and_replaced_neither_begins_nor_seals(
    run: Run, target: Path, monkeypatch: pytest.MonkeyPatch, where: ModuleType, what: str
) -> None:
    def suspended(*_: object, **__: object) -> dict[str, str]:
        control = DirectoryDestination(DirectoryLocation(target)).control
        control.write(lease.LEASE, b'{"holder": "another"}')
        marker.unseal(control)
        state.clear(control)
        return {}

    monkeypatch.setattr(lease, "SILENCE_SECONDS", 0.0)  # however short it was
    monkeypatch.setattr(where, what, suspended)
    with pytest.raises(NotThereYet, match="has taken this destination over"):
        run()
    assert [path.name for path in (target / ".syncer").iterdir()] == ["lease.json"]


def test_the_seal_is_gone_while_the_folder_is_mixed(run: Run, source: Path, target: Path) -> None:
    run()
    (source / "config.json").write_bytes(b"{}")
    (source / "model.safetensors").chmod(0o644)
    os.truncate(source / "tokenizer/vocab.txt", 10)
    stop = StopSwitch()

    class Broken(Exception):
        pass

    def break_the_run(_progress: object) -> object:
        raise Broken

    settings = Settings(
        source=DirectoryLocation(source), destination=DirectoryLocation(target), wait_for_destination=0.0
    )
    with pytest.raises(Broken):
        job.sync(settings, stop, break_the_run)  # type: ignore[arg-type]
    assert not (target / ".syncer/complete.json").exists()
    run()
    assert seal_of(target)["files"] == len(read_model(source))
    assert read_model(target) == read_model(source)


def test_a_seal_that_nobody_can_read_goes_too(settings: Settings, target: Path) -> None:
    write_model(target, {".syncer/complete.json": b'{"format": 99}'})

    def look(_progress: object) -> AbstractContextManager[None]:
        assert not (target / ".syncer/complete.json").exists()
        return in_silence(Progress(total_bytes=0, total_files=0))

    job.sync(settings, StopSwitch(), look)
    assert seal_of(target)["format"] == 1


def test_who_lost_the_lease_does_not_seal(settings: Settings, target: Path) -> None:
    def lose(_progress: object) -> AbstractContextManager[None]:
        (target / ".syncer/lease.json").write_bytes(b'{"holder": "somebody else"}')
        return in_silence(Progress(total_bytes=0, total_files=0))

    with pytest.raises(NotThereYet, match="taken"):
        job.sync(settings, StopSwitch(), lose)
    assert not (target / ".syncer/complete.json").exists()
    assert not (target / ".syncer/manifest.json").exists()
    assert (target / ".syncer/lease.json").exists()


def test_a_kept_file_that_is_changed_meanwhile_is_not_sealed(
    run: Run, settings: Settings, source: Path, target: Path
) -> None:
    run()
    write_model(source, {"new.bin": b"new"})

    def meddle(_progress: object) -> AbstractContextManager[None]:
        (target / "config.json").unlink()
        return in_silence(Progress(total_bytes=0, total_files=0))

    with pytest.raises(Transient, match=r"config\.json"):
        job.sync(settings, StopSwitch(), meddle)
    assert not (target / ".syncer/complete.json").exists()
    run()
    assert read_model(target) == read_model(source)


def test_a_source_brings_the_sealed_models_inside_it_too(run: Run, source: Path, target: Path) -> None:
    write_model(source, {"granite/.syncer/complete.json": b"{}", "granite/w.bin": b"also wanted"})
    run()
    assert (target / "granite/w.bin").read_bytes() == b"also wanted"
    assert not (target / "granite/.syncer").exists()


def test_verify_without_a_manifest_says_so(settings: Settings, target: Path) -> None:
    target.mkdir()
    with pytest.raises(SourceMissing, match="manifest"):
        job.verify(settings, StopSwitch(), in_silence)


def test_uploaded_by_hand_finds_nothing(run: Run, target: Path) -> None:
    target.mkdir()
    with pytest.raises(SourceMissing) as missing:
        run(source=UploadedByHand())
    assert missing.value.hint


def test_uploaded_by_hand_misses_a_shard(run: Run, target: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    write_model(
        target,
        {"model.safetensors.index.json": json.dumps(index).encode(), "model-00001-of-00002.safetensors": b"w"},
    )
    with pytest.raises(SourceMissing, match="model-00002-of-00002"):
        run(source=UploadedByHand())
    assert run(source=UploadedByHand(verify=False)).files == 2


def test_uploaded_by_hand_without_a_destination_is_fine(run: Run) -> None:
    assert run(source=UploadedByHand(), destination=None).skipped


def test_a_volume_that_is_too_small_is_found_before_the_first_byte(
    run: Run, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncer.stores.directory.DirectoryDestination.free_bytes", lambda _self: 8 << 20)
    with pytest.raises(OutOfSpace) as full:
        run()
    assert str(target) in full.value.message
    assert "8.0 MiB free" in full.value.message
    assert f"{8 << 20} and 9005027 bytes" in full.value.message
    assert full.value.exit_code == 73
    assert not target.exists() or read_model(target) == {}
