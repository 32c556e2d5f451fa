"""A bucket of IBM COS as the place where a model comes from."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from syncer.errors import ConfigurationError
from syncer.manifest import Listing
from syncer.retry import SMALL_REQUEST, Patience
from syncer.settings.locations import CosLocation, Network
from syncer.stores.cos.iam import Iam
from syncer.stores.cos.login import Clock, Login
from syncer.stores.protocols import Source
from syncer.stores.s3.ends import COS_SOURCE
from syncer.stores.s3.source import S3Source
from syncer.wire import Origin, Timeouts

_BEARER = "Bearer "


class BearerAccount:
    """An `Account` whose proof is a token: https://cloud.ibm.com/apidocs/cos/cos-compatibility#authentication ."""

    def __init__(self, login: Login, location: CosLocation) -> None:
        self._login = login
        self._plaintext = location.plaintext_tokens

    def authorize(
        self, method: str, origin: Origin, target: str, headers: Mapping[str, str], *, payload: str, region: str
    ) -> dict[str, str]:
        """See `Account`."""
        refuse_plaintext(str(origin), what="S3_SYNC_COS_ENDPOINT", allowed=self._plaintext)
        return {**headers, "Authorization": _BEARER + self._login.bearer()}

    def renew_after_refusal(self, headers: Mapping[str, str]) -> bool:
        """See `Account`."""
        return self._login.renew_after_refusal(headers.get("Authorization", "").removeprefix(_BEARER))


class CosSource(S3Source):
    """A folder of a bucket, or one exact object, read with a token of IBM's IAM.  See `Source` for the promises.

    The login comes first in `listing`, before anything that may need patience: a passcode lives for five minutes.
    `former` is the source of an earlier attempt of this process, whose login goes on here: its passcode is spent.
    `clock` counts seconds and never goes back.
    """

    def __init__(
        self,
        location: CosLocation,
        network: Network,
        *,
        former: Source | None = None,
        clock: Clock = time.monotonic,
        timeouts: Timeouts | None = None,
        patience: Patience = SMALL_REQUEST,
    ) -> None:
        refuse_plaintext(location.iam_endpoint, what="S3_SYNC_COS_IAM_ENDPOINT", allowed=location.plaintext_tokens)
        refuse_plaintext(location.bucket.endpoint, what="S3_SYNC_COS_ENDPOINT", allowed=location.plaintext_tokens)
        self._iam = Iam(location, network, timeouts=timeouts)
        goes_on = former.login if isinstance(former, CosSource) and former.login.location == location else None
        self.login: Login = Login(location, self._iam, clock=clock, former=goes_on)
        by = "S3_SYNC_COS_TEMPORARY_PASSCODE" if location.passcode is not None else "S3_SYNC_COS_API_KEY"
        super().__init__(
            location.bucket,
            network,
            account=BearerAccount(self.login, location),
            end=replace(COS_SOURCE, keys=f"the account of {by}"),
            timeouts=timeouts,
            patience=patience,
        )

    def listing(self) -> Listing:
        """See `Source`."""
        self.login.bearer()
        return super().listing()

    def interrupt(self) -> None:
        """See `Source`."""
        self._iam.interrupt()
        super().interrupt()

    def close(self) -> None:
        """See `Source`."""
        self._iam.close()
        super().close()


def refuse_plaintext(url: str, *, what: str, allowed: bool) -> None:
    """Raise `ConfigurationError` for a URL over which a token would travel readable for everybody."""
    if url.lower().startswith("http://") and not allowed:
        raise ConfigurationError(
            f"{what} is http://, over which passcodes and tokens would be sent for everybody to read",
            hint=f"use https:// in {what}; S3_SYNC_ALLOW_PLAINTEXT_TOKENS=true allows http:// to test servers",
        )
