"""IBM Cloud Object Storage on this machine: any S3 server, behind a door that wants a valid token of the fake IAM."""

import http.client
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Self, cast
from urllib.parse import urlsplit

from tests.support.fake_iam import FakeIam, Quiet, start

_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "server", "date", "authorization", "host"})
_PIECE = 256 * 1024
_ANYBODY = "AWS4-HMAC-SHA256 Credential=AKIAFAKECOS/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
"""moto wants to see a signature, and looks at no more than who it says to be."""


@dataclass(frozen=True)
class Seen:
    """One request: whether its token was valid when it came, and the status of the answer."""

    method: str
    target: str
    token: str = field(repr=False)
    valid: bool
    status: int


class FakeCos:
    """Forwards to the S3 server at `upstream` (moto, which checks no signatures) what carries a token of `iam`.

    `before` and `after` are called with each request's method and target, before and after its token was looked at.
    `denied` refuses whatever token there is, as for an account that may not read the bucket.  The refusal is COS's own:
    https://www.ibm.com/docs/en/coss/3.20.1?topic=headers-error-codes says 403 AccessDenied for all of them.
    """

    def __init__(self, iam: FakeIam, upstream: str, *, context: ssl.SSLContext | None = None) -> None:
        self.iam = iam
        self.upstream = upstream
        self.before: Callable[[str, str], None] | None = None
        self.after: Callable[[str, str], None] | None = None
        self.denied = False
        self.seen: list[Seen] = []
        self._server = start(_Handler, self, context)

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def by_token(self) -> Counter[str]:
        """Number of requests of each token."""
        return Counter(seen.token for seen in self.seen)

    @property
    def refused(self) -> list[Seen]:
        return [seen for seen in self.seen if seen.status in {401, 403}]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024
    _connections = threading.local()

    def do_GET(self) -> None:
        cos = cast("FakeCos", cast("Quiet", self.server).owner)
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if cos.before is not None:
            cos.before(self.command, self.path)
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        valid = scheme == "Bearer" and cos.iam.is_valid(token)
        if cos.after is not None:
            cos.after(self.command, self.path)
        if not valid or cos.denied:
            cos.seen.append(Seen(self.command, self.path, token, valid, 403))
            self._refuse()
        else:
            self._forward(cos, token, body)
        self.wfile.flush()

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def log_message(self, *_: object) -> None:
        """Nothing to say."""

    def _refuse(self) -> None:
        body = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _forward(self, cos: FakeCos, token: str, body: bytes) -> None:
        upstream = self._upstream(cos)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        headers["Authorization"] = _ANYBODY
        upstream.request(self.command, self.path, body=body or None, headers=headers)
        answer = upstream.getresponse()
        cos.seen.append(Seen(self.command, self.path, token, valid=True, status=answer.status))
        length = answer.getheader("Content-Length")
        content = answer.read() if length is None and self.command != "HEAD" else b""
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP and name.lower() != "content-length":
                self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        if content:
            self.wfile.write(content)
        while piece := answer.read(_PIECE):
            self.wfile.write(piece)

    def _upstream(self, cos: FakeCos) -> http.client.HTTPConnection:
        """One connection for each thread, which is one for each connection of a client."""
        parts = urlsplit(cos.upstream)
        connection = getattr(self._connections, "kept", None)
        if not isinstance(connection, http.client.HTTPConnection) or self._connections.host != parts.netloc:
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=60)
            self._connections.kept, self._connections.host = connection, parts.netloc
        return connection

    def finish(self) -> None:
        connection = getattr(self._connections, "kept", None)
        if isinstance(connection, http.client.HTTPConnection):
            connection.close()
            del self._connections.kept
        super().finish()
