"""Which variables a user changes for which end of the copy; errors name them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True)
class End:
    """Names of settings, as text for hints."""

    role: Literal["source", "destination"]
    keys: str
    endpoint: str
    region: str
    path: str

    @property
    def unchecked(self) -> str:
        """The variable that switches the check of a certificate off."""
        return "S3_SYNC_SRC__VALIDATE_TLS" if self.role == "source" else "S3_SYNC_DEST__VALIDATE_TLS"


SOURCE: Final = End(
    role="source",
    keys="S3_SYNC_SRC__ACCESS_KEY and S3_SYNC_SRC__SECRET_KEY",
    endpoint="S3_SYNC_SRC__ENDPOINT",
    region="S3_SYNC_SRC__REGION",
    path="S3_SYNC_SRC__PATH",
)
COS_SOURCE: Final = End(
    role="source",
    keys="S3_SYNC_SRC__ACCESS_KEY and S3_SYNC_SRC__SECRET_KEY",
    endpoint="S3_SYNC_COS_ENDPOINT or S3_SYNC_COS_INSTANCE_REGION",
    region="S3_SYNC_COS_INSTANCE_REGION",
    path="S3_SYNC_COS_BUCKET and S3_SYNC_COS_MODEL_PREFIX",
)
SOURCES: Final[Mapping[str, End]] = {"s3": SOURCE, "cos": COS_SOURCE}
"""By the scheme of the location."""
DESTINATION: Final = End(
    role="destination",
    keys="S3_SYNC_DEST__ACCESS_KEY and S3_SYNC_DEST__SECRET_KEY (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of a data "
    "connection)",
    endpoint="S3_SYNC_DEST__ENDPOINT (AWS_S3_ENDPOINT of a data connection)",
    region="S3_SYNC_DEST__REGION (AWS_DEFAULT_REGION of a data connection)",
    path="S3_SYNC_DEST__PATH (AWS_S3_BUCKET of a data connection)",
)
