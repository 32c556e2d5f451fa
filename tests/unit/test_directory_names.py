"""A name that a directory accepts never leads out of its root, and two that it accepts never meet."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncer.settings.locations import DirectoryLocation
from syncer.stores.directory import DirectoryDestination
from syncer.stores.directory.names import NameLimits, name_problems, problem_of
from syncer.stores.directory.parts import is_token, new_token, token_of
from syncer.stores.directory.place import Place, parts_of
from tests.contract.checks import store

COMPONENTS = st.sampled_from(
    ["a", "b", "..", ".", "", "...", " ", "a\0b", "é", "\\", ".syncer", "lost+found", "x" * 256]
)
PATHS = st.one_of(st.text(max_size=40), st.lists(COMPONENTS, max_size=6).map("/".join))


def problems(folder: Path, *paths: str) -> list[str]:
    return DirectoryDestination(DirectoryLocation(folder)).name_problems(paths)


@given(path=PATHS)
def test_a_name_that_is_accepted_stays_below_the_root(path: str) -> None:
    if problem_of(path, NameLimits()):
        return
    assert "/".join(parts_of(path)) == path
    assert os.path.normpath(f"/root-of-all/{path}") == f"/root-of-all/{path}"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(paths=st.sets(PATHS, max_size=6))
def test_names_that_are_accepted_together_are_all_stored(tmp_path: Path, paths: set[str]) -> None:
    root = tmp_path / f"case-{len(list(tmp_path.iterdir()))}"
    destination = DirectoryDestination(DirectoryLocation(root))
    named = "\n".join(destination.name_problems(paths))
    accepted = {path for path in paths if ascii(path) not in named and f"'{path}'" not in named}
    for path in accepted:
        store(destination, path, path.encode(), part_size=10)
    assert set(destination.listing().files) == accepted
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith("case-")} == set()


@given(path=PATHS.filter(bool))
def test_tokens_name_one_file_in_the_state_folder(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        return
    token = new_token(path)
    assert is_token(token)
    assert token_of(token) == token
    assert "/" not in token
    assert len(token) <= 120


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "empty"),
        ("/etc/passwd", "absolute"),
        ("../up.bin", "'..'"),
        ("a/../../up.bin", "'..'"),
        ("a/./b", "empty component or '.'"),
        ("a//b", "empty component or '.'"),
        ("folder/", "empty component or '.'"),
        ("nul\0byte", "NUL"),
        ("surrogate-\udcff", "UTF-8"),
        (".syncer/complete.json", ".syncer"),
        ("granite/.syncer/complete.json", ".syncer"),
        ("lost+found/x", "belongs to the volume"),
        ("a/.snapshot/x", "belongs to the volume"),
        ("ü" * 128, "256 bytes"),
        (("d" * 250 + "/") * 20 + "x", "5021 bytes"),
        ("d/" * 256 + "x", "256 folders deep"),
    ],
)
def test_what_cannot_be_held_is_named(tmp_path: Path, path: str, words: str) -> None:
    [problem] = problems(tmp_path, "fine.bin", path)
    assert words in problem
    assert problem.isprintable()


@pytest.mark.parametrize("path", ["..a", "a..", "...", "a/...", " ", "back\\slash", "C:", "~", "-rf", "x" * 255])
def test_what_only_looks_odd_is_held(tmp_path: Path, path: str) -> None:
    assert problems(tmp_path, path) == []
    store(DirectoryDestination(DirectoryLocation(tmp_path / "m")), path, b"x", part_size=10)
    assert (tmp_path / "m" / path).read_bytes() == b"x"


def test_names_that_meet_are_both_named(tmp_path: Path) -> None:
    found = problems(tmp_path, "a", "a/b", "a/c/d", "x//y", "x/y", "fine")
    assert [line.split("'")[1] for line in found] == ["a", "a/b", "a/c/d", "x//y", "x/y"]


def test_what_is_in_the_way_is_named(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    root = tmp_path / "model"
    (root / "folder" / "below").mkdir(parents=True)
    (root / "file").write_bytes(b"x")
    (root / "folder" / "good-link").symlink_to("../file")
    (root / "bad-link").symlink_to("../outside")
    os.mkfifo(root / "pipe")
    found = problems(
        root,
        "folder/below",
        "file/under",
        "bad-link",
        "bad-link/under",
        "pipe",
        "folder/good-link",
        "folder/new/deep.bin",
    )
    assert [line.split("'")[1] for line in found] == [
        "bad-link",
        "bad-link/under",
        "file/under",
        "folder/below",
        "pipe",
    ]


def test_many_names_need_no_look_at_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shards").mkdir()
    place = Place(tmp_path, variable="S3_SYNC_DEST__PATH")
    looks: list[object] = []
    scandir = os.scandir

    def counted(where: int) -> object:
        looks.append(where)
        return scandir(where)

    monkeypatch.setattr(os, "scandir", counted)
    assert name_problems(place, [f"shards/{number}.bin" for number in range(2000)]) == []
    assert len(looks) == 2
