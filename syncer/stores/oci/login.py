"""How we show a registry who we are: Basic, or a Bearer token that its token server gives.

The protocols are those of the distribution project (https://distribution.github.io/distribution/spec/auth/): a refused
request names the way (`WWW-Authenticate`), a token is asked for with GET and a login, or with POST and an identity
token (OAuth 2).  Tokens live for minutes and a push for hours, so that they are renewed before they end, and once when
one is refused all the same.  Every token is hidden from logs and errors from the moment it is known.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlencode

from syncer.claims import from_json
from syncer.errors import ConfigurationError, CredentialsRefused, SyncerError, Transient
from syncer.redaction import register_secrets
from syncer.retry import Patience, seconds_of
from syncer.settings.locations import ImageLocation, RegistryLogin
from syncer.wire import Answer, Origin, Wire

WHERE: Final = "REGISTRY_AUTH_FILE, DOCKER_CONFIG or a mounted .dockerconfigjson"
"""Where logins come from, for hints."""

_LARGEST_ANSWER: Final = 256 * 1024
_SHORTEST_LIFE: Final = 60.0
"""Seconds that a token lives where nobody says how long, by the specification."""
_CHALLENGE: Final = re.compile(r"(?i)^\s*(basic|bearer)\b(.*)$", re.DOTALL)
_FIELD: Final = re.compile(r'(?<![a-zA-Z_-])([a-zA-Z_-]{1,64})\s{0,8}=\s*(?:"([^"]{0,4096})"|([^",\s]{1,4096}))')

Scopes = tuple[str, ...]


@dataclass(frozen=True)
class _Pass:
    """A header's value that lets us in; `until` by our clock.  `proved` once a request has got through with it."""

    header: str
    until: float
    proved: bool = False

    def __repr__(self) -> str:
        return f"_Pass(proved={self.proved})"


@dataclass(frozen=True)
class _Door:
    """What a registry said about the way in."""

    kind: str
    realm: str = ""
    service: str = ""


class Login:
    """The passes for one registry.  Safe from many threads, of which one at a time asks for a new one."""

    def __init__(
        self, location: ImageLocation, wire: Wire, *, patience: Patience, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._location = location
        self._wire = wire
        self._patience = patience
        self._clock = clock
        self._lock = threading.Lock()
        self._door: _Door | None = None
        self._passes: dict[Scopes, _Pass] = {}
        self._name = f"oci://{location.registry}/{location.repository}"
        secrets = [secret for login in location.logins for secret in (login.password, login.identity_token) if secret]
        register_secrets(secret.get_secret_value() for secret in secrets)

    def header(self, origin: Origin, scopes: Scopes) -> str:
        """The Authorization for a request, renewed where it is about to end; empty before anybody asked for one."""
        with self._lock:
            if self._door is None:
                return ""
            held = self._passes.get(scopes)
            if held is None or held.until <= self._clock():
                held = self._passes[scopes] = self._obtain(self._door, origin, scopes)
            return held.header

    def accepted(self, scopes: Scopes, header: str) -> None:
        """A request with `header` was let in: when it is refused later, a new one is worth asking for."""
        if (seen := self._passes.get(scopes)) is not None and seen.proved:
            return
        with self._lock:
            held = self._passes.get(scopes)
            if held is not None and held.header == header:
                self._passes[scopes] = replace(held, proved=True)

    def refused(self, answer: Answer, origin: Origin, scopes: Scopes, header: str) -> None:
        """A request with `header` was answered with 401: after this, it may be sent once more.

        Raises `CredentialsRefused` where another try with the same login would end as this one did.
        """
        challenges = answer.headers.get_all("WWW-Authenticate")
        door = _door(challenges)
        if door is None:
            raise self._no_entry("answers 401 and does not say how to log in")
        with self._lock:
            held = self._passes.get(scopes)
            if held is not None and held.header != header:
                return  # another thread has a newer one already
            if held is not None and not held.proved:
                raise self.useless()
            self._door = door
            self._passes[scopes] = self._obtain(door, origin, scopes)

    def useless(self) -> CredentialsRefused:
        """What it means that a request is answered with 401 after a renewal, too."""
        return self._no_entry("refuses the login" if self._credentials() else "wants a login, and there is none")

    def _obtain(self, door: _Door, origin: Origin, scopes: Scopes) -> _Pass:
        login = self._credentials()
        if door.kind == "basic":
            if login is None or login.password is None:
                raise self._no_entry("wants a login, and there is none")
            self._may_travel(origin)
            return _Pass(_basic(login), float("inf"))
        try:
            realm, target = Origin.split(door.realm)
        except ValueError:
            raise self._no_entry(f"names {door.realm!r:.200} as its token server, which is no address") from None
        if login is not None:
            self._may_travel(realm)
            self._may_travel(origin)  # the token, which is as good as the login while it lives
        return self._wire.persistently(lambda: self._token(door, realm, target, login, scopes), patience=self._patience)

    def _token(self, door: _Door, realm: Origin, target: str, login: RegistryLogin | None, scopes: Scopes) -> _Pass:
        asked = [("service", door.service)] if door.service else []
        headers = {"Accept": "application/json", "User-Agent": "model-syncer"}
        if login is not None and login.identity_token is not None:
            form = [
                ("grant_type", "refresh_token"),
                *asked,
                ("client_id", "model-syncer"),
                ("scope", " ".join(scopes)),
                ("refresh_token", login.identity_token.get_secret_value()),
            ]
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            answer = self._wire.ask("POST", realm, target, headers, body=urlencode(form).encode())
        else:
            if login is not None and login.password is not None:
                headers["Authorization"] = _basic(login)
            query = urlencode([*asked, *(("scope", scope) for scope in scopes)])
            answer = self._wire.ask("GET", realm, target + ("&" if "?" in target else "?") + query, headers)
        with answer:
            content = answer.read(_LARGEST_ANSWER)
        if answer.status != 200:
            raise self._no_token(answer, realm, known=login is not None)
        try:
            said = from_json(content)
            token = said.get("token") or said["access_token"]
            lives = float(said.get("expires_in") or _SHORTEST_LIFE)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            raise self._senseless(realm) from None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise self._senseless(realm)
        register_secrets([token])
        # The other side's clock began a little before ours; a token that lives very shortly is used at once anyway.
        return _Pass(f"Bearer {token}", self._clock() + max(lives - 30.0, lives * 0.5))

    def _credentials(self) -> RegistryLogin | None:
        """The login with the longest scope that fits, as container tools choose from `auth.json`."""
        place = f"{self._location.registry}/{self._location.repository}"
        fitting = [login for login in self._location.logins if f"{place}/".startswith(f"{login.scope.rstrip('/')}/")]
        return max(fitting, key=lambda login: len(login.scope), default=None)

    def _may_travel(self, to: Origin) -> None:
        if to.scheme == "https" or is_loopback(to.host) or self._location.plaintext_tokens:
            return
        raise ConfigurationError(
            f"{self._name}: the login would travel to {to} without encryption",
            hint="let the registry speak https, or allow it with S3_SYNC_ALLOW_PLAINTEXT_TOKENS=true",
        )

    def _no_token(self, answer: Answer, realm: Origin, *, known: bool) -> SyncerError:
        if answer.status in {400, 401, 403, 404}:
            why = "refuses the login" if known else "gives no token without a login"
            return self._no_entry(f"has a token server, {realm}, that {why} (HTTP {answer.status})")
        return Transient(
            f"{self._name}: the token server {realm} answers HTTP {answer.status}",
            hint=f"the registry names {realm} as its token server: look at it, and at the proxies on the way",
            store=self._name,
            retry_after=seconds_of(answer.header("Retry-After")),
        )

    def _senseless(self, realm: Origin) -> Transient:
        return Transient(
            f"{self._name}: {realm} gives no token that makes sense",
            hint=f"the registry names {realm} as its token server: is it one, or a proxy on the way to it?",
            store=self._name,
        )

    def _no_entry(self, what: str) -> CredentialsRefused:
        return CredentialsRefused(
            f"{self._name}: the registry {what}",
            hint=f"check the login for {self._location.registry} in {WHERE}",
            store=self._name,
        )


def is_loopback(host: str) -> bool:
    """Whether what is sent to `host` stays on this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _basic(login: RegistryLogin) -> str:
    password = login.password.get_secret_value() if login.password else ""
    header = base64.b64encode(f"{login.username}:{password}".encode()).decode()
    register_secrets([header])
    return f"Basic {header}"


def _door(challenges: Sequence[str]) -> _Door | None:
    """The best of the ways that are offered: Bearer, where there is a choice."""
    doors = []
    for challenge in challenges:
        if (found := _CHALLENGE.match(challenge)) is None:
            continue
        fields = {name.lower(): quoted or bare for name, quoted, bare in _FIELD.findall(found[2])}
        doors.append(_Door(found[1].lower(), fields.get("realm", ""), fields.get("service", "")))
    return max(doors, key=lambda door: door.kind == "bearer", default=None)
