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
from collections.abc import Callable, MutableMapping
from typing import Any, Final, Literal, Protocol, TextIO, cast

import structlog

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
    # what others say
    "sdk_logged",
]
"""Every event there is.  A new one is added here, in the past tense, before it is used."""

EVENTS_OF_SDKS: Final[Event] = "sdk_logged"

_FIRST_FIELDS: Final = ("timestamp", "level", "event")


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
    _State.terminal, _State.lines = terminal, lines
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            _traceback_as_text,
            _without_secrets,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if terminal else "iso", utc=not terminal),
            _in_reading_order,
            _console(lines) if terminal else _json_line,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_level_of_ours(verbosity)),
        context_class=dict,
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _SdkHandler)]:
        root.removeHandler(handler)
    root.addHandler(_SdkHandler())
    root.setLevel(_level_of_sdks(verbosity))
    logging.captureWarnings(capture=True)


def logger(**fields: Any) -> Log:
    """A logger with `fields` bound; may be made before `configure` was called."""
    return cast("Log", structlog.get_logger(**fields))


def on_terminal() -> bool:
    """Whether a person is watching: the logs go to a terminal."""
    return _State.terminal


def tell(text: str) -> None:
    """One plain line where the logs go, for the person on a terminal; redacted, never raises."""
    _State.lines.msg(redact(text))


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


class _State:
    """What `configure` found out."""

    terminal = False
    lines: _Lines


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

    def msg(self, line: str) -> None:
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

    debug = info = warning = error = msg

    def _current(self) -> TextIO | None:
        return self._stream if self._stream is not None else sys.stderr


_State.lines = _Lines(None)


class _SdkHandler(logging.Handler):
    """Feeds the standard library's loggers (botocore, boto3, urllib3, warnings) into our chain."""

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


_EventDict = MutableMapping[str, Any]


def _level_of_ours(verbosity: int) -> int:
    return logging.DEBUG if verbosity >= 1 else logging.INFO


def _level_of_sdks(verbosity: int) -> int:
    if verbosity >= 5:
        return logging.DEBUG
    return logging.INFO if verbosity >= 3 else logging.WARNING


def _traceback_as_text(_logger: Any, _method: str, event: _EventDict) -> _EventDict:
    """Python's plain traceback: no locals, they are where secrets live."""
    raised = event.pop("exc_info", None)
    if raised is True:
        raised = sys.exc_info()[1]
    if isinstance(raised, tuple):
        raised = raised[1]
    if isinstance(raised, BaseException):
        event["exception"] = "".join(traceback.format_exception(raised)).rstrip()
    return event


def _without_secrets(_logger: Any, _method: str, event: _EventDict) -> _EventDict:
    trace = event.pop("exception", None)
    clean: _EventDict = redact_value(dict(event))
    if isinstance(trace, str):
        # Indented, so that no line of a foreign message can pass for a log line of its own.
        clean["exception"] = "\n".join(f"    {line}" for line in redact_lines(trace).split("\n"))
    return clean


def _in_reading_order(_logger: Any, _method: str, event: _EventDict) -> _EventDict:
    first = {name: event[name] for name in _FIRST_FIELDS if name in event}
    return first | {name: value for name, value in event.items() if name not in first}


def _json_line(_logger: Any, _method: str, event: _EventDict) -> str:
    return json.dumps(event, ensure_ascii=False, separators=(", ", ": "))


def _console(lines: _Lines) -> Callable[[Any, str, _EventDict], str]:
    from rich.console import Console

    # Rich knows NO_COLOR, TERM=dumb and their kin.
    colours = Console(stderr=True).color_system is not None and lines.is_terminal()
    return structlog.dev.ConsoleRenderer(
        colors=colours,
        sort_keys=False,
        pad_event_to=22,
        exception_formatter=structlog.dev.plain_traceback,
    )
