"""A content-addressed store that speaks as much of the xet protocol as a download needs.

The real `hf_xet` runs against it: `GET /v2/reconstructions/{hash}` (also `v1`, and `Range`), the signed xorb addresses
with their byte ranges, and the Hub's `xet-read-token` route.  Files are made up on the fly, so that a file of several
GB costs neither disk nor memory.

Format (huggingface/xet-core, `xorb_chunk_format.rs` and `cas_types`): a chunk in a xorb is a header of eight bytes
(version 0, three bytes of stored length, scheme 0 for "as it is", three bytes of real length) and the bytes.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self
from urllib.parse import unquote, urlsplit

CHUNK: Final = 64 * 1024
XORB_CHUNKS: Final = 1000
RUN: Final = 10
_HEADER: Final = 8
_PATTERN: Final = hashlib.sha512(b"model").digest() * (CHUNK // 64)


@dataclass
class XetFile:
    """A made-up file: every chunk starts with its number, so that no two are alike."""

    size: int
    seed: int = 0
    flipped_at: int = -1
    """A byte that the store has wrong, as long as this is not negative."""
    woven: int = 1
    """Over how many xorbs at once the file is spread, ten chunks in turn, as deduplication may do."""
    path: str = "model.safetensors"

    @property
    def hash(self) -> str:
        """How the store calls the file: 64 hexadecimal digits."""
        return hashlib.sha256(f"file {self.size} {self.seed}".encode()).hexdigest()

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return -(-self.size // CHUNK)

    def chunk(self, index: int, *, as_stored: bool = False) -> bytes:
        """The bytes of one chunk; `as_stored` with the wrong byte in it."""
        length = min(CHUNK, self.size - index * CHUNK)
        data = (self.seed.to_bytes(8, "big") + index.to_bytes(8, "big") + _PATTERN[16:])[:length]
        at = self.flipped_at - index * CHUNK
        if as_stored and 0 <= at < length:
            data = data[:at] + bytes([data[at] ^ 0x80]) + data[at + 1 :]
        return data

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` to before `end`."""
        for index in range(start // CHUNK, -(-end // CHUNK)):
            at = index * CHUNK
            yield self.chunk(index)[max(0, start - at) : end - at]

    def content(self) -> bytes:
        """All of it, for small files."""
        return b"".join(self.chunk(index) for index in range(self.chunks))

    def sha256(self) -> str:
        """The true digest, read chunk by chunk."""
        digest = hashlib.sha256()
        for index in range(self.chunks):
            digest.update(self.chunk(index))
        return digest.hexdigest()

    def place(self, index: int) -> tuple[int, int]:
        """In which xorb a chunk lies, and as which of its chunks."""
        block, inside = divmod(index, XORB_CHUNKS * self.woven)
        run, at = divmod(inside, RUN)
        return block * self.woven + run % self.woven, run // self.woven * RUN + at

    def index_at(self, number: int, at: int) -> int:
        """Which chunk of the file lies there; the inverse of `place`."""
        block, turn = divmod(number, self.woven)
        run, rest = divmod(at, RUN)
        return block * XORB_CHUNKS * self.woven + (run * self.woven + turn) * RUN + rest

    def xorb_hash(self, number: int) -> str:
        """How the store calls the xorb that holds chunks `number * XORB_CHUNKS` and the following."""
        return hashlib.sha256(f"xorb {self.hash} {number}".encode()).hexdigest()


@dataclass
class FakeXet:
    """The server.  Use as a context manager; `url` is its address, the rest are its switches and what it saw.

    `gate`, when it is cleared, holds back every xorb after its first chunk.  `broken` answers of xorbs end early,
    `refused` requests for a reconstruction are answered with `refusal`.  `token_life` is in seconds.

    With `hub`, the address of a fake Hub, it stands in front of it and adds what announces xet to its answers: `url` is
    then what HF_ENDPOINT says.
    """

    files: list[XetFile] = field(default_factory=list)
    token_life: float = 3600.0
    hub_token: str = ""
    hub: str = ""
    refusal: int = 401
    refused: int = 0
    broken: int = 0
    gate: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)
    on_chunk: Callable[[], object] = lambda: None
    seen: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.fake = self  # type: ignore[attr-defined]  # how a handler finds the switches

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Address of the store, and of the one Hub route that it plays."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def new_token(self) -> tuple[str, int]:
        """A token that the store accepts, and when it ends (seconds since 1970)."""
        with self._lock:
            self.tokens.append(f"xet-token-{len(self.tokens)}-not-for-logs")
            return self.tokens[-1], int(time.time() + self.token_life)

    def find(self, digest: str) -> XetFile | None:
        """The file called `digest`."""
        return next((file for file in self.files if file.hash == digest), None)

    def announced(self, path: str) -> dict[str, str]:
        """The headers that the Hub sends with a file that is kept here."""
        return next(({"X-Xet-Hash": file.hash} for file in self.files if file.path == path), {})

    def count(self, part: str) -> int:
        """How many requests had `part` in their line."""
        return sum(part in line for line in self.seen)

    def take(self, counter: str) -> bool:
        """Whether one of `counter` was left, which is used up now."""
        with self._lock:
            left: int = getattr(self, counter)
            setattr(self, counter, max(0, left - 1))
            return left > 0


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is nothing to print."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Any

    @property
    def fake(self) -> FakeXet:
        fake: FakeXet = self.server.fake
        return fake

    def log_message(self, *_: object) -> None:
        """Say nothing: the tests read `seen`."""

    def do_GET(self) -> None:
        fake = self.fake
        fake.seen.append(f"{self.path} {self.headers.get('Range', '')}".strip())
        if "/xet-read-token/" in self.path:
            self._token()
        elif match := re.fullmatch(r"/v([12])/reconstructions/([0-9a-f]{64})", self.path):
            self._reconstruction(int(match[1]), match[2])
        elif match := re.fullmatch(r"/xorbs/([0-9a-f]{64})/(\d+)\?signature=s", self.path):
            self._xorb(match[1], int(match[2]))
        elif self.fake.hub:
            self._pass_on()
        else:
            self._answer(404)

    def do_HEAD(self) -> None:
        self.fake.seen.append(f"HEAD {self.path}")
        if self.fake.hub:
            self._pass_on()
            return
        path = unquote(self.path).partition("/resolve/")[2].partition("/")[2]
        self._answer(302, headers=self.fake.announced(path) | {"Location": "/elsewhere"})

    def _pass_on(self) -> None:
        connection = http.client.HTTPConnection(urlsplit(self.fake.hub).netloc)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        try:
            connection.request(self.command, self.path, headers=headers)
            answer = connection.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                self.send_header(name, value)
            path = unquote(self.path).partition("/resolve/")[2].partition("/")[2]
            for name, value in self.fake.announced(path).items():
                self.send_header(name, value)
            self.end_headers()
            shutil.copyfileobj(answer, self.wfile)
        finally:
            connection.close()

    def do_POST(self) -> None:
        self.fake.seen.append(f"POST {self.path}")
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer(404)

    def _token(self) -> None:
        if self.fake.hub_token and self.headers.get("Authorization") != f"Bearer {self.fake.hub_token}":
            self._answer(401)
            return
        token, ends = self.fake.new_token()
        self._answer(
            200,
            {"accessToken": token, "exp": ends, "casUrl": self.fake.url},
            {
                "X-Xet-Access-Token": token,
                "X-Xet-Token-Expiration": str(ends),
                "X-Xet-Cas-Url": self.fake.url,
            },
        )

    def _reconstruction(self, version: int, digest: str) -> None:
        fake = self.fake
        fake.authorizations.append(self.headers.get("Authorization", ""))
        if fake.take("refused"):
            self._answer(fake.refusal)
            return
        if self.headers.get("Authorization", "").removeprefix("Bearer ") not in fake.tokens:
            self._answer(401)
            return
        file = fake.find(digest)
        if file is None:
            self._answer(404)
            return
        start, end = self._range(file.size)
        if start >= file.size:
            self._answer(416)
            return
        self._answer(200, _reconstruction(file, start, min(end, file.size), url=fake.url, version=version))

    def _xorb(self, digest: str, number: int) -> None:
        fake = self.fake
        file = fake.find(digest)
        if file is None or self.headers.get("Authorization"):
            self._answer(403)  # a signed address takes no token
            return
        start, end = self._range(1 << 62)
        first, count = start // (CHUNK + _HEADER), -(-(end - start) // (CHUNK + _HEADER))
        self.send_response(206)
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        broken = fake.take("broken")
        for index in range(first, first + count):
            data = file.chunk(file.index_at(number, index), as_stored=True)
            length = len(data).to_bytes(3, "little")
            self.wfile.write(b"\0" + length + b"\0" + length + data)
            fake.on_chunk()
            fake.reached.set()
            fake.gate.wait()
            if broken:
                self.close_connection = True
                return

    def _range(self, size: int) -> tuple[int, int]:
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        return (int(match[1]), int(match[2]) + 1) if match else (0, size)

    def _answer(self, status: int, body: object = None, headers: dict[str, str] | None = None) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _reconstruction(file: XetFile, start: int, end: int, *, url: str, version: int) -> dict[str, object]:
    """What the store answers: the terms in order, and for each xorb the one range that all of its terms need."""
    terms: list[tuple[int, int, int, int]] = []
    for index in range(start // CHUNK, -(-end // CHUNK)):
        number, at = file.place(index)
        length = min(CHUNK, file.size - index * CHUNK)
        if terms and terms[-1][0] == number and terms[-1][2] == at:
            terms[-1] = (number, terms[-1][1], at + 1, terms[-1][3] + length)
        else:
            terms.append((number, at, at + 1, length))
    fetch: dict[str, list[dict[str, object]]] = {}
    for number in {term[0] for term in terms}:
        first = min(term[1] for term in terms if term[0] == number)
        last = max(term[2] for term in terms if term[0] == number)
        size = sum(len(file.chunk(file.index_at(number, at))) + _HEADER for at in range(first, last))
        chunks = {"start": first, "end": last}
        span = {"start": first * (CHUNK + _HEADER), "end": first * (CHUNK + _HEADER) + size - 1}
        address = f"{url}/xorbs/{file.hash}/{number}?signature=s"
        if version == 1:
            fetch[file.xorb_hash(number)] = [{"range": chunks, "url": address, "url_range": span}]
        else:
            fetch[file.xorb_hash(number)] = [{"url": address, "ranges": [{"chunks": chunks, "bytes": span}]}]
    return {
        "offset_into_first_range": start % CHUNK,
        "terms": [
            {"hash": file.xorb_hash(number), "unpacked_length": length, "range": {"start": first, "end": last}}
            for number, first, last, length in terms
        ],
        "xorbs" if version == 2 else "fetch_info": fetch,
    }
