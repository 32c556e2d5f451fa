"""The engine: one pool of lanes, one memory budget, one stop switch.

A lane takes a part, opens the source's range and the destination's part, and moves the bytes from one to the other
chunk by chunk, through the file's digests on the way (`lane.py`, `window.py`).  Nothing is reserved for a part: memory
holds what has arrived and is not both sent and hashed.

Large files start first, small ones go beside them, and when no file is left to start, lanes join those under way.  How
many lanes there are follows what they bring (`tempo.py`).  The engine knows neither stores nor journal: an `Errand`
says what becomes of each file.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from syncer.affinity import Affinity
from syncer.bandwidth import Throttle
from syncer.control_groups import processors
from syncer.digests import FileHash
from syncer.errors import InternalError, SourceChanged, SyncerError, Transient, WrongBytes
from syncer.flight import Errand, Flight, Task
from syncer.lane import Lane, NeedsWholeParts, figures, make_parts_fit, threads_of
from syncer.logs import logger
from syncer.memory import MemoryBudget
from syncer.progress import Progress
from syncer.retry import PART, Patience, retrying
from syncer.schedule import Schedule, Sizing
from syncer.stop import StopSwitch
from syncer.stores.protocols import ForeignFile, UploadLost
from syncer.tempo import Look, Tempo
from syncer.threads import NoThread
from syncer.window import Stalled, Window

T = TypeVar("T")

_STOP_GRACE_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.2
_LINE_SECONDS: Final = 10.0
"""Between two lines about the number of lanes."""


@dataclass
class Engine:
    """Carries files.  `run` may be called several times, one after another."""

    sizing: Sizing
    stop: StopSwitch
    progress: Progress
    patience: Patience = PART
    clock: Callable[[], float] = time.monotonic
    throttle: Throttle | None = None
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
        self._throttle = engine.throttle or Throttle(None, engine.stop)
        self._log = logger(component="engine")
        self._schedule = Schedule(engine.sizing, tasks)
        self._tempo = Tempo(most=engine.sizing.most_lanes, start=engine.sizing.lanes, cores=processors())
        self._affinity = Affinity()
        self._error: SyncerError | None = None
        self._changed = threading.Condition()
        self._lanes: list[Lane] = []
        self._resting: list[Lane] = []  # their threads have ended: they are the next to start
        self._threads: list[threading.Thread] = []
        # Guarded by `_changed`: lanes that are on their way or wait for work, those that wait, what the tempo is told.
        self._running = self._idle = 0
        self._parts = self._slow_downs = 0
        self._whole_parts = False
        self._next_line = 0.0

    def to_the_end(self) -> None:
        self._progress.counted_by(lambda: figures(self._lanes, self._parts, self._running - self._idle, self._budget))
        self._progress.lanes = self._schedule.lanes
        self._start_lanes(self._schedule.lanes)
        self._await()
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

    def _await(self) -> None:
        """Until all lanes are still; when the run is over early, blocked ones are woken and then left behind."""
        give_up_at: float | None = None
        while alive := [thread for thread in self._threads if thread.is_alive()]:
            self._threads = alive
            now = self._engine.clock()
            if not self._over:
                self._set_tempo(now)
            elif give_up_at is None:
                give_up_at = now + _STOP_GRACE_SECONDS
                with self._changed:
                    self._changed.notify_all()
                self._errand.interrupt()
            elif now >= give_up_at:
                return  # the threads are daemons: whatever holds them does not hold the process
            alive[0].join(timeout=_LOOK_SECONDS)

    @property
    def _over(self) -> bool:
        return self._error is not None or self._stop.thrown

    def _fail(self, error: SyncerError) -> None:
        with self._changed:
            if self._error is None:
                self._error = self._stop.error or error
            self._changed.notify_all()

    # How many lanes -----------------------------------------------------------------------------------------------

    def _set_tempo(self, now: float) -> None:
        """Ask for the number of lanes; what is too many ends after its part."""
        with self._changed:
            slow_downs, self._slow_downs = self._slow_downs, 0
            look = Look(
                now=now,
                moved=sum(lane.bytes for lane in self._lanes),
                parts=self._parts,
                busy=self._running - self._idle,
                held=self._budget.waiting,
                slow_downs=slow_downs,
                cpu=time.process_time(),
            )
            before, wanted = self._schedule.lanes, self._tempo.look(look)
            self._schedule.lanes = wanted
            more = 0 if self._idle or self._schedule.done else wanted - self._running
            gathered = self._threads if self._schedule.only_small else ()
            if wanted < before:
                self._changed.notify_all()  # those that wait for work end now
        if wanted != before and now >= self._next_line:
            self._next_line = now + _LINE_SECONDS
            self._log.info("lanes_changed", lanes=wanted, before=before, slow_downs=slow_downs)
        self._progress.lanes = wanted
        self._affinity.look(look, [thread.native_id for thread in gathered])
        self._start_lanes(more)

    def _start_lanes(self, count: int) -> None:
        with self._changed:
            count = min(count, self._schedule.most_lanes - self._running)
            self._running += max(0, count)
            started = [self._resting.pop() if self._resting else self._new_lane() for _ in range(count)]
        for lane in started:  # all own a buffer before the first of them can fill the window
            lane.holding.fit(self._engine.sizing.chunk(self._schedule.lanes), kept=False)
        threads = threads_of(started, self._drive)
        self._threads += threads
        if unborn := started[len(threads) :]:
            self._make_do(unborn)

    def _make_do(self, unborn: list[Lane]) -> None:
        """The pod may have no more threads: go on with one less than there are, for whatever else needs one."""
        for lane in unborn:
            lane.holding.drop()
        with self._changed:
            self._resting += unborn
            self._running -= len(unborn)
            most = self._schedule.lanes = max(1, self._running - 1)
            stuck = not self._running and not self._schedule.done
            self._changed.notify_all()  # one of those that wait for work may be too many now
        error = NoThread()
        if stuck:
            self._fail(error)
            return
        self._engine.sizing = replace(self._engine.sizing, lanes=most, most=most)  # for the runs to come, too
        self._tempo = Tempo(most=most, start=most, cores=processors())
        self._progress.lanes = most
        self._log.warning("lanes_changed", lanes=most, reason=error.message, hint=error.hint)

    def _new_lane(self) -> Lane:
        name = f"lane-{len(self._lanes)}"
        self._lanes.append(Lane(self._errand, self._budget, self._throttle, self._check, self._moved, name))
        return self._lanes[-1]

    # One lane -----------------------------------------------------------------------------------------------------

    def _drive(self, lane: Lane) -> None:
        try:
            while (flight := self._draw(lane)) is not None:
                self._carry(lane, flight)
        except SyncerError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - a bug in a lane must end the run, not hang it
            bug = InternalError(f"{type(error).__name__} in the engine")
            bug.__cause__ = error
            self._fail(bug)
        finally:
            lane.holding.drop()
            with self._changed:
                self._resting.append(lane)

    def _draw(self, lane: Lane) -> Flight | None:
        """The next flight to work on, with memory for it, or None when this lane has to end."""
        with self._changed:
            while not self._over and (self._running <= self._schedule.lanes or self._schedule.urgent is not None):
                flight = self._schedule.draw()
                if flight is None and not self._schedule.flights:
                    break
                if flight is not None:
                    if lane.holding.fit(self._buffer_size(flight), kept=self._whole_parts):
                        return flight
                    self._schedule.give_back(flight)
                self._idle += 1
                self._changed.wait(timeout=1.0)  # which is for the deadline: nobody announces it
                self._idle -= 1
            self._running -= 1
        return None

    def _buffer_size(self, flight: Flight) -> int:
        if self._whole_parts:
            return flight.task.cut.length(0)
        chunk = self._engine.sizing.chunk(self._schedule.lanes)
        return min(chunk, flight.task.cut.part_size) if flight.large else chunk

    def _carry(self, lane: Lane, flight: Flight) -> None:
        """Work on one part of `flight` and see to what follows from it."""
        try:
            if flight.upload is None and self._start(flight):
                return
            with self._changed:
                index = flight.draw()
            if index is not None and self._part(lane, flight, index):
                self._part_done(flight)
        except _Abandoned:
            pass
        except (SourceChanged, WrongBytes, UploadLost, ForeignFile) as error:
            with self._changed:
                flight.given_up = flight.given_up or error
        finally:
            self._leave(flight)

    def _part(self, lane: Lane, flight: Flight, index: int) -> bool:
        """Carry one part; False when it is to be drawn again."""
        share = lane.share(flight, index)
        try:
            self._patiently(lambda: lane.carry(flight, index, share), flight.task, part=index)
            share.settle()
        except Stalled:
            stalled_at, whole = flight.window.turn if flight.window is not None else -1, False
        except NeedsWholeParts:
            stalled_at, whole = -1, True
        else:
            return True
        finally:
            share.leave()
            if lane.holding.kept:
                lane.holding.drop()
        with self._changed:
            self._schedule.put_back(flight, index)
            flight.stalled_at = stalled_at
            self._whole_parts = self._whole_parts or whole
        if whole:
            make_parts_fit(flight, self._engine.sizing.memory)
        return False

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
            digest = FileHash.of(task.file, self._errand.digest)
            if digest.in_order and task.cut.count > 1:
                flight.window = Window(digest, self._budget, task.file.path, clock=self._engine.clock)
            else:
                flight.digest = digest
        with self._changed:
            flight.upload = upload
            flight.undrawn = list(left)  # in order, and so a heap; from here on other lanes draw from it
            flight.unfinished = len(left)
            self._changed.notify_all()
        if upload.done:
            kept = sum(task.cut.length(index) for index in upload.done)
            self._moved(flight, kept)
            self._log.info("file_resumed", path=task.file.path, kept_bytes=kept, bytes=task.file.size)
        if not left:
            self._finish(flight)
        return not left

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
            if isinstance(error, Transient) and error.busy:
                with self._changed:
                    self._slow_downs += 1
            self._progress.retried(error)
            pause = round(pause, 2)
            self._log.warning("part_retried", path=task.file.path, part=part, pause_seconds=pause, error=error.message)

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
            self._parts += 1
            flight.unfinished -= 1
            last = flight.unfinished == 0 and flight.given_up is None
        if last:
            self._finish(flight)

    def _finish(self, flight: Flight) -> None:
        """All parts are there and hashed: compare, make the file visible, and tell the errand."""
        task = flight.task
        digests = flight.compared()
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
            self._schedule.leave(flight)
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
        self._progress.retried(why)
        instead = self._patiently(lambda: self._errand.again(task, why), task)
        if instead is not None:
            self._progress.grew(instead.file.size - task.file.size)
            self._log.warning("file_restarted", path=task.file.path, error=why.message)
        else:
            self._progress.file_finished(task.file.path)
        with self._changed:
            self._schedule.end(flight, instead=instead)
            self._changed.notify_all()
