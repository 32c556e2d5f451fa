"""Looks at the far end without trusting the program."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from hack.demo.jobs import Job, run
from hack.demo.places import CLUSTER, LEFT, REPOSITORY, SEAL
from hack.demo.telling import Wrong, say, step


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


def nothing_copied(name: str, job: Job, reads: Callable[[], Collection[str]], **expected: object) -> None:
    """Run once more: zero bytes, and not one model file read at the source.

    `reads` tells what was read there since it was asked last.
    """
    step(f"Again, into the {name}: nothing has changed, so nothing may be copied")
    if not reads():
        raise Wrong("the source's access log did not see the first run either, so it proves nothing")
    reported(run(f"{name}-again", job), copied_bytes=0, **expected)
    if again := reads():
        raise Wrong(f"the second run read model files: {again}")
    say("the source's access log agrees: no model file was read")


def in_bucket(s3: Any, expected: Mapping[str, str], bucket: str = CLUSTER) -> None:
    """The cluster's bucket has exactly these files, below `models/` and nowhere else, and the seal."""
    found, elsewhere = bucket_digests(s3, bucket)
    same(found, expected)
    if elsewhere:
        raise Wrong(f"written outside of models/: {', '.join(elsewhere)}")
    sealed(s3.get_object(Bucket=bucket, Key=f"models/{SEAL}")["Body"].read())


def no_secret_left(secrets: Collection[str]) -> None:
    """None of `secrets` is in what the runs printed or left."""
    step("No secret in what was printed or left")
    for file in sorted(LEFT.rglob("*")):
        if not file.is_file() or file.stat().st_size >= 1 << 24:
            continue
        content = file.read_bytes()
        if any(secret.encode() in content for secret in secrets):
            raise Wrong(f"{file.relative_to(REPOSITORY)} holds a secret")
    say(f"searched {LEFT.relative_to(REPOSITORY)}/ for {len(secrets)} secrets: not there")
