"""MinIO in a container, where a container engine runs and the image can be had: elsewhere the reason is said."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.buckets import S3Server

COMPOSE = Path(__file__).parents[2] / "compose.yaml"
ACCESS_KEY, SECRET_KEY = "local-only", "local-only-secret"


def image() -> str:
    """The very image that compose.yaml runs."""
    return str(yaml.safe_load(COMPOSE.read_text())["services"]["minio"]["image"])


@contextlib.contextmanager
def running_minio() -> Iterator[S3Server]:
    """A server for the tests of this session; skips with the reason where there is none to be had."""
    if not os.environ.get("DOCKER_HOST") and not Path("/var/run/docker.sock").exists():
        pytest.skip("no container engine: neither DOCKER_HOST nor /var/run/docker.sock")
    # Imported here, since only this ring wants them.
    import docker
    from docker.errors import DockerException
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import HttpWaitStrategy

    try:
        with contextlib.closing(docker.from_env(timeout=10)) as engine:
            engine.ping()
            engine.images.pull(image())
    except DockerException as error:
        pytest.skip(f"no container engine that can run {image()}: {error}")
    container = (
        DockerContainer(image())
        .with_command("server /data")
        .with_env("MINIO_ROOT_USER", ACCESS_KEY)
        .with_env("MINIO_ROOT_PASSWORD", SECRET_KEY)
        .with_exposed_ports(9000)
        .waiting_for(HttpWaitStrategy(9000, "/minio/health/ready"))
    )
    with container:
        endpoint = f"http://{container.get_container_host_ip()}:{container.get_exposed_port(9000)}"
        yield S3Server(endpoint, ACCESS_KEY, SECRET_KEY)
