"""One run at a time per destination: `.syncer/lease.json` names its holder and beats every five seconds.

Where several pods share the work, each share has a lease of its own beside it (`sharing/`).

Nobody compares clocks of two machines: a holder is silent when the file did not change for twenty seconds of *our*
clock.  A holder on this very host whose process is gone is taken over at once.
"""

from __future__ import annotations

import math
import os
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from syncer.errors import DeadlinePassed, NotThereYet, SyncerError
from syncer.manifest import FORMAT
from syncer.marker import dump_json, parse_json
from syncer.stop import Clock, StopSwitch
from syncer.stores.protocols import ControlConflict, ControlFolder
from syncer.threads import NoThread, start

LEASE: Final = "lease.json"
BEAT_SECONDS: Final = 5.0
SILENCE_SECONDS: Final = 20.0
_LOOK_SECONDS: Final = 1.0
_LONGEST_NAME: Final = 256
_LARGEST_PID: Final = 2**22
"""What Linux counts to (proc_sys_kernel(5), pid_max)."""


def this_host() -> str:
    """Names the process table that we are in: the machine's boot and the PID namespace, not a name that pods share."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"unknown/{uuid.uuid4().hex}"


def process_started(pid: int) -> str:
    """When a process of this host started, in ticks since boot; empty when there is no such process.

    A process number comes back, a pair of number and start does not (proc(5), field 22 of stat).
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


@dataclass(frozen=True)
class Holder:
    """Who holds a lease.  `identity` is unique to one run, whose attempts share it: each finds what the former left."""

    identity: str = field(default_factory=lambda: uuid.uuid4().hex)
    host: str = field(default_factory=this_host)
    pid: int = field(default_factory=os.getpid)
    started: str = field(default_factory=lambda: process_started(os.getpid()))
    name: str = field(default_factory=lambda: os.uname().nodename)

    def is_gone(self) -> bool:
        """Whether this is a process of our host that does not run any more."""
        return self.host == this_host() and process_started(self.pid) != self.started

    def is_here(self) -> bool:
        """Whether this is a process of our host that runs."""
        return self.host == this_host() and bool(self.started) and process_started(self.pid) == self.started

    @classmethod
    def of(cls, document: dict[str, Any]) -> Holder:
        """The holder that a lease file names; a field that makes no sense becomes one that matches nobody."""
        pid = document.get("pid")

        def text(name: str) -> str:
            told = document.get(name)
            return told[:_LONGEST_NAME] if isinstance(told, str) else ""

        return cls(
            identity=text("holder"),
            host=text("host"),
            pid=pid if isinstance(pid, int) and 0 < pid <= _LARGEST_PID else -1,
            started=text("started"),
            name=text("name"),
        )


def _shown(holder: Holder) -> str:
    return f"{holder.name or 'unknown'}, process {holder.pid}"


@dataclass
class Lease:
    """Use as a context manager: waits its turn, then keeps beating from a thread of its own until the end.

    `patience` in seconds; when it is used up, `NotThereYet` names the holder.  `told` hears once that the waiting
    begins, for whom and for how long, and how it ends.  `every_beat` is called in the keeper's thread after each beat;
    what it raises costs no beat.  When somebody else has taken the lease, the stop switch is thrown.  `name` is the
    lease's file, and `what` says what is leased.
    """

    control: ControlFolder
    stop: StopSwitch
    patience: float
    every_beat: Callable[[], None] = lambda: None
    told: Callable[[str], None] = lambda _message: None
    holder: Holder = field(default_factory=Holder)
    name: str = LEASE
    what: str = "this destination"
    clock: Clock = time.monotonic
    pause: Callable[[float], None] | None = None

    def __post_init__(self) -> None:
        self._beats = 0
        self._version: str | None = None
        self._ours_at = self.clock()
        self._over = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._acquire()
        try:
            start(self._keeper)
        except NoThread:
            self._give_back()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._keeper.join(timeout=_LOOK_SECONDS)
        self._give_back()

    def _give_back(self) -> None:
        # A lease that cannot be removed is taken over after its silence: no reason to fail a run that is done.
        with suppress(SyncerError):
            if self._ours() is not None:
                self.control.remove(self.name)

    def confirm(self) -> None:
        """Raise unless the lease is ours and the run goes on: for the moment before what cannot be taken back.

        A process that was suspended for long may go on before its next beat has told it that it was replaced.
        """
        if self._ours() is None:
            self._lost()
        self.stop.check()
        self._ours_at = self.clock()

    def still_ours(self) -> None:
        """`confirm`, if we have been silent for so long that another run may have taken our place.

        For the moment before something new is begun: who was suspended begins it before its next beat.
        """
        if self.clock() - self._ours_at >= SILENCE_SECONDS:
            self.confirm()

    def _acquire(self) -> None:
        begun = self.clock()
        seen: bytes | None = None
        seen_at = begun
        waits_for = ""
        while True:
            self._check(waits_for)
            found = self.control.read(self.name)
            if found is None:
                if self._take(expected=""):
                    self._tell_the_end(waits_for, begun)
                    return
                found = self.control.read(self.name) or (b"", "")  # who was faster?
            data, version = found
            holder = Holder.of(parse_json(data) or {})
            if data != seen:
                seen, seen_at = data, self.clock()
            silent = self.clock() - seen_at
            left_by_us = holder.identity == self.holder.identity
            if left_by_us and self._take(expected=version):
                return
            if (holder.is_gone() or silent >= SILENCE_SECONDS) and self._take(expected=version):
                self.told(f"took the lease over from {holder.name or 'an unknown holder'}, which is gone")
                return
            if self.clock() - begun >= self.patience:
                raise NotThereYet(
                    f"another run ({_shown(holder)}) is writing to {self.what}",
                    hint="let it finish or stop it; " + self._about_patience(),
                    stage="lease",
                )
            if not waits_for:
                waits_for = _shown(holder)
                self.told(f"another run ({waits_for}) is writing to {self.what}: {self._how_long()}")
            (self.pause or self.stop.wait)(_LOOK_SECONDS)

    def _check(self, waits_for: str) -> None:
        """Raise what the switch was thrown with; a deadline says what it has passed over."""
        try:
            self.stop.check()
        except DeadlinePassed as error:
            if waits_for and not error.stage:
                error.stage = "lease"
                raise error.reworded(f"{error.message} while it waited for another run ({waits_for})") from None
            raise

    def _how_long(self) -> str:
        if math.isinf(self.patience):
            return f"waiting until it ends, or is silent for {SILENCE_SECONDS:g} s"
        if self.patience < SILENCE_SECONDS:
            return f"waiting for {self.patience:g} s, which is too short to tell whether it is gone"
        return f"waiting for {self.patience:g} s at most, or until it is silent for {SILENCE_SECONDS:g} s"

    def _about_patience(self) -> str:
        also = f", and from {SILENCE_SECONDS:g}s on a run that is gone is replaced"
        short = self.patience < SILENCE_SECONDS
        return "S3_SYNC_WAIT_FOR_DESTINATION says how long to wait for it" + (also if short else "")

    def _tell_the_end(self, waits_for: str, begun: float) -> None:
        if waits_for:
            self.told(f"the other run ({waits_for}) has ended after {self.clock() - begun:.0f} s")

    def _take(self, *, expected: str) -> bool:
        """Write our name; True when it is ours for sure."""
        with suppress(ControlConflict):  # somebody was faster, or it was our own write, whose answer was lost
            self.control.write(self.name, self._document(), expected=expected)
        if not self.control.conditional:
            # Two may have written at the same moment, and the last one won: let the other's write arrive, then look.
            (self.pause or self.stop.wait)(_LOOK_SECONDS)
        self._ours_at = self.clock()
        self._version = self._ours()
        return self._version is not None

    def _keep(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            try:
                self._beat()
            except SyncerError as error:
                # One beat may fail as any request may; who takes a lease over waits for several.
                self.told(f"the lease could not be renewed: {error.message}")
            try:
                self.every_beat()
            except SyncerError as error:
                self.told(f"what goes with a beat failed: {error.message}")

    def _beat(self) -> None:
        try:
            if not self.control.conditional and self._ours() is None:
                raise ControlConflict
            self._beats += 1
            expected = self._version if self.control.conditional else None
            at = self.clock()
            self._version = self.control.write(self.name, self._document(), expected=expected)
            self._ours_at = at
        except ControlConflict:
            version = self._ours()
            if version is not None:
                self._version = version  # it was our own write, whose answer was lost
            elif not self._over.is_set():  # else this beat came too late, and the run has given its lease back
                self._lost()

    def _lost(self) -> None:
        self.stop.throw(
            NotThereYet(
                f"another run has taken {self.what} over",
                hint="only one job may write to one destination; let the other one finish",
                stage="lease",
            )
        )

    def _ours(self) -> str | None:
        """The version of the lease file if it names us, else None."""
        found = self.control.read(self.name)
        if found is None or (parse_json(found[0]) or {}).get("holder") != self.holder.identity:
            return None
        return found[1]

    def _document(self) -> bytes:
        return dump_json(
            {
                "format": FORMAT,
                "holder": self.holder.identity,
                "host": self.holder.host,
                "pid": self.holder.pid,
                "started": self.holder.started,
                "name": self.holder.name,
                "beat": self._beats,
            }
        )
