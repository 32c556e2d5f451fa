"""Copies inside one service, and accounts that are no keys."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from syncer.errors import SourceChanged, Transient
from syncer.manifest import ModelFile
from syncer.settings.locations import Network
from syncer.stores.protocols import ForeignFile
from syncer.stores.s3 import S3Destination, copying
from syncer.stores.uploaded import UploadedSource
from syncer.wire import Origin
from tests.support.scripted_bucket import AT_ONCE, listed, refusal, scripted_bucket, stored
from tests.support.scripted_server import reply

FILE = ModelFile("p/a b+c", 25, "e1")
COPIED = reply(200, b"<CopyObjectResult><ETag>&quot;c1&quot;</ETag></CopyObjectResult>")
CREATED = reply(200, b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
HEAD = reply(200, etag='"e1"', content_length="25", content_type="text/x-model")


def test_the_listed_version_is_copied_by_the_store() -> None:
    with scripted_bucket({("PUT", "/b/t/p/a%20b%2Bc"): [COPIED]}) as bucket:
        source = bucket.source("m/", bucket="other")
        assert bucket.destination("t/").copy_inside(source, FILE) == "c1"
        headers = bucket.heard[0].headers
        assert headers["x-amz-copy-source"] == "other/m/p/a%20b%2Bc"
        assert headers["x-amz-copy-source-if-match"] == '"e1"'


@pytest.mark.parametrize(
    "answer",
    [
        refusal(403, "AccessDenied"),
        refusal(404, "NoSuchBucket"),
        refusal(501, "NotImplemented"),
        refusal(400, "InvalidRequest"),
    ],
)
def test_a_store_that_will_not_copy_leaves_it_to_us(answer: bytes) -> None:
    with scripted_bucket({("PUT", "/b/t/"): [answer]}) as bucket:
        assert bucket.destination("t/").copy_inside(bucket.source(), FILE) is None


def test_another_version_is_not_copied() -> None:
    gone = refusal(412, "PreconditionFailed")
    with scripted_bucket({("PUT", "/b/t/"): [gone]}) as bucket, pytest.raises(SourceChanged):
        bucket.destination("t/").copy_inside(bucket.source(), FILE)


def test_a_busy_store_is_asked_again_later() -> None:
    with scripted_bucket({("PUT", "/b/t/"): [refusal(503, "SlowDown")]}) as bucket, pytest.raises(Transient):
        bucket.destination("t/").copy_inside(bucket.source(), FILE)


def test_other_services_and_other_stores_are_not_asked() -> None:
    with scripted_bucket({}) as bucket, scripted_bucket({}) as elsewhere:
        destination = bucket.destination("t/")
        assert destination.copy_inside(elsewhere.source(), FILE) is None
        assert destination.copy_inside(UploadedSource(destination), FILE) is None
        assert not bucket.heard


def test_a_big_file_is_copied_by_parts_with_its_content_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "LARGEST_AT_ONCE", 10)
    monkeypatch.setattr(copying, "_PART", 10)
    answers = {
        ("HEAD", "/b/m/"): [HEAD],
        ("POST", "?uploads"): [CREATED],
        ("PUT", "partNumber="): [
            reply(200, f"<CopyPartResult><ETag>e{n}</ETag></CopyPartResult>".encode()) for n in (1, 2, 3)
        ],
        ("POST", "?uploadId="): [
            reply(200, b"<CompleteMultipartUploadResult><ETag>w</ETag></CompleteMultipartUploadResult>")
        ],
    }
    with scripted_bucket(answers) as bucket:
        assert bucket.destination("t/").copy_inside(bucket.source(), FILE) == "w"
        assert bucket.heard[1].headers["content-type"] == "text/x-model"
        ranges = [heard.headers.get("x-amz-copy-source-range") for heard in bucket.heard if heard.method == "PUT"]
        assert ranges == ["bytes=0-9", "bytes=10-19", "bytes=20-24"]


def test_a_copy_by_parts_that_is_refused_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "LARGEST_AT_ONCE", 10)
    answers = {
        ("HEAD", "/b/m/"): [HEAD],
        ("POST", "?uploads"): [CREATED],
        ("PUT", "partNumber="): [refusal(403, "AccessDenied")],
        ("DELETE", "uploadId=u"): [reply(204)],
    }
    with scripted_bucket(answers) as bucket:
        assert bucket.destination("t/").copy_inside(bucket.source(), FILE) is None
        assert bucket.heard[-1].method == "DELETE"


def test_a_copy_by_parts_replaces_nothing_that_has_appeared_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "LARGEST_AT_ONCE", 10)
    answers = {
        ("HEAD", "/b/m/"): [HEAD],
        ("HEAD", "/b/t/"): [reply(404), reply(200, etag='"theirs"', content_length="3")],
        ("POST", "?uploads"): [CREATED],
        ("PUT", "partNumber="): [reply(200, b"<CopyPartResult><ETag>e1</ETag></CopyPartResult>")],
        ("DELETE", "uploadId=u"): [reply(204)],
    }
    with scripted_bucket(answers) as bucket:
        destination = bucket.destination("t/")
        destination.spare([FILE.path])
        with pytest.raises(ForeignFile):
            destination.copy_inside(bucket.source(), FILE)
        assert [heard.method for heard in bucket.heard] == ["HEAD", "HEAD", "POST", "PUT", "HEAD", "DELETE"]


class Bearer:
    """What IBM's object storage wants: a token that is renewed, no signature."""

    def __init__(self) -> None:
        self.renewed = 0

    def authorize(
        self, method: str, origin: Origin, target: str, headers: Mapping[str, str], *, payload: str, region: str
    ) -> dict[str, str]:
        self.renewed += 1
        return {**headers, "Authorization": f"Bearer token-{self.renewed}"}

    def renew_after_refusal(self, headers: Mapping[str, str]) -> bool:
        return False


def test_any_header_can_stand_for_keys() -> None:
    answers = {("GET", "/b?list"): [listed()], ("PUT", "/b/m/.syncer/"): [stored("v")]}
    with scripted_bucket(answers) as bucket:
        location = bucket.location(access_key=None, secret_key=None)
        destination = S3Destination(location, Network(), account=Bearer(), patience=AT_ONCE)
        destination.listing()
        destination.control.write("lease.json", b"{}")
        destination.close()
        said = [heard.headers["authorization"] for heard in bucket.heard]
    assert said == ["Bearer token-1", "Bearer token-2"]
