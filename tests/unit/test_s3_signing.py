"""Our signatures are botocore's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from unittest import mock
from urllib.parse import quote

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import example, given
from hypothesis import strategies as st

from syncer.stores.s3.account import NO_BODY, UNSIGNED
from syncer.stores.s3.endpoint import quote_key
from syncer.stores.s3.signing import Signer
from syncer.wire import Origin

_WORDS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=12)
_KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_categories=["Cc"]), max_size=20)
_NAMES = st.sampled_from(["Content-Type", "Range", "If-None-Match", "User-Agent", "x-amz-meta-a", "Content-MD5", "A"])
_PARAMETERS = st.sampled_from(["uploads", "uploadId", "prefix", "partNumber", "x", "X"])


@dataclass(frozen=True)
class Asked:
    """A request to sign, and who signs it when."""

    access: str
    secret: str
    token: str
    method: str
    base: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]
    payload: str
    region: str
    now: int

    @property
    def url(self) -> str:
        written = (f"{name}={quote(value, safe='-_.~')}" if value else name for name, value in self.query.items())
        return self.base + quote_key(self.key) + (f"?{'&'.join(written)}" if self.query else "")


_ASKED = st.builds(
    Asked,
    access=_WORDS,
    secret=_WORDS,
    token=st.one_of(st.just(""), _WORDS),
    method=st.sampled_from(["GET", "PUT", "HEAD", "POST", "DELETE"]),
    base=st.sampled_from(["http://minio:9000/b/", "https://b.s3.eu-west-1.amazonaws.com/", "http://[::1]:80/s3/b/"]),
    key=_KEYS,
    query=st.dictionaries(_PARAMETERS, _KEYS, max_size=4),
    headers=st.dictionaries(_NAMES, _VALUES, max_size=4),
    payload=st.sampled_from([UNSIGNED, NO_BODY]),
    region=st.sampled_from(["us-east-1", "lab-7"]),
    now=st.integers(0, 4_000_000_000),
)


class _Theirs(S3SigV4Auth):
    def payload(self, request: AWSRequest) -> str:
        return str(request.context["payload"])


def theirs(asked: Asked) -> dict[str, str]:
    request = AWSRequest(method=asked.method, url=asked.url, headers=asked.headers)
    request.context["payload"] = asked.payload
    keys = ReadOnlyCredentials(asked.access, asked.secret, asked.token or None)
    now = datetime.fromtimestamp(asked.now, UTC)
    with mock.patch("botocore.auth.get_current_datetime", return_value=now):
        _Theirs(keys, "s3", asked.region).add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


def ours(asked: Asked, signer: Signer) -> dict[str, str]:
    origin, target = Origin.split(asked.url)
    said = signer.sign(asked.method, origin, target, asked.headers, payload=asked.payload, region=asked.region)
    return {name.lower(): value for name, value in said.items()}


SIMPLE = Asked(
    "k", "s", "", "GET", "http://minio:9000/b/", "a//../b", {"x": "", "X": "1"}, {"A": " a  b "}, NO_BODY, "a", 0
)


@given(_ASKED)
@example(SIMPLE)
def test_signatures_are_botocore_s(asked: Asked) -> None:
    assert ours(asked, Signer(asked.access, asked.secret, asked.token, clock=lambda: asked.now)) == theirs(asked)


def test_one_signer_goes_on_through_seconds_days_and_regions() -> None:
    moments = [0.5, 0.9, 1.2, 86_399.0, 86_400.0, 1.0]
    clock = iter(moments)
    signer = Signer("k", "s", clock=lambda: next(clock))
    for moment, region in zip(moments, ["a", "a", "b", "b", "b", "a"], strict=True):
        asked = replace(SIMPLE, region=region, now=int(moment))
        assert ours(asked, signer) == theirs(asked)
