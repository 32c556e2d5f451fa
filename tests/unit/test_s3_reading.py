"""Listings and ranges from stores that do not do what was asked."""

from __future__ import annotations

from contextlib import closing

import pytest
from pydantic import SecretStr

from syncer.errors import ConfigurationError, SourceChanged, SourceMissing, Transient, WrongBytes
from syncer.manifest import ModelFile
from syncer.stores.protocols import Body, KnowsContentType
from syncer.stores.s3 import S3Source
from tests.support.scripted_bucket import listed, refusal, scripted_bucket
from tests.support.scripted_server import reply

FILE = ModelFile("a", 10, "e1")


def read(source: S3Source, start: int = 0, length: int = 10) -> bytes:
    with closing(source.read(FILE, start, length)) as body:
        return drain(body)


def drain(body: Body) -> bytes:
    data, view = bytearray(), memoryview(bytearray(4))
    while count := body.readinto(view):
        data += view[:count]
    return bytes(data)


def test_a_whole_file_needs_no_range_and_is_pinned() -> None:
    answer = reply(200, b"0123456789", etag='"e1"', content_type="application/json")
    with scripted_bucket({("GET", "/b/m/a"): [answer]}) as bucket:
        with closing(bucket.source().read(FILE, 0, 10)) as body:
            assert drain(body) == b"0123456789"
            assert isinstance(body, KnowsContentType)
            assert body.content_type == "application/json"
        assert bucket.heard[0].headers["if-match"] == '"e1"'
        assert "range" not in bucket.heard[0].headers


def test_a_range_is_asked_for_and_checked() -> None:
    answer = reply(206, b"3456", etag='W/"e1"', content_range="bytes 3-6/10")
    with scripted_bucket({("GET", "/b/m/a"): [answer]}) as bucket:
        assert read(bucket.source(), 3, 4) == b"3456"
        assert bucket.heard[0].headers["range"] == "bytes=3-6"


@pytest.mark.parametrize(
    "answer",
    [
        reply(200, b"0123456789", etag='"e1"'),
        reply(206, b"0123", etag='"e1"', content_range="bytes 0-3/10"),
        reply(206, b"3456", etag='"e1"', content_range="nonsense"),
        reply(206, b"3456", etag='"e1"'),
        reply(206, b"345", etag='"e1"', content_range="bytes 3-6/10"),
        reply(206, b"34567", etag='"e1"', content_range="bytes 3-6/10"),
    ],
)
def test_another_range_than_asked_for_is_never_taken(answer: bytes) -> None:
    with scripted_bucket({("GET", "/b/m/a"): [answer]}) as bucket, pytest.raises(Transient):
        read(bucket.source(), 3, 4)


@pytest.mark.parametrize(
    "answer",
    [
        reply(412),
        refusal(404, "NoSuchKey"),
        refusal(416, "InvalidRange"),
        reply(206, b"3456", etag='"e2"', content_range="bytes 3-6/10"),
        reply(206, b"3456", etag='"e1"', content_range="bytes 3-6/11"),
    ],
)
def test_another_version_is_never_taken(answer: bytes) -> None:
    with scripted_bucket({("GET", "/b/m/a"): [answer]}) as bucket, pytest.raises(SourceChanged):
        read(bucket.source(), 3, 4)


@pytest.mark.parametrize(
    ("pieces", "fits"),
    [(b"4\r\n3456\r\n0\r\n\r\n", True), (b"3\r\n345\r\n0\r\n\r\n", False), (b"5\r\n34567\r\n0\r\n\r\n", False)],
)
def test_a_chunked_answer_is_counted(pieces: bytes, *, fits: bool) -> None:
    head = b'HTTP/1.1 206 X\r\nContent-Range: bytes 3-6/10\r\nETag: "e1"\r\nTransfer-Encoding: chunked\r\n\r\n'
    with scripted_bucket({("GET", "/b/m/a"): [head + pieces]}) as bucket:
        source = bucket.source()
        if fits:
            assert read(source, 3, 4) == b"3456"
            assert read(source, 3, 4) == b"3456"
            assert {heard.connection for heard in bucket.heard} == {1}
        else:
            with pytest.raises(Transient):
                read(source, 3, 4)


def test_a_bucket_that_went_away_is_missing_not_changed() -> None:
    with (
        scripted_bucket({("GET", "/b/m/a"): [refusal(404, "NoSuchBucket")]}) as bucket,
        pytest.raises(SourceMissing),
    ):
        read(bucket.source())


@pytest.mark.parametrize("answer", [refusal(404, "NoSuchKey"), reply(412)])
def test_a_written_file_that_is_gone_is_wrong_bytes(answer: bytes) -> None:
    with scripted_bucket({("GET", "/b/m/a"): [answer]}) as bucket, pytest.raises(WrongBytes):
        bucket.destination().read(FILE, 0, 10)


def test_a_store_without_etags_is_pinned_by_time() -> None:
    page = reply(
        200,
        b"<ListBucketResult><Contents><Key>m/a</Key><Size>10</Size>"
        b"<LastModified>2026-11-21T00:00:00.000Z</LastModified></Contents></ListBucketResult>",
    )
    with scripted_bucket({("GET", "/b?list"): [page], ("GET", "/b/m/a"): [reply(200, b"0123456789")]}) as bucket:
        source = bucket.source()
        file = source.listing().files["a"]
        assert file.version
        with closing(source.read(file, 0, 10)) as body:
            assert drain(body) == b"0123456789"
        assert bucket.heard[1].headers["if-unmodified-since"] == "Sat, 21 Nov 2026 00:00:00 GMT"


def test_a_content_type_that_is_no_header_is_none() -> None:
    answer = reply(200, b"0123456789", content_type="text/plain; x=\xe4")
    with scripted_bucket({("GET", "/b/m/a"): [answer]}) as bucket, closing(bucket.source().read(FILE, 0, 10)) as body:
        assert isinstance(body, KnowsContentType)
        assert body.content_type == ""


# ------------------------------------------------------------------------------------------------------------- listings


def test_pages_are_joined_and_placeholders_left_out() -> None:
    first = listed(("m/", 0, "x"), ("m/a", 1, "e1"), ("m/d/", 0, "x"), truncated="next+one")
    second = listed(("m/d/e", 0, "e2"), ("m/f/", 3, "e3"), ("m/.syncer/complete.json", 9, "x"))
    with scripted_bucket({("GET", "continuation-token=next%2Bone"): [second], ("GET", "/b?list"): [first]}) as bucket:
        listing = bucket.source().listing()
    assert {path: file.size for path, file in listing.files.items()} == {"a": 1, "d/e": 0, "f/": 3}


def test_a_listing_that_ends_in_the_middle_is_no_listing() -> None:
    page = listed(("m/a", 1, "e"), truncated="lost")
    with scripted_bucket({("GET", "/b?list"): [page]}) as bucket, pytest.raises(Transient, match="goes on"):
        bucket.source().listing()


@pytest.mark.parametrize("truncated", [b"True", b"1   "])
def test_every_spelling_of_a_truth_leads_to_the_next_page(truncated: bytes) -> None:
    first = listed(("m/a", 1, "e1"), truncated="next").replace(b">true<", b">" + truncated + b"<")
    with scripted_bucket({("GET", "token=next"): [listed(("m/b", 1, "e2"))], ("GET", "/b?list"): [first]}) as bucket:
        assert set(bucket.source().listing().files) == {"a", "b"}


@pytest.mark.parametrize("page", [b"<html><body>Please log in</body></html>", b""])
def test_a_page_of_a_portal_is_no_listing_of_nothing(page: bytes) -> None:
    """As a second page it would make a part of the model pass for the whole, and seal it."""
    portal = reply(200, page, content_type="text/html")
    first = listed(("m/a", 1, "e1"), truncated="next")
    for answers in ({("GET", "/b?list"): [portal]}, {("GET", "token=next"): [portal], ("GET", "/b?list"): [first]}):
        with scripted_bucket(answers) as bucket, pytest.raises(Transient, match="no listing") as caught:
            bucket.source().listing()
        assert "S3 endpoint" in caught.value.hint
    with scripted_bucket({("GET", "/b?list"): [portal]}) as bucket, pytest.raises(Transient, match="no listing"):
        bucket.destination().prepare()


def test_a_listing_that_runs_in_circles_is_no_listing() -> None:
    with scripted_bucket({("GET", "/b?list"): [listed(("m/a", 1, "e"), truncated="same")]}) as bucket:
        with pytest.raises(Transient, match="goes on"):
            bucket.source().listing()
        assert len(bucket.heard) == 2


def test_a_foreign_key_in_a_listing_is_not_taken() -> None:
    page = listed(("other/a", 1, "e"))
    with scripted_bucket({("GET", "/b?list"): [page]}) as bucket, pytest.raises(Transient, match="outside"):
        bucket.source().listing()


def test_one_exact_object_only_where_there_is_no_folder() -> None:
    head = reply(200, etag='"e9"', content_type="text/plain", content_length="7")
    answers = {("GET", "prefix=models%2Fa%2F"): [listed()], ("HEAD", "/b/models/a"): [head]}
    with scripted_bucket(answers) as bucket:
        source = bucket.source("models/a")
        for _ in range(2):
            assert source.listing().files == {"a": ModelFile("a", 7, "e9", content_type="text/plain")}
            assert source.key("a") == "models/a"
    with scripted_bucket({("GET", "prefix=models%2Fa%2F"): [listed(("models/a/x", 1, "e"))]}) as bucket:
        source = bucket.source("models/a")
        assert set(source.listing().files) == {"x"}
        assert source.key("x") == "models/a/x"


def test_nothing_there_names_the_variable() -> None:
    with scripted_bucket({("GET", "/b?list"): [listed()], ("HEAD", "/b/m"): [reply(404)]}) as bucket:
        for prefix in ("m", "m/"):
            with pytest.raises(SourceMissing) as caught:
                bucket.source(prefix).listing()
            assert "S3_SYNC_SRC__PATH" in caught.value.hint


def test_look_again_tells_what_a_listing_does_not() -> None:
    head = reply(200, etag='"e2"', content_type="text/plain", content_length="11")
    with scripted_bucket({("HEAD", "/b/m/a"): [head, reply(404)]}) as bucket:
        source = bucket.source()
        assert source.look_again(FILE) == ModelFile("a", 11, "e2", content_type="text/plain")
        with pytest.raises(SourceMissing):
            source.look_again(FILE)


# ------------------------------------------------------------------------------------------------------------- deleting


def test_deleting_falls_back_to_single_requests() -> None:
    answers = {("POST", "/b?delete"): [refusal(501, "NotImplemented")], ("DELETE", "/b/m/"): [reply(204), reply(404)]}
    with scripted_bucket(answers) as bucket:
        bucket.destination().delete(["a", "b"])
        assert bucket.said == ["POST /b?delete", "DELETE /b/m/a", "DELETE /b/m/b"]


def test_a_key_that_a_batch_did_not_delete_is_tried_alone() -> None:
    partly = reply(200, b"<DeleteResult><Error><Key>m/b</Key><Code>InternalError</Code></Error></DeleteResult>")
    answers = {("POST", "/b?delete"): [partly], ("DELETE", "/b/m/b"): [refusal(403, "AccessDenied")]}
    with scripted_bucket(answers) as bucket:
        with pytest.raises(Exception, match="AccessDenied"):
            bucket.destination().delete(["a", "b"])
        assert bucket.said[1:] == ["DELETE /b/m/b"]


def test_what_is_no_answer_to_a_batch_has_deleted_nothing() -> None:
    answers = {("POST", "/b?delete"): [reply(200, b"<html>Welcome</html>")], ("DELETE", "/b/m/"): [reply(204)]}
    with scripted_bucket(answers) as bucket:
        bucket.destination().delete(["a", "b"])
        assert bucket.said == ["POST /b?delete", "DELETE /b/m/a", "DELETE /b/m/b"]


def test_where_a_batch_does_not_say_what_it_left_each_key_is_tried_alone() -> None:
    partly = reply(200, b"<DeleteResult><Error><Code>InternalError</Code></Error></DeleteResult>")
    with scripted_bucket({("POST", "/b?delete"): [partly], ("DELETE", "/b/m/"): [reply(204)]}) as bucket:
        bucket.destination().delete(["a\x01", "b", "c"])
        assert bucket.said == ["POST /b?delete", "DELETE /b/m/a%01", "DELETE /b/m/b", "DELETE /b/m/c"]


def test_a_key_that_cannot_be_one_names_its_variable() -> None:
    with scripted_bucket({}) as bucket, pytest.raises(ConfigurationError) as caught:
        bucket.source(access_key=SecretStr("AK\u2013IA"))
    assert "S3_SYNC_SRC__ACCESS_KEY" in caught.value.hint


def test_a_key_that_xml_cannot_say_goes_alone() -> None:
    with scripted_bucket({("DELETE", "/b/m/"): [reply(204)]}) as bucket:
        bucket.destination().delete(["a\x01"])
        assert bucket.said == ["DELETE /b/m/a%01"]
