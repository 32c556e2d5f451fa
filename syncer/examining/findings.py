"""What one step of an examination has found, and the book that all of them go into."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from syncer.errors import SyncerError
from syncer.stop import StopSwitch

Verdict = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True)
class Finding:
    """One row: which `step`, what it looked `at`, how it went, what was `seen`, and what to do about it.

    `exit_code` and `reason` are those that a run would end with; 0 and empty unless it failed.
    """

    step: str
    at: str
    verdict: Verdict
    seen: str
    hint: str = ""
    exit_code: int = os.EX_OK
    reason: str = ""


class Skipped(Exception):
    """Raised by a step that has nothing to look at, or must not; the text says why."""

    def __init__(self, why: str, *, hint: str = "") -> None:
        super().__init__(why)
        self.hint = hint


@dataclass
class Book:
    """All findings in their order.  A stop ends the examination: `look` raises its error."""

    stop: StopSwitch
    findings: list[Finding] = field(default_factory=list)

    def look(self, step: str, at: str, work: Callable[[], str]) -> bool:
        """Do one step, which returns what it saw, and write down how it went; whether it went well."""
        self.stop.check()
        try:
            finding = Finding(step, at, "ok", work())
        except Skipped as skipped:
            finding = Finding(step, at, "skipped", str(skipped), skipped.hint)
        except SyncerError as error:
            self.stop.check()  # a stop that came first is the reason
            finding = Finding(step, at, "failed", error.message, error.hint, error.exit_code, error.reason)
        except Exception as error:  # noqa: BLE001 - one step that breaks must not hide what all others have found
            self.stop.check()
            told = f"unexpected {type(error).__name__}: {error}"
            hint = "this is a bug of the synchronizer: please report it"
            finding = Finding(step, at, "failed", told, hint, SyncerError.exit_code, SyncerError.reason)
        self.findings.append(finding)
        return finding.verdict == "ok"

    def skip(self, step: str, at: str, why: str) -> None:
        """Write down a step that was not taken."""
        self.findings.append(Finding(step, at, "skipped", why))
