"""What names a model on the Hugging Face Hub: pure, with the Hub's own rules for names.

Like those of `addresses.py` the functions raise `ValueError` with half a sentence, and never repeat what they get.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

_LONGEST_NAME: Final = 96
_LONGEST_REVISION: Final = 255
_FORM: Final = "must be owner/name as the model's page shows it, such as ibm-granite/granite-3.1-8b-instruct"
_PAGE: Final = re.compile(r"(?i)(?:https?://)?(?:www\.)?(?:huggingface|hf)\.co/+")
_ADDRESS: Final = re.compile(r"(?i)hf:")


@dataclass(frozen=True)
class Repository:
    """A repository of models, `owner/name` or a legacy name alone, and the revision that was named with it."""

    name: str
    revision: str = ""


def is_hub_address(text: str) -> bool:
    """Whether `text` says that it lies on the Hub."""
    return _ADDRESS.match(text) is not None


def parse_repository(text: str) -> Repository:
    """`owner/name[@revision]`, plain, as `hf://…` or as the URL of the model's page, which people paste."""
    if found := _PAGE.match(text):
        return _of_page(re.split(r"[?#]", text[found.end() :])[0])
    if is_hub_address(text):
        if not text[3:].startswith("//"):
            raise ValueError("must be hf://owner/name or hf://owner/name@revision")
        name, at, revision = text[5:].partition("@")
        return _checked(name, unquote(revision), named=bool(at))
    if "://" in text:
        raise ValueError(f"{_FORM}; a mirror of the Hub goes into HF_ENDPOINT")
    name, at, revision = text.partition("@")
    return _checked(name, revision, named=bool(at))


def parse_revision(text: str) -> str:
    """A branch, tag or commit, such as `main`, `refs/pr/1` or 40 hex digits, by git's rules for names."""
    forbidden = re.search(r"[\s~^:?*\[\\\x00-\x1f\x7f-\x9f\ufffd]|\.\.|@\{|//|/\.|\.lock(/|$)|[/.]$|^[-/.]", text)
    if not text or forbidden or len(text) > _LONGEST_REVISION:
        raise ValueError("must be a branch, a tag or a commit of the model, such as main")
    return text


def _of_page(path: str) -> Repository:
    parts = path.rstrip("/").split("/")
    if parts[0] in {"datasets", "spaces"}:
        raise ValueError("must be a model; data sets and spaces are none")
    where = next((index for index in (1, 2) if len(parts) == index + 2 and parts[index] == "tree"), 0)
    if where:
        return _checked("/".join(parts[:where]), unquote(parts[-1]), named=True)
    return _checked("/".join(parts), "", named=False)


def _checked(name: str, revision: str, *, named: bool) -> Repository:
    parts = name.removesuffix("/").split("/")
    if len(parts) > 2:
        raise ValueError(f"{_FORM}, with one slash; single files are chosen with HUGGINGFACE_ALLOW_PATTERNS")
    for part in parts:
        _check_part(part)
    if parts[-1].endswith(".git"):
        raise ValueError(f"{_FORM}, without .git at its end")
    return Repository("/".join(parts), parse_revision(revision) if named else "")


def _check_part(part: str) -> None:
    """The rules of the Hub's own client (`huggingface_hub.utils.validate_repo_id`), in plain ASCII."""
    if not re.fullmatch(r"[A-Za-z0-9._-]+", part):
        raise ValueError(f"{_FORM}: letters, digits, `-`, `_` and `.`")
    if part[0] in ".-" or part[-1] in ".-":
        raise ValueError(f"{_FORM}: neither part begins or ends with `-` or `.`")
    if "--" in part or ".." in part:
        raise ValueError(f"{_FORM}: neither part has `--` or `..` in it")
    if len(part) > _LONGEST_NAME:
        raise ValueError(f"{_FORM}: neither part is longer than {_LONGEST_NAME} characters")
