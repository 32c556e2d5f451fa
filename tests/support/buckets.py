"""An S3 server in this process (moto), with plain boto3 at its far end: tests compare bytes without our own code."""

import contextlib
import itertools
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from pydantic import SecretStr

from syncer.settings.locations import Network, S3Location

_numbers = itertools.count(1)


@dataclass(frozen=True)
class S3Server:
    """Where a server is, and the keys that it takes."""

    endpoint: str
    access_key: str = "AKIATESTACCESSKEY"
    secret_key: str = "test/secret/key/of/forty/characters/long"
    region: str = "us-east-1"
    ca_file: str | None = None
    _clients: list[Any] = field(default_factory=list, repr=False)

    @property
    def client(self) -> Any:
        if not self._clients:
            self._clients.append(
                boto3.client(
                    "s3",
                    endpoint_url=self.endpoint,
                    aws_access_key_id=self.access_key,
                    aws_secret_access_key=self.secret_key,
                    region_name=self.region,
                    verify=self.ca_file or True,
                    config=Config(
                        s3={"addressing_style": "path", "payload_signing_enabled": False},
                        request_checksum_calculation="when_required",
                        response_checksum_validation="when_required",
                    ),
                )
            )
        return self._clients[0]

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.endpoint.rpartition("//")[2].partition(":")
        return host, int(port)

    def new_bucket(self, name: str = "bucket") -> str:
        bucket = f"{name}-{next(_numbers)}"
        self.client.create_bucket(Bucket=bucket)
        return bucket

    def fill(self, bucket: str, files: Mapping[str, bytes], prefix: str = "") -> None:
        def put(key: str) -> None:
            self.client.put_object(Bucket=bucket, Key=prefix + key, Body=files[key])

        self.client  # noqa: B018 - made once, before many threads ask for it
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(put, files))

    def keys(self, bucket: str, prefix: str = "") -> dict[str, int]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return {item["Key"]: item["Size"] for page in pages for item in page.get("Contents", ())}

    def read(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """All objects below `prefix` but our own control files, by the rest of their key."""

        def get(key: str) -> bytes:
            return bytes(self.client.get_object(Bucket=bucket, Key=key)["Body"].read())

        keys = [key for key in self.keys(bucket, prefix) if ".syncer" not in key.split("/")]
        with ThreadPoolExecutor(8) as pool:
            return {key[len(prefix) :]: data for key, data in zip(keys, pool.map(get, keys), strict=True)}

    def control(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """Our own control files below `prefix`."""
        return {
            key[len(prefix) :]: self.client.get_object(Bucket=bucket, Key=key)["Body"].read()
            for key in self.keys(bucket, prefix)
            if ".syncer" in key.split("/")
        }

    def open_uploads(self, bucket: str) -> list[str]:
        answer = self.client.list_multipart_uploads(Bucket=bucket)
        return [upload["Key"] for upload in answer.get("Uploads", ())]

    def location(self, bucket: str, prefix: str = "") -> S3Location:
        """A folder of a bucket, as the settings say it."""
        keys = SecretStr(self.access_key), SecretStr(self.secret_key)
        return S3Location(bucket, prefix, self.endpoint, self.region, *keys)

    @property
    def network(self) -> Network:
        """What there is to know about the way."""
        return Network(ca_files=(Path(self.ca_file),) if self.ca_file else ())

    def source_environment(self, bucket: str, prefix: str = "", *, endpoint: str = "") -> dict[str, str]:
        return {
            "S3_SYNC_SRC__ENDPOINT": endpoint or self.endpoint,
            "S3_SYNC_SRC__PATH": f"s3://{bucket}/{prefix}",
            "S3_SYNC_SRC__ACCESS_KEY": self.access_key,
            "S3_SYNC_SRC__SECRET_KEY": self.secret_key,
            "S3_SYNC_SRC__REGION": self.region,
        } | self.trust_environment()

    def trust_environment(self) -> dict[str, str]:
        """Who vouches for the server, where that is not everybody's authority."""
        return {"AWS_CA_BUNDLE": self.ca_file} if self.ca_file else {}

    def connection_environment(self, bucket: str, *, endpoint: str = "") -> dict[str, str]:
        """The data connection Secret: the destination is `models/` of the bucket.

        Under another name of this host, so that the two ends count as two services and the bytes pass through us.
        """
        return {
            "AWS_S3_ENDPOINT": endpoint or _other_name(self.endpoint),
            "AWS_S3_BUCKET": bucket,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": self.region,
        } | self.trust_environment()


def _other_name(endpoint: str) -> str:
    here, there = ("127.0.0.1", "localhost") if "127.0.0.1" in endpoint else ("localhost", "127.0.0.1")
    return endpoint.replace(here, there)


@contextlib.contextmanager
def running_moto() -> Iterator[S3Server]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield S3Server(f"http://{host}:{port}")
    finally:
        server.stop()


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
