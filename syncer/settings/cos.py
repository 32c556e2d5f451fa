"""IBM Cloud Object Storage as the source: which bucket, at which host, with which credentials.

Passcode and API key become a bearer token of IBM's IAM; HMAC keys make it an S3 bucket like any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from syncer.settings.addresses import bucket_name, object_key, parse_endpoint
from syncer.settings.locations import CosLocation, S3Location
from syncer.settings.reading import Keys, Reading, source_keys, with_keys
from syncer.settings.regions import bare_region, endpoint_of, parse_region

_CHOSEN: Final = "S3_SYNC_USE_IBMCLOUD_CLI"
_BUCKET: Final = "S3_SYNC_COS_BUCKET"
_CRN: Final = "S3_SYNC_COS_INSTANCE_CRN"
_PREFIX: Final = "S3_SYNC_COS_MODEL_PREFIX"
_REGION: Final = "S3_SYNC_COS_INSTANCE_REGION"
_ENDPOINT: Final = "S3_SYNC_COS_ENDPOINT"
_PASSCODE: Final = "S3_SYNC_COS_TEMPORARY_PASSCODE"
_API_KEY: Final = "S3_SYNC_COS_API_KEY"
_IAM: Final = "S3_SYNC_COS_IAM_ENDPOINT"
_CACHE: Final = "S3_SYNC_COS_TOKEN_CACHE"
_DESCRIBE: Final = (_BUCKET, _CRN, _PREFIX, _REGION, _ENDPOINT, _PASSCODE, _API_KEY)
"""What says that a source is meant.  The other names say how to reach IBM, and may stand in a Job for any source."""

_OF_S3: Final = ("S3_SYNC_SRC__ENDPOINT", "S3_SYNC_SRC__REGION")
_CRN_FORM: Final = re.compile(
    r"crn:v1:[^:]+:[^:]+:cloud-object-storage:[^:]*:a/[^:]+:[^:]+:(?:bucket:(?P<bucket>[^:]+)|:)"
)
_PATHS_OF_IAM: Final = frozenset({"", "/identity", "/identity/token", "/oidc", "/oidc/token"})


def cos_named(reading: Reading) -> bool:
    """Whether any variable that describes a bucket of IBM COS is set, be it to nonsense."""
    return reading.variables.cos_chosen or any(map(reading.is_set, _DESCRIBE))


def cos_asked(reading: Reading) -> str:
    """The variable that asks for IBM COS: its switch, or all that a login to a bucket needs; else empty."""
    variables = reading.variables
    if variables.cos_chosen:
        return reading.layers.place(_CHOSEN)
    bucket = _BUCKET if variables.cos_bucket else _CRN if ":bucket:" in variables.cos_crn else ""
    return reading.layers.place(bucket) if bucket and (variables.cos_passcode or variables.cos_api_key) else ""


def choose_cos(reading: Reading) -> CosLocation | S3Location | None:
    """The bucket that the variables describe; None when there are problems, which are left in `reading`."""
    variables = reading.variables
    before = len(reading.problems)
    bucket, prefix = _bucket(reading), reading.attempt(_PREFIX, object_key, variables.cos_prefix)
    endpoint = _endpoint(reading)
    iam = reading.attempt(_IAM, _iam_endpoint, variables.cos_iam_endpoint)
    token = reading.is_set(_PASSCODE) or reading.is_set(_API_KEY)
    keys = source_keys(variables)
    if token:
        _check_token(reading, endpoint=endpoint, iam=iam)
    else:
        _check_hmac(reading, keys)
    if (cache := variables.cos_token_cache) is not None:
        _check_cache(reading, cache)
    _note_unused(reading, keys, token=token)
    if bucket is None or prefix is None or endpoint is None or iam is None or len(reading.problems) > before:
        return None
    place = S3Location(
        bucket=bucket,
        prefix=prefix,
        endpoint=endpoint,
        region=bare_region(variables.cos_region),
        validate_tls=variables.src_validate_tls,
        ambient_keys=False,
        scheme="cos",
    )
    if not token:
        return with_keys(place, keys) if keys.given else None
    if not (variables.cos_passcode or variables.cos_api_key):
        return None  # it is there and makes no sense, which is a problem already
    return CosLocation(
        bucket=place,
        passcode=variables.cos_passcode,
        api_key=variables.cos_api_key,
        iam_endpoint=iam,
        token_cache=cache if variables.cos_passcode else None,
        plaintext_tokens=variables.plaintext_tokens,
    )


def _bucket(reading: Reading) -> str | None:
    variables = reading.variables
    crn = reading.attempt(_CRN, _bucket_of_crn, variables.cos_crn) if variables.cos_crn else ""
    bucket = reading.attempt(_BUCKET, bucket_name, variables.cos_bucket) if variables.cos_bucket else ""
    if crn is None or bucket is None:
        return None
    if bucket and crn and bucket != crn:
        one, other = reading.layers.place(_BUCKET), reading.layers.place(_CRN)
        reading.problems.append(f"{one} and {other} name different buckets; correct one of them or unset it")
        return None
    if not (bucket or crn) and not reading.is_set(_BUCKET):
        reading.problems.append(f"no bucket for IBM COS: set {_BUCKET}, or {_CRN} to the CRN of a bucket")
    return bucket or crn or None


def _bucket_of_crn(text: str) -> str:
    """The bucket that a CRN names; empty for an instance's."""
    found = _CRN_FORM.fullmatch(text)
    if found is None:
        raise ValueError(
            "must be the CRN of a bucket (crn:v1:bluemix:public:cloud-object-storage:global:a/ACCOUNT:INSTANCE:"
            "bucket:NAME) or of an instance (the same with :: behind INSTANCE)"
        )
    return bucket_name(found["bucket"]) if found["bucket"] else ""


def _endpoint(reading: Reading) -> str | None:
    variables = reading.variables
    if variables.cos_endpoint:
        return reading.attempt(_ENDPOINT, parse_endpoint, variables.cos_endpoint)
    if variables.cos_region:
        region = reading.attempt(_REGION, parse_region, variables.cos_region)
        return None if region is None else endpoint_of(region, variables.cos_endpoint_type)
    if not reading.is_set(_REGION) and not reading.is_set(_ENDPOINT):
        reading.problems.append(
            f"no region for IBM COS: set {_REGION} to the bucket's location, such as us-south or us-geo, or {_ENDPOINT}"
        )
    return None


def _iam_endpoint(text: str) -> str:
    """IAM's URL without the path of its calls, which the documentation shows and people paste."""
    endpoint = parse_endpoint(text)
    path = urlsplit(endpoint).path
    if path not in _PATHS_OF_IAM:
        raise ValueError("must be a URL without a path, such as https://iam.cloud.ibm.com")
    return endpoint.removesuffix(path)


def _check_token(reading: Reading, *, endpoint: str | None, iam: str | None) -> None:
    variables = reading.variables
    if variables.cos_passcode and variables.cos_api_key:
        one, other = reading.layers.place(_PASSCODE), reading.layers.place(_API_KEY)
        reading.problems.append(f"{one} and {other} are both set; unset one of them")
    reading.check_token(_PASSCODE, variables.cos_passcode, "passcode")
    reading.check_token(_API_KEY, variables.cos_api_key, "API key")
    reading.check_plaintext(_ENDPOINT, endpoint or "")
    reading.check_plaintext(_IAM, iam or "")


def _check_hmac(reading: Reading, keys: Keys) -> None:
    reading.check_keys(keys)
    if not any(map(reading.is_set, (keys.access_name, keys.secret_name, keys.token_name))):
        reading.problems.append(
            f"no credentials for IBM COS: set {_PASSCODE}, or {_API_KEY} of a service ID, or {keys.access_name} and "
            f"{keys.secret_name} for HMAC keys"
        )


def _check_cache(reading: Reading, cache: Path) -> None:
    place = reading.layers.place(_CACHE)
    if not reading.is_set(_PASSCODE):
        reading.notes.append(f"{place} is not used: only the login by a passcode needs it")
    elif _is_folder(cache):
        reading.problems.append(f"{place} must name a file, not a folder")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _note_unused(reading: Reading, keys: Keys, *, token: bool) -> None:
    unused = list(_unused(reading, keys, token=token))
    if unused:
        reading.notes.append(f"not used, since the source is IBM COS: {', '.join(unused)}")


def _unused(reading: Reading, keys: Keys, *, token: bool) -> Iterator[str]:
    """The rest of a former S3 source."""
    names = (keys.access_name, keys.secret_name, keys.token_name, *_OF_S3) if token else _OF_S3
    return (reading.layers.place(name) for name in names if reading.is_set(name))
