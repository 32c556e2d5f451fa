"""AWS Signature Version 4, in the header of a request.

By https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html with S3's exceptions: the
path is taken as it travels and never normalized, and a body may go unsigned.  The tests compare it with botocore's.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from typing import Final

from syncer.wire import Origin

_UNSIGNED_NAMES: Final = frozenset({"expect", "transfer-encoding", "user-agent", "x-amzn-trace-id"})
"""What proxies may change on the way."""
_ALGORITHM: Final = "AWS4-HMAC-SHA256"


class Signer:
    """Signs with one pair of keys, and a session token if `token` is not empty; for many threads.

    `clock` tells the time in seconds since 1970.  What is the same for a second or a day is computed once.
    """

    def __init__(
        self, access_key: str, secret_key: str, token: str = "", *, clock: Callable[[], float] = time.time
    ) -> None:
        self._access_key = access_key
        self._secret = f"AWS4{secret_key}".encode()
        self._token = token
        self._clock = clock
        self._second = (-1, "")
        self._day = ("", "", "", _Key(b""))

    def sign(
        self, method: str, origin: Origin, target: str, headers: Mapping[str, str], *, payload: str, region: str
    ) -> dict[str, str]:
        """All headers to send for `target`, the path and the query as they travel.

        `payload` is the SHA-256 of the body, or the word for a body that is not signed.
        """
        now = self._now()
        scope, key = self._key(now[:8], region)
        added = {"X-Amz-Date": now, "X-Amz-Content-SHA256": payload}
        if self._token:
            added["X-Amz-Security-Token"] = self._token
        sent = {**headers, **added}
        signed = {name.lower(): value for name, value in sent.items()}
        signed["host"] = origin.authority
        names = sorted(signed.keys() - _UNSIGNED_NAMES)
        lines = "".join([f"{name}:{_trimmed(signed[name])}\n" for name in names])
        listed = ";".join(names)
        path, _, query = target.partition("?")
        request = f"{method}\n{path}\n{_sorted(query) if query else ''}\n{lines}\n{listed}\n{payload}"
        summary = f"{_ALGORITHM}\n{now}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        signature = key.sign(summary.encode())
        sent["Authorization"] = (
            f"{_ALGORITHM} Credential={self._access_key}/{scope}, SignedHeaders={listed}, Signature={signature}"
        )
        return sent

    def _now(self) -> str:
        second, text = self._second
        now = int(self._clock())
        if now != second:
            text = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
            self._second = (now, text)
        return text

    def _key(self, day: str, region: str) -> tuple[str, _Key]:
        known_day, known_region, scope, key = self._day
        if (known_day, known_region) != (day, region):
            derived = self._secret
            for step in (day, region, "s3", "aws4_request"):
                derived = hmac.digest(derived, step.encode(), "sha256")
            scope, key = f"{day}/{region}/s3/aws4_request", _Key(derived)
            self._day = (day, region, scope, key)
        return scope, key


class _Key:
    """HMAC-SHA256 (RFC 2104) with one key of 32 bytes, whose two blocks are hashed once.

    Half the time of `hmac.digest`, which lets go of the interpreter besides: many threads then wait for it.
    """

    def __init__(self, key: bytes) -> None:
        block = key.ljust(64, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def sign(self, message: bytes) -> str:
        """The code of a message, in hex."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.hexdigest()


def _sorted(query: str) -> str:
    """A query by the names of its parameters; one without a value gets an empty one."""
    return "&".join([f"{name}={value}" for name, _, value in sorted(pair.partition("=") for pair in query.split("&"))])


def _trimmed(value: str) -> str:
    return " ".join(value.split())
