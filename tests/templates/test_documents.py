"""The documents name variables, files, flags and headings that there are."""

import re
from pathlib import Path

import pytest
import typer.main

from syncer.flags import app
from syncer.settings.variables import definitions
from tests.support.manifests import ROOT, TEMPLATES

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
VARIABLES = {definition.name for definition in definitions()}

_VARIABLE = re.compile(r"\b(?:S3_SYNC|HF|HUGGINGFACE|HUGGING_FACE)_[A-Z0-9_]*[A-Z0-9](?![A-Z0-9_*=…-]*[*…])")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_TEMPLATE = re.compile(r"job-templates/([\w/.-]+\.yaml)|(?<![\w/.-])((?:model-source|synchronize-model)[\w-]*\.yaml)")
_COMMAND = re.compile(r"(?:`|^ *(?:\$ )?)syncer ([a-z]+)(?![\w:])((?: +--?[a-z][\w-]*)*)", re.MULTILINE)

pytestmark = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def anchors(text: str) -> set[str]:
    """The headings of a document as GitHub turns them into anchors."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_variables_are_known(document: Path) -> None:
    named = set(_VARIABLE.findall(document.read_text(encoding="utf-8")))
    injected = {name for name in named if name.startswith(("S3_SYNC_SERVICE", "S3_SYNC_PORT"))}
    unknown = {name for name in named - injected if not {name, name.removesuffix("_FILE")} & VARIABLES}
    assert not {name for name in unknown if not any(known.startswith(f"{name}_") for known in VARIABLES)}


def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for link in _LINK.findall(text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path) if path else document
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


def test_templates_are_there(document: Path) -> None:
    for whole, name in _TEMPLATE.findall(document.read_text(encoding="utf-8")):
        assert (TEMPLATES / (whole or name)).is_file(), whole or name


def test_commands_and_their_flags_are_there(document: Path) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # a group, which Typer calls a command
    for name, flags in _COMMAND.findall(document.read_text(encoding="utf-8")):
        assert name in commands, name
        known = {
            option for parameter in commands[name].params for option in (*parameter.opts, *parameter.secondary_opts)
        }
        assert set(flags.split()) <= known, f"syncer {name}{flags}"
