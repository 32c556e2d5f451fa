"""From the name that a service has inside of a cluster to the one that it has outside: Routes, else Ingresses.

A service may have several ports, and a way to each: the store on one, its console on another.  A way to the port of the
endpoint goes first, which a Route or an Ingress may call by any of the names that the Service has for it; then any
other, for the store may have one port with TLS and one without.  Of these, one with TLS goes first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from syncer.cluster.api import Cluster
from syncer.errors import CredentialsRefused

_SERVICE: Final = re.compile(
    r"(?P<service>[a-z0-9]([a-z0-9-]*[a-z0-9])?)\.(?P<namespace>[a-z0-9]([a-z0-9-]*[a-z0-9])?)\.svc(\.[a-z0-9.-]+)?\.?"
)
Ports = frozenset[str]
"""All names of one port; empty when nobody can tell."""

_Way = tuple[bool, bool, str]
"""Whether it leads to another port, whether it has no TLS, and its URL: the least is the best."""

_NOWHERE: Final[_Way] = (False, False, "")

_AUTHORITY: Final = ("openshift-config-managed", "default-ingress-cert", "ca-bundle.crt")
"""Where OpenShift publishes the certificate authority of its ingress, for every user to read."""


@dataclass(frozen=True)
class Door:
    """The endpoint to use.  `note` says why it is still the inner one; `authorities` are PEM, to be believed too."""

    endpoint: str
    note: str = ""
    authorities: bytes = field(default=b"", repr=False)


def door_to(cluster: Cluster, endpoint: str) -> Door:
    """The way from here to an endpoint, which stays as it is unless it is a service inside of the cluster."""
    service = inner_service(endpoint)
    if service is None or cluster.inside:
        return Door(endpoint)
    namespace, name = service
    try:
        port = _names_of_port(cluster, namespace, name, _port(endpoint))
        routes = cluster.routes(namespace)
        outside = route_to(routes or (), name, port) or ingress_to(cluster.ingresses(namespace) or (), name, port)
    except CredentialsRefused as refused:
        return Door(endpoint, note=f"{refused.message}, so the way to {endpoint} from outside is not known")
    if not outside:
        looked = "no Route and no Ingress" if routes is not None else "no Ingress (the cluster has no Routes)"
        return Door(endpoint, note=f"{looked} of {namespace} leads to the service {name}")
    return Door(outside, authorities=_authorities(cluster) if outside.startswith("https://") else b"")


def inner_service(endpoint: str) -> tuple[str, str] | None:
    """Namespace and name of the service behind an endpoint such as `https://s3.openshift-storage.svc:443`, or None."""
    try:
        host = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}").hostname or ""
    except ValueError:
        return None
    found = _SERVICE.fullmatch(host)
    return (found["namespace"], found["service"]) if found else None


def route_to(routes: Iterable[Mapping[str, Any]], service: str, port: Ports = frozenset()) -> str:
    """The URL of the best Route to a service, empty without one."""
    return min(_urls_of_routes(routes, service, port), default=_NOWHERE)[-1]


def ingress_to(ingresses: Iterable[Mapping[str, Any]], service: str, port: Ports = frozenset()) -> str:
    """The URL of the best Ingress to a service at a host of its own, empty without one."""
    return min(_urls_of_ingresses(ingresses, service, port), default=_NOWHERE)[-1]


def _port(endpoint: str) -> int:
    parts = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
    return parts.port or (80 if parts.scheme == "http" else 443)


def _names_of_port(cluster: Cluster, namespace: str, service: str, number: int) -> Ports:
    """All that a port of a service is called; empty when nobody can tell."""
    try:
        ports = cluster.service_ports(namespace, service)
    except CredentialsRefused:
        return frozenset()
    return frozenset({name for port in ports if port[0] == number for name in map(str, port)} - {""})


def _way(host: str, *, called: object, port: Ports, secured: bool) -> _Way:
    """A way to what it calls its port; one that names none leads to the only one that there is."""
    elsewhere = bool(port) and called is not None and str(called) not in port
    return elsewhere, not secured, f"{'https' if secured else 'http'}://{host}"


def _urls_of_routes(routes: Iterable[Mapping[str, Any]], service: str, port: Ports) -> Iterator[_Way]:
    for route in routes:
        spec, status = _part(route, "spec"), _part(route, "status")
        target, host = _part(spec, "to"), str(spec.get("host") or "")
        if (target.get("kind", "Service"), target.get("name")) != ("Service", service) or not host:
            continue
        if spec.get("path") not in (None, "", "/") or not _is_admitted(status):
            continue
        yield _way(host, called=_part(spec, "port").get("targetPort"), port=port, secured=bool(spec.get("tls")))


def _is_admitted(status: Mapping[str, Any]) -> bool:
    """Whether a router serves the Route, or none has said anything yet."""
    told = [condition for ingress in _list(status, "ingress") for condition in _list(ingress, "conditions")]
    admitted = [condition for condition in told if condition.get("type") == "Admitted"]
    return not admitted or any(condition.get("status") == "True" for condition in admitted)


def _urls_of_ingresses(ingresses: Iterable[Mapping[str, Any]], service: str, port: Ports) -> Iterator[_Way]:
    for ingress in ingresses:
        spec = _part(ingress, "spec")
        secured = {host for entry in _list(spec, "tls") for host in _texts(entry, "hosts")}
        for rule in _list(spec, "rules"):
            host = str(rule.get("host") or "")
            for path in _list(_part(rule, "http"), "paths"):
                backend = _part(_part(path, "backend"), "service")
                called = _part(backend, "port")
                if not host or "*" in host or backend.get("name") != service:
                    continue
                if path.get("path") in (None, "", "/"):
                    name = called.get("name") or called.get("number")
                    yield _way(host, called=name, port=port, secured=host in secured)


def _authorities(cluster: Cluster) -> bytes:
    namespace, name, key = _AUTHORITY
    try:
        return ((cluster.config_map(namespace, name) or {}).get(key) or "").encode()
    except CredentialsRefused:
        return b""


def _part(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = document.get(name)
    return part if isinstance(part, Mapping) else {}


def _list(document: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    part = document.get(name)
    return [each for each in part if isinstance(each, Mapping)] if isinstance(part, list) else []


def _texts(document: Mapping[str, Any], name: str) -> list[str]:
    part = document.get(name)
    return [each for each in part if isinstance(each, str)] if isinstance(part, list) else []
