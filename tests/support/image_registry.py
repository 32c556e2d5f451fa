"""A registry of images in this process, strict about the distribution specification 1.1 and cheap.

The real one (Debian's docker-registry) is in the ring of real servers; this one also does what that does not: it wants
chunks of a size, loses uploads, leads to other hosts, refuses to delete, and lets tokens end when a test says so.
"""

import base64
import hashlib
import json
import re
import ssl
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, Literal, Self, cast
from urllib.parse import parse_qs, urlsplit

from pydantic import SecretStr

from syncer.settings.locations import ImageLocation, RegistryLogin
from tests.support.fake_iam import Quiet, start

USER, PASSWORD = "robot", "canary-registry-password"
_PATH = re.compile(r"/v2/(?P<repository>.+)/(?P<kind>blobs|manifests|tags)/(?P<rest>.*)")


@dataclass(frozen=True)
class Asked:
    """One request and the status of its answer."""

    method: str
    path: str
    authorization: str = field(repr=False)
    status: int
    received: int


@dataclass
class Repository:
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class ImageRegistry:
    """`break_off` is asked for each PATCH how many bytes of it arrive before the connection breaks, None for all.

    A token for several repositories says nothing about those in `private`, as with a login for each.  `refuses` is
    asked for each method and path whether the answer is 401, whatever was shown.  As with Docker's own, who removes an
    upload needs the right to delete.
    """

    def __init__(
        self,
        *,
        auth: Literal["", "basic", "bearer"] = "",
        password: str = PASSWORD,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.auth = auth
        self.password = password
        self.smallest_chunk = 0
        self.redirects_to = ""
        self.absolute = False
        self.deletes = True
        self.serves_ranges = True
        self.links = True
        self.lives = 300
        self.private: set[str] = set()
        self.refuses: Callable[[str, str], bool] = lambda _method, _path: False
        self.answers: dict[tuple[str, str], list[tuple[int, Mapping[str, str], Any]]] = {}
        self.break_off: Callable[[int], int | None] = lambda _: None
        self.repositories: dict[str, Repository] = {}
        self.uploads: dict[str, bytearray] = {}
        self.tokens: dict[str, list[str]] = {}
        self.token_requests = 0
        self.asked: list[Asked] = []
        self._server = start(_Handler, self, context)

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def authority(self) -> str:
        return urlsplit(self.url).netloc

    def location(self, repository: str = "team/model", tag: str = "latest", **more: Any) -> ImageLocation:
        logins = (RegistryLogin(self.authority, USER, SecretStr(self.password)),) if self.auth else ()
        return ImageLocation(self.authority, repository, tag, **({"logins": logins, "validate_tls": False} | more))

    def repository(self, name: str = "team/model") -> Repository:
        return self.repositories.setdefault(name, Repository())

    def end_tokens(self) -> None:
        """Every token that was given is refused from now on."""
        self.tokens.clear()

    def written(self) -> list[Asked]:
        """What changed something, or tried to."""
        return [asked for asked in self.asked if asked.method in {"PUT", "PATCH", "DELETE", "POST"}]

    def document(self, reference: str = "latest", repository: str = "team/model") -> dict[str, Any]:
        there = self.repository(repository)
        found = json.loads(there.manifests[there.tags.get(reference, reference)][1])
        return cast("dict[str, Any]", found)

    def named(self, repository: str = "team/model") -> set[str]:
        """All blobs that a manifest names."""
        found = [json.loads(content) for _, content in self.repository(repository).manifests.values()]
        return {it["digest"] for one in found for it in [*one.get("layers", ()), *filter(None, [one.get("config")])]}

    def close(self) -> None:
        self._server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def digest_of(data: bytes | bytearray) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def registry(self) -> ImageRegistry:
        return cast("ImageRegistry", cast("Quiet", self.server).owner)

    def handle_any(self) -> None:
        self.parts = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(self.parts.query, keep_blank_values=True).items()}
        self.length = int(self.headers.get("Content-Length", "0"))
        if self.parts.path == "/token":
            self._token()
            return
        scripted = self.registry.answers.get((self.command, self.parts.path.rpartition("/")[0]))
        if scripted:
            self.rfile.read(self.length)
            status, headers, document = scripted.pop(0)
            self.say(status, json.dumps(document).encode(), headers)
            return
        if self.parts.path.startswith("/elsewhere/"):
            self._blob(self.registry.repository(self.query["from"]), self.parts.path.rpartition("/")[2])
            return
        match = _PATH.fullmatch(self.parts.path)
        if not self._let_in(match):
            self.rfile.read(self.length)
            return
        if self.parts.path == "/v2/":
            self.say(200, b"{}")
            return
        if match is None:
            self.refuse(404, "NAME_UNKNOWN")
            return
        there, rest = self.registry.repository(match["repository"]), match["rest"]
        if match["kind"] == "manifests":
            self._manifest(there, rest)
        elif rest.startswith("uploads/"):
            self._upload(there, match["repository"], rest.removeprefix("uploads/"))
        else:
            self._blob(there, rest, match["repository"])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self.handle_any
        raise AttributeError(name)

    def say(self, status: int, body: bytes = b"", headers: Mapping[str, str] = {}) -> None:
        kept = Asked(self.command, self.path, self.headers.get("Authorization", ""), status, self.length)
        self.registry.asked.append(kept)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str, headers: Mapping[str, str] = {}) -> None:
        self.say(status, json.dumps({"errors": [{"code": code, "message": code.lower()}]}).encode(), headers)

    def log_message(self, *_: object) -> None:
        """Nothing to say."""

    def _let_in(self, match: re.Match[str] | None) -> bool:
        registry, shown = self.registry, self.headers.get("Authorization", "")
        refused = registry.refuses(self.command, self.parts.path)
        if registry.auth == "basic":
            if not refused and shown == _basic(USER, self.registry.password):
                return True
            self.refuse(401, "UNAUTHORIZED", {"WWW-Authenticate": 'Basic realm="here"'})
            return False
        if registry.auth == "bearer":
            scopes = registry.tokens.get(shown.removeprefix("Bearer "))
            need = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}.get(self.command, "push")
            need = "push" if "/uploads/" in self.path and self.command != "DELETE" else need
            name = match["repository"] if match is not None else ""
            if scopes is not None and not refused and self._may(scopes, name, need) and self._may_link(scopes):
                return True
            scope = f"repository:{name}:{need}"
            challenge = f'Bearer realm="{registry.url}/token",service="test",scope="{scope}"'
            self.refuse(401, "UNAUTHORIZED", {"WWW-Authenticate": challenge})
            return False
        return True

    def _may(self, scopes: list[str], name: str, need: str) -> bool:
        return not name or any(scope.startswith(f"repository:{name}:") and need in scope for scope in scopes)

    def _may_link(self, scopes: list[str]) -> bool:
        """As Docker's own registry: whoever links without the right to pull there gets a 401 and no upload."""
        return "mount" not in self.query or self._may(scopes, self.query["from"], "pull")

    def _token(self) -> None:
        registry = self.registry
        registry.token_requests += 1
        form = parse_qs(self.rfile.read(self.length).decode()) if self.command == "POST" else {}
        known = self.headers.get("Authorization", "") == _basic(USER, self.registry.password)
        if not known and form.get("refresh_token") != [registry.password]:
            self.refuse(401, "UNAUTHORIZED")
            return
        scopes = form["scope"][0].split(" ") if form else parse_qs(self.parts.query).get("scope", [])
        token = f"canary-token-{uuid.uuid4().hex}"
        names = {scope.split(":")[1] for scope in scopes}
        hidden = registry.private if len(names) > 1 else ()
        registry.tokens[token] = [scope for scope in scopes if scope.split(":")[1] not in hidden]
        self.say(200, json.dumps({"token": token, "expires_in": registry.lives}).encode())

    def _manifest(self, there: Repository, reference: str) -> None:
        if self.command == "PUT":
            content = self.rfile.read(self.length)
            document = json.loads(content)
            named = [entry["digest"] for entry in [*document.get("layers", ()), document.get("config")] if entry]
            below = [entry["digest"] for entry in document.get("manifests", ())]
            if not (set(named) <= there.blobs.keys() and set(below) <= there.manifests.keys()):
                self.refuse(400, "MANIFEST_BLOB_UNKNOWN")
                return
            digest = digest_of(content)
            there.manifests[digest] = (self.headers["Content-Type"], content)
            if not reference.startswith("sha256:"):
                there.tags[reference] = digest
            self.say(201, headers={"Docker-Content-Digest": digest})
            return
        digest = there.tags.get(reference, reference)
        found = there.manifests.get(digest)
        if found is None:
            self.refuse(404, "MANIFEST_UNKNOWN")
        elif self.command == "DELETE":
            if not self.registry.deletes:
                self.refuse(405, "UNSUPPORTED")
                return
            if reference in there.tags:
                self.refuse(400, "UNSUPPORTED")  # as Docker's own registry: by digest alone
                return
            del there.manifests[digest]
            there.tags = {tag: named for tag, named in there.tags.items() if named != digest}
            self.say(202)
        else:
            self.say(200, found[1], {"Content-Type": found[0]})

    def _blob(self, there: Repository, digest: str, repository: str = "") -> None:
        content = there.blobs.get(digest)
        if content is None:
            self.refuse(404, "BLOB_UNKNOWN")
        elif self.registry.redirects_to and repository:
            to = f"{self.registry.redirects_to}/elsewhere/{digest}?from={repository}"
            self.say(307, headers={"Location": to})
        elif (asked := self.headers.get("Range", "")) and self.registry.serves_ranges:
            first, last = (int(number) for number in asked.removeprefix("bytes=").split("-"))
            told = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
            self.say(206, content[first : last + 1], told)
        else:
            self.say(200, content)

    def _upload(self, there: Repository, repository: str, name: str) -> None:
        uploads = self.registry.uploads
        if self.command == "POST":
            mounted = self.registry.repository(self.query.get("from", "")).blobs.get(self.query.get("mount", ""))
            if mounted is not None and self.registry.links:
                there.blobs[self.query["mount"]] = mounted
                self.say(201, headers={"Location": f"/v2/{repository}/blobs/{self.query['mount']}"})
                return
            name = uuid.uuid4().hex
            uploads[name] = bytearray()
            self._accepted(202, repository, name)
        elif name not in uploads:
            self.rfile.read(self.length)
            self.refuse(404, "BLOB_UPLOAD_UNKNOWN")
        elif self.command == "PATCH":
            self._patch(repository, name)
        elif self.command == "PUT":
            content = bytes(uploads[name]) + self.rfile.read(self.length)
            if digest_of(content) != self.query["digest"]:
                self.refuse(400, "DIGEST_INVALID")
                return
            del uploads[name]
            there.blobs[self.query["digest"]] = content
            self.say(201)
        elif self.command == "DELETE":
            del uploads[name]
            self.say(204)
        else:
            self._accepted(204, repository, name)

    def _patch(self, repository: str, name: str) -> None:
        held = self.registry.uploads[name]
        first, last = (int(number) for number in self.headers["Content-Range"].split("-"))
        arrives = self.registry.break_off(first)
        if arrives is not None:
            held += self.rfile.read(min(arrives, self.length))
            self.close_connection = True
            self.connection.close()
            return
        content = self.rfile.read(self.length)
        if first != len(held) or last - first + 1 != len(content):
            self.refuse(416, "RANGE_INVALID")
            return
        held += content
        self._accepted(202, repository, name)

    def _accepted(self, status: int, repository: str, name: str) -> None:
        told = {
            "Location": f"{self.registry.url if self.registry.absolute else ''}/v2/{repository}/blobs/uploads/{name}"
            f"?_state={uuid.uuid4().hex}",
            "Range": f"0-{max(0, len(self.registry.uploads[name]) - 1)}",
        }
        if self.registry.smallest_chunk:
            told["OCI-Chunk-Min-Length"] = str(self.registry.smallest_chunk)
        self.say(status, headers=told)


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
