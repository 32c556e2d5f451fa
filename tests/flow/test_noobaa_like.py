"""A store with the habits of NooBaa: what they are, and that a whole run gets along with them."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.flow.conftest import Run
from tests.support.buckets import S3Server
from tests.support.captured import capture_logs
from tests.support.models import small_model
from tests.support.noobaa_like import running_noobaa_like

WRONG = {"ContentMD5": "A" * 22 + "=="}


@pytest.fixture(scope="module")
def noobaa() -> Iterator[S3Server]:
    with running_noobaa_like() as server:
        yield server


def upload(server: S3Server, bucket: str, key: str) -> dict[str, Any]:
    where = {"Bucket": bucket, "Key": key}
    where["UploadId"] = server.client.create_multipart_upload(**where)["UploadId"]
    etag = server.client.upload_part(**where, PartNumber=1, Body=b"part")["ETag"]
    return where | {"MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": etag}]}}


def test_its_etags_are_no_md5(noobaa: S3Server) -> None:
    bucket = noobaa.new_bucket()
    told = noobaa.client.put_object(Bucket=bucket, Key="plain", Body=b"weights")["ETag"]
    assert told.startswith('"mtime-')
    assert told == noobaa.client.head_object(Bucket=bucket, Key="plain")["ETag"]
    assert told != f'"{hashlib.md5(b"weights").hexdigest()}"'
    whole = noobaa.client.complete_multipart_upload(**upload(noobaa, bucket, "parts"))["ETag"]
    assert whole.startswith('"mtime-')
    listed = noobaa.client.list_objects_v2(Bucket=bucket)["Contents"]
    assert {entry["ETag"] for entry in listed} == {told, whole}


def test_it_knows_no_upload_that_was_completed(noobaa: S3Server) -> None:
    whole = upload(noobaa, noobaa.new_bucket(), "parts")
    noobaa.client.complete_multipart_upload(**whole)
    with pytest.raises(noobaa.client.exceptions.NoSuchUpload):
        noobaa.client.complete_multipart_upload(**whole)


def test_it_takes_a_wrong_md5(noobaa: S3Server) -> None:
    bucket = noobaa.new_bucket()
    noobaa.client.put_object(Bucket=bucket, Key="damaged", Body=b"weights", **WRONG)
    assert noobaa.read(bucket) == {"damaged": b"weights"}


def test_what_is_read_seems_to_be_framed(noobaa: S3Server) -> None:
    bucket = noobaa.new_bucket()
    noobaa.fill(bucket, {"file": b"weights"})
    assert noobaa.client.get_object(Bucket=bucket, Key="file")["ContentEncoding"] == "aws-chunked"


def test_a_model_arrives_whole_and_a_second_run_copies_nothing(noobaa: S3Server, run: Run) -> None:
    """Every byte is compared by digests of our own, for nothing that this store says proves one."""
    bucket = noobaa.new_bucket("target")
    place = noobaa.location(bucket, "models/")
    with capture_logs() as logs:
        run(destination=place)
    assert noobaa.read(bucket, "models/") == small_model()
    learned = {entry["ability"]: entry["has"] for entry in logs if entry["event"] == "ability_learned"}
    assert learned["etag_of_put_is_md5"] is False
    assert run(destination=place).copied_bytes == 0
    back = noobaa.new_bucket("back")
    run(source=place, destination=replace(place, bucket=back))
    assert noobaa.read(back, "models/") == small_model()
    assert noobaa.open_uploads(bucket) == noobaa.open_uploads(back) == []
