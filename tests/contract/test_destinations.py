"""The contract of `Destination`, over every store that can be written to; its uploads are in `test_uploads.py`."""

import pytest

from syncer.errors import WrongBytes
from tests.contract.benches import SECRET, Bench, needs
from tests.contract.checks import check_range, commit, some_bytes, store
from tests.contract.test_sources import ODD_NAMES


def test_prepare_leaves_nothing(writable: Bench) -> None:
    destination = writable.destination()
    destination.prepare()
    assert writable.far_end() == {}
    assert destination.listing().files == {}
    assert destination.control.names() == []


def test_an_empty_place_has_an_empty_listing(writable: Bench) -> None:
    listing = writable.destination().listing()
    assert (dict(listing.files), listing.nested) == ({}, frozenset())


def test_every_name_arrives_as_it_is(writable: Bench) -> None:
    destination = writable.destination()
    assert destination.name_problems(list(ODD_NAMES)) == []
    for path, content in ODD_NAMES.items():
        store(destination, path, content, part_size=writable.part_size)
    commit(destination)
    far_end = {path: data for path, data in writable.far_end().items() if not path.startswith(".syncer/")}
    assert far_end == ODD_NAMES


def test_control_characters_in_names_arrive(writable: Bench) -> None:
    if not writable.takes_control_characters:
        pytest.skip("this server has no names with control characters")
    store(writable.destination(), "newline\nand\ttab.txt", b"content", part_size=writable.part_size)
    assert writable.far_end()["newline\nand\ttab.txt"] == b"content"


def test_listing_shows_what_others_put_there(writable: Bench) -> None:
    needs(writable, "holds_any_path")
    writable.put({"theirs.bin": b"foreign", "granite/.syncer/complete.json": b"{}", "granite/x": b"x"})
    listing = writable.destination().listing()
    assert {path: file.size for path, file in listing.files.items()} == {"theirs.bin": 7}
    assert listing.nested == {"granite"}


def test_version_changes_with_the_bytes(writable: Bench) -> None:
    destination = writable.destination()
    writable.put({"file.bin": b"before"})
    before = destination.listing().files["file.bin"]
    store(destination, "file.bin", b"behind", part_size=writable.part_size)
    assert destination.listing().files["file.bin"].version != before.version


def test_files_can_be_read_back(writable: Bench) -> None:
    content = some_bytes(5000)
    destination = writable.destination()
    store(destination, "a/file.bin", content, part_size=writable.part_size)
    file = destination.listing().files["a/file.bin"]
    check_range(destination, file, content, start=0, length=5000)
    check_range(destination, file, content, start=4000, length=1000)


def test_reading_back_what_is_gone_is_wrong_bytes(writable: Bench) -> None:
    destination = writable.destination()
    writable.put({"file.bin": b"0123456789"})
    file = destination.listing().files["file.bin"]
    writable.remove("file.bin")
    with pytest.raises(WrongBytes):
        destination.read(file, 0, 10).readinto(memoryview(bytearray(10)))


def test_delete_removes_these_files_alone(writable: Bench) -> None:
    writable.put({"a/gone.bin": b"1", "a/b/gone.bin": b"2", "a/stays.bin": b"3", "stays.bin": b"4", "stays": b"5"})
    destination = writable.destination()
    destination.delete(["a/gone.bin", "a/b/gone.bin", "never/was.bin", "a/b"])
    commit(destination)
    assert writable.far_end() == {"a/stays.bin": b"3", "stays.bin": b"4", "stays": b"5"}
    destination.delete(["a/gone.bin"])
    destination.delete([])


def test_many_files_can_be_deleted_at_once(writable: Bench) -> None:
    files = {f"file-{number}.bin": b"x" for number in range(1050)}
    writable.put({**files, "stays.bin": b"s"})
    destination = writable.destination()
    destination.delete(files)
    commit(destination)
    assert writable.far_end() == {"stays.bin": b"s"}


def test_space_is_a_number_or_unknown(writable: Bench) -> None:
    free = writable.destination().free_bytes()
    assert free is None or free > 0


def test_limits_make_sense(writable: Bench) -> None:
    limits = writable.destination().limits
    assert 1 <= limits.smallest_part <= writable.part_size
    assert limits.largest_part is None or limits.largest_part >= limits.smallest_part
    assert limits.most_parts is None or limits.most_parts >= 1


def test_ordinary_names_are_no_problem(writable: Bench) -> None:
    assert writable.destination().name_problems(["a", "b/c", "b/d/e.bin", ".hidden", "x" * 200]) == []
    assert writable.destination().name_problems([]) == []


def test_problems_name_the_path(writable: Bench) -> None:
    problems = writable.destination().name_problems(["fine.bin", ""])
    assert len(problems) == 1
    assert "''" in problems[0]


def test_commit_may_be_repeated(writable: Bench) -> None:
    destination = writable.destination()
    store(destination, "a/file.bin", b"content", part_size=writable.part_size)
    commit(destination)
    commit(destination)
    assert writable.far_end()["a/file.bin"] == b"content"


def test_name_and_uri_are_printable_and_hold_no_secret(writable: Bench) -> None:
    destination = writable.destination()
    for text in (destination.name, destination.uri):
        assert text
        assert text.isprintable()
        assert SECRET not in text
    assert SECRET not in repr(destination)


def test_interrupt_and_close_are_quiet(writable: Bench) -> None:
    destination = writable.destination()
    destination.listing()
    destination.interrupt()
    destination.close()
    destination.close()
