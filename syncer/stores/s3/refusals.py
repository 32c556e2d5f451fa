"""The one place where an S3 server's refusals become errors with a remedy: by status and code, never by words."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from syncer.errors import (
    ConfigurationError,
    CredentialsRefused,
    NotThereYet,
    OutOfSpace,
    SourceChanged,
    SourceMissing,
    SyncerError,
    Transient,
)
from syncer.redaction import quoted
from syncer.retry import seconds_of
from syncer.stores.s3.documents import Senseless, read
from syncer.stores.s3.ends import End
from syncer.wire import Answer

_UNKNOWN_KEYS: Final = frozenset(
    {
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "InvalidToken",
        "InvalidSecurity",
        "TokenRefreshRequired",
        "NotSignedUp",
        "AuthorizationHeaderMalformed",
        "MissingSecurityHeader",
        "Unauthorized",
        "UnauthorizedAccess",
    }
)
_EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
_FULL: Final = frozenset(
    {
        "QuotaExceeded",
        "XMinioAdminBucketQuotaExceeded",
        "XMinioStorageFull",
        "InsufficientCapacity",
        "InsufficientStorage",
        "StorageFull",
        "TooManyObjects",
        "NotEnoughSpace",
    }
)
_BUSY: Final = frozenset(
    {
        "SlowDown",
        "SlowDownRead",
        "SlowDownWrite",
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
        "BandwidthLimitExceeded",
        "ServiceUnavailable",
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "RequestTimeoutException",
        "IncompleteBody",
        "BadDigest",
        "XAmzContentSHA256Mismatch",
        "PriorRequestNotComplete",
        "503",
        "500",
    }
)
_PASSING: Final = frozenset({429, 500, 502, 503, 504})
_REGION_CODES: Final = frozenset(
    {"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)
_WITHOUT_BODY: Final = {403: "AccessDenied", 404: "NotFound", 412: "PreconditionFailed", 416: "InvalidRange"}
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_REGION: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_LONGEST_CODE: Final = 80


@dataclass(frozen=True)
class Refusal:
    """What a server said when it refused, as far as it said anything.

    `region` is where it says that the bucket is.
    """

    status: int
    code: str = ""
    message: str = ""
    region: str = ""
    retry_after: float | None = None

    @property
    def says(self) -> str:
        """For messages: the code, or the status where there is none, and the server's own words, cut short."""
        words = quoted(self.message, 200)
        return (self.code or f"HTTP {self.status}") + (f": {words}" if words and self.code not in _UNKNOWN_KEYS else "")

    @property
    def is_passing(self) -> bool:
        """Whether the same request may be taken in a moment."""
        return self.code not in _FULL and (self.status in _PASSING or self.code in _BUSY)

    @property
    def names_region(self) -> bool:
        """Whether asking again in the region that it names may help."""
        return bool(self.region) and (self.status in {301, 307} or self.code in _REGION_CODES)

    @classmethod
    def read(cls, answer: Answer) -> Refusal:
        """Read an answer whose status is an error, to its end."""
        return cls.parse(answer, answer.read(1024 * 1024) if answer.length != 0 else b"")

    @classmethod
    def parse(cls, answer: Answer, body: bytes) -> Refusal:
        """What an answer whose status is an error says with a body that was read already."""
        refusal = cls(
            status=answer.status,
            code=_WITHOUT_BODY.get(answer.status, ""),
            region=region_of(answer.header("x-amz-bucket-region")),
            retry_after=seconds_of(answer.header("Retry-After")),
        )
        try:
            said = read(body)
        except Senseless:
            return refusal  # an HTML page of a proxy
        return replace(
            refusal,
            code=quoted(said.field("Code"), _LONGEST_CODE) or refusal.code,
            message=said.field("Message"),
            region=refusal.region or region_of(said.field("Region")),
        )

    @classmethod
    def inside(cls, answer: Answer, body: bytes) -> Refusal | None:
        """The refusal inside an answer that began as a success; None where it is one.

        S3 says so of CompleteMultipartUpload and CopyObject: the status is sent before the work is done
        (https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html).  Gateways do it elsewhere.
        """
        refusal = cls.parse(answer, body) if b"<Error" in body else None
        return replace(refusal, status=500) if refusal is not None and refusal.code else None

    def as_error(self, *, end: End, what: str, store: str, path: str = "") -> SyncerError:
        """The error for the refusal of `what` ("list the folder")."""
        message = _CONTROL.sub("?", f"{store}: cannot {what}: {self.says}")
        error = self._by_code(message, end) or self._by_status(message, end)
        error.store, error.path = store, path
        if isinstance(error, Transient) and self.status in {429, 503}:
            error.busy = True
        return error

    def _by_code(self, message: str, end: End) -> SyncerError | None:
        match self.code:
            case "RequestTimeTooSkewed":
                hint = "the clocks of this node and of the store differ by minutes: set the node's right"
                return CredentialsRefused(message, hint=hint)
            case "InvalidObjectState":
                return SourceMissing(message, hint="the object is archived: restore it first, then start again")
            case "NoSuchBucket" if end.role == "source":
                return SourceMissing(message, hint=f"check {end.path} and {end.endpoint}")
            case "NoSuchBucket":
                return NotThereYet(message, hint=f"create the bucket, or check {end.path} and {end.endpoint}")
            case code if code in _FULL:
                return OutOfSpace(message, hint="make room in the bucket or raise its quota, then start again")
            case code if code in _BUSY:
                return Transient(message, retry_after=self.retry_after)
            case code if code in _EXPIRED:
                return CredentialsRefused(message, hint=f"the session has expired: renew {end.keys}")
            case code if code in _UNKNOWN_KEYS and not self.names_region:
                return CredentialsRefused(message, hint=f"check {end.keys}, and that they belong to {end.endpoint}")
        return None

    def _by_status(self, message: str, end: End) -> SyncerError:
        if self.names_region:
            return ConfigurationError(
                f"{message} (the bucket is in {self.region})",
                hint=f"set {end.region} to {self.region}, and {end.endpoint} to that region's or to nothing",
            )
        match self.status:
            case 507:
                return OutOfSpace(message, hint="make room at the store, then start again")
            case 401:
                return CredentialsRefused(message, hint=f"check {end.keys}, and that they belong to {end.endpoint}")
            case 403:
                wanted = "list and read" if end.role == "source" else "list, read, write and delete in"
                return CredentialsRefused(message, hint=f"{end.keys} must be allowed to {wanted} the bucket")
            case 404 | 410 if end.role == "source":
                return SourceMissing(message, hint=f"check {end.path}")
            case 412 | 416 if end.role == "source":
                return SourceChanged(message)
            case 404 | 408 | 409 | 412 | 425 | 429 | 499:
                return Transient(message, retry_after=self.retry_after)
            case status if status >= 500 and status != 501:
                hint = "" if self.code else f"if it stays so: is {end.endpoint} an S3 endpoint?"
                return Transient(message, hint=hint, retry_after=self.retry_after)
        return ConfigurationError(
            message, hint=f"the store does not understand the request: is {end.endpoint} an S3 endpoint?"
        )


def region_of(said: str) -> str:
    """A region's name, which becomes part of a host's; empty for what cannot be one."""
    return said if _REGION.fullmatch(said) else ""
