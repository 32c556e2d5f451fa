"""How far a run is, for whoever waits: a live display on a terminal, one line every few seconds elsewhere.

Many threads feed a `Progress`; a `Reporter` shows it.  Nothing here may ever fail a run, so a display that breaks is
silently over.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, Self, get_args, runtime_checkable

from syncer.errors import SyncerError, Transient
from syncer.redaction import redact
from syncer.threads import NoThread, start

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

    from syncer.logs import Log

Phase = Literal[
    "starting", "listing", "waiting", "planning", "copying", "proving", "registering", "sealing", "finished"
]
"""What a run is at.  `waiting` is for the destination, for another run that writes there, and for other pods."""
PHASES: Final[tuple[Phase, ...]] = get_args(Phase)

SMOOTHING_SECONDS: Final = 15.0
_NAMED_IN_A_LINE: Final = 5
_SHOWN_LIVE: Final = 8
_LONGEST_NAME: Final = 36
_BAR: Final = 18


@dataclass(frozen=True, slots=True)
class FileProgress:
    """One file in flight; sizes in bytes."""

    path: str
    done: int
    size: int


@dataclass(frozen=True, slots=True)
class Figures:
    """What an engine has done and what it holds now; sizes in bytes.

    `read_bytes` have arrived and `sent_bytes` went out, whatever became of them: they only grow.  `parts` are whole at
    the far end, `parts_in_flight` on their way.
    """

    read_bytes: int = 0
    sent_bytes: int = 0
    parts: int = 0
    parts_in_flight: int = 0
    memory_bytes: int = 0

    def __add__(self, other: Figures) -> Figures:
        return Figures(
            self.read_bytes + other.read_bytes,
            self.sent_bytes + other.sent_bytes,
            self.parts + other.parts,
            self.parts_in_flight + other.parts_in_flight,
            self.memory_bytes + other.memory_bytes,
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment of a run.  `bytes_per_second` is smoothed; `remaining_seconds` is None while nobody can tell."""

    done_bytes: int
    total_bytes: int
    done_files: int
    total_files: int
    bytes_per_second: float
    remaining_seconds: float | None
    elapsed_seconds: float
    in_flight: tuple[FileProgress, ...]
    lanes: int = 0

    def fields(self) -> dict[str, Any]:
        """The fields of a progress line: few, and the same every time."""
        return {
            "done_bytes": self.done_bytes,
            "total_bytes": self.total_bytes,
            "percent": _percent(self.done_bytes, self.total_bytes),
            "done_files": self.done_files,
            "total_files": self.total_files,
            "bytes_per_second": round(self.bytes_per_second),
            "remaining_seconds": None if self.remaining_seconds is None else round(self.remaining_seconds),
            "elapsed_seconds": round(self.elapsed_seconds, 1),
            "in_flight": len(self.in_flight),
            "lanes": self.lanes,
            "files": [file.path for file in self.in_flight[:_NAMED_IN_A_LINE]],
        }


@runtime_checkable
class FollowsPhases(Protocol):
    """What shows the progress of a run, and wants to know of its phases."""

    def enter(self, phase: Phase) -> None:
        """The run is in `phase` from now on."""
        ...


def enter(show: object, phase: Phase) -> None:
    """The run whose progress `show` shows is in `phase` from now on; who does not follow phases is not told."""
    if isinstance(show, FollowsPhases):
        show.enter(phase)


class Progress:
    """Counts what moves; cheap enough to be told of every chunk, from many threads."""

    def __init__(self, *, total_bytes: int, total_files: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.lanes = 0
        """How many the engine has now."""
        self._lock = threading.Lock()
        self._clock = clock
        self._begun = clock()
        self._total_bytes = total_bytes
        self._total_files = total_files
        self._done_bytes = 0
        self._done_files = 0
        self._flight: dict[str, list[int]] = {}
        self._samples: deque[tuple[float, int]] = deque([(self._begun, 0)])
        self._engines: list[Callable[[], Figures]] = []
        self._retries: Counter[str] = Counter()

    def counted_by(self, engine: Callable[[], Figures]) -> None:
        """An engine works for this from now on, and tells its figures to whoever asks: nobody may."""
        with self._lock:
            self._engines.append(engine)

    def retried(self, error: SyncerError) -> None:
        """Something is tried once more, because of `error`; its class is the cause, and `Busy` one of its own."""
        cause = "Busy" if isinstance(error, Transient) and error.busy else type(error).__name__.lstrip("_")
        with self._lock:
            self._retries[cause] += 1

    def figures(self) -> Figures:
        """Those of all its engines."""
        with self._lock:
            engines = list(self._engines)
        return sum((engine() for engine in engines), Figures())

    def retries(self) -> Counter[str]:
        """How often something was tried once more, by its cause."""
        with self._lock:
            return Counter(self._retries)

    def moved(self, path: str, count: int) -> None:
        """`count` more bytes of `path` are at the destination; negative when a file starts again."""
        with self._lock:
            self._done_bytes += count
            if (file := self._flight.get(path)) is not None:
                file[0] += count

    def file_started(self, path: str, size: int) -> None:
        """`path` is in flight from now on."""
        with self._lock:
            self._flight[path] = [0, size]

    def file_finished(self, path: str) -> None:
        """`path` is not in flight any more, and done."""
        with self._lock:
            self._flight.pop(path, None)
            self._done_files += 1

    def grew(self, more_bytes: int) -> None:
        """There is more to do than planned (negative: less): a source file has changed its size."""
        with self._lock:
            self._total_bytes += more_bytes

    def snapshot(self) -> Snapshot:
        """How far it is now."""
        with self._lock:
            now = self._clock()
            rate = self._rate(now)
            left = max(0, self._total_bytes - self._done_bytes)
            return Snapshot(
                done_bytes=self._done_bytes,
                total_bytes=self._total_bytes,
                done_files=self._done_files,
                total_files=self._total_files,
                bytes_per_second=rate,
                remaining_seconds=0.0 if left == 0 else left / rate if rate > 0 else None,
                elapsed_seconds=now - self._begun,
                in_flight=tuple(FileProgress(path, done, size) for path, (done, size) in self._flight.items()),
                lanes=self.lanes,
            )

    def _rate(self, now: float) -> float:
        """Bytes per second since the youngest sample that is at least `SMOOTHING_SECONDS` old, or since the start."""
        while len(self._samples) > 1 and now - self._samples[1][0] >= SMOOTHING_SECONDS:
            self._samples.popleft()
        then, moved = self._samples[0]
        # A live display asks many times a second; that many samples would say nothing more.
        if now - self._samples[-1][0] >= SMOOTHING_SECONDS / 30:
            self._samples.append((now, self._done_bytes))
        return max(0.0, (self._done_bytes - moved) / (now - then)) if now > then else 0.0


class Reporter:
    """Shows a `Progress` from `with` to its end: live when `terminal`, else a line every `interval` seconds.

    The last line, at the end, always comes.  `wait` pauses for the given seconds and says whether that was the end; it
    is there for tests.
    """

    def __init__(
        self,
        progress: Progress,
        *,
        log: Log,
        interval: float,
        terminal: bool,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self._progress = progress
        self._log = log
        self._interval = interval
        self._over = threading.Event()
        self._wait = wait or self._over.wait
        self._thread: threading.Thread | None = None
        self._live: Live | None = None
        self._terminal = terminal

    def __enter__(self) -> Self:
        if self._terminal:
            # No display is no reason to fail: a terminal may be any odd thing.
            with suppress(Exception):
                self._live = _live_display(self._progress)
                self._live.start()
        else:
            thread = threading.Thread(target=self._say_now_and_then, name="progress", daemon=True)
            with suppress(NoThread):  # neither are lines
                start(thread)
                self._thread = thread
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)
        if self._live is not None:
            with suppress(Exception):  # as above
                self._live.stop()
        self._say()

    def _say_now_and_then(self) -> None:
        while not self._wait(self._interval):
            self._say()

    def _say(self) -> None:
        with suppress(Exception):  # a line of progress is never worth a run
            self._log.info("progress_made", **self._progress.snapshot().fields())


def render(snapshot: Snapshot) -> RenderableType:
    """The live display of one moment, for 80 columns and more: the whole, and a line for each file in flight."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    whole = (
        f"{snapshot.done_files}/{snapshot.total_files} files, "
        f"{printed_bytes(snapshot.done_bytes)} of {printed_bytes(snapshot.total_bytes)}, "
        f"{printed_bytes(snapshot.bytes_per_second)}/s, {printed_seconds(snapshot.remaining_seconds)} left"
    )
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True, ratio=1)
    table.add_column(width=_BAR)
    table.add_column(no_wrap=True, justify="right")
    for file in _largest_left(snapshot.in_flight):
        name = redact(file.path)
        table.add_row(
            Text(name if len(name) <= _LONGEST_NAME else "…" + name[1 - _LONGEST_NAME :], style="dim"),
            ProgressBar(total=max(1, file.size), completed=file.done, width=_BAR),
            Text(f"{printed_bytes(file.done)} of {printed_bytes(file.size)}", style="dim"),
        )
    if (hidden := len(snapshot.in_flight) - _SHOWN_LIVE) > 0:
        table.add_row(Text(f"and {hidden} more", style="dim"))
    bar = ProgressBar(total=max(1, snapshot.total_bytes), completed=snapshot.done_bytes)
    return Group(table, Text(whole, style="bold", overflow="ellipsis", no_wrap=True), bar)


def printed_bytes(count: float) -> str:
    """`count` bytes for people: `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(count) < 1024 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError(count)


def printed_seconds(seconds: float | None) -> str:
    """`seconds` for people: `1h02m`, `3m05s`, `12s`, `?`."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def _live_display(progress: Progress, console: Console | None = None) -> Live:
    from rich.console import Console as RichConsole
    from rich.live import Live as RichLive
    from rich.text import Text

    def now() -> RenderableType:
        try:
            return render(progress.snapshot())
        except Exception:  # noqa: BLE001 - in Rich's own thread nobody could do anything about it
            return Text("")

    # Beside the logs, which Rich prints above the display while it stands.
    console = console or RichConsole(stderr=True)
    return RichLive(console=console, get_renderable=now, refresh_per_second=4, transient=True)


def _largest_left(files: Iterable[FileProgress]) -> list[FileProgress]:
    return sorted(files, key=lambda file: (file.done - file.size, file.path))[:_SHOWN_LIVE]


def _percent(done: int, total: int) -> float:
    return round(100.0 * done / total, 1) if total > 0 else 100.0
