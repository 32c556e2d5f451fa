"""What the command line may say about settings: a value for a variable, and nothing that the environment cannot say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any


def _stands_for(variable: str, said_as: str) -> Any:
    return field(default=None, metadata={"variable": variable, "said_as": said_as})


@dataclass(frozen=True, kw_only=True)
class CommandLine:
    """Positional arguments and flags, None where they were not given.  Credentials have no flag, on purpose."""

    source: str | None = _stands_for("S3_SYNC_SRC__PATH", "SRC")
    destination: str | None = _stands_for("S3_SYNC_DEST__PATH", "DEST")
    src_endpoint: str | None = _stands_for("S3_SYNC_SRC__ENDPOINT", "--src-endpoint")
    dest_endpoint: str | None = _stands_for("S3_SYNC_DEST__ENDPOINT", "--dest-endpoint")
    src_region: str | None = _stands_for("S3_SYNC_SRC__REGION", "--src-region")
    dest_region: str | None = _stands_for("S3_SYNC_DEST__REGION", "--dest-region")
    src_validate: bool | None = _stands_for("S3_SYNC_SRC__VALIDATE_TLS", "--[no-]src-validate")
    dest_validate: bool | None = _stands_for("S3_SYNC_DEST__VALIDATE_TLS", "--[no-]dest-validate")
    tls_verify: bool | None = _stands_for("OCI_VALIDATE_TLS", "--[no-]tls-verify")
    max_threads_per_file: str | int | None = _stands_for(
        "S3_SYNC_TRANSFER_CONFIG__MAX_THREADS_PER_FILE", "--max-threads-per-file"
    )
    max_files: str | int | None = _stands_for("S3_SYNC_TRANSFER_CONFIG__MAX_FILES", "--max-files")
    chunk_size: str | int | None = _stands_for("S3_SYNC_TRANSFER_CONFIG__CHUNK_SIZE", "--chunk-size")
    force: bool | None = _stands_for("S3_SYNC_TRANSFER_CONFIG__FORCE", "--force")

    def given(self) -> Iterator[tuple[str, str, str]]:
        """The variable that each given value stands for, how it was said, and the value as text."""
        for each in fields(self):
            said_as = each.metadata["said_as"]
            match getattr(self, each.name):
                case None:
                    continue
                case bool() as value:
                    text, said_as = ("true" if value else "false"), said_as.replace("[no-]", "" if value else "no-")
                case value:
                    text = str(value)
            yield each.metadata["variable"], said_as, text
