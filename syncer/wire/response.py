"""An answer of HTTP/1.1 as it comes from a socket: its head, and where its body ends.

`http.client` hands each head to the parser of e-mails, which costs more than all else about a small request.  What is
taken apart here is what RFC 9112 (https://www.rfc-editor.org/rfc/rfc9112) says about answers, and what `http.client`
forgives is forgiven: lines that end without a carriage return, and lines of a head that are none.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from typing import Final, Protocol, Self

from syncer.claims import whole_number

_FIRST: Final = 16 * 1024
"""Bytes that are asked for at once until the head is there: a small body comes along."""
_ENOUGH: Final = 256 * 1024
"""Bytes of a body that are worth handing on: more at once is no cheaper over TLS, and takes long on a slow line."""
_LONGEST_HEAD: Final = 256 * 1024
_LONGEST_LINE: Final = 64 * 1024
_MOST_HEADS: Final = 100
"""Heads before the answer's own: of status 100 and the like."""
_END_OF_HEAD: Final = re.compile(rb"\n\r?\n")
_SPACE: Final = " \t\r"
_FOLDED: Final = re.compile(r"\r?\n[ \t]+")
"""The middle of a long value, as it was written in older times."""
_STATUS: Final = re.compile(rb"HTTP/1\.(\d)[ \t]+([1-9]\d\d)(?:[ \t\r]|$)")
_CHUNK: Final = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,15})[ \t]*(?:;|$)")
_NO_BODY: Final = frozenset({204, 304})


class Readable(Protocol):
    """As much of a socket as it takes to read from it."""

    def recv(self, bufsize: int, /) -> bytes:
        """Some bytes, empty at the end."""
        ...

    def recv_into(self, buffer: memoryview, /) -> int:
        """Fill some of `buffer`; 0 at the end."""
        ...


class NoAnswer(ConnectionError):
    """The other side closed the connection without a word."""


class Garbled(ValueError):
    """What came is no HTTP.  `line` is the first line of what came instead of an answer, else empty."""

    def __init__(self, why: str, line: bytes = b"") -> None:
        super().__init__(why)
        self.line = line


class Headers:
    """The fields of a head by their names, in whatever case; of one that is repeated the first."""

    __slots__ = ("_fields", "_repeated")

    def __init__(self) -> None:
        self._fields: dict[str, str] = {}
        self._repeated: list[tuple[str, str]] = []

    def get(self, name: str, default: str = "") -> str:
        """One field's value."""
        return self._fields.get(name.lower(), default)

    def get_all(self, name: str) -> list[str]:
        """The values of a field that may be repeated."""
        name = name.lower()
        if name not in self._fields:
            return []
        return [self._fields[name], *(value for known, value in self._repeated if known == name)]

    def items(self) -> Iterator[tuple[str, str]]:
        """All fields, their names in lower case."""
        yield from self._fields.items()
        yield from self._repeated

    @classmethod
    def parse(cls, lines: str) -> Self:
        """Take the lines of a head apart, without its first one."""
        if "\n " in lines or "\n\t" in lines:
            lines = _FOLDED.sub(" ", lines)
        headers = cls()
        fields = headers._fields
        for line in lines.split("\n"):
            name, colon, value = line.partition(":")
            name = name.strip(_SPACE).lower()
            if not colon or not name:
                continue
            if name in fields:
                headers._repeated.append((name, value.strip(_SPACE)))
            else:
                fields[name] = value.strip(_SPACE)
        return headers


class Response:
    """One answer: `status`, `headers`, and a body that ends where the head says.

    `length` is the announced one, None where there is none (chunks, or all until the end).  `will_close` says that the
    connection is of no use afterwards, `ended` that the body is complete.
    """

    __slots__ = ("_broken", "_chunked", "_left", "_rest", "_sock", "ended", "headers", "length", "status", "will_close")

    def __init__(self, sock: Readable, *, method: str) -> None:
        """Read a head; raises `NoAnswer`, `Garbled`, and what the socket raises."""
        self._sock = sock
        self._rest = b""
        self._broken: OSError | None = None
        version, self.headers = self._first_head()
        self._chunked = "chunked" in self._said("transfer-encoding")
        length = None if self._chunked else self._announced()
        if method == "HEAD" or self.status in _NO_BODY:
            self._chunked, length = False, 0
        self.length = length
        connection = self._said("connection")
        keeps = "close" not in connection and (version != b"0" or "keep-alive" in connection)
        # Two ends of one body are nothing to go on behind: RFC 9112, 6.3.
        keeps = keeps and not (self._chunked and self.headers.get("content-length"))
        self.will_close = not keeps or (length is None and not self._chunked)
        # Bytes left in the body, or in the chunk: None where only the end of the connection tells.
        self._left: int | None = 0 if self._chunked else length
        self.ended = length == 0
        if self.ended:
            self._end()

    def readinto(self, buffer: memoryview) -> int:
        """Fill `buffer`, or 256 KiB of it at least; 0 when the body has ended, or the connection before it.

        There is less at the end of the body or of a chunk, and where a connection breaks off: what has arrived by then
        counts, and the next call raises.
        """
        if self.ended or not len(buffer):
            return 0
        if self._chunked and not self._left and not self._next_chunk():
            return 0
        left = self._left
        count = self._take(buffer if left is None or left >= len(buffer) else buffer[:left])
        if left is None:
            self.ended = not count
            return count
        if not count:
            if self._chunked:
                raise Garbled("a chunk broke off")
            self.will_close = True
            self.ended = True
            return 0
        self._left = left - count
        if self._chunked:
            if left == count:
                self._expect_line_end()
        elif left == count:
            self._end()
        return count

    def _said(self, name: str) -> str:
        return ",".join(self.headers.get_all(name)).lower()

    def _end(self) -> None:
        self.ended = True
        if self._rest:
            self.will_close = True  # bytes that nobody asked for: the next answer would begin with them

    def _first_head(self) -> tuple[bytes, Headers]:
        for _ in range(_MOST_HEADS):
            head = self._read_head()
            line, _, fields = head.partition(b"\n")
            first = _STATUS.match(line)
            if first is None:
                raise Garbled("no answer of HTTP/1.1", line + b"\n")
            self.status = int(first[2])
            if self.status >= 200 or self.status == 101:
                return first[1], Headers.parse(fields.decode("latin-1"))
        raise Garbled("no answer behind all that was said beforehand")

    def _read_head(self) -> bytes:
        data = self._rest
        judged = False
        while (end := _END_OF_HEAD.search(data)) is None:
            if not judged and (line := data.find(b"\n")) >= 0:
                # Who speaks another protocol may say no more before it has heard from us.
                if _STATUS.match(data[:line]) is None:
                    raise Garbled("no answer of HTTP/1.1", data[: line + 1])
                judged = True
            if len(data) > (_LONGEST_HEAD if judged else _LONGEST_LINE):
                raise Garbled("a head without end", data[:_LONGEST_LINE])
            try:
                more = self._sock.recv(_FIRST)
            except ssl.SSLEOFError:
                more = b""  # closed without TLS's own good-bye, as many servers do between two answers
            if not more:
                if data:
                    raise Garbled("the head broke off", b"" if judged else data)
                raise NoAnswer("closed without an answer")
            data += more
        self._rest = data[end.end() :]
        return data[: end.start()]

    def _announced(self) -> int | None:
        said = self.headers.get_all("content-length")
        if not said:
            return None
        length = whole_number(said[0])
        if length is None or any(other != said[0] for other in said):
            raise Garbled("a length that is none")
        return length

    def _take(self, buffer: memoryview) -> int:
        filled = min(len(buffer), len(self._rest))
        if filled:
            buffer[:filled] = self._rest[:filled]
            self._rest = self._rest[filled:]
        if self._broken is not None:
            raise self._broken
        # TLS gives 16 KiB at a time at most. Whoever hashes and writes wants larger pieces.
        receive, enough = self._sock.recv_into, min(len(buffer), _ENOUGH)
        while filled < enough:
            try:
                count = receive(buffer[filled:])
            except OSError as error:
                if not filled:
                    raise
                self._broken = error
                break
            if not count:
                break
            filled += count
        return filled

    def _next_chunk(self) -> bool:
        """Read the line before a chunk; False at the end mark, whose fields nobody needs."""
        size = _CHUNK.match(self._line())
        if size is None:
            raise Garbled("a chunk's size that is none")
        self._left = int(size[1], 16)
        if self._left:
            return True
        fields = 0
        while self._line():
            fields += 1
            if fields > _MOST_HEADS:
                raise Garbled("an end mark without end")
        self._end()
        return False

    def _expect_line_end(self) -> None:
        if self._line():
            raise Garbled("a chunk is longer than its size")

    def _line(self) -> bytes:
        while (end := self._rest.find(b"\n")) < 0:
            if len(self._rest) > _LONGEST_LINE:
                raise Garbled("a line without end")
            more = self._sock.recv(_FIRST)
            if not more:
                raise Garbled("the chunks broke off")
            self._rest += more
        line, self._rest = self._rest[:end], self._rest[end + 1 :]
        return line.removesuffix(b"\r")
