"""What an upload tells the person who started it: lines on a terminal, events elsewhere, and a list of the result."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from typing import Any, Final

from syncer import logs
from syncer.logs import Event
from syncer.progress import printed_bytes
from syncer.redaction import redact

_MOST_LINES: Final = 1000


def say(event: Event, text: str, **fields: Any) -> None:
    """Tell a person `text`, and everybody else an event with `fields`."""
    if logs.on_terminal():
        for line in text.split("\n"):
            logs.tell(line)
    else:
        logs.logger(component="upload").info(event, message=text, **fields)


def as_list(rows: Sequence[tuple[str, int]], *, terminal: bool) -> str:
    """Paths and sizes in bytes: a table for a person, plain lines of size and path elsewhere."""
    shown, more = rows[:_MOST_LINES], len(rows) - _MOST_LINES
    end = [f"... and {more} more"] if more > 0 else []
    if not terminal:
        return "\n".join([f"{size:>15}  {redact(path)}" for path, size in shown] + end)
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("size", justify="right")
    table.add_column("file", overflow="fold")
    for path, size in shown:
        table.add_row(printed_bytes(size), Text(redact(path)))
    console = Console(file=io.StringIO(), width=shutil.get_terminal_size().columns, force_terminal=True)
    with console.capture() as captured:
        console.print(table)
    return "\n".join([line.rstrip() for line in captured.get().rstrip().splitlines()] + end)
