"""What every ring shares: a clean environment, no network, and the real S3 server of the ring of real servers."""

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import hypothesis
import pytest

from tests.support import buckets, docker_registry, rados_gateway
from tests.support.offline import loopback_only
from tests.support.processes import Pod

# The tests' environment is made by the tests: what a developer's shell or a CI's has set must not change a result.
_FOREIGN_PREFIXES = (
    "AWS_",
    "BUCKET_",
    "HF_",
    "HUGGING",
    "MODEL_",
    "OCI_",
    "S3_",
    "SSL_CERT_",
    "SKIP_TASKS",
    "TERMINATION_MESSAGE_",
)
_FOREIGN_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "requests_ca_bundle", "curl_ca_bundle")

# A busy machine is no reason to fail: time is bounded for a whole test, not for each example of it.  Nor is chance: the
# same code has the same examples, and `make fuzz` is for new ones.
hypothesis.settings.register_profile(
    "ours", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("ours")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put each test that asks for a real server into the ring that has them, before `-m` chooses."""
    for item in items:
        if not {"rgw", "basic_registry", "bearer_registry"}.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.real)


@pytest.fixture(scope="session", autouse=True)
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Take away what could feed the code under test from outside: settings, credentials, profiles, proxies."""
    nothing = str(tmp_path_factory.getbasetemp() / "no-such-file")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(_FOREIGN_PREFIXES) or name.lower() in _FOREIGN_PROXIES:
                patch.delenv(name)
        patch.setenv("AWS_CONFIG_FILE", nothing)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", nothing)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture(autouse=True)
def no_log_left() -> Iterator[None]:
    """Take away what a program that ran in this process logs with, or the servers of the next test would log there."""
    yield
    root = logging.getLogger()
    root.handlers[:] = [handler for handler in root.handlers if type(handler).__module__ != "syncer.logs"]


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest) -> Iterator[None]:
    """Refuse everything but loopback, except to the tests that pull images."""
    if request.node.get_closest_marker("container") or request.node.get_closest_marker("image"):
        yield
    else:
        with loopback_only():
            yield


@pytest.fixture(scope="session")
def rgw() -> Iterator[rados_gateway.RadosGateway]:
    """One RADOS Gateway for the whole run; its buckets are cheap, so that each test takes its own."""
    if missing := rados_gateway.missing_commands():
        pytest.skip(f"no RADOS Gateway on this machine (Debian: radosgw ceph-mon ceph-osd): no {', '.join(missing)}")
    with rados_gateway.running_gateway() as gateway:
        yield gateway


@pytest.fixture(scope="session")
def moto() -> Iterator[buckets.S3Server]:
    """One S3 server in this process for the whole run, with a secret to look for; its buckets are cheap."""
    with buckets.running_moto() as server:
        yield replace(server, secret_key="canary-secret-key-0123456789")


@pytest.fixture(scope="session")
def noobaa() -> Iterator[buckets.S3Server]:
    """The same, with the habits of another store."""
    from tests.support.noobaa_like import running_noobaa_like  # whose server is slow to import

    with running_noobaa_like() as server:
        yield replace(server, secret_key="canary-secret-key-0123456789")


@pytest.fixture(scope="session")
def basic_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[docker_registry.DockerRegistry]:
    """Docker's registry over http with a password, one for the whole run; each test takes a repository of its own."""
    yield from _registry(tmp_path_factory, auth="basic", https=False)


@pytest.fixture(scope="session")
def bearer_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[docker_registry.DockerRegistry]:
    """The same over https with tokens."""
    yield from _registry(tmp_path_factory, auth="bearer", https=True)


def _registry(
    factory: pytest.TempPathFactory, *, auth: Literal["basic", "bearer"], https: bool
) -> Iterator[docker_registry.DockerRegistry]:
    if missing := docker_registry.missing_commands():
        pytest.skip(f"no image registry on this machine (Debian: docker-registry apache2-utils): {', '.join(missing)}")
    with docker_registry.running_registry(factory.mktemp("registry"), auth=auth, https=https) as registry:
        yield registry


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    """A process in an environment of its own, with the places of a pod in the test's folder."""
    folder = tmp_path / "pod"
    folder.mkdir()
    return Pod(folder)
