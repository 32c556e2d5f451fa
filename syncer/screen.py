"""What shows how far a run is: lines or a live display, and figures for Prometheus where a port is set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from syncer import logs
from syncer.progress import Phase, Progress, Reporter
from syncer.settings.locations import Settings

if TYPE_CHECKING:
    from syncer.metrics import Metrics


class Screen:
    """Shows each `Progress` while it lasts, and follows the phases of the run.  `known` has the settings of now."""

    def __init__(self, known: Callable[[], Settings]) -> None:
        self._known = known
        self._metrics: Metrics | None = None
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        port = self._known().reporting.metrics_port
        if port is not None:
            from syncer.metrics import Metrics, Server

            self._metrics = Metrics(self._known)
            self._opened.enter_context(Server(self._metrics, port))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    @contextmanager
    def __call__(self, progress: Progress) -> Iterator[None]:
        """Show `progress` until this ends."""
        interval = self._known().reporting.progress_interval
        with ExitStack() as shown:
            if self._metrics is not None:
                shown.enter_context(self._metrics.watching(progress))
            shown.enter_context(Reporter(progress, log=logs.logger(), interval=interval, terminal=logs.on_terminal()))
            yield

    def enter(self, phase: Phase) -> None:
        """The run is in `phase` from now on."""
        if self._metrics is not None:
            self._metrics.enter(phase)
