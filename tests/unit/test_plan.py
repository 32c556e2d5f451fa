"""What is copied, kept, compared, refused and removed, and how files are cut."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.manifest import BY_HAND, FileRecord, Listing, Manifest, ModelFile
from syncer.memory import MiB
from syncer.plan import DEFAULT_PART, OpenFile, Options, Plan, Recovered, Why, cut_file, keep_all, make_plan
from syncer.stores.protocols import Cut, Limits

GiB = 1024 * MiB
TiB = 1024 * GiB
S3 = Limits(smallest_part=5 * MiB, largest_part=5 * GiB, most_parts=10_000, largest_file=5 * TiB)
SOURCE = "s3://source/model/"


def file(path: str = "a", *, size: int = 10, version: str = "s1", **digests: str) -> ModelFile:
    return ModelFile(path, size, version, dict(digests))  # type: ignore[arg-type]  # names of digests


def listing(*files: ModelFile, nested: Iterable[str] = ()) -> Listing:
    return Listing({one.path: one for one in files}, frozenset(nested))


def record(path: str = "a", *, size: int = 10, source: str = "s1", there: str = "d1", **digests: str) -> FileRecord:
    return FileRecord(path, size, dict(digests), "stream", source, there)  # type: ignore[arg-type]  # names of digests


def manifest(*records: FileRecord, source: str = SOURCE, left: Iterable[FileRecord] = ()) -> Manifest:
    return Manifest(source, "", {one.path: one for one in records}, {one.path: one for one in left})


def plan(wanted: Listing, there: Listing, **changes: Any) -> Plan:
    options = Options(
        part_size=changes.pop("part_size", None),
        force=changes.pop("force", False),
        delete=changes.pop("delete", "off"),
    )
    arguments = {"source": SOURCE, "previous": None, "recovered": Recovered(), "limits": Limits(), "options": options}
    return make_plan(wanted, there, **(arguments | changes))


def copied(made: Plan) -> list[tuple[str, Why]]:
    return [(step.file.path, step.why) for step in made.copy]


# What is copied and what is kept ------------------------------------------------------------------------------------


def test_everything_is_copied_to_an_empty_place_the_biggest_first() -> None:
    made = plan(listing(file("a", size=1), file("b", size=3), file("c", size=3), file("d", size=0)), listing())
    assert copied(made) == [("b", Why.NEW), ("c", Why.NEW), ("a", Why.NEW), ("d", Why.NEW)]
    assert made.copy_bytes == 7
    assert not made.changes_nothing


def test_an_unchanged_file_is_kept_with_its_proof() -> None:
    proof = record(sha256="ab")
    made = plan(listing(file()), listing(file(version="d1")), previous=manifest(proof))
    assert (made.copy, made.keep, made.changes_nothing) == ((), (proof,), True)


@pytest.mark.parametrize(
    "wanted", [file(version="s2"), file(size=11), file(size=11, version="s2"), file(sha256="cd")], ids=str
)
def test_a_file_that_changed_at_the_source_is_copied(wanted: ModelFile) -> None:
    made = plan(listing(wanted), listing(file(version="d1")), previous=manifest(record(sha256="ab")))
    assert copied(made) == [("a", Why.CHANGED)]


def test_a_digest_of_the_source_counts_more_than_its_version() -> None:
    made = plan(
        listing(file(version="new", sha256="ab")),
        listing(file(version="d1")),
        previous=manifest(record(sha256="ab"), source="elsewhere"),
    )
    assert [one.path for one in made.keep] == ["a"]


def test_an_etag_that_can_be_an_md5_counts_whatever_the_source_is_called() -> None:
    etag = "d41d8cd98f00b204e9800998ecf8427e-7"
    made = plan(
        listing(file(version=etag)),
        listing(file(version="d1")),
        previous=manifest(record(source=etag), source="s3://the-same-bucket/by-another-name"),
    )
    assert [one.path for one in made.keep] == ["a"]


def test_a_slash_at_the_end_is_no_other_source() -> None:
    made = plan(listing(file()), listing(file(version="d1")), previous=manifest(record(), source=SOURCE.rstrip("/")))
    assert [one.path for one in made.keep] == ["a"]


def test_versions_of_another_source_say_nothing() -> None:
    made = plan(listing(file()), listing(file(version="d1")), previous=manifest(record(), source="file:///other"))
    assert copied(made) == [("a", Why.CHANGED)]


def test_a_file_that_is_gone_from_the_destination_is_copied_again() -> None:
    made = plan(listing(file()), listing(), previous=manifest(record()))
    assert copied(made) == [("a", Why.MISSING)]


def test_force_copies_all() -> None:
    made = plan(
        listing(file(), file("b")),
        listing(file(version="d1"), file("b", size=99)),
        previous=manifest(record()),
        force=True,
    )
    assert copied(made) == [("a", Why.FORCED), ("b", Why.FORCED)]
    assert (made.keep, made.foreign) == ((), ())


# What is not ours ---------------------------------------------------------------------------------------------------


def test_a_foreign_file_of_another_size_is_named_and_not_copied_over() -> None:
    made = plan(listing(file()), listing(file(size=11, version="d1")))
    assert (made.foreign, made.copy, made.compare) == (("a",), (), ())


def test_a_foreign_file_of_the_same_size_is_compared_first() -> None:
    made = plan(listing(file()), listing(file(version="d1")))
    assert [(step.file.path, step.existing) for step in made.compare] == [("a", file(version="d1"))]
    assert (made.copy, made.foreign) == ((), ())


@pytest.mark.parametrize("etag", ["d41d8cd98f00b204e9800998ecf8427e", "d41d8cd98f00b204e9800998ecf8427e-12"])
def test_the_same_etag_on_both_sides_is_the_same_file(etag: str) -> None:
    made = plan(listing(file(version=etag)), listing(file(version=etag)))
    assert [(one.path, one.proved_by, one.destination_version) for one in made.keep] == [("a", "listing", etag)]


def test_the_same_time_stamp_on_both_sides_is_not() -> None:
    made = plan(listing(file(version="1700000000000000000")), listing(file(version="1700000000000000000")))
    assert ([step.file.path for step in made.compare], made.keep) == (["a"], ())


def test_a_file_of_ours_that_somebody_replaced_is_foreign_again() -> None:
    made = plan(listing(file(version="s2")), listing(file(size=11, version="theirs")), previous=manifest(record()))
    assert (made.foreign, made.copy) == (("a",), ())


def test_a_record_without_a_version_proves_nothing() -> None:
    made = plan(listing(file()), listing(file(version="")), previous=manifest(record(there="")))
    assert ([step.file.path for step in made.compare], made.keep) == (["a"], ())


def test_nothing_happens_inside_a_folder_that_is_sealed_by_itself() -> None:
    made = plan(
        listing(file("granite/config.json"), file("granite")),
        listing(nested=["granite"]),
        force=True,
        delete="all",
    )
    assert copied(made) == [("granite", Why.FORCED)]
    assert [problem.split(":")[0] for problem in made.problems] == ["granite/config.json"]


def test_a_file_that_the_destination_cannot_hold_is_a_problem() -> None:
    made = plan(listing(file(size=5 * TiB + 1)), listing(), limits=S3)
    assert (made.copy, len(made.problems)) == ((), 1)


# After an unfinished run --------------------------------------------------------------------------------------------

PARTLY = OpenFile(path="a", token="t1", part_size=3, size=10, source_version="s1", source=SOURCE)


def unfinished(**changes: Any) -> Recovered:
    return replace(Recovered(source=SOURCE, planned=frozenset({"a"})), **changes)


def test_a_file_that_an_unfinished_run_got_done_is_kept() -> None:
    done = record(sha256="ab")
    made = plan(listing(file()), listing(file(version="d1")), recovered=unfinished(finished={"a": done}))
    assert (made.keep, made.copy) == ((done,), ())


def test_the_journal_wins_over_the_last_manifest() -> None:
    made = plan(
        listing(file(version="s2")),
        listing(file(version="d2")),
        previous=manifest(record()),
        recovered=unfinished(finished={"a": record(source="s2", there="d2")}),
    )
    assert [one.source_version for one in made.keep] == ["s2"]


def test_what_an_unfinished_run_of_another_source_got_done_is_copied_again() -> None:
    made = plan(
        listing(file()),
        listing(file(version="d1")),
        recovered=unfinished(source="file:///other", finished={"a": record()}),
    )
    assert copied(made) == [("a", Why.UNFINISHED)]


def test_a_planned_file_is_ours_whatever_lies_there() -> None:
    made = plan(listing(file()), listing(file(size=4, version="half")), recovered=unfinished())
    assert copied(made) == [("a", Why.UNFINISHED)]


def test_an_open_upload_is_resumed_with_the_cut_it_has() -> None:
    made = plan(listing(file()), listing(), recovered=unfinished(open_files={"a": PARTLY}), part_size=5)
    assert [(step.why, step.resume, step.cut) for step in made.copy] == [(Why.RESUMED, "t1", Cut(10, 3))]


@pytest.mark.parametrize(
    "left",
    [
        replace(PARTLY, source_version="s0"),
        replace(PARTLY, size=11),
        replace(PARTLY, source="file:///other"),
    ],
    ids=["version", "size", "source"],
)
def test_an_upload_of_another_file_is_not_resumed(left: OpenFile) -> None:
    made = plan(listing(file()), listing(), recovered=unfinished(open_files={"a": left}))
    assert [(step.why, step.resume) for step in made.copy] == [(Why.NEW, "")]


# What is removed ----------------------------------------------------------------------------------------------------

GONE = listing(file("ours", version="d1"), file("touched", version="theirs"), file("foreign", version="f"))
BEFORE = manifest(record("ours"), record("touched"))


def test_nothing_is_removed_unless_asked_and_stays_ours() -> None:
    made = plan(listing(file()), GONE, previous=BEFORE)
    assert made.delete == ()
    assert made.left == (record("ours"),)


def test_what_was_left_can_be_removed_by_a_later_run() -> None:
    made = plan(listing(file()), GONE, previous=manifest(left=[record("ours")]), delete="recorded")
    assert (made.delete, made.left) == (("ours",), ())


def test_recorded_removes_only_what_we_wrote_and_nobody_touched() -> None:
    assert plan(listing(file()), GONE, previous=BEFORE, delete="recorded").delete == ("ours",)


def test_all_makes_a_mirror_but_leaves_the_volume_its_own_folders_and_others_their_models() -> None:
    there = listing(
        file("foreign"),
        file("deep/foreign"),
        file("lost+found/x"),
        file("deep/.snapshot/y"),
        file("a", version="d1"),
        nested=["granite"],
    )
    made = plan(listing(file()), there, previous=manifest(record()), delete="all")
    assert made.delete == ("deep/foreign", "foreign")


paths = st.sampled_from(["a", "b", "c/d", "c/e", "granite/x", "lost+found/y"])
versions = st.sampled_from(["v1", "v2", ""])
sizes = st.integers(0, 2)
listed = st.builds(lambda path, size, version: file(path, size=size, version=version), paths, sizes, versions)
recorded = st.builds(
    lambda path, size, source, there: record(path, size=size, source=source, there=there),
    paths,
    sizes,
    versions,
    versions,
)


@given(
    wanted=st.lists(listed),
    there=st.lists(listed),
    records=st.lists(recorded),
    planned=st.frozensets(paths, max_size=2),
    nested=st.booleans(),
    force=st.booleans(),
    delete=st.sampled_from(["off", "recorded", "all"]),
)
def test_whatever_is_there_the_rules_hold(
    wanted: list[ModelFile],
    there: list[ModelFile],
    records: list[FileRecord],
    planned: frozenset[str],
    nested: bool,
    force: bool,
    delete: Literal["off", "recorded", "all"],
) -> None:
    here = listing(*wanted)
    now = Listing.of(there, control_paths=["granite/.syncer/complete.json"] if nested else [])
    before = manifest(*records)
    made = plan(
        here, now, previous=before, recovered=Recovered(source=SOURCE, planned=planned), force=force, delete=delete
    )

    fates = [
        *(step.file.path for step in made.copy),
        *(step.file.path for step in made.compare),
        *(one.path for one in made.keep),
        *made.foreign,
        *(problem.partition(":")[0] for problem in made.problems),
    ]
    assert sorted(fates) == sorted(here.files), "every file of the source has exactly one fate"

    def ours(path: str) -> bool:
        proof, existing = before.files.get(path), now.files[path]
        return proof is not None and (proof.destination_version, proof.size) == (existing.version, existing.size) != (
            "",
            existing.size,
        )

    for step in made.copy:
        path = step.file.path
        assert force or path in planned or path not in now.files or ours(path), "nothing foreign is overwritten"
    for path in made.delete:
        assert path not in here.files, "nothing of the source is removed"
        assert path in now.files
        assert not path.startswith("lost+found/")
        assert delete == "all" or (delete == "recorded" and ours(path)), "nothing foreign is removed"
    if nested:
        assert not any(path.startswith("granite/") for path in made.delete)
        assert not any(step.file.path.startswith("granite/") for step in made.copy)


# Uploaded by hand ---------------------------------------------------------------------------------------------------


def test_what_belongs_to_the_volume_is_never_removed_whoever_recorded_it() -> None:
    there = listing(file("lost+found/y", version="d1"), file("a/.snapshot/y", version="d1"))
    previous = manifest(record("lost+found/y"), record("a/.snapshot/y"))
    for mode in ("recorded", "all"):
        assert plan(listing(), there, previous=previous, delete=mode).delete == ()


def test_what_was_uploaded_by_hand_stays_its_owners_when_a_source_is_named_later() -> None:
    by_hand = [replace(record(path), proved_by="listing") for path in ("a", "same", "gone")]
    ours = record("mine")
    left_behind = manifest(*by_hand, ours, source=BY_HAND)
    there = listing(*(file(path, version="d1") for path in ("a", "same", "gone", "mine")))
    wanted = listing(file("a", size=11), file("same"), file("mine", size=11))
    for mode in ("off", "recorded"):
        made = plan(wanted, there, previous=left_behind, delete=mode)
        assert made.foreign == ("a",)
        assert [step.file.path for step in made.compare] == ["same"]
        assert copied(made) == [("mine", Why.CHANGED)]
        assert (made.delete, made.left) == ((), ())


def test_a_model_uploaded_by_hand_keeps_the_proof_that_still_holds() -> None:
    there = listing(file("a", version="d1"), file("b", version="new"), file("c"))
    kept = keep_all(there, manifest(record("a", sha256="ab"), record("b", sha256="cd")))
    assert [(one.path, one.proved_by, dict(one.digests)) for one in kept] == [
        ("a", "stream", {"sha256": "ab"}),
        ("b", "listing", {}),
        ("c", "listing", {}),
    ]


# How files are cut --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "part_size", "expected"),
    [
        (0, None, DEFAULT_PART),
        (1, None, DEFAULT_PART),
        (10_000 * DEFAULT_PART, None, DEFAULT_PART),
        (10_000 * DEFAULT_PART + 1, None, DEFAULT_PART + MiB),
        (10_000 * (DEFAULT_PART + MiB), None, DEFAULT_PART + MiB),
        (10_000 * (DEFAULT_PART + MiB) + 1, None, DEFAULT_PART + 2 * MiB),
        (5 * TiB, None, 525 * MiB),
        (GiB, 1, 5 * MiB),
        (GiB, 5 * MiB - 1, 5 * MiB),
        (GiB, 15 * MiB, 15 * MiB),
        (10_000 * 5 * MiB + 1, 1, 6 * MiB),
        (GiB, 100 * GiB, 5 * GiB),
    ],
)
def test_parts_are_near_the_setting_and_within_the_limits(size: int, part_size: int | None, expected: int) -> None:
    assert cut_file(size, limits=S3, part_size=part_size) == Cut(size, expected)


def test_a_file_beyond_the_limits_cannot_be_cut() -> None:
    assert cut_file(5 * TiB, limits=S3, part_size=None) is not None
    assert cut_file(5 * TiB + 1, limits=S3, part_size=None) is None
    tight = Limits(largest_part=10, most_parts=10)
    assert cut_file(100, limits=tight, part_size=None) == Cut(100, 10)
    assert cut_file(101, limits=tight, part_size=None) is None


@given(
    st.one_of(st.integers(0, 5 * TiB), st.integers(-2, 2).map(lambda off: 10_000 * DEFAULT_PART + off)),
    st.one_of(st.none(), st.integers(1, 6 * GiB)),
)
def test_every_cut_obeys_s3(size: int, part_size: int | None) -> None:
    cut = cut_file(size, limits=S3, part_size=part_size)
    assert cut is not None
    assert 1 <= cut.count <= 10_000
    assert 5 * MiB <= cut.part_size <= 5 * GiB
    last = cut.count - 1
    assert cut.offset(last) + cut.length(last) == size
    assert cut.length(last) > 0 or size == 0


def test_a_file_that_was_not_read_back_is_read_and_not_copied() -> None:
    unproved = FileRecord("a", 10, {}, "readback", "s1", "d1")
    made = plan(listing(file()), listing(file(version="d1")), recovered=unfinished(finished={"a": unproved}))
    assert [(step.file.path, step.why) for step in made.prove] == [("a", Why.UNPROVED)]
    assert (made.copy, made.keep) == ((), ())
    assert not made.changes_nothing
