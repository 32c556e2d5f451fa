"""The most memory that each way took when it was measured, and how much more a pod is given.

`docs/pod.md` shows the figures and the commands; the tests hold its table and the limits of `job-templates/` to them.
"""

from __future__ import annotations

from math import ceil
from typing import Final

MARGIN: Final = 1.5
"""How many times the most that was measured a limit is at least: other Pythons and bases, pages of files."""

COPIES: Final = {
    "S3 to S3, 20 GiB in one file, in the image": 124,
    "S3 to S3, 20,000 files, in the image": 70,
    "S3 to a volume, 400 MiB, in the image": 121,
    "directory to S3, 400 MiB, in the image": 123,
    "S3 to an image, 400 MiB, in the image": 40,
    "IBM COS to S3, 20 GiB": 125,
    "Hugging Face to S3, 20 GiB": 135,
    "Hugging Face to a directory, 2 GiB": 129,
    "the same by the Hub's own transfer": 165,
    "`syncer upload` to S3, 2 GiB": 121,
    "image to a directory, 2 GiB": 97,
}
"""Resident memory in MiB (`VmHWM`, `ru_maxrss`), with default settings."""

WAITING: Final = {"`syncer wait`, in the image": 53}
"""The same of the gate."""


def least_limit(measured: dict[str, int]) -> int:
    """The smallest limit in MiB for a pod that does what was measured."""
    return ceil(max(measured.values()) * MARGIN)
