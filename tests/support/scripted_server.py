"""A TCP server that says exactly what a test wrote down: for answers that no honest HTTP server would give.

One thread a connection; each request goes to the script, which reads what it likes of it and answers with raw bytes.
"""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Self

_TLS_HANDSHAKE = b"\x16"


@dataclass
class Heard:
    """One request, its body still on the way, and the means to answer it."""

    method: str
    target: str
    headers: dict[str, str]
    connection: int
    sock: socket.socket = field(repr=False)
    _rest: bytearray = field(default_factory=bytearray, repr=False)
    _body: bytes | None = field(default=None, repr=False)
    closed: bool = False

    def body(self) -> bytes:
        """Read the announced body to its end."""
        if self._body is not None:
            return self._body
        length = int(self.headers.get("content-length", "0"))
        while len(self._rest) < length:
            data = self.sock.recv(65536)
            if not data:
                break
            self._rest += data
        self._body = bytes(self._rest[:length])
        del self._rest[:length]
        return self._body

    def say(self, data: bytes) -> None:
        """Send raw bytes."""
        self.sock.sendall(data)

    def close(self) -> None:
        """Close the connection; unread bytes make it a reset, as with a real server."""
        self.closed = True
        with contextlib.suppress(OSError):
            self.sock.close()


def reply(status: int, body: bytes = b"", **headers: str) -> bytes:
    """An answer with the right length; `content_length="5"` and the like overwrite."""
    fields = {"Content-Length": str(len(body))} | {
        name.replace("_", "-").title(): value for name, value in headers.items()
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
    return f"HTTP/1.1 {status} Scripted\r\n{head}\r\n".encode() + body


Script = Callable[[Heard], None]


class ScriptedServer:
    """Runs `script` for each request; `heard` keeps them all.  With `context` it speaks TLS."""

    def __init__(self, script: Script, *, context: ssl.SSLContext | None = None) -> None:
        self._script = script
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self.heard: list[Heard] = []
        self.connections = 0

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"{'https' if self._context else 'http'}://localhost:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self._sockets.append(sock)
                self.connections += 1
                threading.Thread(target=self._converse, args=(sock, self.connections), daemon=True).start()

    def _converse(self, sock: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.callback(sock.close)
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
                self._sockets.append(sock)
                stack.callback(sock.close)
            for heard in _requests(sock, number):
                self.heard.append(heard)
                self._script(heard)
                if heard.closed:
                    return


def _requests(sock: socket.socket, number: int) -> Iterator[Heard]:
    rest = bytearray()
    while True:
        while b"\r\n\r\n" not in rest:
            data = sock.recv(65536)
            if not data or (not rest and data[:1] == _TLS_HANDSHAKE):
                return  # who speaks plain HTTP understands no greeting of TLS
            rest += data
        head, _, body = bytes(rest).partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        heard = Heard(method, target, headers, number, sock, bytearray(body))
        yield heard
        heard.body()
        rest = heard._rest
