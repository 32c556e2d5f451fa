"""The one place where a Hub's refusals become errors with a remedy: by status and `X-Error-Code`, never by words.

Codes: https://huggingface.co/docs/huggingface_hub/package_reference/utilities#http-errors .  A repository that nobody
has and one that is private look the same from outside (401 or 404, `RepoNotFound`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from syncer.errors import ConfigurationError, CredentialsRefused, SourceMissing, SyncerError, Transient
from syncer.redaction import quoted
from syncer.retry import seconds_of

_RATE_LIMIT: Final = re.compile(r"\br\s*=\s*0\s*;\s*t\s*=\s*(\d{1,6})\b")
"""`RateLimit: "api";r=0;t=55`: nothing remains, and the window ends in 55 seconds."""
_PASSING: Final = frozenset({408, 425, 429})


@dataclass(frozen=True)
class Place:
    """What errors say about where they happened: a printable name, the page to visit, whether a token was sent."""

    name: str
    endpoint: str
    repository: str
    has_token: bool

    @property
    def page(self) -> str:
        """Where a person sees the repository, accepts its terms and finds its name."""
        return f"{self.endpoint}/{self.repository}"


@dataclass(frozen=True)
class Refusal:
    """What a Hub said when it refused; `code` is empty where it said nothing but a status."""

    status: int
    code: str = ""
    words: str = ""
    retry_after: float | None = None

    @classmethod
    def of(cls, status: int, headers: Mapping[str, str], *, code: str = "") -> Refusal:
        """From an answer's headers, their names in lower case; `code` is for an answer that has none."""
        return cls(
            status=status,
            code=quoted(headers.get("x-error-code", ""), 80) or code,
            words=quoted(headers.get("x-error-message", ""), 200),
            retry_after=_pause(headers),
        )

    @property
    def is_passing(self) -> bool:
        """Whether the same request may be answered a little later."""
        return self.status in _PASSING or (self.status >= 500 and self.status != 501)

    @property
    def says(self) -> str:
        """For messages: code or status, and the Hub's own words."""
        return (self.code or f"HTTP {self.status}") + (f": {self.words}" if self.words else "")

    def as_error(self, place: Place, *, what: str, path: str = "") -> SyncerError:
        """The error for the refusal of `what` ("list the repository")."""
        message = f"{place.name}: cannot {what}: {self.says}"
        error = self._by_code(message, place) or self._by_status(message, place)
        error.store, error.path = place.name, path
        return error

    def _by_code(self, message: str, place: Place) -> SyncerError | None:
        match self.code:
            case "GatedRepo":
                whose = "with the account of the token in HF_TOKEN" if place.has_token else "and set HF_TOKEN"
                return CredentialsRefused(
                    f"{message} (the repository is gated)", hint=f"accept its terms at {place.page} {whose}"
                )
            case "RepoNotFound" if place.has_token:
                return SourceMissing(
                    message, hint=f"check HUGGINGFACE_MODEL, and that the account of HF_TOKEN may see {place.page}"
                )
            case "RepoNotFound":
                return _private_or_misspelt(message, place)
            case "RevisionNotFound":
                return SourceMissing(
                    message, hint=f"check HUGGINGFACE_REVISION: branches and tags are at {place.page}/tree/main"
                )
            case "EntryNotFound":
                return SourceMissing(message, hint=f"the file is not in that commit any more: look at {place.page}")
            case "DisabledRepo":
                return SourceMissing(message, hint=f"the Hub has disabled the repository: see {place.page}")
        return None

    def _by_status(self, message: str, place: Place) -> SyncerError:
        if self.is_passing:
            return Transient(message, retry_after=self.retry_after)
        match self.status:
            case 401 if place.has_token:
                return CredentialsRefused(
                    message,
                    hint=f"the token is not valid (any more): renew HF_TOKEN at {place.endpoint}/settings/tokens",
                )
            case 401:
                return _private_or_misspelt(message, place)
            case 403:
                return CredentialsRefused(
                    message, hint=f"HF_TOKEN must be allowed to read this repository: see {place.page}"
                )
            case 404 | 410:
                return SourceMissing(message, hint="check HUGGINGFACE_MODEL, HUGGINGFACE_REVISION and HF_ENDPOINT")
        return ConfigurationError(message, hint="the server does not understand the request: is HF_ENDPOINT a Hub?")


def _private_or_misspelt(message: str, place: Place) -> CredentialsRefused:
    return CredentialsRefused(
        f"{message} (private, or there is no such repository)",
        hint=f"set HF_TOKEN, or check HUGGINGFACE_MODEL: the page would be {place.page}",
    )


def _pause(headers: Mapping[str, str]) -> float | None:
    """The pause in seconds that is asked for, by the header of the Hub's own or everybody's."""
    if found := _RATE_LIMIT.search(headers.get("ratelimit", "")):
        return float(found[1])
    return seconds_of(headers.get("retry-after", ""))
