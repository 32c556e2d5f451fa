"""Second runs: what is unchanged stays unread, what is not ours stays untouched."""

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from syncer import job
from syncer.errors import ConfigurationError, NotThereYet, OutOfSpace, SourceMissing, Transient, UnsafeNames, WrongBytes
from syncer.progress import Progress
from syncer.settings.locations import DirectoryLocation, Settings, UploadedByHand
from syncer.stop import StopSwitch
from syncer.verify import Differences
from tests.flow.conftest import Run, in_silence
from tests.support.models import pattern, read_model, sha256, write_model


def manifest_of(folder: Path) -> dict[str, dict[str, object]]:
    document = json.loads((folder / ".syncer/manifest.json").read_bytes())
    return {entry["path"]: entry for entry in document["files"]}


def seal_of(folder: Path) -> dict[str, object]:
    return dict(json.loads((folder / ".syncer/complete.json").read_bytes()))


def only_verified(settings: Settings) -> Differences:
    [found] = job.verify(settings, StopSwitch(), in_silence).values()
    assert isinstance(found, Differences)
    return found


def test_a_first_run_copies_proves_and_seals(run: Run, source: Path, target: Path) -> None:
    result = run()
    files = read_model(source)
    assert read_model(target) == files
    assert (result.files, result.copied_files) == (len(files), len(files))
    assert result.copied_bytes == result.bytes == sum(map(len, files.values()))
    manifest = manifest_of(target)
    assert {path: entry["digests"] for path, entry in manifest.items()} == {
        path: {"sha256": sha256(data)} for path, data in files.items()
    }
    assert {entry["proved_by"] for entry in manifest.values()} == {"stream"}
    assert seal_of(target)["manifest"] == result.digest
    assert sorted(path.name for path in (target / ".syncer").iterdir()) == ["complete.json", "manifest.json"]


def test_a_second_run_copies_nothing_and_leaves_the_seal_alone(run: Run, target: Path) -> None:
    run()
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*") if path.is_file()}
    result = run()
    assert (result.copied_bytes, result.copied_files) == (0, 0)
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*") if path.is_file()} == before


def test_a_changed_file_is_copied_alone(run: Run, source: Path, target: Path) -> None:
    run()
    (source / "config.json").write_bytes(b'{"model_type": "roberta"}')
    result = run()
    assert result.copied_files == 1
    assert read_model(target) == read_model(source)
    assert seal_of(target)["manifest"] == result.digest


def test_force_copies_all(run: Run, source: Path) -> None:
    run()
    assert run(transfer_force=True).copied_files == len(read_model(source))


def test_a_file_lost_at_the_destination_comes_back(run: Run, source: Path, target: Path) -> None:
    run()
    (target / "config.json").unlink()
    assert run().copied_files == 1
    assert read_model(target) == read_model(source)


def test_what_the_source_no_longer_has_stays_unless_told(run: Run, source: Path, target: Path) -> None:
    run()
    (source / "tokenizer/vocab.txt").unlink()
    write_model(target, {"notes.txt": b"not ours"})
    assert run().deleted_files == 0
    assert (target / "tokenizer/vocab.txt").exists()
    assert run(delete="recorded").deleted_files == 1
    assert not (target / "tokenizer/vocab.txt").exists()
    assert (target / "notes.txt").read_bytes() == b"not ours"


def test_a_mirror_removes_everything_else_but_no_sealed_folder(run: Run, target: Path, tmp_path: Path) -> None:
    nested = write_model(tmp_path / "other", {"w.bin": b"another model"})
    run(source=DirectoryLocation(nested), destination=DirectoryLocation(target / "granite"))
    write_model(target, {"notes.txt": b"x", "lost+found/a": b"x", ".snapshot/b": b"x"})
    run(delete="all")
    assert not (target / "notes.txt").exists()
    assert (target / "lost+found/a").exists()
    assert (target / ".snapshot/b").exists()
    assert (target / "granite/w.bin").read_bytes() == b"another model"
    assert (target / "granite/.syncer/complete.json").exists()


def test_a_file_below_another_sealed_folder_is_refused(run: Run, source: Path, target: Path, tmp_path: Path) -> None:
    nested = write_model(tmp_path / "other", {"w.bin": b"another model"})
    run(source=DirectoryLocation(nested), destination=DirectoryLocation(target / "granite"))
    write_model(source, {"granite/w.bin": b"overwritten?"})
    with pytest.raises(UnsafeNames, match=r"granite/w\.bin"):
        run()
    assert (target / "granite/w.bin").read_bytes() == b"another model"


def test_a_foreign_file_that_differs_is_named_and_only_force_replaces_it(run: Run, source: Path, target: Path) -> None:
    write_model(target, {"config.json": b"somebody else's"})
    with pytest.raises(ConfigurationError, match=r"config\.json") as refused:
        run()
    assert "S3_SYNC_TRANSFER_CONFIG__FORCE" in refused.value.hint
    assert read_model(target) == {"config.json": b"somebody else's"}
    run(transfer_force=True)
    assert read_model(target) == read_model(source)


def test_a_foreign_file_of_the_same_size_is_compared(run: Run, source: Path, target: Path) -> None:
    model = read_model(source)
    write_model(target, model)
    result = run()
    assert result.copied_files == 0
    assert {entry["proved_by"] for entry in manifest_of(target).values()} == {"readback"}
    assert seal_of(target)["files"] == len(model)


def test_a_foreign_file_of_the_same_size_but_other_bytes_is_refused(run: Run, target: Path) -> None:
    write_model(target, {"model.safetensors": pattern(9_000_003, seed=99)})
    with pytest.raises(ConfigurationError, match=r"model\.safetensors"):
        run()


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


def test_a_sealed_model_can_be_a_source(run: Run, source: Path, target: Path, tmp_path: Path) -> None:
    run()
    further = tmp_path / "volume/further"
    run(source=DirectoryLocation(target), destination=DirectoryLocation(further))
    assert read_model(further) == read_model(source)


def test_verify_names_what_is_wrong_missing_and_extra(run: Run, settings: Settings, source: Path, target: Path) -> None:
    run()
    assert not only_verified(settings)
    weights = target / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[5_000_000] ^= 1
    weights.write_bytes(data)
    (target / "config.json").unlink()
    write_model(target, {"extra.bin": b"?"})
    found = only_verified(settings)
    assert set(found.wrong) == {"model.safetensors"}
    assert found.missing == ("config.json",)
    assert found.extra == ("extra.bin",)
    assert isinstance(found.to_error(), WrongBytes)


def test_verify_without_a_manifest_says_so(settings: Settings, target: Path) -> None:
    target.mkdir()
    with pytest.raises(SourceMissing, match="manifest"):
        job.verify(settings, StopSwitch(), in_silence)


def test_uploaded_by_hand_is_looked_at_and_sealed(run: Run, target: Path) -> None:
    write_model(target, {"config.json": b"{}", "model.safetensors": b"weights"})
    result = run(source=UploadedByHand())
    assert (result.files, result.copied_bytes) == (2, 0)
    assert {entry["proved_by"] for entry in manifest_of(target).values()} == {"listing"}
    assert seal_of(target)["source"] == "uploaded-by-hand"


def test_what_was_uploaded_by_hand_is_not_overwritten_when_a_source_is_named(run: Run, target: Path) -> None:
    write_model(target, {"config.json": b"by hand", "notes.txt": b"by hand"})
    run(source=UploadedByHand())
    with pytest.raises(ConfigurationError, match=r"config\.json"):
        run(delete="recorded")
    assert read_model(target) == {"config.json": b"by hand", "notes.txt": b"by hand"}
    assert seal_of(target)["source"] == "uploaded-by-hand"


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
