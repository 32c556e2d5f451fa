"""The program as a pod runs it: a process with an environment of its own and nothing else."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from syncer import cli, logs, redaction
from syncer.redaction import Redactor
from syncer.report import LastWords
from syncer.stop import StopSwitch
from tests.support.captured import forget_logs

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
        return subprocess.Popen(
            [sys.executable, str(ENTRYPOINT), *arguments],
            env=self._whole(environment),
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
        return self._ended(process.returncode, output)

    def run(self, environment: Mapping[str, str], *arguments: str) -> Ended:
        return self.end(self.start(environment, *arguments))

    def run_here(self, environment: Mapping[str, str], *arguments: str) -> Ended:
        """The same in this process, for what is not about processes: half a second of imports less."""
        environ, said, root = self._whole(environment), io.StringIO(), logging.getLogger()
        handlers, level = list(root.handlers), root.level
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(said):
            patch.setattr(redaction, "_OF_THIS_PROCESS", Redactor())
            patch.setattr(logs, "catch_strays", lambda: None)
            code = cli.run(arguments, environ=environ, stop=StopSwitch(), words=LastWords())
        forget_logs()
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.captureWarnings(capture=False)
        return self._ended(code, said.getvalue())

    def _whole(self, environment: Mapping[str, str]) -> dict[str, str]:
        self.termination_log.write_bytes(b"")
        return {
            "PATH": "/usr/bin:/bin",
            "HOME": "/nonexistent",
            "AWS_EC2_METADATA_DISABLED": "true",
            "TERMINATION_MESSAGE_PATH": str(self.termination_log),
        } | dict(environment)

    def _ended(self, code: int, output: str) -> Ended:
        message = self.termination_log.read_bytes()
        return Ended(code, output, json.loads(message) if message else {})
