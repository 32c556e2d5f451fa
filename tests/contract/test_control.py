"""The contract of `ControlFolder`, over every store that can be written to."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from syncer.stores.protocols import ControlConflict, ControlFolder
from tests.contract.benches import Bench, needs


def test_what_was_written_is_read(writable: Bench) -> None:
    needs(writable, "keeps_control_files")
    control = writable.destination().control
    assert control.read("complete.json") is None
    version = control.write("complete.json", b'{"a": 1}')
    assert version
    assert control.read("complete.json") == (b'{"a": 1}', version)
    assert writable.far_end() == {".syncer/complete.json": b'{"a": 1}'}


def test_writing_again_replaces(writable: Bench) -> None:
    control = writable.destination().control
    first = control.write("state/plan.json", b"first")
    second = control.write("state/plan.json", b"second, and longer")
    assert first != second
    assert control.read("state/plan.json") == (b"second, and longer", second)


def test_an_empty_control_file_is_one(writable: Bench) -> None:
    control = writable.destination().control
    version = control.write("empty", b"")
    assert control.read("empty") == (b"", version)


def test_others_see_the_same_version(writable: Bench) -> None:
    needs(writable, "keeps_control_files")
    version = writable.destination().control.write("lease.json", b"holder")
    assert writable.destination().control.read("lease.json") == (b"holder", version)


def test_only_if_absent(writable: Bench) -> None:
    control = writable.destination().control
    control.write("lease.json", b"first", expected="")
    needs_conditions(control)
    with pytest.raises(ControlConflict):
        control.write("lease.json", b"second", expected="")
    found = control.read("lease.json")
    assert found is not None
    assert found[0] == b"first"


def test_only_if_it_still_is_this(writable: Bench) -> None:
    control = writable.destination().control
    first = control.write("lease.json", b"first", expected="")
    needs_conditions(control)
    second = control.write("lease.json", b"second", expected=first)
    with pytest.raises(ControlConflict):
        control.write("lease.json", b"third", expected=first)
    assert control.read("lease.json") == (b"second", second)


def test_what_is_gone_is_not_this_any_more(writable: Bench) -> None:
    control = writable.destination().control
    first = control.write("lease.json", b"first", expected="")
    needs_conditions(control)
    control.remove("lease.json")
    with pytest.raises(ControlConflict):
        control.write("lease.json", b"second", expected=first)
    assert control.read("lease.json") is None
    control.write("lease.json", b"third", expected="")


def test_of_many_that_take_a_lease_at_once_one_wins(writable: Bench) -> None:
    needs(writable, "keeps_control_files")
    control = writable.destination().control
    control.write("probe", b"", expected="")
    needs_conditions(control)
    folders = [writable.destination().control for _ in range(6)]

    def take(number: int) -> bool:
        try:
            folders[number].write("lease.json", b"holder %d" % number, expected="")
        except ControlConflict:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        winners = [number for number, won in enumerate(pool.map(take, range(6))) if won]
    assert len(winners) == 1
    found = control.read("lease.json")
    assert found is not None
    assert found[0] == b"holder %d" % winners[0]


def test_of_many_that_take_over_one_wins(writable: Bench) -> None:
    needs(writable, "keeps_control_files")
    control = writable.destination().control
    version = control.write("lease.json", b"the silent one", expected="")
    needs_conditions(control)
    folders = [writable.destination().control for _ in range(6)]

    def take(number: int) -> bool:
        try:
            folders[number].write("lease.json", b"holder %d" % number, expected=version)
        except ControlConflict:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(take, range(6))) == 1


def test_remove_may_be_repeated(writable: Bench) -> None:
    control = writable.destination().control
    control.remove("complete.json")
    control.write("complete.json", b"{}")
    control.remove("complete.json")
    control.remove("complete.json")
    assert control.read("complete.json") is None
    assert writable.far_end() == {}


def test_names_tell_all_below(writable: Bench) -> None:
    control = writable.destination().control
    assert control.names() == []
    for name in ("complete.json", "manifest.json", "state/done/1.json", "state/done/2.json", "state/plan.json"):
        control.write(name, b"{}")
    assert control.names() == [
        "complete.json",
        "manifest.json",
        "state/done/1.json",
        "state/done/2.json",
        "state/plan.json",
    ]
    assert control.names("state/done/") == ["state/done/1.json", "state/done/2.json"]
    assert control.names("state/") == ["state/done/1.json", "state/done/2.json", "state/plan.json"]
    assert control.names("nothing/") == []


def test_control_files_are_no_content(writable: Bench) -> None:
    destination = writable.destination()
    destination.control.write("complete.json", b"{}")
    destination.control.write("state/plan.json", b"{}")
    listing = destination.listing()
    assert (dict(listing.files), listing.nested) == ({}, frozenset())


def test_control_files_of_a_nested_folder_are_not_ours(writable: Bench) -> None:
    needs(writable, "holds_any_path")
    writable.put({"granite/.syncer/complete.json": b"{}"})
    control = writable.destination().control
    assert control.names() == []
    assert control.read("complete.json") is None


def test_large_control_files_keep_every_byte(writable: Bench) -> None:
    control = writable.destination().control
    data = bytes(range(256)) * 8192
    version = control.write("manifest.json", data)
    assert control.read("manifest.json") == (data, version)


def needs_conditions(control: ControlFolder) -> None:
    if not control.conditional:
        pytest.skip("this store writes unconditionally, and says so")
