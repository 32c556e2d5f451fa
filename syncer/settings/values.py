"""How the text of one variable becomes a value: flags, sizes, durations, numbers, paths, secrets.

Every function here takes text and either returns the value or raises `ValueError` with half a sentence that goes on
after the variable's name ("must be a size such as 15MiB").  No message repeats the text: it may be a secret that was
put into the wrong variable.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, SecretStr

from syncer.claims import from_json

TRUE_WORDS: Final = frozenset({"true", "yes", "1", "on"})
FALSE_WORDS: Final = frozenset({"false", "no", "0", "off"})

_UNITS: Final = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
    "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40,
}  # fmt: skip
"""Powers of ten without an `i`, powers of two with one, as Kubernetes counts; in any case."""

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER: Final = r"[0-9]{1,15}(?:\.[0-9]{1,6})?"
_SIZE: Final = re.compile(rf"({_NUMBER}) ?([a-zA-Z]{{0,3}})")
_DURATION: Final = re.compile(rf"(?:{_NUMBER}(?:ms|[smhd]))+|{_NUMBER}")
_DURATION_STEP: Final = re.compile(rf"({_NUMBER})(ms|[smhd]|$)")

_SMALLEST_SIZE: Final = 1024
_LARGEST_SIZE: Final = 5 * 2**40
_LONGEST: Final = 366 * 86400.0
_LARGEST_COUNT: Final = 10_000
_LOWEST_PORT: Final = 1024
_HIGHEST_PORT: Final = 65_535

DeleteMode = Literal["off", "recorded", "all"]
EndpointKind = Literal["public", "private", "direct"]
DigestChoice = Literal["sha256", "crc64nvme"]
StageName = Literal["", "download", "compress", "upload", "register"]


@dataclass(frozen=True)
class Form:
    """What a value of a type looks like, in the words of the documentation."""

    words: str


def undecodable(text: str) -> bool:
    """Whether `text` came from bytes that are no UTF-8, so that it can be neither sent nor printed."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def one_line(text: str) -> str:
    """`text` as it is; control characters would be forged headers, log lines or broken signatures."""
    if any(unicodedata.category(letter) == "Cc" or letter in "\u2028\u2029" for letter in text):
        raise ValueError("holds a line break or another control character in the middle")
    return text


def words(text: str) -> str:
    """A list on one line, also when it was written as a block of lines; the separators stay."""
    return one_line(" ".join(text.split()))


def patterns(text: str) -> tuple[str, ...]:
    """Several patterns, separated by spaces or commas, or as a JSON list; only there a pattern may hold either."""
    if re.match(r"\[\s*(\"|\]$)", text):
        try:
            found = from_json(text)
        except ValueError:
            found = None
        if not isinstance(found, list) or not all(isinstance(each, str) and not undecodable(each) for each in found):
            raise ValueError('must be patterns separated by spaces or commas, or a JSON list such as ["*.json", "a b"]')
        return tuple(filter(None, (one_line(each.strip()) for each in found)))
    # A character class such as `[ab]*` begins with a bracket too, so quotes are what tells a list that is no JSON.
    if "'" in text or '"' in text:
        raise ValueError('must be patterns without quotes, or a JSON list such as ["*.json", "a b"]')
    return tuple(filter(None, re.split(r"[\s,]+", words(text))))


def flag(text: str) -> bool:
    """One of the words for true or false, in any case."""
    word = text.lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise ValueError("must be true (yes, 1, on) or false (no, 0, off)")


def size(text: str) -> int:
    """Bytes: `15MiB`, `16MB`, `1.5Gi`, `1048576`."""
    found = _SIZE.fullmatch(text)
    unit = _UNITS.get(found[2].lower()) if found else None
    if found is None or unit is None:
        raise ValueError("must be a size such as 15MiB, 16MB, 1GiB or a plain number of bytes")
    count = int(float(found[1]) * unit) if "." in found[1] else int(found[1]) * unit
    if count < _SMALLEST_SIZE:
        raise ValueError("must be at least 1KiB; a plain number counts bytes, so perhaps a unit such as MiB is missing")
    if count > _LARGEST_SIZE:
        raise ValueError("must be at most 5TiB")
    return count


def seconds(text: str) -> float:
    """Seconds: `10s`, `10m`, `2h`, `1h30m`, `90`; zero is fine."""
    if _DURATION.fullmatch(text.lower()) is None:
        raise ValueError("must be a duration such as 10s, 10m, 2h or a plain number of seconds")
    total = sum(float(number) * _SECONDS[unit or "s"] for number, unit in _DURATION_STEP.findall(text.lower()))
    if total > _LONGEST:
        raise ValueError("must be at most 366 days")
    return total


def some_seconds(text: str) -> float:
    """A duration above zero."""
    total = seconds(text)
    if total <= 0:
        raise ValueError("must be longer than nothing, such as 10s")
    return total


def count(text: str) -> int:
    """A whole number from 1."""
    if re.fullmatch(r"[0-9]{1,9}", text) is None or not 1 <= int(text) <= _LARGEST_COUNT:
        raise ValueError(f"must be a whole number from 1 to {_LARGEST_COUNT}")
    return int(text)


def absolute_path(text: str) -> Path:
    """A path from the root of the file system."""
    path = Path(one_line(text))
    if not path.is_absolute():
        raise ValueError("must be an absolute path such as /mnt/models")
    return path


def delete_mode(text: str) -> DeleteMode:
    """What to delete at the destination: nothing, what we recorded, or everything that the source does not have."""
    if text.lower() == "all":
        return "all"
    try:
        return "recorded" if flag(text) else "off"
    except ValueError:
        raise ValueError("must be true, all or false") from None


def endpoint_kind(text: str) -> EndpointKind:
    """The network of an IBM COS endpoint."""
    match text.lower():
        case "public" | "private" | "direct" as kind:
            return kind
        case _:
            raise ValueError("must be public, private or direct")


def digest_name(text: str) -> DigestChoice:
    """What proves the bytes of a file."""
    match text.lower():
        case "sha256" | "crc64nvme" as name:
            return name
        case _:
            raise ValueError("must be sha256 or crc64nvme")


def index(text: str) -> int:
    """A whole number from 0."""
    if re.fullmatch(r"[0-9]{1,9}", text) is None:
        raise ValueError("must be a whole number from 0")
    return int(text)


def port(text: str) -> int:
    """A port that a pod without privileges can listen on."""
    if re.fullmatch(r"[0-9]{1,5}", text) is None or not _LOWEST_PORT <= int(text) <= _HIGHEST_PORT:
        raise ValueError(f"must be a port from {_LOWEST_PORT} to {_HIGHEST_PORT}")
    return int(text)


def stage_name(text: str) -> StageName:
    """A stage of a pipeline."""
    match text.lower():
        case "download" | "compress" | "upload" | "register" as stage:
            return stage
        case _:
            raise ValueError("must be download, compress, upload or register")


Text = Annotated[str, BeforeValidator(one_line), Form("text")]
Words = Annotated[str, BeforeValidator(words), Form("list")]
Patterns = Annotated[tuple[str, ...], BeforeValidator(patterns), Form("list")]
Secret = Annotated[SecretStr | None, BeforeValidator(one_line), Form("secret")]
Flag = Annotated[bool, BeforeValidator(flag), Form("true or false")]
Size = Annotated[int | None, BeforeValidator(size), Form("size")]
Seconds = Annotated[float, BeforeValidator(seconds), Form("duration")]
SomeSeconds = Annotated[float | None, BeforeValidator(some_seconds), Form("duration")]
Count = Annotated[int | None, BeforeValidator(count), Form("number")]
AbsolutePath = Annotated[Path | None, BeforeValidator(absolute_path), Form("path")]
Delete = Annotated[DeleteMode, BeforeValidator(delete_mode), Form("true, all or false")]
Endpoint = Annotated[EndpointKind, BeforeValidator(endpoint_kind), Form("public, private or direct")]
Stage = Annotated[StageName, BeforeValidator(stage_name), Form("download, compress, upload or register")]
Digest = Annotated[DigestChoice, BeforeValidator(digest_name), Form("sha256 or crc64nvme")]
Index = Annotated[int | None, BeforeValidator(index), Form("number")]
Port = Annotated[int | None, BeforeValidator(port), Form("number")]
