"""Writes the parts of the documentation that follow from code: the variables, the exit codes, the metrics.

A generated part lies between `<!-- generated: NAME -->` and `<!-- /generated -->` in one of the files below; what
stands between the two is replaced.  `--check` changes nothing and exits 1 when a file is stale, for CI.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from syncer import errors
from syncer.metrics import METRICS
from syncer.settings.variables import Definition, definitions

ROOT = Path(__file__).resolve().parent.parent
FILES = ("README.md", "docs/metrics.md", "docs/settings.md", "docs/troubleshooting.md")
FINAL = frozenset({os.EX_CONFIG, os.EX_NOPERM, os.EX_NOINPUT, os.EX_DATAERR, os.EX_CANTCREAT})
"""What a Job's `podFailurePolicy` fails at once; a test of the templates holds them to the same."""

MARKED = re.compile(r"(<!-- generated: (?P<name>[a-z-]+) -->\n).*?(<!-- /generated -->)", re.DOTALL)


def settings_table() -> str:
    """Every variable, section by section."""
    return _sections(definitions())


def exit_code_table() -> str:
    """Every exit code, with the reasons that a termination message gives for it; 0 is success."""
    rows = [
        "| code | name | reason | what happened | the Job |",
        "|---|---|---|---|---|",
        "| 0 | `EX_OK` | | done, or nothing to do | is complete |",
    ]
    by_code: dict[int, list[type[errors.SyncerError]]] = {}
    for kind in _kinds(errors.SyncerError):
        by_code.setdefault(kind.exit_code, []).append(kind)
    for code in sorted(by_code, key=lambda each: (each not in FINAL, each)):
        reasons = ", ".join(dict.fromkeys(f"`{kind.reason}`" for kind in by_code[code]))
        summary = "; ".join(dict.fromkeys(_cell(kind.summary) for kind in by_code[code]))
        rows.append(
            f"| {code} | {_name(code)} | {reasons} | {summary} | {'fails' if code in FINAL else 'tries again'} |"
        )
    return "\n".join(rows) + "\n\n"


def metrics_table() -> str:
    """Every metric, in the order in which they are told."""
    rows = ["| metric | kind | labels | what it is |", "|---|---|---|---|"]
    rows += [
        f"| `{each.name}` | {each.kind} | {', '.join(each.labels)} | {_cell(each.about)} |" for each in METRICS.values()
    ]
    return "\n".join(rows) + "\n\n"


PARTS: dict[str, Callable[[], str]] = {
    "settings": settings_table,
    "exit-codes": exit_code_table,
    "metrics": metrics_table,
}


def renewed(text: str) -> str:
    """`text` with every generated part written anew; KeyError for a part that nobody knows."""
    return MARKED.sub(lambda found: f"{found[1]}{PARTS[found['name']]()}{found[3]}", text)


def main(arguments: list[str]) -> int:
    """Write, or with `--check` compare; the exit code."""
    check = arguments == ["--check"]
    if arguments and not check:
        print("usage: generate_docs.py [--check]", file=sys.stderr)
        return os.EX_USAGE
    stale = []
    for path in (ROOT / name for name in FILES):
        if not path.exists():
            continue
        text = path.read_text(encoding="utf-8")
        if (new := renewed(text)) != text:
            stale.append(str(path.relative_to(ROOT)))
            if not check:
                path.write_text(new, encoding="utf-8")
    for name in stale:
        print(f"{name} is stale: run `make docs`" if check else f"{name} is written anew")
    return 1 if check and stale else 0


def _sections(chosen: Iterable[Definition]) -> str:
    lines = []
    for section, rows in itertools.groupby(chosen, key=lambda definition: definition.section):
        lines += [f"### {section}", "", "| variable | form | default | meaning |", "|---|---|---|---|"]
        lines += [
            f"| `{row.name}` | {row.form} | {f'`{row.default}`' if row.default else ''} | {_cell(row.description)} |"
            for row in rows
        ]
        lines.append("")
    return "\n".join(lines) + "\n"


def _kinds(kind: type[errors.SyncerError]) -> Iterator[type[errors.SyncerError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)


def _name(code: int) -> str:
    return next((f"`{name}`" for name in sorted(dir(os)) if name.startswith("EX_") and getattr(os, name) == code), "")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
