"""The reference: what the data path costs at least in Python, with the SHA-256 of every file.

Each file has one lane: a thread with one `http.client` connection to either side moves it in parts through one buffer,
hashing as it goes.  With `--crc` it is the CRC-64/NVME, which needs no order: a lane moves any part of any file.  No
retries, no resume, no listing beyond one page, keys that need no quoting: it is a yardstick, not a tool.

    python -m benchmarks.relay s3://bucket/prefix/ /some/folder --src-endpoint http://127.0.0.1:9000
"""

from __future__ import annotations

import copy as duplicates
import hashlib
import hmac
import http.client
import os
import re
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.copying import arguments, print_each
from benchmarks.server import ACCESS_KEY, REGION, SECRET_KEY

MIB = 1 << 20


def connection(endpoint: str) -> http.client.HTTPConnection:
    """A connection that is not open yet."""
    url = urllib.parse.urlsplit(endpoint)
    assert url.hostname is not None
    if url.scheme == "https":
        context = ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE"))
        return http.client.HTTPSConnection(url.hostname, url.port, context=context)
    return http.client.HTTPConnection(url.hostname, url.port)


class Wire:
    """One kept connection to an S3 endpoint; requests are signed with the payload left out (Signature Version 4)."""

    def __init__(self, endpoint: str) -> None:
        self._host = urllib.parse.urlsplit(endpoint).netloc
        self._connection = connection(endpoint)
        self._connection.connect()

    def begin(self, method: str, path: str, query: str = "", *, extra: Sequence[tuple[str, str]] = ()) -> None:
        """Send the head of a request."""
        self._connection.putrequest(
            method, f"{path}?{query}" if query else path, skip_host=True, skip_accept_encoding=True
        )
        for name, value in self._signed(method, path, query):
            self._connection.putheader(name, value)
        for name, value in extra:
            self._connection.putheader(name, value)
        self._connection.endheaders()

    def send(self, data: memoryview) -> None:
        """Send a piece of the body."""
        self._connection.sock.sendall(data)

    def response(self) -> http.client.HTTPResponse:
        """The answer, whose body must be read to the end before the next request."""
        answer = self._connection.getresponse()
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise SystemExit(f"HTTP {answer.status}: {answer.read(500)!r}")
        return answer

    @property
    def socket(self) -> socket.socket:
        """What the bytes go through, without TLS."""
        return self._connection.sock

    def small(self, method: str, path: str, query: str = "", *, body: bytes = b"") -> bytes:
        """A whole control request."""
        self.begin(method, path, query, extra=[("content-length", str(len(body)))])
        if body:
            self.send(memoryview(body))
        return self.response().read()

    def _signed(self, method: str, path: str, query: str) -> list[tuple[str, str]]:
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        headers = [("host", self._host), ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"), ("x-amz-date", moment)]
        names = ";".join(name for name, _ in headers)
        lines = "".join(f"{name}:{value}\n" for name, value in headers)
        request = f"{method}\n{path}\n{query}\n{lines}\n{names}\nUNSIGNED-PAYLOAD"
        scope = f"{moment[:8]}/{REGION}/s3/aws4_request"
        text = "\n".join(("AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(request.encode()).hexdigest()))
        key = f"AWS4{SECRET_KEY}".encode()
        for piece in (*scope.split("/"), text):
            key = hmac.digest(key, piece.encode(), "sha256")
        credential = f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
        return [*headers, ("authorization", credential)]


@dataclass(frozen=True)
class Place:
    """A folder in a bucket (with the endpoint) or in the file system (without)."""

    root: str
    endpoint: str = ""

    @classmethod
    def parse(cls, text: str, endpoint: str) -> Place:
        """Read `s3://bucket/prefix/` or a path."""
        if text.startswith("s3://"):
            return cls(text.removeprefix("s3:/"), endpoint)
        return cls(text.rstrip("/") + "/")


def listing(place: Place) -> list[tuple[str, int]]:
    """Relative paths and sizes; refuses an empty place, so that nobody times an empty copy."""
    if place.endpoint:
        bucket, _, prefix = place.root[1:].partition("/")
        found, wire, token = [], Wire(place.endpoint), ""
        while True:
            named = {"continuation-token": token} if token else {}
            query = urllib.parse.urlencode(named | {"list-type": "2", "prefix": prefix}, quote_via=urllib.parse.quote)
            page = wire.small("GET", f"/{bucket}", query).decode()
            pairs = re.findall(r"<Key>([^<]+)</Key>.*?<Size>(\d+)</Size>", page, re.DOTALL)
            found += [(key.removeprefix(prefix), int(size)) for key, size in pairs]
            more = re.search(r"<NextContinuationToken>([^<]+)<", page)
            if more is None:
                break
            token = more[1]
    else:
        files = [file for file in Path(place.root).rglob("*") if file.is_file()]
        found = [(file.relative_to(place.root).as_posix(), file.stat().st_size) for file in files]
    if not found:
        raise SystemExit(f"nothing in {place.root}")
    return found


class S3Reader:
    """Ranged GETs of one object."""

    def __init__(self, wire: Wire, path: str) -> None:
        self.wire, self._path = wire, path

    def part(self, offset: int, length: int, buffer: memoryview) -> Iterator[memoryview]:
        """The bytes of a range, each piece good until the next one."""
        self.wire.begin("GET", self._path, extra=[("range", f"bytes={offset}-{offset + length - 1}")])
        answer = self.wire.response()
        while got := answer.readinto(buffer):
            length -= got
            yield buffer[:got]
        if length:
            raise SystemExit(f"{self._path} ended {length} bytes early")


class FileReader:
    """Reads of one file."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDONLY)

    def part(self, offset: int, length: int, buffer: memoryview) -> Iterator[memoryview]:
        """The bytes of a range, each piece good until the next one."""
        while length:
            got = os.preadv(self._file, [buffer[: min(length, len(buffer))]], offset)
            offset, length = offset + got, length - got
            yield buffer[:got]


class S3Writer:
    """A multipart upload."""

    def __init__(self, wire: Wire, path: str) -> None:
        self.wire, self._path = wire, path
        answer = wire.small("POST", path, "uploads=")
        found = re.search(rb"<UploadId>(.*?)<", answer)
        assert found
        self._id = found[1].decode()
        self._etags: dict[int, str] = {}
        self._index = 0

    def begin(self, index: int, offset: int, length: int) -> None:
        """Start part `index` (from 0)."""
        self._index = index
        query = f"partNumber={index + 1}&uploadId={self._id}"
        self.wire.begin("PUT", self._path, query, extra=[("content-length", str(length))])

    def send(self, data: memoryview) -> None:
        """Some of its bytes."""
        self.wire.send(data)

    def end(self) -> None:
        """The part is there."""
        answer = self.wire.response()
        self._etags[self._index] = answer.getheader("etag", "")
        answer.read()

    def finish(self) -> None:
        """Make the object visible."""
        parts = "".join(
            f"<Part><PartNumber>{index + 1}</PartNumber><ETag>{etag}</ETag></Part>"
            for index, etag in sorted(self._etags.items())
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        self.wire.small("POST", self._path, f"uploadId={self._id}", body=body)


class S3Object:
    """One PUT, for an object of one part."""

    def __init__(self, wire: Wire, path: str) -> None:
        self.wire, self._path = wire, path

    def begin(self, index: int, offset: int, length: int) -> None:
        """Start the whole object."""
        self.wire.begin("PUT", self._path, extra=[("content-length", str(length))])

    def send(self, data: memoryview) -> None:
        """Some of its bytes."""
        self.wire.send(data)

    def end(self) -> None:
        """The object is there."""
        self.wire.response().read()

    def finish(self) -> None:
        """It is visible already."""


class FileWriter:
    """Writes of one file at the right offsets."""

    def __init__(self, path: str) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        self._offset = 0

    def begin(self, index: int, offset: int, length: int) -> None:
        """Start a part."""
        self._offset = offset

    def send(self, data: memoryview) -> None:
        """Some of its bytes."""
        while data:
            written = os.pwrite(self._file, data, self._offset)
            self._offset, data = self._offset + written, data[written:]

    def end(self) -> None:
        """Nothing to wait for."""

    def finish(self) -> None:
        """Let go of the file."""
        os.close(self._file)


@dataclass(frozen=True)
class Shape:
    """Bytes of a part and of the buffer that moves it."""

    part: int = 16 * MIB
    chunk: int = MIB


class Lane(threading.local):
    """What a thread keeps from file to file: its connections and its buffer."""

    def __init__(self) -> None:
        self._wires: dict[tuple[str, str], Wire] = {}
        self.buffer = memoryview(bytearray(Shape().chunk))

    def wire(self, side: str, endpoint: str) -> Wire:
        """The connection to one side."""
        if (side, endpoint) not in self._wires:
            self._wires[side, endpoint] = Wire(endpoint)
        return self._wires[side, endpoint]


Reader = S3Reader | FileReader
Writer = S3Writer | S3Object | FileWriter


def open_reader(place: Place, path: str, lane: Lane) -> Reader:
    """A reader of one file."""
    full = place.root + path
    return S3Reader(lane.wire("read", place.endpoint), full) if place.endpoint else FileReader(full)


def open_writer(place: Place, path: str, size: int, lane: Lane) -> Writer:
    """A writer of one file."""
    full = place.root + path
    if not place.endpoint:
        return FileWriter(full)
    return (S3Object if size <= Shape().part else S3Writer)(lane.wire("write", place.endpoint), full)


def copy(reader: Reader, writer: Writer, buffer: memoryview, *, size: int, shape: Shape) -> str:
    """Copy one file; its SHA-256."""
    digest = hashlib.sha256()
    for index, offset in enumerate(range(0, size, shape.part)):
        length = min(shape.part, size - offset)
        writer.begin(index, offset, length)
        for piece in reader.part(offset, length, buffer):
            digest.update(piece)
            writer.send(piece)
        writer.end()
    writer.finish()
    return digest.hexdigest()


def copy_parts(source: Place, target: Place, found: Sequence[tuple[str, int]], *, lanes: int) -> list[str]:
    """Copy files, each lane any part of any file; the CRC-64/NVME of each."""
    from awscrt import checksums  # type: ignore[import-untyped]  # the wheel brings no type hints

    lane, shape = Lane(), Shape()
    ends = [(open_reader(source, path, lane), open_writer(target, path, size, lane)) for path, size in found]

    def carry(number: int, index: int, length: int) -> int:
        reader, writer = duplicates.copy(ends[number][0]), duplicates.copy(ends[number][1])
        if isinstance(reader, S3Reader):
            reader.wire = lane.wire("read", source.endpoint)
        if isinstance(writer, (S3Writer, S3Object)):
            writer.wire = lane.wire("write", target.endpoint)
        crc, offset = 0, index * shape.part
        writer.begin(index, offset, length)
        for piece in reader.part(offset, length, lane.buffer):
            crc = checksums.crc64nvme(piece, crc)
            writer.send(piece)
        writer.end()
        return crc

    parts = [
        (number, index, min(shape.part, size - offset))
        for number, (_, size) in enumerate(found)
        for index, offset in enumerate(range(0, size, shape.part))
    ]
    whole = [0] * len(found)
    with ThreadPoolExecutor(lanes) as pool:
        for (number, _, length), crc in zip(parts, pool.map(lambda part: carry(*part), parts), strict=True):
            whole[number] = checksums.combine_crc64nvme(whole[number], crc, length)
    for _, writer in ends:
        writer.finish()
    return [f"{crc:016x}" for crc in whole]


def main() -> None:
    """Copy everything below one place to another and print the digests."""
    parser = arguments(__doc__)
    parser.add_argument("--crc", action="store_true", help="CRC-64/NVME; --files are lanes then")
    given = parser.parse_args()
    source, target = Place.parse(given.source, given.src_endpoint), Place.parse(given.target, given.dest_endpoint)
    if given.crc:
        found = listing(source)
        for (path, _), crc in zip(found, copy_parts(source, target, found, lanes=given.files), strict=True):
            print(f"{crc}  {path}")
        return
    lane = Lane()

    def one(item: tuple[str, int]) -> str:
        path, size = item
        reader, writer = open_reader(source, path, lane), open_writer(target, path, size, lane)
        return copy(reader, writer, lane.buffer, size=size, shape=Shape())

    print_each(one, listing(source), files=given.files)


if __name__ == "__main__":
    main()
