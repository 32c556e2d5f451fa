"""The limit: from S3 to S3 over http with no copy into the process at all, by splice(2) through a pipe.

No digest is possible, and TLS is not.  One lane a file, parts as those of `relay.py`.

    python -m benchmarks.splice s3://bucket/prefix/ s3://other/prefix/ --src-endpoint … --dest-endpoint …
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from benchmarks.copying import arguments
from benchmarks.relay import MIB, Lane, Place, S3Writer, Shape, listing

_SET_PIPE_SIZE = getattr(fcntl, "F_SETPIPE_SZ", 1031)


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, _SET_PIPE_SIZE, MIB)
    try:
        yield reading, writing
    finally:
        os.close(reading)
        os.close(writing)


def _move(source: socket.socket, target: socket.socket, count: int, pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    while count:
        got = os.splice(source.fileno(), writing, min(count, MIB))
        if not got:
            raise SystemExit(f"the source ended {count} bytes early")
        count -= got
        while got:
            got -= os.splice(reading, target.fileno(), got)


def copy(source: Place, target: Place, path: str, *, size: int, lane: Lane) -> None:
    """Copy one file."""
    reader, writer = lane.wire("read", source.endpoint), lane.wire("write", target.endpoint)
    upload, shape = S3Writer(writer, target.root + path), Shape()
    with _pipe() as pipe:
        for index, offset in enumerate(range(0, size, shape.part)):
            length = min(shape.part, size - offset)
            upload.begin(index, offset, length)
            reader.begin("GET", source.root + path, extra=[("range", f"bytes={offset}-{offset + length - 1}")])
            answer = reader.response()
            ahead = answer.fp.read1(len(answer.fp.peek()))  # came with the head
            upload.send(memoryview(ahead))
            _move(reader.socket, writer.socket, length - len(ahead), pipe)
            answer.close()
            upload.end()
    upload.finish()


def main() -> None:
    """Copy everything below one place to another."""
    given = arguments(__doc__).parse_args()
    source, target = Place.parse(given.source, given.src_endpoint), Place.parse(given.target, given.dest_endpoint)
    lane = Lane()
    with ThreadPoolExecutor(given.files) as pool:
        for _ in pool.map(lambda item: copy(source, target, item[0], size=item[1], lane=lane), listing(source)):
            continue


if __name__ == "__main__":
    main()
