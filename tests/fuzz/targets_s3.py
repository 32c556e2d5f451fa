"""S3: listings, objects, uploads, refusals."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Final

from syncer.stores.protocols import Cut
from syncer.stores.s3.destination import S3Destination
from syncer.stores.s3.objects import delete_objects, folder_listing
from syncer.stores.s3.source import S3Source
from tests.fuzz.air import ONCE, UNKEPT
from tests.fuzz.answers import AIR, BUCKET, FILE, NO_NETWORK, answer, drain, xml
from tests.fuzz.mutation import NEXT
from tests.fuzz.target import Target, Violated, check_listing

_S3_NS: Final = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_ENTRY: Final = (
    "<Contents><Key>models/a%20b/model.safetensors</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
    '<ETag>"0123456789abcdef0123456789abcdef"</ETag><Size>100</Size><StorageClass>STANDARD</StorageClass></Contents>'
)
_PAGE: Final = xml(
    f"<ListBucketResult {_S3_NS}><Name>bucket</Name><Prefix>models/</Prefix><KeyCount>2</KeyCount>"
    f"<MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>{_ENTRY}"
    f"{_ENTRY.replace('a%20b/model', 'config').replace('100', '0')}</ListBucketResult>"
)
_FIRST_PAGE: Final = _PAGE.replace(
    b"<IsTruncated>false</IsTruncated>",
    b"<IsTruncated>true</IsTruncated><NextContinuationToken>n</NextContinuationToken>",
)
_S3_ERROR: Final = (
    "<Error><Code>{}</Code><Message>Somebody says something</Message><BucketName>bucket</BucketName>"
    "<Region>eu-central-1</Region><RequestId>1</RequestId><HostId>2</HostId></Error>"
)
_BOMB: Final = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 12}">' for a, b in zip("abcdefg", "bcdefgh", strict=True))
    + "]><Error><Code>&h;</Code><Message>&h;</Message></Error>"
)


def _s3_error(code: str, status: int, *headers: str) -> bytes:
    return xml(_S3_ERROR.format(code), *headers, status=status)


@cache
def _source() -> S3Source:
    return S3Source(BUCKET, NO_NETWORK, timeouts=UNKEPT, patience=ONCE)


@cache
def _destination() -> S3Destination:
    return S3Destination(BUCKET, NO_NETWORK, timeouts=UNKEPT, patience=ONCE)


@contextmanager
def _fresh(end: S3Source | S3Destination) -> Iterator[None]:
    """Forgets what the answers of the last input have taught."""
    service = end.service
    endpoint, place = service.endpoint, service._place
    try:
        yield
    finally:
        service._adopted_region = False
        service.endpoint, service._place = endpoint, place


def _s3_listing(data: bytes) -> None:
    source = _source()
    with AIR.answering(data), _fresh(source):
        check_listing(source.listing())


def _s3_sealed_listing(data: bytes) -> None:
    destination = _destination()
    with AIR.answering(data), _fresh(destination):
        check_listing(folder_listing(destination.service, "models/", sealed_apart=True))


def _s3_reading(data: bytes) -> None:
    source = _source()
    with AIR.answering(data), _fresh(source):
        for start, length in ((0, 100), (10, 20)):
            drain(source.read(FILE, start, length))


def _s3_head(data: bytes) -> None:
    source = _source()
    with AIR.answering(data), _fresh(source):
        now = source.look_again(FILE)
        if type(now.size) is not int or not 0 <= now.size < 2**63:
            raise Violated(f"a size of {now.size!r:.100}")


def _s3_writing(data: bytes) -> None:
    destination = S3Destination(BUCKET, NO_NETWORK, timeouts=UNKEPT, patience=ONCE)
    with AIR.answering(data), _fresh(destination):
        for cut in (Cut(100, 100), Cut(100, 50)):
            upload = destination.begin(FILE, cut, resume="" if cut.count == 1 else "upload")
            for index in range(cut.count):
                if index not in upload.done:
                    part = upload.open_part(index)
                    part.send(memoryview(bytes(cut.length(index))))
                    part.finish()
            if not isinstance(upload.finish(), str):
                raise Violated("a version that is no text")


def _s3_tidying(data: bytes) -> None:
    destination = _destination()
    with AIR.answering(data), _fresh(destination):
        for upload in destination.open_uploads():
            if not upload.token:
                raise Violated("an upload without a name")
            destination.abort_upload(upload)
            break
        delete_objects(destination.service, ["models/a", "models/b"])


def _s3_control(data: bytes) -> None:
    destination = S3Destination(BUCKET, NO_NETWORK, timeouts=UNKEPT, patience=ONCE)
    with AIR.answering(data), _fresh(destination):
        destination.control.read("manifest.json")
        destination.control.write("lease.json", b"{}", expected="")
        destination.control.names("state/")


TARGETS: Final = (
    Target(
        "s3-listing",
        _s3_listing,
        (
            _PAGE,
            _FIRST_PAGE + NEXT + _PAGE,
            _s3_error("SlowDown", 503, "Retry-After: 3"),
            _s3_error("PermanentRedirect", 301, "x-amz-bucket-region: eu-central-1"),
            _s3_error("AuthorizationHeaderMalformed", 400) + NEXT + _PAGE,
            xml(_BOMB),
            xml(_BOMB, status=403),
            answer(b"<!DOCTYPE html><html><body>Sign in</body></html>", kind="text/html"),
        ),
    ),
    Target("s3-sealed", _s3_sealed_listing, (_PAGE.replace(b"config.safetensors", b"x/.syncer/complete.json"), _PAGE)),
    Target(
        "s3-reading",
        _s3_reading,
        (
            answer(bytes(100), 'ETag: "abc"', kind="binary/octet-stream")
            + NEXT
            + answer(bytes(20), 'ETag: "abc"', "Content-Range: bytes 10-29/100", status=206),
            _s3_error("NoSuchKey", 404),
            _s3_error("RequestTimeTooSkewed", 403),
            xml(_BOMB, status=500),
        ),
    ),
    Target(
        "s3-head",
        _s3_head,
        (
            answer(b"", 'ETag: "abc"', "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT").replace(b": 0\r", b": 100\r"),
            _s3_error("AccessDenied", 403),
        ),
    ),
    Target(
        "s3-writing",
        _s3_writing,
        (
            answer(b"", 'ETag: "9e107d9d372bb6826bd81d3542a419d6"')
            + NEXT
            + xml(
                f"<ListPartsResult {_S3_NS}><UploadId>upload</UploadId><PartNumberMarker>0</PartNumberMarker>"
                "<NextPartNumberMarker>1</NextPartNumberMarker><IsTruncated>false</IsTruncated><Part><PartNumber>1"
                '</PartNumber><LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>"a"</ETag><Size>50</Size>'
                "</Part></ListPartsResult>",
                "Date: Mon, 01 Jan 2024 00:00:00 GMT",
            )
            + NEXT
            + answer(b"", 'ETag: "b"')
            + NEXT
            + xml(
                f'<CompleteMultipartUploadResult {_S3_NS}><Key>k</Key><ETag>"abc-2"</ETag>'
                "</CompleteMultipartUploadResult>"
            ),
            answer(b"", 'ETag: "a"') + NEXT + _s3_error("NoSuchUpload", 404),
            answer(b"", 'ETag: "a"')
            + NEXT
            + _s3_error("NoSuchUpload", 404)
            + NEXT
            + xml(
                f"<InitiateMultipartUploadResult {_S3_NS}><UploadId>u</UploadId></InitiateMultipartUploadResult>",
                "Date: Mon, 01 Jan 2024 00:00:00 GMT",
            )
            + NEXT
            + answer(b"", 'ETag: "b"')
            + NEXT
            + answer(b"", 'ETag: "b"')
            + NEXT
            + _s3_error("InternalError", 200),
        ),
    ),
    Target(
        "s3-tidying",
        _s3_tidying,
        (
            xml(
                f"<ListMultipartUploadsResult {_S3_NS}><KeyMarker></KeyMarker><NextKeyMarker>k</NextKeyMarker>"
                "<NextUploadIdMarker>u</NextUploadIdMarker><IsTruncated>false</IsTruncated><Upload><Key>models/a</Key>"
                "<UploadId>u</UploadId><Initiated>2024-01-01T00:00:00.000Z</Initiated></Upload>"
                "</ListMultipartUploadsResult>"
            )
            + NEXT
            + answer(status=204)
            + NEXT
            + xml(
                f"<DeleteResult {_S3_NS}><Error><Key>models/a</Key><Code>AccessDenied</Code><Message>no</Message>"
                "</Error></DeleteResult>"
            )
            + NEXT
            + answer(status=204),
        ),
    ),
    Target(
        "s3-control",
        _s3_control,
        (
            answer(b'{"format": 1}', 'ETag: "abc"')
            + NEXT
            + answer(b"", 'ETag: "99914b932bd37a50b983c5e7c90ae93b"')
            + NEXT
            + _s3_error("PreconditionFailed", 412)
            + NEXT
            + _PAGE.replace(b"models/a%20b/", b"models/.syncer/state/"),
        ),
    ),
)
