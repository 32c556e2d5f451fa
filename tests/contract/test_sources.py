"""The contract of `Source`, over every store."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from syncer.errors import SourceChanged, SourceMissing
from syncer.stores.uploaded import UploadedSource
from tests.contract.benches import SECRET, Bench
from tests.contract.checks import check_listing, check_range, drain, some_bytes

ODD_NAMES = {
    "config.json": b"{}",
    "zero.bin": b"",
    "deep/er/still/file.txt": b"deep",
    "with space and +.txt": b"plus",
    "per%20cent.txt": b"escaped twice by somebody careless",
    "ünïcödé/模型.bin": b"unicode",
    "emoji-🙂.txt": b"beyond the basic plane",
    "quote'\"&<>.xml": b"markup",
    "..hidden": b"dots that are no way up",
    "tilde~=;,@!$()[]{}#?.txt": b"signs",
}


def test_listing_shows_every_file_by_its_exact_name(readable: Bench) -> None:
    readable.put(ODD_NAMES)
    check_listing(readable.source(), ODD_NAMES)


def test_every_listed_file_can_be_read_under_its_name(readable: Bench) -> None:
    readable.put(ODD_NAMES)
    source = readable.source()
    for path, file in source.listing().files.items():
        if file.size:
            check_range(source, file, ODD_NAMES[path], start=0, length=file.size)


def test_control_characters_in_names_are_kept(readable: Bench) -> None:
    if not readable.takes_control_characters:
        pytest.skip("this server has no names with control characters")
    files = {"newline\nand\ttab.txt": b"content"}
    readable.put(files)
    source = readable.source()
    check_listing(source, files)
    check_range(source, source.listing().files["newline\nand\ttab.txt"], b"content", start=0, length=7)


def test_listing_is_complete_beyond_a_page(readable: Bench) -> None:
    files = {f"shard-{number:04}.bin": b"x" for number in range(1100)}
    readable.put(files)
    check_listing(readable.source(), files)


def test_listing_stops_at_the_folder(readable: Bench) -> None:
    readable.put({"mine.bin": b"mine"})
    readable.put_beside("not-mine.bin", b"not mine")
    check_listing(readable.source(), {"mine.bin": b"mine"})


def test_listing_leaves_out_control_files_alone(readable: Bench) -> None:
    readable.put(
        {
            "mine.bin": b"mine",
            ".syncer/manifest.json": b"{}",
            ".syncer/state/plan.json": b"{}",
            "granite/.syncer/complete.json": b"{}",
            "granite/theirs.bin": b"theirs",
            "granite/deep/theirs.bin": b"theirs",
            "granite-2/mine.bin": b"mine too",
        }
    )
    source = readable.source()
    content = {"mine.bin": b"mine", "granite-2/mine.bin": b"mine too"}
    if not isinstance(source, UploadedSource):
        # What is sealed inside of what is to be copied is to be copied too, without the seal.
        content |= {"granite/theirs.bin": b"theirs", "granite/deep/theirs.bin": b"theirs"}
    check_listing(source, content)


def test_nothing_there_is_a_missing_source(readable: Bench) -> None:
    with pytest.raises(SourceMissing) as caught:
        readable.nowhere().listing()
    assert caught.value.hint


def test_control_files_alone_are_a_missing_source(readable: Bench) -> None:
    readable.put({".syncer/complete.json": b"{}"})
    with pytest.raises(SourceMissing):
        readable.source().listing()


def test_one_exact_file_is_a_source(readable: Bench) -> None:
    readable.put({"one.bin": b"0123456789", "one.bin.bak": b"not this"})
    source = readable.single("one.bin")
    check_listing(source, {"one.bin": b"0123456789"})
    check_range(source, source.listing().files["one.bin"], b"0123456789", start=3, length=4)


@pytest.mark.parametrize(("start", "length"), [(0, 1), (0, 5000), (4999, 1), (17, 1234), (1, 4999)])
def test_ranges_have_exactly_their_bytes(readable: Bench, start: int, length: int) -> None:
    content = some_bytes(5000)
    readable.put({"a/file.bin": content})
    source = readable.source()
    check_range(source, source.listing().files["a/file.bin"], content, start=start, length=length)


def test_many_threads_read_side_by_side(readable: Bench) -> None:
    content = some_bytes(160_000)
    readable.put({"file.bin": content})
    source = readable.source()
    file = source.listing().files["file.bin"]
    with ThreadPoolExecutor(8) as pool:
        parts = pool.map(lambda at: drain(source.read(file, at, 10_000), 10_000), range(0, 160_000, 10_000))
    assert b"".join(parts) == content


def test_a_body_may_be_left_half_read(readable: Bench) -> None:
    readable.put({"file.bin": some_bytes(50_000)})
    source = readable.source()
    file = source.listing().files["file.bin"]
    body = source.read(file, 0, 50_000)
    assert body.readinto(memoryview(bytearray(10))) > 0
    body.close()
    body.close()
    check_range(source, file, some_bytes(50_000), start=0, length=100)


@pytest.mark.parametrize("after", [b"9876543210", b"longer than before", b"short"])
def test_another_version_is_noticed(readable: Bench, after: bytes) -> None:
    readable.put({"file.bin": b"0123456789"})
    source = readable.source()
    file = source.listing().files["file.bin"]
    readable.put({"file.bin": after})
    with pytest.raises(SourceChanged):
        drain(source.read(file, 0, 10), 10)
    now = source.look_again(file)
    assert (now.path, now.size) == ("file.bin", len(after))
    assert now.version != file.version
    check_range(source, now, after, start=0, length=len(after))


def test_look_again_at_the_same_file_tells_the_same(readable: Bench) -> None:
    readable.put({"file.bin": b"0123456789"})
    source = readable.source()
    file = source.listing().files["file.bin"]
    now = source.look_again(file)
    assert (now.path, now.size, now.version) == (file.path, file.size, file.version)


def test_a_file_that_went_away_is_noticed(readable: Bench) -> None:
    readable.put({"file.bin": b"0123456789", "other.bin": b"stays"})
    source = readable.source()
    file = source.listing().files["file.bin"]
    readable.remove("file.bin")
    with pytest.raises(SourceMissing):
        source.look_again(file)


def test_reading_a_file_that_went_away_is_a_change(writable: Bench) -> None:
    writable.put({"file.bin": b"0123456789", "other.bin": b"stays"})
    source = writable.source()
    file = source.listing().files["file.bin"]
    writable.remove("file.bin")
    with pytest.raises(SourceChanged):
        drain(source.read(file, 0, 10), 10)


def test_name_is_printable_and_holds_no_secret(readable: Bench) -> None:
    source = readable.source()
    assert source.name.isprintable()
    assert source.name
    assert SECRET not in source.name
    assert SECRET not in repr(source)


def test_interrupt_and_close_are_quiet(readable: Bench) -> None:
    readable.put({"file.bin": b"0123456789"})
    source = readable.source()
    source.listing()
    source.interrupt()
    source.close()
    source.close()
