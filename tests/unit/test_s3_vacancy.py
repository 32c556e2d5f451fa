"""Nothing is replaced that has appeared since the plan: by stores that mind a condition, and by those that do not."""

from __future__ import annotations

import hashlib
from email.utils import formatdate
from urllib.parse import unquote

import pytest

from syncer.errors import Transient
from syncer.manifest import ModelFile
from syncer.retry import Patience
from syncer.stores.protocols import Cut, ForeignFile, Upload, UploadLost
from syncer.stores.s3 import S3Destination
from syncer.stores.s3.etags import composite
from syncer.stores.s3.vacancy import GOOD_FOR, Glances
from tests.contract.checks import send_part
from tests.support.scripted_bucket import (
    AT_ONCE,
    TWICE_AND_MORE,
    Answers,
    ScriptedBucket,
    listed,
    refusal,
    scripted_bucket,
    stored,
)
from tests.support.scripted_server import reply

DATA = b"first part|second one"
FILE = ModelFile("a", len(DATA), "v")
PUT, HEAD, COMPLETE = ("PUT", "/b/m/a"), ("HEAD", "/b/m/a"), ("POST", "/b/m/a?uploadId=")
LIST = ("GET", "list-type=2")
NOTHING = reply(404)
LOST = b""
NOW = formatdate(usegmt=True)
LONG_AGO = "Sat, 21 Nov 2020 10:00:00 GMT"


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def there(etag: str, *, size: int = len(DATA), modified: str = NOW) -> bytes:
    return reply(200, etag=f'"{etag}"', content_length=str(size), last_modified=modified, date=NOW)


def taken(status: int = 412) -> bytes:
    return refusal(status, "PreconditionFailed" if status == 412 else "ConditionalRequestConflict")


def vacant(
    bucket: ScriptedBucket, *, obeys: bool | None = True, md5s: bool = True, patience: Patience = AT_ONCE
) -> S3Destination:
    """A destination that knows so much of its store, and that nothing is at `a`."""
    destination = bucket.destination(patience=patience)
    abilities = destination.service.abilities
    if obeys is not None:
        abilities.learn("create_if_absent", has=obeys)
        abilities.learn("complete_if_absent", has=obeys)
    abilities.learn("etag_of_put_is_md5", has=md5s)
    abilities.learn("etag_of_part_is_md5", has=md5s)
    destination.spare(["a"])
    return destination


def put(destination: S3Destination) -> Upload:
    upload = destination.begin(FILE, Cut(len(DATA), 100))
    send_part(upload, 0, DATA)
    return upload


def conditions(bucket: ScriptedBucket) -> list[str]:
    """What was asked, with a star where the condition went along."""
    return [f"{heard.method}{heard.headers.get('if-none-match', '')}" for heard in bucket.heard]


@pytest.mark.parametrize(
    ("obeys", "asked"), [(True, ["PUT*"]), (None, ["GET", "PUT*"]), (False, ["GET", "PUT"])], ids=str
)
def test_a_put_has_the_condition_or_a_last_look(obeys: bool | None, asked: list[str]) -> None:
    with scripted_bucket({PUT: [stored(md5(DATA))], LIST: [listed()]}) as bucket:
        destination = vacant(bucket, obeys=obeys)
        put(destination)
        assert conditions(bucket) == asked
        put(destination)
        assert conditions(bucket) == [*asked, "PUT"], "what is there now is ours"


@pytest.mark.parametrize("obeys", [True, None, False], ids=str)
@pytest.mark.parametrize("found", [there(md5(b"theirs")), there("opaque"), there(md5(DATA), size=3)])
def test_a_put_that_finds_something_is_refused(obeys: bool | None, found: bytes) -> None:
    answers = {PUT: [taken()], HEAD: [found], LIST: [listed(("m/a", 1, "x"))]}
    with scripted_bucket(answers) as bucket, pytest.raises(ForeignFile, match="a has appeared"):
        put(vacant(bucket, obeys=obeys, md5s=True))


def test_our_own_put_whose_answer_was_lost_is_ours() -> None:
    with scripted_bucket({PUT: [LOST, taken()], HEAD: [there(md5(DATA), modified=LONG_AGO)]}) as bucket:
        destination = vacant(bucket)
        upload = destination.begin(FILE, Cut(len(DATA), 100))
        with pytest.raises(Transient):
            send_part(upload, 0, DATA)
        send_part(upload, 0, DATA)
        assert upload.finish() == md5(DATA)
        assert conditions(bucket) == ["PUT*", "PUT*", "HEAD"]


def test_our_own_put_that_arrived_damaged_is_replaced() -> None:
    with scripted_bucket({PUT: [stored(md5(b"damaged")), stored(md5(DATA))]}) as bucket:
        upload = vacant(bucket).begin(FILE, Cut(len(DATA), 100))
        with pytest.raises(Transient, match="other bytes"):
            send_part(upload, 0, DATA)
        send_part(upload, 0, DATA)
        assert conditions(bucket) == ["PUT*", "PUT"]


def test_what_may_be_our_own_put_is_written_once_more_where_etags_tell_nothing() -> None:
    with scripted_bucket({PUT: [LOST, taken(), stored("opaque-2")], HEAD: [there("opaque")]}) as bucket:
        upload = vacant(bucket, md5s=False).begin(FILE, Cut(len(DATA), 100))
        for _ in range(2):
            with pytest.raises(Transient):
                send_part(upload, 0, DATA)
        send_part(upload, 0, DATA)
        assert upload.finish() == "opaque-2"
        assert conditions(bucket) == ["PUT*", "PUT*", "HEAD", "PUT"]


@pytest.mark.parametrize("found", [there("opaque", modified=LONG_AGO), there("opaque", size=3)])
def test_what_is_older_than_our_try_or_of_another_size_is_not_ours(found: bytes) -> None:
    with scripted_bucket({PUT: [LOST, taken()], HEAD: [found]}) as bucket:
        upload = vacant(bucket, md5s=False).begin(FILE, Cut(len(DATA), 100))
        with pytest.raises(Transient):
            send_part(upload, 0, DATA)
        with pytest.raises(ForeignFile):
            send_part(upload, 0, DATA)


@pytest.mark.parametrize("answer", [refusal(501, "NotImplemented"), refusal(400, "InvalidArgument")])
def test_a_store_that_does_not_know_the_condition_is_asked_without(answer: bytes) -> None:
    with scripted_bucket({PUT: [answer, stored(md5(DATA))], HEAD: [NOTHING], LIST: [listed()]}) as bucket:
        destination = vacant(bucket, obeys=None)
        upload = destination.begin(FILE, Cut(len(DATA), 100))
        with pytest.raises(Transient):
            send_part(upload, 0, DATA)
        send_part(upload, 0, DATA)
        assert conditions(bucket) == ["GET", "PUT*", "HEAD", "PUT"]
        assert destination.service.abilities.has("create_if_absent") is False


def test_an_object_that_is_gone_again_is_no_reason_to_give_up() -> None:
    with scripted_bucket({PUT: [taken(409), stored(md5(DATA))], HEAD: [NOTHING]}) as bucket:
        upload = vacant(bucket).begin(FILE, Cut(len(DATA), 100))
        with pytest.raises(Transient):
            send_part(upload, 0, DATA)
        send_part(upload, 0, DATA)
        assert upload.finish() == md5(DATA)


# ------------------------------------------------------------------------------------------------- many with one look


PATHS = [f"d/{number:03}" for number in range(300)]


class Shelf:
    """A destination whose store minds no condition, and what lies there."""

    def __init__(self, bucket: ScriptedBucket, paths: list[str]) -> None:
        self.now = 100.0
        self.bucket = bucket
        self.destination = bucket.destination()
        self.glances = Glances(self.destination.service, "m/", clock=lambda: self.now)
        self.glances.expect(paths)

    @property
    def looks(self) -> list[str]:
        return [unquote(heard.target.partition("start-after=")[2]) for heard in self.bucket.heard]


def test_one_page_is_the_last_look_at_all_that_it_covers_for_some_seconds() -> None:
    found = listed(("m/d/100", 1, "x"), ("m/d/199", 1, "x"), truncated="more")
    with scripted_bucket({LIST: [found, listed()]}) as bucket:
        shelf = Shelf(bucket, PATHS)
        asked = {path: shelf.glances.show_nothing_at(path) for path in PATHS[120:200]}
        assert asked == {path: path != "d/199" for path in PATHS[120:200]}
        assert shelf.glances.show_nothing_at("d/060"), "other lanes are a little behind"
        assert shelf.looks == ["m/d/055~"]
        assert shelf.glances.show_nothing_at("d/200"), "which the first page did not cover"
        assert shelf.glances.show_nothing_at("d/299")
        assert shelf.looks == ["m/d/055~", "m/d/135~"]
        shelf.now += GOOD_FOR
        assert shelf.glances.show_nothing_at("d/299")
        assert len(shelf.looks) == 3


@pytest.mark.parametrize(
    "page",
    [
        refusal(403, "AccessDenied"),
        listed(("m/a", 1, "x"), ("m/b", 1, "x"), truncated="more"),
        listed(("m/d/060", 1, "x"), ("m/d/059", 1, "x"), ("m/e", 1, "x"), truncated="more"),
        listed(("m/d/060", 1, "x"), ("m/D/059", 1, "x")),
        listed(truncated="more"),
    ],
    ids=[
        "not allowed",
        "start-after unknown",
        "another order",
        "another order at last",
        "an empty page that goes on",
    ],
)
def test_a_store_that_cannot_be_looked_at_so_is_asked_for_each_file(page: bytes) -> None:
    with scripted_bucket({LIST: [page]}) as bucket:
        shelf = Shelf(bucket, PATHS)
        assert not any(shelf.glances.show_nothing_at(path) for path in PATHS[120:])
        assert len(shelf.looks) == 1


def test_a_store_that_begins_with_the_key_itself_has_said_nothing_of_what_is_before() -> None:
    with scripted_bucket({LIST: [listed(("m/d/055~", 1, "x"), ("m/d/060", 1, "x"))]}) as bucket:
        shelf = Shelf(bucket, PATHS)
        assert shelf.glances.show_nothing_at("d/120")
        assert shelf.glances.show_nothing_at("d/001")
        assert shelf.looks == ["m/d/055~", "m/d/00/~"], "and is asked again for that"


def test_a_store_that_does_not_know_where_to_begin_has_all_on_its_only_page() -> None:
    with scripted_bucket({LIST: [listed(("m/a", 1, "x"), ("m/d/150", 1, "x"))]}) as bucket:
        shelf = Shelf(bucket, PATHS)
        assert [path for path in PATHS if not shelf.glances.show_nothing_at(path)] == ["d/150"]
        assert len(shelf.looks) == 1


# ----------------------------------------------------------------------------------------------------------- multipart

PARTS = [DATA[:11], DATA[11:]]
WHOLE = composite([md5(part) for part in PARTS])
CREATED = reply(200, b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
COMPLETED = reply(200, f"<CompleteMultipartUploadResult><ETag>{WHOLE}</ETag></CompleteMultipartUploadResult>".encode())


def script(*, complete: list[bytes], head: list[bytes]) -> Answers:
    parts = [stored(md5(part)) for part in PARTS]
    return {COMPLETE: complete, ("POST", "/b/m/a?uploads"): [CREATED], PUT: parts, HEAD: head}


def ready(destination: S3Destination) -> Upload:
    upload = destination.begin(FILE, Cut(len(DATA), 11))
    for index, part in enumerate(PARTS):
        send_part(upload, index, part)
    return upload


def test_a_last_look_comes_before_completing() -> None:
    with scripted_bucket(script(complete=[COMPLETED], head=[NOTHING])) as bucket:
        assert ready(vacant(bucket, obeys=None)).finish() == WHOLE
        assert conditions(bucket)[-2:] == ["HEAD", "POST*"]


@pytest.mark.parametrize("obeys", [True, None, False], ids=str)
@pytest.mark.parametrize("found", [there(f"{'0' * 32}-2"), there("opaque"), there(WHOLE, size=3)])
def test_what_the_last_look_finds_is_not_replaced(obeys: bool | None, found: bytes) -> None:
    with scripted_bucket(script(complete=[COMPLETED], head=[found])) as bucket:
        upload = ready(vacant(bucket, obeys=obeys))
        with pytest.raises(ForeignFile):
            upload.finish()
        assert not [heard for heard in bucket.heard if "uploadId=" in heard.target and heard.method == "POST"]


def test_what_appears_after_the_last_look_is_left_to_the_store() -> None:
    with scripted_bucket(script(complete=[taken()], head=[NOTHING, there(f"{'0' * 32}-2")])) as bucket:
        destination = vacant(bucket, obeys=None)
        with pytest.raises(ForeignFile):
            ready(destination).finish()
        assert destination.service.abilities.has("complete_if_absent") is True


@pytest.mark.parametrize("second", [taken(), refusal(404, "NoSuchUpload")])
def test_our_own_completion_whose_answer_was_lost_is_ours(second: bytes) -> None:
    with scripted_bucket(script(complete=[LOST, second], head=[NOTHING, there(WHOLE)])) as bucket:
        upload = ready(vacant(bucket, patience=TWICE_AND_MORE))
        assert upload.finish() == WHOLE
        upload.abort()
        assert "DELETE" not in conditions(bucket)


def test_a_completion_of_an_earlier_process_is_ours() -> None:
    with scripted_bucket(script(complete=[COMPLETED], head=[there(WHOLE)])) as bucket:
        assert ready(vacant(bucket)).finish() == WHOLE


def test_a_conflict_that_is_over_wants_a_new_upload() -> None:
    with scripted_bucket(script(complete=[taken(409)], head=[NOTHING])) as bucket, pytest.raises(UploadLost):
        ready(vacant(bucket)).finish()


@pytest.mark.parametrize("answer", [refusal(501, "NotImplemented"), refusal(400, "InvalidRequest")])
def test_a_store_that_does_not_know_the_condition_completes_without(answer: bytes) -> None:
    with scripted_bucket(script(complete=[answer, COMPLETED], head=[NOTHING])) as bucket:
        destination = vacant(bucket, obeys=None)
        upload = ready(destination)
        with pytest.raises(Transient):
            upload.finish()
        assert upload.finish() == WHOLE
        assert conditions(bucket)[-2:] == ["HEAD", "POST"]
        assert destination.service.abilities.has("complete_if_absent") is False


# ------------------------------------------------------------------------------------------- copies inside the service


def test_a_copy_inside_the_service_replaces_nothing_either() -> None:
    with scripted_bucket({HEAD: [there("opaque")]}) as bucket, pytest.raises(ForeignFile):
        vacant(bucket).copy_inside(bucket.source("other/"), FILE)


def test_a_copy_inside_the_service_whose_answer_was_lost_is_made_once_more() -> None:
    busy = refusal(503, "SlowDown")
    copied = reply(200, b"<CopyObjectResult><ETag>&quot;c1&quot;</ETag></CopyObjectResult>")
    with scripted_bucket({HEAD: [NOTHING, there("c1")], PUT: [busy, copied]}) as bucket:
        destination, source = vacant(bucket), bucket.source("other/")
        with pytest.raises(Transient):
            destination.copy_inside(source, FILE)
        assert destination.copy_inside(source, FILE) == "c1"
