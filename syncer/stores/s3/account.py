"""Who we are to a store: keys and their signatures, or any other header that proves it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol

from syncer.errors import ConfigurationError
from syncer.settings.locations import S3Location
from syncer.stores.s3.ends import End
from syncer.stores.s3.signing import Signer
from syncer.trust import Trust
from syncer.wire import Origin

if TYPE_CHECKING:
    from syncer.stores.s3.chain import Chain, Found

UNSIGNED: Final = "UNSIGNED-PAYLOAD"
NO_BODY: Final = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""SHA-256 of nothing."""


class Account(Protocol):
    """Authorizes every request, one at a time, from many threads, with what is valid at that moment."""

    def authorize(
        self, method: str, origin: Origin, target: str, headers: Mapping[str, str], *, payload: str, region: str
    ) -> dict[str, str]:
        """All headers to send: `headers` and the proof.  `payload` is the body's SHA-256 in hex or `UNSIGNED`."""
        ...

    def renew_after_refusal(self, headers: Mapping[str, str]) -> bool:
        """Whether a request that was refused (401, 403) with these headers deserves one more try with a newer proof.

        May raise what kept it from renewing.
        """
        ...


class GivenKeys:
    """The keys that the settings name."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def authorize(
        self, method: str, origin: Origin, target: str, headers: Mapping[str, str], *, payload: str, region: str
    ) -> dict[str, str]:
        """See `Account`."""
        return self._signer.sign(method, origin, target, headers, payload=payload, region=region)

    def renew_after_refusal(self, headers: Mapping[str, str]) -> bool:
        """Keys are right or wrong."""
        return False


class FoundKeys:
    """Keys that the SDK's chain finds, and renews before they expire."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._signer: tuple[Found, Signer] | None = None

    def authorize(
        self, method: str, origin: Origin, target: str, headers: Mapping[str, str], *, payload: str, region: str
    ) -> dict[str, str]:
        """See `Account`."""
        keys = self._chain.keys()
        known = self._signer
        if known is None or known[0] != keys:
            known = self._signer = (keys, Signer(*keys))
        return known[1].sign(method, origin, target, headers, payload=payload, region=region)

    def renew_after_refusal(self, headers: Mapping[str, str]) -> bool:
        """The SDK renews those that expire before they do."""
        return False


def account_for(location: S3Location, trust: Trust, *, end: End) -> tuple[Account, str]:
    """Who the location says that we are, and the region that comes with what was found; empty if none does.

    Raises `ConfigurationError` for half a pair of keys, for what cannot be a key, and for a profile that the SDK cannot
    use.
    """
    access, secret, token = location.access_key, location.secret_key, location.session_token
    if access is not None and secret is not None:
        name, said = access.get_secret_value(), token.get_secret_value() if token is not None else ""
        if not (name + said).isascii():
            raise ConfigurationError(
                f"{location.uri}: the access key or the session token holds a character that no key has",
                hint=f"check {end.keys}: a dash or a quote of a text program, perhaps",
            )
        return GivenKeys(Signer(name, secret.get_secret_value(), said)), ""
    if access is not None or secret is not None:
        raise ConfigurationError(
            f"{location.uri}: only one of access key and secret key is set", hint=f"set both of {end.keys}"
        )
    from syncer.stores.s3.chain import Chain

    chain = Chain(ambient_keys=location.ambient_keys, trust=trust, end=end, store=location.uri)
    return FoundKeys(chain), chain.region() if location.ambient_keys and not location.region else ""
