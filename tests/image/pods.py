"""Containers of a Job as the platform starts them, and what one of them took while it ran."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from tests.support.manifests import container, environment, job
from tests.support.podman import Podman, environment_options

TAG = "localhost/syncer-test:latest"
DESTINATION_KEYS = {"AWS_ACCESS_KEY_ID": "dest-access-key", "AWS_SECRET_ACCESS_KEY": "canary-destination-secret"}
_LOOK_EVERY_SECONDS = 0.01
_PATIENCE_SECONDS = 850


@dataclass(frozen=True)
class Image:
    """The image under test and what runs it."""

    podman: Podman
    base: str
    context: Path
    layers: str


@dataclass(frozen=True)
class S3Server:
    """An S3 server and a bystander's view of it."""

    endpoint: str
    client: Any

    def put(self, bucket: str, objects: dict[str, bytes]) -> None:
        """Makes a bucket with these objects in it."""
        self.client.create_bucket(Bucket=bucket)
        for key, body in objects.items():
            self.client.put_object(Bucket=bucket, Key=key, Body=body)

    def contents(self, bucket: str) -> dict[str, bytes]:
        """Every object with its bytes."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return {key: self.client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def restrictions(user: str, network: str = "host") -> list[str]:
    """What a cluster takes away from a container; its folder in memory, /dev/shm, it leaves writable."""
    return [
        "--read-only",
        "--read-only-tmpfs=false",
        f"--user={user}",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        f"--network={network}",
    ]


NOWHERE_TO_WRITE = ("--mount=type=tmpfs,destination=/dev/shm,ro",)
"""Takes that away as well: then there is not one folder for a file."""


@dataclass(frozen=True)
class Start:
    """What a Job's template says of its container."""

    variables: dict[str, str]
    arguments: list[str]
    memory: str

    @classmethod
    def of_template(cls, name: str, source: Mapping[str, str], s3: S3Server, *, bucket: str = "demo") -> Self:
        """`job-templates/NAME` with these values in the source's Secret, and a bucket behind the data connection."""
        spec = container(job(name))
        data_connection = {"AWS_S3_ENDPOINT": s3.endpoint, "AWS_S3_BUCKET": bucket, "AWS_DEFAULT_REGION": "local"}
        secrets = {"model-source": source, "demo-models": data_connection | DESTINATION_KEYS}
        return cls(environment(spec, secrets=secrets), spec["args"], spec["resources"]["limits"]["memory"])

    def command(self) -> list[str]:
        """The end of a `podman run` that does as the template says."""
        limit = self.memory.removesuffix("i").lower()  # Kubernetes' Mi is podman's m
        return [f"--memory={limit}", *environment_options(self.variables), TAG, *self.arguments]

    def with_variables(self, **changed: str) -> Start:
        return replace(self, variables=self.variables | changed)


def model_of(found: dict[str, bytes], prefix: str) -> dict[str, bytes]:
    """What was copied below a prefix, without the files of ours that seal it."""
    assert f"{prefix}.syncer/complete.json" in found
    return {path.removeprefix(prefix): body for path, body in found.items() if not path.startswith(f"{prefix}.syncer/")}


@dataclass(frozen=True)
class Ended:
    """How a container ended, and what its process took: the most memory (`VmHWM`), and bytes written to disks.

    The kernel counts a byte for the process that makes its page dirty, whatever the file system, but for those that
    live in memory (`write_bytes` in proc_pid_io(5)).  `group` is the most that the control group held, with the pages
    of files that it read and wrote: those the kernel takes back before it kills.  It is what the limit counts, and 0
    where the kernel does not tell it.
    """

    code: int
    output: str
    peak: int
    written: int
    group: int


class Pod:
    """One container of a Job, restricted as in a cluster."""

    def __init__(self, image: Image, user: str, message: Path, *, network: str = "host") -> None:
        self._podman = image.podman
        self._common = [*restrictions(user, network), f"--volume={message}:/dev/termination-log"]
        self._message = message

    def run(self, start: Start, *options: str) -> tuple[int, str]:
        """Exit code and output, which holds no secret; leaves a fresh termination message."""
        self._message.write_bytes(b"")
        done = self._podman("run", "--rm", *self._common, *options, *start.command())
        output = done.stdout + done.stderr
        assert "canary" not in output
        return done.returncode, output

    def start(self, start: Start, *options: str) -> str:
        """Its name; the caller removes it."""
        self._message.write_bytes(b"")
        return self._podman.ask("run", "--detach", *self._common, *options, *start.command())

    def watch(self, start: Start, *options: str) -> Ended:
        """Run it to its end and look at it all the while."""
        name = self.start(start, *options)
        try:
            with _Watch(int(self._podman.ask("inspect", "--format={{.State.Pid}}", name))) as seen:
                code = int(self._podman.ask("wait", name, timeout=_PATIENCE_SECONDS))
            logs = self._podman("logs", name)
        finally:
            self._podman("rm", "--force", "--time=0", name)
        assert "canary" not in logs.stdout + logs.stderr
        return Ended(code, logs.stdout + logs.stderr, seen.peak, seen.written, seen.group)

    def said(self) -> dict[str, Any]:
        """The termination message."""
        text = self._message.read_text(encoding="utf-8")
        assert 0 < len(text.encode()) < 4096
        assert "canary" not in text
        answer: dict[str, Any] = json.loads(text)
        return answer


class _Watch:
    """Keeps the last of what the kernel tells about a process, until that is gone."""

    def __init__(self, pid: int) -> None:
        self.peak = self.written = self.group = 0
        self._folder = Path(f"/proc/{pid}")
        self._group = _most_of_group(self._folder)
        self._gone = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._gone.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._gone.wait(_LOOK_EVERY_SECONDS):
            try:
                status, io = ((self._folder / name).read_text() for name in ("status", "io"))
            except OSError:  # it has ended
                return
            self.peak = max(self.peak, 1024 * _number(r"VmHWM:\s+(\d+) kB", status))
            self.written = max(self.written, _number(r"^write_bytes: (\d+)$", io))
            if self._group is not None:
                with suppress(OSError):
                    self.group = max(self.group, int(self._group.read_text()))


def _most_of_group(process: Path) -> Path | None:
    """The file with the most memory that the control group of a process ever held, where there is one.

    https://docs.kernel.org/admin-guide/cgroup-v1/memory.html, https://docs.kernel.org/admin-guide/cgroup-v2.html
    """
    groups = dict(line.split(":", 2)[1:] for line in (process / "cgroup").read_text().splitlines())
    for controller, name in (("memory", "memory.max_usage_in_bytes"), ("", "memory.peak")):
        file = Path("/sys/fs/cgroup") / controller / groups.get(controller, "/").lstrip("/") / name
        if file.exists():
            return file
    return None


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text, re.MULTILINE)
    return int(found[1]) if found else 0
