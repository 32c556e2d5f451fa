"""Who we are to a store: keys and their signatures, or any other header that proves it."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Final, Protocol

import botocore.session
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, ReadOnlyCredentials
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError
from botocore.loaders import Loader, create_loader

from syncer.errors import ConfigurationError, CredentialsRefused, EndpointUnreachable, SyncerError
from syncer.redaction import register_secrets
from syncer.settings.locations import S3Location
from syncer.stores.s3.ends import End

UNSIGNED: Final = "UNSIGNED-PAYLOAD"
NO_BODY: Final = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""SHA-256 of nothing."""


_NO_PROFILE: Final = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}
"""Session variables that keep AWS_PROFILE and its files out: they belong to whoever has no keys of his own."""


class Account(Protocol):
    """Authorizes every request, one at a time, from many threads, with what is valid at that moment."""

    def authorize(
        self, method: str, url: str, headers: Mapping[str, str], *, payload: str, region: str
    ) -> dict[str, str]:
        """All headers to send: `headers` and the proof.  `payload` is the body's SHA-256 in hex or `UNSIGNED`."""
        ...

    def renew_after_refusal(self, headers: Mapping[str, str]) -> bool:
        """Whether a request that was refused (401, 403) with these headers deserves one more try with a newer proof.

        May raise what kept it from renewing.
        """
        ...


class Keys:
    """AWS Signature Version 4 by the SDK's own signer, with credentials that the SDK renews (IRSA, profiles)."""

    def __init__(self, session: botocore.session.Session, *, end: End, store: str) -> None:
        self._session = session
        self._end = end
        self._store = store
        self._credentials: Credentials | None = None
        self._known: ReadOnlyCredentials | None = None

    def authorize(
        self, method: str, url: str, headers: Mapping[str, str], *, payload: str, region: str
    ) -> dict[str, str]:
        """See `Account`."""
        request = AWSRequest(method=method, url=url, headers=dict(headers))
        request.context["payload"] = payload
        _Signer(self._frozen(), "s3", region).add_auth(request)
        return dict(request.headers.items())

    def renew_after_refusal(self, headers: Mapping[str, str]) -> bool:
        """Keys are right or wrong; the SDK renews those that expire before they do."""
        return False

    def _frozen(self) -> ReadOnlyCredentials:
        try:
            if self._credentials is None:
                self._credentials = self._session.get_credentials()
            if self._credentials is None:
                raise NoCredentialsError
            keys = self._credentials.get_frozen_credentials()
        except (BotoCoreError, ClientError) as error:
            raise no_keys(error, end=self._end, store=self._store) from error
        if keys != self._known:
            # What the SDK found or renewed by itself, no setting knows, and the SDK logs it at its most talkative.
            register_secrets(secret for secret in (keys.secret_key, keys.token) if secret)
            self._known = keys
        return keys


def no_keys(error: BotoCoreError | ClientError, *, end: End, store: str) -> SyncerError:
    """The error for keys that were neither given nor found, or could not be had from whoever issues them."""
    if isinstance(error, HTTPClientError):
        return EndpointUnreachable(
            f"{store}: whoever issues the keys cannot be reached ({type(error).__name__})",
            hint=f"check the network, or set {end.keys}",
            store=store,
        )
    found = "no keys were given or found" if isinstance(error, NoCredentialsError) else "the keys could not be obtained"
    return CredentialsRefused(
        f"{store}: {found} ({type(error).__name__})",
        hint=f"set {end.keys}, or give the pod's ServiceAccount a role",
        store=store,
    )


def session_for(location: S3Location, *, ca_bundle: str, end: End, own_account: bool) -> botocore.session.Session:
    """An SDK session that knows what the location says and, only where that has no keys, the SDK's own chain.

    With `ambient_keys` off, the chain goes without its environment provider: `AWS_*` feeds the other end.  With
    `own_account`, somebody else proves who we are: the session knows no keys and no profile.
    """
    if own_account:
        session = botocore.session.Session(session_vars=_NO_PROFILE)
    else:
        session = _session_with_keys(location, end=end)
    session.set_config_variable("ca_bundle", ca_bundle)
    session.register_component("data_loader", _descriptions())
    return session


def _session_with_keys(location: S3Location, *, end: End) -> botocore.session.Session:
    if (location.access_key is None) != (location.secret_key is None):
        raise ConfigurationError(
            f"{location.uri}: only one of access key and secret key is set", hint=f"set both of {end.keys}"
        )
    if location.access_key is None or location.secret_key is None:
        session = botocore.session.Session()
        if not location.ambient_keys:
            try:
                session.get_component("credential_provider").remove("env")
            except BotoCoreError as error:
                raise bad_profile(error, end=end) from error
    else:
        session = botocore.session.Session(session_vars=_NO_PROFILE)
        session.set_credentials(
            location.access_key.get_secret_value(),
            location.secret_key.get_secret_value(),
            location.session_token.get_secret_value() if location.session_token is not None else None,
        )
    return session


def bad_profile(error: BotoCoreError, *, end: End) -> ConfigurationError:
    """The error for a profile or a configuration file that the SDK cannot use."""
    return ConfigurationError(
        f"the AWS SDK cannot use its configuration: {error}",
        hint=f"check AWS_PROFILE and AWS_CONFIG_FILE, or set {end.keys}",
    )


@functools.cache
def _descriptions() -> Loader:
    """The SDK's descriptions of its services: megabytes of JSON that both ends of a copy can share."""
    return create_loader()


class _Signer(S3SigV4Auth):
    """The SDK's S3 signer, told the payload's hash instead of reading the payload."""

    def payload(self, request: AWSRequest) -> str:
        return str(request.context["payload"])
