"""Where an upload goes: what the environment says, or the data connection that a cluster keeps in a Secret."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from syncer.errors import ConfigurationError, EndpointUnreachable, NotThereYet, SyncerError
from syncer.logs import logger
from syncer.retry import Patience, retrying
from syncer.settings.locations import S3Location, Settings
from syncer.stop import StopSwitch
from syncer.uploading.showing import say

if TYPE_CHECKING:
    from syncer.cluster import Cluster

NAMESPACE: Final = "demo"
SECRET: Final = "demo-models"  # noqa: S105 - the name of a Secret
CONNECTION: Final = (
    "AWS_S3_ENDPOINT",
    "AWS_S3_BUCKET",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_DEFAULT_REGION",
)
"""What a data connection says, as the platform's dashboard writes it."""

_NEEDED: Final = ("AWS_S3_BUCKET", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_OTHER_DESTINATIONS: Final = (
    *(f"S3_SYNC_DEST__{name}" for name in ("PATH", "ENDPOINT", "REGION", "ACCESS_KEY", "SECRET_KEY", "SESSION_TOKEN")),
    "S3_SYNC_DEST__CREDENTIALS_DIR",
    "S3_BUCKET",
    "S3_ENDPOINT_URL",
    "AWS_SESSION_TOKEN",
    "BUCKET_NAME",
    "BUCKET_HOST",
    "BUCKET_PORT",
    "BUCKET_REGION",
    "OCI_IMAGE",
)
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_INTERVAL: Final = 5.0
_UNREACHABLE_SECONDS: Final = 60.0
"""How long a cluster may be out of reach: a Secret that is not there yet is no news, a wrong address is."""

_DOORS: Final = Patience(seconds=30.0)


@dataclass(frozen=True)
class Connection:
    """The data connection to ask a cluster for, and how many seconds to wait for it."""

    namespace: str = NAMESPACE
    secret: str = SECRET
    wait: float = 600.0

    @property
    def name(self) -> str:
        """Where the Secret is."""
        return f"{self.namespace}/{self.secret}"

    def check(self) -> None:
        """Raise `ConfigurationError` for what nothing in a cluster can be called."""
        for option, name in (("--namespace", self.namespace), ("--secret", self.secret)):
            check_name(option, name)


def check_name(option: str, name: str) -> None:
    """Raise `ConfigurationError` for what nothing in a cluster can be called; `option` says it."""
    if _NAME.fullmatch(name) is None:
        raise ConfigurationError(
            f"{option} must be a name as Kubernetes has them, of small letters, digits and `-`",
            hint="for example: syncer upload model/ --namespace demo --secret demo-models",
        )


def await_connection(
    cluster: Cluster,
    wanted: Connection,
    stop: StopSwitch,
    *,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] | None = None,
) -> dict[str, str]:
    """The data connection's variables, once its Secret is there and complete.

    Raises `NotThereYet` when it is not within `wanted.wait` seconds, and at once what waiting cannot heal.  `clock` and
    `pause` are for tests.
    """
    log = logger(component="upload")
    begun = answered = clock()
    told_at: float | None = None
    while True:
        stop.check()
        try:
            found = cluster.secret(wanted.namespace, wanted.secret)
        except SyncerError as error:
            gone = clock() - answered >= _UNREACHABLE_SECONDS
            if not error.retryable or (gone and isinstance(error, EndpointUnreachable)):
                raise
            reason = error.message
        else:
            answered = clock()
            missing = [name for name in _NEEDED if not (found or {}).get(name, "").strip()]
            if found is not None and not missing:
                return {name: found[name] for name in CONNECTION if found.get(name, "").strip()}
            reason = f"it lacks {', '.join(missing)}" if found is not None else "it is not there yet"
        waited = clock() - begun
        if waited >= wanted.wait:
            raise NotThereYet(
                f"no data connection in the Secret {wanted.name} after {waited:.0f} s: {reason}",
                hint="check --namespace and --secret; --wait says how long to wait for it",
                stage="upload",
            )
        if told_at is None or clock() - told_at >= 2 * _INTERVAL:
            log.info("connection_awaited", data_connection=wanted.name, reason=reason)
            told_at = clock()
        (pause or stop.wait)(min(_INTERVAL, wanted.wait - waited))


def environment_with(environ: Mapping[str, str], connection: Mapping[str, str]) -> dict[str, str]:
    """`environ` as if the data connection were its only destination; everything else in it still holds."""
    gone = {f"{name}{end}" for name in (*_OTHER_DESTINATIONS, *CONNECTION) for end in ("", "_FILE")}
    return {name: value for name, value in environ.items() if name not in gone} | dict(connection)


@contextmanager
def reached_from_outside(settings: Settings, cluster: Cluster, stop: StopSwitch) -> Iterator[Settings]:
    """`settings` with the endpoint that a destination inside of the cluster has for everybody else.

    The authorities of the cluster's ingress are believed in addition, as long as this lasts.
    """
    from syncer.cluster import HeldFile, door_to

    location = settings.destination
    if not isinstance(location, S3Location):
        yield settings
        return
    log = logger(component="upload")
    door = retrying(lambda: door_to(cluster, location.endpoint), patience=_DOORS, stop=stop)
    if door.note:
        log.warning(
            "route_not_found", reason=door.note, endpoint=location.endpoint, hint="--dest-endpoint says another one"
        )
    if door.endpoint == location.endpoint:
        try:
            yield settings
        except EndpointUnreachable as error:
            if door.note and location.endpoint in error.message:
                error.message = f"{error.message}: {door.note}"
                error.hint = "name an endpoint that this machine reaches: --dest-endpoint https://HOST"
            raise
        return
    say("route_found", f"Using {door.endpoint} for {location.endpoint}.", endpoint=door.endpoint)
    outside = replace(settings, destination=replace(location, endpoint=door.endpoint))
    if not door.authorities.strip():
        yield outside
        return
    with closing(HeldFile("ingress-authorities", door.authorities)) as file:
        yield replace(outside, network=replace(outside.network, ca_files=(*outside.network.ca_files, file.path)))
