"""Registries of images: challenges and tokens, manifests, blobs, uploads."""

import hashlib
from typing import Final

from pydantic import SecretStr

from syncer.settings.locations import (
    ImageLocation,
    RegistryLogin,
)
from syncer.stores.oci.destination import OciDestination
from syncer.stores.oci.documents import Descriptor
from syncer.stores.oci.reading import small_blob
from syncer.stores.oci.registry import Registry
from tests.fuzz.air import ONCE, UNKEPT
from tests.fuzz.answers import AIR, NO_NETWORK, answer, drain, told
from tests.fuzz.mutation import NEXT
from tests.fuzz.target import Target, Violated, check_listing

_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_DIGEST = f"sha256:{hashlib.sha256(b'{}').hexdigest()}"
_MANIFEST: Final = {
    "schemaVersion": 2,
    "mediaType": _MANIFEST_TYPE,
    "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": _DIGEST, "size": 2},
    "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": _DIGEST, "size": 10240}],
}
_IMAGE: Final = ImageLocation(
    "registry.example",
    "org/model",
    logins=(RegistryLogin("registry.example", "user", SecretStr("password")),),
)
CHALLENGE: Final = answer(
    b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}',
    'WWW-Authenticate: Bearer realm="https://auth.example/token",service="registry",scope="repository:org/model:pull"',
    status=401,
)
_BASIC: Final = answer(b"", 'WWW-Authenticate: Basic realm="x"', status=401)
PASS: Final = told({"token": "abc", "access_token": "abc", "expires_in": 300, "issued_at": "2024-01-01T00:00:00Z"})
_REFUSED: Final = told({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "m", "detail": {}}]}, status=404)


def _registry(*, writes: bool = False) -> Registry:
    return Registry(_IMAGE, NO_NETWORK, writes=writes, timeouts=UNKEPT, patience=ONCE)


def _oci_asking(data: bytes) -> None:
    registry = _registry()
    with AIR.answering(data):
        registry.manifest("")
        size = registry.blob_size(_DIGEST)
        if size is not None and not 0 <= size < 2**63:
            raise Violated(f"a blob of {size!r:.100} bytes")
        drain(registry.read(_DIGEST, 5, 10))
        small_blob(registry, Descriptor("a/b", _DIGEST, 2, {}))


def _oci_pushing(data: bytes) -> None:
    registry = _registry(writes=True)
    with AIR.answering(data):
        upload = registry.upload()
        if upload is None:
            return
        chunk = upload.chunk(0, 10)
        chunk.send(memoryview(bytes(10)))
        chunk.finish()
        if upload.stored() < 0:
            raise Violated("less than nothing is stored")
        upload.exists(_DIGEST)
        upload.close(_DIGEST)


def _oci_destination(data: bytes) -> None:
    destination = OciDestination(_IMAGE, NO_NETWORK, timeouts=UNKEPT, patience=ONCE)
    with AIR.answering(data):
        destination.prepare()
        check_listing(destination.listing())
        destination.control.read("manifest.json")
        destination.control.read("state/plan.json")


TARGETS: Final = (
    Target(
        "oci-asking",
        _oci_asking,
        (
            CHALLENGE
            + NEXT
            + PASS
            + NEXT
            + told(_MANIFEST)
            + NEXT
            + b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
            + NEXT
            + answer(b"", "Location: https://cdn.example/blob?sig=1", status=307)
            + NEXT
            + answer(bytes(10), "Content-Range: bytes 5-14/100", status=206)
            + NEXT
            + answer(b"{}"),
            _BASIC + NEXT + told(_MANIFEST),
            _REFUSED,
            answer(status=404),
        ),
    ),
    Target(
        "oci-pushing",
        _oci_pushing,
        (
            answer(b"", "Location: /v2/org/model/blobs/uploads/1?_state=x", "OCI-Chunk-Min-Length: 5", status=202)
            + NEXT
            + answer(b"", "Location: /v2/org/model/blobs/uploads/1?_state=y", "Range: 0-9", status=202)
            + NEXT
            + answer(b"", "Location: /v2/org/model/blobs/uploads/1?_state=z", "Range: 0-9", status=204)
            + NEXT
            + answer(status=201),
            CHALLENGE + NEXT + PASS + NEXT + answer(b"", "Location: /x", status=202) + NEXT + _REFUSED,
            told({"errors": [{"code": "DENIED", "message": "quota exceeded"}]}, status=403),
        ),
    ),
    Target(
        "oci-destination",
        _oci_destination,
        (
            answer(b"{}") + NEXT + CHALLENGE + NEXT + PASS + NEXT + told(_MANIFEST) + NEXT + _REFUSED,
            _REFUSED,
            told(_MANIFEST),
        ),
    ),
)
