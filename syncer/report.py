"""How a run ended, told to everybody who asks: Kubernetes, Tekton, older pipelines, the log.

Each reader has its place, written only where the place exists, and trouble with one of them changes neither the others
nor the exit code.  Every text passes the redaction.  Nothing here decides how a run ends.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from syncer.errors import Interrupted, SyncerError
from syncer.redaction import redact, redact_value

if TYPE_CHECKING:
    from syncer.settings.locations import Reporting, Settings

TERMINATION_LIMIT: Final = 4096
"""Bytes that the kubelet keeps of a termination message; ours stays below."""

REGISTERED: Final = "Registered"
"""The reason of a run that registered and copied nothing."""

_SHORTEST_PROSE: Final = 160
_LONGEST_ID: Final = 64
_TEKTON: Final = Path("/tekton")


@dataclass(frozen=True)
class Outcome:
    """How a run ended.  `files` and `bytes` are None while nobody knows; `seconds` is wall time.

    `reason` is one word for machines, `message` one line for people and `hint` what to do.  `uri` is the first of
    `uris`.  `registry` maps `RegisteredModel`, `ModelVersion` and `ModelArtifact` to their ids, once registered.
    """

    status: Literal["succeeded", "skipped", "failed"]
    reason: str = ""
    message: str = ""
    hint: str = ""
    source: str = ""
    destination: str = ""
    uris: tuple[str, ...] = ()
    revision: str = ""
    files: int | None = None
    bytes: int | None = None
    copied_bytes: int = 0
    seconds: float = 0.0
    exit_code: int = os.EX_OK
    digest: str = ""
    registry: Mapping[str, str] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        """Where the model can be opened; empty when it is not there."""
        return self.uris[0] if self.uris else ""

    def fields(self) -> dict[str, Any]:
        """The fields of the termination message and of the final log line, in the contract's order, redacted."""
        fields = {
            "status": self.status,
            "reason": self.reason,
            "message": self.message,
            "hint": self.hint,
            "source": self.source,
            "destination": self.destination,
            "uri": self.uri,
            "uris": self.uris,
            "revision": self.revision,
            "files": self.files,
            "bytes": self.bytes,
            "copied_bytes": self.copied_bytes,
            "seconds": round(self.seconds, 3),
            "exit_code": self.exit_code,
        }
        # Numbers that we counted ourselves are no secrets, whatever they look like.
        texts = {name: redact_value(value) for name, value in fields.items() if isinstance(value, str | tuple)}
        return fields | texts | {name: {"id": redact(number)[:_LONGEST_ID]} for name, number in self.registry.items()}


def outcome_of_error(error: BaseException, *, source: str = "", destination: str = "", seconds: float = 0.0) -> Outcome:
    """The failure that `error` is; what is none of ours is a bug (70)."""
    if isinstance(error, KeyboardInterrupt):
        error = Interrupted(signal.SIGINT)
    if not isinstance(error, SyncerError):
        return Outcome(
            status="failed",
            reason=SyncerError.reason,
            message=f"unexpected {type(error).__name__}: {error}",
            hint="this is a bug of the synchronizer: please report it with the log; -v… tells more",
            source=source,
            destination=destination,
            seconds=seconds,
            exit_code=SyncerError.exit_code,
        )
    problems: tuple[str, ...] = getattr(error, "problems", ())
    message = error.message
    if problems and not any(problem in message for problem in problems):
        message = f"{message}: {'; '.join(problems)}"
    return Outcome(
        status="failed",
        reason=error.reason,
        message=message,
        hint=error.hint,
        source=source,
        destination=destination,
        seconds=seconds,
        exit_code=error.exit_code,
    )


def termination_message(outcome: Outcome) -> bytes:
    """The contract's JSON object in UTF-8, below 4,096 bytes whatever the texts are.

    Message and hint give way first, then the later ones of many URIs, then whatever is longest.
    """
    fields = outcome.fields()
    while len(encoded := _json(fields)) >= TERMINATION_LIMIT:
        excess = len(encoded) - TERMINATION_LIMIT + 1
        prose = max(("message", "hint"), key=lambda name: len(_json(fields[name])))
        if len(_json(fields[prose])) > _SHORTEST_PROSE:
            fields[prose] = _shortened(fields[prose], excess, keep=_SHORTEST_PROSE)
        elif len(fields["uris"]) > 1:
            fields["uris"] = fields["uris"][:-1]
        else:
            _shorten_longest(fields, excess)
    return encoded


class LastWords:
    """The end of a run, told exactly once: by the run itself or, when that hangs after a signal, by the watchdog.

    It is told in passing where to report and what the run is about, so that even a failure before the settings were
    understood finds the right places.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun = clock()
        self._taken = threading.Lock()
        self._said = threading.Event()
        self._outcome: Outcome | None = None
        self._reporting: Reporting | None = None
        self._settings: Settings | None = None
        self._workspace = False

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return self._clock() - self._begun

    @property
    def outcome(self) -> Outcome | None:
        """What was said, or None."""
        return self._outcome

    def report_to(self, reporting: Reporting) -> None:
        """Where to report."""
        self._reporting = reporting

    def concern(self, settings: Settings, *, workspace: bool) -> None:
        """What the run is about, and whether it brings a model, so that the workspace files are about it."""
        self._settings = settings
        self._workspace = workspace
        self._reporting = settings.reporting

    def failure(self, error: BaseException) -> Outcome:
        """`error` as the outcome of this run."""
        source = self._settings.source if self._settings else None
        destinations = self._settings.destinations if self._settings else ()
        return outcome_of_error(
            error,
            source=source.uri if source else "",
            destination=", ".join(destination.uri for destination in destinations),
            seconds=self.seconds,
        )

    def say(self, outcome: Outcome) -> bool:
        """Write all reports; False when somebody else did or does.  Never raises."""
        if not self._taken.acquire(blocking=False):
            return False
        self._outcome = outcome
        try:
            if self._reporting is not None:
                _attempt(
                    "termination message",
                    lambda to: write_termination_message(to.termination_message, outcome),
                    self._reporting,
                )
                _attempt("results", lambda to: write_results(to.results, outcome), self._reporting)
            if self._settings is not None and self._workspace:
                settings = self._settings
                _attempt("workspace files", lambda _: write_workspace(settings, outcome), settings.reporting)
            # Last, so that nothing is logged after it.
            with suppress(Exception):  # the line is worth less than the exit code
                _log_finally(outcome)
        finally:
            self._said.set()
        return True

    def wait(self, seconds: float) -> None:
        """Wait until all is said, at most `seconds`."""
        self._said.wait(seconds)


def write_termination_message(path: Path, outcome: Outcome) -> None:
    """Write it into the file that Kubernetes has put there; never creates one, and leaves Tekton's own alone."""
    if _TEKTON in Path(os.path.realpath(path)).parents:
        return
    try:
        file = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    with os.fdopen(file, "wb") as opened:
        if stat.S_ISREG(os.fstat(file).st_mode):
            opened.truncate(0)
            opened.write(termination_message(outcome))


def write_results(folder: Path, outcome: Outcome) -> None:
    """Tekton's results, one small file each, in every outcome; empty when unknown."""
    if not folder.is_dir():
        return
    results = {
        "status": outcome.status,
        "reason": outcome.reason,
        "uri": outcome.uri,
        "digest": outcome.digest,
        "files": outcome.files,
        "bytes": outcome.bytes,
        "revision": outcome.revision,
        "model-id": outcome.registry.get("RegisteredModel"),
        "model-version-id": outcome.registry.get("ModelVersion"),
    }
    for name, value in results.items():
        (folder / name).write_text("" if value is None else redact(str(value)), encoding="utf-8")


def write_workspace(settings: Settings, outcome: Outcome) -> None:
    """The files that steps of existing pipelines read, when there is a model for them to read about."""
    folder = settings.reporting.workspace
    if folder is None or not folder.is_dir() or outcome.status != "succeeded":
        return
    if version := outcome.registry.get("ModelVersion"):
        _replace(folder / "model_version_id", redact(version).encode())
    if outcome.reason == REGISTERED:
        return  # the other files are about a copy, and the step that made it has written them
    from syncer.settings.locations import S3Location

    now = dt.datetime.now(tz=dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    of_hub = outcome.source.startswith("hf://")
    status = {
        "stage": "download",
        "timestamp_utc": now,
        "hf_repo": outcome.source.removeprefix("hf://").partition("@")[0] if of_hub else "",
        "hf_revision": outcome.revision if of_hub else "",
        "model_size_bytes": outcome.bytes or 0,
        "download_time_seconds": round(outcome.seconds, 3),
    }
    if settings.stage in {"", "download"}:  # of what another step has downloaded, that step has told
        _replace(folder / ".pipeline-metadata" / "download-status.json", _json(redact_value(status)))
    bucket = next((each for each in settings.destinations if isinstance(each, S3Location)), None)
    if bucket is not None:
        plain = bucket.uri.rstrip("/")
        upload = {
            "model_name": settings.model_name,
            "version_name": settings.model_version,
            "minio_endpoint": bucket.endpoint,
            "minio_bucket": bucket.bucket,
            "s3_prefix": bucket.prefix.rstrip("/"),
            "s3_uri": plain,
            "upload_timestamp": now,
            "upload_duration_seconds": round(outcome.seconds, 3),
            "total_size": outcome.bytes or 0,
            "pattern": "*",
        }
        _replace(folder / "metadata" / "minio-upload.json", _json(redact_value(upload)))
        _replace(folder / "model_s3_uri", redact(plain).encode())


def _attempt(what: str, write: Callable[[Reporting], None], to: Reporting) -> None:
    """Write one report; what goes wrong is a line in the log."""
    try:
        write(to)
    except Exception as error:  # noqa: BLE001 - a report that cannot be written must not change how the run ends
        from syncer.logs import logger

        logger().warning("report_failed", report=what, problem=error)


def _log_finally(outcome: Outcome) -> None:
    """The one canonical line, and on a terminal the two that a person looks for."""
    from syncer import logs

    fields, terminal = outcome.fields(), logs.on_terminal()
    if terminal:
        fields = {name: value for name, value in fields.items() if value not in ("", [], None)}
    log = logs.logger()
    say = log.error if outcome.status == "failed" else log.info
    say("run_finished", **fields)
    if terminal and outcome.status == "failed":
        logs.tell(f"error: {outcome.message}")
        if outcome.hint:
            logs.tell(f"hint:  {outcome.hint}")


def _replace(path: Path, content: bytes) -> None:
    """Write whole or not at all, readable and writable by the next step, whatever UID it has in the same group."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(PermissionError):  # another step's folder, which lets us write but not change it
        path.parent.chmod(path.parent.stat().st_mode | 0o070)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.chmod(0o664)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _shortened(text: str, excess: int, *, keep: int) -> str:
    """`text` with at least `excess` bytes of its JSON cut off its end, but no shorter than `keep` bytes need be."""
    allowed = max(keep, len(_json(text)) - excess)
    while len(_json(text + "…")) > allowed and text:
        over = len(_json(text + "…")) - allowed
        # A character takes six bytes at most, so a sixth of the overhang is never too much.
        text = text[: len(text) - max(1, over // 6)]
    return text + "…"


def _shorten_longest(fields: dict[str, Any], excess: int) -> None:
    texts = {name: value for name, value in fields.items() if isinstance(value, str)}
    texts |= {"uris": fields["uris"][0]} if fields["uris"] else {}
    longest = max(texts, key=lambda name: len(_json(texts[name])))
    short = _shortened(texts[longest], excess, keep=2)
    fields[longest] = [short] if longest == "uris" else short
