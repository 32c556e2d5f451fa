"""Hostile inputs out of good ones: seeds that real peers gave, with a few things wrong.

Blind changes (bits, cuts, repeats, splices) find what a parser does with noise; most of them end at its first line.  So
there are changes that know a form as well: of JSON every value may become another type, of an HTTP answer every header
another value, and what announces a length is put right again most of the time, so that the rest of it is looked at.
"""

import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

Change = Callable[[random.Random, bytes, Sequence[bytes]], bytes]

LONGEST: Final = 256 * 1024
"""Bytes of the longest input that is made: a larger one is a matter of limits, which have tests of their own."""
NEXT: Final = b"\n==== next ====\n"
"""What stands between the answers of a conversation."""

NASTY: Final = (
    b"\0",
    b"\r\n",
    b"\n",
    b"\r",
    b"\t",
    b" ",
    b"\x1b[2J\x1b]0;owned\x07",
    b"\x7f",
    b"\x85",
    b"\xb2",  # a superscript two: a digit to str.isdigit(), not to int()
    b"\xff\xfe",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    "\u2028".encode(),
    "\u202e".encode(),
    "\u0662".encode(),
    b"../",
    b"/../../etc/passwd",
    b"/",
    b"//",
    b".",
    b"..",
    b".syncer/complete.json",
    b"%00",
    b"%0d%0a",
    b"%2e%2e%2f",
    b"%",
    b"%s%n{0}{",
    b"-1",
    b"0",
    b"1e999",
    b"-1e999",
    b"NaN",
    b"Infinity",
    b"9223372036854775808",
    b"18446744073709551616",
    b"9" * 30,
    b"9" * 400,
    b"9" * 5000,
    b"0x10",
    b"1_000",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'""',
    b'"\\ud800"',
    b"\\u0000",
    b"'",
    b'"',
    b"<",
    b"&lt;",
    b"&#0;",
    b"]]>",
    b'<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>',
    b"&c;",
    b"*a",
    b"&a [*a,*a]",
    b"<<: *a",
    b"!!python/object/apply:os.system [id]",
    b"a" * 300,
    b"a/" * 300,
    b"A" * 5000,
    b"/" + b"h" * 5000,
    b"[" * 500,
    b'{"a":' * 500,
)


def mutate(rng: random.Random, seeds: Sequence[bytes], repaired: Callable[[bytes], bytes]) -> bytes:
    """One input: a seed with one to four changes; now and then the seed as it is, or nothing but noise.

    Most of the time it is `repaired`: sums are put right that would end the look at it before it has begun.
    """
    data = rng.choice(seeds)
    if (dice := rng.random()) < 0.005:
        return data
    if dice < 0.015:
        return rng.randbytes(rng.choice((1, 7, 64, 600)))
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        data = rng.choice(_CHANGES)(rng, data, seeds)[:LONGEST]
    return repaired(data) if rng.random() < 0.85 else data


def json_values(rng: random.Random) -> Any:
    """A value of any type, and seldom one that anybody expects."""
    return rng.choice(_VALUES)()


_DEEP_LIST: Final = "a list within lists"
_DEEP_DICT: Final = "an object within objects"
_VALUES: Final[tuple[Callable[[], Any], ...]] = (
    lambda: None,
    lambda: True,
    lambda: False,
    lambda: 0,
    lambda: -1,
    lambda: 2**31,
    lambda: 2**63,
    lambda: 2**64,
    lambda: 10**400,
    lambda: -(10**400),
    lambda: 0.5,
    lambda: 1e308,
    lambda: float("nan"),
    lambda: float("inf"),
    lambda: float("-inf"),
    lambda: "",
    lambda: " ",
    lambda: "0",
    lambda: "\x00",
    lambda: "\x1b[31m",
    lambda: "a\r\nb: c",
    lambda: "\ud800",
    lambda: "\udcff",
    lambda: "\u2028",
    lambda: "\u00b2",
    lambda: "..",
    lambda: "../../x",
    lambda: "/etc/passwd",
    lambda: "a//b",
    lambda: "x" * 5000,
    lambda: "a/" * 2100,
    lambda: "9" * 5000,
    lambda: "http://[",
    lambda: "http://a b/c",
    lambda: "https://" + "a" * 300 + ".example/",
    lambda: "file:///etc/passwd",
    list,
    dict,
    lambda: [None],
    lambda: [[]],
    lambda: [{}],
    lambda: ["a", 1],
    lambda: [["a", 1], [2, "b"]],
    lambda: {"a": None},
    lambda: {"": ""},
    lambda: {"id": [], "name": {}},
    lambda: [1] * 3000,
    lambda: _DEEP_LIST,
    lambda: _DEEP_DICT,
    lambda: {"a": _DEEP_LIST},
)


def _flip(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    if not data:
        return data
    changed = bytearray(data)
    for _bit in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _any_byte(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    if not data:
        return data
    changed = bytearray(data)
    changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _cut(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _take_out(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _span(rng, data)
    return data[:start] + data[end:]


def _repeat(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    start, end = _span(rng, data)
    most = max(1, LONGEST // max(1, end - start) // 4)
    return data[:end] + data[start:end] * min(most, rng.choice((1, 1, 2, 10, 1000))) + data[end:]


def _splice(rng: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    other = rng.choice(seeds)
    start, end = _span(rng, other)
    at = rng.randrange(len(data) + 1)
    return data[:at] + other[start:end] + data[at + rng.choice((0, end - start)) :]


def _insert(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(NASTY) + data[at:]


def _replace_word(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Another value for a word or a number of a text."""
    words = list(_WORD.finditer(data[:20_000]))
    if not words:
        return _insert(rng, data, ())
    word = rng.choice(words)
    return data[: word.start()] + rng.choice(NASTY) + data[word.end() :]


def _other_number(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    numbers = list(_NUMBER.finditer(data[:20_000]))
    if not numbers:
        return _any_byte(rng, data, ())
    number = rng.choice(numbers)
    known = int(number[0])
    other = rng.choice((known + 1, known - 1, known * 2, -known, 0, 2**31, 2**63, 2**64, 10**20, 10**400))
    return data[: number.start()] + str(other).encode() + data[number.end() :]


def _in_json(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """A value of a JSON document replaced, in an answer's body or in the whole of it."""
    answers = data.split(NEXT)
    index = rng.randrange(len(answers))
    head, blank, body = answers[index].partition(b"\r\n\r\n")
    if not blank:
        head, body = b"", answers[index]
    try:
        document = json.loads(body)
        changed = _deepened(rng, json.dumps(_changed(rng, document)).encode())
    except (ValueError, RecursionError):
        return _replace_word(rng, data, ())
    answers[index] = _with_length(rng, head, changed) if blank else changed
    return NEXT.join(answers)


def _deepened(rng: random.Random, text: bytes) -> bytes:
    """What stands for something nested, as deep as the parser just takes: whoever prints it needs as much again."""
    for name, opened, closed in ((_DEEP_LIST, b"[", b"]"), (_DEEP_DICT, b'{"a":', b"}")):
        depth = rng.choice((60, 500, rng.randrange(850, 1000)))
        text = text.replace(b'"%s"' % name.encode(), opened * depth + b"0" + closed * depth)
    return text


def _changed(rng: random.Random, document: Any) -> Any:
    """`document` with one value, or one name, another one."""
    holder: Any = document
    while isinstance(holder, dict | list) and holder:
        key = rng.choice(list(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
        if isinstance(holder[key], dict | list) and holder[key] and rng.random() < 0.8:
            holder = holder[key]
            continue
        match rng.randrange(5):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[rng.choice(("", "\ud800", "../x", "a\nb", "x" * 300))] = holder.pop(key)
            case _:
                holder[key] = json_values(rng)
        return document
    return json_values(rng)


def _in_headers(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """A header of an answer with another value, gone, twice, or very long."""
    answers = data.split(NEXT)
    index = rng.randrange(len(answers))
    head, blank, body = answers[index].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    if not blank or len(lines) < 2:
        return _replace_word(rng, data, ())
    at = rng.randrange(1, len(lines))
    name, colon, value = lines[at].partition(b": ")
    lines[at : at + 1] = rng.choice(
        (
            [],
            [lines[at]] * 2,
            [lines[at]] * 150,
            [name + colon + rng.choice(NASTY)],
            [name + colon + value + rng.choice(NASTY)],
            [name + colon + rng.choice(NASTY) * 200],
            [name.upper() + colon + value],
            [name + b":"],
            [lines[at], rng.choice(_HEADERS)],
        )
    )
    answers[index] = b"\r\n".join(lines) + blank + body
    return NEXT.join(answers)


def _other_status(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    answers = data.split(NEXT)
    index = rng.randrange(len(answers))
    answers[index] = _STATUS.sub(lambda found: found[1] + rng.choice(_STATUSES), answers[index], count=1)
    return NEXT.join(answers)


def _other_order(rng: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """The answers of a conversation in another order, or with those of another one among them."""
    answers = data.split(NEXT) + rng.choice(seeds).split(NEXT)
    rng.shuffle(answers)
    return NEXT.join(answers[: rng.randrange(1, len(answers) + 1)])


def _with_length(rng: random.Random, head: bytes, body: bytes) -> bytes:
    if rng.random() < 0.9:
        head = _LENGTH.sub(b"\\g<1>%d" % len(body), head)
    return head + b"\r\n\r\n" + body


def _measured(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """All lengths put right again."""
    answers = []
    for answer in data.split(NEXT):
        head, blank, body = answer.partition(b"\r\n\r\n")
        answers.append(_LENGTH.sub(b"\\g<1>%d" % len(body), head) + blank + body if blank else answer)
    return NEXT.join(answers)


def _span(rng: random.Random, data: bytes) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.choice((1, 2, 4, 16, 64, 512, 4096)))


_WORD: Final = re.compile(rb"[A-Za-z0-9_.:/+-]{1,200}")
_NUMBER: Final = re.compile(rb"(?<![A-Za-z0-9])\d{1,18}(?![A-Za-z0-9])")
_LENGTH: Final = re.compile(rb"(?i)(content-length: )\d+")
_STATUS: Final = re.compile(rb"(?s)\A(HTTP/1\.[01] )\d{1,3}")
_STATUSES: Final = tuple(
    b"100 200 201 202 204 206 301 302 304 307 400 401 403 404 405 409 412 416 429 500 501 503 507 999 0 42".split()
)
_HEADERS: Final = (
    b"Transfer-Encoding: chunked",
    b"Content-Encoding: gzip",
    b"Content-Range: bytes 0-99/100",
    b"Content-Range: bytes " + b"9" * 5000 + b"-1/*",
    b"Location: http://[::1",
    b"Location: //evil.example/x",
    b"Location: https://" + b"a" * 300 + b"/",
    b"Location: /x y",
    b'Link: <https://evil.example/next>; rel="next"',
    b"Retry-After: " + b"9" * 400,
    b"Retry-After: \xb2",
    b'RateLimit: "api";r=0;t=999999',
    b"WWW-Authenticate: Bearer " + b"a" * 60_000,
    b'WWW-Authenticate: Bearer realm="http://[",service="x"',
    b"x-amz-bucket-region: eu\r\n\tevil",
    b"x-amz-bucket-region: ../evil.example/",
    b'ETag: "\x1b[31m"',
    b"X-Repo-Commit: main",
    b"X-Error-Code: GatedRepo",
    b"Connection: close",
)
_CHANGES: Final[tuple[Change, ...]] = (
    _flip,
    _any_byte,
    _cut,
    _take_out,
    _repeat,
    _splice,
    _insert,
    _replace_word,
    _replace_word,
    _other_number,
    _in_json,
    _in_json,
    _in_json,
    _in_headers,
    _in_headers,
    _other_status,
    _other_order,
    _measured,
)
