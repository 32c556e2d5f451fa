"""The plots of `make bench`: CPU and wall time by path, distance, and many files.

    .bench/bin/python -m benchmarks.plots build/bench/results.json build/bench

Runs in the environment of `make bench`, which has matplotlib; the project has not.
"""

from __future__ import annotations

import argparse
import importlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import Report, Section

COLOURS = {"syncer": "#c9190b", "relay": "#8a8d90", "zero": "#d2d2d2", "obstore": "#6a6e73", "s5cmd": "#0066cc"}
COLOURS |= {"rclone": "#009596", "Debian's": "#73c5c5", "stock": "#f0ab00", "aws": "#ec7a08", "s3cmd": "#5752d1"}
_OTHER = "#b8bbbe"
_HATCHES = ("", "//", "..", "xx")


def colour(client: str) -> str:
    """One for each family of clients."""
    return next((shade for start, shade in COLOURS.items() if client.startswith(start)), _OTHER)


def by_path(report: Report, value: Callable[[Section, str], float], title: str, *, unit: str) -> Any:
    """Bars for each client, a panel for each path."""
    names = [name for name in report.sections if name.endswith(("-http", "-https"))]
    if not names:
        return None
    columns = 2
    rows = math.ceil(len(names) / columns)
    figure, panels = _pyplot().subplots(rows, columns, figsize=(11, 2.4 * rows), squeeze=False, layout="constrained")
    for panel in panels.flat[len(names) :]:
        panel.axis("off")
    for panel, name in zip(panels.flat, names, strict=False):
        section = report.sections[name]
        found = {client: value(section, client) for client in section.clients}
        bars(panel, {client: figure for client, figure in found.items() if not math.isnan(figure)})
        panel.set_title(section.title, fontsize=9)
    figure.suptitle(f"{title} ({unit}; shorter is better)", fontsize=11)
    return figure


def bars(panel: Any, figures: dict[str, float]) -> None:
    """Horizontal bars with their figures, the first one on top."""
    clients = list(figures)
    shades = [colour(client) for client in clients]
    drawn = panel.barh(clients, list(figures.values()), color=shades, edgecolor="white")
    for bar, client in zip(drawn, clients, strict=True):
        bar.set_hatch(_HATCHES[sum(colour(other) == colour(client) for other in clients[: clients.index(client)]) % 4])
    panel.bar_label(drawn, fmt="%.3g", fontsize=7, padding=2)
    panel.invert_yaxis()
    panel.margins(x=0.15)
    panel.tick_params(labelsize=7)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


def facts(report: Report, wanted: Sequence[tuple[str, str]], title: str) -> Any:
    """Bars for the facts of sections whose names begin in a certain way: (section, beginning)."""
    shown = [
        (
            report.sections[name],
            {key[len(start) :]: fact for key, fact in report.sections[name].facts.items() if key.startswith(start)},
            start,
        )
        for name, start in wanted
        if name in report.sections
    ]
    shown = [item for item in shown if item[1]]
    if not shown:
        return None
    figure, panels = _pyplot().subplots(
        1, len(shown), figsize=(5.5 * len(shown), 2.6), squeeze=False, layout="constrained"
    )
    for panel, (section, figures, start) in zip(panels.flat, shown, strict=True):
        bars(panel, figures)
        panel.set_title(f"{section.title}\n{start.rstrip(': ')}", fontsize=8)
    figure.suptitle(f"{title} (longer is better)", fontsize=11)
    return figure


def _pyplot() -> Any:
    importlib.import_module("matplotlib").use("agg")
    return importlib.import_module("matplotlib.pyplot")


def main() -> None:
    """Draw all that the results have figures for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    report = Report.read(given.results)
    drawn = {
        "cpu": by_path(report, Section.cpu, "CPU of the client", unit="seconds a GiB"),
        "wall": by_path(report, Section.wall, "Wall time on all cores", unit="seconds"),
        "distance": facts(report, [("latency", "MiB/s: "), ("small", "files a second: ")], "Far stores, small files"),
    }
    given.folder.mkdir(parents=True, exist_ok=True)
    for name, figure in drawn.items():
        if figure is not None:
            figure.savefig(given.folder / f"{name}.png", dpi=100)


if __name__ == "__main__":
    main()
