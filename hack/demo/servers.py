"""The S3 servers of the stories: a publisher's and the cluster's, in this process."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

from hack.demo.places import CLUSTER, PREFIX, PUBLISHED, SIBLING

CLUSTER_SECRET = "cluster-secret-of-the-demo"


class Access(logging.Handler):
    """Remembers the request lines that a server logs; that is how we know what a run really read."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line; called by the logging module."""
        self.lines.append(record.getMessage())

    def model_reads(self) -> list[str]:
        """GETs of published objects since the last look."""
        reads = [line for line in self.lines if f"GET /{PUBLISHED}/{PREFIX}" in line]
        self.lines.clear()
        return reads


@dataclass(frozen=True)
class Services:
    """The publisher's and the cluster's endpoint.

    One server process behind both, but two addresses and two sets of keys: so nothing can be copied inside the server,
    and the bytes take the way that they take from the internet into a cluster.
    """

    published: str
    cluster: str
    access: Access

    @property
    def connection(self) -> dict[str, str]:
        """The data connection Secret of the cluster."""
        return {
            "AWS_S3_ENDPOINT": self.cluster,
            "AWS_S3_BUCKET": CLUSTER,
            "AWS_ACCESS_KEY_ID": "cluster",
            "AWS_SECRET_ACCESS_KEY": CLUSTER_SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def client(self, endpoint: str) -> Any:
        """A client of our own for filling and comparing."""
        return boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="demo",
            aws_secret_access_key="demo",
            config=Config(s3={"addressing_style": "path"}, proxies={}),
        )


@contextlib.contextmanager
def services() -> Iterator[Services]:
    """Two addresses of an embedded S3 server on free ports of the loopback."""
    access = Access()
    log = logging.getLogger("werkzeug")
    log.propagate = False
    log.addHandler(access)
    servers = [ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False) for _ in range(2)]
    try:
        for server in servers:
            server.start()
        urls = ["http://{}:{}".format(*server.get_host_and_port()) for server in servers]
        log.setLevel(logging.INFO)  # a quiet server turned it down when it started
        yield Services(urls[0], urls[1], access)
    finally:
        for server in servers:
            server.stop()


def publish(s3: Any, model: Path) -> None:
    """Fill the source bucket, with a neighbour whose name begins like the model's and which must stay where it is."""
    s3.create_bucket(Bucket=PUBLISHED)
    for file in sorted(model.rglob("*")):
        if file.is_file():
            s3.upload_file(str(file), PUBLISHED, PREFIX + file.relative_to(model).as_posix())
    s3.put_object(Bucket=PUBLISHED, Key=SIBLING, Body=b"not this one")
