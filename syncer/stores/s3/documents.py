"""S3's XML: what is said in it, and what is read out of it.

Answers come from strangers.  A document has no type and so no entities of its own, whatever encoding it is in, and only
two levels of it mean anything: the fields of the answer, and the fields of its records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final
from xml.parsers import expat

NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"
_ESCAPES: Final = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#xD;", "\n": "&#xA;", "\t": "&#x9;"}
)

_DEEPEST: Final = 32
"""Elements inside of each other, many more than any answer has: some millions of them would take a gigabyte."""

Fields = dict[str, str]
Take = Callable[[str, Fields], None]
"""Is given each record as it ends: its name and its fields, which are overwritten afterwards."""


class Senseless(ValueError):
    """No document of S3's."""


@dataclass(frozen=True, slots=True)
class Document:
    """`root` is the outermost element, empty where there was no document at all."""

    root: str
    fields: Fields

    def field(self, name: str) -> str:
        """The text of a field of the answer itself, empty where it has none."""
        return self.fields.get(name, "").strip()


def read(content: bytes, take: Take | None = None) -> Document:
    """Take an answer apart; raises `Senseless`, and what `take` raises.

    Of what is repeated the first counts.  A field of the answer itself is also given to `take`, as a record of nothing.
    """
    root = text = ""
    fields: Fields = {}
    record: Fields = {}
    depth = 0

    def start(name: str, _attributes: object) -> None:
        nonlocal depth, text, root
        root = root or name
        depth += 1
        if depth > _DEEPEST:
            raise Senseless("nested too deeply")
        text = ""

    def data(more: str) -> None:
        nonlocal text
        text += more

    def end(name: str) -> None:
        nonlocal depth, text
        depth -= 1
        name = _local(name)
        if depth == 2:
            record.setdefault(name, text)
        elif depth == 1:
            fields.setdefault(name, text)
            if take is not None:
                take(name, record)
            record.clear()
        text = ""

    if content:
        _parse(content, start, data, end)
    return Document(_local(root), fields)


def _parse(
    content: bytes, start: Callable[[str, object], None], data: Callable[[str], None], end: Callable[[str], None]
) -> None:
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler, parser.CharacterDataHandler, parser.EndElementHandler = start, data, end
    parser.StartDoctypeDeclHandler = _refuse_type
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise Senseless(f"no XML: {expat.ErrorString(error.code)}") from error


def _refuse_type(*_: object) -> None:
    raise Senseless("a page for people")


def _local(name: str) -> str:
    """A name without the prefix of its namespace."""
    return name.rpartition(":")[2] if ":" in name else name


def completion(etags: Iterable[str]) -> bytes:
    """What CompleteMultipartUpload says: the parts in their order."""
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;{escaped(etag)}&quot;</ETag></Part>"
        for number, etag in enumerate(etags, 1)
    )
    return f'<CompleteMultipartUpload xmlns="{NAMESPACE}">{parts}</CompleteMultipartUpload>'.encode()


def deletion(keys: Iterable[str]) -> bytes:
    """What DeleteObjects says; it answers with what it could not delete."""
    objects = "".join(f"<Object><Key>{escaped(key)}</Key></Object>" for key in keys)
    return f'<Delete xmlns="{NAMESPACE}"><Quiet>true</Quiet>{objects}</Delete>'.encode()


def escaped(text: str) -> str:
    """Text as it stands in an element, with the line breaks that a parser would change."""
    return text.translate(_ESCAPES)
