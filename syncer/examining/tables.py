"""Findings for people and for programs: one table, or JSON."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from syncer.redaction import redact

if TYPE_CHECKING:
    from syncer.examining.findings import Finding

_STYLES: Final = {"ok": "green", "failed": "bold red", "skipped": "dim"}


def as_json(findings: Sequence[Finding], *, exit_code: int) -> str:
    """An object with `exit_code`, which is that of the first failure, and `steps`, a row each, redacted."""
    steps = [
        {
            "step": finding.step,
            "at": redact(finding.at),
            "result": finding.verdict,
            "seen": redact(finding.seen),
            "hint": redact(finding.hint),
            "exit_code": finding.exit_code,
        }
        for finding in findings
    ]
    return json.dumps({"exit_code": exit_code, "steps": steps}, ensure_ascii=False, indent=2)


def as_table(findings: Sequence[Finding], *, width: int = 0, colours: bool = True) -> str:
    """One table as wide as the terminal, redacted; what to do stands below what was seen."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("step", "at", "result", "seen"):
        table.add_column(title, overflow="fold")
    for finding in findings:
        seen = Text(redact(finding.seen))
        if finding.hint:
            seen.append(f"\n→ {redact(finding.hint)}", style="italic")
        verdict = Text(finding.verdict, style=_STYLES[finding.verdict])
        table.add_row(finding.step, Text(redact(finding.at)), verdict, seen)
    console = Console(
        file=io.StringIO(),
        width=width or shutil.get_terminal_size().columns,
        force_terminal=colours,
        no_color=not colours,
    )
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().rstrip().splitlines())
