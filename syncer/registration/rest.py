"""The registry's REST service over our own wire: which version of the API it has, and one request after another.

The protocol is the OpenAPI document of kubeflow/model-registry.  Servers of the field have it below
`/api/model_registry/v1alpha3`, the newest ones below `/v1`, with the same entries: both are asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

from syncer import __version__
from syncer.errors import CredentialsRefused, SyncerError
from syncer.redaction import register_secrets
from syncer.registration.answers import ADDRESS_HINT, STAGE, Meanings, Said
from syncer.settings.locations import Network, RegistryLocation
from syncer.wire import Origin, Timeouts, Wire
from syncer.wire.proxies import proxy_for

BASES: Final = ("/api/model_registry/v1alpha3", "/api/model_registry/v1")

_LONGEST_ANSWER: Final = 8 * 1024 * 1024
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_ID: Final = re.compile(r"[A-Za-z0-9_-]+")


class Rest:
    """The service of one location; for one thread.

    Errors of every method: `EndpointUnreachable` (69) when it is down, `Transient` when it is worth to ask again,
    `CredentialsRefused` for 401 and 403, `ConfigurationError` for what is no registry and for what it never takes.
    """

    def __init__(self, location: RegistryLocation, network: Network, *, timeouts: Timeouts | None = None) -> None:
        self._location = location
        self.name = f"the Model Registry at {location.endpoint}"
        self._origin = origin = Origin.split(location.endpoint)[0]
        in_the_open = origin.scheme == "http"  # TLS goes through a proxy's tunnel: nobody else answers there
        proxy = proxy_for(network, scheme="http", host=origin.host, port=origin.port) if in_the_open else None
        self.means = Meanings(location, self.name, proxy=f"{proxy.host}:{proxy.port}" if proxy else "")
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
            try:
                said = self._ask("GET", base, "registered_models", query={"pageSize": "1"})
            except SyncerError as error:
                raise self.means.no_http(error) or error from error.__cause__
            if said.status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}:
                continue
            if said.status != HTTPStatus.OK:
                raise self.means.of(said, "list models", hint=ADDRESS_HINT)
            if said.document is None or not isinstance(said.document.get("items") or [], list):
                break
            self._base = base
            return
        raise self.means.no_registry(f"it knows no {BASES[0]}")

    def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any] | None:
        """An entry or a list; None when there is none."""
        said = self._ask("GET", self._known_base(), path, query=query)
        if said.status == HTTPStatus.NOT_FOUND:
            if not said.is_json:  # a router's page: the registry itself is away, and nothing says what it has
                raise self.means.later(f"{self.name} cannot read {path} now ({said.error}, and no JSON)")
            return None
        return self._document(said, f"read {path}")

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """The entry that was created; None where another one is in the way."""
        said = self._ask("POST", self._known_base(), path, body=body)
        return None if said.in_the_way else self._document(said, f"create one of {path}")

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The entry with what `body` changes."""
        return self._document(self._ask("PATCH", self._known_base(), path, body=body), f"change {path}")

    def number(self, entry: Mapping[str, Any]) -> str:
        """The id of an entry, fit for a path; `ConfigurationError` where it is not, `Transient` where there is none."""
        told = entry.get("id")
        if told is None:
            raise self.means.later(f"{self.name} answers with something else than an entry")
        number = str(told) if isinstance(told, str | int) else ""
        if _ID.fullmatch(number) is None:
            raise self.means.no_registry("its entries have no ids that make sense")
        return number

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
            raise self.means.of(said, what)
        if said.document is None:
            raise self.means.later(f"{self.name} cannot {what} now (HTTP {said.status}, and no JSON)")
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
        content = b"" if body is None else json.dumps(body, ensure_ascii=False).encode(errors="replace")
        if body is not None:
            headers["Content-Type"] = "application/json"
        prefix = f"/{self._prefix}" if self._prefix else ""
        target = f"{prefix}{base}/{path}" + (f"?{urlencode(query, errors='replace')}" if query else "")
        try:
            # What creates goes out once: whether it arrived is found out by asking, and not by doing it again.
            once = method == "POST"
            with self._wire.ask(method, self._origin, target, headers, body=content, once=once) as answer:
                return Said.read(answer.status, answer.read(_LONGEST_ANSWER), answer.headers)
        except SyncerError as error:
            error.stage, error.store = error.stage or STAGE, error.store or self.name
            error.hint = error.hint or "look whether the registry's pods run, and at their log"
            raise

    def _token(self) -> str:
        location = self._location
        if location.token is not None:
            token = location.token.get_secret_value()
        elif location.token_file is not None:
            try:
                token = location.token_file.read_text(encoding="ascii").strip()
            except (OSError, ValueError) as error:
                raise self._unreadable(getattr(error, "strerror", None) or "it is no text") from None
            if not token:
                raise self._unreadable("it is empty")
        else:
            return ""
        register_secrets([token])
        return token if _TOKEN.fullmatch(token) else ""

    def _unreadable(self, why: str) -> CredentialsRefused:
        """For `raise … from None`: a decoding error holds what it could not decode."""
        return CredentialsRefused(
            f"cannot read the ServiceAccount's token in {self._location.token_file}: {why}",
            hint="set MODEL_REGISTRY_TOKEN, or let the pod mount its ServiceAccount's token",
            stage=STAGE,
            path=str(self._location.token_file),
        )
