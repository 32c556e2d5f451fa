"""Who goes through a proxy, by the rules of NO_PROXY."""

from __future__ import annotations

import pytest

from syncer.errors import ConfigurationError
from syncer.settings.locations import Network
from syncer.wire.proxies import proxy_for

OPENSHIFT = ".cluster.local,.svc,10.0.0.0/14,172.30.0.0/16,api-int.c.example,internal.example:8443,fd00::/8"


def goes_direct(host: str, *, port: int = 443, no_proxy: str = OPENSHIFT) -> bool:
    network = Network(proxies={"https": "http://proxy.example:3128"}, no_proxy=no_proxy)
    return proxy_for(network, scheme="https", host=host, port=port) is None


@pytest.mark.parametrize(
    "host",
    [
        "minio.minio.svc",
        "s3.openshift-storage.svc.cluster.local",
        "S3.OPENSHIFT-STORAGE.SVC",
        "api-int.c.example",
        "x.api-int.c.example",
        "10.3.255.1",
        "172.30.0.9",
        "fd00::1",
        "localhost",
        "127.0.0.1",
        "::1",
    ],
)
def test_direct(host: str) -> None:
    assert goes_direct(host)


@pytest.mark.parametrize("host", ["s3.amazonaws.com", "notsvc", "xapi-int.c.example", "10.4.0.1", "2001:db8::1"])
def test_through_the_proxy(host: str) -> None:
    assert not goes_direct(host)


def test_a_port_narrows_an_entry() -> None:
    assert goes_direct("internal.example", port=8443)
    assert not goes_direct("internal.example", port=443)


def test_a_star_means_everybody() -> None:
    assert goes_direct("s3.amazonaws.com", no_proxy="*")
    assert not goes_direct("s3.amazonaws.com", no_proxy="")


def test_each_scheme_has_its_own_proxy() -> None:
    network = Network(proxies={"https": "http://proxy.example:3128"})
    assert proxy_for(network, scheme="http", host="store.example", port=80) is None


def test_an_address_without_scheme_is_understood_and_a_login_is_not_shown() -> None:
    network = Network(proxies={"https": "user:canary@proxy.example:3128"})
    proxy = proxy_for(network, scheme="https", host="store.example", port=443)
    assert proxy is not None
    assert (proxy.host, proxy.port) == ("proxy.example", 3128)
    assert "Basic" not in repr(proxy)


@pytest.mark.parametrize(
    "address", ["https://user:canary@proxy.example", "http://user:canary@:3128", "http://user:canary@p:notaport"]
)
def test_a_bad_address_names_the_variable_and_no_password(address: str) -> None:
    network = Network(proxies={"https": address})
    with pytest.raises(ConfigurationError, match="HTTPS_PROXY") as caught:
        proxy_for(network, scheme="https", host="store.example", port=443)
    assert "canary" not in f"{caught.value.message} {caught.value.hint} {caught.value.__cause__}"
