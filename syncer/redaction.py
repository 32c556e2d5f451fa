"""Keeps secrets out of everything that leaves this process as text.

Three nets, in this order: the values that were registered (also in the forms that they take inside URLs, headers and
JSON), text that by its form is a secret (signed query strings, authorization headers, `password=…`), and fields whose
name says that they are one.  What comes out is safe for a terminal too: control characters are written as escapes, so
that no remote name can forge a log line.

Refuses to know where the text goes, and never raises for what it is given.
"""

from __future__ import annotations

import base64
import html
import json
import math
import re
import threading
import urllib.parse
from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

MASK: Final = "***"
SHORTEST_IN_TEXT: Final = 4
"""Registered values shorter than this are hidden only where they are a whole field: inside text they are everywhere."""

_SHORTEST_BASE64_CORE: Final = 8
_DEEPEST: Final = 8
_LARGEST_NUMBER: Final = 2**63

_GAP: Final = re.compile(r"(?:\s|\\[rnt])+")
"""White space, as it is and as a `repr` shows it."""
_SHORTEST_WITH_GAPS: Final = 8
_ESCAPED_IN_JSON: Final = re.compile("[<>&'=]")
_SIGNED_QUERY: Final = re.compile(
    r"(?i)\b(X-Amz-(?:Signature|Credential|Security-Token)|AWSAccessKeyId|Signature|sig|Credential)(=|%3D)"
    r"[^&\s,;\"'<>\\]+"
)
_HEADER: Final = re.compile(
    r"(?i)\b((?:proxy-)?authorization|x-amz-security-token|x-auth-token|x-amz-signature|cookie|set-cookie)"
    r"(?P<join>[\"']?\s*[:=]\s*)(?:b?(?P<quote>[\"']).*?(?P=quote)|[^\r\n\"'}]+)"
)
_SCHEME: Final = re.compile(r"\b(Bearer|Basic|bearer|basic)\s+(?=\S*[0-9=+/._~-])[\w.~+/=-]{8,}")
_SIGV4_DEBUG: Final = re.compile(r"(?i)\b(signature)([\"']?\s*[:=]\s*b?[\"']?)[0-9a-f]{64}\b")
# Every repetition below is either anchored or bounded: a long line of somebody else's must not cost quadratic time.
_URL_USER: Final = re.compile(r"(?i)\b([a-z][a-z0-9+.-]{1,20}://)[^/\s@\"'<>]+@")
_NAMES: Final = (
    r"(?:secret|secret[_-]?(?:access[_-]?)?key|pass(?:word|wd|code|phrase)"
    r"|(?:access|refresh|session|security|id)?[_-]?token"
    r"|api[_-]?key|access[_-]?key(?:[_-]?id)?|private[_-]?key|client[_-]?secret|identitytoken)"
)
_ASSIGNMENT: Final = re.compile(
    r"(?i)(" + _NAMES + r")(?:(?P<assign>=)(?P<q1>[\"']?)[^\s\"'&,;}]+(?P=q1)"
    r"|(?P<colon>[\"']\s*:\s*)b?(?P<q2>[\"'])(?:\\.|(?!(?P=q2)).)+(?P=q2))"
)
_ELEMENT: Final = re.compile(r"(?i)<((?:\w{1,20}:)?" + _NAMES + r")>[^<]+(?=</)")
"""What issues keys answers in XML, and its library logs that before anybody knows them."""
_SECRET_NAME: Final = re.compile(
    r"(?:.*[_-])?(?:" + _NAMES + r"|authorization|signature|credentials?|cookie)|x-amz-credential", re.IGNORECASE
)
_NEEDED: Final = re.compile(r"[:=%<\\\s]")
"""Without one of these none of the patterns above, `_SECRET_NAME` aside, finds anything, and there are no gaps."""
# C0, DEL, C1, line and paragraph separators, bidirectional overrides: they move the cursor or the reader's eye.
_CONTROL: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_SHORT_ESCAPES: Final = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


class Redactor:
    """A set of registered secrets and the ways to hide them; safe from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: frozenset[str] = frozenset()
        self._forms: tuple[str, ...] = ()
        self._joined: frozenset[str] = frozenset()

    def register(self, values: Iterable[str]) -> None:
        """Hide each of `values` from now on, also url-encoded, base64-encoded and escaped; empty ones are nothing."""
        with self._lock:
            new = {value for value in values if value} - self._values
            forms = {form for value in new if len(value) >= SHORTEST_IN_TEXT for form in _forms(value)}
            # Longest first: a secret that begins with another one must not leave its tail behind.  No one pattern of
            # all: renewed tokens come one by one, and each would cost the compilation of all that came before.
            self._forms = tuple(sorted({*self._forms, *forms}, key=lambda form: (-len(form), form)))
            joined = map(_without_gaps, forms)
            self._joined |= {form for form in joined if len(form) >= _SHORTEST_WITH_GAPS}
            self._values |= new

    def text(self, text: str) -> str:
        """`text` on one line, without secrets and without control characters."""
        return escape_controls(self.hide(text))

    def hide(self, text: str) -> str:
        """`text` without secrets; line breaks stay."""
        if text in self._values:
            return MASK
        for form in self._forms:
            text = text.replace(form, MASK)
        if not _NEEDED.search(text):
            return text  # most names and numbers, and a plan has hundreds of thousands of them
        text = self._across_gaps(text)
        text = _URL_USER.sub(rf"\1{MASK}@", text)
        text = _HEADER.sub(lambda found: f"{found[1]}{found['join']}{MASK}", text)
        text = _SIGNED_QUERY.sub(rf"\1\2{MASK}", text)
        text = _SIGV4_DEBUG.sub(rf"\1\2{MASK}", text)
        text = _SCHEME.sub(rf"\1 {MASK}", text)
        text = _ELEMENT.sub(rf"<\1>{MASK}", text)
        return _ASSIGNMENT.sub(lambda found: f"{found[1]}{found['assign'] or found['colon']}{MASK}", text)

    def _across_gaps(self, text: str) -> str:
        """`text` without the secrets that somebody has written with white space in them.

        A header's value may go on in the next line (RFC 9112, 5.2), and whoever reads it may make a space of that.
        """
        joined = _without_gaps(text)
        if len(joined) == len(text):
            return text
        found = [form for form in self._joined if form in joined]
        if not found:
            return text
        gaps = {place for gap in _GAP.finditer(text) for place in range(*gap.span())}
        places = [place for place in range(len(text)) if place not in gaps]  # where each letter of `joined` was
        hidden = [False] * len(text)
        for form in found:
            at = joined.find(form)
            while at >= 0:
                first, last = places[at], places[at + len(form) - 1]
                hidden[first : last + 1] = [True] * (last + 1 - first)
                at = joined.find(form, at + len(form))
        runs = groupby(zip(text, hidden, strict=True), key=itemgetter(1))
        return "".join(MASK if secret else "".join(letter for letter, _ in run) for secret, run in runs)

    def value(self, value: Any, *, name: str = "", depth: int = 0) -> Any:
        """`value` as something that JSON can hold, redacted all the way down; `name` is the field that holds it."""
        if value is None or isinstance(value, bool) or value == "":
            return value
        if name and is_secret_name(name):
            return MASK
        if isinstance(value, int | float):
            # A passcode may well be a number; most numbers are not passcodes.  JSON knows no infinity, and Python
            # prints no number of thousands of digits.
            printed = _printed(value)
            plain = abs(value) <= _LARGEST_NUMBER if isinstance(value, int) else math.isfinite(value)
            return value if plain and self.hide(printed) == printed else self.hide(printed)
        if isinstance(value, str):
            return self.text(value)
        if depth >= _DEEPEST:
            return "…"
        if isinstance(value, Mapping):
            return {
                self.text(str(key)): self.value(inner, name=str(key), depth=depth + 1) for key, inner in value.items()
            }
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value(inner, depth=depth + 1) for inner in value]
        return self.text(_printed(value))


def is_secret_name(name: str) -> bool:
    """Whether a field of this name holds a secret, whatever its value is."""
    return _SECRET_NAME.fullmatch(name) is not None


def escape_controls(text: str) -> str:
    """`text` on one line: control characters, overrides of direction and lone surrogates as visible escapes."""
    return _CONTROL.sub(_escaped, text)


def register_secrets(values: Iterable[str]) -> None:
    """Hide each of `values` in all that this process says from now on."""
    _OF_THIS_PROCESS.register(values)


def redact(text: str) -> str:
    """`text` on one line, without secrets and without control characters."""
    return _OF_THIS_PROCESS.text(text)


def redact_lines(text: str) -> str:
    """`text` of several lines, without secrets; every line without control characters."""
    return "\n".join(escape_controls(line) for line in _OF_THIS_PROCESS.hide(text).split("\n"))


def quoted(text: str, most: int) -> str:
    """Somebody else's words for a message of ours: redacted, on one line, and only then cut to `most` characters.

    The other way round the beginning of a secret would stay, which nobody knows again.
    """
    return escape_controls(" ".join(_OF_THIS_PROCESS.hide(text).split()))[:most]


def redact_value(value: Any, *, name: str = "") -> Any:
    """`value` as something that JSON can hold, redacted all the way down."""
    return _OF_THIS_PROCESS.value(value, name=name)


_OF_THIS_PROCESS: Final = Redactor()


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    code = ord(character)
    return _SHORT_ESCAPES.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def _printed(value: object) -> str:
    try:
        # Exceptions say more by their type and text than by their repr; both come from foreign code and may fail.
        return f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else str(value)
    except Exception:  # noqa: BLE001 - a log line must not end a run because some foreign __str__ is broken
        return f"<{type(value).__name__}>"


def _forms(value: str) -> set[str]:
    """How a secret may look once somebody has put it into a URL, a header, JSON, a repr or a log line."""
    raw = value.encode("utf-8", "surrogatepass")
    forms = {
        value,
        value.strip(),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
        repr(raw)[2:-1],
        escape_controls(value),
        html.escape(value),
        html.escape(value, quote=False),
    }
    # Others escape more in JSON than it asks for: PHP the slash, Go and Java what HTML might take for its own.
    for text in (json.dumps(value)[1:-1], json.dumps(value)[1:-1].replace("/", r"\/")):
        in_go = re.sub("[<>&]", _code_of, text)
        in_java = _ESCAPED_IN_JSON.sub(_code_of, text)
        forms |= {text, in_go, in_java, *(repr(each)[1:-1] for each in (text, in_go, in_java))}
    for safe in ("", "/", "/~", "-_.~"):
        quoted = urllib.parse.quote(raw, safe=safe)
        forms |= {quoted, urllib.parse.quote_plus(raw, safe=safe), re.sub("%..", lambda code: code[0].lower(), quoted)}
    forms |= _base64_forms(raw)
    return {form for form in forms if len(form) >= SHORTEST_IN_TEXT}


def _without_gaps(text: str) -> str:
    """What `_GAP` leaves, without a pattern: every line of the log pays for it."""
    for escape in (r"\r", r"\n", r"\t"):
        text = text.replace(escape, " ")
    return "".join(text.split())


def _code_of(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _base64_forms(raw: bytes) -> set[str]:
    """The secret alone in base64, and the letters that it always leaves inside a longer text, at each of 3 offsets."""
    forms = set()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        alone = encode(raw).decode()
        forms |= {alone, alone.rstrip("=")}
        for offset in range(3):
            # The first and the last letter may hold bits of the neighbours.
            first = -(-offset * 8 // 6)
            last = (offset + len(raw)) * 8 // 6
            core = encode(b"\0" * offset + raw).decode()[first:last]
            if len(core) >= _SHORTEST_BASE64_CORE:
                forms.add(core)
    return forms
