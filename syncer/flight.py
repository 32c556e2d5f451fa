"""What the engine carries: a task, the errand that it belongs to, and the flight that its lanes share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from syncer.digests import FileHash
from syncer.errors import InternalError, SyncerError
from syncer.manifest import DigestName, ModelFile
from syncer.stores.protocols import Body, Cut, PartSink, Upload
from syncer.window import Window


@dataclass(frozen=True)
class Task:
    """A file to carry, how it is cut, and the token of the upload to go on with.

    One that is not `hashed` is a stretch of a file, of which a digest would prove nothing.
    """

    file: ModelFile
    cut: Cut
    resume: str = ""
    hashed: bool = True


class Errand(Protocol):
    """What a run does with each file.  Called from many threads."""

    def shortcut(self, task: Task, *, moved: Callable[[int], None]) -> bool:
        """Whether the file is done already without its bytes passing through here; called again after a `Transient`.

        `moved` may be told what arrives meanwhile, and is told that it was of no use when this led nowhere.
        """
        ...

    def begin(self, task: Task) -> Upload:
        """Open the upload of a file; called once more after a `Transient`."""
        ...

    def read(self, file: ModelFile, start: int, length: int) -> Body:
        """Open a range of a file."""
        ...

    def done(self, task: Task, *, version: str, digests: dict[DigestName, str]) -> None:
        """The file is finished; `digests` is empty when this process did not see all of its bytes."""
        ...

    def again(self, task: Task, why: SyncerError) -> Task | None:
        """What to do instead of a task that was given up: its source changed, its bytes are wrong, its place is taken.

        Returns the task to start, or None to leave the file; raises when it was tried often enough.  Called once more
        after a `Transient`.
        """
        ...

    def interrupt(self) -> None:
        """Wake every lane that is blocked in a read or a write."""
        ...


@dataclass(eq=False)
class Flight:
    """The shared state of one file under way; everything but `window` is guarded by the engine's lock.

    `undrawn` are the parts that no lane has taken, `lanes` how many lanes are on it, `unfinished` the parts that are
    not whole at the destination yet.  `relayed` files have parts too large to be held: one lane, small buffer.
    `given_up` is the reason why this flight ends early; the lane that leaves it last starts the file again.
    """

    task: Task
    relayed: bool
    upload: Upload | None = None
    digest: FileHash | None = None
    window: Window | None = None
    undrawn: deque[int] = field(default_factory=deque)
    lanes: int = 0
    unfinished: int = 0
    moved: int = 0
    given_up: SyncerError | None = None

    @property
    def begun(self) -> bool:
        """Whether the upload is open, so that more lanes can join."""
        return self.upload is not None

    @property
    def opened(self) -> Upload:
        """The upload, of a flight that has begun."""
        if self.upload is None:
            raise InternalError("a part was drawn before its upload was open")
        return self.upload

    @contextmanager
    def part(self, index: int) -> Iterator[PartSink]:
        """A part of the upload: finished at the end of the block, given up when the block or that fails."""
        sink = self.opened.open_part(index)
        try:
            yield sink
            sink.finish()
        except BaseException:
            sink.cancel()
            raise
