"""Which proxy leads to a host, by the rules that Go and curl agree on; OpenShift writes CIDR blocks into NO_PROXY."""

from __future__ import annotations

import base64
import ipaddress
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from syncer.claims import whole_number
from syncer.errors import ConfigurationError
from syncer.settings.locations import Network

DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy.  `authorization` is the value of its header, empty without a login; it is never printed."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)


def proxy_for(network: Network, *, scheme: str, host: str, port: int) -> Proxy | None:
    """The proxy that requests to this origin go through, or None for a direct connection.

    Raises `ConfigurationError` for a proxy address that makes no sense; its message never shows user and password.
    """
    address = network.proxies.get(scheme, "")
    if not address or _goes_direct(network.no_proxy, host, port):
        return None
    variable = f"{scheme.upper()}_PROXY"
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        port_of_proxy = parts.port or DEFAULT_PORTS["http"]
    except ValueError:
        raise _no_address(variable) from None  # the cause would show the address with its password
    if parts.scheme != "http":
        raise ConfigurationError(
            f"{variable} names a {parts.scheme}:// proxy, which is not supported",
            hint=f"reach the proxy by http:// in {variable}: TLS through it is end to end all the same",
        )
    if not parts.hostname:
        raise _no_address(variable)
    login = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        login = "Basic " + base64.b64encode(pair.encode()).decode()
    return Proxy(parts.hostname, port_of_proxy, login)


def _no_address(variable: str) -> ConfigurationError:
    return ConfigurationError(
        f"{variable} is no proxy address",
        hint=f"{variable} must look like http://proxy.example:3128 or http://user:password@proxy.example:3128",
    )


def _goes_direct(no_proxy: str, host: str, port: int) -> bool:
    host = host.strip("[]").rstrip(".").lower()
    address = _ip(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    return any(_covers(entry.strip().lower(), host, port, address) for entry in no_proxy.split(","))


def _covers(entry: str, host: str, port: int, address: _Address | None) -> bool:
    if entry in {"", "*"}:
        return entry == "*"
    if address is not None:
        bare, number = _split_port(entry)
        try:
            return address in ipaddress.ip_network(bare.strip("[]"), strict=False) and number in {None, port}
        except ValueError:
            return False
    name, number = _split_port(entry)
    name = name.removeprefix("*").lstrip(".").rstrip(".")
    return number in {None, port} and (host == name or host.endswith("." + name))


def _split_port(entry: str) -> tuple[str, int | None]:
    name, colon, port = entry.rpartition(":")
    number = whole_number(port)
    if colon and number is not None and (":" not in name or name.endswith("]")):
        return name, number
    return entry, None


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _ip(host: str) -> _Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
