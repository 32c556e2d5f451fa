"""What parent and worker tell each other: one JSON object per line, the task first, then what became of it.

Secrets travel in the task alone, over a pipe: not in the environment and on no command line.  What the worker says
about a failure is sorted by its remedy, as `syncer.errors` does.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from syncer.claims import from_json

Kind = Literal["data", "unreachable", "refused", "model", "memory", "library"]
"""Whose turn it is: who chose the data, the network, who has the token, who chose model and scheme, the pod's size, the
image."""


@dataclass(frozen=True)
class Task:
    """What the worker is to do: read the model in `original`, write the new weights and config into `result`.

    `device_bytes` is what a GPU must have free: only the worker sees which there are.
    """

    original: str
    result: str
    scheme: str
    algorithm: str
    group_size: int
    ignore: tuple[str, ...]
    sequence_length: int
    samples: int
    dataset_path: str = ""
    dataset_name: str = ""
    dataset_token: str = dataclasses.field(default="", repr=False)
    device_bytes: int = 0

    def to_line(self) -> str:
        """The task as the worker reads it."""
        return json.dumps(dataclasses.asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Self:
        """Read what `to_line` wrote; raises ValueError or TypeError for anything else."""
        fields = from_json(line)
        return cls(**{**fields, "ignore": tuple(fields["ignore"])})

    @property
    def has_data(self) -> bool:
        """Whether samples calibrate."""
        return bool(self.dataset_path or self.dataset_name)


class Refused(Exception):
    """The worker cannot do its task, and somebody can do something about it."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind: Kind = kind
        self.message = message


def parse(line: str) -> Mapping[str, Any]:
    """What a line of the worker says; empty for a line that is none of ours."""
    try:
        said = from_json(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) and isinstance(said.get("said"), str) else {}
