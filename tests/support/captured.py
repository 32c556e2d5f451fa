"""What was logged, as values, whatever the logs are set to."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from syncer import logs


@contextmanager
def capture_logs() -> Iterator[list[dict[str, Any]]]:
    """Every event as its fields with `event` and `log_level`; nothing is written meanwhile."""
    said: list[dict[str, Any]] = []

    def note(level: str, event: str, fields: dict[str, Any]) -> None:
        said.append({**fields, "event": event, "log_level": level})

    with mock.patch.object(logs, "_say", note):
        yield said


def forget_logs() -> None:
    """As if nobody had configured them."""
    state = logs._State
    state.terminal, state.level, state.lines, state.render = False, 10, logs._Lines(None), logs._json_line
