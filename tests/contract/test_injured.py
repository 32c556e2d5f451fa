"""The checks of the contract suite can fail: each is shown a store that breaks the promise it looks at."""

import threading

import pytest

from syncer.errors import CredentialsRefused, OutOfSpace, SourceChanged, Transient
from syncer.stores.protocols import Cut, Source
from tests.contract.benches import Bench
from tests.contract.checks import as_file, check_listing, check_range, drain, some_bytes, store
from tests.support.injured import (
    ChangingSource,
    FlakyDestination,
    FlakySource,
    FlippingDestination,
    FlippingSource,
    FullDestination,
    LyingSource,
    RefusingDestination,
    RefusingSource,
    ShortSource,
    SilentDestination,
    SilentSource,
    SlowSource,
)
from tests.support.whole import WholeDestination, WholeSource

CONTENT = some_bytes(3000)


@pytest.fixture
def source(readable: Bench) -> Source:
    readable.put({"file.bin": CONTENT})
    return readable.source()


def read(source: Source, start: int = 0, length: int = 3000) -> bytes:
    return drain(source.read(source.listing().files["file.bin"], start, length), length)


def test_an_uninjured_wrapper_passes(source: Source) -> None:
    whole = WholeSource(source)
    check_listing(whole, {"file.bin": CONTENT})
    check_range(whole, whole.listing().files["file.bin"], CONTENT, start=0, length=3000)
    assert whole.reads["file.bin"] == 3


@pytest.mark.parametrize("after", [0, 1, 2999])
def test_a_body_that_says_it_is_complete_too_early_is_seen(source: Source, after: int) -> None:
    with pytest.raises(AssertionError, match="said that it is complete"):
        read(ShortSource(source, after=after, polite=True))


def test_a_broken_stream_is_transient_and_the_next_one_works(source: Source) -> None:
    short = ShortSource(source, after=1500)
    with pytest.raises(Transient):
        read(short)
    assert read(short) == CONTENT


def test_a_flipped_bit_is_seen(source: Source) -> None:
    flipping = FlippingSource(source, path="file.bin", at=1234)
    assert read(flipping, 0, 1000) == CONTENT[:1000]
    assert read(flipping) != CONTENT
    assert read(flipping) == CONTENT
    with pytest.raises(AssertionError, match="bytes differ"):
        check_range(
            FlippingSource(source, path="file.bin", at=2999),
            source.listing().files["file.bin"],
            CONTENT,
            start=0,
            length=3000,
        )


@pytest.mark.parametrize("by", [-1, 1])
def test_a_lying_length_is_seen(source: Source, by: int) -> None:
    with pytest.raises(AssertionError):
        check_listing(LyingSource(source, by=by), {"file.bin": CONTENT})


def test_a_length_that_is_too_long_breaks_the_stream(source: Source) -> None:
    with pytest.raises(Transient):
        read(LyingSource(source, by=1), 0, 3001)


def test_a_flaky_source_works_in_the_end(source: Source) -> None:
    flaky = FlakySource(source, times=2)
    for _ in range(2):
        with pytest.raises(Transient):
            flaky.listing()
    file = flaky.listing().files["file.bin"]
    for _ in range(2):
        with pytest.raises(Transient):
            flaky.read(file, 0, 3000)
    assert drain(flaky.read(file, 0, 3000), 3000) == CONTENT


def test_a_slow_source_waits_to_be_let_on(source: Source) -> None:
    slow = SlowSource(source)
    results: list[bytes] = []
    reader = threading.Thread(target=lambda: results.append(read(slow)))
    reader.start()
    assert slow.reached.wait(30)
    assert results == []
    slow.go.set()
    reader.join(30)
    assert results == [CONTENT]


def test_a_change_between_two_ranges_is_noticed_by_every_store(readable: Bench) -> None:
    readable.put({"file.bin": CONTENT})
    source = readable.source()
    file = source.listing().files["file.bin"]
    changing = ChangingSource(
        source, path="file.bin", after=100, change=lambda: readable.put({"file.bin": some_bytes(3000, seed="new")})
    )
    try:
        drain(changing.read(file, 0, 3000), 3000)
    except SourceChanged:
        return
    # A store may go on giving the version that was opened, but no new range of it.
    with pytest.raises(SourceChanged):
        drain(changing.read(file, 0, 3000), 3000)


def test_a_silent_source_fails_when_interrupted(source: Source) -> None:
    silent = SilentSource(source)
    errors: list[Exception] = []

    def reading() -> None:
        try:
            read(silent)
        except Transient as error:
            errors.append(error)

    reader = threading.Thread(target=reading)
    reader.start()
    assert silent.reached.wait(30)
    silent.interrupt()
    reader.join(30)
    assert len(errors) == 1


def test_a_refusing_source_is_refused(source: Source) -> None:
    with pytest.raises(CredentialsRefused):
        read(RefusingSource(source))


def test_an_uninjured_destination_passes(writable: Bench) -> None:
    store(WholeDestination(writable.destination()), "file.bin", CONTENT, part_size=writable.part_size)
    assert writable.far_end()["file.bin"] == CONTENT


def test_a_full_destination_is_out_of_space_and_shows_no_file(writable: Bench) -> None:
    full = FullDestination(writable.destination(), room=2000, tells=10_000)
    assert full.free_bytes() == 10_000
    with pytest.raises(OutOfSpace):
        store(full, "file.bin", CONTENT, part_size=writable.part_size)
    assert "file.bin" not in writable.far_end()


def test_bytes_that_are_stored_wrong_are_seen_at_the_far_end(writable: Bench) -> None:
    flipping = FlippingDestination(writable.destination(), path="file.bin")
    store(flipping, "file.bin", CONTENT, part_size=writable.part_size)
    assert writable.far_end()["file.bin"] != CONTENT
    file = flipping.listing().files["file.bin"]
    with pytest.raises(AssertionError, match="bytes differ"):
        check_range(flipping, file, CONTENT, start=0, length=3000)


@pytest.mark.parametrize("after", [False, True], ids=["refused", "answer lost"])
def test_finish_works_when_repeated(writable: Bench, after: bool) -> None:
    flaky = FlakyDestination(writable.destination(), times=0, after=after)
    flaky.left["finish"] = 1
    upload = flaky.begin(as_file("file.bin", CONTENT[:10]), Cut(10, 10))
    sink = upload.open_part(0)
    sink.send(memoryview(CONTENT[:10]))
    sink.finish()
    with pytest.raises(Transient):
        upload.finish()
    upload.finish()
    assert writable.far_end()["file.bin"] == CONTENT[:10]


def test_a_silent_destination_fails_when_interrupted(writable: Bench) -> None:
    silent = SilentDestination(writable.destination())
    errors: list[Exception] = []

    def writing() -> None:
        try:
            store(silent, "file.bin", CONTENT, part_size=writable.part_size)
        except Transient as error:
            errors.append(error)

    writer = threading.Thread(target=writing)
    writer.start()
    assert silent.reached.wait(30)
    silent.interrupt()
    writer.join(30)
    assert len(errors) == 1
    assert "file.bin" not in writable.far_end()


def test_a_refusing_destination_is_refused(writable: Bench) -> None:
    with pytest.raises(CredentialsRefused):
        store(RefusingDestination(writable.destination()), "file.bin", CONTENT, part_size=writable.part_size)
