"""A wire across everything that a run says to its servers, or does to a volume: at the n-th step the run is caught.

Steps are requests, bytes both ways, or changes of a file system. What was on the wire in that moment is held, until the
test has done to the process what it wants; then it arrives late, or never.
"""

import contextlib
import re
import selectors
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

Unit = Literal["requests", "bytes", "changes"]

_REQUEST = re.compile(rb"(GET|PUT|POST|PATCH|DELETE|HEAD) (\S+) HTTP/1\.1\r\n")
_NEVER = 1 << 62


@dataclass
class Tripwire:
    """Counts what all its relays pass on; `caught` is set once it holds, and `held` says what it holds first."""

    caught: threading.Event = field(default_factory=threading.Event)
    held: str = ""
    only: "Relay | None" = None
    """The one that is counted and held, if not all are."""
    seen: Counter[str] = field(default_factory=Counter)
    _limits: dict[str, int] = field(default_factory=dict)
    _wanted: str = ""
    _passable: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _dropped: bool = False

    def __post_init__(self) -> None:
        self._passable.set()

    def set_at(self, unit: Unit, count: int) -> None:
        """Hold the `count`-th request or byte from now on, and all that follows."""
        with self._lock:
            self.seen.clear()
            self._limits = {unit: count}
            self._dropped = False

    def set_on(self, pattern: str) -> None:
        """Hold the first request from now on that matches, as `METHOD target`, and all that follows."""
        with self._lock:
            self._wanted = pattern
            self._dropped = False

    def release(self, *, late: bool) -> None:
        """Let what is held arrive, or throw it away with its connections; what comes later passes."""
        with self._lock:
            self._limits = {}
            self._wanted = ""
            self._dropped = not late
        self._passable.set()

    def reset(self) -> None:
        """Count from nothing, and hold nothing."""
        with self._lock:
            self._limits = {}
            self._wanted = ""
            self._dropped = False
            self.seen.clear()
            self.held = ""
        self.caught.clear()
        self._passable.set()

    def passes(self, relay: "Relay", size: int, request: str) -> bool:
        """Whether `size` bytes, the beginning of `request` if they are one, may go on; waits while they are held."""
        if self.only not in {None, relay}:
            return True
        with self._lock:
            self.seen["bytes"] += size
            self.seen["requests"] += bool(request)
            there = any(self.seen[unit] >= limit for unit, limit in self._limits.items())
            there |= bool(request and self._wanted and re.search(self._wanted, request))
            if there and self._passable.is_set():
                self._passable.clear()
                self.held = request or "bytes"
                self.caught.set()
            free = self._passable.is_set()
        if free:
            return True
        self._passable.wait()
        return not self._dropped


class Relay:
    """Relays connections to `(host, port)` across the wire; keeps what requests have passed, and counts bytes."""

    def __init__(self, wire: Tripwire, host: str, port: int) -> None:
        self.wire = wire
        self._upstream = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._closed = threading.Event()
        self.down_bytes = 0
        self.up_bytes = 0
        self.requests: list[str] = []

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def reset(self) -> None:
        self.down_bytes = self.up_bytes = 0
        self.requests.clear()

    def count(self, pattern: str) -> int:
        """Requests that have passed, as `METHOD target`, that match."""
        return sum(bool(re.search(pattern, request)) for request in self.requests)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
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
                    data = origin.recv(1 << 18)
                    if not data or not self._pass_on(data, key.data, upwards=origin is client):
                        return

    def _pass_on(self, data: bytes, to: socket.socket, *, upwards: bool) -> bool:
        found = _REQUEST.match(data) if upwards else None
        request = f"{found[1].decode()} {found[2].decode()}" if found else ""
        if not self.wire.passes(self, len(data), request):
            return False
        # Counted before it is sent: once the answer is there, the request must be.
        if request:
            self.requests.append(request)
        if upwards:
            self.up_bytes += len(data)
        else:
            self.down_bytes += len(data)
        to.sendall(data)
        return True


@contextlib.contextmanager
def relayed(host: str, port: int) -> Iterator[Relay]:
    """A relay with a wire of its own."""
    with Relay(Tripwire(), host, port) as relay:
        yield relay


_HOOK = """\
import itertools, os, signal, sys
_LIMIT, _SIGNAL = int(os.environ["TRIPWIRE_AT"]), int(os.environ["TRIPWIRE_SIGNAL"])
_LOG = os.open(os.environ["TRIPWIRE_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
_GROUP = os.open(os.environ["TRIPWIRE_GROUP"], os.O_WRONLY) if os.environ["TRIPWIRE_GROUP"] else 0
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.chmod"}
_numbers = itertools.count(1)
def _hook(event, args):
    if event not in _CHANGES and not (event == "open" and isinstance(args[2], int) and args[2] & _WRITES):
        return
    if next(_numbers) == _LIMIT:
        os.write(_LOG, f"caught at {event} {args!r}\\n".encode())
        os.write(_GROUP, str(os.getpid()).encode()) if _GROUP else os.kill(os.getpid(), _SIGNAL)
    os.write(_LOG, f"{event} {args!r}\\n".encode())
sys.addaudithook(_hook)
"""


@dataclass
class Changes:
    """The same for a process's changes of the file system, by Python's audit events; it signals itself.

    An event comes before the change (PEP 578), so that a kill comes between two of them.  Instead it may join a `group`
    without memory.
    """

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir()
        (self.folder / "sitecustomize.py").write_text(_HOOK)

    @property
    def _log(self) -> Path:
        return self.folder / "log"

    def environment(self, at: int = _NEVER, signal: int = 0, group: Path | None = None) -> dict[str, str]:
        return {
            "PYTHONPATH": str(self.folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TRIPWIRE_AT": str(at),
            "TRIPWIRE_SIGNAL": str(int(signal)),
            "TRIPWIRE_GROUP": str(group or ""),
            "TRIPWIRE_LOG": str(self._log),
        }

    def reset(self) -> None:
        self._log.write_text("")

    @property
    def seen(self) -> list[str]:
        return [line for line in self._log.read_text().splitlines() if not line.startswith("caught")]

    @property
    def caught(self) -> list[str]:
        return [line for line in self._log.read_text().splitlines() if line.startswith("caught")]
