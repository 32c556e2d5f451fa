"""Where a bucket is: host, region and addressing style."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit

from syncer.errors import ConfigurationError
from syncer.settings.locations import S3Location
from syncer.wire import Origin

DEFAULT_REGION: Final = "us-east-1"
"""What stores without regions expect in a signature."""

_REGION: Final = r"(?P<region>[a-z]{2}(?:-[a-z]+)+-\d)"
_AWS_HOST: Final = re.compile(rf"^s3(?:[.-]{_REGION})?\.amazonaws\.com(?:\.cn)?$")
_AWS_KIN: Final = re.compile(rf"[.-]{_REGION}\.(?:vpce\.)?amazonaws\.com(?:\.cn)?$")
"""FIPS, dual stack and private endpoints: chosen on purpose, so they are used as they are."""
_PLAIN_BUCKET: Final = re.compile(r"^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$")


@dataclass(frozen=True)
class Endpoint:
    """`url` is empty for AWS itself, whose host follows from the region."""

    url: str
    region: str

    @classmethod
    def of(cls, location: S3Location, *, variable: str, configured_region: str = "") -> Endpoint:
        """The endpoint that a location names; `configured_region` is the SDK profile's, for want of a better one.

        Raises `ConfigurationError` naming `variable` for an endpoint that is no URL.
        """
        url = location.endpoint.rstrip("/")
        if not url:
            return cls("", location.region or configured_region or DEFAULT_REGION)
        try:
            Origin.split(url)
        except ValueError:
            raise ConfigurationError(
                f"the endpoint {_printable(url)} is no http:// or https:// URL",
                hint=f"{variable} must look like https://s3.example.com",
            ) from None
        host = urlsplit(url).hostname or ""
        if aws := _AWS_HOST.match(host):
            return cls("", location.region or aws["region"] or configured_region or DEFAULT_REGION)
        kin = _AWS_KIN.search(host)
        return cls(url, location.region or (kin["region"] if kin else "") or DEFAULT_REGION)

    @property
    def is_aws(self) -> bool:
        """Whether this is AWS's own public endpoint."""
        return not self.url

    def addressing(self, bucket: str) -> str:
        """`virtual` where AWS wants the bucket in the host name, `path` everywhere else.

        A bucket with dots fits no wildcard certificate, so it goes into the path even there.
        """
        return "virtual" if self.is_aws and _PLAIN_BUCKET.match(bucket) else "path"

    def base(self, bucket: str) -> str:
        """The URL that keys of `bucket` are appended to, ending in a slash."""
        if not self.is_aws:
            return f"{self.url}/{quote(bucket, safe='')}/"
        suffix = "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"
        if self.addressing(bucket) == "virtual":
            return f"https://{bucket}.s3.{self.region}.{suffix}/"
        return f"https://s3.{self.region}.{suffix}/{bucket}/"

    def same_service(self, other: Endpoint) -> bool:
        """Whether both are the same server as far as one can see: then it may copy by itself."""
        return _normal(self) == _normal(other)


def quote_key(key: str) -> str:
    """A key as S3 wants it in a path: all but unreserved characters and slashes escaped, nothing normalized."""
    return quote(key, safe="/-_.~")


def _normal(endpoint: Endpoint) -> tuple[str, ...]:
    if endpoint.is_aws:
        return ("aws", "cn" if endpoint.region.startswith("cn-") else "")
    origin, path = Origin.split(endpoint.url)
    return (str(origin), path.rstrip("/"))


def _printable(url: str) -> str:
    """Without a password that somebody may have put into it."""
    return repr(url.rpartition("@")[2][:200])
