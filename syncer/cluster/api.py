"""Asking the Kubernetes API: a handful of calls, each with a timeout, every error one of ours."""

from __future__ import annotations

import base64
import binascii
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import httpx2
import msgspec
from lightkube.core.client import Client
from lightkube.core.exceptions import ConfigError
from lightkube.generic_resource import GenericNamespacedResource, create_namespaced_resource
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap, Secret, Service

from syncer.claims import from_json
from syncer.cluster.kubeconfig import Access
from syncer.cluster.login import LOG_IN
from syncer.errors import (
    ConfigurationError,
    CredentialsRefused,
    EndpointUnreachable,
    InternalError,
    SyncerError,
    Transient,
)
from syncer.redaction import is_secret_name, register_secrets
from syncer.retry import seconds_of

_TIMEOUT: Final = httpx2.Timeout(10.0, connect=5.0)
_Found = TypeVar("_Found")
_Error = TypeVar("_Error", bound=BaseException)


class Cluster:
    """One cluster as the user of a kubeconfig sees it.  From one thread.

    Every call raises `CredentialsRefused` for 401 and 403, `EndpointUnreachable` when nobody answers, `Transient` for a
    passing fault and `ConfigurationError` for a kubeconfig that does not work or a certificate that is not trusted.
    """

    def __init__(self, access: Access) -> None:
        self.server = access.server
        self.inside = access.inside
        self._access = access
        self._client = self._connected()

    def secret(self, namespace: str, name: str) -> dict[str, str] | None:
        """What the Secret holds, decoded, or None when it is not there; its values are hidden in all that is said."""
        found = self._asked(f"the Secret {namespace}/{name}", lambda on: on.get(Secret, name, namespace=namespace))
        if found is None:
            return None
        try:
            values = {key: base64.b64decode(value, validate=True).decode() for key, value in (found.data or {}).items()}
        except (binascii.Error, UnicodeDecodeError, TypeError) as error:
            raise ConfigurationError(f"the Secret {namespace}/{name} holds something else than text") from error
        register_secrets(value for key, value in values.items() if is_secret_name(key))
        return values

    def create_secret(self, namespace: str, name: str, values: Mapping[str, str]) -> bool:
        """Create the Secret; False when there is one of this name, which is left as it is."""
        made = Secret(metadata=ObjectMeta(name=name, namespace=namespace), stringData=dict(values), type="Opaque")
        try:
            self._asked(f"the new Secret {namespace}/{name}", lambda on: on.create(made), absent=False)
        except _Conflict:
            return False
        return True

    def config_map(self, namespace: str, name: str) -> dict[str, str] | None:
        """What the ConfigMap holds, or None when it is not there."""
        found = self._asked(
            f"the ConfigMap {namespace}/{name}", lambda on: on.get(ConfigMap, name, namespace=namespace)
        )
        return None if found is None else dict(found.data or {})

    def service_ports(self, namespace: str, name: str) -> list[tuple[int, str, str]]:
        """The ports of a Service: number, name, and what is behind it in the pods (a number or a name)."""
        found = self._asked(f"the Service {namespace}/{name}", lambda on: on.get(Service, name, namespace=namespace))
        ports = (found.spec.ports if found and found.spec else None) or ()
        return [(port.port, port.name or "", str(port.targetPort or port.port)) for port in ports]

    def routes(self, namespace: str) -> list[dict[str, Any]] | None:
        """OpenShift's Routes of a namespace; None where the cluster knows no such thing."""
        kind = create_namespaced_resource("route.openshift.io", "v1", "Route", "routes")
        return self._listed(kind, namespace, "Routes")

    def ingresses(self, namespace: str) -> list[dict[str, Any]] | None:
        """The Ingresses of a namespace, as plain documents."""
        kind = create_namespaced_resource("networking.k8s.io", "v1", "Ingress", "ingresses")
        return self._listed(kind, namespace, "Ingresses")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _listed(self, kind: type[GenericNamespacedResource], namespace: str, what: str) -> list[dict[str, Any]] | None:
        return self._asked(
            f"the {what} of {namespace}", lambda on: [dict(each) for each in on.list(kind, namespace=namespace)]
        )

    def _connected(self) -> Client:
        """A client with today's token."""
        config = self._access.logged_in()
        try:
            return Client(config, timeout=_TIMEOUT, proxy=self._access.proxy or None)
        except (ConfigError, httpx2.InvalidURL, AssertionError, ImportError, ValueError, OSError) as error:
            # A certificate that is none, a login or a proxy of a kind that the library does not know.
            raise ConfigurationError(f"the kubeconfig of {self.server} does not work: {error}", hint=LOG_IN) from error

    def _asked(self, what: str, ask: Callable[[Client], _Found], *, absent: bool = True) -> _Found | None:
        """What `ask` gives, or None for a 404 where `absent` may be; a login that has run out is renewed once."""
        with self._asking(what):
            try:
                try:
                    return ask(self._client)
                except httpx2.HTTPStatusError as error:
                    if error.response.status_code != 401 or self._access.login is None:
                        raise
                self._client.close()
                self._client = self._connected()
                return ask(self._client)
            except httpx2.HTTPStatusError as error:
                if error.response.status_code == 404 and absent:
                    return None
                raise

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Translate everything that the client library raises; `what` is what was asked for."""
        try:
            yield
        except SyncerError:
            raise
        except httpx2.HTTPStatusError as error:
            raise self._refusal(error.response, what) from error
        except httpx2.TransportError as error:
            raise self._silence(error) from error
        except (msgspec.MsgspecError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            # The library stumbles over refusals that are not in Kubernetes' own words: a proxy's, for example.
            if (refused := _behind(error, httpx2.HTTPStatusError)) is not None:
                raise self._refusal(refused.response, what) from error
            raise Transient(f"{self.server} answered for {what} with something else than Kubernetes does") from error

    def _refusal(self, answer: httpx2.Response, what: str) -> SyncerError:
        match answer.status_code:
            case 401:
                message = f"{self.server} does not accept the kubeconfig's login (401): it has expired, or was revoked"
                return CredentialsRefused(message, hint=f"log in again: oc login {self.server}")
            case 403:
                return CredentialsRefused(
                    f"{self.server} does not let this user have {what} (403)",
                    hint="oc login as somebody who may, and check --namespace: to most users a project that does not "
                    "exist looks the same",
                )
            case 409:
                return _Conflict(f"{what} is there already")
            case 408 | 429 | 500 | 502 | 503 | 504 as status:
                return Transient(
                    f"{self.server} answered {status} for {what}",
                    retry_after=seconds_of(answer.headers.get("Retry-After", "")),
                )
            case status:
                return ConfigurationError(f"{self.server} refused {what}: {status} {_message(answer)}", hint=LOG_IN)

    def _silence(self, error: httpx2.TransportError) -> SyncerError:
        if (distrust := _behind(error, ssl.SSLCertVerificationError)) is not None:
            return ConfigurationError(
                f"the certificate of {self.server} is not to be trusted: {distrust.verify_message}",
                hint="log in again, so that the kubeconfig has the cluster's certificate authority",
            )
        return EndpointUnreachable(
            f"nobody answers at {self.server}: {str(error) or type(error).__name__}",
            hint="check the cluster's address in the kubeconfig, the VPN and HTTPS_PROXY",
        )


class _Conflict(InternalError):
    """There is an object of this name already; it never leaves this module."""


def _behind(error: BaseException, kind: type[_Error]) -> _Error | None:
    """The error of a kind that led to this one, if one did."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, kind):
        cause = cause.__cause__ or cause.__context__
    return cause


def _message(answer: httpx2.Response) -> str:
    """What the API server says in its own words."""
    try:
        return str(from_json(answer.content)["message"])[:300]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
