"""What every error promises: one line, a remedy, an exit code that podFailurePolicy can tell apart."""

import inspect

import pytest

from syncer import errors
from syncer.errors import SyncerError, Transient, one_line

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, SyncerError)]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_each_class_says_what_it_is_and_how_the_process_ends(kind: type[SyncerError]) -> None:
    assert kind.reason
    assert kind.summary
    assert 64 <= kind.exit_code < 160


def test_names_from_strangers_cannot_break_a_message_into_lines() -> None:
    error = Transient("cannot read a\nFAKE log line\x1b[31m\u2028x", hint="look\rat it")
    assert str(error) == error.message == r"cannot read a\nFAKE log line\x1b[31m\u2028x"
    assert error.hint == r"look\rat it"


def test_ordinary_names_stay_as_they_are() -> None:
    assert one_line("ünïcode/模型 a+b%20.bin") == "ünïcode/模型 a+b%20.bin"
