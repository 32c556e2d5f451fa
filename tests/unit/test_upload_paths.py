"""What the paths of an upload mean, and which are refused."""

import os
from pathlib import Path

import pytest

from syncer.errors import ConfigurationError, SourceMissing
from syncer.uploading.paths import Parcel, parcels_of
from tests.support.models import write_model


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with a space in its name, and neighbours that nobody may reach from it."""
    folder = tmp_path / "my downloads"
    write_model(
        folder,
        {
            "aligned-model/config.json": b"{}",
            "aligned-model/sub/weights.bin": b"w",
            "config.json": b"{}",
            "-dash.bin": b"d",
            "ünï côdé.bin": b"u",
            "other/config.json": b"other",
            "other/aligned-model/config.json": b"{}",
            "sealed/.syncer/manifest.json": b"{}",
        },
    )
    write_model(tmp_path / "outside", {"config.json": b"{}"})
    return folder


def shape(parcels: tuple[Parcel, ...], here: Path) -> list[tuple[str, bool, list[str]]]:
    return [
        (one.folder, one.joins, [path.relative_to(here).as_posix() for path in one.source.paths]) for one in parcels
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["aligned-model/"], [("", False, ["aligned-model"])]),
        (["aligned-model"], [("aligned-model", False, ["aligned-model"])]),
        (["./aligned-model"], [("aligned-model", False, ["aligned-model"])]),
        (["aligned-model//"], [("", False, ["aligned-model"])]),
        (["aligned-model/."], [("", False, ["aligned-model"])]),
        (["aligned-model/sub"], [("sub", False, ["aligned-model/sub"])]),
        (["other/../aligned-model"], [("aligned-model", False, ["aligned-model"])]),
        (["./"], [("", False, ["."])]),
        (["."], [("", False, ["."])]),
        (["other/.."], [("", False, ["."])]),
        ([".", "./", "."], [("", False, ["."])]),
        (["config.json"], [("", True, ["config.json"])]),
        (["config.json", "-dash.bin"], [("", True, ["config.json", "-dash.bin"])]),
        (["ünï côdé.bin"], [("", True, ["ünï côdé.bin"])]),
        (["config.json", "aligned-model/sub/"], [("", False, ["config.json", "aligned-model/sub"])]),
        (
            ["config.json", "other", "aligned-model/", "aligned-model/sub"],
            [
                ("other", False, ["other"]),
                ("sub", False, ["aligned-model/sub"]),
                ("", False, ["config.json", "aligned-model"]),
            ],
        ),
    ],
)
def test_a_slash_means_the_content(here: Path, arguments: list[str], expected: object) -> None:
    assert shape(parcels_of(arguments, here), here) == expected


def test_an_absolute_path_below_is_as_good(here: Path) -> None:
    assert shape(parcels_of([f"{here}/aligned-model"], here), here) == [("aligned-model", False, ["aligned-model"])]
    assert shape(parcels_of([f"{here}/"], here), here) == [("", False, ["."])]


def test_a_link_keeps_its_name_when_it_stays_inside(here: Path) -> None:
    (here / "current").symlink_to("aligned-model")
    (here / "here.json").symlink_to("other/config.json")
    assert shape(parcels_of(["current", "here.json"], here), here) == [
        ("current", False, ["current"]),
        ("", True, ["here.json"]),
    ]


@pytest.mark.parametrize(
    "argument",
    [
        "..",
        "../",
        "../outside",
        "../outside/config.json",
        "/",
        "/etc",
        "aligned-model/../..",
        "leaves",
        "leaves/",
        "out",
    ],
)
def test_what_lies_elsewhere_is_refused_by_name(here: Path, argument: str) -> None:
    (here / "leaves").symlink_to("../outside")
    (here / "out").symlink_to("/etc/passwd")
    with pytest.raises(ConfigurationError) as caught:
        parcels_of([argument], here)
    assert f"{argument}: does not lie in the current directory or below it" in caught.value.message
    assert "cd to the folder that holds it" in caught.value.hint


def test_a_neighbour_whose_name_begins_alike_is_elsewhere(tmp_path: Path) -> None:
    write_model(tmp_path, {"a/x": b"", "ab/x": b""})
    with pytest.raises(ConfigurationError, match="does not lie in the current directory"):
        parcels_of(["../ab"], tmp_path / "a")


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("", "is no path"),
        ("a\0b", "is no path"),
        ("config.json/", "is a file; leave the slash out"),
        ("pipe", "is neither a file nor a folder"),
        ("sealed/.syncer", "is the proof of a model"),
        ("sealed/.syncer/manifest.json", "is the proof of a model"),
    ],
)
def test_what_makes_no_sense_is_refused(here: Path, argument: str, words: str) -> None:
    os.mkfifo(here / "pipe")
    with pytest.raises(ConfigurationError) as caught:
        parcels_of([argument], here)
    assert words in caught.value.message


def test_all_problems_come_at_once(here: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parcels_of(["gone", "config.json", "../outside", "also-gone/"], here)
    assert len(caught.value.problems) == 3
    for word in ("gone", "../outside", "also-gone/"):
        assert word in caught.value.message
    with pytest.raises(SourceMissing) as missing:
        parcels_of(["gone", "config.json", "config.json/not"], here)
    assert "gone: no such file" in missing.value.message
    assert "config.json/not: no such file" in missing.value.message


def test_folders_of_one_name_are_refused_with_both(here: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parcels_of(["aligned-model", "other/aligned-model"], here)
    assert "aligned-model and other/aligned-model would both become models/aligned-model/" in caught.value.message


def test_nothing_at_all_is_refused(here: Path) -> None:
    with pytest.raises(ConfigurationError, match="nothing to upload"):
        parcels_of([], here)


def test_a_source_is_called_by_the_folder_that_holds_it(here: Path) -> None:
    def called(*arguments: str) -> str:
        return os.path.relpath(parcels_of(arguments, here)[-1].source.uri, here)

    assert called("aligned-model/") == called("aligned-model") == "aligned-model"
    assert called("config.json") == called("config.json", "aligned-model/") == "."
    assert called("aligned-model/sub/weights.bin") == "aligned-model/sub"
