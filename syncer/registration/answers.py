"""What the registry's answers mean, and what it means when something else answers at its address."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from syncer.claims import from_json
from syncer.errors import ConfigurationError, CredentialsRefused, EndpointUnreachable, SyncerError, Transient
from syncer.redaction import quoted
from syncer.retry import seconds_of
from syncer.settings.locations import RegistryLocation
from syncer.wire import Garbled, Headers, Origin

STAGE: Final = "register"
ADDRESS_HINT: Final = (
    "check MODEL_REGISTRY_URL: it must be the registry's REST service, such as https://NAME-rest.apps.example.com, and "
    "neither the dashboard nor the database"
)

_NAMES_HINT: Final = "check MODEL_NAME and MODEL_VERSION, and the version of the registry"
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")
_LONGEST_WORDS: Final = 200
_IN_THE_WAY: Final = re.compile(r"already ?exist|duplicate", re.IGNORECASE)
_DOWN: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})
_LATER: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})
_GREETING: Final = b"\0\n"
"""How the first line of a MySQL server ends: its greeting is packet 0 and has protocol version 10, a line feed."""


@dataclass(frozen=True)
class Said:
    """An answer.

    `document` is None where it was no JSON object, and `is_json` says whether it was JSON at all.  `words` are the
    server's own about what is wrong, cut short and without anything secret; `elsewhere` is the scheme and host that a
    redirect leads to.
    """

    status: int
    document: dict[str, Any] | None = field(default=None, repr=False)
    is_json: bool = False
    words: str = ""
    elsewhere: str = ""
    retry_after: float | None = None

    @classmethod
    def read(cls, status: int, content: bytes, headers: Headers) -> Said:
        """Take an answer apart.  An error is an object with a `message`, a JSON text, or a line of plain text."""
        try:
            document, is_json = from_json(content), True
        except ValueError:
            document, is_json = None, False  # a page for people
        words = document
        if isinstance(document, dict):
            words = document.get("message")
        elif not is_json and str(headers.get("Content-Type") or "text/plain").startswith("text/plain"):
            words = content.decode("latin-1")
        try:
            elsewhere = str(Origin.split(str(headers.get("Location") or ""))[0])
        except ValueError:
            elsewhere = ""
        return cls(
            status,
            document if isinstance(document, dict) else None,
            is_json,
            quoted(words, _LONGEST_WORDS) if isinstance(words, str) else "",
            _UNPRINTABLE.sub(" ", elsewhere),
            seconds_of(headers.get("Retry-After") or ""),
        )

    @property
    def error(self) -> str:
        """The status, and what the server says about it."""
        return f"HTTP {self.status}: {self.words}" if self.words else f"HTTP {self.status}"

    @property
    def in_the_way(self) -> bool:
        """Whether an entry of that name exists: 409, of older servers 400, and 500 with the words of their database."""
        if self.status == HTTPStatus.CONFLICT:
            return True
        return self.status in {400, 500} and _IN_THE_WAY.search(self.words) is not None


class Meanings:
    """The errors of one registry, called `name`.

    `proxy` is the one that its answers come through in the open, if any: then they may be the proxy's own.
    """

    def __init__(self, location: RegistryLocation, name: str, *, proxy: str = "") -> None:
        self._location = location
        self._name = name
        self._proxy = proxy

    def of(self, said: Said, what: str, *, hint: str = _NAMES_HINT) -> SyncerError:
        """What an answer that is no success means; `what` completes "cannot …"."""
        error = self._meant(said, what, hint)
        if self._proxy:
            error.hint += f"; the answer came through the proxy {self._proxy}: NO_PROXY names what it is not for"
        return error

    def later(self, message: str, *, retry_after: float | None = None) -> Transient:
        """It is worth to ask again."""
        hint = "look at the log of the registry"
        return Transient(message, hint=hint, stage=STAGE, store=self._name, retry_after=retry_after)

    def no_registry(self, why: str) -> ConfigurationError:
        """Somebody else lives at this address."""
        return ConfigurationError(f"{self._name} is no Model Registry: {why}", hint=ADDRESS_HINT)

    def no_http(self, error: SyncerError) -> ConfigurationError | None:
        """What a first request means that found no HTTP, or no TLS, at the address; None for any other failure."""
        cause = error.__cause__
        if isinstance(cause, Garbled) and cause.line:
            if cause.line.endswith(_GREETING):
                return self.no_registry("it is a MySQL server, the database behind a registry")
            return self.no_registry("it does not speak HTTP")
        if isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS:
            found = self.no_registry("it does not speak TLS")
            found.hint = f"write http:// in MODEL_REGISTRY_URL for a service without TLS, or {ADDRESS_HINT}"
            return found
        return None

    def _meant(self, said: Said, what: str, hint: str) -> SyncerError:
        status = said.status
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            return self._refusal(said, what)
        if status in _DOWN:
            return EndpointUnreachable(
                f"{self._name} is down ({said.error})",
                hint="look whether the registry's pods and its database run",
                stage=STAGE,
                store=self._name,
                retry_after=said.retry_after,
            )
        if status in _LATER or status // 100 == 5:
            return self.later(f"{self._name} cannot {what} now ({said.error})", retry_after=said.retry_after)
        if status == HTTPStatus.NOT_FOUND:
            return self.later(f"{self._name} has no place to {what} any more ({said.error})")
        if status // 100 == 3:
            return self._elsewhere(said)
        if status == HTTPStatus.BAD_REQUEST and hint == ADDRESS_HINT and self._location.endpoint.startswith("http://"):
            hint = f"write https:// in MODEL_REGISTRY_URL if the service has TLS, or {ADDRESS_HINT}"
        return ConfigurationError(f"{self._name} does not {what} ({said.error})", hint=hint)

    def _elsewhere(self, said: Said) -> ConfigurationError:
        ours, to = self._location.endpoint, f" to {said.elsewhere}" if said.elsewhere else ""
        hint = ADDRESS_HINT
        if said.elsewhere.startswith("https://") and ours.startswith("http://"):
            hint = f"write https:// in MODEL_REGISTRY_URL, or {ADDRESS_HINT}"
        elif self._location.token is None and self._location.token_file is None:
            hint = f"set MODEL_REGISTRY_TOKEN if that is a login, or {ADDRESS_HINT}"
        return ConfigurationError(
            f"{self._name} is no REST service: it sends us elsewhere{to} (HTTP {said.status})", hint=hint
        )

    def _refusal(self, said: Said, what: str) -> CredentialsRefused:
        location = self._location
        whose = "MODEL_REGISTRY_TOKEN" if location.token else "the ServiceAccount's token"
        if location.token is None and location.token_file is None:
            message = f"{self._name} wants a token, and there is none ({said.error})"
            hint = (
                "set MODEL_REGISTRY_TOKEN, or let the pod mount its ServiceAccount's token; to an http:// address it "
                "is sent only with S3_SYNC_ALLOW_PLAINTEXT_TOKENS=true"
            )
        elif said.status == HTTPStatus.UNAUTHORIZED:
            message = f"{self._name} refuses {whose} ({said.error})"
            hint = "get a new one, for example with `oc create token`, or `oc whoami -t` for a while of your own"
        else:
            message = f"{self._name} does not let {whose} {what} ({said.error})"
            hint = (
                "bind its owner to the role registry-user-NAME in the registry's namespace, as the dashboard does "
                "under Manage permissions"
            )
        return CredentialsRefused(message, hint=hint, stage=STAGE, store=self._name)
