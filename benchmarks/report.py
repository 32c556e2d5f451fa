"""What was measured, as Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from benchmarks.clients import RELAY
from benchmarks.results import Report, Sample, Section
from benchmarks.targets import MET, MISSED, MISSED_BY_ALL, UNKNOWN, Verdict, verdicts

_MIB = 1 << 20


def number(value: float, digits: int = 2) -> str:
    """A figure, or nothing where there is none."""
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def section_table(section: Section) -> str:
    """All clients of a section, failed ones with their first words; then its facts."""
    lines = [f"### {section.title}", ""]
    if section.clients:
        lines += _clients(section)
    if section.facts:
        lines += ["| | |", "|---|---|"]
        lines += [f"| {name} | {value:,.6g} |" for name, value in section.facts.items()]
    lines += [f"- {remark}" for remark in section.remarks]
    lines += [section.text] if section.text else []
    return "\n".join(lines)


def _clients(section: Section) -> list[str]:
    if not section.gib:
        lines = ["| client | wall s | from-to | CPU s | peak RSS MiB | runs |", "|---|---|---|---|---|---|"]
        return [*lines, *(_short(section, client) for client in section.clients), ""]
    heads = ["client", "CPU s/GiB", "from-to", "start, end: CPU s", "CPU s/GiB without", "ratio", "wall s", "from-to"]
    heads += ["peak RSS MiB", "servers' CPU s/GiB", "runs"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    return [*lines, *(_long(section, client) for client in section.clients), ""]


def _long(section: Section, client: str) -> str:
    runs = section.samples(client)
    if not runs:
        return f"| {client} | failed: {_first_line(section.failed.get(client, ''))} | | | | | | | | | 0 |"
    measured = section.pinned.get(client) or runs
    cells = [
        number(section.cpu(client), 3),
        _range([run.cpu / section.gib for run in measured]),
        number(section.start_cpu(client)) if client in section.start else "",
        number(section.rate(client), 3),
        number(section.rate(client) / section.rate(RELAY)) if section.rate(RELAY) else "",
        number(section.wall(client)),
        _range([run.wall for run in section.free.get(client) or runs]),
        f"{section.memory(client) / _MIB:.0f}",
        number(statistics.median(run.served for run in measured) / section.gib, 3),
        _count(section, client),
    ]
    return f"| {client} | {' | '.join(cells)} |"


def _short(section: Section, client: str) -> str:
    runs = section.samples(client)
    if not runs:
        return f"| {client} | failed: {_first_line(section.failed.get(client, ''))} | | | | 0 |"
    cells = [
        number(section.wall(client)),
        _range([run.wall for run in runs]),
        number(statistics.median(run.cpu for run in runs)),
        f"{section.memory(client) / _MIB:.0f}",
        _count(section, client),
    ]
    return f"| {client} | {' | '.join(cells)} |"


def _count(section: Section, client: str) -> str:
    kinds: list[list[Sample]] = [section.pinned.get(client, []), section.free.get(client, [])]
    return " + ".join(str(len(kind)) for kind in kinds if kind)


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.2f}-{max(values):.2f}"


def _first_line(words: str) -> str:
    """What went wrong, short and without what would end a cell."""
    lines = [line for line in words.splitlines() if line.strip()]
    return " … ".join(lines[:1] + lines[-1:])[:200].replace("|", "/") if lines else ""


def verdict_table(found: Sequence[Verdict]) -> str:
    """All targets of the issue, in its order, with what the references reach by the same computation."""
    lines = ["| target | bound | ours | the reference | |", "|---|---|---|---|---|"]
    for verdict in found:
        bound = f"{'≥' if verdict.target.at_least else '≤'} {verdict.target.bound:.3g}"
        cells = (verdict.target.name, bound, number(verdict.value, 3), _references(verdict, 3), verdict.word)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _references(verdict: Verdict, digits: int) -> str:
    return ", ".join(f"{name} {number(value, digits)}" for name, value in verdict.references.items())


def setting(report: Report) -> str:
    """The command, the date, the machine and everybody's version."""
    where = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    versions = "\n".join(f"| {name} | {version} |" for name, version in report.versions.items())
    return f"    {report.command}\n\n{report.date}; {where}.\n\n| peer | version |\n|---|---|\n{versions}"


def targets(report: Report) -> str:
    """Every target; where a part was asked for, those of the part."""
    found = verdicts(report.sections)
    counts = {word: sum(verdict.word == word for verdict in found) for word in (MET, MISSED, MISSED_BY_ALL, UNKNOWN)}
    shown = [verdict for verdict in found if verdict.word != UNKNOWN or "--only" not in report.command]
    return "; ".join(f"{count} {word}" for word, count in counts.items()) + ".\n\n" + verdict_table(shown)


def behind(report: Report) -> str:
    """Where we are not ahead, or not as far as we want to be; what no reference reaches comes last."""
    found = verdicts(report.sections)
    missed = [_missed(verdict) for verdict in found if verdict.word == MISSED]
    by_all = [_missed(verdict) for verdict in found if verdict.word == MISSED_BY_ALL]
    parts = ["\n".join(missed) or "Every other target that was measured is met."] if missed or by_all else []
    parts += ["The reference misses these too, on this machine:", "\n".join(by_all)] if by_all else []
    return "\n\n".join(parts) or "Every target that was measured is met."


def _missed(verdict: Verdict) -> str:
    wanted = f"wanted {'at least' if verdict.target.at_least else 'at most'} {verdict.target.bound:.3g}"
    others = f" ({_references(verdict, 2)})" if verdict.references else ""
    return f"- {verdict.target.name}: {number(verdict.value)}, {wanted}{others}"


def sections(report: Report) -> str:
    """The tables of all sections, and what did not run."""
    parts = [f"{section_table(section)}\n" for section in report.sections.values()]
    parts += [f"- **{name} did not run**: {_first_line(words)}" for name, words in report.broken.items()]
    return "\n".join(parts).rstrip()


def markdown(report: Report) -> str:
    """All of it."""
    return f"{setting(report)}\n\n### Targets\n\n{targets(report)}\n\n{sections(report)}\n"
