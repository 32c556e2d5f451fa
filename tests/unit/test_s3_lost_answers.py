"""Answers that say less, or something else, than what has happened at the store."""

import hashlib

import pytest

from syncer.errors import Transient
from syncer.manifest import ModelFile
from syncer.stores.protocols import Cut, Upload
from syncer.stores.s3 import S3Destination
from tests.support.scripted_bucket import AT_ONCE, TWICE_AND_MORE, listed, refusal, scripted_bucket, stored
from tests.support.scripted_server import reply

SEAL = ("PUT", "/b/m/.syncer/complete.json")
LOOK = ("HEAD", "/b/m/.syncer/complete.json")
PUT_A = ("PUT", "/b/m/a")
CREATE = ("POST", "/b/m/a?uploads")
UPLOADS = ("GET", "uploads")
ABORT = ("DELETE", "/b/m/a?uploadId=")
INSIDE = reply(200, b'<?xml version="1.0"?><Error><Code>InternalError</Code><Message>x</Message></Error>')
PAGE = reply(200, b"<html><body>please log in</body></html>")
CREATED = reply(200, b"<InitiateMultipartUploadResult><UploadId>ours</UploadId></InitiateMultipartUploadResult>")


def opened(*uploads: tuple[str, str]) -> bytes:
    entries = "".join(f"<Upload><Key>{key}</Key><UploadId>{token}</UploadId></Upload>" for key, token in uploads)
    return reply(200, f"<ListMultipartUploadsResult>{entries}</ListMultipartUploadsResult>".encode())


def begin(destination: S3Destination) -> str:
    return destination.begin(ModelFile("a", 23, "v"), Cut(23, 10)).token


def test_an_error_inside_a_success_is_no_seal() -> None:
    with scripted_bucket({SEAL: [INSIDE, stored("v2")]}) as bucket:
        assert bucket.destination(patience=TWICE_AND_MORE).control.write("complete.json", b"{}") == "v2"
    with scripted_bucket({SEAL: [INSIDE]}) as bucket, pytest.raises(Transient, match="InternalError"):
        bucket.destination(patience=AT_ONCE).control.write("complete.json", b"{}")


@pytest.mark.parametrize("found", [reply(404), reply(200, etag='"older"', content_length="7")])
def test_a_seal_that_is_nowhere_is_not_written(found: bytes) -> None:
    """Somebody on the way answers 200 with a page of his own."""
    with scripted_bucket({SEAL: [PAGE], LOOK: [found]}) as bucket, pytest.raises(Transient, match="not there"):
        bucket.destination(patience=AT_ONCE).control.write("complete.json", b"{}")


def test_an_error_inside_a_success_is_no_file() -> None:
    with scripted_bucket({PUT_A: [INSIDE]}) as bucket:
        sink = bucket.destination().begin(ModelFile("a", 3, "v"), Cut(3, 100)).open_part(0)
        sink.send(memoryview(b"abc"))
        with pytest.raises(Transient, match="InternalError"):
            sink.finish()


def test_an_upload_whose_opening_was_not_heard_of_is_removed() -> None:
    answers = {
        CREATE: [b"", CREATED],
        UPLOADS: [opened(("m/a", "lost"), ("m/a", "ours"), ("m/a.txt", "another"))],
        ABORT: [reply(204)],
    }
    with scripted_bucket(answers) as bucket:
        assert begin(bucket.destination(patience=TWICE_AND_MORE)) == "ours"
        assert [heard.target for heard in bucket.heard if heard.method == "DELETE"] == ["/b/m/a?uploadId=lost"]


def test_so_is_one_of_a_try_that_failed_as_a_whole() -> None:
    answers = {
        CREATE: [b"", CREATED, CREATED],
        UPLOADS: [refusal(403, "AccessDenied"), opened(("m/a", "lost"), ("m/a", "ours"))],
        ABORT: [reply(204)],
    }
    with scripted_bucket(answers) as bucket:
        destination = bucket.destination()
        with pytest.raises(Transient):
            begin(destination)
        assert begin(destination) == "ours"  # who may not list them cannot remove them either
        assert begin(destination) == "ours"
        assert [heard.target for heard in bucket.heard if heard.method == "DELETE"] == ["/b/m/a?uploadId=lost"]


def test_nobody_looks_for_uploads_where_nothing_was_lost() -> None:
    with scripted_bucket({CREATE: [CREATED]}) as bucket:
        begin(bucket.destination())
        assert bucket.said == ["POST /b/m/a?uploads"]


def test_a_part_that_lies_there_damaged_is_not_left_to_the_next_run() -> None:
    good = hashlib.md5(b"{}", usedforsecurity=False).hexdigest()
    part = hashlib.md5(b"x" * 10, usedforsecurity=False).hexdigest()
    answers = {
        ("PUT", "/b/m/.syncer/"): [stored(good)],
        CREATE: [CREATED],
        PUT_A: [stored(part), stored(good), stored(part)],
        ABORT: [reply(204)],
    }

    def send(upload: Upload, index: int) -> None:
        sink = upload.open_part(index)
        sink.send(memoryview(b"x" * 10))
        sink.finish()

    with scripted_bucket(answers) as bucket:
        destination = bucket.destination()
        destination.control.write("lease.json", b"{}")
        upload = destination.begin(ModelFile("a", 23, "v"), Cut(23, 10))
        send(upload, 0)
        with pytest.raises(Transient, match="other bytes"):
            send(upload, 1)
        suspended = destination.begin(ModelFile("a", 23, "v"), Cut(23, 10))
        suspended.suspend()
        assert not [heard for heard in bucket.heard if heard.method == "DELETE"]
        upload.suspend()
        assert [heard.target for heard in bucket.heard if heard.method == "DELETE"] == ["/b/m/a?uploadId=ours"]


def test_the_wire_does_not_repeat_the_opening_of_an_upload_by_itself() -> None:
    """A kept connection that ends before the answer: the upload may be open all the same."""
    answers = {
        ("GET", "list-type"): [listed()],
        CREATE: [b"", CREATED],
        UPLOADS: [opened(("m/a", "lost"), ("m/a", "ours"))],
        ABORT: [reply(204)],
    }
    with scripted_bucket(answers) as bucket:
        destination = bucket.destination(patience=TWICE_AND_MORE)
        destination.prepare()
        assert begin(destination) == "ours"
        assert [heard.target for heard in bucket.heard if heard.method == "DELETE"] == ["/b/m/a?uploadId=lost"]
