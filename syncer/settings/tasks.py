"""`SKIP_TASKS`: which stages to leave out, by their own names or by those of the pipelines' tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from syncer.settings.values import StageName

STAGES: Final = frozenset({"download", "compress", "upload", "register"})
_STAGE_OF_TASK: Final = {
    "pull-model-from-huggingface": "download",
    "compress-model": "compress",
    "register-with-registry": "register",
}
S3_TASK: Final = "upload-model-to-s3"
IMAGE_TASK: Final = "build-and-push-modelcar"
_OF_ONE_DESTINATION: Final = frozenset({S3_TASK, IMAGE_TASK})
_CONCERNS: Final[Mapping[StageName, frozenset[str]]] = {
    "download": frozenset({"download"}),
    "compress": frozenset({"compress"}),
    "upload": frozenset({"upload", "register"}) | _OF_ONE_DESTINATION,
    "register": frozenset({"register"}) | _OF_ONE_DESTINATION,
}
"""What each step of a pipeline has to do itself; who uploads also tells the registry what is on its way."""
_LONGEST: Final = 60


def read_tasks(text: str) -> tuple[frozenset[str], list[str]]:
    """The stages, and the tasks that stand for one destination alone; then one note for every unknown name."""
    skip, notes = set(), []
    for name in dict.fromkeys(part.strip() for part in text.split(",")):
        match name.lower():
            case "":
                continue
            case task if task in _STAGE_OF_TASK:
                skip.add(_STAGE_OF_TASK[task])
            case task if task in STAGES or task in _OF_ONE_DESTINATION:
                skip.add(task)
            case _:
                printed = ascii(name[:_LONGEST])[1:-1]
                known = ", ".join(sorted(STAGES | _STAGE_OF_TASK.keys() | _OF_ONE_DESTINATION))
                notes.append(f"SKIP_TASKS names {printed}, which is no stage and no task; known are {known}")
    return frozenset(skip), notes


def of_stage(skip: frozenset[str], stage: StageName) -> frozenset[str]:
    """What of `skip` concerns the step of one `stage`; all of it where a run is all stages in one."""
    return skip & _CONCERNS[stage] if stage else skip
