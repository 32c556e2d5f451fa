"""The members of a tar file, read forwards: names and sizes from strangers, so every one of them is bounded.

Understood are POSIX' ustar and pax and GNU's long names and large numbers, which is what image builders write
(POSIX.1-2017, pax; GNU tar manual, "Basic Tar Format").  A member's content is the caller's to take or to leave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

BLOCK: Final = 512
LARGEST_EXTENSION: Final = 1024 * 1024
"""Bytes of a pax header or of a long name: Go's reader, through which images pass elsewhere, takes no more either."""

Kind = Literal["file", "folder", "symlink", "hardlink", "sparse", "other"]

_KINDS: Final[Mapping[bytes, Kind]] = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",
    b"1": "hardlink",
    b"2": "symlink",
    b"5": "folder",
    b"S": "sparse",
}
_WITHOUT_CONTENT: Final = frozenset(b"123456")
_EXTENSIONS: Final = frozenset({b"x", b"g", b"L", b"K"})
_ZEROS: Final = bytes(BLOCK)


class Damaged(Exception):
    """The bytes are no tar file, or one that was cut short; who reads it knows its name."""


class Tape(Protocol):
    """Bytes that come one after another."""

    @property
    def position(self) -> int: ...

    def take(self, count: int) -> bytes:
        """The next `count` bytes, fewer only at the end."""
        ...

    def skip(self, count: int) -> None:
        """Pass over bytes; `Damaged` when there are not so many."""
        ...


@dataclass(frozen=True, slots=True)
class Member:
    """One entry; `offset` is where its content begins.  Names that are not UTF-8 have surrogates in them."""

    name: str
    kind: Kind
    size: int
    offset: int
    target: str = ""


class Window:
    """A tape over something that can be read anywhere, such as a file: what is skipped is never read.

    `fetch` gives up to so many bytes from a place, fewer only at the end; `size` is where that is.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size: int, *, ahead: int = 8 * 1024) -> None:
        self.position = 0
        self._fetch = fetch
        self._size = size
        self._ahead = ahead
        self._held = b""
        self._held_at = 0

    def take(self, count: int) -> bytes:
        """See `Tape`."""
        count = min(count, self._size - self.position)
        at = self.position - self._held_at
        if not 0 <= at <= len(self._held) - count:
            self._held_at, at = self.position, 0
            self._held = self._fetch(self.position, min(max(count, self._ahead), self._size - self.position))
        taken = self._held[at : at + count]
        self.position += len(taken)
        return taken

    def skip(self, count: int) -> None:
        """See `Tape`."""
        if count > self._size - self.position:
            raise Damaged("it ends within a member")
        self.position += count


def members(tape: Tape, *, most: int) -> Iterator[Member]:
    """All members up to the end of the archive; raises `Damaged`, also for more than `most` of them.

    Between two of them the caller may take from the tape what belongs to the first.
    """
    count = 0
    told = _Told()
    while (block := tape.take(BLOCK)) and block != _ZEROS:
        kind, size = _check(block), _number(block[124:136])
        if kind in _EXTENSIONS:
            told.add(kind, _extension(tape, size))
            continue
        if "size" in told.pax:
            size = _pax_size(told.pax["size"])
        if kind[0] in _WITHOUT_CONTENT:
            size = 0
        if kind == b"S":
            _skip_sparse_map(tape, more=block[482])
        count += 1
        if count > most:
            raise Damaged(f"it has more than {most} members")
        name = told.pax.get("path") or told.name or _name(block)
        target = told.pax.get("linkpath") or told.target or _text(block[157:257])
        member = Member(name, _kind(kind, told.pax, name=name), size, tape.position, target)
        yield member
        tape.skip(member.offset + size - tape.position)
        padding = -size % BLOCK
        if len(tape.take(padding)) != padding:
            return  # umoci leaves the padding of the last member out, and the end marks with it
        told = _Told()


@dataclass
class _Told:
    """What headers before a member's own say about it."""

    pax: dict[str, str] = field(default_factory=dict)
    name: str = ""
    target: str = ""

    def add(self, kind: bytes, content: bytes) -> None:
        """Take a header in; 'g' is for all members, and what it may say of them (times, owners) we do not read."""
        if kind == b"x":
            self.pax = _records(content)
        elif kind == b"L":
            self.name = _text(content)
        elif kind == b"K":
            self.target = _text(content)


def _check(block: bytes) -> bytes:
    """The type of a header whose checksum holds."""
    if len(block) != BLOCK:
        raise Damaged("it ends within a header")
    wanted = _number(block[148:156])
    plain = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    if wanted != plain:  # a few ancient writers summed up signed bytes
        signed = plain - 256 * sum(byte > 127 for byte in block[:148] + block[156:])
        if wanted != signed:
            raise Damaged("a header's checksum is wrong")
    return block[156:157]


def _number(raw: bytes) -> int:
    """A number field: octal digits, or GNU's binary form where the first bit is set."""
    if raw[0] & 0x80:
        if raw[0] != 0x80:
            raise Damaged("a number is out of range")
        return int.from_bytes(raw[1:], "big")
    digits = raw.strip(b" \0")
    if not all(byte in b"01234567" for byte in digits):
        raise Damaged("a number is none")
    return int(digits, 8) if digits else 0


def _pax_size(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 20):
        raise Damaged("a size is no number")
    return int(text)


def _extension(tape: Tape, size: int) -> bytes:
    if size > LARGEST_EXTENSION:
        raise Damaged(f"a header of {size} bytes")
    padded = size + -size % BLOCK
    content = tape.take(padded)
    if len(content) != padded:
        raise Damaged("it ends within a header")
    return content[:size]


def _skip_sparse_map(tape: Tape, *, more: int) -> None:
    """Pass the blocks that go on with the map of an old GNU sparse file; who meets such a file refuses it."""
    while more:
        block = tape.take(BLOCK)
        if len(block) != BLOCK:
            raise Damaged("it ends within a header")
        more = block[504]


def _records(content: bytes) -> dict[str, str]:
    """The records of a pax header, each `LENGTH NAME=VALUE` and a newline; an empty value takes nothing back here."""
    records = {}
    at = 0
    while at < len(content):
        length, blank, _ = content[at : at + 21].partition(b" ")
        if not blank or not length.isdigit() or not len(length) + 1 < int(length) <= len(content) - at:
            raise Damaged("a pax header has a wrong length")
        record = content[at + len(length) + 1 : at + int(length)]
        at += int(length)
        name, equals, value = record.partition(b"=")
        if not equals or not value.endswith(b"\n") or b"\0" in record:
            raise Damaged("a pax header has a record without a value")
        records[_decoded(name)] = _decoded(value[:-1])
    return records


def _kind(kind: bytes, pax: Mapping[str, str], *, name: str) -> Kind:
    if any(key.startswith("GNU.sparse.") for key in pax):
        return "sparse"
    found = _KINDS.get(kind, "other")
    return "folder" if found == "file" and name.endswith("/") else found


def _name(block: bytes) -> str:
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    return f"{prefix}/{_text(block[:100])}" if prefix else _text(block[:100])


def _text(raw: bytes) -> str:
    return _decoded(raw.partition(b"\0")[0])


def _decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
