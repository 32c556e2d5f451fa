"""The promises that several tests look at, written once.  `test_injured.py` shows that each of them can fail."""

import hashlib
from contextlib import closing

from syncer.manifest import FileRecord, Manifest, ModelFile
from syncer.stores.protocols import Body, Cut, Destination, Source, Upload


def some_bytes(size: int, *, seed: str = "") -> bytes:
    """Bytes that repeat nowhere near, the same for the same arguments."""
    return hashlib.shake_128(f"{seed}/{size}".encode()).digest(size)


def drain(body: Body, length: int, *, buffer_size: int = 1000) -> bytes:
    """Read a body to its end by the rules: at least one byte each time, never more than asked, 0 only when complete."""
    taken = bytearray()
    buffer = bytearray(buffer_size)
    with closing(body):
        while count := body.readinto(memoryview(buffer)):
            assert 0 < count <= buffer_size, "a body filled more than it was given"
            taken += buffer[:count]
            assert len(taken) <= length, "a body gave more than the range"
    assert len(taken) == length, "a body said that it is complete and was not"
    return bytes(taken)


def check_range(store: Source | Destination, file: ModelFile, content: bytes, *, start: int, length: int) -> None:
    """A range has the right bytes, whatever the size of the buffer."""
    for buffer_size in (7, 1000, length + 1) if length < 10_000 else (65_536,):
        got = drain(store.read(file, start, length), length, buffer_size=buffer_size)
        assert got == content[start : start + length], f"bytes differ in {start}+{length}"


def check_listing(source: Source, files: dict[str, bytes]) -> None:
    """A listing has exactly these files, with their sizes and with versions that stay while nothing changes."""
    listing = source.listing()
    assert {path: file.size for path, file in listing.files.items()} == {path: len(it) for path, it in files.items()}
    assert all(path == file.path for path, file in listing.files.items())
    assert all(file.version for file in listing.files.values())
    assert source.listing().files == listing.files


def send_part(upload: Upload, index: int, data: bytes, *, chunk: int = 1_000_000) -> None:
    """Send one part as the engine does: in chunks, then `finish`."""
    sink = upload.open_part(index)
    try:
        for at in range(0, len(data), chunk):
            sink.send(memoryview(data)[at : at + chunk])
        sink.finish()
    except BaseException:
        sink.cancel()
        raise


def part_of(content: bytes, cut: Cut, index: int) -> bytes:
    """The bytes of one part."""
    return content[cut.offset(index) : cut.offset(index) + cut.length(index)]


def as_file(path: str, content: bytes, *, version: str = "1") -> ModelFile:
    """A file as some source might list it."""
    return ModelFile(path, len(content), version)


def store(destination: Destination, path: str, content: bytes, *, part_size: int) -> str:
    """Carry a file to a destination by the rules; returns its version there."""
    cut = Cut(len(content), part_size)
    upload = destination.begin(as_file(path, content), cut)
    for index in range(cut.count):
        if index not in upload.done:
            send_part(upload, index, part_of(content, cut, index))
    return upload.finish()


def commit(destination: Destination) -> Manifest:
    """Commit what the destination lists now; the manifest that says so."""
    files = {
        path: FileRecord(path, file.size, {}, "listing", "1", file.version)
        for path, file in destination.listing().files.items()
    }
    manifest = Manifest("s3://contract/", "", files)
    destination.commit(manifest)
    return manifest
