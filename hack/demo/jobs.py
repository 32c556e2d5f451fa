"""Runs the program as the container of a Job template would run it."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hack.demo.places import ENTRYPOINT, LEFT, REPOSITORY, TEMPLATES
from hack.demo.telling import Wrong, say

LIMIT_SECONDS = 300


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


def load_secret(template: str, values: Mapping[str, str], *, also: Mapping[str, str] | None = None) -> dict[str, str]:
    """An example Secret of the templates with the demo's values in place of the examples.

    `also` are variables that the template has no line for: where the servers of this machine are.
    """
    data = yaml.safe_load((TEMPLATES / template).read_text())["stringData"]
    unknown = values.keys() - data.keys()
    if unknown:
        raise Wrong(f"{template} has no {', '.join(sorted(unknown))}")
    return {**data, **values, **(also or {})}


def run(name: str, job: Job, *command: str, code: int = 0, folder: Path = REPOSITORY) -> dict[str, Any]:
    """Run `entrypoint.py` with nothing but the Job's environment; what its termination message says.

    Anything but the exit `code` is wrong.  The log goes to `demo/NAME.log`, `folder` is the current directory.
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
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=LIMIT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Wrong(f"not finished within {LIMIT_SECONDS} s") from None
    text = message.read_text()
    if done.returncode != code:
        tail = "\n".join(log.read_text().splitlines()[-15:])
        raise Wrong(f"exit {done.returncode}, expected {code}\n{tail}\n{text}")
    say(f"exit {code} after {time.monotonic() - started:.1f} s")
    answer: dict[str, Any] = json.loads(text) if text else {}
    return answer
