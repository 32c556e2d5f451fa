"""What is settled before the first byte: nothing unsafe, nothing foreign overwritten, no volume that is too small."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from syncer import verify as proof
from syncer.errors import ConfigurationError, OutOfSpace, UnsafeNames, first_few
from syncer.manifest import FileRecord
from syncer.plan import Plan
from syncer.progress import printed_bytes
from syncer.stores.protocols import Destination, KnownByTag, Source
from syncer.transfer import Engine

_NAMED = 10


def refuse_unsafe(plan: Plan, destination: str) -> None:
    """Raise `UnsafeNames` with every name that the destination cannot hold safely."""
    if plan.problems:
        raise UnsafeNames(
            f"{len(plan.problems)} name(s) cannot be held safely by {destination}: {first_few(plan.problems, _NAMED)}",
            problems=plan.problems,
            hint="rename these files at the source, or choose another destination",
            store=destination,
        )


def refuse_foreign(plan: Plan, destination: Destination) -> None:
    """Raise `ConfigurationError` when files, or an image, that are not ours lie in the way of different ones."""
    if plan.foreign and isinstance(destination, KnownByTag):
        raise ConfigurationError(
            f"{destination.name} is an image that is not ours: {first_few(plan.foreign, _NAMED)}",
            hint="choose another tag, or set S3_SYNC_TRANSFER_CONFIG__FORCE=true: then the tag leads to the model",
            problems=plan.foreign,
        )
    if plan.foreign:
        raise ConfigurationError(
            f"{len(plan.foreign)} file(s) at the destination are not ours and differ from the source's: "
            + first_few(plan.foreign, _NAMED),
            hint="set S3_SYNC_TRANSFER_CONFIG__FORCE=true to replace them, or choose another destination",
            problems=plan.foreign,
        )


def refuse_appeared(paths: Collection[str], destination: Destination) -> None:
    """Raise `ConfigurationError` when files that are not ours have appeared in the way since the plan was made."""
    if paths:
        raise ConfigurationError(
            f"{len(paths)} file(s) that are not ours have appeared at {destination.name} since this run began: "
            + first_few(sorted(paths), _NAMED),
            hint="run it again if they are the same files; set S3_SYNC_TRANSFER_CONFIG__FORCE=true to replace them, "
            "or choose another destination",
            problems=tuple(sorted(paths)),
        )


def refuse_unfinished(plan: Plan) -> None:
    """Raise `ConfigurationError` when files are to join a model that an earlier run has left unsealed."""
    if plan.unfinished:
        raise ConfigurationError(
            f"an earlier run of {len(plan.unfinished)} file(s) ended before it had sealed this model: "
            + first_few(plan.unfinished, _NAMED),
            hint="run it again first, or upload these files too; a whole folder, with a slash behind its name, "
            "replaces the model instead of joining it",
            problems=plan.unfinished,
        )


def refuse_full(plan: Plan, destination: Destination) -> None:
    """Raise `OutOfSpace` when the destination knows its free space and it does not suffice."""
    have = destination.free_bytes()
    need = plan.copy_bytes
    if have is not None and need > have:
        raise OutOfSpace(
            f"the volume of {destination.name} has {printed_bytes(have)} free, {printed_bytes(need)} are needed "
            f"({have} and {need} bytes)",
            hint="make room or take a larger volume; nothing was written",
            stage="plan",
            store=destination.name,
        )


def adopt_equal(plan: Plan, engine: Engine, source: Source, destination: Destination) -> Plan:
    """Read the files to compare on both sides: equal ones are kept from now on, different ones are foreign."""
    here, _ = proof.read_back(engine, source, [step.file for step in plan.compare])
    there, _ = proof.read_back(engine, destination, [step.existing for step in plan.compare if step.existing])
    equal, foreign = [], list(plan.foreign)
    for step in plan.compare:
        path = step.file.path
        found = there.get(path, {}).get("sha256")
        if step.existing is None or found is None or here.get(path, {}).get("sha256") != found:
            foreign.append(path)
            continue
        record = FileRecord(
            path=path,
            size=step.file.size,
            digests=here[path],
            proved_by="readback",
            source_version=step.file.version,
            destination_version=step.existing.version,
        )
        equal.append(record)
    return replace(plan, compare=(), keep=(*plan.keep, *equal), foreign=tuple(sorted(foreign)))
