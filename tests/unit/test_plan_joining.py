"""Files that join a model: what the manifest has stays part of it, and nobody's half-done work is sealed over."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.manifest import BY_HAND, FileRecord, Listing, Manifest, ModelFile
from syncer.plan import Options, Plan, Recovered, make_plan
from syncer.stores.protocols import Limits

HERE = "/home/user/models"
MD5 = "0123456789abcdef0123456789abcdef"


def file(path: str = "a", *, size: int = 10, version: str = "s1") -> ModelFile:
    return ModelFile(path, size, version)


def listing(*files: ModelFile, nested: Iterable[str] = ()) -> Listing:
    return Listing({one.path: one for one in files}, frozenset(nested))


def record(path: str, *, source: str = "s1", there: str = "d1") -> FileRecord:
    return FileRecord(path, 10, {"sha256": "ab"}, "stream", source, there)


def manifest(*records: FileRecord, source: str = HERE, left: Iterable[FileRecord] = ()) -> Manifest:
    return Manifest(source, "", {one.path: one for one in records}, {one.path: one for one in left})


def join(wanted: Listing, there: Listing, *, join: bool = True, **changes: Any) -> Plan:
    options = Options(join=join, delete=changes.pop("delete", "off"), force=changes.pop("force", False))
    arguments = {"source": HERE, "previous": None, "recovered": Recovered(), "limits": Limits(), "options": options}
    return make_plan(wanted, there, **(arguments | changes))


def test_what_the_manifest_has_stays_and_the_new_file_comes_to_it() -> None:
    before = manifest(record("config.json"), record("old.txt"))
    there = listing(file("config.json", version="d1"), file("old.txt", version="d1"))
    made = join(listing(file("new.txt")), there, previous=before)
    assert [step.file.path for step in made.copy] == ["new.txt"]
    assert made.keep == (record("config.json"), record("old.txt"))
    assert (made.left, made.delete) == ((), ())
    # A sync of the same files leaves them behind instead.
    assert join(listing(file("new.txt")), there, join=False, previous=before).left == made.keep


def test_a_file_that_joins_replaces_ours_and_never_somebody_elses() -> None:
    there = listing(file("ours", version="d1"), file("theirs", version="x", size=11))
    made = join(listing(file("ours", version="s2"), file("theirs")), there, previous=manifest(record("ours")))
    assert [step.file.path for step in made.copy] == ["ours"]
    assert made.foreign == ("theirs",)
    assert made.keep == ()


def test_without_a_manifest_only_the_named_files_are_the_model() -> None:
    made = join(listing(file("a")), listing(file("somebody's")))
    assert ([step.file.path for step in made.copy], made.keep, made.left) == (["a"], (), ())


def test_what_is_gone_or_sealed_by_itself_now_is_no_part_of_the_model() -> None:
    before = manifest(record("gone"), record("granite/config.json"), record("stays"))
    made = join(listing(file("a")), listing(file("stays", version="d1"), nested=["granite"]), previous=before)
    assert [one.path for one in made.keep] == ["stays"]


def test_what_somebody_replaced_stays_by_its_listing_alone_and_is_theirs() -> None:
    there = listing(file("config.json", version="theirs", size=12))
    made = join(listing(file("a")), there, previous=manifest(record("config.json")))
    (kept,) = made.keep
    assert (kept.proved_by, kept.size, kept.digests, kept.source_version) == ("listing", 12, {}, "")
    later = join(listing(file("a")), there, join=False, previous=manifest(kept), delete="recorded")
    assert later.delete == ()


def test_a_version_of_a_former_source_is_forgotten_unless_it_means_something_anywhere() -> None:
    of_volume, of_bucket = record("a", source="1700000000000000000"), record("b", source=MD5)
    there = listing(file("a", version="d1"), file("b", version="d1"))
    made = join(listing(file("c")), there, previous=manifest(of_volume, of_bucket, source="/mnt/elsewhere"))
    assert made.keep == (replace(of_volume, source_version=""), of_bucket)
    # Otherwise a file of ours of the same time and size would pass for the one that is there.
    joined = manifest(*made.keep)
    again = join(listing(file("a", version="1700000000000000000")), there, join=False, previous=joined)
    assert [step.file.path for step in again.copy] == ["a"]


def test_an_uploaded_file_is_known_again_whoever_sealed_the_model_in_between() -> None:
    version = "1700000000000000000@0123456789ab"
    before = manifest(record("a", source=version), source=BY_HAND)
    there = listing(file("a", version="d1"))
    for joins in (True, False):
        made = join(listing(file("a", version=version)), there, join=joins, previous=before)
        assert (made.copy, made.keep) == ((), tuple(before.files.values()))
        elsewhere = version.replace("0123456789ab", "ba9876543210")
        assert join(listing(file("a", version=elsewhere)), there, join=joins, previous=before).copy
    assert join(listing(file("b")), there, previous=before).keep == (record("a", source=version),)


def test_what_people_uploaded_stays_theirs_after_something_joined_it() -> None:
    by_hand = replace(record("theirs", source=MD5, there=MD5), proved_by="listing", digests={})
    there = listing(file("theirs", version=MD5), file("ours", version="d2"))
    made = join(listing(file("ours")), there, previous=manifest(by_hand, source=BY_HAND), force=True)
    assert [one.path for one in made.keep] == ["theirs"]
    joined = manifest(*made.keep, record("ours", there="d2"))
    later = join(listing(file("theirs", size=11)), there, join=False, previous=joined, delete="recorded")
    assert (later.foreign, later.delete) == (("theirs",), ("ours",))


@pytest.mark.parametrize("delete", ["off", "recorded", "all"])
def test_who_joins_deletes_nothing(delete: str) -> None:
    before = manifest(record("part"), left=[record("left")])
    there = listing(file("part", version="d1"), file("left", version="d1"), file("theirs"))
    for previous, left in ((before, ["left"]), (None, [])):
        made = join(listing(file("a")), there, previous=previous, delete=delete)
        assert ([one.path for one in made.left], made.delete) == (left, ())


def test_nobody_joins_a_model_that_is_not_sealed_again() -> None:
    half = Recovered(
        source="hf://owner/model",
        planned=frozenset({"done", "half", "mine"}),
        finished={"done": record("done")},
    )
    there = listing(file("done", version="d1"))
    assert join(listing(file("mine")), there, recovered=half).unfinished == ("done", "half")
    assert join(listing(file("mine")), there, join=False, recovered=half).unfinished == ()


def test_what_a_killed_run_was_about_to_leave_behind_does_not_come_back() -> None:
    # All is written and nothing is sealed: the manifest still tells of the model before, `old` included.
    done = Recovered(source="hf://owner/model", planned=frozenset({"new"}), finished={"new": record("new")})
    there = listing(file("old", version="d1"), file("new", version="d1"))
    assert join(listing(file("mine")), there, recovered=done, previous=manifest(record("old"))).unfinished == ("new",)


def test_an_interrupted_joining_goes_on() -> None:
    half = Recovered(source=HERE, planned=frozenset({"a", "b"}), finished={"a": record("a")})
    there = listing(file("a", version="d1"), file("config.json", version="d1"))
    made = join(listing(file("a"), file("b")), there, recovered=half, previous=manifest(record("config.json")))
    assert made.unfinished == ()
    assert [step.file.path for step in made.copy] == ["b"]
    assert sorted(one.path for one in made.keep) == ["a", "config.json"]


@given(
    st.sets(st.sampled_from("abcdef")),
    st.sets(st.sampled_from("abcdef")),
    st.sets(st.sampled_from("abcdef")),
    st.sampled_from(["off", "recorded", "all"]),
)
def test_every_file_has_one_fate(wanted: set[str], there: set[str], recorded: set[str], delete: str) -> None:
    made = join(
        listing(*map(file, wanted)),
        listing(*(file(path, version="d1") for path in there)),
        previous=manifest(*map(record, recorded)),
        delete=delete,
    )
    fates = [step.file.path for step in (*made.copy, *made.compare)] + [one.path for one in (*made.keep, *made.left)]
    fates += [*made.delete, *made.foreign]
    assert len(fates) == len(set(fates))
    assert set(fates) >= wanted | (there & recorded)
    assert {one.path for one in made.keep} >= (there & recorded) - wanted
