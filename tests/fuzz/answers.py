"""What all parsers of answers are fed with, and by whom: raw answers, the wire that brings them, places to ask."""

import json
from contextlib import closing
from typing import Any, Final

from pydantic import SecretStr

from syncer.manifest import ModelFile
from syncer.settings.locations import (
    Network,
    S3Location,
)
from syncer.stores.protocols import Body
from tests.fuzz.air import Air

AIR: Final = Air()
NO_NETWORK: Final = Network()
SHA = "0123456789abcdef0123456789abcdef01234567"
SHA256 = "a" * 64
FILE: Final = ModelFile("model.safetensors", 100, "abc", {"sha256": SHA256})


def answer(body: bytes = b"", *headers: str, status: int = 200, kind: str = "application/json") -> bytes:
    """A raw answer."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def told(document: Any, *headers: str, status: int = 200) -> bytes:
    """A raw answer with JSON."""
    return answer(json.dumps(document).encode(), *headers, status=status)


def xml(body: str, *headers: str, status: int = 200) -> bytes:
    """A raw answer with XML."""
    text = f'<?xml version="1.0" encoding="UTF-8"?>{body}'
    return answer(text.encode(), *headers, status=status, kind="application/xml")


def drain(body: Body) -> None:
    """Read a body to its end, as the engine does."""
    with closing(body):
        while body.readinto(memoryview(bytearray(64))):
            pass


BUCKET: Final = S3Location(
    "bucket", "models/", "https://s3.example.com", "us-east-1", SecretStr("access"), SecretStr("secretsecret")
)
