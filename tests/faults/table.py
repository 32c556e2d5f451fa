"""docs/reliability.md: what it says of a case, and how it is written anew from what the cases have measured.

SYNCER_RELIABILITY=FOLDER pytest -m real tests/faults    # measures instead of comparing
python -m tests.faults.table FOLDER                      # writes; together they are `make reliability`
"""

import functools
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.faults.frame import MEANINGS, Store
from tests.faults.stores import STORES

DOCUMENT = Path(__file__).parents[2] / "docs/reliability.md"
CANNOT = "\N{EN DASH}"
_AND = "<br>"
"""Between the faults of one row: those of which the same comes in every phase."""
_PART = re.compile(r"(<!-- generated: (?P<name>[a-z0-9-]+) -->\n).*?(<!-- /generated -->)", re.DOTALL)


def note(folder: Path, key: str, row: str, phase: str, measured: str) -> None:
    """Keep what was measured until the table is written; one file a case, as the cases run in several processes."""
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(f"{key}\n{row}\n{phase}".encode()).hexdigest()[:20]
    (folder / f"{name}.json").write_text(json.dumps([key, row, phase, measured]))


def cell(key: str, row: str, phase: str) -> str:
    """What the document says; empty where it says nothing."""
    return _cells().get((key, row, phase), "")


def parts(text: str) -> dict[str, str]:
    """The generated parts of a document by name."""
    return {found["name"]: found[0] for found in _PART.finditer(text)}


@functools.cache
def _cells() -> dict[tuple[str, str, str], str]:
    text = DOCUMENT.read_text(encoding="utf-8") if DOCUMENT.exists() else ""
    return {where: said for name, part in parts(text).items() for where, said in cells_of(name, part)}


def cells_of(key: str, part: str) -> Iterator[tuple[tuple[str, str, str], str]]:
    """The cells of one table: where, and what it says."""
    rows = [[word.strip() for word in line.strip("|").split("|")] for line in part.splitlines() if line[:1] == "|"]
    for first, *said in rows[2:]:
        for row in first.split(_AND):
            for phase, word in zip(rows[0][1:], said, strict=True):
                yield (key, row, phase), word


def table_of(store: Store, measured: dict[tuple[str, str, str], str]) -> str:
    """One store's table, without the faults that can happen in none of its phases, and why some cells are empty."""
    lines = ["| fault | " + " | ".join(phase.name for phase in store.phases) + " |"]
    lines.append("|---" * (len(store.phases) + 1) + "|")
    alike: dict[tuple[str, ...], list[str]] = {}
    for row in store.rows:
        if not any(row.fits(phase.kinds) for phase in store.phases):
            continue
        found = tuple(
            measured[store.key, row.name, phase.name] if row.fits(phase.kinds) else CANNOT for phase in store.phases
        )
        alike.setdefault(found, []).append(row.name)
    lines += [f"| {_AND.join(names)} | {' | '.join(said)} |" for said, names in alike.items()]
    reasons: dict[str, list[str]] = {}
    for row in store.rows:
        if not all(row.fits(phase.kinds) for phase in store.phases):
            reasons.setdefault(row.why_not, []).append(row.name)
    lines += ["", *(f"- {CANNOT} {', '.join(f'*{name}*' for name in rows)}: {why}." for why, rows in reasons.items())]
    return "\n".join(lines) + "\n"


def meanings() -> str:
    """The legend."""
    return "".join(f"- **{word}**: {meaning}\n" for word, meaning in MEANINGS.items())


def renewed(text: str, measured: dict[tuple[str, str, str], str]) -> str:
    """The document with every generated part written anew; a store of which nothing was measured keeps its table."""
    known = {key for key, _, _ in measured}

    def part(found: re.Match[str]) -> str:
        name = found["name"]
        if name == "meanings":
            return f"{found[1]}{meanings()}{found[3]}"
        if name not in known:
            return found[0]
        before = dict(cells_of(name, found[0]))
        return f"{found[1]}{table_of(STORES[name], before | measured)}{found[3]}"

    return _PART.sub(part, text)


def main(arguments: list[str]) -> None:
    """Write the document from the folder of what was measured."""
    documents = [json.loads(path.read_text()) for path in Path(arguments[0]).glob("*.json")]
    measured = {(key, row, phase): said for key, row, phase, said in documents}
    DOCUMENT.write_text(renewed(DOCUMENT.read_text(encoding="utf-8"), measured), encoding="utf-8")
    print(f"{DOCUMENT.name}: {len(measured)} cases")


if __name__ == "__main__":
    main(sys.argv[1:])
