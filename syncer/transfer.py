"""The engine: one pool of lanes, one memory budget, one stop switch.

A lane takes a part: memory first, then the source's range, then the destination's part; chunk by chunk the bytes go
from one to the other and through the file's hash.  The part stays in memory until the destination has it and its turn
in the hash has come, so a read that breaks goes on at the byte it reached, and a write that breaks is sent again
without a second read.  Parts that memory cannot hold are relayed in one lane through a small buffer instead.

Large files start first, small ones go beside them, and when no file is left to start, idle lanes join those under way.
The engine knows neither stores nor journal: an `Errand` says what becomes of each file.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Final, TypeVar

from syncer.digests import FileHash
from syncer.errors import ConfigurationError, InternalError, SourceChanged, SyncerError, Transient, WrongBytes
from syncer.flight import Errand, Flight, Task
from syncer.logs import logger
from syncer.memory import Buffer, MemoryBudget, MiB
from syncer.progress import Progress
from syncer.retry import PART, Patience, retrying
from syncer.schedule import Schedule, Sizing
from syncer.stop import StopSwitch
from syncer.stores.protocols import Body, ForeignFile, UploadLost
from syncer.window import Window

T = TypeVar("T")

CHUNK: Final = MiB
_STOP_GRACE_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.2


@dataclass
class Engine:
    """Carries files.  `run` may be called several times, one after another."""

    sizing: Sizing
    stop: StopSwitch
    progress: Progress
    patience: Patience = PART
    clock: Callable[[], float] = time.monotonic
    budget: MemoryBudget = field(init=False)

    def __post_init__(self) -> None:
        self.budget = MemoryBudget(self.sizing.memory)

    def run(self, errand: Errand, tasks: Sequence[Task]) -> None:
        """Carry all `tasks`; return when every one is done.

        Raises the first error that cannot be helped, after the other lanes have let go.  Uploads that are open then
        are suspended, so that the next run resumes them.
        """
        if tasks:
            _Run(self, errand, tasks).to_the_end()


class _Abandoned(Exception):
    """This lane's part is not wanted any more: the file starts again or the run is over."""


class _Run:
    """One call of `Engine.run`."""

    def __init__(self, engine: Engine, errand: Errand, tasks: Sequence[Task]) -> None:
        self._engine = engine
        self._errand = errand
        self._stop = engine.stop
        self._budget = engine.budget
        self._progress = engine.progress
        self._log = logger(component="engine")
        self._schedule = Schedule(engine.sizing, tasks)
        self._error: SyncerError | None = None
        self._changed = threading.Condition()

    def to_the_end(self) -> None:
        lanes = self._schedule.most_lanes
        threads = [threading.Thread(target=self._lane, name=f"lane-{n}", daemon=True) for n in range(lanes)]
        for thread in threads:
            thread.start()
        self._await(threads)
        with self._changed:
            left = list(self._schedule.flights)
        for flight in left:
            if flight.window is not None:
                flight.window.drop()
            if flight.upload is not None:
                flight.upload.suspend()
        if self._error is not None:
            raise self._error
        if not self._schedule.done:
            self._stop.check()
            raise InternalError("files are left to carry though no lane is")

    def _await(self, threads: list[threading.Thread]) -> None:
        """Until all lanes are still; when the run is over early, blocked ones are woken and then left behind."""
        give_up_at: float | None = None
        while alive := [thread for thread in threads if thread.is_alive()]:
            alive[0].join(timeout=_LOOK_SECONDS)
            if not self._over:
                continue
            if give_up_at is None:
                give_up_at = self._engine.clock() + _STOP_GRACE_SECONDS
                self._wake()
                self._errand.interrupt()
            elif self._engine.clock() >= give_up_at:
                return  # the threads are daemons: whatever holds them does not hold the process

    @property
    def _over(self) -> bool:
        return self._error is not None or self._stop.thrown

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _fail(self, error: SyncerError) -> None:
        with self._changed:
            if self._error is None:
                self._error = self._stop.error or error
            self._changed.notify_all()

    # One lane -----------------------------------------------------------------------------------------------------

    def _lane(self) -> None:
        try:
            while (drawn := self._draw()) is not None:
                self._carry(*drawn)
        except SyncerError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - a bug in a lane must end the run, not hang it
            bug = InternalError(f"{type(error).__name__} in the engine")
            bug.__cause__ = error
            self._fail(bug)

    def _draw(self) -> tuple[Flight, Buffer] | None:
        """The next flight to work on and memory for one part of it, or None when the run is over."""
        with self._changed:
            while not self._over:
                choice = self._schedule.choose()
                if choice is None and not self._schedule.flights:
                    return None
                if choice is not None:
                    flight = choice if isinstance(choice, Flight) else self._flight(choice)
                    buffer = self._budget.reserve(self._buffer_size(flight))
                    if buffer is not None:
                        if flight is not choice:
                            self._schedule.start(flight)
                        flight.lanes += 1
                        return flight, buffer
                # The time-out is for the deadline, which nobody announces.
                self._changed.wait(timeout=1.0)
        return None

    def _flight(self, task: Task) -> Flight:
        return Flight(task, relayed=task.cut.length(0) > self._engine.sizing.memory // 2)

    def _buffer_size(self, flight: Flight) -> int:
        cut = flight.task.cut
        if flight.relayed:
            return min(CHUNK, self._engine.sizing.memory)
        return cut.length(flight.undrawn[0] if flight.undrawn else 0)

    def _carry(self, flight: Flight, buffer: Buffer) -> None:
        """Work on one part of `flight` and see to what follows from it; the buffer is given back in every case."""
        held = True  # whether the buffer is still ours to give back
        try:
            if not flight.begun and self._start(flight):
                return
            with self._changed:
                if flight.given_up is not None or not flight.undrawn:
                    return
                index = flight.undrawn.popleft()
            if flight.relayed:
                self._relay(flight, index, buffer.view)
            else:
                buffer.narrow(flight.task.cut.length(index))
                self._move(flight, index, buffer)
                if flight.window is not None:
                    held = False
                    flight.window.complete(index, buffer)
            self._part_done(flight)
        except _Abandoned:
            pass
        except (SourceChanged, WrongBytes, UploadLost, ForeignFile) as error:
            with self._changed:
                flight.given_up = flight.given_up or error
        finally:
            if held:
                self._budget.release(buffer)
            self._leave(flight)

    def _start(self, flight: Flight) -> bool:
        """Open the upload; True when nothing is left to carry."""
        task = flight.task
        if self._patiently(lambda: self._errand.shortcut(task, moved=lambda count: self._moved(flight, count)), task):
            self._moved(flight, task.file.size - flight.moved)
            self._progress.file_finished(task.file.path)
            with self._changed:
                self._schedule.end(flight)
            return True
        self._progress.file_started(task.file.path, task.file.size)
        upload = self._patiently(lambda: self._errand.begin(task), task)
        left = [index for index in range(task.cut.count) if index not in upload.done]
        if not upload.done and task.hashed:
            flight.digest = FileHash.of(task.file)
            if not flight.relayed:
                flight.window = Window(flight.digest, self._budget.release)
        with self._changed:
            flight.upload = upload
            flight.undrawn.extend(left)
            flight.unfinished = len(left)
            self._changed.notify_all()
        if upload.done:
            kept = sum(task.cut.length(index) for index in upload.done)
            self._moved(flight, kept)
            self._log.info("file_resumed", path=task.file.path, kept_bytes=kept, bytes=task.file.size)
        if not left:
            self._finish(flight)
        return not left

    def _move(self, flight: Flight, index: int, buffer: Buffer) -> None:
        """Carry one part through its buffer: `filled` bytes of it are there, whatever broke."""
        view = buffer.view
        filled = 0

        def attempt() -> None:
            nonlocal filled
            body = self._rest(flight, index, filled)
            try:
                with flight.part(index) as sink:
                    if filled:
                        sink.send(view[:filled])
                    opened_at = filled
                    while body is not None and filled < len(view):
                        self._check(flight)
                        try:
                            count = body.readinto(view[filled : filled + CHUNK])
                        except Transient:
                            if filled == opened_at:
                                raise  # not a byte since it was opened: that is for the back-off
                            body.close()
                            opened_at = filled
                            body = self._rest(flight, index, filled)
                            continue
                        chunk = view[filled : filled + _sane(count, len(view) - filled, flight)]
                        filled += count
                        self._moved(flight, count)
                        sink.send(chunk)
                        if flight.window is not None:
                            flight.window.advance(index, buffer, filled)
            finally:
                if body is not None:
                    body.close()

        self._patiently(attempt, flight.task, part=index)

    def _rest(self, flight: Flight, index: int, filled: int) -> Body | None:
        """The range of a part beyond its first `filled` bytes, opened; None when there is no more."""
        self._check(flight)
        cut = flight.task.cut
        left = cut.length(index) - filled
        return self._errand.read(flight.task.file, cut.offset(index) + filled, left) if left else None

    def _relay(self, flight: Flight, index: int, view: memoryview) -> None:
        """Carry one part that memory cannot hold: when it breaks it starts again, and so does its share of the hash."""
        task = flight.task
        offset, length = task.cut.offset(index), task.cut.length(index)

        def attempt() -> None:
            self._check(flight)
            digest = flight.digest.copy() if flight.digest is not None else None
            left = length
            try:
                with closing(self._errand.read(task.file, offset, length)) as body, flight.part(index) as sink:
                    if sink.keeps_views:
                        raise _does_not_fit(task, length)
                    while left:
                        self._check(flight)
                        count = _sane(body.readinto(view[: min(left, len(view))]), left, flight)
                        sink.send(view[:count])
                        if digest is not None:
                            digest.update(view[:count])
                        left -= count
                        self._moved(flight, count)
            except BaseException:
                self._moved(flight, left - length)
                raise
            flight.digest = digest

        self._patiently(attempt, task, part=index)

    def _moved(self, flight: Flight, count: int) -> None:
        flight.moved += count  # a figure for the display: a lost update under threads is fine
        self._progress.moved(flight.task.file.path, count)

    def _check(self, flight: Flight) -> None:
        """Between two chunks: is this part still wanted?"""
        self._stop.check()
        if flight.given_up is not None or self._error is not None:
            raise _Abandoned

    def _patiently(self, work: Callable[[], T], task: Task, *, part: int | None = None) -> T:
        def tell(error: SyncerError, pause: float) -> None:
            self._log.warning(
                "part_retried",
                path=task.file.path,
                part=part,
                pause_seconds=round(pause, 2),
                error=error.message,
            )

        try:
            return retrying(work, patience=self._engine.patience, stop=self._stop, on_retry=tell)
        except SyncerError as error:
            if self._over and error.retryable:
                raise _Abandoned from error  # our own interrupt, or a fault that no longer matters
            if error is not self._stop.error:  # which is about the whole run, and shared by all lanes
                error.path = error.path or task.file.path
            raise

    # What follows from a part ---------------------------------------------------------------------------------------

    def _part_done(self, flight: Flight) -> None:
        with self._changed:
            flight.unfinished -= 1
            last = flight.unfinished == 0 and flight.given_up is None
        if last:
            self._finish(flight)

    def _finish(self, flight: Flight) -> None:
        """All parts are there and hashed: compare, make the file visible, and tell the errand."""
        task = flight.task
        digests = flight.digest.digests() if flight.digest is not None else {}
        for name, value in digests.items():
            expected = task.file.digests.get(name)
            if expected is not None and expected != value:
                raise WrongBytes(
                    f"{task.file.path}: {name} should be {expected}, the bytes have {value}",
                    hint="the file is damaged where it lies or on the way from there; compare it with its origin",
                    path=task.file.path,
                )
        version = self._patiently(flight.opened.finish, task)
        self._errand.done(task, version=version, digests=digests)
        self._log.debug("file_finished", path=task.file.path, bytes=task.file.size, digests=digests)
        self._progress.file_finished(task.file.path)
        with self._changed:
            self._schedule.end(flight)
            self._changed.notify_all()

    def _leave(self, flight: Flight) -> None:
        """A lane is done with a part of `flight`; the last one to leave a flight that was given up starts it again."""
        with self._changed:
            flight.lanes -= 1
            last_of_a_lost_one = flight.given_up is not None and flight.lanes == 0 and flight in self._schedule.flights
            self._changed.notify_all()
        if last_of_a_lost_one:
            with suppress(_Abandoned):
                self._start_again(flight)

    def _start_again(self, flight: Flight) -> None:
        why, task = flight.given_up, flight.task
        if flight.window is not None:
            flight.window.drop()
        if flight.upload is not None:
            flight.upload.abort()
        self._progress.moved(task.file.path, -flight.moved)
        if why is None or self._over:
            raise _Abandoned
        instead = self._patiently(lambda: self._errand.again(task, why), task)
        if instead is not None:
            self._progress.grew(instead.file.size - task.file.size)
            self._log.warning("file_restarted", path=task.file.path, error=why.message)
        else:
            self._progress.file_finished(task.file.path)
        with self._changed:
            self._schedule.end(flight, instead=instead)
            self._changed.notify_all()


def _sane(count: int, left: int, flight: Flight) -> int:
    """What a body says it has read; an end before the end must not pass as a file."""
    if not 0 < count <= left:
        raise Transient("the source ended a part early", path=flight.task.file.path)
    return count


def _does_not_fit(task: Task, length: int) -> ConfigurationError:
    return ConfigurationError(
        f"a part of {length} bytes does not fit into the memory setting, and this store needs it whole",
        hint="raise S3_SYNC_TRANSFER_CONFIG__MEMORY to twice the part size",
        path=task.file.path,
    )
