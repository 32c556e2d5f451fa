"""The variables of the engine: how much at once, how fast, what proves the bytes, and how many pods share the work."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict

from syncer.settings.defining import variable
from syncer.settings.timetable import Bandwidth
from syncer.settings.values import Count, Digest, Flag, Index, Port, Size

ENGINE: Final = "Engine"
PODS: Final = "Engine: several pods"


class EngineVariables(BaseModel):
    """The variables that say how the bytes move; an unset one lets the engine choose."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, defer_build=True)

    chunk_size: Size = variable(
        "S3_SYNC_TRANSFER_CONFIG__CHUNK_SIZE", None, ENGINE, "Size of one part, such as `15MiB`; the engine's choice"
    )
    max_threads_per_file: Count = variable(
        "S3_SYNC_TRANSFER_CONFIG__MAX_THREADS_PER_FILE", None, ENGINE, "Parts of one file under way at once, at most"
    )
    max_files: Count = variable("S3_SYNC_TRANSFER_CONFIG__MAX_FILES", None, ENGINE, "Files under way at once, at most")
    memory: Size = variable(
        "S3_SYNC_TRANSFER_CONFIG__MEMORY",
        None,
        ENGINE,
        "Memory for bytes on their way and, up to 16 MiB, what carries them, such as `32MiB`; 96 MiB without it",
    )
    bandwidth: Bandwidth = variable(
        "S3_SYNC_TRANSFER_CONFIG__BANDWIDTH",
        None,
        ENGINE,
        "Most bytes a second, such as `200MiB`, or by the time of day, such as `08:00,50MiB 20:00,off`",
    )
    force: Flag = variable("S3_SYNC_TRANSFER_CONFIG__FORCE", False, ENGINE, "Copy every file, changed or not")
    digest: Digest = variable(
        "S3_SYNC_DIGEST",
        "sha256",
        ENGINE,
        "What proves the bytes: `sha256`, or `crc64nvme`, which finds damage but no forgery and costs nearly nothing",
    )
    metrics_port: Port = variable(
        "S3_SYNC_METRICS_PORT", None, ENGINE, "Port on which Prometheus finds the figures of the run; none without it"
    )
    shares: Count = variable(
        "S3_SYNC_SHARES", None, PODS, "Pods that share the work: the `completions` of an Indexed Job"
    )
    share: Index = variable(
        "JOB_COMPLETION_INDEX", None, PODS, "Which of them this pod is, from 0; an Indexed Job sets it"
    )
