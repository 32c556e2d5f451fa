"""Stores that call back a test while an engine works with them."""

from collections.abc import Callable

from syncer.manifest import ModelFile
from syncer.stores.protocols import Body, Cut, PartSink, Upload
from tests.support.carrying import Bench
from tests.support.whole import WholeBody, WholeDestination, WholeSource, WholeUpload


class Hooked(WholeSource):
    """Calls `hook(path, offset)` before every chunk that is read, and counts the bodies that are open."""

    def __init__(self, bench: Bench, hook: Callable[[str, int], object] = lambda _path, _offset: None) -> None:
        super().__init__(bench.source)
        self.hook = hook
        self.open = 0

    def read(self, file: ModelFile, start: int, length: int) -> Body:
        outer = self
        outer.open += 1

        class Calling(WholeBody):
            at = start
            closed = False

            def readinto(self, buffer: memoryview) -> int:
                outer.hook(file.path, self.at)
                count = super().readinto(buffer)
                self.at += count
                return count

            def close(self) -> None:
                outer.open -= not self.closed
                self.closed = True
                super().close()

        return Calling(super().read(file, start, length))


class Parts(WholeDestination):
    """Puts `wrap(path, index, sink)` around every part; what it raises is what `open_part` raises."""

    def __init__(self, bench: Bench, wrap: Callable[[str, int, PartSink], PartSink]) -> None:
        super().__init__(bench.destination)
        self.wrapper = wrap
        self.suspended: list[str] = []
        self.aborted: list[str] = []

    def begin(self, file: ModelFile, cut: Cut, *, resume: str = "") -> Upload:
        outer = self

        class Wrapping(WholeUpload):
            def open_part(self, index: int) -> PartSink:
                return outer.wrapper(file.path, index, super().open_part(index))

            def suspend(self) -> None:
                outer.suspended.append(file.path)
                super().suspend()

            def abort(self) -> None:
                outer.aborted.append(file.path)
                super().abort()

        return Wrapping(super().begin(file, cut, resume=resume))


def changing(bench: Bench, path: str, versions: list[bytes]) -> WholeSource:
    """The next of `versions` takes the file's place after its first chunk was read."""

    def change(seen: str, offset: int) -> None:
        if seen == path and offset == 0 and versions:
            bench.here.put(f"model/{path}", versions.pop(0))

    return Hooked(bench, change)
