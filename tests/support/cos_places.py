"""Locations of the fake IBM Cloud, and the redactor that its tests keep to themselves."""

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from syncer import redaction
from syncer.settings.locations import CosLocation, S3Location
from tests.support.fake_iam import FakeIam


@contextlib.contextmanager
def own_redactor() -> Iterator[redaction.Redactor]:
    """Every login brings secrets of its own, and hiding the ones of all tests takes longer and longer."""
    with pytest.MonkeyPatch.context() as patch:
        redactor = redaction.Redactor()
        patch.setattr(redaction, "_OF_THIS_PROCESS", redactor)
        yield redactor


def file_in_memory() -> Path:
    """A path for a new file on a memory-backed volume; a visible skip where there is none."""
    kinds = {line.split()[1]: line.split()[2] for line in Path("/proc/mounts").read_text().splitlines()}
    if kinds.get("/dev/shm") != "tmpfs":
        pytest.skip("/dev/shm is no tmpfs on this machine")
    return Path("/dev/shm") / f"syncer-test-{secrets.token_hex(8)}"


def cos_location(
    iam: FakeIam,
    endpoint: str = "http://127.0.0.1:9",
    *,
    bucket: str = "b",
    prefix: str = "m/",
    passcode: str = "",
    api_key: str = "",
    token_cache: Path | None = None,
) -> CosLocation:
    """A location with the given secret, or with a new passcode."""
    passcode = passcode or ("" if api_key else iam.new_passcode())
    return CosLocation(
        bucket=S3Location(bucket, prefix, endpoint, ambient_keys=False, scheme="cos"),
        passcode=SecretStr(passcode) if passcode else None,
        api_key=SecretStr(api_key) if api_key else None,
        iam_endpoint=iam.url,
        token_cache=token_cache,
        plaintext_tokens=True,
    )
