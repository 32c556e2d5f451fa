"""Packed layers: any range of them, from milestones that cost a bounded memory, and no bomb."""

import gzip
import hashlib
import zlib

import pytest

from syncer.errors import Transient, WrongBytes
from syncer.stores.oci.members import Damaged
from syncer.stores.oci.streams import BlobReader, Forward, Inflated, InflatedBody, Milestones, Proved, inflation_limit
from tests.contract.checks import drain, some_bytes
from tests.support.foreign_images import DictionaryDepot, digest_of

CONTENT = some_bytes(100_000) + bytes(50_000) + some_bytes(100_000, seed="more")


def everything(stream: Forward, count: int = 4096) -> bytes:
    return b"".join(iter(lambda: stream.read(count), b""))


def reader(depot: DictionaryDepot, data: bytes, start: int = 0) -> BlobReader:
    return BlobReader(depot, depot.put(data), len(data), start=start)


def test_a_blob_is_read_to_its_end() -> None:
    depot = DictionaryDepot()
    assert everything(reader(depot, CONTENT)) == CONTENT
    assert everything(reader(depot, CONTENT, start=1000)) == CONTENT[1000:]


def test_a_stream_that_breaks_goes_on_where_it_broke() -> None:
    depot = DictionaryDepot(breaks_after=7000)
    assert everything(reader(depot, CONTENT)) == CONTENT
    assert [start for _, start, _ in depot.reads] == [0, 7000]


def test_no_more_than_a_segment_is_asked_for_at_once() -> None:
    depot = DictionaryDepot(breaks_after=30_000)
    stream = BlobReader(depot, depot.put(CONTENT), len(CONTENT), start=10, segment=90_000)
    assert everything(stream) == CONTENT[10:]
    assert [(start, length) for _, start, length in depot.reads] == [
        (10, 90_000),
        (30_010, 90_000),
        (120_010, 90_000),
        (210_010, 39_990),
    ]


def test_a_stream_that_does_not_get_on_is_given_up() -> None:
    depot = DictionaryDepot(breaks_after=0)
    with pytest.raises(Transient):
        reader(depot, CONTENT).read(10)


def test_bytes_are_proved_even_when_nobody_wanted_the_last() -> None:
    depot = DictionaryDepot()
    proved = Proved(reader(depot, CONTENT), digest_of(CONTENT), store="x")
    proved.read(10)
    proved.prove()
    damaged = Proved(reader(depot, CONTENT[:-1] + b"!"), digest_of(CONTENT), store="x")
    damaged.read(10)
    with pytest.raises(WrongBytes):
        damaged.prove()


def packed_in(members: int) -> bytes:
    step = -(-len(CONTENT) // members)
    return b"".join(gzip.compress(CONTENT[at : at + step], 1) for at in range(0, len(CONTENT), step))


@pytest.mark.parametrize("members", [1, 2, 40])
@pytest.mark.parametrize("count", [100, 4096, 1_000_000])
def test_gzip_is_unpacked_whatever_it_is_made_of(members: int, count: int) -> None:
    data = packed_in(members)
    stream = Inflated(lambda at: reader(DictionaryDepot(), data, at), limit=inflation_limit(len(data)))
    assert everything(stream, count) == CONTENT


@pytest.mark.parametrize("members", [1, 40])
def test_every_range_begins_at_the_milestone_before_it(members: int) -> None:
    data = packed_in(members)
    depot = DictionaryDepot()
    milestones = Milestones(most=10, closest=5000)
    everything(Inflated(lambda at: reader(depot, data, at), limit=1 << 30, milestones=milestones), 1000)
    for start, length in [(0, 10), (4999, 2), (120_000, 1), (3, 200_000), (249_999, 1), (250_000 - 12_345, 12_345)]:
        milestone = milestones.before(start)
        assert start - milestone.position <= 60_000
        stream = Inflated(lambda at: reader(depot, data, at), limit=1 << 30, start=milestone)
        assert drain(InflatedBody(stream, start=start, length=length, store="x"), length) == CONTENT[start:][:length]
    assert len(milestones._found) <= 10


def test_padding_behind_gzip_is_none_of_it() -> None:
    data = gzip.compress(CONTENT) + bytes(600)
    assert everything(Inflated(lambda at: reader(DictionaryDepot(), data, at), limit=1 << 30)) == CONTENT


@pytest.mark.parametrize("data", [b"no gzip at all", gzip.compress(CONTENT)[:-9], gzip.compress(CONTENT) + b"rest"])
def test_what_is_no_gzip_is_damaged(data: bytes) -> None:
    with pytest.raises(Damaged):
        everything(Inflated(lambda at: reader(DictionaryDepot(), data, at), limit=1 << 30))


def test_a_bomb_is_not_unpacked() -> None:
    data = gzip.compress(bytes(5_000_000))
    stream = Inflated(lambda at: reader(DictionaryDepot(), data, at), limit=1_000_000)
    with pytest.raises(Damaged, match="out of all proportion"):
        everything(stream)
    assert stream.position < 1_100_000


def test_bytes_that_turn_bad_after_they_were_proved_are_transient() -> None:
    stream = Inflated(lambda at: reader(DictionaryDepot(), b"rubbish", at), limit=1 << 30)
    with pytest.raises(Transient):
        InflatedBody(stream, start=0, length=5, store="x").readinto(memoryview(bytearray(5)))


def test_a_decoder_that_has_eaten_everything_still_gives_all() -> None:
    """zlib may hold bytes back when the room for them ends together with its input."""
    packer = zlib.compressobj(9, wbits=31)
    data = packer.compress(b"a" * 100_000) + packer.flush()
    stream = Inflated(lambda at: reader(DictionaryDepot(), data, at), limit=1 << 30)
    assert hashlib.sha256(everything(stream, 7)).hexdigest() == hashlib.sha256(b"a" * 100_000).hexdigest()
