"""Several named paths as one source; what each store promises is held in tests/contract."""

import os
from pathlib import Path

import pytest

from syncer.errors import ConfigurationError, InternalError, SourceMissing
from syncer.manifest import ModelFile
from syncer.settings.locations import GatheredLocation
from syncer.stores.gathered import GatheredSource
from tests.contract.checks import drain
from tests.support.models import write_model


def gathered(folder: Path, *names: str) -> GatheredSource:
    return GatheredSource(GatheredLocation(tuple(folder / name for name in names), told=str(folder)))


def test_folders_give_their_content_and_files_themselves(tmp_path: Path) -> None:
    write_model(
        tmp_path, {"m/config.json": b"{}", "m/sub/w.bin": b"ww", "other/tokenizer.json": b"ttt", "not.bin": b""}
    )
    source = gathered(tmp_path, "m", "other/tokenizer.json")
    files = source.listing().files
    assert {path: file.size for path, file in files.items()} == {"config.json": 2, "sub/w.bin": 2, "tokenizer.json": 3}
    assert drain(source.read(files["tokenizer.json"], 1, 2), 2) == b"tt"
    assert drain(source.read(files["sub/w.bin"], 0, 2), 2) == b"ww"
    assert source.look_again(files["tokenizer.json"]) == files["tokenizer.json"]
    assert source.name == str(tmp_path)


def test_the_same_name_from_two_paths_is_refused_with_both(tmp_path: Path) -> None:
    write_model(tmp_path, {"a/config.json": b"1", "b/config.json": b"2"})
    for names in (("a", "b"), ("a", "b/config.json"), ("a/config.json", "b/config.json")):
        with pytest.raises(ConfigurationError) as caught:
            gathered(tmp_path, *names).listing()
        for name in names:
            assert str(tmp_path / name) in caught.value.message


def test_equal_times_and_sizes_of_two_folders_are_two_versions(tmp_path: Path) -> None:
    write_model(tmp_path, {"v1/config.json": b"1", "v2/config.json": b"2", "config.json": b"3"})
    before = (tmp_path / "v1/config.json").stat().st_mtime_ns
    versions = set()
    for name in ("v1/config.json", "v2/config.json", "config.json", "v1", "v2"):
        path = tmp_path / name
        for file in [path] if path.is_file() else path.iterdir():
            os.utime(file, ns=(before, before))
        versions.add(gathered(tmp_path, name).listing().files["config.json"].version)
    assert len(versions) == 3
    assert {version.partition("@")[0] for version in versions} == {str(before)}


def test_what_is_wrong_names_no_variable(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "gone"):
        with pytest.raises(SourceMissing) as caught:
            gathered(tmp_path, name).listing()
        assert name in caught.value.message
        assert "S3_SYNC" not in caught.value.message + caught.value.hint
        assert caught.value.hint


def test_only_what_was_listed_can_be_read(tmp_path: Path) -> None:
    write_model(tmp_path, {"a/x": b"1"})
    with pytest.raises(InternalError):
        gathered(tmp_path, "a").read(ModelFile("x", 1, "v"), 0, 1)
