"""What the engine carries: a task, the errand that it belongs to, and the flight that its lanes share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Protocol

from syncer.digests import FileHash
from syncer.errors import InternalError, SyncerError, WrongBytes
from syncer.manifest import DigestName, ModelFile
from syncer.stores.protocols import Body, Cut, Upload
from syncer.window import Window


@dataclass(frozen=True, slots=True)
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

    @property
    def digest(self) -> DigestName | None:
        """What proves a file; see `FileHash.of`."""
        ...

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


@dataclass(eq=False, slots=True)
class Flight:
    """The shared state of one file under way; everything but `window` is guarded by the engine's lock.

    `undrawn` are the parts that no lane has taken, a heap: the first is the next.  `lanes` is how many lanes are on it,
    `unfinished` counts the parts that are not whole at the destination yet.  `stalled_at` is the turn for which a lane
    has waited in vain; nobody joins before that is over.  `given_up` is the reason why this flight ends early; the
    lane that leaves it last starts the file again.
    """

    task: Task
    upload: Upload | None = None
    digest: FileHash | None = None
    window: Window | None = None
    undrawn: list[int] = field(default_factory=list)
    lanes: int = 0
    unfinished: int = 0
    moved: int = 0
    stalled_at: int = -1
    given_up: SyncerError | None = None

    @property
    def large(self) -> bool:
        """Whether it has more than one part."""
        return self.task.cut.count > 1

    @property
    def opened(self) -> Upload:
        """The upload, of a flight that has begun."""
        if self.upload is None:
            raise InternalError("a part was drawn before its upload was open")
        return self.upload

    @property
    def awaited(self) -> bool:
        """Whether the part that has the turn was put back, so that lanes ahead of it may wait for nobody."""
        has_turn = self.window is not None and bool(self.undrawn) and self.undrawn[0] == self.window.turn
        return has_turn and self.stalled_at >= 0 and self.given_up is None

    def compared(self) -> dict[DigestName, str]:
        """The digests of all its bytes, as far as they are known; raises `WrongBytes` where it should have others."""
        digest = self.window.digest if self.window is not None else self.digest
        digests = digest.digests() if digest is not None else {}
        file = self.task.file
        for name, expected in file.digests.items():
            if (value := digests.get(name, expected)) != expected:
                raise WrongBytes(
                    f"{file.path}: {name} should be {expected}, the bytes have {value}",
                    hint="the file is damaged where it lies or on the way from there; compare it with its origin",
                    path=file.path,
                )
        return digests

    def draw(self) -> int | None:
        """The next part to carry, or None when there is none or the file is given up."""
        return heappop(self.undrawn) if self.undrawn and self.given_up is None else None

    def put_back(self, index: int) -> None:
        """Part `index` was drawn and is to be drawn again."""
        heappush(self.undrawn, index)
