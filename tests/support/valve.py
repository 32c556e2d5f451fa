"""A TCP relay whose tap a test turns: after so many bytes it goes silent, so that a run can be killed at a known place.

Silent means what a dead peer is on a network: the connection stays open and nothing comes.
"""

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator
from typing import Self


class Valve:
    """Relays connections to `(host, port)`; counts bytes both ways, and holds those that exceed `limit` downstream."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._closed = threading.Event()
        self._open = threading.Event()
        self._open.set()
        self._lock = threading.Lock()
        self._limit: int | None = None
        self.downstream_bytes = 0
        self.upstream_bytes = 0
        self.shut = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close_after(self, limit: int) -> None:
        """Go silent once `limit` more bytes have come down; `shut` is set then."""
        with self._lock:
            self._limit = self.downstream_bytes + limit

    def reopen(self) -> None:
        """Let everything through again."""
        with self._lock:
            self._limit = None
        self.shut.clear()
        self._open.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._open.set()
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._upstream)
            except OSError:
                return
            threading.Thread(target=self._relay, args=(client, server), daemon=True).start()

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        with client, server, selectors.DefaultSelector() as selector, contextlib.suppress(OSError):
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            while not self._closed.is_set():
                for key, _ in selector.select(timeout=0.5):
                    origin = key.fileobj
                    assert isinstance(origin, socket.socket)
                    data = origin.recv(65536)
                    if not data:
                        return
                    if origin is server:
                        self._pass(len(data))
                    else:
                        with self._lock:
                            self.upstream_bytes += len(data)
                    key.data.sendall(data)

    def _pass(self, count: int) -> None:
        with self._lock:
            if self._limit is not None and self.downstream_bytes + count > self._limit:
                self._open.clear()
                self.shut.set()
        self._open.wait()
        with self._lock:
            self.downstream_bytes += count


@contextlib.contextmanager
def valve(host: str, port: int) -> Iterator[Valve]:
    with Valve(host, port) as tap:
        yield tap
