"""The gateway is what we take it for: a strict S3 server, whose differences the rest of this ring relies upon."""

import contextlib
import hashlib
import ssl
import urllib.request
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.rados_gateway import RadosGateway

pytestmark = pytest.mark.real

WHEN_REQUIRED = {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}


@pytest.fixture(scope="module")
def bucket(rgw: RadosGateway) -> str:
    return rgw.new_bucket()


def test_an_object_comes_back_over_https_with_the_authority_of_the_test(rgw: RadosGateway, bucket: str) -> None:
    with contextlib.closing(rgw.client(https=True, **WHEN_REQUIRED)) as client:
        client.put_object(Bucket=bucket, Key="a b/ü+%/model.bin", Body=b"weights")
        assert client.get_object(Bucket=bucket, Key="a b/ü+%/model.bin")["Body"].read() == b"weights"


def test_both_endpoints_show_the_same_buckets(rgw: RadosGateway, bucket: str) -> None:
    with contextlib.closing(rgw.client()) as http, contextlib.closing(rgw.client(https=True, **WHEN_REQUIRED)) as https:
        http.put_object(Bucket=bucket, Key="both", Body=b"x")
        assert https.head_object(Bucket=bucket, Key="both")["ContentLength"] == 1


def test_the_default_checksums_of_the_sdk_are_refused_over_https(rgw: RadosGateway, bucket: str) -> None:
    with contextlib.closing(rgw.client(https=True)) as client, pytest.raises(ClientError) as refused:
        client.put_object(Bucket=bucket, Key="trailer", Body=b"weights")
    # The day this fails, the trap is gone from the server that reminded us of it: look for another that has it.
    assert refused.value.response["Error"]["Code"] == "MissingContentLength"


def test_nobody_else_is_trusted_with_its_certificate(rgw: RadosGateway, bucket: str) -> None:
    with contextlib.closing(rgw.client(https=True)) as client:
        client.head_bucket(Bucket=bucket)
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(rgw.https_endpoint, context=ssl.create_default_context())


def test_a_wrong_secret_is_refused(rgw: RadosGateway, bucket: str) -> None:
    stranger = RadosGateway(
        http_endpoint=rgw.http_endpoint, https_endpoint=rgw.https_endpoint, ca_file=rgw.ca_file, secret_key="guessed"
    )
    with contextlib.closing(stranger.client()) as client, pytest.raises(ClientError) as refused:
        client.put_object(Bucket=bucket, Key="mine", Body=b"x")
    assert refused.value.response["Error"]["Code"] == "SignatureDoesNotMatch"


def test_a_multipart_upload_completes_with_an_empty_etag(rgw: RadosGateway, bucket: str) -> None:
    with contextlib.closing(rgw.client(https=True, **WHEN_REQUIRED)) as client:
        where = {"Bucket": bucket, "Key": "parts"}
        upload = client.create_multipart_upload(**where)["UploadId"]
        etag = client.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"x" * 10)["ETag"]
        parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
        answer = client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts)
        assert answer.get("ETag", "").strip('"') == ""
        assert client.head_object(**where)["ETag"].strip('"').endswith("-1")


@pytest.mark.parametrize(
    ("https", "checksum"), [(False, {"ChecksumCRC32": "AAAAAA=="}), (True, {"ChecksumCRC32": "AAAAAA=="})]
)
def test_a_wrong_crc32_is_accepted(rgw: RadosGateway, bucket: str, https: bool, checksum: dict[str, str]) -> None:
    with contextlib.closing(rgw.client(https=https, **WHEN_REQUIRED)) as client:
        client.put_object(Bucket=bucket, Key="damaged", Body=b"weights", **checksum)
        assert client.get_object(Bucket=bucket, Key="damaged")["Body"].read() == b"weights"


def test_a_wrong_md5_is_refused_without_a_word(rgw: RadosGateway, bucket: str) -> None:
    with contextlib.closing(rgw.client()) as client, pytest.raises(ClientError) as refused:
        client.put_object(Bucket=bucket, Key="damaged", Body=b"weights", ContentMD5="A" * 22 + "==")
    assert refused.value.response["Error"]["Code"] == "BadDigest"
    assert not refused.value.response["Error"].get("Message"), "its errors have no text"


def test_the_etag_of_a_plain_put_is_the_md5(rgw: RadosGateway, bucket: str) -> None:
    with contextlib.closing(rgw.client()) as client:
        etag = client.put_object(Bucket=bucket, Key="plain", Body=b"weights")["ETag"]
    assert etag == f'"{hashlib.md5(b"weights").hexdigest()}"'


def test_a_part_under_5_mib_is_refused_unless_it_is_the_last(rgw: RadosGateway, bucket: str) -> None:
    with contextlib.closing(rgw.client()) as client:
        where = {"Bucket": bucket, "Key": "small parts"}
        where["UploadId"] = client.create_multipart_upload(**where)["UploadId"]
        parts = [
            {"PartNumber": number, "ETag": client.upload_part(**where, PartNumber=number, Body=b"x" * 10)["ETag"]}
            for number in (1, 2)
        ]
        with pytest.raises(ClientError) as refused:
            client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
        assert refused.value.response["Error"]["Code"] == "EntityTooSmall"
        client.abort_multipart_upload(**where)


def test_completing_twice_succeeds(rgw: RadosGateway, bucket: str) -> None:
    with contextlib.closing(rgw.client()) as client:
        where = {"Bucket": bucket, "Key": "twice"}
        where["UploadId"] = client.create_multipart_upload(**where)["UploadId"]
        parts = [{"PartNumber": 1, "ETag": client.upload_part(**where, PartNumber=1, Body=b"x" * 10)["ETag"]}]
        for _ in range(2):
            client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
        assert client.get_object(Bucket=bucket, Key="twice")["Body"].read() == b"x" * 10


def test_an_unknown_upload_is_called_a_missing_key(rgw: RadosGateway, bucket: str) -> None:
    with contextlib.closing(rgw.client()) as client, pytest.raises(ClientError) as refused:
        client.list_parts(Bucket=bucket, Key="nowhere", UploadId="2~never")
    assert refused.value.response["Error"]["Code"] in {"NoSuchKey", "NoSuchUpload"}


def test_a_page_of_a_listing_has_1000_keys_however_many_are_asked_for(rgw: RadosGateway) -> None:
    name = rgw.new_bucket()
    server = rgw.server()
    server.fill(name, {f"{number:04}": b"" for number in range(1001)})
    page = server.client.list_objects_v2(Bucket=name, MaxKeys=5000)
    assert (len(page["Contents"]), page["IsTruncated"]) == (1000, True)


def test_conditions_of_a_put_are_obeyed_with_etags_without_quotes(rgw: RadosGateway, bucket: str) -> None:
    with contextlib.closing(rgw.client()) as client:
        etag = client.put_object(Bucket=bucket, Key="conditions", Body=b"1")["ETag"]

        def put(**condition: str) -> int:
            def say(request: Any, **_: object) -> None:
                for name, value in condition.items():
                    request.headers[name.replace("_", "-")] = value

            client.meta.events.register("before-sign.s3.PutObject", say)
            try:
                said = client.put_object(Bucket=bucket, Key="conditions", Body=b"2")
                return int(said["ResponseMetadata"]["HTTPStatusCode"])
            except ClientError as refused:
                return int(refused.response["ResponseMetadata"]["HTTPStatusCode"])
            finally:
                client.meta.events.unregister("before-sign.s3.PutObject", say)

        assert put(If_None_Match="*") == 412
        assert put(If_Match="another") == 412
        assert put(If_Match=etag) == 412, "the quotation marks of HTTP are taken for a part of the name"
        assert put(If_Match=etag.strip('"')) == 200
