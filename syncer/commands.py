"""What each sub-command does, from settings to last words.  How it is written on a command line is `flags.py`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from syncer import __version__
from syncer.errors import ConfigurationError, InternalError, SyncerError
from syncer.report import REGISTERED, LastWords, Outcome
from syncer.stop import StopSwitch
from syncer.threads import NoThread, start

if TYPE_CHECKING:
    from syncer import job, uploading
    from syncer.screen import Screen
    from syncer.settings import CommandLine, Settings


@dataclass(frozen=True)
class Order:
    """What a command line asks for.

    `reads` is True for what needs a source, `copies` for what leaves a model that the workspace files are about,
    `asks` for what may find its destination elsewhere than in the settings, `registers` for what needs a registry and
    no source, `compresses` for what does nothing else, and `examines` for what looks at the settings by itself.
    """

    work: Callable[[Call], Outcome]
    said: CommandLine
    verbosity: int
    reads: bool = False
    copies: bool = False
    asks: bool = False
    registers: bool = False
    compresses: bool = False
    examines: bool = False


@dataclass
class Call:
    """One command on its way: what it was called with, and what became known since."""

    environ: Mapping[str, str]
    stop: StopSwitch
    words: LastWords
    settings: Settings | None = None
    begun: bool = False
    show: Screen = field(init=False)

    def carry_out(self, order: Order) -> None:
        """Understand the settings, work, and say how it went; errors are left to `failed`."""
        from syncer import settings as environment
        from syncer.screen import Screen

        self.begin(verbosity=order.verbosity)
        if order.examines:
            outcome = order.work(self)
            self.words.say(replace(outcome, seconds=outcome.seconds or self.words.seconds))
            return
        settings = environment.load(
            self.environ,
            command_line=order.said,
            needs_source=order.reads,
            needs_destination=not order.asks,
            registers=(order.reads and not order.compresses) or order.registers,
            compresses=order.compresses,
        )
        self.adopt(settings, workspace=order.copies, whole=not order.asks)
        self.bound(settings)
        with Screen(self.known) as self.show:
            outcome = order.work(self)
        self.words.say(replace(outcome, seconds=outcome.seconds or self.words.seconds))

    def adopt(self, settings: Settings, *, workspace: bool = False, whole: bool = True) -> None:
        """Make `settings` those of this call from now on: hide their secrets, and tell what they are once `whole`."""
        from syncer import logs
        from syncer import settings as environment

        self.settings = settings
        logs.register_secrets(environment.secrets(settings))
        self.words.concern(settings, workspace=workspace)
        if not whole:
            return
        log = logs.logger()
        log.info("settings_loaded", version=__version__, **environment.effective(settings))
        for note in settings.notes:
            log.warning("settings_noted", note=note)

    def bound(self, settings: Settings) -> StopSwitch:
        """Let the deadline of `settings` stop this call, as a signal does; the switch that both throw."""
        self.stop = self.stop.bounded(settings.deadline)
        self.stop.on_throw(self._tell_of_stop)
        return self.stop

    def begin(self, *, verbosity: int = 0) -> None:
        """Be able to log and to report, whatever the settings turn out to be."""
        from syncer import logs
        from syncer.settings.reporting import places_known_first

        self.begun = True
        logs.configure(verbosity=verbosity)
        logs.catch_strays()
        self.words.report_to(places_known_first(self.environ))

    def failed(self, error: BaseException) -> None:
        """Say why it failed.  A stop that came first is the reason, whatever broke because of it."""
        from syncer import logs

        if not self.begun:
            self.begin()
        log = logs.logger()
        if isinstance(error, SyncerError) and not isinstance(error, InternalError):
            log.debug("run_failed", exc_info=error)
        else:
            log.error("run_crashed", exc_info=error)
        problems: tuple[str, ...] = getattr(error, "problems", ())
        if isinstance(error, SyncerError) and any(problem not in error.message for problem in problems):
            log.error("problems_found", problems=list(problems))  # the message names the first few
        self.words.say(self.failure(self.stop.error or error))

    def failure(self, error: BaseException) -> Outcome:
        """How this call ends with `error`; what is wrong on the way to a far end goes into the hint."""
        outcome = self.words.failure(error)
        with suppress(Exception):  # a hint is worth less than the report
            if self.settings is not None:
                from syncer.examining import afterwards

                return afterwards.with_finding(outcome, error, self.settings, self.stop)
        return outcome

    def _tell_of_stop(self) -> None:
        """Say in the log that the end begins; from a thread, for nothing may hold up those who are woken next."""
        from syncer import logs

        error = self.stop.error
        if error is not None:
            fields = {"reason": error.message, "hint": error.hint}
            tell = logs.logger().warning
            thread = threading.Thread(target=tell, args=("stop_requested",), kwargs=fields, name="told", daemon=True)
            with suppress(NoThread):  # those who are woken next matter more
                start(thread)

    def known(self) -> Settings:
        """The settings, which are known when a command works."""
        if self.settings is None:
            raise InternalError("a command works without settings")
        return self.settings

    @property
    def source(self) -> str:
        """The source's printable name; empty when there is none."""
        source = self.known().source
        return source.uri if source else ""

    @property
    def destination(self) -> str:
        """The destinations' printable names, separated by commas; empty when there is none."""
        return ", ".join(destination.uri for destination in self.known().destinations)


def to_sync(said: CommandLine, *, verbosity: int = 0) -> Order:
    """The order to `sync`, which needs no flags."""
    return Order(sync, said, verbosity=verbosity, reads=True, copies=True)


def sync(call: Call) -> Outcome:
    """Bring the destination to what the source has."""
    from syncer import job, tables

    settings = call.known()
    if settings.registry is not None and settings.destination is not None and settings.skip & {"download", "upload"}:
        return register(call, version_from="")  # a pipeline whose bytes are there already still wants this stage
    result = job.sync(call.known(), call.stop, call.show)
    if result.skipped:
        return Outcome(status="skipped", reason="NothingToDo", message=result.skipped, source=call.source)
    return _sealed(
        call,
        result,
        reason=result.reason,
        message=result.share
        or f"{tables.files(result.files)} sealed at {call.destination}, {result.copied_files} copied now"
        + _shrunk(result),
        source=call.source,
    )


def compress(call: Call) -> Outcome:
    """Compress the model in the source's folder to the destination's."""
    from syncer import job, tables

    result = job.compress(call.known(), call.stop, call.show)
    if result.skipped:
        return Outcome(status="skipped", reason="NothingToDo", message=result.skipped, source=call.source)
    return _sealed(
        call,
        result,
        reason="Compressed" if result.copied_files else "UpToDate",
        message=f"{tables.files(result.files)} sealed at {call.destination}" + _shrunk(result),
        source=call.source,
    )


def _shrunk(result: job.Result) -> str:
    """What a compression made of the model's size, for the message; empty where there was none."""
    if not result.bytes_before:
        return ""
    unit, name = (1e9, "GB") if result.bytes >= 1e9 else (1e6, "MB")
    return f", compressed from {result.bytes_before / unit:.2f} {name} to {result.bytes / unit:.2f} {name}"


def register(call: Call, *, version_from: str) -> Outcome:
    """Register the model that lies sealed at the destination; `version_from` names its version, unless empty."""
    from syncer import job

    settings = call.known()
    result = job.register(settings, call.stop, version_from=version_from)
    if result.skipped or settings.registry is None:
        return Outcome(status="skipped", reason="NothingToDo", message=result.skipped, destination=call.destination)
    return _sealed(
        call,
        result,
        reason=REGISTERED,
        message=f"{result.title} is registered at {settings.registry.endpoint}",
        source=result.source,
    )


def _sealed(call: Call, result: job.Result, *, reason: str, message: str, source: str) -> Outcome:
    """How a command ended that leaves one sealed model."""
    return Outcome(
        status="succeeded",
        reason=reason,
        message=message,
        source=source,
        destination=call.destination,
        uris=result.uris,
        revision=result.revision,
        files=result.files,
        bytes=result.bytes,
        copied_bytes=result.copied_bytes,
        digest=result.digest,
        registry=result.registry,
    )


def plan(call: Call, *, as_json: bool) -> Outcome:
    """Print what `sync` would do."""
    from syncer import job, tables

    planned = job.plan(call.known(), call.stop)
    if as_json:
        print_result(tables.plans_as_json(planned, source=call.source))
    else:
        print_result(tables.plans_as_tables(planned))
    return Outcome(
        status="succeeded",
        reason="Planned",
        message=tables.plans_in_a_line(planned),
        source=call.source,
        destination=call.destination,
    )


def verify(call: Call) -> Outcome:
    """Read everything at each destination and name what differs from its manifest."""
    from syncer import job, logs, several, tables

    found = job.verify(call.known(), call.stop, call.show)
    failures: list[several.Failure] = []
    looked_at = [differences for differences in found.values() if not isinstance(differences, SyncerError)]
    for uri, differences in found.items():
        if isinstance(differences, SyncerError):
            failures.append((uri, differences))
            continue
        for line in differences.lines():
            # For a person the names are the result; in a pod they are lines of the log like everything else.
            told = line if len(found) == 1 else f"{uri}: {line}"
            if logs.on_terminal():
                print_result(logs.redact(told))
            else:
                logs.logger().error("difference_found", difference=told)
        if differences:
            failures.append((uri, differences.to_error()))
    files, size = sum(each.files for each in looked_at), sum(each.bytes for each in looked_at)
    if failures:
        right = [uri for uri in found if uri not in dict(failures)]
        error = failures[0][1] if len(found) == 1 else several.worst(failures, done=right, verb="as it should be")
        return replace(call.failure(error), files=files, bytes=size)
    return Outcome(
        status="succeeded",
        reason="Verified",
        message=f"{tables.files(files)} as the manifest says",
        destination=call.destination,
        uris=tuple(found),
        files=files,
        bytes=size,
    )


def wait(call: Call, *, source: str, revision: str, deadline: str) -> Outcome:
    """Wait until all destinations are sealed as asked; `deadline` is a duration (`0s` looks once) or empty."""
    from syncer import gate

    seconds = duration("--deadline", deadline) if deadline else None
    settings = call.known()
    found = gate.wait(settings, call.stop, gate.Awaited(source=source, revision=revision), deadline=seconds)
    seal, since = found[0].seal, max(each.seal.completed_at for each in found)  # an image tells no time
    return Outcome(
        status="succeeded",
        reason="Sealed",
        message=f"{call.destination} is sealed" + (f" since {since}" if since else ""),
        source=seal.source,
        destination=call.destination,
        uris=tuple(destination.uri for destination in settings.destinations),
        revision=seal.revision,
        files=seal.files,
        bytes=seal.bytes,
        digest=",".join(each.digest for each in found),
    )


def upload(call: Call, wish: uploading.Wish, said: CommandLine) -> Outcome:
    """Upload files of this machine, each model on its own."""
    from syncer import tables, uploading

    scene = uploading.Scene(
        environ=call.environ,
        said=said,
        settings=call.known(),
        stop=call.stop,
        show=call.show,
        here=_here(),
        adopt=call.adopt,
        show_result=print_result,
    )
    done = uploading.upload(wish, scene)
    source = " ".join(wish.paths)
    if skipped := next((result.skipped for result in done.results if result.skipped), ""):
        return Outcome(status="skipped", reason="NothingToDo", message=skipped, source=source)
    files, copied = sum(result.files for result in done.results), sum(result.copied_files for result in done.results)
    return Outcome(
        status="succeeded",
        reason="Uploaded" if copied or any(result.deleted_files for result in done.results) else "UpToDate",
        message=f"{tables.files(files)} sealed at {done.destination}, {copied} copied now",
        source=source,
        destination=done.destination,
        uris=tuple(result.uri for result in done.results),
        files=files,
        bytes=sum(result.bytes for result in done.results),
        copied_bytes=sum(result.copied_bytes for result in done.results),
        digest=",".join(result.digest for result in done.results),
    )


def doctor(call: Call, said: CommandLine, *, as_json: bool) -> Outcome:
    """Look at everything that a run depends on; fails as the first step that failed."""
    from syncer import examining

    terminal = sys.stdout is not None and sys.stdout.isatty()

    def adopt(settings: Settings) -> StopSwitch:
        call.adopt(settings)
        return call.bound(settings)

    found = examining.examine(call.environ, said, adopt=adopt, stop=call.stop)
    print_result(found.as_table() if terminal and not as_json else found.as_json())
    source, destination = (call.source, call.destination) if call.settings else ("", "")
    return replace(found.outcome, source=source, destination=destination)


def _here() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise ConfigurationError("the current directory is not there any more", hint="cd to one that is") from error


def duration(option: str, text: str) -> float:
    """Seconds of a duration such as `2h`; `ConfigurationError` that names the option for anything else."""
    from syncer.settings import values

    try:
        return values.seconds(text)
    except ValueError as error:
        raise ConfigurationError(f"{option} {error}", hint=f"for example: {option} 2h") from error


def print_result(text: str) -> None:
    """A result on standard output; who does not listen changes nothing."""
    with suppress(OSError, ValueError, AttributeError):
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
