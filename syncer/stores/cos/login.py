"""A valid access token at any moment, for as long as a copy takes.

A token lives for an hour, a copy may take several.  Renewing begins when less than a quarter of a token's life is left,
as IBM's own SDK does it; one thread renews, the others go on with the token that they have, and wait only when it is
not valid any more.  Lives are measured by our own clock, from the moment of the request: the clocks of two machines
differ.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from typing import Final

from syncer.errors import CredentialsRefused, SyncerError, Transient
from syncer.logs import Event, logger
from syncer.settings.locations import CosLocation
from syncer.stores.cos.cache import TokenCache
from syncer.stores.cos.iam import PASSCODE_HINT, Iam, Tokens
from syncer.wire import CutOff

Clock = Callable[[], float]

_RENEW_AT: Final = 0.75
_MARGIN: Final = 10.0
"""A token that ends within so many seconds counts as ended: it has to be valid when it arrives."""
_PAUSE: Final = 15.0
"""Seconds between two attempts to renew a token."""
_PASSCODE_LIFE: Final = 300.0
"""Seconds; it began when the console showed the passcode, which was before we were started."""


@dataclass(frozen=True)
class _Session:
    """Tokens, with moments of our own clock: from when on to renew, and when the access token ends."""

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    renew_at: float
    ends_at: float

    @classmethod
    def of(cls, tokens: Tokens, *, asked_at: float, refresh: str) -> _Session:
        margin = min(_MARGIN, tokens.seconds / 10)
        return cls(
            access=tokens.access,
            refresh=tokens.refresh or refresh,
            renew_at=asked_at + tokens.seconds * _RENEW_AT,
            ends_at=asked_at + tokens.seconds - margin,
        )


class Login:
    """One login to IBM Cloud, for many threads.

    A passcode is sent at most once, whatever happens: what its exchange ended with is what every later call ends with.
    Only an exchange that nobody has received may be tried again.
    """

    def __init__(self, location: CosLocation, iam: Iam, *, clock: Clock, former: Login | None = None) -> None:
        self.location = location
        self._name = location.uri
        self._iam = iam
        self._clock = clock
        self._passcode = location.passcode.get_secret_value() if location.passcode is not None else ""
        self._api_key = location.api_key.get_secret_value() if location.api_key is not None else ""
        file = location.token_cache if self._passcode else None
        self._cache = TokenCache(file, self._passcode) if file is not None else None
        self._log = logger(component="login", source=self._name)
        self._turn = threading.Condition()
        self._renewing = False
        self._session: _Session | None
        self._refused: SyncerError | None
        self._asked_since: float | None
        self._session, self._refused, self._asked_since = former.outcome if former is not None else (None, None, None)
        self._failed: SyncerError | None = None
        self._next_try = 0.0

    @property
    def outcome(self) -> tuple[_Session | None, SyncerError | None, float | None]:
        """The session there is, why there will be no other one, since when it is tried: for who goes on with it."""
        with self._turn:
            return self._session, self._refused, self._asked_since

    def bearer(self) -> str:
        """A token that is valid now; the first call logs in.

        Raises `CredentialsRefused`, final; `Transient` while a token cannot be renewed; `ConfigurationError`.
        """
        with self._turn:
            while True:
                now = self._clock()
                session = self._session
                valid = session is not None and now < session.ends_at
                if session is not None and valid and not self._worth_renewing(session, now):
                    return session.access
                if not self._renewing:
                    break
                self._turn.wait()
            self._check(session, now)
            self._renewing = True
        return self._renew(session, valid=valid).access

    def renew_after_refusal(self, access: str) -> bool:
        """Whether there is another token than `access`, which the store has refused though our clock calls it valid.

        The laptop was asleep, the clock jumped, the token was revoked.  Raises like `bearer`.
        """
        with self._turn:
            while self._renewing:
                self._turn.wait()
            session = self._session
            if session is None or session.access != access:
                return session is not None
            if self._refused is None and not self._can_renew(session):
                return False
            self._check(session, self._clock())
            self._renewing = True
        self._renew(session, valid=False)
        return True

    def _worth_renewing(self, session: _Session, now: float) -> bool:
        busy = self._renewing or self._refused is not None or now < self._next_try
        return now >= session.renew_at and not busy and self._can_renew(session)

    def _can_renew(self, session: _Session) -> bool:
        return bool(self._api_key or session.refresh)

    def _check(self, session: _Session | None, now: float) -> None:
        """Raise what is known already, instead of asking IBM again."""
        if self._refused is not None:
            raise copy(self._refused)
        if session is None:
            return
        if not self._can_renew(session):
            raise CredentialsRefused(
                f"{self._name}: the session of the passcode has ended, and IBM's IAM gave no refresh token with it",
                hint=PASSCODE_HINT,
                store=self._name,
            )
        if self._failed is not None and now < self._next_try:
            failed = copy(self._failed)
            if isinstance(failed, Transient):
                failed.retry_after = self._next_try - now
            raise failed

    def _renew(self, session: _Session | None, *, valid: bool) -> _Session:
        """Get new tokens, as the one thread that does; with a token that is still `valid`, a failure can wait."""
        asked_at = self._clock()
        try:
            tokens = self._obtain(session)
        except SyncerError as error:
            self._settle(session, failed=error)
            if session is None or not valid:
                raise
            if not isinstance(error, CutOff):
                left = round(session.ends_at - self._clock())
                self._log.warning("token_renewal_failed", reason=error.message, still_valid_seconds=left)
            return session
        except BaseException:
            self._settle(session)
            raise
        renewed = _Session.of(tokens, asked_at=asked_at, refresh=session.refresh if session else "")
        self._settle(renewed)
        event: Event = "token_renewed" if session is not None else "login_accepted"
        self._log.info(event, valid_seconds=round(tokens.seconds))
        self._keep(renewed, before=session)
        return renewed

    def _settle(self, session: _Session | None, *, failed: SyncerError | None = None) -> None:
        """Say how it ended to those who wait, and let the next one try."""
        passing = isinstance(failed, Transient) and not isinstance(failed, CutOff)
        with self._turn:
            self._renewing = False
            self._session, self._failed = session, failed
            if isinstance(failed, CredentialsRefused) or (session is None and failed is not None and not passing):
                self._refused = failed
            if session is not None and failed is not None:
                asked_for = failed.retry_after if isinstance(failed, Transient) else None
                self._next_try = self._clock() + max(_PAUSE, asked_for or 0.0)
            self._turn.notify_all()

    def _obtain(self, session: _Session | None) -> Tokens:
        if self._api_key:
            return self._iam.by_api_key(self._api_key)
        if session is not None:
            return self._iam.by_refresh_token(session.refresh)
        if self._cache is not None:
            self._cache.check()
            if kept := self._cache.read():
                tokens = self._iam.by_refresh_token(kept)
                return tokens if tokens.refresh else Tokens(tokens.access, kept, tokens.seconds)
        return self._exchange()

    def _exchange(self) -> Tokens:
        """The passcode's tokens; who could not even ask for so long as a passcode lives need not try any longer."""
        now = self._clock()
        if self._asked_since is None:
            self._asked_since = now
        try:
            return self._iam.by_passcode(self._passcode)
        except Transient as error:
            if isinstance(error, CutOff) or now - self._asked_since < _PASSCODE_LIFE:
                raise
            raise CredentialsRefused(
                f"{self._name}: the passcode has expired before IBM's IAM could be asked: {error.message}",
                hint="; then ".join(filter(None, (error.hint, PASSCODE_HINT))),
                store=self._name,
            ) from error

    def _keep(self, renewed: _Session, *, before: _Session | None) -> None:
        if self._cache is None or not renewed.refresh or (before and before.refresh == renewed.refresh):
            return
        try:
            self._cache.write(renewed.refresh)
        except OSError as error:
            self._log.warning("token_cache_failed", reason=str(error.strerror))
