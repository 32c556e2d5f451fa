"""Many inputs for one parser, in a process of its own with bounded memory and a bounded time for each input."""

import contextlib
import gc
import random
import resource
import signal
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Final

from syncer import logs
from tests.fuzz.mutation import mutate
from tests.fuzz.target import Target, Violated, survive

SECONDS: Final = 2.0
"""Of processor time for one input, which has a quarter of a megabyte at most."""
ROOM: Final = 512 * 1024 * 1024
"""Bytes of address space that a process may take beyond what it has when it begins."""
_MOST_KEPT: Final = 3


@dataclass(frozen=True)
class Finding:
    """An input that a parser did not survive; `what` is the same for the same mistake."""

    target: str
    what: str
    trace: str
    data: bytes


@dataclass
class Account:
    """What became of some inputs."""

    target: str
    inputs: int = 0
    seconds: float = 0.0
    grown: int = 0
    slowest: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def add(self, other: "Account") -> None:
        """Take in another account of the same target."""
        self.inputs += other.inputs
        self.seconds += other.seconds
        self.grown = max(self.grown, other.grown)
        self.slowest = max(self.slowest, other.slowest)
        self.outcomes += other.outcomes
        known = {finding.what for finding in self.findings}
        self.findings += [finding for finding in other.findings if finding.what not in known]


class TooSlow(BaseException):
    """An input took more processor time than any may; no parser's `except Exception` takes it."""


class Lines:
    """Where logs go: a line with a control character in it is a finding."""

    def write(self, text: str) -> int:
        for line in text.removesuffix("\n").split("\n"):
            if any(ord(letter) < 32 or 0x7F <= ord(letter) < 0xA0 for letter in line):
                raise Violated(f"a log line with control characters: {line[:300]!r}")
        return len(text)

    def flush(self) -> None: ...

    def isatty(self) -> bool:
        return False


def run(target: Target, *, inputs: int, seed: int) -> Account:
    """Feed so many inputs, the same ones for the same seed.  Changes the limits of this process."""
    logs.configure(stream=Lines(), terminal=False)  # type: ignore[arg-type]  # what is used of a stream
    generator = random.Random(f"{target.name}:{seed}")
    account = Account(target.name)
    for each in target.seeds:  # what is loaded at the first use, such as the SDK's descriptions, is no input's fault
        with contextlib.suppress(Exception):
            survive(target, each)
    gc.collect()
    before = _resident()
    begun = time.process_time()
    with _limited():
        for _ in range(inputs):
            _try(target, mutate(generator, target.seeds, target.repaired), account)
    account.seconds = time.process_time() - begun
    account.grown = max(0, _resident() - before)
    return account


def _try(target: Target, data: bytes, account: Account) -> None:
    account.inputs += 1
    begun = time.process_time()
    try:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            account.outcomes[survive(target, data) or "taken"] += 1
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    except (Exception, TooSlow) as error:  # noqa: BLE001 - whatever a parser raises is what is looked for
        _note(target, data, account, error)
    account.slowest = max(account.slowest, time.process_time() - begun)


def _note(target: Target, data: bytes, account: Account, error: BaseException) -> None:
    account.outcomes["unexpected"] += 1
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/syncer/" in frame.filename] or frames
    place = f"{Path(ours[-1].filename).name}:{ours[-1].name}" if ours else "?"
    what = f"{type(error).__name__} in {place}"
    if what not in {finding.what for finding in account.findings}:
        trace = "".join(traceback.format_exception(error))
        account.findings.append(Finding(target.name, what, f"{trace[:6000]}\n...\n{trace[-6000:]}", data))


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """At most `ROOM` more memory, and `TooSlow` when the timer of an input runs out."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise TooSlow(f"more than {SECONDS} s of processor time")

    former = signal.signal(signal.SIGPROF, stop)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGPROF, former)


def _resident() -> int:
    """The most memory that this process has ever had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
