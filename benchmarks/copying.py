"""What the references and yardsticks share: the command line of a copy, and one line for each file that is copied."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor


def arguments(about: str | None, *, endpoints: tuple[str, ...] = ("src", "dest")) -> argparse.ArgumentParser:
    """Two places, their endpoints, and how many files at once."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("target")
    for side in endpoints:
        parser.add_argument(f"--{side}-endpoint", default="")
    parser.add_argument("--files", type=int, default=4, help="files at once")
    return parser


def split(place: str) -> tuple[str, str]:
    """Bucket and prefix of `s3://bucket/prefix/`."""
    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    return bucket, prefix


def print_each(one: Callable[[tuple[str, int]], str], found: Iterable[tuple[str, int]], *, files: int) -> None:
    """Do `one` for each path and size, so many `files` at once, and print its digest."""
    with ThreadPoolExecutor(files) as pool:
        for (path, _), digest in pool.map(lambda item: (item, one(item)), found):
            print(f"{digest}  {path}")
