"""IBM's IAM: the grants that a copy needs, over our own wire.

The protocol: https://cloud.ibm.com/apidocs/iam-identity-token-api ; the passcode grant is in no document of IBM's but
in the source of its command line (`AuthenticatePassword` and `AuthenticatePasscode` of IBM-Cloud/ibm-cloud-cli-sdk).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

from syncer import __version__
from syncer.claims import from_json
from syncer.errors import ConfigurationError, CredentialsRefused, EndpointUnreachable, Transient
from syncer.redaction import quoted, register_secrets
from syncer.retry import seconds_of
from syncer.settings.locations import CosLocation, Network
from syncer.wire import CutOff, Origin, Timeouts, Wire

PASSCODE_HINT: Final = (
    "get a new passcode, put it into the model-source Secret (S3_SYNC_COS_TEMPORARY_PASSCODE), and create the Job "
    "again: what was copied is kept"
)
API_KEY_HINT: Final = "check S3_SYNC_COS_API_KEY: the key must exist, not be locked, and be allowed from this network"

_PATH: Final = "/identity/token"
_GRANT: Final = "urn:ibm:params:oauth:grant-type:"
_COMMAND_LINE: Final = "Basic Yng6Yng="  # bx:bx, the public name and password of IBM's own command line
_NO_REFRESH: Final = "not_supported"
_USUAL_LIFE: Final = 3600.0
_LONGEST_LIFE: Final = 30 * 24 * 3600.0
"""Seconds.  An answer with no life, or with one that cannot be, is taken for the usual one."""
_PASSCODE_PATIENCE: Final = 120.0
"""Seconds of silence: giving up on a passcode's answer costs its user a new passcode."""
_LONGEST_ANSWER: Final = 1024 * 1024
_PRINTABLE: Final = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True)
class Tokens:
    """What a grant brings: `refresh` is empty where there is none, `seconds` is the life of `access` from the request.

    The moment of expiry that IBM tells too is of no use: it is by IBM's clock.
    """

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    seconds: float


@dataclass(frozen=True)
class _Said:
    status: int
    document: dict[str, Any] = field(repr=False)
    retry_after: float | None

    @property
    def code(self) -> str:
        """IBM's own error code, `BXNIM0415E`."""
        return quoted(self._text("errorCode"), 40)

    @property
    def error(self) -> str:
        """Code and words, cut short, without anything that is secret."""
        words = quoted(self._text("errorMessage"), 200)
        return ": ".join(filter(None, (self.code, words)))[:200] or f"HTTP {self.status}"

    def _text(self, name: str) -> str:
        told = self.document.get(name)
        return told if isinstance(told, str) else ""

    def tokens(self) -> Tokens | None:
        """The tokens of a grant, hidden from now on; None when the answer has none."""
        access, refresh = (_token(self.document.get(name)) for name in ("access_token", "refresh_token"))
        if self.status != HTTPStatus.OK or not access:
            return None
        register_secrets([access, refresh])
        match self.document.get("expires_in"):
            case int() | float() as life if 1 < life < _LONGEST_LIFE:  # True counts as 1
                return Tokens(access, refresh, float(life))
        return Tokens(access, refresh, _USUAL_LIFE)


class Iam:
    """IAM as the account of one location.  Safe from many threads.

    Errors of every grant: `CredentialsRefused` with IBM's own code, `EndpointUnreachable` when nobody has received the
    request, `Transient` when it is worth to ask again.
    """

    def __init__(self, location: CosLocation, network: Network, *, timeouts: Timeouts | None = None) -> None:
        self._name = location.uri
        secrets = (location.passcode, location.api_key)
        register_secrets(secret.get_secret_value() for secret in secrets if secret is not None)
        try:
            self._origin, self._target = Origin.split(location.iam_endpoint.rstrip("/") + _PATH)
        except ValueError:
            raise ConfigurationError(
                "the IAM endpoint is no http:// or https:// URL",
                hint="S3_SYNC_COS_IAM_ENDPOINT must look like https://iam.cloud.ibm.com",
            ) from None
        self._wire = Wire(
            network,
            validate_tls=location.bucket.validate_tls,
            store=self._name,
            hint="check S3_SYNC_COS_IAM_ENDPOINT, the network policies and proxies on the way to IBM's IAM",
            unchecked_by="S3_SYNC_SRC__VALIDATE_TLS",
            timeouts=timeouts,
        )

    def by_passcode(self, passcode: str) -> Tokens:
        """Exchange a one-time passcode.  It is spent by this, whatever the answer is.

        So a request that may have been received must never be repeated.  `Transient` is raised only when it was not
        received (`EndpointUnreachable`) or IAM has said that it did not look at it (429); a `CutOff` tells neither.
        """
        form = {"grant_type": _GRANT + "passcode", "passcode": passcode, "response_type": "cloud_iam"}
        try:
            said = self._post(form, once=True, idle=_PASSCODE_PATIENCE)
        except (EndpointUnreachable, CutOff):
            raise
        except Transient as error:
            raise self._lost(error.message) from error
        if tokens := said.tokens():
            return tokens
        if said.status == HTTPStatus.TOO_MANY_REQUESTS:
            raise self._busy(said)
        if _is_refusal(said):
            raise self._refused("refuses the passcode", said, hint=PASSCODE_HINT)
        raise self._lost(said.error if said.status != HTTPStatus.OK else "an answer without a token")

    def by_refresh_token(self, token: str) -> Tokens:
        """Exchange a refresh token, which spends nothing: an answer that got lost is asked for again.

        The answer may bring another refresh token; the one before it stays good (a session lives up to 72 hours).
        """
        form = {"grant_type": "refresh_token", "refresh_token": token}
        return self._repeatably(form, "does not renew the session of the passcode", hint=PASSCODE_HINT)

    def by_api_key(self, key: str) -> Tokens:
        """Exchange an API key, which spends nothing: an answer that got lost is asked for again.

        It is asked for without a client's name, as IBM's own SDK does; then there is no refresh token.
        """
        form = {"grant_type": _GRANT + "apikey", "apikey": key, "response_type": "cloud_iam"}
        return self._repeatably(form, "refuses the API key", hint=API_KEY_HINT, named=False)

    def interrupt(self) -> None:
        """Wake every thread that waits for an answer."""
        self._wire.interrupt()

    def close(self) -> None:
        """Close all connections."""
        self._wire.close()

    def _repeatably(self, form: dict[str, str], refuses: str, *, hint: str, named: bool = True) -> Tokens:
        said = self._post(form, named=named)
        if tokens := said.tokens():
            return tokens
        if _is_refusal(said):
            raise self._refused(refuses, said, hint=hint)
        raise self._busy(said)

    def _post(self, form: dict[str, str], *, named: bool = True, once: bool = False, idle: float = 0.0) -> _Said:
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
            "User-Agent": f"model-syncer/{__version__}",
        } | ({"Authorization": _COMMAND_LINE} if named else {})
        body = urlencode(form).encode()
        with self._wire.ask("POST", self._origin, self._target, headers, body=body, once=once, idle=idle) as answer:
            content = answer.read(_LONGEST_ANSWER)
        if answer.status // 100 == 3:
            raise ConfigurationError(
                f"{self._origin} is not IBM's IAM: it sends us elsewhere (HTTP {answer.status})",
                hint="check S3_SYNC_COS_IAM_ENDPOINT, and the proxies on the way to it",
            )
        try:
            document = from_json(content)
        except ValueError:
            document = None  # an HTML page of a proxy, or nothing
        return _Said(
            answer.status, document if isinstance(document, dict) else {}, seconds_of(answer.header("Retry-After"))
        )

    def _refused(self, refuses: str, said: _Said, *, hint: str) -> CredentialsRefused:
        asked = hint if said.code else f"{hint}; and check that S3_SYNC_COS_IAM_ENDPOINT is IBM's IAM"
        return CredentialsRefused(f"{self._name}: IBM's IAM {refuses} ({said.error})", hint=asked, store=self._name)

    def _lost(self, why: str) -> CredentialsRefused:
        return CredentialsRefused(
            f"{self._name}: the answer of IBM's IAM to the passcode got lost ({why}): the passcode may be spent",
            hint=PASSCODE_HINT,
            store=self._name,
        )

    def _busy(self, said: _Said) -> Transient:
        what = "answered without a token" if said.status == HTTPStatus.OK else f"is busy ({said.error})"
        return Transient(f"{self._name}: IBM's IAM {what}", store=self._name, retry_after=said.retry_after)


def _token(said: object) -> str:
    """What can be a token: anything else would break the header or the form that it is to travel in."""
    return said if isinstance(said, str) and said != _NO_REFRESH and _PRINTABLE.fullmatch(said) else ""


def _is_refusal(said: _Said) -> bool:
    passing = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
    return said.status // 100 == 4 and said.status not in passing
