"""Reading foreign tars: every form that builders write, and what a stranger makes up costs no more than an error."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.stores.oci.members import Damaged, Member, Window, members
from syncer.stores.oci.streams import ForwardTape
from tests.support.foreign_images import member, tar_of

LONG = "models/" + "/".join(["a" * 60] * 6) + "/ünïcödé.bin"
FORMS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


class Pieces:
    """Bytes that come a few at a time."""

    def __init__(self, data: bytes, largest: int = 700) -> None:
        self.left = io.BytesIO(data)
        self.largest = largest

    def read(self, count: int) -> bytes:
        return self.left.read(min(count, self.largest))

    def close(self) -> None:
        pass


def window(data: bytes) -> Window:
    return Window(lambda at, count: data[at : at + count], len(data), ahead=600)


def found(data: bytes) -> list[Member]:
    skipping, reading = list(members(window(data), most=100)), list(members(ForwardTape(Pieces(data)), most=100))
    assert skipping == reading
    return skipping


@pytest.mark.parametrize("form", FORMS)
def test_files_are_found_with_their_places(form: int) -> None:
    files = {"models/a.bin": b"x" * 1000, "models/empty": b"", "models/b.bin": b"y" * 512}
    data = tar_of(files.items(), form=form)
    assert {it.name: data[it.offset : it.offset + it.size] for it in found(data)} == files


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_targets_are_whole(form: int) -> None:
    data = tar_of([(LONG, b"content"), member("link", tarfile.SYMTYPE, target=LONG), ("after", b"1")], form=form)
    assert [(it.name, it.kind, it.target) for it in found(data)] == [
        (LONG, "file", ""),
        ("link", "symlink", LONG),
        ("after", "file", ""),
    ]


def test_the_prefix_of_ustar_belongs_to_the_name() -> None:
    path = f"models/{'d' * 90}/{'f' * 90}"
    assert [it.name for it in found(tar_of([(path, b"1")], form=tarfile.USTAR_FORMAT))] == [path]


def test_kinds_are_told_apart() -> None:
    kinds = [
        tarfile.DIRTYPE,
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.FIFOTYPE,
        tarfile.GNUTYPE_SPARSE,
    ]
    data = tar_of(member(f"m{number}", kind, target="t") for number, kind in enumerate(kinds))
    assert [it.kind for it in found(data)] == ["folder", "symlink", "hardlink", "other", "other", "sparse"]


def test_the_last_member_needs_no_padding() -> None:
    data = tar_of([("a", b"1"), ("b", b"22")])
    assert [(it.name, it.size) for it in found(data[: 3 * 512 + 2])] == [("a", 1), ("b", 2)]


def test_numbers_beyond_octal_are_read() -> None:
    info = member("large")
    info.size = 9 << 30
    header = info.tobuf(tarfile.GNU_FORMAT)
    tape = Window(lambda at, count: header[at : at + count].ljust(count, b"\0"), 10 << 30)
    assert [it.size for it in members(tape, most=10)] == [9 << 30]


def test_a_size_of_pax_wins() -> None:
    info = member("x")
    info.pax_headers = {"size": "3"}
    data = info.tobuf(tarfile.PAX_FORMAT) + b"abc".ljust(512, b"\0")
    assert [(it.size, data[it.offset : it.offset + 3]) for it in found(data)] == [(3, b"abc")]


def test_a_sparse_file_of_pax_is_seen() -> None:
    info = member("x")
    info.pax_headers = {"GNU.sparse.major": "1"}
    assert [it.kind for it in found(info.tobuf(tarfile.PAX_FORMAT))] == ["sparse"]


@pytest.mark.parametrize(
    "data",
    [
        b"x" * 512,
        b"x" * 100,
        tar_of([("a", b"x" * 600)])[:600],
        tar_of([("a", b"x" * 600)])[:1030],
        b"\x01" + tar_of([("a", b"")])[1:],
    ],
    ids=["no header", "short", "cut at once", "cut in content", "flipped"],
)
def test_what_is_no_tar_is_damaged(data: bytes) -> None:
    for tape in (window(data), ForwardTape(Pieces(data))):
        with pytest.raises(Damaged):
            list(members(tape, most=100))


@pytest.mark.parametrize(
    "record", [b"99 path=x\n", b"x path=x\n", b"7 path\n", b"9 path=x\0\n", b"0 a=b\n", b"-5 a=b\n"]
)
def test_hostile_pax_records_are_damaged(record: bytes) -> None:
    header = member("x", tarfile.XHDTYPE)
    header.size = len(record)
    data = header.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0") + tar_of([("a", b"1")])
    with pytest.raises(Damaged):
        list(members(window(data), most=100))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_a_header_that_claims_gigabytes_is_not_read(kind: bytes) -> None:
    header = member("x", kind)
    header.size = 5 << 30
    asked: list[int] = []
    data = header.tobuf(tarfile.GNU_FORMAT)

    def fetch(at: int, count: int) -> bytes:
        asked.append(count)
        return data[at : at + count].ljust(count, b"\0")

    with pytest.raises(Damaged):
        list(members(Window(fetch, 6 << 30), most=100))
    assert max(asked) <= 16384


def test_more_members_than_any_are_refused() -> None:
    with pytest.raises(Damaged, match="more than 3"):
        list(members(window(tar_of((f"f{number}", b"") for number in range(4))), most=3))


@given(st.binary(max_size=1200), st.integers(0, 1100))
def test_anything_is_a_tar_or_damaged(data: bytes, at: int) -> None:
    sound = tar_of([("models/a", b"x" * 600)], form=tarfile.USTAR_FORMAT)
    for bytes_ in (data, sound[:at] + data + sound[at:]):
        try:
            for it in members(window(bytes_), most=10):
                assert 0 <= it.offset + it.size <= len(bytes_) or it.size > 0
        except Damaged:
            pass
