"""Which source is meant.

Uploaded by hand beats the others, because users flip it in the Secret that they have.  Two other complete sources are
an error: whoever guesses between them copies the wrong model.
"""

from __future__ import annotations

from typing import Final

from syncer.settings.addresses import ArchivePath, DirectoryPath, ImagePath, S3Path, parse_address, parse_endpoint
from syncer.settings.cos import choose_cos, cos_asked, cos_named
from syncer.settings.destination import Chosen
from syncer.settings.hub import choose_hub, hub_asked
from syncer.settings.images import source_image
from syncer.settings.locations import DirectoryLocation, S3Location, SourceLocation, UploadedByHand
from syncer.settings.reading import Reading, aws_keys, source_keys, with_keys
from syncer.settings.repositories import is_hub_address

MISSING: Final = (
    "no source: set S3_SYNC_SRC__PATH (s3://bucket/folder/, hf://owner/name, oci://registry/repository:tag or "
    "/mnt/model), HUGGINGFACE_MODEL, or S3_SYNC_COS_BUCKET with a passcode or an API key, or "
    "S3_SYNC_LOCAL_UPLOAD_COMPLETE=true for a model that was uploaded by hand"
)
_PATH: Final = "S3_SYNC_SRC__PATH"
_HALVES: Final = (
    "S3_SYNC_SRC__ENDPOINT",
    "S3_SYNC_SRC__ACCESS_KEY",
    "S3_SYNC_SRC__SECRET_KEY",
    "S3_SYNC_SRC__REGION",
    "HUGGINGFACE_REVISION",
)


def choose_source(reading: Reading, destination: Chosen) -> SourceLocation | None:
    """The one source that the variables describe; problems are left in `reading`."""
    variables = reading.variables
    if variables.uploaded:
        return UploadedByHand(verify=variables.uploaded_verify)
    asked = _asked(reading)
    if len(asked) > 1:
        reading.problems.append(f"{len(asked)} sources at once: {' and '.join(asked)}; unset all but one")
        return None
    if hub_asked(reading):
        return choose_hub(reading, destination.location)
    if variables.src_path:
        return _located(reading, destination)
    return choose_cos(reading) if cos_named(reading) else None


def is_named(reading: Reading) -> bool:
    """Whether a source is named, be it a wrong one, which is a problem of its own."""
    return cos_named(reading) or any(map(reading.is_set, (_PATH, "HUGGINGFACE_MODEL")))


def require(reading: Reading) -> None:
    """Report that there is no source, and what half of one there is."""
    halves = [name for name in _HALVES if reading.is_set(name)]
    there = f"; {', '.join(halves)} alone names no bucket and no model" if halves else ""
    reading.problems.append(MISSING + there)


def _asked(reading: Reading) -> list[str]:
    """Every complete source by the variable that asks for it; a rest of a former one does not count."""
    asked = []
    if hub := hub_asked(reading):
        asked.append(f"{hub} (Hugging Face)")
    if reading.variables.src_path and not is_hub_address(reading.variables.src_path):
        asked.append(reading.layers.place(_PATH))
    if cos := cos_asked(reading):
        asked.append(f"{cos} (IBM COS)")
    elif asked and cos_named(reading):
        reading.notes.append(f"S3_SYNC_COS_* is not complete and not used; the source is what {asked[0]} says")
    return asked


def _located(reading: Reading, destination: Chosen) -> SourceLocation | None:
    match reading.attempt(_PATH, parse_address, reading.variables.src_path):
        case None:
            return None
        case ImagePath() | ArchivePath() as image:
            return source_image(reading, _PATH, image, validate_tls=reading.variables.src_validate_tls)
        case DirectoryPath(path):
            variables = reading.variables
            return DirectoryLocation(variables.compressed if variables.compress and variables.compressed else path)
        case S3Path(bucket, prefix):
            return _s3(reading, destination, bucket=bucket, prefix=prefix)


def _s3(reading: Reading, destination: Chosen, *, bucket: str, prefix: str) -> S3Location | None:
    variables = reading.variables
    own = source_keys(variables)
    keys, endpoint, endpoint_name, region = own, variables.src_endpoint, "S3_SYNC_SRC__ENDPOINT", variables.src_region
    if not destination.takes_aws and not (own.given or own.session_token):
        # Nobody else uses the AWS names.  With keys of its own the source is another service, which they do not mean.
        keys = aws_keys(variables)
        region = region or variables.aws_region
        if not endpoint:
            endpoint, endpoint_name = variables.aws_endpoint, "AWS_S3_ENDPOINT"
    reading.check_keys(keys)
    if destination.takes_aws and not keys.given and aws_keys(variables).given:
        reading.notes.append(
            "AWS_ACCESS_KEY_ID belongs to the destination; the source has no key of its own and asks the SDK's chain "
            "(IRSA, profile): set S3_SYNC_SRC__ACCESS_KEY if it needs one"
        )
    url = reading.attempt(endpoint_name, parse_endpoint, endpoint) if endpoint else ""
    if url is None:
        return None
    location = S3Location(
        bucket=bucket,
        prefix=prefix,
        endpoint=url,
        region=region,
        validate_tls=variables.src_validate_tls,
        ambient_keys=not destination.takes_aws,
    )
    return with_keys(location, keys)
