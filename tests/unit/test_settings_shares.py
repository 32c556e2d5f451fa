"""What several pods cannot share is refused before any of them begins, all of it at once."""

import pytest

from syncer.errors import ConfigurationError
from syncer.settings import load

PODS = {"S3_SYNC_SHARES": "8", "JOB_COMPLETION_INDEX": "3"}
FROM = {"S3_SYNC_SRC__PATH": "/mnt/source"}
KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
}
BUCKET = {"AWS_S3_ENDPOINT": "https://s3.openshift-storage.svc", "AWS_S3_BUCKET": "demo", **KEYS}
IMAGE = {"OCI_IMAGE": "quay.io/org/model:1"}
PASSCODE = {
    "S3_SYNC_COS_BUCKET": "NAME",
    "S3_SYNC_COS_INSTANCE_REGION": "us-south",
    "S3_SYNC_COS_TEMPORARY_PASSCODE": "AbCdEfG123",
}
COMPRESSED = {"COMPRESS_MODEL": "true", "COMPRESSION_SCHEME": "FP8_DYNAMIC", "S3_SYNC_SCRATCH_DIR": "/mnt/scratch"}


def problems(environ: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as refused:
        load(environ)
    return refused.value.problems


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        (FROM | IMAGE, "an image is pushed by one pod"),
        (FROM | {"S3_SYNC_DEST__PATH": "oci-archive:/mnt/model.tar"}, "an image is pushed by one pod"),
        (PASSCODE | BUCKET, "S3_SYNC_COS_API_KEY"),
        (FROM | BUCKET | COMPRESSED, "COMPRESS_MODEL"),
    ],
)
def test_what_one_pod_has_to_do_alone_is_refused_to_several(environ: dict[str, str], says: str) -> None:
    load(environ | {"S3_SYNC_SHARES": "1"})
    (problem,) = problems(environ | PODS)
    assert problem.startswith("S3_SYNC_SHARES: ")
    assert says in problem


def test_all_of_it_is_told_at_once() -> None:
    told = problems(PASSCODE | BUCKET | IMAGE | PODS)
    assert len(told) == 3
    assert "not for 2" in told[0]


def test_who_only_looks_has_nothing_to_share() -> None:
    assert load(FROM | BUCKET | IMAGE | PODS, needs_source=False).share is not None
