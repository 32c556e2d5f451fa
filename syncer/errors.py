"""What can go wrong, classed by what the user has to do about it.

Each class carries the exit code of the process (`os.EX_*`, so that a Job's `podFailurePolicy` can tell a mistake from
bad luck), a one-word `reason` for machines and whether the engine may try again by itself.  Stores translate foreign
exceptions into these, each in one place, by code and type and never by the words of a message.

This module refuses to log, to exit or to know any store.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
from typing import ClassVar, Final, Self

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def one_line(text: str) -> str:
    """`text` with its control characters escaped: names come from strangers, and a message is one line of a log."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def first_few(lines: Sequence[str], most: int) -> str:
    """The first `most` of many lines, and how many more there are: for a message, which is one line."""
    more = len(lines) - most
    return "; ".join(lines[:most]) + (f"; and {more} more" if more > 0 else "")


class SyncerError(Exception):
    """A failure with a remedy.

    `message` says in one line what happened and `hint` what to do about it, naming the variable to change.  Neither may
    hold a secret.  `stage`, `store` and `path` say where; who knows them fills them in.
    """

    exit_code: int = os.EX_SOFTWARE
    reason: ClassVar[str] = "InternalError"
    summary: ClassVar[str] = "our bug"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        stage: str = "",
        store: str = "",
        path: str = "",
    ) -> None:
        super().__init__(one_line(message))
        self.message = one_line(message)
        self.hint = one_line(hint)
        self.stage = stage
        self.store = store
        self.path = path

    def reworded(self, message: str) -> Self:
        """This same error with another message: who knows more about the run says more."""
        self.message = one_line(message)
        self.args = (self.message,)
        return self


class ConfigurationError(SyncerError):
    """The settings or the command line cannot mean what they say.  All problems are reported together."""

    exit_code = os.EX_CONFIG
    reason = "Configuration"
    summary = "configuration or bad usage"

    def __init__(self, message: str, *, hint: str = "", problems: tuple[str, ...] = (), path: str = "") -> None:
        super().__init__(message, hint=hint, stage="settings", path=path)
        self.problems = tuple(map(one_line, problems)) or (self.message,)


class CredentialsRefused(SyncerError):
    """The store knows us and says no, or does not know us."""

    exit_code = os.EX_NOPERM
    reason = "CredentialsRefused"
    summary = "credentials refused or passcode spent"


class SourceMissing(SyncerError):
    """There is no such bucket, folder, repository or file at the source, or nothing in it."""

    exit_code = os.EX_NOINPUT
    reason = "SourceMissing"
    summary = "source missing or empty"


class WrongBytes(SyncerError):
    """Bytes at the far end differ from the source's after one re-copy, or `verify` found differences."""

    exit_code = os.EX_DATAERR
    reason = "WrongBytes"
    summary = "bytes wrong after one re-copy, or `verify` found differences"


class UnsafeNames(SyncerError):
    """Names that this destination cannot hold safely; `problems` has one line for every such name."""

    exit_code = os.EX_DATAERR
    reason = "UnsafeNames"
    summary = "names that this destination cannot hold safely"

    def __init__(self, message: str, *, problems: tuple[str, ...], hint: str = "", store: str = "") -> None:
        super().__init__(message, hint=hint, stage="plan", store=store)
        self.problems = tuple(map(one_line, problems))


class OutOfSpace(SyncerError):
    """The destination is full, or would be."""

    exit_code = os.EX_CANTCREAT
    reason = "OutOfSpace"
    summary = "out of space"


class NotThereYet(SyncerError):
    """An endpoint, the destination bucket or the lease was not to be had within the patience of the run."""

    exit_code = os.EX_UNAVAILABLE
    reason = "NotThereYet"
    summary = "endpoint, destination bucket or lease not there yet; `wait` timed out"


class Transient(SyncerError):
    """A passing fault: the engine tries again, and the Job does after it.

    `retry_after` is the pause in seconds that the other side asked for, if it did.  `busy` says that fewer requests
    would help it: 503, 429 and the like.
    """

    exit_code = os.EX_TEMPFAIL
    reason = "Transient"
    summary = "passing fault, tried long enough in this run"
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        stage: str = "",
        store: str = "",
        path: str = "",
        retry_after: float | None = None,
        busy: bool = False,
    ) -> None:
        super().__init__(message, hint=hint, stage=stage, store=store, path=path)
        self.retry_after = retry_after
        self.busy = busy or retry_after is not None


class EndpointUnreachable(Transient):
    """Nobody answers at an endpoint (name, route, refused connection, TLS).  Worth patience, final as 69."""

    exit_code = os.EX_UNAVAILABLE
    reason = "EndpointUnreachable"
    summary = "nobody answers at the endpoint"


class SourceChanged(SyncerError):
    """A file at the source is no longer the version that was listed; the file starts again from its new version."""

    exit_code = os.EX_TEMPFAIL
    reason = "SourceChanged"
    summary = "a source file kept changing while it was read"


class InternalError(SyncerError):
    """A state that the code says cannot be.  Please report it."""


class Interrupted(SyncerError):
    """The run was told to stop.  What is finished stays finished; the next run resumes."""

    exit_code = 128 + signal.SIGTERM
    reason = "Interrupted"
    summary = "interrupted by SIGTERM (130 by SIGINT)"

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__(
            f"stopped by {signal.Signals(number).name}",
            hint="start it again: finished files are kept and open ones resume",
        )
        self.exit_code = 128 + number


class DeadlinePassed(NotThereYet):
    """`S3_SYNC_DEADLINE` or the deadline of `wait` has passed."""

    reason = "DeadlinePassed"
