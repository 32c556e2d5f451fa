"""IBM's IAM and the Model Registry."""

from functools import cache
from typing import Final

from pydantic import SecretStr

from syncer.errors import SyncerError
from syncer.registration.entries import change, ensure_artifact, ensure_model, ensure_version
from syncer.registration.rest import Rest
from syncer.settings.locations import (
    CosLocation,
    RegistryLocation,
)
from syncer.stores.cos.iam import Iam
from tests.fuzz.air import UNKEPT
from tests.fuzz.answers import AIR, BUCKET, NO_NETWORK, answer, told
from tests.fuzz.mutation import NEXT
from tests.fuzz.target import Target, Violated

_TOKENS: Final = {
    "access_token": "eyJ.abc.def",
    "refresh_token": "refresh",
    "token_type": "Bearer",
    "expires_in": 3600,
    "expiration": 1700000000,
    "scope": "ibm openid",
}
_NO_TOKENS: Final = {"errorCode": "BXNIM0415E", "errorMessage": "Provided API key could not be found", "context": {}}


@cache
def _iam() -> Iam:
    location = CosLocation(BUCKET, api_key=SecretStr("key"), iam_endpoint="https://iam.example")
    return Iam(location, NO_NETWORK, timeouts=UNKEPT)


def _grants(data: bytes) -> None:
    iam = _iam()
    first: SyncerError | None = None
    for grant in (iam.by_passcode, iam.by_refresh_token, iam.by_api_key):
        with AIR.answering(data):
            try:
                tokens = grant("secret")
            except SyncerError as error:
                first = first or error
                continue
            if not 0 < tokens.seconds < 1e9 or not tokens.access.isprintable():
                raise Violated(f"tokens that live for {tokens.seconds!r:.100} s")
    if first is not None:
        raise first


_MODEL_ENTRY: Final = {
    "id": "1",
    "name": "model",
    "state": "LIVE",
    "customProperties": {"source": {"metadataType": "MetadataStringValue", "string_value": "x"}},
    "createTimeSinceEpoch": "1700000000000",
}
_ITEMS: Final = {"items": [_MODEL_ENTRY | {"artifactType": "model-artifact"}], "size": 1, "nextPageToken": ""}


def _registered(data: bytes) -> None:
    location = RegistryLocation("https://registry.example", "model", "1", token=SecretStr("token"))
    rest = Rest(location, NO_NETWORK, timeouts=UNKEPT)
    with AIR.answering(data):
        model = ensure_model(rest, "model", {"description": "d"})
        version = ensure_version(rest, rest.number(model), "1", {})
        artifact, _ = ensure_artifact(rest, rest.number(version), "model", {})
        ours = {"source": {"metadataType": "MetadataStringValue", "string_value": "y"}}
        change(rest, f"model_artifacts/{rest.number(artifact)}", artifact, {"customProperties": ours, "uri": "s3://x"})


TARGETS: Final = (
    Target(
        "iam", _grants, (told(_TOKENS), told(_NO_TOKENS, status=400), told(_NO_TOKENS, "Retry-After: 5", status=429))
    ),
    Target(
        "model-registry",
        _registered,
        (
            told({"items": [], "size": 0})
            + NEXT
            + told(_MODEL_ENTRY)
            + NEXT
            + told(_MODEL_ENTRY)
            + NEXT
            + told(_ITEMS)
            + NEXT
            + told(_MODEL_ENTRY),
            told({"items": []})
            + NEXT
            + told({"code": "404", "message": "no"}, status=404)
            + NEXT
            + told(_MODEL_ENTRY, status=201)
            + NEXT
            + told({"message": "already exists"}, status=409)
            + NEXT
            + told(_MODEL_ENTRY)
            + NEXT
            + told(_ITEMS | {"nextPageToken": "n"})
            + NEXT
            + told({"items": []})
            + NEXT
            + told(_MODEL_ENTRY, status=201)
            + NEXT
            + told(_MODEL_ENTRY),
            answer(b"<html>", "Location: https://login.example/", status=302, kind="text/html"),
        ),
    ),
)
