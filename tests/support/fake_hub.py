"""A Hugging Face Hub on this machine, as far as anybody who downloads models sees one.

Two servers: the Hub itself (`/api/models/…`, `/{id}/resolve/…`) and the storage that it redirects to, which is another
origin and takes signed URLs until they expire on the clock that was handed in.  Repositories have branches and commits;
digests are the real ones (git blob SHA-1, SHA-256 of what is in LFS).  The real client runs against it:
`tests/unit/test_hub_fake.py`.  It leaves out what announces xet, so that clients use HTTP.

Protocol: https://huggingface.co/docs/hub/api , and the source of `huggingface_hub`.
"""

import contextlib
import hmac
import http.server
import itertools
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from typing import Literal, Self
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from tests.support.fake_hub_content import Content, Fault, File, Generated, Repository, Seen, Stored

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
__all__ = ["Content", "FakeHub", "Fault", "File", "Generated", "Repository", "Seen", "Stored"]


class FakeHub:
    """Runs while it is entered; `endpoint` is what HF_ENDPOINT says.

    `clock` tells the seconds by which signed URLs expire after `lifetime`; `tokens` are all that are valid.  With
    `context` it speaks TLS.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        lifetime: float = 3600.0,
        page_size: int = 1000,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.clock = clock
        self.lifetime = lifetime
        self.page_size = page_size
        self.tokens: set[str] = set()
        self.seen: list[Seen] = []
        self.faults: list[Fault] = []
        self.serves_ranges = True
        self.bare_401 = False  # no X-Error-Code with it: then clients guess
        self.caches_plain = False  # plain files by a relative redirect
        self.bytes_served = 0
        self.on_bytes: Callable[[int], None] = lambda _: None
        self.advertised_storage = ""
        self._repositories: dict[str, Repository] = {}
        self._moved: dict[str, str] = {}
        self._blobs: dict[str, Content] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._scheme = "http" if context is None else "https"
        self._servers = [_Server(self, "hub", context), _Server(self, "storage", context)]

    @property
    def endpoint(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._servers[0].server_port}"

    @property
    def storage(self) -> str:
        # Another name too: clients of version 1 take another port of the same host for the same place.
        return self.advertised_storage or f"{self._scheme}://localhost:{self._servers[1].server_port}"

    @property
    def storage_address(self) -> tuple[str, int]:
        return "127.0.0.1", self._servers[1].server_port

    def create(self, name: str, *, private: bool = False, gated: bool = False) -> Repository:
        """A new, empty repository."""
        self._repositories[name] = Repository(name, private=private, gated=gated)
        return self._repositories[name]

    def rename(self, old: str, new: str) -> None:
        """Give a repository another name; the old one is redirected from now on."""
        repository = self._repositories.pop(old)
        repository.name = new
        self._repositories[new] = repository
        self._moved[old] = new

    def fail(self, fault: Fault) -> None:
        """Let something go wrong from now on."""
        with self._lock:
            self.faults.append(fault)

    def requests(self, host: str = "", where: str = "") -> list[Seen]:
        """What was asked, in order."""
        return [seen for seen in self.seen if host in {"", seen.host} and where in seen.path]

    def __enter__(self) -> Self:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    # What the handlers ask ------------------------------------------------------------------------------------------

    def note(self, seen: Seen) -> Fault | None:
        with self._lock:
            self.seen.append(seen)
            for fault in self.faults:
                if fault.strikes(seen):
                    fault.times -= 1
                    return fault
        return None

    def count(self, served: int) -> None:
        with self._lock:
            self.bytes_served += served
        self.on_bytes(self.bytes_served)

    def find(self, name: str) -> Repository | None:
        return self._repositories.get(name)

    def moved(self, name: str) -> str:
        return self._moved.get(name, "")

    def split(self, path: str) -> tuple[str, str]:
        """A path behind `/api/models/` or `/` as repository and the rest."""
        for name in (*self._repositories, *self._moved):
            if path == name or path.startswith(name + "/"):
                return name, path[len(name) :]
        return path, ""

    def sign(self, file: File) -> str:
        """A URL of the storage that works until it expires."""
        blob = file.sha256 or file.oid
        with self._lock:
            self._blobs[blob] = file.content
        expires = f"{self.clock() + self.lifetime:.3f}.{next(self._numbers)}"
        name = quote(file.path.rpartition("/")[2], safe="")
        query = {
            "response-content-disposition": f"attachment; filename*=UTF-8''{name}",
            "X-Amz-Expires": expires,
            "X-Amz-Signature": _signature(blob, expires),
        }
        return f"{self.storage}/repos/{blob}?{urlencode(query)}"

    def stored(self, blob: str, query: Mapping[str, list[str]]) -> Content | None:
        """The bytes behind a signed URL, or None when it is forged or expired."""
        expires = query.get("X-Amz-Expires", [""])[0]
        if not hmac.compare_digest(query.get("X-Amz-Signature", [""])[0], _signature(blob, expires)):
            return None
        return self._blobs.get(blob) if self.clock() < float(expires.rpartition(".")[0]) else None


def _signature(blob: str, expires: str) -> str:
    return hmac.new(b"the storage's own key", f"{blob} {expires}".encode(), "sha256").hexdigest()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: FakeHub, host: Literal["hub", "storage"], context: ssl.SSLContext | None) -> None:
        self.hub = hub
        self.host = host
        super().__init__(("127.0.0.1", 0), _HubHandler if host == "hub" else _StorageHandler)
        if context is not None:
            # The handshake belongs to the connection's own thread, which does it with the first byte that it reads.
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is nothing to print."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the standard library
        """Silent."""

    def do_HEAD(self) -> None:
        self._handle()

    def do_GET(self) -> None:
        self._handle()

    @property
    def hub(self) -> FakeHub:
        return self.server.hub

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        self.where = unquote(parts.path)
        self.query = parse_qs(parts.query)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.fault = self.hub.note(Seen(self.server.host, self.command, self.where, headers))
        if self.fault is not None and self.fault.kind == "status":
            self.say(self.fault.status, b"a fault", dict(self.fault.headers))
            return
        self.serve()

    def serve(self) -> None:
        raise NotImplementedError

    def say(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | dict(headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send(self, content: Content, headers: Mapping[str, str]) -> None:
        """The range that was asked for, or all of it."""
        found = _RANGE.fullmatch(self.headers.get("Range", "")) if self.hub.serves_ranges else None
        start, end = 0, content.size
        told = {"Accept-Ranges": "bytes"} if self.hub.serves_ranges else {}
        told |= headers
        if found:
            start, end = int(found[1]), min(int(found[2] or content.size - 1) + 1, content.size)
            if start >= content.size:
                self.say(416, b"", {"Content-Range": f"bytes */{content.size}"})
                return
            told["Content-Range"] = f"bytes {start}-{end - 1}/{content.size}"
        told["Content-Length"] = str(end - start)
        if self.fault is not None and self.fault.kind == "wrong_range":
            told["Content-Range"] = f"bytes {start + 1}-{end}/{content.size}"
        self.send_response(206 if found else 200)
        for name, value in told.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self._body(content, start, end)

    def _body(self, content: Content, start: int, end: int) -> None:
        fault = self.fault
        if fault is not None and fault.kind == "short":
            end = min(end, start + fault.at)
        at = start
        with contextlib.suppress(OSError):
            for piece in content.pieces(start, end):
                sent = piece
                if fault is not None and fault.kind == "flip" and at <= fault.at < at + len(piece):
                    spot = fault.at - at
                    sent = piece[:spot] + bytes([piece[spot] ^ 1]) + piece[spot + 1 :]
                self.wfile.write(sent)
                at += len(piece)
                self.hub.count(len(piece))
        if fault is not None and fault.kind == "short":
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)


class _StorageHandler(_Handler):
    def serve(self) -> None:
        content = self.hub.stored(self.where.rpartition("/")[2], self.query)
        if content is None:
            self.say(403, b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>")
            return
        self.send(content, {"ETag": '"storage"'})


class _HubHandler(_Handler):
    def serve(self) -> None:
        api = self.where.startswith("/api/models/")
        cached = self.where.startswith("/api/resolve-cache/models/")
        prefix = "/api/models/" if api else "/api/resolve-cache/models/" if cached else "/"
        name, rest = self.hub.split(self.where[len(prefix) :])
        if new := self.hub.moved(name):
            query = urlsplit(self.path).query
            self.say(307, b"", {"Location": f"{prefix}{new}{quote(rest)}" + (f"?{query}" if query else "")})
            return
        repository = self._visible(name)
        if repository is None:
            return
        if cached:
            sha, _, path = rest.lstrip("/").partition("/")
            file = repository.commits[sha][path]
            self.send(file.content, {"X-Repo-Commit": sha, "ETag": f'"{file.oid}"'})
        elif not api:
            self._resolve(repository, rest)
        elif rest.startswith("/tree/"):
            self._tree(repository, unquote(rest.removeprefix("/tree/")))
        elif rest in {"", "/"} or rest.startswith("/revision/"):
            self._info(repository, unquote(rest.removeprefix("/revision/")) or "main")
        else:
            self._refuse(404, "", "Not Found")

    @property
    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _visible(self, name: str) -> Repository | None:
        repository = self.hub.find(name)
        if self.token and self.token not in self.hub.tokens:
            self._refuse(401, "", "Invalid credentials in Authorization header")
        elif repository is None or (repository.private and self.token not in repository.readers):
            if self.token:
                self._refuse(404, "RepoNotFound", "Repository not found")
            else:
                self._refuse(401, "" if self.hub.bare_401 else "RepoNotFound", "Invalid username or password.")
        elif repository.disabled:
            self._refuse(403, "", "Access to this resource is disabled.")
        else:
            return repository
        return None

    def _refuse(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Message": message, "Content-Type": "application/json; charset=utf-8"}
        self.say(status, json.dumps({"error": message}).encode(), headers | ({"X-Error-Code": code} if code else {}))

    def _commit(self, repository: Repository, revision: str) -> str:
        sha = repository.resolved(revision)
        if not sha:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha

    def _info(self, repository: Repository, revision: str) -> None:
        if sha := self._commit(repository, revision):
            told = {
                "_id": "0123456789abcdef01234567",
                "id": repository.name,
                "modelId": repository.name,
                "sha": sha,
                "private": repository.private,
                "gated": "manual" if repository.gated else False,
                "disabled": repository.disabled,
                "lastModified": "2026-01-02T03:04:05.000Z",
                "createdAt": "2026-01-02T03:04:05.000Z",
                "tags": ["transformers", "safetensors"],
                "downloads": 1,
                "likes": 0,
                "siblings": [{"rfilename": path} for path in sorted(repository.commits[sha])],
            }
            self._json(told, {"X-Repo-Commit": sha})

    def _tree(self, repository: Repository, revision: str) -> None:
        sha = self._commit(repository, revision)
        if not sha:
            return
        files = repository.commits[sha]
        folders = {"/".join(path.split("/")[:depth]) for path in files for depth in range(1, path.count("/") + 1)}
        entries: dict[str, dict[str, object]] = {
            folder: {"type": "directory", "oid": "0" * 40, "size": 0, "path": folder} for folder in folders
        } | {path: file.entry() for path, file in files.items()}
        names = sorted(entries)
        first = int(self.query.get("cursor", ["0"])[0])
        last = first + self.hub.page_size
        headers = {}
        if last < len(names):
            following = {name: values[0] for name, values in self.query.items()} | {"cursor": str(last)}
            url = f"{self.hub.endpoint}{urlsplit(self.path).path}?{urlencode(following)}"
            headers["Link"] = f'<{url}>; rel="next"'
        self._json([entries[name] for name in names[first:last]], headers)

    def _resolve(self, repository: Repository, rest: str) -> None:
        revision, _, path = rest.removeprefix("/resolve/").partition("/")
        sha = self._commit(repository, revision)
        if not sha:
            return
        if repository.gated and self.token not in repository.agreed:
            self._refuse(403 if self.token else 401, "GatedRepo", f"Access to model {repository.name} is restricted.")
            return
        file = repository.commits[sha].get(path)
        if file is None:
            self._refuse(404, "EntryNotFound", "Entry not found")
            return
        headers = {"X-Repo-Commit": sha, "ETag": f'"{file.oid}"'}
        if file.in_lfs:
            headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.content.size)}
            self.say(302, b"Found. Redirecting", headers | {"Location": self.hub.sign(file)})
        elif self.hub.caches_plain:
            there = f"/api/resolve-cache/models/{repository.name}/{sha}/{quote(path)}"
            self.say(307, b"", headers | {"Location": there})
        else:
            self.send(file.content, headers)

    def _json(self, told: object, headers: Mapping[str, str]) -> None:
        self.say(200, json.dumps(told).encode(), {"Content-Type": "application/json; charset=utf-8"} | dict(headers))
