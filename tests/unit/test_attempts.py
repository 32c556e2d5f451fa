"""Many attempts in one process: for how long."""

from dataclasses import replace

import pytest

from syncer import attempts
from syncer.errors import Transient
from syncer.stop import StopSwitch

HOUR = 3600.0


def test_they_go_on_for_as_long_as_a_session_can_live(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    patience = replace(
        attempts.LOGIN_PATIENCE, clock=lambda: now[0], sleep=lambda _: now.__setitem__(0, now[0] + 10 * HOUR)
    )
    monkeypatch.setattr(attempts, "LOGIN_PATIENCE", patience)

    def attempt(_: StopSwitch) -> float:
        if now[0] < 70 * HOUR:
            raise Transient("away")
        return now[0]

    assert attempts.on_one_login(attempt, StopSwitch()) == 70 * HOUR
