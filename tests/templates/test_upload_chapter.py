"""docs/upload.md names the options of `syncer upload` and the variables of hack/upload.sh, and no others."""

import re

import typer.main

from syncer.flags import app
from tests.support.manifests import ROOT

CHAPTER = (ROOT / "docs" / "upload.md").read_text(encoding="utf-8")
SCRIPT = (ROOT / "hack" / "upload.sh").read_text(encoding="utf-8")


def rows() -> set[str]:
    """What stands in backticks in the first column of the chapter's tables."""
    firsts = re.findall(r"^\| (`.*?`) \|", CHAPTER, re.MULTILINE)
    return {word for cell in firsts for word in re.findall(r"`([^`]+)`", cell)}


def test_every_option_is_there() -> None:
    upload = typer.main.get_command(app).commands["upload"]  # type: ignore[attr-defined]  # a group, for type checkers a command
    known = {option for parameter in upload.params for option in (*parameter.opts, *parameter.secondary_opts)}
    named = {row.split()[0] for row in rows() if row.startswith("-")}
    assert {"--namespace", "--secret", "--finish", "--wait"} <= named <= known


def test_every_variable_of_the_script_is_there_and_told() -> None:
    told = set(re.findall(r"^#   ([A-Z][A-Z_]+) ", SCRIPT, re.MULTILINE))
    named = {row for row in rows() if re.fullmatch(r"[A-Z][A-Z_]+", row)} - {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"}
    assert named == told
    assert all(f"${{{name}:-" in SCRIPT for name in named)
