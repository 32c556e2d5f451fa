"""Requests to one registry: by which scheme, with which login, and along which redirects."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Final, TypeVar
from urllib.parse import urljoin

from syncer.errors import EndpointUnreachable, Transient
from syncer.retry import SMALL_REQUEST, Patience, seconds_of
from syncer.settings.locations import ImageLocation, Network
from syncer.stores.abilities import Abilities
from syncer.stores.oci.login import Login, Scopes
from syncer.wire import Answer, Exchange, Origin, Timeouts, Wire

_SWITCH: Final = "OCI_VALIDATE_TLS"
_MOST_REDIRECTS: Final = 5
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_HUB: Final = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}
"""The one registry whose name in references is not its host's."""

_A_REGISTRY: Final = frozenset({200, 401})
"""What a registry without TLS answers at `/v2/`; one with TLS has 400 for who comes without, a proxy a redirect."""

T = TypeVar("T")


class Session:
    """Safe from many threads.  `variable` names the image, for hints.

    `tidies` is False once an upload could not be removed.
    """

    def __init__(
        self,
        location: ImageLocation,
        network: Network,
        *,
        variable: str,
        abilities: Abilities | None = None,
        timeouts: Timeouts | None = None,
        patience: Patience = SMALL_REQUEST,
    ) -> None:
        self.name = f"oci://{location.registry}/{location.repository}"
        self.tidies = True
        self.abilities = abilities or Abilities(self.name)
        self._location = location
        self._patience = patience
        self._wire = Wire(
            network,
            validate_tls=location.validate_tls,
            store=self.name,
            hint=f"check {variable}; a registry without https needs {_SWITCH}=false",
            unchecked_by=_SWITCH,
            timeouts=timeouts,
        )
        self._login = Login(location, self._wire, patience=patience)
        self._lock = threading.Lock()
        self._origin: Origin | None = None

    @property
    def origin(self) -> Origin:
        """Where the registry is: https, or http where nobody speaks TLS and `validate_tls` is off (as skopeo does)."""
        with self._lock:
            if self._origin is None:
                self._origin = self._found()
            return self._origin

    def ask(
        self,
        method: str,
        url: str,
        *,
        scopes: Scopes,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        follow: bool = False,
        idle: float = 0.0,
    ) -> Answer:
        """Send a small request, logged in where the registry wants that; the answer's body is still unread.

        `url` is a path of the registry or a full address.  With `follow` redirects are followed, to other hosts without
        the login.  `idle` seconds of silence are borne where that is known to take longer than usual.
        """
        url = urljoin(f"{self.origin}/", url)
        for _ in range(_MOST_REDIRECTS):
            answer = self._logged_in(method, url, scopes=scopes, headers=headers or {}, body=body, idle=idle)
            if not follow or answer.status not in _REDIRECTS or not answer.header("Location"):
                return self._as_ours(answer, Origin.split(url)[0])
            with answer:
                url = self.resolve(url, answer.header("Location"))
        raise Transient(f"{self.name}: more than {_MOST_REDIRECTS} redirects", store=self.name)

    def _as_ours(self, answer: Answer, there: Origin) -> Answer:
        """The answer, unless another host than the registry's has refused what the registry had sent us there for.

        The address that the registry gave may have ended meanwhile; asked again, it gives another one.
        """
        if there == self.origin or answer.status < 400:
            return answer
        with answer:
            raise Transient(
                f"{self.name}: {there}, where the registry keeps its layers, answers HTTP {answer.status}",
                hint=f"check the network policies and proxies on the way to {there}, and the clock of this machine",
                store=self.name,
                retry_after=seconds_of(answer.header("Retry-After")),
            )

    def begin(self, method: str, url: str, headers: Mapping[str, str], *, length: int, scopes: Scopes) -> Exchange:
        """Prepare a request with a large body; who sends it looks at the answer (see `renew` and `accepted`)."""
        origin, target = Origin.split(url)
        return self._wire.begin(method, origin, target, self._headers(origin, headers, scopes), length=length)

    def renew(self, answer: Answer, url: str, scopes: Scopes, header: str) -> bool:
        """Whether a large request that was answered with 401 may be sent again; or `CredentialsRefused`.

        Other hosts get no login, whatever they ask for.
        """
        origin = Origin.split(url)[0]
        if origin != self.origin:
            return False
        self._login.refused(answer, origin, scopes, header)
        return True

    def accepted(self, url: str, scopes: Scopes, header: str) -> None:
        """A large request was let in."""
        if Origin.split(url)[0] == self.origin:
            self._login.accepted(scopes, header)

    def header(self, url: str, scopes: Scopes) -> str:
        """The Authorization that a request to `url` travels with."""
        origin = Origin.split(url)[0]
        return self._login.header(origin, scopes) if origin == self.origin else ""

    def resolve(self, url: str, location: str) -> str:
        """An address that an answer gives, relative to the request's; never one that is less private than ours."""
        try:
            found = urljoin(url, location)
            there, target = Origin.split(found)
        except ValueError:
            raise Transient(f"{self.name}: an answer leads to {location!r:.200}", store=self.name) from None
        ours = self.origin
        if there.scheme == "http" and ours.scheme == "https":
            if there.host != ours.host:
                raise Transient(f"{self.name}: an answer leads to {there}, which is not encrypted", store=self.name)
            return f"{ours}{target}"  # behind a proxy that ends TLS, many a registry does not know its own scheme
        return found

    def persistently(self, work: Callable[[], T]) -> T:
        """Outlast a passing fault in `work`."""
        return self._wire.persistently(work, patience=self._patience)

    def interrupt(self) -> None:
        """See `Depot`."""
        self._wire.interrupt()

    def close(self) -> None:
        """See `Depot`."""
        self._wire.close()

    def _logged_in(
        self, method: str, url: str, *, scopes: Scopes, headers: Mapping[str, str], body: bytes, idle: float
    ) -> Answer:
        origin, target = Origin.split(url)
        again = False  # what others prove of a pass, or renew meanwhile, must not send this request for ever
        while True:
            full = self._headers(origin, headers, scopes)
            answer = self._wire.ask(method, origin, target, full, body=body, idle=idle)
            ours, shown = origin == self.origin, full.get("Authorization", "")
            if answer.status != 401 or not ours:
                if ours and answer.status < 400:
                    self._login.accepted(scopes, shown)
                return answer
            with answer:
                if again:
                    raise self._login.useless()
                self._login.refused(answer, origin, scopes, shown)
            again = True

    def _headers(self, origin: Origin, headers: Mapping[str, str], scopes: Scopes) -> dict[str, str]:
        full = {"User-Agent": "model-syncer", **headers}
        if origin == self.origin and (shown := self._login.header(origin, scopes)):
            full["Authorization"] = shown
        return full

    def _found(self) -> Origin:
        host = _HUB.get(self._location.registry, self._location.registry)
        secure = Origin.split(f"https://{host}")[0]
        if self._location.validate_tls:
            return secure
        plain = Origin.split(f"http://{host}")[0]
        try:
            self._wire.ask("GET", secure, "/v2/", {}).close()
        except EndpointUnreachable as error:
            try:
                with self._wire.ask("GET", plain, "/v2/", {}) as answer:
                    if answer.status in _A_REGISTRY:
                        return plain
            except Transient:
                pass
            raise error from None
        return secure
