"""A Kubernetes API server in this process: as much of it as an upload asks for, and everything that can go wrong there.

Real bytes over a real socket, so that the real client runs against it.  Objects are plain documents, by path below
`/api` and `/apis`.  A Secret may come late, a call may fail, a user may be refused.
"""

import base64
import contextlib
import http.server
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme
import yaml

TOKEN = "sha256~canary-kubernetes-token-0123456789"
ROUTES = "/apis/route.openshift.io/v1"
INGRESSES = "/apis/networking.k8s.io/v1"


@dataclass
class FakeKubernetes:
    """The server's mind.

    `late` maps a path to how many more times it is not there, `faults` holds answers (status, headers, body) that are
    given first, whatever is asked, and `forbidden` the beginnings of paths that this user may not have.  `asked` are
    all requests as they came.
    """

    token: str = TOKEN
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    late: dict[str, int] = field(default_factory=dict)
    faults: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    forbidden: list[str] = field(default_factory=list)
    groups: set[str] = field(default_factory=lambda: {"/api/v1", ROUTES, INGRESSES})
    asked: list[tuple[str, str]] = field(default_factory=list)
    on_request: Callable[[str], None] = lambda _: None
    server: str = ""
    ca: bytes = b""

    def put_secret(self, namespace: str, name: str, values: Mapping[str, str], *, late: int = 0) -> None:
        """A Secret, which is not there for the first `late` times."""
        path = f"/api/v1/namespaces/{namespace}/secrets/{name}"
        self.objects[path] = _document(
            "v1", "Secret", name, data={key: base64.b64encode(it.encode()).decode() for key, it in values.items()}
        )
        self.late[path] = late

    def secret(self, namespace: str, name: str) -> dict[str, str]:
        """What a Secret holds, decoded."""
        document = self.objects[f"/api/v1/namespaces/{namespace}/secrets/{name}"]
        return {key: base64.b64decode(value).decode() for key, value in document["data"].items()}

    def put_config_map(self, namespace: str, name: str, values: Mapping[str, str]) -> None:
        """A ConfigMap."""
        self.objects[f"/api/v1/namespaces/{namespace}/configmaps/{name}"] = _document(
            "v1", "ConfigMap", name, data=dict(values)
        )

    def put_service(self, namespace: str, name: str, *ports: dict[str, Any]) -> None:
        """A Service with these ports."""
        path = f"/api/v1/namespaces/{namespace}/services/{name}"
        self.objects[path] = _document("v1", "Service", name, spec={"ports": list(ports)})

    def put_route(self, namespace: str, name: str, *, service: str, host: str, **spec: Any) -> None:
        """A Route to a service, without TLS unless `tls` is given; `status` tells of its admission."""
        status = spec.pop("status", {})
        self.objects[f"{ROUTES}/namespaces/{namespace}/routes/{name}"] = _document(
            "route.openshift.io/v1",
            "Route",
            name,
            spec={"host": host, "to": {"kind": "Service", "name": service, "weight": 100}, **spec},
            status=status,
        )

    def kubeconfig(self, path: Path) -> Path:
        """Write the kubeconfig of a user who is logged in."""
        cluster: dict[str, str] = {"server": self.server}
        if self.ca:
            cluster["certificate-authority-data"] = base64.b64encode(self.ca).decode()
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "demo/api-cluster/me",
            "clusters": [{"name": "api-cluster", "cluster": cluster}],
            "contexts": [
                {
                    "name": "demo/api-cluster/me",
                    "context": {"cluster": "api-cluster", "user": "me/api-cluster", "namespace": "default"},
                }
            ],
            "users": [{"name": "me/api-cluster", "user": {"token": self.token}}],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return path

    def answer(self, method: str, path: str, authorization: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        self.asked.append((method, path))
        self.on_request(path)
        if self.faults:
            return self.faults.pop(0)
        if authorization != f"Bearer {self.token}":
            return _status(401, "Unauthorized", "Unauthorized")
        if any(path.startswith(start) for start in self.forbidden):
            return _status(403, "Forbidden", f'User "me" cannot get resource {path.rpartition("/")[2]!r}')
        if not any(path.startswith(f"{group}/") for group in self.groups):
            return 404, {"Content-Type": "text/plain"}, b"404 page not found\n"
        if method == "POST":
            return self._create(path, json.loads(body))
        if path in self.objects and self.late.get(path, 0) <= 0:
            return 200, {}, json.dumps(self.objects[path]).encode()
        if path in self.late:
            self.late[path] -= 1
        collection = [item for at, item in self.objects.items() if at.rpartition("/")[0] == path]
        if collection or path.rpartition("/")[2] in {"routes", "ingresses"}:
            listed = {"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": collection}
            return 200, {}, json.dumps(listed).encode()
        return _status(404, "NotFound", f"{path.rpartition('/')[2]} not found")

    def _create(self, collection: str, document: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        path = f"{collection}/{document['metadata']['name']}"
        if path in self.objects:
            return _status(409, "AlreadyExists", f"{path} already exists")
        for key, value in document.pop("stringData", {}).items():
            document.setdefault("data", {})[key] = base64.b64encode(value.encode()).decode()
        self.objects[path] = document
        return 201, {}, json.dumps(document).encode()


@contextlib.contextmanager
def running_kubernetes(*, tls: bool = False) -> Iterator[FakeKubernetes]:
    """A server on loopback, with a certificate of an authority that nobody else believes where `tls` is asked for."""
    fake = FakeKubernetes()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are two writes, and the second would wait for the client

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            status, headers, content = fake.answer(self.command, path, self.headers.get("Authorization", ""), body)
            self.send_response(status)
            for name, value in ({"Content-Type": "application/json"} | headers).items():
                if value:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _serve  # noqa: N815 - the library's own names

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that hangs up is no news."""

    server = Server(("127.0.0.1", 0), Handler)
    fake.server = f"http://127.0.0.1:{server.server_address[1]}"
    if tls:
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        fake.server, fake.ca = fake.server.replace("http:", "https:"), authority.cert_pem.bytes()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _document(version: str, kind: str, name: str, **rest: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **rest}


def _status(code: int, reason: str, message: str) -> tuple[int, dict[str, str], bytes]:
    document = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
    return code, {}, json.dumps(document | {"reason": reason, "message": message, "code": code}).encode()
