"""Keys that nobody gave: the AWS SDK's own search for them (IRSA, profiles, containers, the node's role).

This is all that is left of the SDK here, and it is imported only where it is needed: it costs a quarter of a second.
"""

from __future__ import annotations

import functools
import threading

import botocore.session
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError
from botocore.loaders import Loader, create_loader

from syncer.errors import ConfigurationError, CredentialsRefused, EndpointUnreachable, SyncerError
from syncer.redaction import register_secrets
from syncer.stores.s3.ends import End
from syncer.trust import Trust

Found = tuple[str, str, str]
"""Access key, secret key, session token."""


class Chain:
    """Finds keys, and renews those that expire; for many threads.

    Without `ambient_keys` the search leaves the environment out: `AWS_*` feeds the other end of the copy.  Raises
    `ConfigurationError` for a profile that is none.
    """

    def __init__(self, *, ambient_keys: bool, trust: Trust, end: End, store: str) -> None:
        self._end = end
        self._store = store
        self._trust = trust
        self._lock = threading.Lock()
        self._credentials: Credentials | None = None
        self._known: Found | None = None
        self._session = botocore.session.Session()
        if not ambient_keys:
            try:
                self._session.get_component("credential_provider").remove("env")
            except BotoCoreError as error:
                raise self._bad_profile(error) from error
        self._session.set_config_variable("ca_bundle", trust.bundle())
        self._session.register_component("data_loader", _descriptions())

    def region(self) -> str:
        """The region of the profile, empty where it has none."""
        try:
            return str(self._session.get_config_variable("region") or "")
        except BotoCoreError as error:
            raise self._bad_profile(error) from error

    def keys(self) -> Found:
        """The keys that are valid now; raises `CredentialsRefused` where there are none."""
        try:
            with self._lock:
                if self._credentials is None:
                    self._credentials = self._session.get_credentials()
            if self._credentials is None:
                raise NoCredentialsError
            frozen = self._credentials.get_frozen_credentials()
        except (BotoCoreError, ClientError, OSError, ValueError, RuntimeError) as error:
            # A token's file that is not mounted, a helper that is not there or says no JSON, keys that have expired
            # before they come: the SDK lets these errors through.
            raise no_keys(error, end=self._end, store=self._store) from error
        found = (frozen.access_key or "", frozen.secret_key or "", frozen.token or "")
        if found != self._known:
            # What the SDK found or renewed by itself, no setting knows, and the SDK logs it at its most talkative.
            register_secrets(secret for secret in found[1:] if secret)
            self._known = found
        return found

    def _bad_profile(self, error: BotoCoreError) -> ConfigurationError:
        return ConfigurationError(
            f"the AWS SDK cannot use its configuration: {error}",
            hint=f"check AWS_PROFILE and AWS_CONFIG_FILE, or set {self._end.keys}",
        )


def no_keys(error: Exception, *, end: End, store: str) -> SyncerError:
    """The error for keys that were neither given nor found, or could not be had from whoever issues them."""
    if isinstance(error, HTTPClientError) or (isinstance(error, ClientError) and _is_passing(error)):
        return EndpointUnreachable(
            f"{store}: whoever issues the keys cannot be reached, or is in trouble ({type(error).__name__})",
            hint=f"check the network, or set {end.keys}",
            store=store,
        )
    found = "no keys were given or found" if isinstance(error, NoCredentialsError) else "the keys could not be obtained"
    place = f": {error.filename}" if isinstance(error, OSError) and error.filename else ""
    return CredentialsRefused(
        f"{store}: {found} ({type(error).__name__}{place})",
        hint=f"set {end.keys}, or give the pod's ServiceAccount a role",
        store=store,
    )


def _is_passing(error: ClientError) -> bool:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status == 429 or status >= 500 or "Throttling" in error.response.get("Error", {}).get("Code", "")


@functools.cache
def _descriptions() -> Loader:
    """The SDK's descriptions of its services: megabytes of JSON that both ends of a copy can share."""
    return create_loader()
