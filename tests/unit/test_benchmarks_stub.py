"""The stub server of benchmarks/ answers like an S3 server where clients look."""

from __future__ import annotations

import hashlib
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from benchmarks.server import ACCESS_KEY, REGION, SECRET_KEY, Objects, Stub, build, compiler

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler here: the stub server cannot be built")

SOURCE = Objects("src/model/", 2, 3 << 20)
FIRST, SECOND = "model/000.safetensors", "model/001.safetensors"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("stub"))


@pytest.fixture
def stub(program: Path) -> Iterator[Stub]:
    with Stub(program, buckets=["dst"], objects=[SOURCE]) as server:
        yield server


@pytest.fixture
def s3(stub: Stub) -> Iterator[Any]:
    client = connect(stub)
    yield client
    client.close()


def connect(stub: Stub) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=stub.url,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, proxies={}),
    )


def code(caught: pytest.ExceptionInfo[ClientError]) -> str:
    return str(caught.value.response["Error"]["Code"])


def upload_part(s3: Any, key: str, body: bytes) -> str:
    upload_id = s3.create_multipart_upload(Bucket="dst", Key=key)["UploadId"]
    part = s3.upload_part(Bucket="dst", Key=key, UploadId=upload_id, PartNumber=1, Body=body)
    return str(part["ETag"])


def upload(s3: Any, key: str, parts: list[bytes]) -> str:
    upload_id = s3.create_multipart_upload(Bucket="dst", Key=key)["UploadId"]
    etags = [
        s3.upload_part(Bucket="dst", Key=key, UploadId=upload_id, PartNumber=number, Body=part)["ETag"]
        for number, part in enumerate(parts, 1)
    ]
    listed = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
    done = s3.complete_multipart_upload(Bucket="dst", Key=key, UploadId=upload_id, MultipartUpload={"Parts": listed})
    return str(done["ETag"])


def test_small_object_is_kept_with_its_md5_and_type(s3: Any) -> None:
    body = b'{"state": "here"}'
    put = s3.put_object(Bucket="dst", Key="m/.syncer/lease.json", Body=body, ContentType="application/json")
    got = s3.get_object(Bucket="dst", Key="m/.syncer/lease.json")
    assert got["Body"].read() == body
    assert got["ContentType"] == "application/json"
    assert got["ETag"] == put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    part = s3.get_object(Bucket="dst", Key="m/.syncer/lease.json", Range="bytes=2-6")
    assert part["Body"].read() == body[2:7]


@pytest.mark.parametrize("size", [0, 1, 55, 56, 63, 64, 65, 119, 120, 1 << 20])
def test_etag_of_every_length_is_the_md5(s3: Any, size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    put = s3.put_object(Bucket="dst", Key="x", Body=body)
    assert put["ETag"].strip('"') == hashlib.md5(body).hexdigest()
    assert s3.get_object(Bucket="dst", Key="x")["Body"].read() == body


def test_etags_of_an_opaque_bucket_are_something_else(program: Path) -> None:
    with Stub(program, opaque_buckets=["dst"], objects=[SOURCE]) as server:
        s3 = connect(server)
        small = s3.put_object(Bucket="dst", Key="x", Body=b"abc")["ETag"]
        part = upload_part(s3, "000.safetensors", source_bytes(s3, FIRST))
        assert small.strip('"') != hashlib.md5(b"abc").hexdigest()
        assert len(part.strip('"')) != 32


def test_etags_of_big_uploads_are_md5s_although_nobody_read_the_bytes(s3: Any) -> None:
    first = source_bytes(s3, FIRST)
    assert upload_part(s3, FIRST, first) == f'"{hashlib.md5(first).hexdigest()}"'
    assert s3.put_object(Bucket="dst", Key="one put", Body=first)["ETag"] == f'"{hashlib.md5(first).hexdigest()}"'
    parts = cut(first)
    whole = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in parts)).hexdigest()
    assert upload(s3, FIRST, parts) == f'"{whole}-{len(parts)}"'
    long = first + source_bytes(s3, FIRST)
    assert upload_part(s3, FIRST, long) != f'"{hashlib.md5(long).hexdigest()}"', "only what the pattern says is known"


def test_conditions_hold(s3: Any) -> None:
    version = s3.put_object(Bucket="dst", Key="lease", Body=b"one", IfNoneMatch="*")["ETag"]
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket="dst", Key="lease", Body=b"two", IfNoneMatch="*")
    assert code(caught) == "PreconditionFailed"
    s3.put_object(Bucket="dst", Key="lease", Body=b"three", IfMatch=version)
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket="dst", Key="lease", Body=b"four", IfMatch=version)
    assert code(caught) == "PreconditionFailed"
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket="dst", Key="lease", IfMatch=version)
    assert code(caught) == "PreconditionFailed"
    assert s3.get_object(Bucket="dst", Key="lease")["Body"].read() == b"three"


def test_listing_is_sorted_paged_and_exact(s3: Any) -> None:
    odd = ["a b+c%d", "a/deep/ä", "a&<b>", "z"]
    many = [f"many/{number:04}" for number in range(1001)]
    for key in [*reversed(odd), *many]:
        s3.put_object(Bucket="dst", Key=key, Body=b"x")
    pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket="dst"))
    keys = [item["Key"] for page in pages for item in page["Contents"]]
    assert len(pages) == 2
    assert keys == sorted([*odd, *many], key=str.encode)
    folders = s3.list_objects_v2(Bucket="dst", Delimiter="/")
    assert [item["Prefix"] for item in folders["CommonPrefixes"]] == ["a/", "many/"]
    assert [item["Key"] for item in folders["Contents"]] == ["a b+c%d", "a&<b>", "z"]


def test_deleting_one_and_several(s3: Any) -> None:
    for key in ("a", "b & c", "d"):
        s3.put_object(Bucket="dst", Key=key, Body=b"x")
    s3.delete_object(Bucket="dst", Key="a")
    s3.delete_objects(Bucket="dst", Delete={"Objects": [{"Key": "b & c"}, {"Key": "never there"}]})
    assert [item["Key"] for item in s3.list_objects_v2(Bucket="dst")["Contents"]] == ["d"]


def test_missing_things_are_missing(s3: Any) -> None:
    s3.head_bucket(Bucket="dst")
    with pytest.raises(ClientError) as caught:
        s3.head_bucket(Bucket="other")
    assert code(caught) == "404"
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket="dst", Key="nothing")
    assert code(caught) == "NoSuchKey"
    with pytest.raises(ClientError) as caught:
        s3.copy_object(Bucket="dst", Key="x", CopySource={"Bucket": "src", "Key": FIRST})
    assert code(caught) == "NotImplemented"


def test_many_sources_are_named_in_the_order_of_their_numbers(program: Path) -> None:
    many = Objects("src/many/", 1001, 10)
    with Stub(program, objects=[many]) as server:
        pages = connect(server).get_paginator("list_objects_v2").paginate(Bucket="src")
        assert [f"src/{item['Key']}" for page in pages for item in page["Contents"]] == many.names
        old = connect(server).get_paginator("list_objects").paginate(Bucket="src")  # as rclone lists
        assert [f"src/{item['Key']}" for page in old for item in page["Contents"]] == many.names


def test_multipart_is_listed_until_it_is_complete_or_gone(s3: Any, stub: Stub) -> None:
    upload_id = s3.create_multipart_upload(Bucket="dst", Key="big file")["UploadId"]
    for number in (2, 1, 2):
        s3.upload_part(Bucket="dst", Key="big file", UploadId=upload_id, PartNumber=number, Body=b"x" * number)
    listed = s3.list_parts(Bucket="dst", Key="big file", UploadId=upload_id)["Parts"]
    assert [(part["PartNumber"], part["Size"]) for part in listed] == [(1, 1), (2, 2)]
    assert [item["Key"] for item in s3.list_multipart_uploads(Bucket="dst")["Uploads"]] == ["big file"]
    s3.abort_multipart_upload(Bucket="dst", Key="big file", UploadId=upload_id)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="dst")
    assert stub.stats()["open_uploads"] == 0
    with pytest.raises(ClientError) as caught:
        s3.list_parts(Bucket="dst", Key="big file", UploadId=upload_id)
    assert code(caught) == "NoSuchUpload"


def test_completed_upload_has_size_and_etag_everywhere(s3: Any) -> None:
    etag = upload(s3, "big", [b"x" * 5, b"y" * 7])
    (listed,) = s3.list_objects_v2(Bucket="dst")["Contents"]
    head = s3.head_object(Bucket="dst", Key="big")
    assert listed["Size"] == head["ContentLength"] == 12
    assert listed["ETag"] == head["ETag"] == etag
    assert etag.endswith('-2"')


def source_bytes(s3: Any, key: str) -> bytes:
    body: bytes = s3.get_object(Bucket="src", Key=key)["Body"].read()
    return body


def cut(data: bytes) -> list[bytes]:
    return [data[start : start + (1 << 20)] for start in range(0, len(data), 1 << 20)]


def test_byte_check_accepts_the_right_bytes_alone(s3: Any, stub: Stub) -> None:
    stub.check_bytes(on=True)
    first, second = source_bytes(s3, FIRST), source_bytes(s3, SECOND)
    assert len(first) == SOURCE.size
    flipped = bytearray(first)
    flipped[2_000_000] ^= 1
    upload(s3, FIRST, cut(first))
    upload(s3, "other folder/000.safetensors", cut(first))
    upload(s3, "flipped/000.safetensors", cut(bytes(flipped)))
    upload(s3, "swapped/000.safetensors", cut(first)[::-1])
    upload(s3, "file/000.safetensors", cut(second))
    s3.put_object(Bucket="dst", Key="one put/000.safetensors", Body=first)
    s3.put_object(Bucket="dst", Key="wrong put/000.safetensors", Body=second)
    found = {item["name"]: item["right"] for item in stub.stats()["objects"]}
    assert found == {
        f"dst/{FIRST}": True,
        "dst/other folder/000.safetensors": True,
        "dst/flipped/000.safetensors": False,
        "dst/swapped/000.safetensors": False,
        "dst/file/000.safetensors": False,
        "dst/one put/000.safetensors": True,
        "dst/wrong put/000.safetensors": False,
    }


def test_big_upload_reads_back_as_its_name_says(s3: Any) -> None:
    first = source_bytes(s3, FIRST)
    upload(s3, "copy/000.safetensors", cut(first))
    assert s3.get_object(Bucket="dst", Key="copy/000.safetensors")["Body"].read() == first


def test_chunked_bodies_are_taken_apart(s3: Any, stub: Stub) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"first,"
        yield b"second"

    request = urllib.request.Request(f"{stub.url}/dst/chunked", data=pieces(), method="PUT")
    with stub.opener().open(request) as answer:
        answer.read()
    signed = b"5;chunk-signature=00\r\nhello\r\n0;chunk-signature=00\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    headers = {"Content-Encoding": "aws-chunked", "x-amz-decoded-content-length": "5"}
    request = urllib.request.Request(f"{stub.url}/dst/framed", data=signed, headers=headers, method="PUT")
    with stub.opener().open(request) as answer:
        answer.read()
    sizes = {item["Key"]: item["Size"] for item in s3.list_objects_v2(Bucket="dst")["Contents"]}
    assert sizes == {"chunked": 12, "framed": 5}
    assert s3.get_object(Bucket="dst", Key="framed")["Body"].read() == b"hello"


def test_reset_forgets_uploads_and_keeps_sources(s3: Any, stub: Stub) -> None:
    s3.put_object(Bucket="dst", Key="x", Body=b"x")
    s3.list_multipart_uploads(Bucket="dst")
    assert stub.stats()["requests"] == 2, "whatever they ask for, but not the stub's own pages"
    stub.reset()
    assert stub.stats()["objects"] == []
    assert stub.stats()["put"] == 0
    assert s3.head_object(Bucket="src", Key=FIRST)["ContentLength"] == SOURCE.size
