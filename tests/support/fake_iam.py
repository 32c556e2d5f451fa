"""IBM's IAM on this machine: one-time passcodes, API keys, sessions, and everything that can go wrong with them.

Plain standard library, so that the demo can use it too.  Two things prove it: IBM's own client (`ibm_cloud_sdk_core`)
logs in to it, and its errors are IBM's own words, from where they were met in the open:

- BXNIM0106E, BXNIM0109E and BXNIM0060E: properties and methods that are wrong (issue 87 of IBM-Cloud/bluemix-go, the
  tests of IBM/go-sdk-core)
- BXNIM0415E: no such API key (the tests of IBM/go-sdk-core and of many others)
- BXNIM0407E, BXNIM0408E, BXNIM0439E: a refresh token that is wrong or expired, a session that has ended (the constants
  of IBM-Cloud/ibm-cloud-cli-sdk, which treats them as the end of a login)
- BXNIM0602E: credentials that are not right (issue 255 of CCChieh/IBMYes).  What IBM says to a spent passcode nobody
  has written down: this is the nearest, and no client may depend on it.
"""

import base64
import json
import secrets
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, cast
from urllib.parse import parse_qsl

PASSCODE = "urn:ibm:params:oauth:grant-type:passcode"
API_KEY = "urn:ibm:params:oauth:grant-type:apikey"
REFRESH = "refresh_token"
COMMAND_LINE = "Basic " + base64.b64encode(b"bx:bx").decode()
MINUTE, HOUR = 60.0, 3600.0

Clock = Callable[[], float]


class HandClock:
    """Seconds that pass when a test says so; from many threads."""

    def __init__(self, now: float = 1_790_000_000.0) -> None:
        self._lock = threading.Lock()
        self._now = now

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._now += seconds


@dataclass(frozen=True)
class Reply:
    """What IAM says, and how: without `sent`, the connection is closed instead, after all was done."""

    status: int
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    sent: bool = True


def error(code: str, message: str, *, status: int = 400, details: str = "") -> Reply:
    """An error document as IAM writes it."""
    document = {"errorCode": code, "errorMessage": message, "context": {"requestId": secrets.token_hex(8)}}
    return Reply(status, document | ({"errorDetails": details} if details else {}))


WRONG_CREDENTIALS = error("BXNIM0602E", "The credentials you entered for the user 'passcode' are incorrect")
UNKNOWN_API_KEY = error("BXNIM0415E", "Provided API key could not be found.")
WRONG_REFRESH_TOKEN = error("BXNIM0407E", "Provided refresh token is invalid")
EXPIRED_REFRESH_TOKEN = error("BXNIM0408E", "Provided refresh token is expired")
ENDED_SESSION = error("BXNIM0439E", "Session is not active")
WRONG_METHOD = error("BXNIM0060E", "Web application exception", status=405, details="HTTP 405 Method Not Allowed")
TOO_MANY = Reply(429, headers={"Retry-After": "7"})
BROKEN = Reply(503)
LOST = Reply(0, sent=False)
"""To be played after the request was worked on."""


@dataclass(frozen=True)
class Asked:
    """One POST: its grant, what it gave for it, the Authorization header, and the status of the answer (0: lost)."""

    grant: str
    given: str = field(repr=False)
    authorization: str = field(repr=False)
    status: int


class FakeIam:
    """One account of IBM Cloud.  Lives are in seconds of `clock`.

    `next_replies` are said instead of what would be true, each once: before the request is worked on, except `LOST`.
    `refreshable` False gives `not_supported` as the refresh token.  While `gate` is not set, no answer leaves.  With
    `context` it speaks TLS.
    """

    def __init__(self, clock: Clock = time.time, *, context: ssl.SSLContext | None = None) -> None:
        self.clock = clock
        self.token_life = HOUR
        self.refresh_life = 72 * HOUR
        self.passcode_life = 5 * MINUTE
        self.refreshable = True
        self.next_replies: deque[Reply] = deque()
        self.gate = threading.Event()
        self.gate.set()
        self.asked: list[Asked] = []
        self._lock = threading.Lock()
        self._passcodes: dict[str, float] = {}
        self._api_keys: set[str] = set()
        self._access: dict[str, float] = {}
        self._refresh: dict[str, float] = {}
        self._server = start(_Handler, self, context)

    @property
    def url(self) -> str:
        return self._server.url

    def new_passcode(self) -> str:
        """A passcode for one login within five minutes."""
        with self._lock:
            passcode = secrets.token_urlsafe(9)
            self._passcodes[passcode] = self.clock() + self.passcode_life
            return passcode

    def new_api_key(self) -> str:
        with self._lock:
            key = secrets.token_urlsafe(33)
            self._api_keys.add(key)
            return key

    def is_valid(self, access: str) -> bool:
        """Whether a service would take this token now."""
        with self._lock:
            return self._access.get(access, 0.0) > self.clock()

    def revoke_access(self) -> None:
        """End all access tokens; their sessions go on."""
        with self._lock:
            self._access.clear()

    def end_sessions(self) -> None:
        """Forget all refresh tokens; access tokens live on."""
        with self._lock:
            self._refresh.clear()

    @property
    def issued(self) -> list[str]:
        """All secrets that this server ever made up."""
        with self._lock:
            return [*self._passcodes, *self._api_keys, *self._access, *self._refresh]

    def grants(self, grant: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.grant == grant]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._server.stop()

    def answer(self, form: Mapping[str, str], authorization: str) -> Reply:
        """The reply to one POST, which is remembered."""
        grant = form.get("grant_type", "")
        given = form.get({PASSCODE: "passcode", API_KEY: "apikey", REFRESH: "refresh_token"}.get(grant, ""), "")
        with self._lock:
            reply = self.next_replies.popleft() if self.next_replies else None
            if reply is None or not reply.sent:
                true = self._work(grant, given, form, authorization)
                reply = reply or true
            self.asked.append(Asked(grant, given, authorization, reply.status))
        self.gate.wait(30)
        return reply

    def _work(self, grant: str, given: str, form: Mapping[str, str], authorization: str) -> Reply:
        now = self.clock()
        if grant not in {PASSCODE, API_KEY, REFRESH}:
            return _missing("grant_type")
        if grant != API_KEY and authorization != COMMAND_LINE:
            return _missing("client_id")
        if grant != REFRESH and form.get("response_type") != "cloud_iam":
            return error("BXNIM0106E", "Validation of property 'response_type' failed. Valid values: 'cloud_iam'")
        if not given:
            return _missing(grant.rpartition(":")[2])
        match grant:
            case "refresh_token" if given not in self._refresh:
                return WRONG_REFRESH_TOKEN
            case "refresh_token" if self._refresh[given] <= now:
                return EXPIRED_REFRESH_TOKEN
            case "refresh_token":
                return self._tokens(refreshable=self.refreshable)
            case _ if grant == API_KEY:
                # Without a client's name there is no session that somebody could go on with.
                refreshable = self.refreshable and authorization == COMMAND_LINE
                return self._tokens(refreshable=refreshable) if given in self._api_keys else UNKNOWN_API_KEY
        if self._passcodes.get(given, 0.0) <= now:
            return WRONG_CREDENTIALS
        self._passcodes[given] = 0.0
        return self._tokens(refreshable=self.refreshable)

    def _tokens(self, *, refreshable: bool) -> Reply:
        now = self.clock()
        access = _jwt({"iat": int(now), "exp": int(now + HOUR), "jti": secrets.token_hex(4)})
        refresh = secrets.token_urlsafe(18) if refreshable else "not_supported"
        self._access[access] = now + self.token_life
        if refreshable:
            self._refresh[refresh] = now + self.refresh_life
        document = {
            "access_token": access,
            "refresh_token": refresh,
            "token_type": "Bearer",
            "expires_in": self.token_life,
            "expiration": int(now + self.token_life),
            "scope": "ibm openid",
        }
        return Reply(200, document)


@dataclass
class Running:
    """An HTTP server in threads of its own."""

    server: ThreadingHTTPServer
    scheme: str

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.server.server_address[1]}"

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Quiet(ThreadingHTTPServer):
    """Knows whom it belongs to, and says nothing about clients that went away."""

    daemon_threads = True
    request_queue_size = 128
    owner: Any

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what tests do."""


def start(handler: type[BaseHTTPRequestHandler], owner: object, context: ssl.SSLContext | None) -> Running:
    """Serve on a free port of this machine."""
    server = Quiet(("127.0.0.1", 0), handler)
    if context is not None:
        # The handshake belongs to the connection's own thread, which does it with the first byte that it reads.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.owner = owner
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return Running(server, "https" if context is not None else "http")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        iam = cast("FakeIam", cast("Quiet", self.server).owner)
        body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        if self.path not in {"/identity/token", "/oidc/token"}:
            self._say(Reply(404))
            return
        self._say(iam.answer(dict(parse_qsl(body)), self.headers.get("Authorization", "")))

    def do_GET(self) -> None:
        self._say(WRONG_METHOD)

    def _say(self, reply: Reply) -> None:
        if not reply.sent:
            self.close_connection = True
            return
        body = json.dumps(reply.document).encode() if reply.document else b"<html>no JSON here</html>"
        self.send_response(reply.status)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **reply.headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing to say."""


def _missing(name: str) -> Reply:
    return error("BXNIM0109E", "Property missing or empty.", details=f"Property '{name}' either missing or empty.")


def _jwt(claims: Mapping[str, object]) -> str:
    parts = [json.dumps({"alg": "RS256"}).encode(), json.dumps(claims).encode()]
    parts.append(secrets.token_bytes(12))
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
