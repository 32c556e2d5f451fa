"""Sources and destinations with something wrong with them, around any real store.

Each injury is a class of its own that changes one thing and hands everything else on.  Nothing here sleeps: what is
slow or silent waits for an event that the test sets.
"""

import errno
import os
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from syncer.errors import CredentialsRefused, OutOfSpace, Transient
from syncer.manifest import Listing, ModelFile
from syncer.stores.protocols import Body, Cut, Destination, PartSink, Source, Upload
from tests.support.whole import WholeBody, WholeDestination, WholeSink, WholeSource, WholeUpload

PATIENCE = 30.0
"""Seconds after which a wait in a test is a failure of the test."""


# Bodies ---------------------------------------------------------------------------------------------------------------


class _Limited(WholeBody):
    """Counts down the bytes that may still pass; `at_the_end` is called, and its answer returned, instead of more."""

    def __init__(self, body: Body, allowed: int, at_the_end: Callable[[], int]) -> None:
        super().__init__(body)
        self.left = allowed
        self.at_the_end = at_the_end

    def readinto(self, buffer: memoryview) -> int:
        if not self.left:
            return self.at_the_end()
        count = self.body.readinto(buffer[: self.left])
        self.left -= count
        return count


class _Pausing(WholeBody):
    """Calls `pause` once, after `position` bytes have passed and before the next one does."""

    def __init__(self, body: Body, position: int, pause: Callable[[], object]) -> None:
        super().__init__(body)
        self.left = position
        self.pause: Callable[[], object] | None = pause

    def readinto(self, buffer: memoryview) -> int:
        if self.pause is None:
            return self.body.readinto(buffer)
        if self.left:
            count = self.body.readinto(buffer[: self.left])
            self.left -= count
            return count
        pause, self.pause = self.pause, None
        pause()
        return self.body.readinto(buffer)


class _Flipping(WholeBody):
    """Flips the lowest bit of the byte at `position` of the range."""

    def __init__(self, body: Body, position: int) -> None:
        super().__init__(body)
        self.position = position

    def readinto(self, buffer: memoryview) -> int:
        count = self.body.readinto(buffer)
        if 0 <= self.position < count:
            buffer[self.position] ^= 1
        self.position -= count
        return count


# Sources --------------------------------------------------------------------------------------------------------------


class ShortSource(WholeSource):
    """Ranges that reach beyond byte `after` of a file end there: by a politely told end (0) or as a broken stream.

    `times` ranges are injured, then it works.
    """

    def __init__(self, source: Source, *, after: int, times: int = 1, polite: bool = False) -> None:
        super().__init__(source)
        self.after = after
        self.times = times
        self.polite = polite

    def read(self, file: ModelFile, start: int, length: int) -> Body:
        body = super().read(file, start, length)
        if self.times and start <= self.after < start + length:
            self.times -= 1
            return _Limited(body, self.after - start, self._end)
        return body

    def _end(self) -> int:
        if self.polite:
            return 0
        raise Transient("the stream broke")


class FlippingSource(WholeSource):
    """Flips a bit of byte `at` of the file `path`, the first `times` times that it passes."""

    def __init__(self, source: Source, *, path: str, at: int = 0, times: int = 1) -> None:
        super().__init__(source)
        self.path = path
        self.at = at
        self.times = times

    def read(self, file: ModelFile, start: int, length: int) -> Body:
        body = super().read(file, start, length)
        if self.times and file.path == self.path and start <= self.at < start + length:
            self.times -= 1
            return _Flipping(body, self.at - start)
        return body


class LyingSource(WholeSource):
    """Lists every file `by` bytes longer (or, below zero, shorter) than it is and serves it as if that were so."""

    def __init__(self, source: Source, *, by: int) -> None:
        super().__init__(source)
        self.by = by
        self.true: dict[str, ModelFile] = {}

    def listing(self) -> Listing:
        found = super().listing()
        self.true = dict(found.files)
        lied = {path: replace(file, size=max(0, file.size + self.by)) for path, file in found.files.items()}
        return Listing(lied, found.nested)

    def look_again(self, file: ModelFile) -> ModelFile:
        found = super().look_again(file)
        return replace(found, size=max(0, found.size + self.by))

    def read(self, file: ModelFile, start: int, length: int) -> Body:
        true = self.true[file.path]
        there = min(length, true.size - start)
        if there <= 0:
            raise Transient("the range is beyond the end")
        return _Limited(super().read(true, start, there), there, self._end)

    def _end(self) -> int:
        raise Transient("the stream ended early")


class FlakySource(WholeSource):
    """Every kind of call fails `times` times before it works; `listing`, `look_again` and `read` each count theirs."""

    def __init__(self, source: Source, *, times: int) -> None:
        super().__init__(source)
        self.left = Counter({"listing": times, "look_again": times, "read": times})

    def listing(self) -> Listing:
        self._fail("listing")
        return super().listing()

    def look_again(self, file: ModelFile) -> ModelFile:
        self._fail("look_again")
        return super().look_again(file)

    def read(self, file: ModelFile, start: int, length: int) -> Body:
        self._fail("read")
        return super().read(file, start, length)

    def _fail(self, kind: str) -> None:
        if self.left[kind]:
            self.left[kind] -= 1
            raise Transient(f"{kind} failed, try again")


class SlowSource(WholeSource):
    """Gives one byte of each range, then waits until the test sets `go`; `reached` is set when somebody waits."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.go = threading.Event()
        self.reached = threading.Event()

    def read(self, file: ModelFile, start: int, length: int) -> Body:
        return _Pausing(super().read(file, start, length), 1, self._wait)

    def _wait(self) -> None:
        self.reached.set()
        if not self.go.wait(PATIENCE):
            raise AssertionError("nobody let the slow source go on")


class ChangingSource(WholeSource):
    """Calls `change` once, when byte `after` of the file `path` has passed; the store behind must notice."""

    def __init__(self, source: Source, *, path: str, after: int, change: Callable[[], object]) -> None:
        super().__init__(source)
        self.path = path
        self.after = after
        self.change: Callable[[], object] | None = change

    def read(self, file: ModelFile, start: int, length: int) -> Body:
        body = super().read(file, start, length)
        if self.change is None or file.path != self.path or not start <= self.after < start + length:
            return body
        change, self.change = self.change, None
        return _Pausing(body, self.after - start, change)


class SilentSource(WholeSource):
    """Opened ranges give nothing until `interrupt`, as a peer that went away without a word; then they fail."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.reached = threading.Event()
        self.interrupted = threading.Event()

    def read(self, file: ModelFile, start: int, length: int) -> Body:
        def wait() -> int:
            self.reached.set()
            if not self.interrupted.wait(PATIENCE):
                raise AssertionError("nobody interrupted the silent source")
            raise Transient("interrupted")

        return _Limited(super().read(file, start, length), 0, wait)

    def interrupt(self) -> None:
        self.interrupted.set()
        super().interrupt()


class RefusingSource(WholeSource):
    """Lists, but lets nothing be read."""

    def read(self, file: ModelFile, start: int, length: int) -> Body:
        raise CredentialsRefused(f"reading {file.path} is refused", hint="ask for the right to read", path=file.path)


# Destinations ---------------------------------------------------------------------------------------------------------


class _SinkOf(WholeSink):
    """A part whose bytes go through `judge` first; it may change them or raise."""

    def __init__(self, sink: PartSink, judge: Callable[[memoryview], memoryview]) -> None:
        super().__init__(sink)
        self.judge = judge

    def send(self, data: memoryview) -> None:
        self.sink.send(self.judge(data))


class FullDestination(WholeDestination):
    """Takes `room` bytes in all, then it is full; `tells` is what it claims to have."""

    def __init__(self, destination: Destination, *, room: int, tells: int | None = None) -> None:
        super().__init__(destination)
        self.room = room
        self.tells = tells
        self.lock = threading.Lock()

    def free_bytes(self) -> int | None:
        return self.tells

    def begin(self, file: ModelFile, cut: Cut, *, resume: str = "") -> Upload:
        return WholeUpload(super().begin(file, cut, resume=resume), lambda sink: _SinkOf(sink, self._take))

    def _take(self, data: memoryview) -> memoryview:
        with self.lock:
            if len(data) > self.room:
                raise OutOfSpace(os.strerror(errno.ENOSPC), hint="make room", store=self.name)
            self.room -= len(data)
        return data


class FlippingDestination(WholeDestination):
    """Stores the first byte of each of the first `times` parts of `path` with a bit flipped, and says nothing."""

    def __init__(self, destination: Destination, *, path: str, times: int = 1) -> None:
        super().__init__(destination)
        self.path = path
        self.times = times

    def begin(self, file: ModelFile, cut: Cut, *, resume: str = "") -> Upload:
        upload = super().begin(file, cut, resume=resume)
        return WholeUpload(upload, lambda sink: _SinkOf(sink, self._flip)) if file.path == self.path else upload

    def _flip(self, data: memoryview) -> memoryview:
        if not self.times or not data:
            return data
        self.times -= 1
        flipped = bytearray(data)
        flipped[0] ^= 1
        return memoryview(flipped)


class FlakyDestination(WholeDestination):
    """`begin`, `send`, `finish_part` and `finish` each fail `times` times before they work.

    With `after=True` a failing `finish` has finished all the same: only its answer is lost.
    """

    def __init__(self, destination: Destination, *, times: int, after: bool = False) -> None:
        super().__init__(destination)
        self.after = after
        self.left = Counter({"begin": times, "send": times, "finish_part": times, "finish": times})
        self.lock = threading.Lock()

    def begin(self, file: ModelFile, cut: Cut, *, resume: str = "") -> Upload:
        self.fail("begin")
        return _FlakyUpload(super().begin(file, cut, resume=resume), self)

    def fail(self, kind: str) -> None:
        with self.lock:
            if not self.left[kind]:
                return
            self.left[kind] -= 1
        raise Transient(f"{kind} failed, try again")


class _FlakyUpload(WholeUpload):
    def __init__(self, upload: Upload, flaky: FlakyDestination) -> None:
        super().__init__(upload, lambda sink: _FlakySink(sink, flaky))
        self.flaky = flaky

    def finish(self) -> str:
        if self.flaky.after:
            version = self.upload.finish()
            self.flaky.fail("finish")
            return version
        self.flaky.fail("finish")
        return self.upload.finish()


class _FlakySink(WholeSink):
    def __init__(self, sink: PartSink, flaky: FlakyDestination) -> None:
        super().__init__(sink)
        self.flaky = flaky

    def send(self, data: memoryview) -> None:
        self.flaky.fail("send")
        self.sink.send(data)

    def finish(self) -> None:
        self.flaky.fail("finish_part")
        self.sink.finish()


class SilentDestination(WholeDestination):
    """Takes the start of parts, then nothing more until `interrupt`; then it fails."""

    def __init__(self, destination: Destination) -> None:
        super().__init__(destination)
        self.reached = threading.Event()
        self.interrupted = threading.Event()

    def begin(self, file: ModelFile, cut: Cut, *, resume: str = "") -> Upload:
        return WholeUpload(super().begin(file, cut, resume=resume), lambda sink: _SinkOf(sink, self._wait))

    def interrupt(self) -> None:
        self.interrupted.set()
        super().interrupt()

    def _wait(self, data: memoryview) -> memoryview:
        self.reached.set()
        if not self.interrupted.wait(PATIENCE):
            raise AssertionError("nobody interrupted the silent destination")
        raise Transient("interrupted")


class RefusingDestination(WholeDestination):
    """Lists, but takes nothing."""

    def begin(self, file: ModelFile, cut: Cut, *, resume: str = "") -> Upload:
        raise CredentialsRefused(f"writing {file.path} is refused", hint="ask for the right to write", path=file.path)
