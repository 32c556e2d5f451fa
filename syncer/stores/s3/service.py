"""One S3 endpoint as one end of a job sees it: control calls, and requests for single objects, over one wire."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

from syncer import __version__
from syncer.errors import ConfigurationError, EndpointUnreachable, SyncerError, Transient
from syncer.retry import SMALL_REQUEST, Patience
from syncer.settings.locations import Network, S3Location
from syncer.stores.abilities import Abilities
from syncer.stores.s3.account import NO_BODY, Account, account_for
from syncer.stores.s3.calls import Call, Said
from syncer.stores.s3.documents import Senseless, Take, read
from syncer.stores.s3.endpoint import Endpoint, quote_key
from syncer.stores.s3.ends import End
from syncer.stores.s3.refusals import Refusal, region_of
from syncer.trust import Trust
from syncer.wire import Answer, CutOff, Exchange, Headers, Origin, Timeouts, Wire

_SLOW_SECONDS: Final = 300.0
_REFUSED: Final = frozenset({401, 403})
_LARGEST_ANSWER: Final = 16 * 1024 * 1024
"""Bytes.  A page of a thousand keys has five million at most, every character of them escaped."""
_FEWEST_TRIES: Final = 3
_BUCKET: Final = re.compile(r"[A-Za-z0-9._-]{1,255}")
_MOVED: Final = frozenset({301, 307, 400})
"""Statuses with which a store names a bucket's region."""
T = TypeVar("T")
_AGENT: Final = f"model-syncer/{__version__}"


class Service:
    """A bucket at an endpoint, for many threads.

    `call` and `try_call` are control calls (see `calls.py`), `ask` and `begin` are requests for one object.  The region
    that the store names, when ours was wrong, is used from then on.
    """

    def __init__(
        self,
        location: S3Location,
        network: Network,
        *,
        end: End,
        account: Account | None = None,
        abilities: Abilities | None = None,
        timeouts: Timeouts | None = None,
        patience: Patience = SMALL_REQUEST,
    ) -> None:
        self.bucket = location.bucket
        self.name = location.uri
        self.end = end
        self.abilities = abilities or Abilities(self.name)
        if _BUCKET.fullmatch(location.bucket) is None:
            raise ConfigurationError(f"{self.name}: no bucket can be called so", hint=f"check {end.path}")
        region = ""
        if account is None:
            account, region = account_for(location, Trust(network.ca_files), end=end)
        self._account: Account = account
        self.endpoint = Endpoint.of(location, variable=end.endpoint, configured_region=region)
        if not region_of(self.endpoint.region):
            raise ConfigurationError(f"{self.name}: no region can be called so", hint=f"check {end.region}")
        self.wire = Wire(
            network,
            validate_tls=location.validate_tls,
            store=self.name,
            hint=f"check {end.endpoint}, the network policies and proxies on the way to it",
            unchecked_by=end.unchecked,
            timeouts=timeouts,
        )
        self._patience = patience
        self._patience_with_calls = replace(patience, fewest=_FEWEST_TRIES)
        self._lock = threading.Lock()
        self._adopted_region = False
        self._place = self._place_of(self.endpoint)

    def call(self, call: Call, *, what: str, path: str = "", take: Take | None = None) -> Said:
        """Make a control call; a refusal is raised as the error it means.  `what` completes "cannot …"."""
        said = self.try_call(call, what=what, path=path, take=take)
        if isinstance(said, Refusal):
            raise self.error(said, what=what, path=path)
        return said

    def try_call(self, call: Call, *, what: str, path: str = "", take: Take | None = None) -> Said | Refusal:
        """Make a control call for this bucket; a refusal is returned, everything else that fails is raised.

        A passing fault of a few seconds is outlasted.  `take` is given the records of the answer one by one.
        """
        tries = 0

        def attempt() -> tuple[Headers, bytes] | Refusal:
            nonlocal tries
            tries += 1
            said = self._carry(call)
            if isinstance(said, Refusal) and said.is_passing:
                raise _PassingError(said)
            return said

        try:
            # A host that nobody reaches is told at once: the job has patience with it.
            said = self.wire.persistently(attempt, patience=self._patience_with_calls, worth_it=_is_worth_it)
        except _PassingError as passing:
            return passing.refusal
        if isinstance(said, Refusal):
            return said
        headers, content = said
        try:
            document = read(content, take)
        except Senseless as error:
            raise self.nonsense(str(error), what=what, path=path) from error
        return Said(headers, document, repeated=tries > 1)

    def ask(
        self,
        method: str,
        key: str,
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        payload: str = NO_BODY,
    ) -> Answer:
        """Make a request for one object and return the answer, whatever its status, with its body unread."""
        return self._ask(method, key, query, headers or {}, payload=payload, body=body)

    def _ask(
        self,
        method: str,
        key: str,
        query: str,
        headers: Mapping[str, str],
        *,
        payload: str,
        body: bytes,
        idle: float = 0.0,
        once: bool = False,
    ) -> Answer:
        renewed = False
        while True:
            origin, target, all_headers = self._signed(method, key, query, headers, payload)
            answer = self.wire.ask(method, origin, target, all_headers, body=body, idle=idle, once=once)
            if answer.status in _REFUSED and not renewed:
                if not self._renewed(answer, all_headers):
                    return answer
                renewed = True
                continue
            region = region_of(answer.header("x-amz-bucket-region"))
            if answer.status not in _MOVED or not region or not self._adopt(region):
                return answer
            answer.close()

    def nonsense(self, why: str, *, what: str, path: str = "") -> Transient:
        """The error for an answer that is none: worth another try, and perhaps no S3 at all."""
        return Transient(
            f"{self.name}: cannot {what}: the answer makes no sense ({why})",
            hint=f"is {self.end.endpoint} an S3 endpoint?",
            store=self.name,
            path=path,
        )

    def _renewed(self, answer: Answer, headers: Mapping[str, str]) -> bool:
        """Whether the account has a newer proof; the refusing answer is closed then."""
        try:
            worth_it = self._account.renew_after_refusal(headers)
        except BaseException:
            answer.close()
            raise
        if worth_it:
            answer.close()
        return worth_it

    def begin(
        self, method: str, key: str, *, query: str = "", headers: Mapping[str, str], length: int, payload: str
    ) -> Exchange:
        """Prepare a request for one object whose body of `length` bytes is sent piece by piece."""
        origin, target, all_headers = self._signed(method, key, query, headers, payload)
        return self.wire.begin(method, origin, target, all_headers, length=length)

    def refuse(self, answer: Answer, *, what: str, path: str = "") -> SyncerError:
        """The error that a refusing answer means.  Worth another try where only the region was wrong."""
        with answer:
            refusal = Refusal.read(answer)
        return self.error(refusal, what=what, path=path)

    def error(self, refusal: Refusal, *, what: str, path: str = "") -> SyncerError:
        """The error that a refusal means; a passing one where only the region was wrong, which is put right here."""
        if refusal.names_region and self._adopt(refusal.region):
            return Transient(f"{self.name}: the bucket is in {refusal.region}", store=self.name, path=path)
        return refusal.as_error(end=self.end, what=what, store=self.name, path=path)

    def persistently(self, work: Callable[[], T]) -> T:
        """Outlast a passing fault of a few seconds: for small requests about one object."""
        return self.wire.persistently(work, patience=self._patience)

    def interrupt(self) -> None:
        """Wake every thread that waits for this store."""
        self.wire.interrupt()

    def close(self) -> None:
        """Close all connections."""
        self.wire.close()

    def _signed(
        self, method: str, key: str, query: str, headers: Mapping[str, str], payload: str
    ) -> tuple[Origin, str, dict[str, str]]:
        endpoint, origin, base = self._place
        target = base + quote_key(key) if key else base.removesuffix("/") or "/"
        if query:
            target = f"{target}?{query}"
        wanted = {"User-Agent": _AGENT, **headers}
        sent = self._account.authorize(method, origin, target, wanted, payload=payload, region=endpoint.region)
        return origin, target, sent

    def _carry(self, call: Call) -> tuple[Headers, bytes] | Refusal:
        """Make a call once, or twice where the store says that the bucket is in another region."""
        payload = hashlib.sha256(call.body).hexdigest() if call.body else NO_BODY
        idle = _SLOW_SECONDS if call.slow else 0.0
        send = partial(
            self._ask, call.method, call.key, call.query, call.headers, payload=payload, body=call.body, idle=idle
        )
        while True:
            with send(once=call.once) as answer:
                content = answer.read(_LARGEST_ANSWER)
            if answer.status < 300:
                return Refusal.inside(answer, content) or (answer.headers, content)
            refusal = Refusal.parse(answer, content)
            if answer.status not in _MOVED or not refusal.names_region or not self._adopt(refusal.region):
                return refusal

    def _place_of(self, endpoint: Endpoint) -> tuple[Endpoint, Origin, str]:
        return endpoint, *Origin.split(endpoint.base(self.bucket))

    def _adopt(self, region: str) -> bool:
        """Use another region from now on; False when it is the one in use or when that did not help before."""
        with self._lock:
            if region == self.endpoint.region or self._adopted_region:
                return False
            self._adopted_region = True
            self.endpoint = replace(self.endpoint, region=region)
            self._place = self._place_of(self.endpoint)
            return True


class _PassingError(Transient):
    """A refusal that will not last."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.says, retry_after=refusal.retry_after)
        self.refusal = refusal


def _is_worth_it(error: SyncerError) -> bool:
    return isinstance(error, Transient) and not isinstance(error, (EndpointUnreachable, CutOff))
