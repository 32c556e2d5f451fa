"""What a refusal means, by status and code."""

from __future__ import annotations

import socket
from typing import NoReturn

import pytest

from syncer.errors import (
    ConfigurationError,
    CredentialsRefused,
    EndpointUnreachable,
    NotThereYet,
    OutOfSpace,
    SourceChanged,
    SourceMissing,
    SyncerError,
    Transient,
)
from syncer.manifest import ModelFile
from syncer.stores.s3.ends import DESTINATION, SOURCE, End
from syncer.stores.s3.refusals import Refusal
from syncer.wire.dialing import Dialer, Origin
from tests.support.scripted_bucket import SECRET, TWICE_AND_MORE, listed, refusal, scripted_bucket
from tests.support.scripted_server import reply


def error(status: int, code: str = "", *, end: End = SOURCE, **more: str) -> SyncerError:
    return Refusal(status, code, **more).as_error(end=end, what="read a", store="s3://b/", path="a")  # type: ignore[arg-type]  # texts alone


@pytest.mark.parametrize(
    ("status", "code", "end", "kind"),
    [
        (403, "AccessDenied", SOURCE, CredentialsRefused),
        (403, "InvalidAccessKeyId", DESTINATION, CredentialsRefused),
        (403, "SignatureDoesNotMatch", DESTINATION, CredentialsRefused),
        (400, "ExpiredToken", SOURCE, CredentialsRefused),
        (403, "RequestTimeTooSkewed", SOURCE, CredentialsRefused),
        (401, "", SOURCE, CredentialsRefused),
        (404, "NoSuchBucket", SOURCE, SourceMissing),
        (404, "NoSuchBucket", DESTINATION, NotThereYet),
        (404, "NoSuchKey", SOURCE, SourceMissing),
        (403, "InvalidObjectState", SOURCE, SourceMissing),
        (412, "PreconditionFailed", SOURCE, SourceChanged),
        (403, "QuotaExceeded", DESTINATION, OutOfSpace),
        (507, "", DESTINATION, OutOfSpace),
        (507, "XMinioStorageFull", DESTINATION, OutOfSpace),
        (503, "SlowDown", SOURCE, Transient),
        (500, "InternalError", SOURCE, Transient),
        (502, "", SOURCE, Transient),
        (400, "RequestTimeout", DESTINATION, Transient),
        (429, "", SOURCE, Transient),
        (409, "OperationAborted", DESTINATION, Transient),
        (405, "MethodNotAllowed", DESTINATION, ConfigurationError),
        (501, "NotImplemented", DESTINATION, ConfigurationError),
        (400, "", DESTINATION, ConfigurationError),
    ],
)
def test_the_remedy_decides_the_class(status: int, code: str, end: End, kind: type[SyncerError]) -> None:
    said = error(status, code, end=end)
    assert type(said) is kind
    assert (said.store, said.path) == ("s3://b/", "a")
    assert code in said.message


def test_each_end_names_its_own_variables() -> None:
    assert "S3_SYNC_SRC__ACCESS_KEY" in error(403, "AccessDenied").hint
    hint = error(403, "AccessDenied", end=DESTINATION).hint
    assert "S3_SYNC_DEST__ACCESS_KEY" in hint
    assert "AWS_ACCESS_KEY_ID" in hint


def test_another_region_is_named_with_its_variable() -> None:
    said = error(301, "PermanentRedirect", region="eu-west-1")
    assert isinstance(said, ConfigurationError)
    assert "eu-west-1" in said.message
    assert "S3_SYNC_SRC__REGION" in said.hint


def test_a_clock_that_is_wrong_is_told() -> None:
    assert "clock" in error(403, "RequestTimeTooSkewed").hint


@pytest.mark.parametrize(
    ("status", "code", "busy"),
    [
        (503, "SlowDown", True),
        (429, "", True),
        (503, "", True),
        (500, "InternalError", False),
        (403, "AccessDenied", False),
    ],
)
def test_a_store_that_fewer_requests_would_help_is_known_as_busy(status: int, code: str, busy: bool) -> None:
    said = error(status, code)
    assert (isinstance(said, Transient) and said.busy) == busy


def test_a_message_is_one_printable_line() -> None:
    said = Refusal(403, "AccessDenied", "no\nno\x1b[31m" + "x" * 999)
    error_ = said.as_error(end=SOURCE, what="read a\nb", store="s3://b/")
    assert "\n" not in error_.message
    assert "\x1b" not in error_.message
    assert len(error_.message) < 300


def test_a_proxy_s_page_is_no_riddle() -> None:
    page = reply(502, b"<html><body>Bad gateway & more</body></html>", retry_after="7")
    with scripted_bucket({("GET", "/b/m/a"): [page]}) as bucket:
        service = bucket.source().service
        said = service.refuse(service.ask("GET", "m/a"), what="read a")
    assert isinstance(said, Transient)
    assert said.retry_after == 7.0
    assert "HTTP 502" in said.message


def test_control_calls_go_the_same_way() -> None:
    denied = refusal(403, "InvalidAccessKeyId", "no such key AKIATEST")
    with scripted_bucket({("GET", "/b?list"): [denied]}) as bucket:
        with pytest.raises(CredentialsRefused, match="InvalidAccessKeyId") as caught:
            bucket.source().listing()
        with pytest.raises(CredentialsRefused) as other:
            bucket.destination().prepare()
    assert "S3_SYNC_SRC__ACCESS_KEY" in caught.value.hint
    assert "S3_SYNC_DEST__ACCESS_KEY" in other.value.hint
    assert SECRET not in f"{caught.value.message}{caught.value.hint}"


def test_a_dead_endpoint_is_told_at_once_by_both_planes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with scripted_bucket({}) as bucket:
        destination = bucket.destination(endpoint=f"http://127.0.0.1:{port}")
        with pytest.raises(EndpointUnreachable, match=str(port)) as caught:
            destination.prepare()
        with pytest.raises(EndpointUnreachable, match=str(port)):
            destination.control.read("complete.json")
    assert "S3_SYNC_DEST__ENDPOINT" in caught.value.hint


def test_a_control_call_has_no_patience_with_a_dead_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job has."""
    dialled: list[str] = []

    def dial(_: Dialer, origin: Origin, *, limit: float) -> NoReturn:
        dialled.append(str(origin))
        if len(dialled) > 3:
            raise AssertionError("and again")
        raise EndpointUnreachable("nobody is there")

    monkeypatch.setattr(Dialer, "dial", dial)
    with scripted_bucket({}) as bucket, pytest.raises(EndpointUnreachable):
        bucket.destination(patience=TWICE_AND_MORE).prepare()
    assert len(dialled) == 1


def test_a_region_that_cannot_be_is_a_mistake() -> None:
    with scripted_bucket({}) as bucket, pytest.raises(ConfigurationError) as caught:
        bucket.source(region="us east")
    assert "S3_SYNC_SRC__REGION" in caught.value.hint


def test_a_bucket_name_that_cannot_be_is_a_mistake() -> None:
    with scripted_bucket({}) as bucket, pytest.raises(ConfigurationError) as caught:
        bucket.source(bucket="not a bucket").listing()
    assert "S3_SYNC_SRC__PATH" in caught.value.hint


def test_a_page_that_is_no_s3_answer_is_told() -> None:
    with (
        scripted_bucket({("GET", "/b?list"): [reply(200, b"<html><p>console")]}) as bucket,
        pytest.raises(Transient) as caught,
    ):
        bucket.source().listing()
    assert "S3_SYNC_SRC__ENDPOINT" in caught.value.hint


def test_a_busy_store_is_asked_again() -> None:
    busy = refusal(503, "SlowDown")
    with scripted_bucket({("GET", "/b?list"): [busy, b"", listed(("m/a", 1, "e"))]}) as bucket:
        assert set(bucket.source(patience=TWICE_AND_MORE).listing().files) == {"a"}
        assert len(bucket.heard) == 3


ELSEWHERE = reply(
    400, b"<Error><Code>AuthorizationHeaderMalformed</Code><Message>x</Message><Region>lab-7</Region></Error>"
)


def test_the_region_that_a_store_names_is_used_from_then_on() -> None:
    answers = {("GET", "/b?list"): [ELSEWHERE, listed(("m/a", 1, "e"))], ("GET", "/b/m/a"): [reply(200, b"x")]}
    with scripted_bucket(answers) as bucket:
        source = bucket.source()
        file = source.listing().files["a"]
        source.read(file, 0, 1).close()
        regions = [heard.headers["authorization"].split("/")[2] for heard in bucket.heard]
    assert regions == ["us-east-1", "lab-7", "lab-7"]


def test_a_region_that_does_not_help_is_named_with_its_variable() -> None:
    with scripted_bucket({("GET", "/b?list"): [ELSEWHERE], ("GET", "/b/m/a"): [ELSEWHERE]}) as bucket:
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="lab-7") as caught:
                bucket.source().listing()
            assert "S3_SYNC_SRC__REGION" in caught.value.hint
        source = bucket.source()
        with pytest.raises(Transient, match="lab-7"):
            source.read(ModelFile("a", 1, "e"), 0, 1)
        with pytest.raises(ConfigurationError, match="lab-7"):
            source.read(ModelFile("a", 1, "e"), 0, 1)


def test_a_head_without_a_body_names_the_region_in_a_header() -> None:
    moved = reply(301, x_amz_bucket_region="lab-7")
    with scripted_bucket({("HEAD", "/b/m/a"): [moved, reply(404)]}) as bucket:
        with bucket.source().service.ask("HEAD", "m/a") as answer:
            assert answer.status == 404
        assert "/lab-7/s3/" in bucket.heard[1].headers["authorization"]
