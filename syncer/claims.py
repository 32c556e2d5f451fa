"""What strangers claim, taken with care: JSON, and the numbers of a header or a document.

Python's own readers take more than any protocol means: `int()` knows the digits of every script and gives up with
another error on very long ones, `str.isdigit()` knows digits that `int()` does not, and a document of many brackets
ends in a RecursionError, which nobody expects of a reader.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, TypeGuard

LARGEST_SIZE: Final = 2**63 - 1
"""Bytes.  No file system and no protocol here counts further, and everything below fits into a float."""


def from_json(text: str | bytes | bytearray, take: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """The value that a JSON document has; ValueError for what is no JSON, also for what is nested too deeply.

    `take` is given each object as soon as it is read, the inner ones first, and says what stands for it.
    """
    try:
        return json.loads(text, object_hook=take)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def json_text(data: bytes) -> str:
    """The text of a JSON document, by whatever Unicode encoding it has; ValueError for what is no text."""
    return data.decode(json.detect_encoding(data), "surrogatepass")


def whole_number(text: str) -> int | None:
    """A number of plain digits, up to `LARGEST_SIZE`; None for everything else."""
    if not text.isascii() or not text.isdecimal() or len(text) > 19:
        return None
    number = int(text)
    return number if number <= LARGEST_SIZE else None


def is_size(value: object) -> TypeGuard[int]:
    """Whether a decoded value can be a number of bytes."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_SIZE
