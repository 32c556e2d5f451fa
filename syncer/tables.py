"""Plans for people and for programs: a table, JSON, one line."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from syncer.errors import one_line
from syncer.progress import printed_bytes
from syncer.redaction import redact, redact_value

if TYPE_CHECKING:
    from syncer.plan import Plan

_WIDEST: Final = 120
"""Characters that a column is wide at most; who has more to say moves the rest of his line."""


def plan_as_json(plan: Plan, *, source: str, destination: str) -> dict[str, Any]:
    """Everything that a plan says, by path; sizes in bytes."""
    steps = {
        name: [
            redact_value(
                {"path": step.file.path, "bytes": step.file.size, "parts": step.cut.count, "why": str(step.why)}
            )
            for step in steps
        ]
        for name, steps in (("copy", plan.copy), ("prove", plan.prove), ("compare", plan.compare))
    }
    records = {
        name: [redact_value({"path": record.path, "bytes": record.size}) for record in records]
        for name, records in (("keep", plan.keep), ("left", plan.left))
    }
    names = {"delete": plan.delete, "foreign": plan.foreign, "problems": plan.problems}
    ends = {"source": source, "destination": destination, "copy_bytes": plan.copy_bytes}
    # Row by row: of a hundred thousand files no second document is held.
    return {**redact_value(ends), **steps, **records, **redact_value(names)}


def plans_as_json(plans: Mapping[str, Plan], *, source: str) -> str:
    """The plan of each destination: an object, or an array of them where there are several."""
    found = [plan_as_json(each, source=source, destination=uri) for uri, each in plans.items()]
    written = io.StringIO()  # `json.dumps` holds a string for every name and number of it until the end
    json.dump(found if len(found) > 1 else found[0], written, ensure_ascii=False, indent=2)
    return written.getvalue()


def plans_as_tables(plans: Mapping[str, Plan]) -> str:
    """What would happen at each destination, below its name where there are several."""
    if len(plans) == 1:
        return "".join(map(plan_as_table, plans.values()))
    return "\n\n".join(f"{redact(uri)}\n{plan_as_table(plan)}" for uri, plan in plans.items())


def plans_in_a_line(plans: Mapping[str, Plan]) -> str:
    """A line for the whole, with the names of the destinations where there are several."""
    if len(plans) == 1:
        return "".join(map(plan_in_a_line, plans.values()))
    return "; ".join(f"{uri}: {plan_in_a_line(plan)}" for uri, plan in plans.items())


def plan_as_table(plan: Plan) -> str:
    """What would happen to each file that does not simply stay, and a line for the whole."""
    rows = [("action", "file", "size", "why")]
    rows += [(action, one_line(redact(path)), size, why) for action, path, size, why in _rows(plan)]
    action, path, size = (min(_WIDEST, max(len(row[column]) for row in rows)) for column in range(3))
    lines = [f"{row[0]:<{action}}  {row[1]:<{path}}  {row[2]:>{size}}  {row[3]}".rstrip() for row in rows]
    return "\n".join([*(lines if len(rows) > 1 else ()), plan_in_a_line(plan)])


def plan_in_a_line(plan: Plan) -> str:
    """How many files would be copied, compared, kept and deleted, and what stands in the way."""
    parts = [f"copy {files(len(plan.copy))} ({printed_bytes(plan.copy_bytes)})", f"keep {len(plan.keep)}"]
    if plan.prove:
        parts.append(f"read back {len(plan.prove)}")
    if plan.compare:
        parts.append(f"compare {len(plan.compare)}")
    if plan.delete:
        parts.append(f"delete {len(plan.delete)}")
    if blocked := len(plan.foreign) + len(plan.problems):
        parts.append(f"refuse because of {blocked}")
    return ", ".join(parts)


def files(count: int) -> str:
    """`1 file`, `2 files`."""
    return f"{count} file" if count == 1 else f"{count} files"


def _rows(plan: Plan) -> Iterator[tuple[str, str, str, str]]:
    for path in plan.foreign:
        yield "REFUSE", path, "", "it is somebody else's; FORCE overwrites it"
    for problem in plan.problems:
        path, _, why = problem.partition(": ")
        yield "REFUSE", path, "", one_line(redact(why))
    for action, steps in (("copy", plan.copy), ("read back", plan.prove), ("compare", plan.compare)):
        for step in steps:
            yield action, step.file.path, printed_bytes(step.file.size), str(step.why)
    for path in plan.delete:
        yield "delete", path, "", "the source no longer has it"
    for record in plan.left:
        yield "leave", record.path, printed_bytes(record.size), "the source no longer has it; S3_SYNC_DELETE is off"
