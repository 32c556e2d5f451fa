"""Structured logs: one event per line, for people on a terminal and as JSON elsewhere, without a secret in either.

Events are short past-tense names from the closed list below, values go into fields.  What the SDKs log passes through
the same chain.  Logs go to standard error, results (`plan --json`) to standard output.  Writing never raises: a closed
pipe must not change how a run ends.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Literal, Protocol, TextIO

from syncer.redaction import redact, redact_lines, redact_value, register_secrets

__all__ = [
    "EVENTS_OF_SDKS",
    "Event",
    "Log",
    "catch_strays",
    "configure",
    "logger",
    "on_terminal",
    "redact",
    "register_secrets",
    "tell",
]

Event = Literal[
    # the run
    "settings_loaded",
    "settings_noted",
    "stop_requested",
    "run_finished",
    "run_failed",
    "run_crashed",
    "attempt_failed",
    "problems_found",
    "thread_crashed",
    # looking and planning
    "source_listed",
    "source_awaited",
    "model_misplaced",
    "source_renamed",
    "shortcut_abandoned",
    "files_excluded",
    "layer_examined",
    "login_accepted",
    "token_renewed",
    "token_renewal_failed",
    "token_cache_failed",
    "destination_awaited",
    "destination_failed",
    "plan_made",
    "plan_awaited",
    "plan_replaced",
    "work_shared",
    "share_carried",
    "stretch_abandoned",
    "share_adopted",
    "shares_awaited",
    "files_compared",
    "lease_awaited",
    "journal_write_failed",
    "ability_learned",
    # uploading
    "cluster_asked",
    "connection_awaited",
    "route_found",
    "route_not_found",
    "upload_not_listed",
    "next_step_explained",
    # copying
    "progress_made",
    "file_finished",
    "file_restarted",
    "file_resumed",
    "file_deleted",
    "part_retried",
    "lanes_changed",
    "fetch_abandoned",
    "upload_aborted",
    # compressing
    "room_found",
    "stage_begun",
    "device_found",
    "samples_read",
    "layer_compressed",
    "worker_spoke",
    "compression_kept",
    "model_compressed",
    "scratch_cleaned",
    # proving and sealing
    "verification_started",
    "file_recopied",
    "difference_found",
    "seal_removed",
    "seal_kept",
    "model_sealed",
    "base_image_missed",
    "layers_counted",
    "image_pushed",
    "image_kept",
    "image_replaced",
    "registry_found",
    "card_missed",
    "registry_awaited",
    "registration_announced",
    "registration_kept",
    "registration_changed",
    "registration_archived",
    "registration_abandoned",
    "registration_unsettled",
    "model_registered",
    "model_awaited",
    # reports
    "report_failed",
    "metrics_served",
    "metrics_not_served",
    # what others say
    "sdk_logged",
]
"""Every event there is.  A new one is added here, in the past tense, before it is used."""

EVENTS_OF_SDKS: Final[Event] = "sdk_logged"

_FIRST_FIELDS: Final = ("timestamp", "level", "event")
_DIM, _BOLD, _NAME, _VALUE = "2", "1", "36", "35"
_COLOURS: Final = {"debug": "32", "info": "32", "warning": "33", "error": "31"}
"""Of a terminal, by the standard that all of them follow (ECMA-48)."""
_Fields = dict[str, Any]


class Log(Protocol):
    """What everybody logs with.  Context does not follow work into pool threads: hand over a bound one."""

    def bind(self, **fields: Any) -> Log:
        """A logger that says `fields` with every event."""
        ...

    def debug(self, event: Event, **fields: Any) -> None:
        """Details: each file, each part, each decision."""
        ...

    def info(self, event: Event, **fields: Any) -> None:
        """What happened, a line per step."""
        ...

    def warning(self, event: Event, **fields: Any) -> None:
        """Something that the user should change, or that cost a retry."""
        ...

    def error(self, event: Event, **fields: Any) -> None:
        """Why this run fails."""
        ...


def configure(*, verbosity: int = 0, stream: TextIO | None = None, terminal: bool | None = None) -> None:
    """Send all logs to `stream` (standard error), from the level that `verbosity` (how many `-v`) asks for.

    0 shows what happened, 1 every file and part; the SDKs' own words appear from warnings on, from 3 on more, from 5 on
    all.  `terminal` decides between console and JSON lines and is found out when None.  May be called again.
    """
    lines = _Lines(stream)
    if terminal is None:
        terminal = lines.is_terminal()
    _State.terminal, _State.lines, _State.level = terminal, lines, _level_of_ours(verbosity)
    _State.render = _for_people(lines) if terminal else _json_line
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _SdkHandler)]:
        root.removeHandler(handler)
    root.addHandler(_SdkHandler())
    root.setLevel(_level_of_sdks(verbosity))
    logging.captureWarnings(capture=True)


def logger(**fields: Any) -> Log:
    """A logger with `fields` bound; may be made before `configure` was called."""
    return _Logger(fields)


def on_terminal() -> bool:
    """Whether a person is watching: the logs go to a terminal."""
    return _State.terminal


def tell(text: str) -> None:
    """One plain line where the logs go, for the person on a terminal; redacted, never raises."""
    _State.lines.write(redact(text))


def catch_strays() -> None:
    """Log what dies unseen in a thread or a destructor, instead of Python's own print, which knows no secrets."""
    log = logger()

    def of_thread(crash: threading.ExceptHookArgs) -> None:
        if crash.exc_value is not None:
            name = crash.thread.name if crash.thread else ""
            log.error("thread_crashed", thread=name, exc_info=crash.exc_value)

    def of_destructor(crash: sys.UnraisableHookArgs) -> None:
        log.debug("thread_crashed", thread="", exc_info=crash.exc_value)

    threading.excepthook = of_thread
    sys.unraisablehook = of_destructor


class _Logger:
    """See `Log`."""

    __slots__ = ("_fields",)

    def __init__(self, fields: _Fields) -> None:
        self._fields = fields

    def bind(self, **fields: Any) -> Log:
        return _Logger(self._fields | fields)

    def debug(self, event: Event, **fields: Any) -> None:
        if _State.level <= logging.DEBUG:
            _say("debug", event, self._fields | fields)

    def info(self, event: Event, **fields: Any) -> None:
        _say("info", event, self._fields | fields)

    def warning(self, event: Event, **fields: Any) -> None:
        _say("warning", event, self._fields | fields)

    def error(self, event: Event, **fields: Any) -> None:
        _say("error", event, self._fields | fields)


def _say(level: str, event: Event, fields: _Fields) -> None:
    """Write one line: the fields that every line has first, and nothing secret in any."""
    first = {"timestamp": _now(), "level": level, "event": event}
    rest = {name: value for name, value in fields.items() if name not in first}
    _State.lines.write(_State.render(first | _without_secrets(_traceback_as_text(rest))))


def _now() -> str:
    if _State.terminal:
        return f"{datetime.now():%H:%M:%S}"  # noqa: DTZ005 - the time of the person who is watching
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


class _Lines:
    """A stream that takes whole lines from many threads and never complains."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def is_terminal(self) -> bool:
        stream = self._current()
        try:
            return stream is not None and stream.isatty()
        except ValueError:  # closed
            return False

    def write(self, line: str) -> None:
        # Looked up anew for every line: a live display puts itself in the place of sys.stderr.
        stream = self._current()
        if stream is None:
            return
        try:
            with self._lock:
                stream.write(line + "\n")
                stream.flush()
        except (OSError, ValueError):
            # The reader is gone or the stream closed; the run goes on and its exit code speaks.
            return

    def _current(self) -> TextIO | None:
        return self._stream if self._stream is not None else sys.stderr


class _SdkHandler(logging.Handler):
    """Feeds the standard library's loggers (botocore, urllib3, warnings) into our chain."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            said = record.getMessage()
        except Exception:  # noqa: BLE001 - a foreign format string that does not fit its arguments; we keep the former
            said = str(record.msg)
        fields: dict[str, Any] = {"logger": record.name, "message": said}
        if record.exc_info and record.exc_info[1] is not None:
            fields["exc_info"] = record.exc_info[1]
        log = logger()
        match record.levelno:
            case level if level >= logging.ERROR:
                log.error(EVENTS_OF_SDKS, **fields)
            case level if level >= logging.WARNING:
                log.warning(EVENTS_OF_SDKS, **fields)
            case level if level >= logging.INFO:
                log.info(EVENTS_OF_SDKS, **fields)
            case _:
                log.debug(EVENTS_OF_SDKS, **fields)


def _level_of_ours(verbosity: int) -> int:
    return logging.DEBUG if verbosity >= 1 else logging.INFO


def _level_of_sdks(verbosity: int) -> int:
    if verbosity >= 5:
        return logging.DEBUG
    return logging.INFO if verbosity >= 3 else logging.WARNING


def _traceback_as_text(fields: _Fields) -> _Fields:
    """Python's plain traceback: no locals, they are where secrets live."""
    raised = fields.pop("exc_info", None)
    if isinstance(raised, BaseException):
        fields["exception"] = "".join(traceback.format_exception(raised)).rstrip()
    return fields


def _without_secrets(fields: _Fields) -> _Fields:
    trace = fields.pop("exception", None)
    clean: _Fields = redact_value(fields)
    if isinstance(trace, str):
        # Indented, so that no line of a foreign message can pass for a log line of its own.
        clean["exception"] = "\n".join(f"    {line}" for line in redact_lines(trace).split("\n"))
    return clean


def _json_line(said: _Fields) -> str:
    return json.dumps(said, ensure_ascii=False, separators=(", ", ": "))


def _for_people(lines: _Lines) -> Callable[[_Fields], str]:
    from rich.console import Console

    # Rich knows NO_COLOR, TERM=dumb and their kin.
    coloured = Console(stderr=True).color_system is not None and lines.is_terminal()

    def dressed(text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if coloured else text

    def line(said: _Fields) -> str:
        trace = said.pop("exception", "")
        first = [said.pop(name) for name in _FIRST_FIELDS]
        time, level, event = first
        words = [
            dressed(time, _DIM),
            f"[{dressed(f'{level:<9}', _COLOURS[level])}]",
            dressed(f"{event:<22}", _BOLD),
            *(
                f"{dressed(name, _NAME)}={dressed(value if isinstance(value, str) else repr(value), _VALUE)}"
                for name, value in said.items()
            ),
        ]
        return " ".join(words).rstrip() + (f"\n{trace}" if trace else "")

    return line


class _State:
    """What `configure` found out."""

    terminal = False
    level = logging.DEBUG
    lines = _Lines(None)
    render: Callable[[_Fields], str] = staticmethod(_json_line)
