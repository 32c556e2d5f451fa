"""The control calls: what each of them looks like on the wire.

One function a call of https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from syncer.stores.s3.documents import Document, completion, deletion
from syncer.stores.s3.endpoint import quote_key
from syncer.stores.s3.etags import new_md5
from syncer.wire import Headers

_XML: Final = {"Content-Type": "application/xml"}
_ABSENT: Final = {"If-None-Match": "*"}


@dataclass(frozen=True, slots=True)
class Call:
    """A request about the bucket, or with a `key` about one object.  `query` is as it travels.

    In a `slow` one the store moves gigabytes before it answers; one that is sent `once` must not be repeated unasked.
    """

    method: str
    query: str
    key: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    slow: bool = False
    once: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    """The answer to a call.  `repeated` says that an earlier try of the same call got none."""

    headers: Headers
    document: Document
    repeated: bool

    def field(self, name: str) -> str:
        """The text of a field, empty where there is none."""
        return self.document.field(name)

    @property
    def truncated(self) -> bool:
        """Whether a list goes on, by any spelling of it: taken for an end, it would leave files out."""
        return self.field("IsTruncated").lower() in {"true", "1"}


def list_objects(prefix: str, *, token: str = "", after: str = "", most: int = 0) -> Call:
    """One page of the keys below `prefix`, in their order: the one of `token`, or what comes after the key `after`.

    The keys come back as in a URL: XML cannot say each of them.
    """
    named = {"list-type": "2", "prefix": prefix, "encoding-type": "url"}
    if token:
        named["continuation-token"] = token
    if after:
        named["start-after"] = after
    if most:
        named["max-keys"] = str(most)
    return Call("GET", _query(named))


def list_uploads(prefix: str, *, after_key: str = "", after_token: str = "") -> Call:
    """One page of the unfinished uploads to keys below `prefix`."""
    named = {"uploads": "", "prefix": prefix}
    if after_key:
        named |= {"key-marker": after_key, "upload-id-marker": after_token}
    return Call("GET", _query(named))


def list_parts(key: str, token: str, *, after: int) -> Call:
    """One page of the parts that an upload has, from the one behind number `after`."""
    return Call("GET", _query({"uploadId": token, "part-number-marker": str(after)}), key)


def create_upload(key: str, *, content_type: str = "") -> Call:
    """Open an upload.  A second one would leave an upload behind that nobody knows of."""
    return Call("POST", "uploads", key, {"Content-Type": content_type} if content_type else {}, once=True)


def complete_upload(key: str, token: str, etags: Sequence[str], *, if_absent: bool) -> Call:
    """Put all parts together, in their order."""
    headers = _XML | (_ABSENT if if_absent else {})
    return Call("POST", _query({"uploadId": token}), key, headers, completion(etags), slow=True)


def abort_upload(key: str, token: str) -> Call:
    """Remove an unfinished upload with its parts."""
    return Call("DELETE", _query({"uploadId": token}), key)


def copy_object(key: str, source: Mapping[str, str]) -> Call:
    """Copy a whole object inside the service; `source` is `copied_from`."""
    return Call("PUT", "", key, source, slow=True)


def copy_part(key: str, token: str, number: int, source: Mapping[str, str], *, first: int, length: int) -> Call:
    """Copy `length` bytes from `first` on inside the service, as one part of an upload."""
    headers = {**source, "x-amz-copy-source-range": f"bytes={first}-{first + length - 1}"}
    return Call("PUT", _query({"partNumber": str(number), "uploadId": token}), key, headers, slow=True)


def copied_from(bucket: str, key: str, version: str) -> dict[str, str]:
    """The headers that name an object to copy from, in exactly this version."""
    return {"x-amz-copy-source": quote_key(f"{bucket}/{key}"), "x-amz-copy-source-if-match": f'"{version}"'}


def delete_objects(keys: Sequence[str]) -> Call:
    """Delete up to a thousand keys.

    S3 wants a checksum of the list: the MD5, which all stores know, or the CRC-32 where FIPS forbids that.
    """
    body = deletion(keys)
    if (md5 := new_md5()) is not None:
        md5.update(body)
        checksum = {"Content-MD5": _base64(md5.digest())}
    else:
        crc = _base64(zlib.crc32(body).to_bytes(4, "big"))
        checksum = {"x-amz-sdk-checksum-algorithm": "CRC32", "x-amz-checksum-crc32": crc}
    return Call("POST", "delete", headers=_XML | checksum, body=body)


def _query(named: Mapping[str, str]) -> str:
    return "&".join(f"{name}={quote(value, safe='-_.~')}" if value else name for name, value in named.items())


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
