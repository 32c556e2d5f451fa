"""What a model says of itself: the head of its model card (README.md) and its `config.json`.  Pure, and suspicious.

The head is the YAML that the Hugging Face Hub reads (huggingface.co/docs/hub/model-cards); whatever source a model
comes from, the card travels with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from syncer.claims import from_json

CARD: Final = "README.md"
CONFIG: Final = "config.json"
LONGEST: Final = 1024 * 1024
"""Bytes of a file that is looked at; a larger one is no card and no configuration."""

_LONGEST_HEAD: Final = 16 * 1024
_MOST_BRACKETS: Final = 200
"""Bounds of what the YAML parser is given: nesting takes it the square of its depth."""
_FIELDS: Final = frozenset({
    "license", "license_name", "base_model", "library_name", "pipeline_tag", "language", "tags",
})  # fmt: skip
_FIELD: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*) *:")
_LONGEST_TEXT: Final = 200
_LONGEST_DESCRIPTION: Final = 600
_MOST_TAGS: Final = 40
_HEAD: Final = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_NO_PROSE: Final = re.compile(r"[#<!|>\-`=\[]|\d+\.")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_NOTHING: Final = frozenset({"", "~", "null", "Null", "NULL"})


@dataclass(frozen=True)
class Card:
    """What is known; everything may be empty.  `quantization` is the method of weights that are compressed."""

    license: str = ""
    base_model: str = ""
    library: str = ""
    task: str = ""
    language: str = ""
    tags: tuple[str, ...] = ()
    description: str = ""
    quantization: str = ""

    def texts(self) -> dict[str, str]:
        """What goes into custom properties, by the Hub's own names."""
        found = {
            "license": self.license,
            "base_model": self.base_model,
            "library_name": self.library,
            "pipeline_tag": self.task,
            "language": self.language,
            "quantization": self.quantization,
        }
        return {name: text for name, text in found.items() if text}


def read_card(readme: bytes = b"", config: bytes = b"") -> Card:
    """The card of the two files; what cannot be understood is empty."""
    text = readme.decode("utf-8", errors="replace").replace("\r\n", "\n")
    head, rest = _head(text)
    name = _one(head.get("license"))
    return Card(
        license=_one(head.get("license_name")) or name if name == "other" else name,
        base_model=", ".join(_several(head.get("base_model"))),
        library=_one(head.get("library_name")),
        task=_one(head.get("pipeline_tag")),
        language=", ".join(_several(head.get("language"))),
        tags=tuple(dict.fromkeys(_several(head.get("tags"))))[:_MOST_TAGS],
        description=next(_paragraphs(rest), ""),
        quantization=_quantization(config),
    )


def _head(text: str) -> tuple[dict[str, Any], str]:
    found = _HEAD.match(text)
    if found is None:
        return {}, text
    rest = text[found.end() :]
    ours = _our_lines(found[1])
    if len(ours) > _LONGEST_HEAD or ours.count("[") + ours.count("{") > _MOST_BRACKETS:
        return {}, rest
    import yaml

    try:
        # Every scalar as it is written (`no` is Norwegian), no tag is acted upon, and no merge key: a few hundred bytes
        # of those keep `safe_load` busy for ever.
        head = yaml.load(ours, Loader=yaml.BaseLoader)  # noqa: S506 - knows nothing but texts, lists and mappings
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}, rest
    return (head if isinstance(head, dict) else {}), rest


def _our_lines(head: str) -> str:
    """The lines of the fields that we read: the results of benchmarks in others can be hundreds of kilobytes."""
    kept, ours = [], False
    for line in head.split("\n"):
        if field := _FIELD.match(line):
            ours = field[1] in _FIELDS
        if ours:
            kept.append(line)
    return "\n".join(kept)


def _one(value: object) -> str:
    return next(iter(_several(value)), "")


def _several(value: object) -> list[str]:
    """Texts alone: anything nested may be endless."""
    values = value if isinstance(value, list) else [value]
    texts = (_CONTROL.sub(" ", each).strip() for each in values[:1000] if isinstance(each, str))
    return [text[:_LONGEST_TEXT] for text in texts if text not in _NOTHING]


def _paragraphs(text: str) -> Iterator[str]:
    """Prose, one line each: no headings, lists, tables, pictures or code."""
    fenced = False
    for block in re.split(r"\n\s*\n", text):
        if block.count("```") % 2:
            fenced = not fenced
            continue
        line = " ".join(block.split())
        if not fenced and line and not _NO_PROSE.match(line):
            yield _CONTROL.sub(" ", line)[:_LONGEST_DESCRIPTION]


def configuration(config: bytes) -> dict[str, Any]:
    """What the model's `config.json` says; empty where it is none."""
    try:
        document = from_json(config) if config else {}
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _quantization(config: bytes) -> str:
    found = configuration(config).get("quantization_config")
    if not isinstance(found, dict):
        return ""
    return _one(found.get("quant_method")) or "unknown"
