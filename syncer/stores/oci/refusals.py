"""What a registry refuses, translated once: by status and by the codes of the distribution specification 1.1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from syncer.claims import from_json
from syncer.errors import (
    ConfigurationError,
    CredentialsRefused,
    NotThereYet,
    OutOfSpace,
    SyncerError,
    Transient,
)
from syncer.redaction import quoted
from syncer.retry import seconds_of
from syncer.stores.oci.login import WHERE
from syncer.wire import Answer

NO_REGISTRY: Final = "is that a registry of images, or a proxy on the way to it? look at its address, and at NO_PROXY"
"""The hint for answers that make no sense."""

_LARGEST = 64 * 1024
_PASSING = frozenset({408, 421, 423, 425, 429})


@dataclass(frozen=True)
class Refusal:
    """Status, codes and words of an answer that is not the one that was hoped for."""

    status: int
    codes: frozenset[str]
    says: str
    retry_after: float | None

    @classmethod
    def read(cls, answer: Answer) -> Refusal:
        """Read the answer to its end; a body that makes no sense tells nothing."""
        codes, says = [], ""
        try:
            content = answer.read(_LARGEST)
            found = from_json(content) if content else {}
            for error in list(found.get("errors") or [])[:5]:
                codes.append(quoted(str(error.get("code", "")), 60).upper())
                says = says or quoted(str(error.get("message", "")), 200)
        except (Transient, ValueError, AttributeError, TypeError, RecursionError):
            answer.close()
        return cls(answer.status, frozenset(codes), says, seconds_of(answer.header("Retry-After")))

    def error(self, *, store: str, what: str, path: str = "") -> SyncerError:
        """The error that fits; `what` says what was tried, as in "cannot …"."""
        told = ", ".join(sorted(self.codes)) + (f" ({self.says})" if self.says else "")
        message = f"{store}: cannot {what}: HTTP {self.status}{f', {told}' if told else ''}"
        if self.status == 507 or any("QUOTA" in code for code in self.codes):
            hint = "the registry is full, or the quota of the repository is used up: remove old images or raise it"
            return OutOfSpace(message, hint=hint, store=store, path=path)
        if self.status == 413:
            error = ConfigurationError(
                message,
                hint="the registry, or a proxy before it, takes no request of this size: raise its limit (nginx: "
                "client_max_body_size), or lower S3_SYNC_TRANSFER_CONFIG__CHUNK_SIZE if the limit is one of requests",
                path=path,
            )
            error.store = store
            return error
        if self.status in _PASSING or self.status >= 500 or "TOOMANYREQUESTS" in self.codes:
            return Transient(message, store=store, path=path, retry_after=self.retry_after)
        if self.status < 300:  # no answer of this kind, whatever it is
            return Transient(message, hint=NO_REGISTRY, store=store, path=path)
        if self.status in {401, 403}:
            hint = f"the login needs the right to push (to pull, of a source) there; logins come from {WHERE}"
            return CredentialsRefused(message, hint=hint, store=store, path=path)
        if self.status == 404:
            hint = "the repository or its organization may have to be created first; check OCI_IMAGE"
            return NotThereYet(message, hint=hint, store=store, path=path)
        error = ConfigurationError(message, hint="check OCI_IMAGE: is this a registry that takes images?", path=path)
        error.store = store
        return error
