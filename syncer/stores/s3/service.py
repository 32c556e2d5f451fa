"""One S3 endpoint as one end of a job sees it: the SDK's client for control calls, the wire for everything."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from botocore import UNSIGNED as SDK_UNSIGNED
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    HTTPClientError,
    ParamValidationError,
)
from botocore.parsers import ResponseParserError

from syncer import __version__
from syncer.errors import ConfigurationError, EndpointUnreachable, InternalError, SyncerError, Transient
from syncer.redaction import quoted
from syncer.retry import SMALL_REQUEST, Patience, seconds_of
from syncer.settings.locations import Network, S3Location
from syncer.stores.abilities import Abilities
from syncer.stores.s3.account import NO_BODY, Account, Keys, bad_profile, session_for
from syncer.stores.s3.endpoint import Endpoint, quote_key
from syncer.stores.s3.ends import End
from syncer.stores.s3.refusals import Refusal, declares_entities, region_of
from syncer.trust import Trust
from syncer.wire import Answer, CutOff, Exchange, Origin, Timeouts, Wire

_SLOW_CALLS: Final = frozenset({"CompleteMultipartUpload", "CopyObject", "UploadPartCopy"})
"""Calls in which a store moves gigabytes before it answers."""
_SLOW_SECONDS: Final = 300.0
_SENT_ONCE: Final = frozenset({"CreateMultipartUpload"})
"""Calls that the wire must not repeat unasked: a second one leaves an upload behind that nobody knows of."""
_REFUSED: Final = frozenset({401, 403})
_LARGEST_ANSWER: Final = 16 * 1024 * 1024
"""Bytes.  A page of a thousand keys has five million at most, every character of them escaped."""
_SENSELESS: Final = (
    *(BotoCoreError, ResponseParserError),
    *(ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError),
)
"""What the SDK raises when it takes an answer apart that has another form: no number, no date, no list."""
_MOVED: Final = frozenset({301, 307, 400})
"""Statuses with which a store names a bucket's region."""
T = TypeVar("T")
_AGENT: Final = f"model-syncer/{__version__}"


class Service:
    """A bucket at an endpoint, for many threads.

    `call` and `try_call` are control calls by the SDK's names (`list_objects_v2`), `ask` and `begin` are requests for
    one object.  The region that the store names, when ours was wrong, is used from then on.
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
        self._trust = Trust(network.ca_files)
        self._session = session_for(location, ca_bundle=self._trust.bundle(), end=end, own_account=account is not None)
        self._account = account or Keys(self._session, end=end, store=self.name)
        self.endpoint = Endpoint.of(location, variable=end.endpoint, configured_region=self._profile_region(location))
        self.wire = Wire(
            network,
            validate_tls=location.validate_tls,
            store=self.name,
            hint=f"check {end.endpoint}, the network policies and proxies on the way to it",
            unchecked_by=end.unchecked,
            timeouts=timeouts,
        )
        self._patience = patience
        self._lock = threading.Lock()
        self._client: Any = None
        self._adopted_region = False

    def call(self, operation: str, *, what: str, path: str = "", **arguments: Any) -> dict[str, Any]:
        """Make a control call; a refusal is raised as the error it means.  `what` completes "cannot …"."""
        said = self.try_call(operation, what=what, path=path, **arguments)
        if isinstance(said, Refusal):
            raise self.error(said, what=what, path=path)
        return said

    def try_call(self, operation: str, *, what: str, path: str = "", **arguments: Any) -> dict[str, Any] | Refusal:
        """Make a control call for this bucket; a refusal is returned, everything else that fails is raised."""
        try:
            said: dict[str, Any] = getattr(self._sdk(), operation)(Bucket=self.bucket, **arguments)
        except _MovedError:
            return self.try_call(operation, what=what, path=path, **arguments)
        except ClientError as error:
            return _refusal_of(error)
        except HTTPClientError as error:
            cause = error.kwargs.get("error")
            raise (cause if isinstance(cause, SyncerError) else Transient(str(error), store=self.name)) from error
        except ParamValidationError as error:
            raise ConfigurationError(
                f"{self.name}: cannot {what}: {error}", hint=f"check {self.end.path} and {self.end.region}", path=path
            ) from error
        except _SENSELESS as error:
            raise self.nonsense(type(error).__name__, what=what, path=path) from error
        return said

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
        renewed = False
        while True:
            origin, target, all_headers = self._signed(method, key, query, headers or {}, payload)
            answer = self.wire.ask(method, origin, target, all_headers, body=body)
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
        """Outlast a passing fault of a few seconds, as the SDK does for its calls: for small requests of our own."""
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
        endpoint = self.endpoint
        url = endpoint.base(self.bucket) + quote_key(key) + (f"?{query}" if query else "")
        origin, target = Origin.split(url)
        wanted = {"User-Agent": _AGENT, **headers}
        return origin, target, self._account.authorize(method, url, wanted, payload=payload, region=endpoint.region)

    def _sdk(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._make_client()
            return self._client

    def _make_client(self) -> Any:
        # What is not said here the SDK would take from AWS_* variables, which may mean the other end of the copy.
        endpoint = self.endpoint
        options: dict[str, Any] = {
            "signature_version": SDK_UNSIGNED,  # the account signs, in `_carry`
            "s3": {"addressing_style": endpoint.addressing(self.bucket)},
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
            "retries": {"mode": "standard", "total_max_attempts": 3},
            "ignore_configured_endpoint_urls": True,
            "use_dualstack_endpoint": False,
            "use_fips_endpoint": False,
            "defaults_mode": "legacy",
            "user_agent_extra": _AGENT,
        }
        try:
            client: Any = self._session.create_client(
                "s3",
                region_name=endpoint.region,
                endpoint_url=endpoint.url or None,
                verify=self._trust.bundle(),
                config=Config(**options),
            )
        except (BotoCoreError, ValueError) as error:
            raise ConfigurationError(
                f"{self.name}: the AWS SDK refuses the settings: {error}",
                hint=f"check {self.end.endpoint} and {self.end.region}",
            ) from error
        client.meta.events.register("before-send.s3", self._carry)
        client.meta.events.register_last("before-parameter-build.s3", _stay)
        return client

    def _carry(self, request: AWSPreparedRequest, event_name: str, **_: object) -> AWSResponse:
        """Send what the SDK has prepared over our own wire: one pool, one trust, one way to interrupt it all."""
        operation = event_name.rpartition(".")[2]
        idle = _SLOW_SECONDS if operation in _SLOW_CALLS else 0.0
        once = operation in _SENT_ONCE
        body = _bytes(request.body)
        said = {name: _text(value) for name, value in request.headers.items()}
        for name in ("Content-Length", "Expect", "Transfer-Encoding"):
            said.pop(name, None)
        prove = functools.partial(
            self._account.authorize,
            request.method,
            request.url,
            said,
            payload=hashlib.sha256(body).hexdigest(),
            region=self.endpoint.region,
        )
        headers = prove()
        answer, content = self._exchange(request, headers, body, idle=idle, once=once)
        if answer.status in _REFUSED and self._account.renew_after_refusal(headers):
            answer, content = self._exchange(request, prove(), body, idle=idle, once=once)
        if answer.status in _MOVED:
            refusal = Refusal.parse(answer, content)
            if refusal.names_region and self._adopt(refusal.region):
                raise _MovedError
        return AWSResponse(request.url, answer.status, dict(answer.headers.items()), _Raw(content))  # type: ignore[arg-type]  # the stub wants urllib3's headers, the SDK any mapping

    def _exchange(
        self, request: AWSPreparedRequest, headers: Mapping[str, str], body: bytes, *, idle: float, once: bool
    ) -> tuple[Answer, bytes]:
        origin, target = Origin.split(request.url)
        try:
            with self.wire.ask(request.method, origin, target, headers, body=body, idle=idle, once=once) as answer:
                content = answer.read(_LARGEST_ANSWER)
        except (CutOff, EndpointUnreachable):
            raise  # the SDK need not try again: the run was stopped, or the job has patience of its own
        except Transient as error:
            raise ConnectionClosedError(endpoint_url=str(origin), error=error) from error
        if declares_entities(content):
            if answer.status < 300:
                raise self.nonsense("a page for people", what="understand the store")
            content = b""  # the status says enough
        return answer, content

    def _adopt(self, region: str) -> bool:
        """Use another region from now on; False when it is the one in use or when that did not help before."""
        with self._lock:
            if region == self.endpoint.region or self._adopted_region:
                return False
            self._adopted_region = True
            self.endpoint = replace(self.endpoint, region=region)
            self._client = None
            return True

    def _profile_region(self, location: S3Location) -> str:
        if location.region or location.access_key is not None or not location.ambient_keys:
            return ""
        try:
            return str(self._session.get_config_variable("region") or "")
        except BotoCoreError as error:
            raise bad_profile(error, end=self.end) from error


class _MovedError(Exception):
    """The bucket is in another region, which is the one in use from now on: the call has to be made anew."""


class _Raw:
    """A body as the SDK wants to read it."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, **_: object) -> Iterator[bytes]:
        yield self._content

    def read(self, *_: object) -> bytes:
        content, self._content = self._content, b""
        return content


def _stay(context: dict[str, Any], **_: object) -> None:
    """Keep the SDK from searching for the bucket by itself: it never ends where somebody redirects everything."""
    context["s3_redirect"] = {"redirected": True}


def _refusal_of(error: ClientError) -> Refusal:
    said: Mapping[str, Any] = error.response
    details, metadata = said.get("Error", {}), said.get("ResponseMetadata", {})
    headers = metadata.get("HTTPHeaders", {})
    code = str(details.get("Code", ""))
    return Refusal(
        status=int(metadata.get("HTTPStatusCode", 0)),
        code="" if code.isdigit() else quoted(code, 80),
        message=str(details.get("Message", "")),
        region=region_of(headers.get("x-amz-bucket-region", "") or str(details.get("Region", ""))),
        retry_after=seconds_of(headers.get("retry-after", "")),
    )


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _bytes(body: object) -> bytes:
    match body:
        case None:
            return b""
        case bytes() | bytearray():
            return bytes(body)
        case str():
            return body.encode()
    raise InternalError(f"a control call with a body of type {type(body).__name__}")
