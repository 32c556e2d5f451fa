"""The registry's REST service over our own wire: which version of the API it has, and what its answers mean.

The protocol is the OpenAPI document of kubeflow/model-registry.  Servers of the field have it below
`/api/model_registry/v1alpha3`, the newest ones below `/v1`, with the same entries: both are asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

from syncer import __version__
from syncer.errors import ConfigurationError, CredentialsRefused, EndpointUnreachable, SyncerError, Transient
from syncer.redaction import redact, register_secrets
from syncer.retry import seconds_of
from syncer.settings.locations import Network, RegistryLocation
from syncer.wire import Origin, Timeouts, Wire

BASES: Final = ("/api/model_registry/v1alpha3", "/api/model_registry/v1")
STAGE: Final = "register"

_LONGEST_ANSWER: Final = 8 * 1024 * 1024
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_ADDRESS_HINT: Final = (
    "check MODEL_REGISTRY_URL: it must be the registry's REST service, such as https://NAME-rest.apps.example.com, and "
    "neither the dashboard nor the database"
)
_DOWN: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})
_LATER: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})


@dataclass(frozen=True)
class Said:
    """An answer: `document` is None where it was no JSON object."""

    status: int
    document: dict[str, Any] | None = field(repr=False)
    retry_after: float | None = None

    @property
    def error(self) -> str:
        """The server's own words, cut short and without anything secret."""
        document = self.document or {}
        words = _UNPRINTABLE.sub(" ", str(document.get("message") or "")).strip()
        return redact(f"HTTP {self.status}: {words[:200]}" if words else f"HTTP {self.status}")


class Rest:
    """The service of one location; for one thread.

    Errors of every method: `EndpointUnreachable` (69) when it is down, `Transient` when it is worth to ask again,
    `CredentialsRefused` for 401 and 403, `ConfigurationError` for what is no registry and for what it never takes.
    """

    def __init__(self, location: RegistryLocation, network: Network, *, timeouts: Timeouts | None = None) -> None:
        self._location = location
        self.name = f"the Model Registry at {location.endpoint}"
        self._origin, _ = Origin.split(location.endpoint)
        # What stands behind the host: a registry may be published below a path.
        self._prefix = location.endpoint.removeprefix("https://").removeprefix("http://").partition("/")[2]
        self._base = ""
        self._wire = Wire(
            network,
            store=self.name,
            hint="check MODEL_REGISTRY_URL, and whether the registry runs and is reachable from here",
            timeouts=timeouts,
        )

    def find_base(self) -> None:
        """Ask which API there is, and whether we may use it; from then on every request goes there."""
        if self._base:
            return
        for base in BASES:
            said = self._ask("GET", base, "registered_models", query={"pageSize": "1"})
            if said.status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}:
                continue
            if said.status != HTTPStatus.OK:
                raise self.error(said, "list models")
            if said.document is None or not isinstance(said.document.get("items") or [], list):
                break
            self._base = base
            return
        raise ConfigurationError(f"{self.name} is no Model Registry: it knows no {BASES[0]}", hint=_ADDRESS_HINT)

    def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any] | None:
        """An entry or a list; None when there is none."""
        said = self._ask("GET", self._known_base(), path, query=query)
        if said.status == HTTPStatus.NOT_FOUND:
            return None
        return self._document(said, f"read {path}")

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """The entry that was created; None where another one is in the way (409, and 400 of older servers)."""
        said = self._ask("POST", self._known_base(), path, body=body)
        if said.status == HTTPStatus.CONFLICT or (
            said.status == HTTPStatus.BAD_REQUEST and "exist" in said.error.lower()
        ):
            return None
        return self._document(said, f"create one of {path}")

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The entry with what `body` changes."""
        return self._document(self._ask("PATCH", self._known_base(), path, body=body), f"change {path}")

    def error(self, said: Said, what: str) -> SyncerError:
        """What an answer that is no success means."""
        status = said.status
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            return self._refusal(said, what)
        if status in _DOWN:
            return EndpointUnreachable(
                f"{self.name} is down ({said.error})",
                hint="look whether the registry's pods and its database run",
                stage=STAGE,
                store=self.name,
                retry_after=said.retry_after,
            )
        if status in _LATER or status // 100 == 5:
            return Transient(
                f"{self.name} cannot {what} now ({said.error})",
                hint="look at the log of the registry",
                stage=STAGE,
                store=self.name,
                retry_after=said.retry_after,
            )
        if status // 100 == 3:
            return ConfigurationError(
                f"{self.name} is no REST service: it sends us elsewhere (HTTP {status})", hint=_ADDRESS_HINT
            )
        return ConfigurationError(
            f"{self.name} does not {what} ({said.error})",
            hint="check MODEL_NAME and MODEL_VERSION, and the version of the registry",
        )

    def interrupt(self) -> None:
        """Wake every thread that waits for an answer; what is asked later gets little patience."""
        self._wire.interrupt()

    def close(self) -> None:
        """Close all connections."""
        self._wire.close()

    def _known_base(self) -> str:
        self.find_base()
        return self._base

    def _document(self, said: Said, what: str) -> dict[str, Any]:
        if said.status // 100 != 2:
            raise self.error(said, what)
        if said.document is None:
            raise ConfigurationError(f"{self.name} is no Model Registry: it answers with no JSON", hint=_ADDRESS_HINT)
        return said.document

    def _ask(
        self,
        method: str,
        base: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Said:
        headers = {"Accept": "application/json", "User-Agent": f"model-syncer/{__version__}"}
        if token := self._token():
            headers["Authorization"] = f"Bearer {token}"
        content = b"" if body is None else json.dumps(body, ensure_ascii=False).encode()
        if body is not None:
            headers["Content-Type"] = "application/json"
        prefix = f"/{self._prefix}" if self._prefix else ""
        target = f"{prefix}{base}/{path}" + (f"?{urlencode(query)}" if query else "")
        with self._wire.ask(method, self._origin, target, headers, body=content) as answer:
            data = answer.read(_LONGEST_ANSWER)
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            document = None  # a page for people
        return Said(
            answer.status,
            document if isinstance(document, dict) else None,
            seconds_of(answer.header("Retry-After")),
        )

    def _token(self) -> str:
        location = self._location
        if location.token is not None:
            token = location.token.get_secret_value()
        elif location.token_file is not None:
            try:
                token = location.token_file.read_text(encoding="ascii").strip()
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or "it is no text"
                raise CredentialsRefused(
                    f"cannot read the ServiceAccount's token in {location.token_file}: {why}",
                    hint="set MODEL_REGISTRY_TOKEN, or let the pod mount its ServiceAccount's token",
                    stage=STAGE,
                    path=str(location.token_file),
                ) from None  # a decoding error holds what it could not decode
        else:
            return ""
        register_secrets([token])
        return token if _TOKEN.fullmatch(token) else ""

    def _refusal(self, said: Said, what: str) -> CredentialsRefused:
        location = self._location
        whose = "MODEL_REGISTRY_TOKEN" if location.token else "the ServiceAccount's token"
        if location.token is None and location.token_file is None:
            message = f"{self.name} wants a token, and there is none ({said.error})"
            hint = (
                "set MODEL_REGISTRY_TOKEN, or let the pod mount its ServiceAccount's token; to an http:// address it "
                "is sent only with S3_SYNC_ALLOW_PLAINTEXT_TOKENS=true"
            )
        elif said.status == HTTPStatus.UNAUTHORIZED:
            message = f"{self.name} refuses {whose} ({said.error})"
            hint = "get a new one, for example with `oc create token`, or `oc whoami -t` for a while of your own"
        else:
            message = f"{self.name} does not let {whose} {what} ({said.error})"
            hint = (
                "bind its owner to the role registry-user-NAME in the registry's namespace, as the dashboard does "
                "under Manage permissions"
            )
        return CredentialsRefused(message, hint=hint, stage=STAGE, store=self.name)
