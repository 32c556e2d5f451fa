"""A proxy that knows HTTP well enough to do one wrong thing at one request, and passes everything else on unchanged.

    with FaultProxy("127.0.0.1", port) as proxy:                     # upstream is always plain http
        proxy.inject(FAULTS["reset before the answer"], r"^PUT .*partNumber=1")
        ...                                                          # the run, which talks to proxy.endpoint
        assert proxy.hits == 1
        proxy.heal()

`inject` hits the `at`-th request whose `METHOD target` matches, or with `for_ever` that one and all after it.  What a
fault does is a function of an `Incident`; `http_faults.py` has the closed list of them.  `refusal` is how the protocol
behind the proxy words an error (S3: XML, a registry: JSON).  With `tls`, clients come by https.  `requests` has all
that were answered or hit, in order.  `strangers` are the heads of requests that arrived at another host, where only a
redirect can have led them; `poured` are the bytes that clients have taken, at most, of an answer without an end.

Bodies are held whole, so it is for small models.  One thread a connection, which ends with the proxy.
"""

import contextlib
import http.client
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Self

Headers = list[tuple[str, str]]
Refusal = Callable[[int, str], tuple[str, bytes]]
"""Status and error code in, content type and body out."""

UPSTREAM_SECONDS = 120.0
_LONGEST = 64 * 1024 * 1024
_OTHER_HOST = "127.0.0.2"
_TLS = b"\x16"
"""What every handshake of TLS begins with (RFC 8446, section 5.1)."""


def s3_refusal(status: int, code: str) -> tuple[str, bytes]:
    """An error as S3 words it."""
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{code}, so it says</Message></Error>'
    )
    return "application/xml", text.encode()


@dataclass(frozen=True)
class Seen:
    """A request that was answered, or at which the fault happened."""

    method: str
    target: str
    status: int
    hit: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.target}"


@dataclass(frozen=True)
class Reply:
    """A whole answer.  `length` is what Content-Length says where it is not the body's; None for the truth."""

    status: int
    reason: str = ""
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    length: int | None = None

    def header(self, name: str) -> str:
        """One header's value, empty if it is not there."""
        return next((value for known, value in self.headers if known.lower() == name.lower()), "")

    def having(self, name: str, value: str) -> "Reply":
        """This answer with one header replaced or added."""
        kept = [(known, said) for known, said in self.headers if known.lower() != name.lower()]
        return replace(self, headers=[*kept, (name, value)])

    def head(self) -> bytes:
        """The first line and the headers, as they travel."""
        lines = [f"HTTP/1.1 {self.status} {self.reason or 'Whatever'}"]
        lines += [f"{name}: {value}" for name, value in self.headers if name.lower() != "content-length"]
        length = len(self.body) if self.length is None else self.length
        if self.status not in {204, 304}:
            lines.append(f"Content-Length: {length}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Incident:
    """One request at which something goes wrong, and the means to do it."""

    def __init__(self, proxy: "FaultProxy", line: "_Line", method: str, target: str, headers: Headers) -> None:
        self.proxy = proxy
        self.method = method
        self.target = target
        self.headers = headers
        self.over = False
        self._line = line
        self._body: bytes | None = None

    def header(self, name: str) -> str:
        """One header's value, empty if it is not there."""
        return Reply(0, headers=self.headers).header(name)

    def body(self) -> bytes:
        """The request's whole body."""
        if self._body is None:
            self._body = self._line.read_body(self.headers)
        return self._body

    def read_half(self) -> None:
        """Read half of the request's body, of which there must be some."""
        self._line.reader.read(int(self.header("Content-Length") or "0") // 2)

    def pass_on(self, *, body: bytes | None = None) -> Reply:
        """What the server says to the request, or to the same with another body."""
        return self._line.ask(self.method, self.target, self.headers, self.body() if body is None else body)

    def refusal(self, status: int, code: str, **headers: str) -> Reply:
        """An error, as this protocol words it."""
        kind, body = self.proxy.refusal(status, code)
        said = [(name.replace("_", "-"), value) for name, value in headers.items()]
        return Reply(status, headers=[("Content-Type", kind), *said], body=body)

    def answer(self, reply: Reply) -> None:
        """Answer the request, whose body is read first."""
        self.body()
        self.say(reply.head() + (b"" if self.method == "HEAD" else reply.body))

    def say(self, data: bytes) -> None:
        """Send raw bytes to the client."""
        self._line.sock.sendall(data)

    def say_below_tls(self, data: bytes) -> None:
        """Send bytes to the client as they are, where TLS would wrap them."""
        socket.socket.sendall(self._line.sock, data)

    def reset(self) -> None:
        """Cut the connection as a crashed host does."""
        self._line.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.over = True

    def close(self) -> None:
        """End the connection after what was said."""
        self.over = True

    def end_stream(self) -> None:
        """Say that nothing more comes, and go on listening."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._line.sock, socket.SHUT_WR)
        self.wait_for_client()

    def wait_for_client(self) -> None:
        """Be silent until the client has gone."""
        with contextlib.suppress(OSError, ValueError):
            while self._line.sock.recv(1 << 16):
                pass
        self.over = True


@dataclass(frozen=True)
class Rule:
    """Which request meets which fault."""

    act: Callable[[Incident], None]
    pattern: re.Pattern[str]
    at: int
    for_ever: bool


class FaultProxy:
    """Between a client and `(host, port)`.  See above."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        refusal: Refusal = s3_refusal,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.refusal = refusal
        self.requests: list[Seen] = []
        self.strangers: list[bytes] = []
        self.hits = 0
        self.poured = 0
        self.upstream = (host, port)
        self.tls = tls
        self._matched = 0
        self._rule: Rule | None = None
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._elsewhere = socket.create_server((_OTHER_HOST, 0), backlog=64)
        self._open: set[socket.socket] = set()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def endpoint(self) -> str:
        """A URL; `localhost` is a name that a certificate can be for."""
        return f"{'https' if self.tls else 'http'}://localhost:{self.port}"

    @property
    def other_host(self) -> str:
        """The URL of the host whose visitors `strangers` has."""
        return f"http://{_OTHER_HOST}:{self._elsewhere.getsockname()[1]}"

    def inject(self, act: Callable[[Incident], None], pattern: str, *, at: int = 1, for_ever: bool = False) -> None:
        """From now on `act` at the `at`-th request that matches, or with `for_ever` at all from that one on."""
        with self._lock:
            self._rule = Rule(act, re.compile(pattern), at, for_ever)
            self._matched = self.hits = 0

    def heal(self) -> None:
        """Nothing goes wrong any more."""
        with self._lock:
            self._rule = None

    def forget(self) -> None:
        """Count and remember from nothing."""
        with self._lock:
            self.requests.clear()
            self.strangers.clear()
            self._matched = self.hits = self.poured = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, args=(self._listener, self._serve), daemon=True).start()
        threading.Thread(target=self._accept, args=(self._elsewhere, self._receive_stranger), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            left = [self._listener, self._elsewhere, *self._open]
        for sock in left:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        self._listener.close()
        self._elsewhere.close()

    def meet(self, request: str) -> Callable[[Incident], None] | None:
        """The fault for this request, if it is its turn."""
        with self._lock:
            rule = self._rule
            if rule is None or not rule.pattern.search(request):
                return None
            self._matched += 1
            if self._matched < rule.at or (self._matched > rule.at and not rule.for_ever):
                return None
            self.hits += 1
            return rule.act

    def note(self, seen: Seen) -> None:
        """Remember a request; before its answer is sent, so that whoever has the answer finds it here."""
        with self._lock:
            self.requests.append(seen)

    def _accept(self, listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                threading.Thread(target=self._hold, args=(sock, serve), daemon=True).start()

    def _hold(self, sock: socket.socket, serve: Callable[[socket.socket], None]) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open.add(sock)
        # A client that goes away in the middle is what this is for.
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError), sock:
            serve(sock)
        with self._lock:
            self._open.discard(sock)

    def _serve(self, sock: socket.socket) -> None:
        if self.tls is None:
            _Line(self, sock).serve()
            return
        with self.tls.wrap_socket(sock, server_side=True) as wrapped:
            with self._lock:
                self._open.add(wrapped)
            try:
                _Line(self, wrapped).serve()
            finally:
                with self._lock:
                    self._open.discard(wrapped)

    def _receive_stranger(self, sock: socket.socket) -> None:
        with sock.makefile("rb") as reader:
            lines = []
            while (line := reader.readline(65536)) not in {b"", b"\r\n"}:
                lines.append(line)
            self.strangers.append(b"".join(lines))
            sock.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


class _Line:
    """One connection of a client, and its own to the server."""

    def __init__(self, proxy: FaultProxy, sock: socket.socket) -> None:
        self.sock = sock
        self.reader: BinaryIO = sock.makefile("rb")
        self._proxy = proxy
        self._server: http.client.HTTPConnection | None = None

    def serve(self) -> None:
        """Answer until either side has enough."""
        try:
            while (head := self._read_head()) is not None:
                method, target, headers = head
                incident = Incident(self._proxy, self, method, target, headers)
                act = self._proxy.meet(f"{method} {target}")
                if act is None:
                    reply = incident.pass_on()
                    self._proxy.note(Seen(method, target, reply.status))
                    self._pass_back(incident, reply)
                else:
                    self._proxy.note(Seen(method, target, 0, hit=True))
                    act(incident)
                    if not incident.over:
                        incident.body()
                if incident.over:
                    return
        finally:
            self.reader.close()
            if self._server is not None:
                self._server.close()

    def ask(self, method: str, target: str, headers: Headers, body: bytes) -> Reply:
        """The server's answer to a request with these headers."""
        dropped = {"transfer-encoding", "content-length", "expect"}
        said = [(name, value) for name, value in headers if name.lower() not in dropped]
        if body or any(name.lower() in {"content-length", "transfer-encoding"} for name, _ in headers):
            said.append(("Content-Length", str(len(body))))
        try:
            return self._exchange(method, target, said, body)
        except (http.client.RemoteDisconnected, ConnectionError):
            self._server = None  # it had closed an idle connection
            return self._exchange(method, target, said, body)

    def read_body(self, headers: Headers) -> bytes:
        """The rest of a request."""
        said = {name.lower(): value for name, value in headers}
        if said.get("expect", "").lower() == "100-continue":
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if said.get("transfer-encoding", "").lower() != "chunked":
            return self.reader.read(int(said.get("content-length", "0")))
        body = bytearray()
        while size := int(self.reader.readline(1024).partition(b";")[0], 16):
            body += self.reader.read(size)
            self.reader.readline(1024)
        while self.reader.readline(65536) not in {b"", b"\r\n"}:
            pass
        return bytes(body)

    def _read_head(self) -> tuple[str, str, Headers] | None:
        begin = self.reader.read(1)
        if begin == _TLS:
            return None  # who tries https first learns at once that this is http
        first = (begin + self.reader.readline(65536)).decode("latin-1").split()
        if len(first) != 3:
            return None
        headers = []
        while (line := self.reader.readline(65536)) not in {b"", b"\r\n"}:
            name, _, value = line.decode("latin-1").partition(":")
            headers.append((name, value.strip()))
        return first[0], first[1], headers

    def _exchange(self, method: str, target: str, headers: Headers, body: bytes) -> Reply:
        if self._server is None:
            self._server = http.client.HTTPConnection(*self._proxy.upstream, timeout=UPSTREAM_SECONDS)
        self._server.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            self._server.putheader(name, value)
        self._server.endheaders(body or None)
        with self._server.getresponse() as answer:
            data = answer.read(_LONGEST)
            said = [(name, value) for name, value in answer.getheaders() if name.lower() != "transfer-encoding"]
            length = int(answer.getheader("Content-Length") or 0) if method == "HEAD" else None
            return Reply(answer.status, answer.reason, said, data, length)

    def _pass_back(self, incident: Incident, reply: Reply) -> None:
        incident.answer(reply)
        asked = f"{incident.header('Connection')} {reply.header('Connection')}".lower()
        incident.over = "close" in asked
