"""What an earlier run of ours left where others can write."""

import json
import os
from typing import Final

from syncer.journal import recover
from syncer.lease import Holder
from syncer.logs import redact
from syncer.manifest import Listing, ModelFile
from syncer.marker import dump_json, parse_json, read_manifest, read_seal, record_texts
from syncer.plan import Options, keep_all, make_plan
from syncer.sharing.board import read_notice, read_plan
from syncer.stores.directory.parts import read_record
from syncer.stores.oci.control import Held, seal_of
from syncer.stores.oci.leftovers import finished
from syncer.stores.protocols import Limits
from tests.fuzz.target import Target, Violated, scratch


class Control:
    """A control folder in which every file has the same content."""

    conditional = True

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, name: str) -> tuple[bytes, str] | None:
        return self._data, "v"

    def names(self, below: str = "") -> list[str]:
        return [f"{below}{number}.json" for number in range(2)]

    def write(self, name: str, data: bytes, *, expected: str | None = None) -> str:
        raise AssertionError(name)

    def remove(self, name: str) -> None:
        raise AssertionError(name)


_LISTING: Final = Listing(
    {
        "config.json": ModelFile("config.json", 10, "v1"),
        "model.safetensors": ModelFile("model.safetensors", 100 << 20, "v2", {"sha256": "a" * 64}),
    }
)


def _control_files(data: bytes) -> None:
    """Everything that is done with control files before anything is written: a plan of a run, and of a look."""
    control = Control(data)
    manifest, seal, recovered = read_manifest(control, _LISTING), read_seal(control), recover(control)
    if manifest is not None:
        dump_json(manifest.to_json(record_texts))
        seal_of(manifest)
        redact(f"{manifest.source} {manifest.known_revision} {manifest.total_bytes} {manifest.fingerprint}")
    if seal is not None:
        json.loads(json.dumps(seal.to_json(), allow_nan=False))
    for join in (False, True):
        plan = make_plan(
            _LISTING,
            _LISTING,
            source="hf://owner/name",
            previous=manifest,
            recovered=recovered,
            limits=Limits(most_parts=10_000, smallest_part=5 << 20),
            options=Options(join=join, delete="recorded"),
        )
        dump_json({"keep": [record.to_json() for record in plan.keep]})
        for step in (*plan.copy, *plan.compare, *plan.prove):
            if step.cut.count > 10_000 or step.cut.part_size < 1:
                raise Violated(f"a file cut into {step.cut.count!r:.100} parts")
    keep_all(_LISTING, manifest)
    document = parse_json(data)
    if document is not None:
        holder = Holder.of(document)
        holder.is_gone()
        redact(f"{holder.name} {holder.pid}")


def _parts_record(data: bytes) -> None:
    folder = scratch() / "state"
    folder.mkdir(exist_ok=True)
    token = "partial-01234567-model"
    (folder / "parts-01234567-model").write_bytes(data)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        record = read_record(token, descriptor)
    finally:
        os.close(descriptor)
    if record is not None and any(not 0 <= number < record.cut.count for number in record.done):
        raise Violated("a part that there is not")


def _shared(data: bytes) -> None:
    """A notice, and a plan that says how the work is shared."""
    control = Control(data)
    read_notice(control)
    plan = read_plan(control, "1-a")
    if plan is None:
        return
    plan.is_of(_LISTING, source="hf://owner/name", revision="main", count=2, forced=False)
    carried = [plan.files[path].file.size for portion in plan.portions for path in portion.whole]
    carried += [piece.bytes(plan.files[piece.path].cut) for portion in plan.portions for piece in portion.ranges]
    if sum(carried) != sum(each.file.size for each in plan.files.values()):
        raise Violated("bytes that no pod carries, or two of them")


def _leftovers(data: bytes) -> None:
    held: Held = {"state/plan.json": data, "state/done/1.json": data}
    for record in finished(held).values():
        json.dumps(record.to_json())


_RECORD: Final = {
    "path": "config.json",
    "size": 10,
    "digests": {"sha256": "a" * 64},
    "proved_by": "stream",
    "source_version": "v1",
    "destination_version": "v1",
}
_MANIFEST: Final = {
    "format": 1,
    "source": "hf://owner/name",
    "revision": "main",
    "fingerprint": "sha256:" + "a" * 64,
    "files": [_RECORD, {**_RECORD, "path": "model.safetensors", "size": 100 << 20, "destination_version": "v2"}],
    "left": [{**_RECORD, "path": "old.bin"}],
    "origin": {"source": "s3://a/b", "revision": "r", "recipe": "", "inputs": ""},
}
_SEAL: Final = {
    "format": 1,
    "manifest": "sha256:" + "a" * 64,
    "source": "hf://owner/name",
    "revision": "main",
    "files": 2,
    "bytes": 20,
    "seconds": 1.5,
    "completed_at": "2024-01-01T00:00:00Z",
    "tool": "syncer 1",
    "registry": {"RegisteredModel": "1"},
}
_PLAN: Final = {"format": 1, "source": "hf://owner/name", "paths": ["config.json", "model.safetensors"]}
_DONE: Final = {"format": 1, "source": "hf://owner/name", "files": [_RECORD], "paths": ["config.json"]}
_OPEN: Final = {
    "format": 1,
    "path": "model.safetensors",
    "token": "t",
    "part_size": 16 << 20,
    "size": 100 << 20,
    "source_version": "v2",
    "source": "hf://owner/name",
    "paths": [],
}
_LEASE: Final = {"format": 1, "holder": "h", "host": "x", "pid": 5, "started": "1", "name": "pod", "beat": 3}
_SHARED: Final = {
    "format": 1,
    "run": "1-a",
    "source": "hf://owner/name",
    "revision": "main",
    "count": 2,
    "rule": 1,
    "holder": "h",
    "apart": True,
    "read_back": 0.0,
    "forced": False,
    "files": [["config.json", 10, "v1", 16 << 20, "", 1], ["model.safetensors", 100 << 20, "v2", 16 << 20, "t", 0]],
}
_STATES: Final = tuple(json.dumps(each).encode() for each in (_MANIFEST, _SEAL, _PLAN, _DONE, _OPEN, _LEASE))

_PARTS_SEED: Final = (
    json.dumps({"format": 1, "path": "model", "version": "v", "size": 100, "part_size": 10}).encode() + b"\n0,1\n2\n"
)


TARGETS: Final = (
    Target("control-files", _control_files, _STATES),
    Target("parts-record", _parts_record, (_PARTS_SEED,)),
    Target("shared-plans", _shared, (json.dumps(_SHARED).encode(),)),
    Target("oci-leftovers", _leftovers, _STATES),
)
