"""The pods of one Job as threads of this process, each with a whole run of its own."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from syncer import job
from syncer.errors import SyncerError
from syncer.progress import Progress
from syncer.settings.locations import DirectoryLocation, Settings, Share
from syncer.sharing import board
from syncer.stop import StopSwitch
from syncer.stores.directory import DirectoryDestination
from tests.flow.conftest import in_silence

Show = Callable[[Progress], AbstractContextManager[object]]


@dataclass
class PodThread:
    """One pod: what came of it once `end` was called."""

    settings: Settings
    show: Show = in_silence
    stop: StopSwitch = field(default_factory=StopSwitch)
    result: job.Result | None = None
    error: SyncerError | None = None

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = job.sync(self.settings, self.stop, self.show)
        except SyncerError as error:
            self.error = error

    def end(self) -> job.Result:
        self._thread.join(timeout=60)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result


@dataclass
class Cluster:
    """Starts the pods of one Job, or of the next one with another number of them."""

    settings: Settings
    count: int = 3

    def start(self, index: int, *, show: Show = in_silence, **changes: Any) -> PodThread:
        ours = replace(self.settings, share=Share(index, self.count), **changes)
        return PodThread(ours, show)

    def run(self, **changes: Any) -> list[job.Result]:
        pods = [self.start(index, **changes) for index in range(self.count)]
        return [pod.end() for pod in pods]


def until(happened: Callable[[], bool]) -> None:
    while not happened():
        threading.Event().wait(0.01)


def shared_plan(volume: Path) -> board.SharedPlan:
    """The plan that index 0 shares, once it does."""
    control = DirectoryDestination(DirectoryLocation(volume)).control
    until(lambda: board.read_notice(control) is not None)
    notice = board.read_notice(control)
    plan = board.read_plan(control, notice.run) if notice else None
    assert plan is not None
    return plan
