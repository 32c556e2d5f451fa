"""Which of the destination's forms is meant, and what it says.

The explicit form stands alone.  Otherwise it is the first of the pipeline's, the data connection and the
ObjectBucketClaim, and the images of `OCI_IMAGE` beside it or alone.  The two AWS keys go to whichever S3 form is used,
and nothing else crosses from one form to another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from syncer.settings.addresses import (
    ArchivePath,
    DirectoryPath,
    ImagePath,
    S3Path,
    bucket_name,
    folder_key,
    host_endpoint,
    parse_address,
    parse_endpoint,
)
from syncer.settings.images import IMAGE, explicit_image, pipeline_images
from syncer.settings.locations import ArchiveLocation, DestinationLocation, DirectoryLocation, ImageLocation, S3Location
from syncer.settings.reading import Keys, Reading, aws_keys, destination_keys, with_keys
from syncer.settings.tasks import IMAGE_TASK, S3_TASK

MISSING: Final = (
    "no destination: set S3_SYNC_DEST__PATH (s3://bucket/folder/, oci://registry/repository:tag or /mnt/models), or "
    "AWS_S3_BUCKET, BUCKET_NAME or S3_BUCKET of a Secret that describes a bucket, or OCI_IMAGE"
)
_PATH: Final = "S3_SYNC_DEST__PATH"
_OF_EXPLICIT_FORM: Final = (
    "S3_SYNC_DEST__ENDPOINT",
    "S3_SYNC_DEST__REGION",
    "S3_SYNC_DEST__ACCESS_KEY",
    "S3_SYNC_DEST__SECRET_KEY",
    "S3_SYNC_DEST__SESSION_TOKEN",
)


@dataclass(frozen=True)
class Chosen:
    """The destinations, and whether the `AWS_*` variables went into one (then the source must not have them).

    `skipped` says that there are some, and that `SKIP_TASKS` names the task of each.
    """

    location: DestinationLocation | None
    takes_aws: bool = False
    further: tuple[DestinationLocation, ...] = ()
    skipped: bool = False

    @property
    def locations(self) -> tuple[DestinationLocation, ...]:
        """All of them, the first one first."""
        return () if self.location is None else (self.location, *self.further)


def choose_destination(reading: Reading, *, skip: frozenset[str] = frozenset()) -> Chosen:
    """The destinations that the variables describe, without those of tasks to `skip`; problems stay in `reading`."""
    variables = reading.variables
    chosen = _choose(reading)
    images: list[DestinationLocation] = []
    if variables.oci_image and not variables.dest_path and IMAGE_TASK not in skip:
        before = len(reading.problems)
        images += pipeline_images(reading)
        if not images and len(reading.problems) == before:
            reading.problems.append(f"{reading.layers.place(IMAGE)} names no image")
    found = (*chosen.locations, *images)
    left = tuple(location for location in found if not _is_skipped(location, skip))
    if not left:
        return replace(chosen, skipped=bool(found or variables.oci_image))
    if len(left) > 1:
        reading.notes.insert(0, f"{len(left)} destinations are written: {', '.join(each.uri for each in left)}")
    return replace(chosen, location=left[0], further=left[1:])


def _is_skipped(location: DestinationLocation, skip: frozenset[str]) -> bool:
    match location:
        case S3Location():
            return S3_TASK in skip
        case ImageLocation() | ArchiveLocation():
            return IMAGE_TASK in skip
        case _:
            return False


def _choose(reading: Reading) -> Chosen:
    """The explicit form, or the first that describes a bucket."""
    variables = reading.variables
    forms: list[tuple[str, str, Callable[[Reading], Chosen]]] = [
        (_PATH, variables.dest_path, _explicit),
        ("S3_BUCKET", variables.pipeline_bucket, _pipeline),
        ("AWS_S3_BUCKET", variables.aws_bucket, _data_connection),
        ("BUCKET_NAME", variables.claim_bucket, _bucket_claim),
    ]
    present = [(name, form) for name, text, form in forms if text]
    if not present:
        return Chosen(None)
    (name, form), *others = present
    chosen = form(reading)
    unused = [other for other, _ in others] + (["OCI_IMAGE"] if name == _PATH and variables.oci_image else [])
    if unused:
        reading.notes.append(
            f"the destination is what {reading.layers.place(name)} says; not used: {', '.join(unused)}"
        )
    if name != _PATH:
        _note_halves(reading, chosen_by=name)
    return chosen


def require(reading: Reading) -> None:
    """Report that there is no destination, and what half of one there is."""
    halves = [name for name in (*_OF_EXPLICIT_FORM, "AWS_S3_ENDPOINT", "BUCKET_HOST") if reading.is_set(name)]
    there = f"; {', '.join(halves)} alone names no bucket" if halves else ""
    reading.problems.append(MISSING + there)


def _explicit(reading: Reading) -> Chosen:
    variables = reading.variables
    address = reading.attempt(_PATH, parse_address, variables.dest_path)
    match address:
        case None:
            return Chosen(None)
        case ImagePath() | ArchivePath() as image:
            return Chosen(explicit_image(reading, _PATH, image, validate_tls=variables.dest_validate_tls))
        case DirectoryPath(path):
            return Chosen(DirectoryLocation(path))
        case S3Path(bucket, prefix, bare):
            key = reading.attempt(_PATH, folder_key, prefix)
            folder = _default_directory(reading) if bare else key
            own = destination_keys(variables)
            keys = own if own.given or own.session_token else aws_keys(variables)
            if variables.aws_endpoint and not variables.dest_endpoint:
                reading.notes.append(
                    f"S3_SYNC_DEST__ENDPOINT is not set, so {reading.layers.place(_PATH)} is on AWS itself; "
                    "AWS_S3_ENDPOINT belongs to another form and is not used"
                )
            location = _location(
                reading,
                bucket=bucket,
                folder=folder,
                endpoint=_endpoint(reading, "S3_SYNC_DEST__ENDPOINT", variables.dest_endpoint),
                region=variables.dest_region,
                keys=keys,
            )
            return Chosen(location, takes_aws=keys is not own and keys.given)


def _pipeline(reading: Reading) -> Chosen:
    variables = reading.variables
    name = reading.attempt("MODEL_NAME", folder_key, variables.model_name)
    version = reading.attempt("MODEL_VERSION", folder_key, variables.model_version)
    if name == "":
        reading.problems.append(
            "S3_BUCKET is set but MODEL_NAME is missing: the folder is model-data/MODEL_NAME/VERSION/"
        )
    endpoint = _endpoint(reading, "S3_ENDPOINT_URL", variables.pipeline_endpoint)
    return _connected(
        reading, "S3_BUCKET", variables.pipeline_bucket, f"model-data/{name}/{version}", endpoint=endpoint
    )


def _data_connection(reading: Reading) -> Chosen:
    variables = reading.variables
    return _connected(
        reading,
        "AWS_S3_BUCKET",
        variables.aws_bucket,
        _default_directory(reading),
        endpoint=_endpoint(reading, "AWS_S3_ENDPOINT", variables.aws_endpoint),
        region=variables.aws_region,
    )


def _bucket_claim(reading: Reading) -> Chosen:
    variables = reading.variables
    endpoint: str | None = ""
    if reading.from_command_line("S3_SYNC_DEST__ENDPOINT"):
        endpoint = None  # `_connected` takes that one
    elif not variables.claim_host:
        reading.problems.append("BUCKET_NAME is set but BUCKET_HOST is missing")
    else:
        name = "BUCKET_HOST"
        try:
            endpoint = host_endpoint(variables.claim_host, variables.claim_port)
        except ValueError as error:
            name = "BUCKET_PORT" if "port from" in str(error) else name
            reading.problems.append(f"{reading.layers.place(name)} {error}")
    return _connected(
        reading,
        "BUCKET_NAME",
        variables.claim_bucket,
        _default_directory(reading),
        endpoint=endpoint,
        region=variables.claim_region,
    )


def _connected(
    reading: Reading, name: str, bucket: str, folder: str | None, *, endpoint: str | None, region: str = ""
) -> Chosen:
    """A form whose bucket is variable `name`, with the AWS keys."""
    variables = reading.variables
    keys = aws_keys(variables)
    if not keys.given:
        # The Secret may be mounted beside a ConfigMap that says the rest.
        folders = reading.layers.folders
        own = destination_keys(variables)
        if {own.access_name, own.secret_name} <= folders.keys():
            keys = own
    if reading.from_command_line("S3_SYNC_DEST__ENDPOINT"):
        endpoint = _endpoint(reading, "S3_SYNC_DEST__ENDPOINT", variables.dest_endpoint)
    if reading.from_command_line("S3_SYNC_DEST__REGION"):
        region = variables.dest_region
    sound = reading.attempt(name, bucket_name, bucket)
    location = None
    if sound is not None:
        location = _location(reading, bucket=sound, folder=folder, endpoint=endpoint, region=region, keys=keys)
    return Chosen(location, takes_aws=True)


def _location(
    reading: Reading, *, bucket: str, folder: str | None, endpoint: str | None, region: str, keys: Keys
) -> S3Location | None:
    reading.check_keys(keys)
    if folder is None or endpoint is None:
        return None  # the problem is known already
    prefix = f"{folder}/" if folder else ""
    location = S3Location(
        bucket=bucket,
        prefix=prefix,
        endpoint=endpoint,
        region=region,
        validate_tls=reading.variables.dest_validate_tls,
    )
    return with_keys(location, keys)


def _default_directory(reading: Reading) -> str | None:
    name = "S3_SYNC_DEST__DEFAULT_DIRECTORY"
    key = reading.attempt(name, _folder_below_bucket, reading.variables.dest_default_directory)
    if key == "":
        reading.problems.append(f"{reading.layers.place(name)} must name a folder; s3://bucket/ says the bucket's root")
    return key


def _folder_below_bucket(text: str) -> str:
    address = parse_address(f"s3://bucket/{text}")
    return folder_key(address.prefix) if isinstance(address, S3Path) else ""


def _endpoint(reading: Reading, name: str, text: str) -> str | None:
    return reading.attempt(name, parse_endpoint, text) if text else ""


def _note_halves(reading: Reading, *, chosen_by: str) -> None:
    halves = [name for name in _OF_EXPLICIT_FORM if reading.is_set(name) and name in reading.layers.environment]
    if halves:
        reading.notes.append(
            f"not used without S3_SYNC_DEST__PATH: {', '.join(halves)}; the destination is what {chosen_by} says"
        )
