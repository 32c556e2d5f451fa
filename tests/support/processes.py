"""The program as a pod runs it: a process with an environment of its own and nothing else."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ENTRYPOINT = Path(__file__).parents[2] / "entrypoint.py"


@dataclass
class Ended:
    """How a process ended, and what it left for the platform."""

    code: int
    output: str
    termination: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"exit code {self.code}\n{self.output[-6000:]}"


@dataclass
class Pod:
    """Starts processes that share a folder for termination message and results."""

    folder: Path

    @property
    def termination_log(self) -> Path:
        return self.folder / "termination-log"

    def start(self, environment: Mapping[str, str], *arguments: str) -> subprocess.Popen[str]:
        self.termination_log.write_bytes(b"")
        clean = {
            "PATH": "/usr/bin:/bin",
            "HOME": "/nonexistent",
            "AWS_EC2_METADATA_DISABLED": "true",
            "TERMINATION_MESSAGE_PATH": str(self.termination_log),
        }
        return subprocess.Popen(
            [sys.executable, str(ENTRYPOINT), *arguments],
            env=clean | dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self, process: subprocess.Popen[str], *, seconds: float = 100.0) -> Ended:
        try:
            output, _ = process.communicate(timeout=seconds)
        finally:
            process.kill()
        message = self.termination_log.read_bytes()
        return Ended(process.returncode, output, json.loads(message) if message else {})

    def run(self, environment: Mapping[str, str], *arguments: str) -> Ended:
        return self.end(self.start(environment, *arguments))
