"""What a store must tell so that every fault can happen to it in every phase, and what is said of each.

A module of this folder per kind of store has one or more `Store`: its columns are phases, its rows are faults, and its
`bench` makes servers, disturbs them, and judges the far end.  `stores.py` lists them all.

A case is a whole run in this process, as a pod would make it, with the fault once, and another with the fault for ever.
Whatever happens: never exit code 70, no traceback, no seal over anything but the whole model, a hint where it failed,
and after that a second run that nobody disturbs ends sealed, with the same bytes.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from tests.faults.hurry import hurried
from tests.support.http_faults import Kind
from tests.support.models import pattern
from tests.support.processes import Ended, Pod

MiB = 1 << 20

MODEL = {
    "model.safetensors": pattern(5 * MiB + 4096, 1),
    "config.json": b'{"model_type": "bert"}',
    "tokenizer/vocab.txt": pattern(1000, 2),
}
"""One file of two parts, as S3 wants them, and two of one."""
SMALL_STEPS = {
    "S3_SYNC_TRANSFER_CONFIG__CHUNK_SIZE": "5MiB",
    "S3_SYNC_TRANSFER_CONFIG__MAX_FILES": "1",
    "S3_SYNC_TRANSFER_CONFIG__MAX_THREADS_PER_FILE": "1",
    "S3_SYNC_WAIT_FOR_DESTINATION": "30s",
}
"""Parts as small as S3 takes them, and one after the other: a table must not differ by who was faster."""

NOTHING = "no harm"
ASKED = "asked again"
READ = "read again"
SENT = "sent again"
RESTARTED = "file started again"
LEFT = "lease left"
FOR_EVER = " / "
"""Between what comes of a fault that happens once and what comes of one without an end."""
UNSEEN = "not noticed"
MEANINGS = {
    NOTHING: "The run ends well, without one more request.",
    ASKED: "The run ends well. The request, or a question about what became of it, went out once more; no byte of the "
    "model did.",
    READ: "The run ends well. Bytes of the model were read once more.",
    SENT: "The run ends well. Bytes of the model were sent once more.",
    RESTARTED: "The run ends well. One file was begun anew.",
    LEFT: "The run ends well, but for its lease, which the next run takes over.",
    UNSEEN: "The run ends well with wrong bytes, as neither end has a digest that tells them. What an S3 source lists "
    "is no digest for sure. An S3 store whose ETags are never the MD5 of what was sent counts as one that means "
    "something else by them. A volume is believed. So use https, which guards the way, and volumes that keep "
    "checksums.",
}


@dataclass(frozen=True)
class Phase:
    """A column: requests that match `pattern` (as `METHOD target`; what a directory matches is its own affair).

    `kinds` say what such a request is, see `http_faults`.
    """

    name: str
    pattern: str
    kinds: frozenset[Kind] = frozenset()


class SealedWrongError(AssertionError):
    """A seal stands over other bytes than the model's: raised by a `Bench` that looks."""


class Row(Protocol):
    """A fault, of whatever kind."""

    @property
    def name(self) -> str: ...
    @property
    def why_not(self) -> str:
        """Why it cannot happen where it does not fit."""

    @property
    def silent(self) -> bool:
        """Whether only a time limit notices it."""

    @property
    def unseen(self) -> bool:
        """Whether there may be nothing that could notice it; the table says where."""

    def fits(self, kinds: frozenset[Kind]) -> bool: ...


class Bench(Protocol):
    """A store under test with all that belongs to a run; lives as long as the worker's session."""

    def anew(self) -> None:
        """A place where no run has been, and nothing counted."""

    def learn(self) -> None:
        """Remember what has happened since `anew` as what a run costs that nobody disturbs."""

    def environment(self) -> Mapping[str, str]:
        """Everything that the run is told."""

    def disturbed(self, row: Row, phase: Phase, *, for_ever: bool) -> AbstractContextManager[None]:
        """Let the fault happen in this phase while the context lasts."""

    def hits(self) -> int:
        """How often it happened since `anew`."""

    def look(self) -> bool:
        """Whether the destination is sealed; what lies there must not be wrong, and a seal only over all of it.

        Raises `SealedWrongError` where a seal is over anything else.
        """

    def check(self) -> None:
        """It is sealed, the same bytes, and nothing is left over: uploads, states, temporary files."""

    def cost(self) -> str:
        """What a run that ended well did more than one that nobody disturbed: a key of `MEANINGS`."""


Opener = Callable[[pytest.FixtureRequest, Path], AbstractContextManager[Bench]]
"""Makes a bench, with the fixtures of the request and a folder that is its own."""


@dataclass(frozen=True)
class Store:
    """A table: `key` is its name among the generated parts of the document."""

    key: str
    phases: Sequence[Phase]
    rows: Sequence[Row]
    bench: Opener


def measure(bench: Bench, pod: Pod, row: Row, phase: Phase) -> str:
    """What happens: one cell of the table."""
    once = measure_once(bench, pod, row, phase)
    for_ever = _try(bench, pod, row, phase, for_ever=True)
    return once if once == for_ever else f"{once}{FOR_EVER}{for_ever}"


def measure_once(bench: Bench, pod: Pod, row: Row, phase: Phase) -> str:
    """The first half of a cell, where the fault passes."""
    return _try(bench, pod, row, phase, for_ever=False)


def undisturbed(bench: Bench, pod: Pod) -> None:
    """A run to which nothing happens."""
    with hurried():
        ended = pod.run_here(dict(bench.environment()))
    assert ended.code == 0, ended
    bench.check()


def _try(bench: Bench, pod: Pod, row: Row, phase: Phase, *, for_ever: bool) -> str:
    bench.anew()
    with hurried(silent=row.silent), bench.disturbed(row, phase, for_ever=for_ever):
        ended = pod.run_here(dict(bench.environment()))
    assert bench.hits(), f"nothing happened\n{ended}"
    _judge(ended)
    try:
        sealed = bench.look()
    except SealedWrongError:
        if row.unseen and ended.code == 0:
            return UNSEEN
        raise
    if ended.code == 0:
        assert sealed, ended
        bench.check()
        return bench.cost()
    assert ended.termination["hint"], ended
    undisturbed(bench, pod)
    return str(ended.code)


def _judge(ended: Ended) -> None:
    assert ended.code != 70, ended
    assert "traceback" not in ended.output.lower(), ended
