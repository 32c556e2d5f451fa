"""What strangers claim: documents that end a reader in other ways than it says."""

from __future__ import annotations

import pytest

from syncer.claims import from_json


def test_a_document_of_brackets_is_no_json_for_us() -> None:
    for document in ("[" * 100_000, '{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000):
        with pytest.raises(ValueError, match="nested too deeply"):
            from_json(document)


def test_a_value_is_the_value_whatever_holds_its_text() -> None:
    assert [from_json(text) for text in ('{"a": [1]}', b'{"a": [1]}', bytearray(b'{"a": [1]}'))] == [{"a": [1]}] * 3
