"""A Model Registry on this machine: it keeps what it is told, and takes nothing that the OpenAPI document does not.

Names are unique, of a version among those of its model, of an artifact among those of its version; a second one is a
conflict (409).  PATCH changes what it is given; custom properties are replaced as a whole, as the server does.
"""

import functools
import itertools
import json
import ssl
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, Self, cast
from urllib.parse import parse_qsl, urlsplit

from tests.support.fake_iam import Quiet, start
from tests.support.registry_schemas import Schemas

BASE = "/api/model_registry/v1alpha3"
NEWEST_BASE = "/api/model_registry/v1"
_FOLDERS = {
    "registered_models": "RegisteredModel",
    "model_versions": "ModelVersion",
    "model_artifacts": "ModelArtifact",
}
_IDS = {
    "registered_models": "registered_models/{registeredmodelId}",
    "model_versions": "model_versions/{modelversionId}",
    "model_artifacts": "model_artifacts/{modelartifactId}",
}


@dataclass(frozen=True)
class Reply:
    """A status and a JSON document, or a page for people; without `sent` the connection is closed instead."""

    status: int
    document: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    page: str = ""
    sent: bool = True


@dataclass(frozen=True)
class Asked:
    """One request and the status of its answer."""

    method: str
    path: str
    body: Mapping[str, Any] | None
    authorization: str = field(repr=False)
    status: int


def error(status: int, message: str) -> Reply:
    """An error document."""
    return Reply(status, {"code": str(status), "message": message})


UNAUTHORIZED = Reply(401, page="Unauthorized")
FORBIDDEN = Reply(403, page="Forbidden (user=system:serviceaccount:demo:default, verb=get, resource=services)")
DOWN = Reply(503, page="<html>Application is not available</html>")
DATABASE_AWAY = error(500, "error connecting to the database")
LOST = Reply(0, sent=False)

Before = Callable[[str, str], Reply | None]


class FakeRegistry:
    """One registry.  With `tokens` it wants one of them.  `base` is where its API is.  With `context` it speaks TLS.

    `next_replies` are said instead of what would be true, each once, before anything is done (`LOST` after it).
    `before` is asked first for every method and path: what it returns is the answer; it may also do something, such as
    being quicker than the client.
    """

    def __init__(self, *, base: str = BASE, context: ssl.SSLContext | None = None) -> None:
        self.base = base
        self.tokens: set[str] = set()
        self.asked: list[Asked] = []
        self.next_replies: deque[Reply] = deque()
        self.before: Before = lambda _method, _path: None
        self.entries: dict[str, dict[str, dict[str, Any]]] = {folder: {} for folder in _FOLDERS}
        self._owners: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._schemas = _schemas()
        self._server = start(_Handler, self, context)

    @property
    def url(self) -> str:
        return self._server.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    # What a test looks at -------------------------------------------------------------------------------------------

    @property
    def model(self) -> dict[str, Any]:
        """The only model."""
        return self._only("registered_models")

    @property
    def version(self) -> dict[str, Any]:
        """The only version."""
        return self._only("model_versions")

    @property
    def artifact(self) -> dict[str, Any]:
        """The only artifact."""
        return self._only("model_artifacts")

    @property
    def written(self) -> list[str]:
        """Method and path of all requests that changed something."""
        return [f"{asked.method} {asked.path}" for asked in self.asked if asked.method != "GET" and asked.status < 300]

    def text(self, name: str) -> str:
        """A custom property of the only version."""
        return str(self.version["customProperties"][name]["string_value"])

    # What a test prepares -------------------------------------------------------------------------------------------

    def create(self, folder: str, body: Mapping[str, Any], *, owner: str = "") -> dict[str, Any]:
        """An entry as a client would have created it."""
        with self._lock:
            number = str(next(self._numbers))
            now = {"createTimeSinceEpoch": "1790000000000", "lastUpdateTimeSinceEpoch": "1790000000000"}
            default: dict[str, Any] = {
                "state": "UNKNOWN" if folder == "model_artifacts" else "LIVE",
                "customProperties": {},
            }
            entry = {**default, **body, "id": number, **now}
            self.entries[folder][number] = entry
            self._owners[number] = owner or str(body.get("registeredModelId") or "")
            return entry

    # The service ----------------------------------------------------------------------------------------------------

    def answer(self, method: str, target: str, content: bytes, authorization: str) -> Reply:
        """The reply to one request, which is remembered."""
        parts = urlsplit(target)
        path = parts.path.removeprefix(self.base + "/") if parts.path.startswith(self.base + "/") else ""
        reply = self.before(method, path)
        body = json.loads(content) if content else None
        with self._lock:
            if reply is None and self.next_replies:
                reply = self.next_replies.popleft()
            if reply is None or not reply.sent:
                true = self._work(method, path, dict(parse_qsl(parts.query)), body, authorization)
                reply = reply or true
            self.asked.append(Asked(method, path, body, authorization, reply.status))
        return reply

    def _work(
        self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any] | None, authorization: str
    ) -> Reply:
        if self.tokens and authorization.removeprefix("Bearer ") not in self.tokens:
            return UNAUTHORIZED
        steps = path.split("/") if path else []
        if not self._schemas.takes(f"{method} {_operation(steps)}", query):
            return Reply(404, page="404 page not found")
        return self._read(steps, query) if method == "GET" else self._write(steps, body)

    def _read(self, steps: list[str], query: Mapping[str, str]) -> Reply:
        match steps:
            case ["registered_model"]:
                return self._find("registered_models", query.get("name", ""), "")
            case ["model_version"]:
                return self._find("model_versions", query.get("name", ""), query.get("parentResourceId", ""))
            case [folder]:
                return self._list(list(self.entries[folder].values()), query)
            case [folder, number]:
                entry = self.entries[folder].get(number)
                return Reply(200, entry) if entry else error(404, f"no {folder} with id {number}")
        return self._list(self._artifacts(steps[1]), query)

    def _write(self, steps: list[str], body: Mapping[str, Any] | None) -> Reply:
        match steps:
            case [folder]:
                return self._create(folder, body, owner="")
            case [folder, number]:
                return self._change(folder, number, body)
        if steps[1] not in self.entries["model_versions"]:
            return error(404, "no such version")
        return self._create("model_artifacts", body, owner=steps[1])

    def _find(self, folder: str, name: str, owner: str) -> Reply:
        for number, entry in self.entries[folder].items():
            if entry.get("name") == name and self._owners[number] == owner:
                return Reply(200, entry)
        return error(404, f"no {folder} found for name={name}")

    def _artifacts(self, version: str) -> list[dict[str, Any]]:
        return [each for number, each in self.entries["model_artifacts"].items() if self._owners[number] == version]

    def _list(self, found: list[dict[str, Any]], query: Mapping[str, str]) -> Reply:
        size = int(query.get("pageSize", "100"))
        begin = int(query.get("nextPageToken") or "0")
        page = found[begin : begin + size]
        token = str(begin + size) if begin + size < len(found) else ""
        return Reply(200, {"items": page, "nextPageToken": token, "pageSize": size, "size": len(page)})

    def _create(self, folder: str, body: Mapping[str, Any] | None, *, owner: str) -> Reply:
        schema = f"{_FOLDERS[folder]}Create"
        if problems := self._schemas.problems(schema, body):
            return error(400, f"{schema}: {'; '.join(problems)}")
        body = body or {}
        owner = owner or str(body.get("registeredModelId") or "")
        if self._find(folder, str(body.get("name")), owner).status == 200:
            return error(409, "already exists")
        return self._said(folder, 201, self.create(folder, body, owner=owner))

    def _change(self, folder: str, number: str, body: Mapping[str, Any] | None) -> Reply:
        entry = self.entries[folder].get(number)
        if entry is None:
            return error(404, f"no {folder} with id {number}")
        schema = f"{_FOLDERS[folder]}Update"
        if problems := self._schemas.problems(schema, body):
            return error(400, f"{schema}: {'; '.join(problems)}")
        entry.update(body or {})
        return self._said(folder, 200, entry)

    def _said(self, folder: str, status: int, entry: dict[str, Any]) -> Reply:
        problems = self._schemas.problems(_FOLDERS[folder], entry)
        assert not problems, f"the fake itself breaks the document: {problems}"
        return Reply(status, entry)

    def _only(self, folder: str) -> dict[str, Any]:
        (entry,) = self.entries[folder].values()
        return entry


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _handle(self) -> None:
        registry = cast("FakeRegistry", cast("Quiet", self.server).owner)
        content = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        reply = registry.answer(self.command, self.path, content, self.headers.get("Authorization", ""))
        if not reply.sent:
            self.close_connection = True
            return
        body = json.dumps(reply.document).encode() if reply.document is not None else reply.page.encode()
        kind = "application/json" if reply.document is not None else "text/html"
        self.send_response(reply.status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PATCH = _handle  # noqa: N815 - the names are the library's

    def log_message(self, *_: object) -> None:
        """Nothing to say."""


@functools.cache
def _schemas() -> Schemas:
    return Schemas()


def _operation(steps: list[str]) -> str:
    match steps:
        case [folder, _] if folder in _IDS:
            return _IDS[folder]
        case [folder, _, below] if folder in _IDS:
            return f"{_IDS[folder]}/{below}"
        case _:
            return "/".join(steps)
