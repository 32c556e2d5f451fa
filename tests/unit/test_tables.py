"""A plan as people read it."""

from __future__ import annotations

import pytest

from syncer import redaction
from syncer.manifest import ModelFile
from syncer.plan import Plan, Step, Why
from syncer.redaction import MASK, Redactor
from syncer.stores.protocols import Cut
from syncer.tables import plan_as_table


def step(path: str, size: int) -> Step:
    return Step(ModelFile(path, size, "v"), Cut(size, size), why=Why.NEW)


def test_a_plan_is_a_table_and_a_line_for_the_whole() -> None:
    plan = Plan(copy=(step("a", 1), step("model.safetensors", 3 << 20)), delete=("old",))
    assert plan_as_table(plan).splitlines() == [
        "action  file                  size  why",
        "copy    a                      1 B  new",
        "copy    model.safetensors  3.0 MiB  new",
        "delete  old                         the source no longer has it",
        "copy 2 files (3.0 MiB), keep 0, delete 1",
    ]


def test_a_plan_of_nothing_is_one_line() -> None:
    assert plan_as_table(Plan()) == "copy 0 files (0 B), keep 0"


def test_names_are_no_lines_of_their_own_and_show_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_OF_THIS_PROCESS", Redactor())
    redaction.register_secrets(["canary-0123456789"])
    text = plan_as_table(Plan(copy=(step("a\nREFUSE  b\x1b[2J", 1), step("canary-0123456789", 1), step("x" * 500, 1))))
    assert len(text.splitlines()) == 5
    assert "\x1b" not in text
    assert "canary" not in text
    assert MASK in text
    assert max(map(len, text.splitlines())) < 530, "one long name does not make all lines long"
