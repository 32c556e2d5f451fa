"""Writes what `make bench` found into docs/performance.md, and its plots beside it.

    python -m benchmarks.page build/bench/results.json

A part lies between `<!-- measured: NAME -->` and `<!-- /measured -->`; what stands between the two is replaced.
"""

from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from benchmarks import report
from benchmarks.clients import REPOSITORY
from benchmarks.results import Report

PAGE = REPOSITORY / "docs" / "performance.md"
IMAGES = REPOSITORY / "docs" / "img"
PLOTS = {
    "cpu": "CPU of the client by path",
    "wall": "Wall time by path",
    "distance": "Far stores and small files",
}


def plots(_: Report) -> str:
    """Those that are there."""
    there = {name: IMAGES / f"bench-{name}.png" for name in PLOTS}
    return "\n\n".join(f"![{PLOTS[name]}](img/{plot.name})" for name, plot in there.items() if plot.exists())


PARTS: dict[str, Callable[[Report], str]] = {
    "setting": report.setting,
    "targets": report.targets,
    "behind": report.behind,
    "plots": plots,
    "sections": report.sections,
}
_MARKED = re.compile(r"(<!-- measured: (?P<name>[a-z]+) -->\n).*?(<!-- /measured -->)", re.DOTALL)


def renewed(text: str, found: Report) -> str:
    """`text` with every part written anew; KeyError for a part that nobody knows."""
    return _MARKED.sub(lambda part: f"{part[1]}{PARTS[part['name']](found)}\n\n{part[3]}", text)


def main() -> None:
    """Write the page and copy the plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    given = parser.parse_args()
    IMAGES.mkdir(exist_ok=True)
    for plot in given.results.parent.glob("*.png"):
        shutil.copyfile(plot, IMAGES / f"bench-{plot.name}")
    PAGE.write_text(renewed(PAGE.read_text(), Report.read(given.results)))


if __name__ == "__main__":
    main()
