"""What the pods of a run tell each other, as small files in `.syncer/state/` of the destination.

`share.json`, the notice, says which run shares its work now: index 0 writes it when everything else is there, and takes
it away first.  `shares/RUN/plan.json` has the files that are to be carried.  Each share has up to three files beside
it: `00003.lease.json` while a pod is at work on it, `00003.begun.json` from its first moment on, and `00003.done.json`
once all of it is at the destination.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from syncer.claims import is_size
from syncer.errors import NotThereYet
from syncer.journal import SHARE, SHARES
from syncer.manifest import FORMAT, Listing, ModelFile
from syncer.marker import dump_json, parse_json, read_json
from syncer.shares import READ_BACK, RULE, Portion, cut_paths, divide
from syncer.stores.protocols import ControlFolder, Cut

POLL_SECONDS: Final = 1.0
"""Between two looks at what the other pods tell."""
_MOST_PODS: Final = 10_000
"""More than any Job has."""
_MOST_PARTS: Final = 100_000
"""More than any sound cut has: a plan that says so is damaged, and believing it would cost the memory."""
_RUN: Final = re.compile(r"[0-9a-f-]{1,64}")
_DONE: Final = re.compile(r"(\d{5})\.done\.json")


class PlanReplaced(NotThereYet):
    """Index 0 shares the work of another run by now, or none: what this pod carries is not wanted any more."""

    reason = "PlanReplaced"

    def __init__(self, destination: str) -> None:
        super().__init__(
            f"{destination}: index 0 does not share this work any more",
            hint="start this pod again: it takes its share of what is to be done now",
            stage="lease",
        )


@dataclass(frozen=True)
class Notice:
    """Which run shares its work: its name, among how many pods, by which rule, and who leads it (a lease's holder).

    No run has an empty name: that notice was withdrawn, or cannot be understood.
    """

    run: str = ""
    count: int = 0
    holder: str = ""
    rule: int = RULE


@dataclass(frozen=True)
class SharedFile:
    """One file to carry.  `part_size` in bytes; `token` names the upload to go on with, empty for a new one.

    `vacant` says that nothing lay at its path when the run was planned.
    """

    file: ModelFile
    part_size: int
    token: str = ""
    vacant: bool = False

    @property
    def cut(self) -> Cut:
        """How it is cut."""
        return Cut(self.file.size, self.part_size)


@dataclass(frozen=True)
class SharedPlan:
    """The files that a run carries, by path, and all that it takes to know which pod carries what.

    `apart` says that parts of one file may go through several pods.  `read_back` is what that costs a byte (`divide`).
    `forced` says that all files are in it, changed or not: what a plan without has got done is not enough for `FORCE`.
    """

    run: str
    source: str
    revision: str
    count: int
    files: Mapping[str, SharedFile] = field(repr=False)
    apart: bool = False
    read_back: float = READ_BACK
    forced: bool = False

    @cached_property
    def portions(self) -> tuple[Portion, ...]:
        """What each pod carries."""
        cuts = {path: Cut(each.file.size, each.part_size, in_order=not self.apart) for path, each in self.files.items()}
        return divide(cuts, self.count, read_back=self.read_back)

    @cached_property
    def cut(self) -> frozenset[str]:
        """The files whose parts go through several pods."""
        return cut_paths(self.portions)

    def is_of(self, wanted: Listing, *, source: str, revision: str, count: int, forced: bool) -> bool:
        """Whether this is the work that a run with this listing would share among `count` pods."""
        if (self.source, self.revision, self.count) != (source, revision, count) or (forced and not self.forced):
            return False
        now = wanted.files
        return all(
            path in now and (now[path].size, now[path].version) == (each.file.size, each.file.version)
            for path, each in self.files.items()
        )


def publish(control: ControlFolder, plan: SharedPlan, *, holder: str) -> None:
    """Let the other pods begin: the notice is the last thing that is written."""
    document = {
        "format": FORMAT,
        "run": plan.run,
        "source": plan.source,
        "revision": plan.revision,
        "count": plan.count,
        "apart": plan.apart,
        "read_back": plan.read_back,
        "forced": plan.forced,
        "files": iter([_row(each) for each in plan.files.values()]),
    }
    control.write(_plan_name(plan.run), dump_json(document))
    lead(control, plan, holder=holder)


def lead(control: ControlFolder, plan: SharedPlan, *, holder: str) -> None:
    """Say that `holder` leads this run from now on."""
    notice = {"format": FORMAT, "run": plan.run, "count": plan.count, "rule": RULE, "holder": holder}
    control.write(SHARE, dump_json(notice))


def withdraw(control: ControlFolder) -> None:
    """Let all pods that share a work stop: the notice stays, so that a run after a kill goes on waiting for them."""
    control.write(SHARE, dump_json({"format": FORMAT, "run": ""}))


def read_notice(control: ControlFolder) -> Notice | None:
    """The notice; None where there is none."""
    found = control.read(SHARE)
    if found is None:
        return None
    told = parse_json(found[0]) or {}
    run, count, rule, holder = told.get("run"), told.get("count"), told.get("rule"), told.get("holder")
    if not isinstance(run, str) or not _RUN.fullmatch(run) or not isinstance(holder, str):
        return Notice()
    if not isinstance(count, int) or not isinstance(rule, int):
        return Notice()
    return Notice(run, count, holder, rule)


def is_shared(control: ControlFolder, run: str) -> bool:
    """Whether the work of `run` is still shared."""
    notice = read_notice(control)
    return notice is not None and notice.run == run


def read_plan(control: ControlFolder, run: str) -> SharedPlan | None:
    """The plan of `run`; None where it cannot be had or understood as a whole."""
    told = read_json(control, _plan_name(run))
    try:
        if told is None or told["format"] != FORMAT or told["run"] != run:
            return None
        count, read_back = told["count"], float(told["read_back"])
        if not (is_size(count) and 1 <= count <= _MOST_PODS and 0 <= read_back <= 1):
            return None
        return SharedPlan(
            run=run,
            source=str(told["source"]),
            revision=str(told["revision"]),
            count=count,
            files={each.file.path: each for each in map(_file, told["files"])},
            apart=bool(told["apart"]),
            read_back=read_back,
            forced=bool(told["forced"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def lease_name(run: str, index: int) -> str:
    """The lease of a share."""
    return f"{_share(run, index)}.lease.json"


def was_begun(control: ControlFolder, run: str, index: int) -> bool:
    """Whether a pod was at work on this share before."""
    return control.read(f"{_share(run, index)}.begun.json") is not None


def note_begun(control: ControlFolder, run: str, index: int) -> None:
    """A pod begins with this share: whoever comes after it has to look at what it left."""
    control.write(f"{_share(run, index)}.begun.json", dump_json({"format": FORMAT}))


def note_done(control: ControlFolder, run: str, index: int, told: Mapping[str, Any]) -> None:
    """All of this share is at the destination; `told` is what index 0 learns of it."""
    control.write(f"{_share(run, index)}.done.json", dump_json({"format": FORMAT, **told}))


def read_done(control: ControlFolder, run: str, index: int) -> dict[str, Any] | None:
    """What the pod that has done this share told; None where none has."""
    return read_json(control, f"{_share(run, index)}.done.json")


def done(control: ControlFolder, run: str) -> frozenset[int]:
    """The shares that are done."""
    found = (_DONE.fullmatch(name.rpartition("/")[2]) for name in control.names(f"{SHARES}{run}/"))
    return frozenset(int(match[1]) for match in found if match)


def leases(control: ControlFolder) -> list[str]:
    """The leases of all shares, of whatever run."""
    return [name for name in control.names(SHARES) if name.endswith(".lease.json")]


def _share(run: str, index: int) -> str:
    return f"{SHARES}{run}/{index:05}"


def _plan_name(run: str) -> str:
    return f"{SHARES}{run}/plan.json"


def _row(each: SharedFile) -> str:
    file = each.file
    return json.dumps([file.path, file.size, file.version, each.part_size, each.token, int(each.vacant)])


def _file(row: Iterable[Any]) -> SharedFile:
    path, size, version, part_size, token, vacant = row
    if not (isinstance(path, str) and isinstance(version, str) and isinstance(token, str)):
        raise TypeError("path, version and token must be text")
    if not (is_size(size) and is_size(part_size) and part_size):
        raise ValueError("sizes must be whole numbers of bytes")
    shared = SharedFile(ModelFile(path, size, version), part_size, token, bool(vacant))
    if shared.cut.count > _MOST_PARTS:
        raise ValueError("more parts than any sound cut has")
    return shared
