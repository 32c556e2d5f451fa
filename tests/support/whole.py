"""Stores handed on unchanged: what a test puts around a real one to change a single thing, or to watch."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable

from syncer.manifest import Listing, Manifest, ModelFile
from syncer.stores.protocols import Body, ControlFolder, Cut, Destination, Limits, OpenUpload, PartSink, Source, Upload


class WholeBody:
    """Hands a body on unchanged."""

    def __init__(self, body: Body) -> None:
        self.body = body

    def readinto(self, buffer: memoryview) -> int:
        return self.body.readinto(buffer)

    def close(self) -> None:
        self.body.close()


class WholeSource:
    """Hands a source on unchanged; `reads` counts the ranges opened by path."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.reads: Counter[str] = Counter()

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def revision(self) -> str:
        return self.source.revision

    def listing(self) -> Listing:
        return self.source.listing()

    def look_again(self, file: ModelFile) -> ModelFile:
        return self.source.look_again(file)

    def read(self, file: ModelFile, start: int, length: int) -> Body:
        self.reads[file.path] += 1
        return self.source.read(file, start, length)

    def interrupt(self) -> None:
        self.source.interrupt()

    def close(self) -> None:
        self.source.close()


class WholeSink:
    """Hands a part on unchanged."""

    def __init__(self, sink: PartSink) -> None:
        self.sink = sink

    @property
    def keeps_views(self) -> bool:
        return self.sink.keeps_views

    def send(self, data: memoryview) -> None:
        self.sink.send(data)

    def finish(self) -> None:
        self.sink.finish()

    def cancel(self) -> None:
        self.sink.cancel()


class WholeUpload:
    """Hands an upload on; `wrap` is put around each part."""

    def __init__(self, upload: Upload, wrap: Callable[[PartSink], PartSink] = WholeSink) -> None:
        self.upload = upload
        self.wrap = wrap

    @property
    def token(self) -> str:
        return self.upload.token

    @property
    def done(self) -> frozenset[int]:
        return self.upload.done

    def open_part(self, index: int) -> PartSink:
        return self.wrap(self.upload.open_part(index))

    def finish(self) -> str:
        return self.upload.finish()

    def abort(self) -> None:
        self.upload.abort()

    def suspend(self) -> None:
        self.upload.suspend()


class WholeDestination:
    """Hands a destination on unchanged."""

    def __init__(self, destination: Destination) -> None:
        self.destination = destination

    @property
    def name(self) -> str:
        return self.destination.name

    @property
    def uri(self) -> str:
        return self.destination.uri

    @property
    def limits(self) -> Limits:
        return self.destination.limits

    @property
    def control(self) -> ControlFolder:
        return self.destination.control

    def prepare(self) -> None:
        self.destination.prepare()

    def listing(self) -> Listing:
        return self.destination.listing()

    def name_problems(self, paths: Collection[str]) -> list[str]:
        return self.destination.name_problems(paths)

    def free_bytes(self) -> int | None:
        return self.destination.free_bytes()

    def open_uploads(self) -> list[OpenUpload]:
        return self.destination.open_uploads()

    def begin(self, file: ModelFile, cut: Cut, *, resume: str = "") -> Upload:
        return self.destination.begin(file, cut, resume=resume)

    def abort_upload(self, upload: OpenUpload) -> None:
        self.destination.abort_upload(upload)

    def read(self, file: ModelFile, start: int, length: int) -> Body:
        return self.destination.read(file, start, length)

    def delete(self, paths: Iterable[str]) -> None:
        self.destination.delete(paths)

    def commit(self, manifest: Manifest) -> None:
        self.destination.commit(manifest)

    def interrupt(self) -> None:
        self.destination.interrupt()

    def close(self) -> None:
        self.destination.close()
