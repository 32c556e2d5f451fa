"""Answers taken apart, in whatever pieces they come."""

from __future__ import annotations

import http.client
import io
import socket
from collections.abc import Sequence
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.wire.response import Garbled, NoAnswer, Response

TWO = b"HTTP/1.1 200 OK\r\n"


class Pieces:
    """A socket that hands out its bytes in pieces of these lengths, and then all at once."""

    def __init__(self, data: bytes, lengths: Sequence[int] = ()) -> None:
        self.left = data
        self._lengths = list(lengths)

    def recv(self, bufsize: int) -> bytes:
        count = min(bufsize, self._lengths.pop(0) if self._lengths else bufsize)
        data, self.left = self.left[:count], self.left[count:]
        return data

    def recv_into(self, buffer: memoryview) -> int:
        data = self.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def read(data: bytes, lengths: Sequence[int] = (), *, method: str = "GET", piece: int = 7) -> tuple[Response, bytes]:
    response = Response(Pieces(data, lengths), method=method)
    body, view = bytearray(), memoryview(bytearray(piece))
    while count := response.readinto(view):
        body += view[:count]
    return response, bytes(body)


_NAMES = st.sampled_from(["ETag", "X-Thing", "x-thing", "Last-Modified", "Content-Type"])
_VALUES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_categories=["Cc"]), max_size=12)
_BODIES = st.binary(max_size=60)
_ENDS = st.sampled_from(["\r\n", "\n"])


@given(
    st.lists(st.tuples(_NAMES, _VALUES), max_size=5),
    _BODIES,
    st.booleans(),
    _ENDS,
    st.lists(st.integers(1, 40), max_size=12),
    st.sampled_from(["GET", "HEAD"]),
)
def test_an_answer_is_what_the_standard_library_takes_it_for(
    fields: list[tuple[str, str]], body: bytes, chunked: bool, end: str, lengths: list[int], method: str
) -> None:
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    head = end.join(["HTTP/1.1 206 Fine", *(f"{name}: {value}" for name, value in fields), framing, "", ""])
    chunks = [body[at : at + 9] for at in range(0, len(body), 9)]
    sent = b"".join(b"%x;a=b\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nX: y\r\n\r\n"
    data = head.encode("latin-1") + ((sent if chunked else body) if method == "GET" else b"")

    theirs = http.client.HTTPResponse(cast("socket.socket", _File(data)), method=method)
    theirs.begin()
    ours, content = read(data, lengths, method=method)
    assert (ours.status, content) == (206, theirs.read())
    assert [ours.headers.get(name.upper()) for name, _ in fields] == [theirs.headers[name] for name, _ in fields]
    assert ours.headers.get_all("X-Thing") == (theirs.headers.get_all("X-Thing") or [])
    assert not ours.will_close
    assert ours.length == (0 if method == "HEAD" else None if chunked else len(body))


class _File:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(cast("io.RawIOBase", io.BytesIO(self._data)))


@pytest.mark.parametrize(
    ("head", "closes"),
    [
        (TWO + b"Content-Length: 2\r\n\r\n", False),
        (TWO + b"Content-Length: 2\r\nConnection: Close\r\n\r\n", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n", True),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n", False),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nA: b\r\n\r\n" + TWO + b"Content-Length: 2\r\n\r\n",
            False,
        ),
        (TWO + b"\r\n", True),
        (TWO + b"X-Long: a\r\n b\r\nno field at all\r\nContent-Length: 2\r\n\r\n", False),
        (TWO + b"Connection: keep-alive\r\nConnection: close\r\nContent-Length: 2\r\n\r\n", True),
    ],
)
def test_how_long_a_connection_lasts(head: bytes, closes: bool) -> None:
    response, body = read(head + b"ab")
    assert (response.status, body, response.will_close) == (200, b"ab", closes)


def test_chunks_are_chunks_whatever_else_is_said_of_the_body() -> None:
    """By RFC 9112, 6.3; who says a length too may mean another end than we do."""
    chunks = b"2\r\nab\r\n0\r\n\r\n"
    for length in (b"2", b"9"):
        response, body = read(TWO + b"Content-Length: " + length + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
        assert (body, response.length, response.will_close) == (b"ab", None, True)
    twice = TWO + b"Transfer-Encoding: identity\r\nTransfer-Encoding: Chunked\r\n\r\n"
    assert read(twice + chunks)[1] == b"ab"


def test_bytes_behind_an_answer_cost_the_connection() -> None:
    """Else they would be taken for the beginning of the next one."""
    assert read(TWO + b"Content-Length: 2\r\n\r\nab" + TWO)[0].will_close
    assert read(TWO + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\nHTTP")[0].will_close
    assert read(TWO + b"Content-Length: 5\r\n\r\nabcde", method="HEAD")[0].will_close


def test_an_early_end_is_seen() -> None:
    response, body = read(TWO + b"Content-Length: 5\r\n\r\nab")
    assert (body, response.length, response.ended, response.will_close) == (b"ab", 5, True, True)


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 2000 x\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"I\0\0\0\n8.0\0",
        b"x" * 70_000,
        TWO + b"A: b\r\n" * 60_000,
        TWO + b"A: b",
        TWO + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        TWO + b"Content-Length: -5\r\n\r\nabcdef",
        TWO + "Content-Length: \xb2\r\n\r\nabcdef".encode("latin-1"),
        b"HTTP/1.1 100 Continue\r\n\r\n" * 200,
        *(
            TWO + b"Transfer-Encoding: chunked\r\n\r\n" + body
            for body in (
                b"x\r\n",
                b"-1\r\na",
                b"0x2\r\nab\r\n",
                b"2\r\nabc\r\n",
                b"2\r\nab",
                b"2\r\na",
                b"2\r\nab\r\n",
                b"f" * 16 + b"\r\n",
                b"1" * 70_000,
                b"0\r\n" + b"a: b\r\n" * 200,
            )
        ),
    ],
)
def test_what_makes_no_sense_is_refused(data: bytes) -> None:
    with pytest.raises(Garbled):
        read(data)


def test_silence_is_no_answer() -> None:
    with pytest.raises(NoAnswer):
        read(b"")


class BreaksOnce(Pieces):
    """Fails the third time that it is asked, and goes on as if nothing had been."""

    def recv(self, bufsize: int) -> bytes:
        if len(self._lengths) == 1:
            self._lengths.clear()
            raise TimeoutError
        return super().recv(bufsize)


def test_what_came_before_a_break_counts_and_nothing_after_it() -> None:
    response = Response(BreaksOnce(TWO + b"Content-Length: 10\r\n\r\n0123456789", [41, 4, 0]), method="GET")
    view = memoryview(bytearray(10))
    assert response.readinto(view) == 6
    assert bytes(view[:6]) == b"012345"
    with pytest.raises(TimeoutError):
        response.readinto(view)
