"""The clients that are compared, each as a command line with its whole environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.compare import Client
from benchmarks.server import ACCESS_KEY, REGION, SECRET_KEY

REPOSITORY = Path(__file__).resolve().parent.parent
BENCH = REPOSITORY / ".bench" / "bin"
"""What `make bench` installs: the peers."""
OURS, OURS_OPAQUE, OURS_CRC = "syncer", "syncer, opaque ETags", "syncer, crc64nvme"
RELAY, RELAY_CRC, SPLICE = "relay+sha256", "relay+crc64nvme", "zero copy"
OBSTORE, STOCK = "obstore", "stock boto3"
CRC = {"S3_SYNC_DIGEST": "crc64nvme"}


@dataclass(frozen=True)
class Leg:
    """From where to where: `s3://bucket/prefix/` with an endpoint, or a folder without one.

    No source at all is for clients that are told of theirs by other settings.
    """

    source: str
    target: str
    src_endpoint: str = ""
    dest_endpoint: str = ""
    authority: Path | None = None


def base_environment(leg: Leg) -> dict[str, str]:
    """What any client gets: no credentials, proxies or settings of the caller's own shell."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    kept |= {"HOME": "/nonexistent", "PYTHONPATH": str(REPOSITORY), "AWS_EC2_METADATA_DISABLED": "true"}
    if leg.authority:
        kept["AWS_CA_BUNDLE"] = str(leg.authority)
    return kept


def ours(leg: Leg, *, name: str = OURS, settings: Mapping[str, str] | None = None) -> Client:
    """`entrypoint.py sync`, set up by the environment as in a Job; `settings` are added to it."""
    environment = base_environment(leg) | {"S3_SYNC_DEST__PATH": leg.target}
    if leg.source:
        environment["S3_SYNC_SRC__PATH"] = leg.source
    for side, endpoint in (("SRC", leg.src_endpoint), ("DEST", leg.dest_endpoint)):
        if endpoint:
            environment |= {
                f"S3_SYNC_{side}__ENDPOINT": endpoint,
                f"S3_SYNC_{side}__ACCESS_KEY": ACCESS_KEY,
                f"S3_SYNC_{side}__SECRET_KEY": SECRET_KEY,
                f"S3_SYNC_{side}__REGION": REGION,
            }
    return Client(name, (sys.executable, str(REPOSITORY / "entrypoint.py"), "sync"), environment | dict(settings or {}))


def relay(leg: Leg, *, lanes: int) -> Client:
    """The reference relay with SHA-256: a lane carries whole files."""
    return _module(RELAY, "benchmarks.relay", leg, lanes)


def relay_crc(leg: Leg, *, lanes: int) -> Client:
    """The same with CRC-64/NVME, which needs no order: a lane carries any part of any file."""
    client = _module(RELAY_CRC, "benchmarks.relay", leg, lanes)
    return replace(client, command=(*client.command, "--crc"))


def splice(leg: Leg, *, lanes: int) -> Client:
    """The limit: bytes that no process ever sees."""
    return _module(SPLICE, "benchmarks.splice", leg, lanes)


def obstore(leg: Leg, *, files: int) -> Client:
    """Obstore's streams, from the benchmarks' own environment; no digest."""
    client = _module(OBSTORE, "benchmarks.obstore_copy", leg, files)
    return replace(client, command=(str(BENCH / "python"), *client.command[1:]))


def stock(leg: Leg, *, files: int) -> Client:
    """Stock boto3."""
    return _module(STOCK, "benchmarks.stock", leg, files)


def _module(name: str, module: str, leg: Leg, files: int) -> Client:
    command = [sys.executable, "-m", module, leg.source, leg.target, "--files", str(files)]
    command += ["--src-endpoint", leg.src_endpoint, "--dest-endpoint", leg.dest_endpoint]
    return Client(name, tuple(command), base_environment(leg))
