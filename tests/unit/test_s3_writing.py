"""Uploads to stores with habits of their own."""

from __future__ import annotations

import hashlib

import pytest

from syncer.errors import CredentialsRefused, OutOfSpace, Transient, WrongBytes
from syncer.manifest import ModelFile
from syncer.settings.locations import S3Location
from syncer.stores.abilities import Abilities, Seen
from syncer.stores.protocols import Cut, OpenUpload, Upload, UploadLost
from syncer.stores.s3 import S3Destination
from syncer.stores.s3.etags import EtagJudge, composite
from tests.support.scripted_bucket import ScriptedBucket, refusal, scripted_bucket, stored
from tests.support.scripted_server import reply

DATA = [b"first part", b"second one", b"end"]
FILE = ModelFile("a", 23, "v", content_type="text/plain")
CUT = Cut(23, 10)
CREATED = reply(
    200,
    b"<InitiateMultipartUploadResult><UploadId>u/1</UploadId></InitiateMultipartUploadResult>",
    date="Sat, 21 Nov 2026 10:00:00 GMT",
)
PUT_A = ("PUT", "/b/m/a")
CREATE = ("POST", "/b/m/a?uploads")
COMPLETE = ("POST", "/b/m/a?uploadId=")
PARTS = ("GET", "/b/m/a?")


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def put(destination: S3Destination, data: bytes, *, pieces: int = 1, content_type: str = "") -> str:
    upload = destination.begin(ModelFile("a", len(data), "v", content_type=content_type), Cut(len(data), 100))
    send(upload, 0, data, pieces)
    return upload.finish()


def send(upload: Upload, index: int, data: bytes, pieces: int = 1) -> None:
    sink = upload.open_part(index)
    try:
        step = -(-len(data) // pieces) or 1
        for start in range(0, len(data), step):
            sink.send(memoryview(data)[start : start + step])
        sink.finish()
    except BaseException:
        sink.cancel()
        raise


def completed(etag: str) -> bytes:
    return reply(200, f"<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>".encode())


def parts(*entries: tuple[int, int, str]) -> bytes:
    listed = "".join(
        f"<Part><PartNumber>{number}</PartNumber><Size>{size}</Size><ETag>{etag}</ETag></Part>"
        for number, size, etag in entries
    )
    return reply(200, f"<ListPartsResult><IsTruncated>false</IsTruncated>{listed}</ListPartsResult>".encode())


def prove_etags(bucket: ScriptedBucket, destination: S3Destination) -> None:
    destination.control.write("lease.json", b"{}")


LEASE = {("PUT", "/b/m/.syncer/"): [stored(md5(b"{}"))]}


# ------------------------------------------------------------------------------------------------------------ one PUT


def test_a_small_file_is_one_put_with_its_content_type_and_no_framing() -> None:
    with scripted_bucket({PUT_A: [stored("e1")]}) as bucket:
        assert put(bucket.destination(), b"0123456789", pieces=3, content_type="text/plain") == "e1"
        headers = bucket.heard[0].headers
        assert bucket.bodies == [b"0123456789"]
        assert headers["content-type"] == "text/plain"
        assert headers["content-length"] == "10"
        assert headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
        assert not {"content-encoding", "x-amz-trailer", "transfer-encoding", "expect"} & headers.keys()
        assert not [name for name in headers if name.startswith("x-amz-checksum")]


def test_an_empty_file_is_a_put_too() -> None:
    with scripted_bucket({PUT_A: [stored("")]}) as bucket:
        assert put(bucket.destination(), b"") == ""
        assert bucket.heard[0].headers["content-length"] == "0"


def test_a_store_that_wants_signed_payloads_gets_them_from_then_on() -> None:
    answers = {PUT_A: [refusal(400, "XAmzContentSHA256Mismatch"), stored("e1"), stored("e2")]}
    with scripted_bucket(answers) as bucket:
        destination = bucket.destination()
        with pytest.raises(Transient, match="signed payload"):
            put(destination, b"0123456789")
        assert put(destination, b"0123456789", pieces=4) == "e1"
        assert put(destination, b"") == "e2"
        assert bucket.heard[1].headers["x-amz-content-sha256"] == hashlib.sha256(b"0123456789").hexdigest()
        assert bucket.bodies[1] == b"0123456789"
        upload = destination.begin(FILE, Cut(23, 100))
        assert upload.open_part(0).keeps_views


def test_signed_payloads_are_learned_from_the_first_control_file() -> None:
    answers = {("PUT", "/b/m/.syncer/"): [refusal(501, "NotImplemented"), stored("x")], PUT_A: [stored("e1")]}
    with scripted_bucket(answers) as bucket:
        destination = bucket.destination()
        destination.control.write("lease.json", b"{}")
        assert destination.begin(FILE, Cut(23, 100)).open_part(0).keeps_views
        assert put(destination, b"0123456789") == "e1"


def test_a_store_that_took_unsigned_payloads_is_not_asked_otherwise() -> None:
    answers = {PUT_A: [stored("e1"), refusal(403, "SignatureDoesNotMatch")]}
    with scripted_bucket(answers) as bucket:
        destination = bucket.destination()
        put(destination, b"0123456789")
        with pytest.raises(CredentialsRefused):
            put(destination, b"0123456789")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refusal(403, "AccessDenied"), CredentialsRefused),
        (refusal(403, "QuotaExceeded"), OutOfSpace),
        (refusal(503, "SlowDown", retry_after="3"), Transient),
        (b"", Transient),
    ],
)
def test_a_refused_put(answer: bytes, kind: type[Exception]) -> None:
    with scripted_bucket({PUT_A: [answer]}) as bucket, pytest.raises(kind):
        put(bucket.destination(), b"0123456789")


# ------------------------------------------------------------------------------------------------------------- digests


def test_an_etag_is_compared_only_after_it_was_proved() -> None:
    lying = stored(md5(b"other bytes"))
    with scripted_bucket({**LEASE, PUT_A: [lying]}) as bucket:
        destination = bucket.destination()
        assert put(destination, b"0123456789") == md5(b"other bytes"), "a name like any other"
        prove_etags(bucket, destination)
        with pytest.raises(Transient, match="other bytes of a"):
            put(destination, b"0123456789")


def test_etags_that_are_no_md5_are_never_compared() -> None:
    answers = {("PUT", "/b/m/.syncer/"): [stored("mtime-1-ino-2")], PUT_A: [stored("mtime-1-ino-3")]}
    with scripted_bucket(answers) as bucket:
        destination = bucket.destination()
        prove_etags(bucket, destination)
        assert put(destination, b"0123456789") == "mtime-1-ino-3"


def test_a_judge_gives_an_unknown_kind_one_more_try() -> None:
    judge = EtagJudge(Abilities("s3://b/"))
    ours, other = md5(b"a"), md5(b"b")
    assert not judge.wants("part")
    judge.learn(etag=ours, md5=ours)
    assert judge.wants("part")
    assert judge.accepts("part", etag="", md5=ours)
    assert not judge.accepts("part", etag=other, md5=ours), "wrong bytes, or no MD5: nobody knows yet"
    assert judge.accepts("part", etag=other, md5=ours), "the same again: not an MD5 of what was sent"
    assert not judge.wants("part")
    assert judge.accepts("part", etag=ours, md5=other)


def test_a_judge_that_has_proof_stays_strict() -> None:
    judge = EtagJudge(Abilities("s3://b/"))
    ours, other = md5(b"a"), md5(b"b")
    judge.learn(etag=ours, md5=ours)
    assert not judge.accepts("part", etag=other, md5=ours)
    assert judge.accepts("part", etag=ours, md5=ours)
    for _ in range(3):
        assert not judge.accepts("part", etag=ours, md5=other)


def test_a_name_that_cannot_be_an_md5_ends_the_computing() -> None:
    judge = EtagJudge(Abilities("s3://b/"))
    judge.learn(etag=md5(b"a"), md5=md5(b"a"))
    assert judge.accepts("part", etag="opaque-1", md5=md5(b"a"))
    assert not judge.wants("part")
    assert judge.wants("put")


def test_who_asks_for_speed_pays_for_no_md5() -> None:
    judge = EtagJudge(Seen(compares_md5=False).at(S3Location("b")))
    judge.learn(etag=md5(b"a"), md5=md5(b"a"))
    assert not judge.wants("put")
    assert not judge.wants("part")


def test_an_encrypting_store_unlearns_nothing_it_did_not_show() -> None:
    judge = EtagJudge(Abilities("s3://b/"))
    judge.learn(etag=md5(b"x"), md5=md5(b"y"))
    assert not judge.wants("put")
    assert not judge.wants("part")
    assert judge.accepts("put", etag=md5(b"x"), md5=md5(b"y"))


def test_the_etag_of_many_parts() -> None:
    etags = [md5(part) for part in DATA]
    whole = hashlib.md5(b"".join(bytes.fromhex(etag) for etag in etags), usedforsecurity=False).hexdigest()
    assert composite(etags) == f"{whole}-3"
    assert composite([*etags, "opaque"]) == ""


# ----------------------------------------------------------------------------------------------------------- multipart


def upload_all(destination: S3Destination) -> Upload:
    upload = destination.begin(FILE, CUT)
    for index, data in enumerate(DATA):
        send(upload, index, data)
    return upload


def test_parts_are_numbered_and_completed_in_order() -> None:
    answers = {PUT_A: [stored("e1"), stored("e2"), stored("e3")], CREATE: [CREATED], COMPLETE: [completed("whole-3")]}
    with scripted_bucket(answers) as bucket:
        upload = upload_all(bucket.destination())
        assert upload.token == "u/1"
        assert upload.finish() == "whole-3"
        assert bucket.heard[0].headers["content-type"] == "text/plain"
        assert not [name for heard in bucket.heard for name in heard.headers if "checksum" in name]
        assert bucket.heard[1].target == "/b/m/a?partNumber=1&uploadId=u%2F1"
        body = bucket.bodies[-1].decode()
        assert body.index("e1") < body.index("e2") < body.index("e3")


def test_an_answer_without_etag_is_looked_up_before_completing() -> None:
    answers = {
        PUT_A: [stored("")],
        CREATE: [CREATED],
        PARTS: [parts((1, 10, "e1"), (2, 10, "e2"), (3, 3, "e3"))],
        COMPLETE: [completed("")],
    }
    with scripted_bucket(answers) as bucket:
        assert upload_all(bucket.destination()).finish() == "", "only a listing can tell"
        assert [heard.method for heard in bucket.heard[-2:]] == ["POST", "HEAD"]
        assert b"e2" in bucket.bodies[-2]


def test_a_part_that_the_store_has_lost_cannot_be_completed() -> None:
    answers = {PUT_A: [stored("")], CREATE: [CREATED], PARTS: [parts((1, 10, "e1"), (2, 9, "e2"), (3, 3, "e3"))]}
    with scripted_bucket(answers) as bucket, pytest.raises(UploadLost, match="part 2"):
        upload_all(bucket.destination()).finish()


def test_a_resumed_upload_keeps_the_parts_that_fit() -> None:
    answers = {
        PARTS: [parts((1, 10, "e1"), (2, 9, "short"), (3, 10, "long"), (4, 10, "beyond"))],
        PUT_A: [stored("n2"), stored("n3")],
        COMPLETE: [completed("whole-3")],
    }
    with scripted_bucket(answers) as bucket:
        upload = bucket.destination().begin(FILE, CUT, resume="u/1")
        assert (upload.token, upload.done) == ("u/1", frozenset({0}))
        send(upload, 1, DATA[1])
        send(upload, 2, DATA[2])
        assert upload.finish() == "whole-3"
        body = bucket.bodies[-1].decode()
        assert "e1" in body
        assert "beyond" not in body
        assert "short" not in body


def test_an_upload_that_is_gone_starts_anew() -> None:
    with scripted_bucket({PARTS: [refusal(404, "NoSuchUpload")], CREATE: [CREATED]}) as bucket:
        upload = bucket.destination().begin(FILE, CUT, resume="old")
        assert (upload.token, upload.done) == ("u/1", frozenset())


def test_an_error_inside_a_successful_answer_is_an_error() -> None:
    sick = reply(200, b"<Error><Code>InternalError</Code><Message>x</Message></Error>")
    answers = {PUT_A: [stored("e1")], CREATE: [CREATED], COMPLETE: [sick]}
    with scripted_bucket(answers) as bucket, pytest.raises(Transient):
        upload_all(bucket.destination()).finish()


def head(etag: str, modified: str, length: int = 23) -> bytes:
    return reply(200, etag=f'"{etag}"', last_modified=modified, content_length=str(length))


ETAGS = [md5(data) for data in DATA]


@pytest.mark.parametrize(
    ("found", "etags", "version"),
    [
        (head(composite(ETAGS), "Sat, 21 Nov 2026 09:00:00 GMT"), ETAGS, composite(ETAGS)),
        (head("0" * 32 + "-3", "Sat, 21 Nov 2026 10:00:01 GMT"), ETAGS, None),
        (head("opaque", "Sat, 21 Nov 2026 10:00:00 GMT"), ["x", "y", "z"], "opaque"),
        (head("opaque", "Sat, 21 Nov 2026 09:00:00 GMT"), ["x", "y", "z"], None),
        (head("opaque", "Sat, 21 Nov 2026 10:00:00 GMT", 22), ["x", "y", "z"], None),
        (reply(404), ETAGS, None),
    ],
)
def test_a_completion_whose_answer_was_lost_is_found_out(found: bytes, etags: list[str], version: str | None) -> None:
    answers = {
        PUT_A: [stored(etag) for etag in etags],
        CREATE: [CREATED],
        COMPLETE: [refusal(404, "NoSuchUpload")],
        ("HEAD", "/b/m/a"): [found],
    }
    with scripted_bucket(answers) as bucket:
        upload = upload_all(bucket.destination())
        if version is None:
            with pytest.raises(UploadLost):
                upload.finish()
        else:
            assert upload.finish() == version


def test_a_completion_that_tells_no_version_is_looked_up() -> None:
    """RADOS Gateway's: without a version, a killed run's finished files would be copied again."""
    answers = {
        PUT_A: [stored(etag) for etag in ETAGS],
        CREATE: [CREATED],
        COMPLETE: [completed("")],
        ("HEAD", "/b/m/a"): [head(composite(ETAGS), "Sat, 21 Nov 2026 10:00:01 GMT")],
    }
    with scripted_bucket(answers) as bucket:
        assert upload_all(bucket.destination()).finish() == composite(ETAGS)


def test_an_object_that_was_put_together_wrongly_is_noticed_once_that_is_provable() -> None:
    wrong = completed(f"{'0' * 32}-3")
    answers = {
        **LEASE,
        PUT_A: [stored(etag) for etag in ETAGS] * 3,
        CREATE: [CREATED],
        COMPLETE: [completed(composite(ETAGS)), wrong],
    }
    with scripted_bucket(answers) as bucket:
        destination = bucket.destination()
        prove_etags(bucket, destination)
        assert upload_all(destination).finish() == composite(ETAGS)
        with pytest.raises(WrongBytes):
            upload_all(destination).finish()


def test_a_part_that_arrived_damaged_is_sent_again() -> None:
    answers = {**LEASE, PUT_A: [stored(ETAGS[0]), stored(md5(b"damaged"))], CREATE: [CREATED]}
    with scripted_bucket(answers) as bucket:
        destination = bucket.destination()
        prove_etags(bucket, destination)
        upload = destination.begin(FILE, CUT)
        send(upload, 0, DATA[0])
        with pytest.raises(Transient, match="other bytes of a"):
            send(upload, 1, DATA[1])


def test_abort_is_silent_and_happens_once() -> None:
    answers = {CREATE: [CREATED], ("DELETE", "/b/m/a?uploadId="): [refusal(403, "AccessDenied")]}
    with scripted_bucket(answers) as bucket:
        upload = bucket.destination().begin(FILE, CUT)
        upload.abort()
        upload.abort()
        assert bucket.said == ["POST /b/m/a?uploads", "DELETE /b/m/a?uploadId=u%2F1"]


def test_a_finished_upload_is_not_aborted() -> None:
    answers = {PUT_A: [stored("e1")], CREATE: [CREATED], COMPLETE: [completed("w")]}
    with scripted_bucket(answers) as bucket:
        upload = upload_all(bucket.destination())
        upload.finish()
        upload.abort()
        assert not [said for said in bucket.said if said.startswith("DELETE")]


def test_open_uploads_are_paged_and_kept_apart() -> None:
    first = reply(
        200,
        b"<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>m/b</NextKeyMarker>"
        b"<NextUploadIdMarker>2</NextUploadIdMarker>"
        b"<Upload><Key>m/a</Key><UploadId>1</UploadId></Upload><Upload><Key>m/b</Key><UploadId>2</UploadId></Upload>"
        b"</ListMultipartUploadsResult>",
    )
    second = reply(
        200,
        b"<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>"
        b"<Upload><Key>m/.syncer/x</Key><UploadId>3</UploadId></Upload>"
        b"<Upload><Key>other</Key><UploadId>4</UploadId></Upload></ListMultipartUploadsResult>",
    )
    with scripted_bucket({("GET", "key-marker=m"): [second], ("GET", "/b?uploads"): [first]}) as bucket:
        assert bucket.destination().open_uploads() == [OpenUpload("a", "1"), OpenUpload("b", "2")]


def test_a_list_of_open_uploads_that_runs_in_circles_ends() -> None:
    page = "<R><IsTruncated>true</IsTruncated><NextKeyMarker>m/{}</NextKeyMarker></R>"
    pages = [reply(200, page.format(key).encode()) for key in "ababababab"]
    with scripted_bucket({("GET", "/b?uploads"): pages}) as bucket:
        assert bucket.destination().open_uploads() == []
        assert len(bucket.heard) == 3


@pytest.mark.parametrize("answer", [refusal(403, "AccessDenied"), refusal(501, "NotImplemented")])
def test_a_store_that_cannot_tell_open_uploads_has_none(answer: bytes) -> None:
    with scripted_bucket({("GET", "/b?uploads"): [answer]}) as bucket:
        assert bucket.destination().open_uploads() == []


# --------------------------------------------------------------------------------------------------------------- names


def test_names_that_a_bucket_cannot_hold() -> None:
    with scripted_bucket({}) as bucket:
        destination = bucket.destination()
        fine = ["a", "a/b", "a//b", "/a", " ", "a/../b", "ü", "f/", "a\nb", "x" * 1022]
        assert destination.name_problems(fine) == []
        bad = ["", "..", "a/../../b", "x" * 1023, "ü" * 512, "\udcff", "nul\x00"]
        problems = destination.name_problems(bad)
        assert len(problems) == len(bad)
        assert all(any(repr(path) in problem for problem in problems) for path in bad)
