"""The most memory that each way took when it was measured, and how much more a pod is given.

`docs/pod.md` shows the figures and the commands; the tests hold its table and the limits of `job-templates/` to them.
"""

from __future__ import annotations

from math import ceil
from typing import Final

MARGIN: Final = 1.5
"""How many times the most that was measured a limit is at least: other Pythons and bases, pages of files."""

COPIES: Final = {
    "S3 to S3, 20 GiB in one file, in the image": 136,
    "S3 to S3, 20,000 files, in the image": 144,
    "S3 to a volume, 400 MiB, in the image": 132,
    "directory to S3, 400 MiB, in the image": 132,
    "S3 to an image, 400 MiB, in the image": 77,
    "IBM COS to S3, 20 GiB": 135,
    "Hugging Face to S3, 20 GiB": 144,
    "Hugging Face to a directory, 2 GiB": 119,
    "the same by the Hub's own transfer": 147,
    "`syncer upload` to S3, 2 GiB": 133,
    "image to a directory, 3 GiB": 113,
}
"""Resident memory in MiB (`VmHWM`, `ru_maxrss`), with default settings."""

WAITING: Final = {"`syncer wait`, in the image": 53}
"""The same of the gate."""


def least_limit(measured: dict[str, int]) -> int:
    """The smallest limit in MiB for a pod that does what was measured."""
    return ceil(max(measured.values()) * MARGIN)
