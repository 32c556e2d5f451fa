"""XML that is S3's, and XML that is not."""

from __future__ import annotations

import base64
import hashlib
import zlib
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.stores.s3 import calls
from syncer.stores.s3.calls import delete_objects
from syncer.stores.s3.documents import Senseless, completion, deletion, read

_SAYABLE = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\t\r\n"), max_size=30).filter(
    lambda text: "\ufffe" not in text and "\uffff" not in text
)


def taken(content: bytes) -> list[tuple[str, dict[str, str]]]:
    records: list[tuple[str, dict[str, str]]] = []
    read(content, lambda name, fields: records.append((name, dict(fields))))
    return records


@given(st.lists(_SAYABLE, max_size=4))
def test_what_is_written_is_read_as_it_was_meant(keys: list[str]) -> None:
    said = [fields.get("Key", "") for name, fields in taken(deletion(keys)) if name == "Object"]
    assert said == keys
    parts = [fields for name, fields in taken(completion(keys)) if name == "Part"]
    assert parts == [{"PartNumber": str(n), "ETag": f'"{key}"'} for n, key in enumerate(keys, 1)]
    assert [each.text or "" for each in ET.fromstring(deletion(keys)).iterfind(".//{*}Key")] == keys


def test_fields_records_and_nothing_deeper() -> None:
    page = (
        b'<?xml version="1.0" encoding="latin-1"?>\n<a:Result xmlns:a="urn:x">\n <a:Name> b </a:Name><Name>other</Name>'
        b"<!-- <Key>no</Key> --><a:Contents><Key>k&amp;<![CDATA[<]]>\xc3\xa9</Key><Key>other</Key>"
        b"<Owner><ID>1</ID><Key>deep</Key></Owner></a:Contents><Contents/></a:Result>"
    )
    document = read(page)
    assert (document.root, document.field("Name"), document.field("Nothing")) == ("Result", "b", "")
    assert taken(page) == [
        ("Name", {}),
        ("Name", {}),
        ("Contents", {"Key": "k&<\u00e9", "Owner": ""}),
        ("Contents", {}),
    ]


def test_nothing_is_an_empty_document() -> None:
    assert read(b"").root == ""


@pytest.mark.parametrize(
    "content",
    [
        b"text",
        b"<a><b></a>",
        b"<a>&b;</a>",
        b"<!DOCTYPE html><html></html>",
        b'<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>',
        '<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>'.encode("utf-16"),
        b"<a>\xff</a>",
        b"<a>\x00</a>",
        b"<a/><a/>",
        b"<a>" * 100_000,
        b"<a>" * 100 + b"</a>" * 100,
    ],
)
def test_what_is_no_document_is_refused(content: bytes) -> None:
    with pytest.raises(Senseless):
        read(content)


def test_deleting_says_what_the_list_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where FIPS forbids even an MD5 that is no safeguard, CRC-32 stands in for it."""
    body = deletion(["a"])
    md5 = hashlib.md5(body, usedforsecurity=False).digest()
    assert delete_objects(["a"]).headers["Content-MD5"] == base64.b64encode(md5).decode()
    monkeypatch.setattr(calls, "new_md5", lambda: None)
    headers = delete_objects(["a"]).headers
    assert headers["x-amz-checksum-crc32"] == base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    assert "Content-MD5" not in headers
