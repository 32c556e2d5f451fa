"""The relay of `relay.py` into a registry: each object as the layer of a ModelCar, and no manifest.

It hashes all bytes twice, as whoever makes such an image must: the layer is a tar of the file, and named by its own
SHA-256; that of the file, by which it is compared with its source and found again, is another one.

    python -m benchmarks.image_relay s3://bucket/prefix/ localhost:5000/team/model --src-endpoint http://127.0.0.1:9000

Protocol: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-a-blob-in-chunks
"""

from __future__ import annotations

import hashlib
import http.client
import urllib.parse

from benchmarks.copying import arguments, print_each
from benchmarks.relay import Lane, Place, Shape, connection, listing, open_reader
from syncer.stores.oci.layers import head, layer_size, tail


class Registry:
    """A connection to a registry that asks for no login."""

    def __init__(self, endpoint: str) -> None:
        self._connection = connection(endpoint)

    def ask(self, method: str, address: str) -> str:
        """A request without a body; the address where the upload goes on."""
        self._connection.request(method, address, headers={"Content-Length": "0"})
        return self._next()

    def begin(self, address: str, length: int) -> None:
        """Start the bytes of an upload."""
        self._connection.putrequest("PATCH", _path(address))
        self._connection.putheader("Content-Length", str(length))
        self._connection.putheader("Content-Type", "application/octet-stream")
        self._connection.endheaders()

    def send(self, data: memoryview | bytes) -> None:
        """Some of them."""
        self._connection.sock.sendall(data)

    def end(self) -> str:
        """They are there; the address where the upload goes on."""
        return self._next()

    def _next(self) -> str:
        answer = self._connection.getresponse()
        words = answer.read()
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise SystemExit(f"HTTP {answer.status}: {words[:500]!r}")
        return _path(answer.getheader("Location", ""))


def _path(address: str) -> str:
    return urllib.parse.urlunsplit(("", "", *urllib.parse.urlsplit(address)[2:]))


def push(source: Place, path: str, size: int, endpoint: str, repository: str, lane: Lane) -> str:
    """One object as a layer; the digest of the object."""
    before, behind = head(path, size), tail(size)
    shape, digest, layer = Shape(), hashlib.sha256(), hashlib.sha256(before)
    buffer = lane.buffer
    registry = Registry(endpoint)
    address = registry.ask("POST", f"/v2/{repository}/blobs/uploads/")
    registry.begin(address, layer_size(path, size))
    registry.send(before)
    reader = open_reader(source, path, lane)
    for offset in range(0, size, shape.part):
        for piece in reader.part(offset, min(shape.part, size - offset), buffer):
            registry.send(piece)
            digest.update(piece)
            layer.update(piece)
    layer.update(behind)
    registry.send(behind)
    address = registry.end()
    mark = "&" if "?" in address else "?"
    registry.ask("PUT", f"{address}{mark}digest=sha256%3A{layer.hexdigest()}")
    return digest.hexdigest()


def main() -> None:
    """Push everything below a place and print the digests."""
    parser = arguments(__doc__, endpoints=("src",))
    parser.add_argument("--scheme", default="http")
    given = parser.parse_args()
    source, lane = Place.parse(given.source, given.src_endpoint), Lane()
    authority, _, repository = given.target.partition("/")

    def one(item: tuple[str, int]) -> str:
        path, size = item
        return push(source, path, size, f"{given.scheme}://{authority}", repository, lane)

    print_each(one, listing(source), files=given.files)


if __name__ == "__main__":
    main()
