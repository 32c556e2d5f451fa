"""The order of the steps: settings, this pod, the ways, the far ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from syncer import settings as environment
from syncer.errors import ConfigurationError, DeadlinePassed, SyncerError
from syncer.examining import far_ends, tables
from syncer.examining.findings import Book, Finding
from syncer.examining.host import Host, look_at_host
from syncer.examining.ways import Clock, Way, look_at_way, now
from syncer.report import Outcome
from syncer.retry import Patience
from syncer.settings.command_line import CommandLine
from syncer.settings.locations import (
    CosLocation,
    HubDataset,
    HuggingFaceLocation,
    ImageLocation,
    Network,
    S3Location,
    Settings,
)
from syncer.stop import StopSwitch
from syncer.stores.oci.registry import Registry
from syncer.stores.s3.endpoint import Endpoint
from syncer.stores.s3.ends import COS_SOURCE, DESTINATION, SOURCES, End
from syncer.wire import Origin

_REGISTRY: Final = "MODEL_REGISTRY_URL"


@dataclass(frozen=True)
class Examination:
    """All findings; `failure` is the first one that failed, None where there is none."""

    findings: tuple[Finding, ...]

    @property
    def failure(self) -> Finding | None:
        """The first step that failed."""
        return next((finding for finding in self.findings if finding.verdict == "failed"), None)

    @property
    def summary(self) -> str:
        """One line: how many steps went how."""
        counts = dict.fromkeys(("ok", "failed", "skipped"), 0)
        for finding in self.findings:
            counts[finding.verdict] += 1
        return ", ".join(f"{count} {verdict}" for verdict, count in counts.items())

    @property
    def outcome(self) -> Outcome:
        """How the examination ended: as a run would that comes as far as the first failure."""
        failure = self.failure
        if failure is None:
            return Outcome(status="succeeded", reason="Examined", message=self.summary)
        return Outcome(
            status="failed",
            reason=failure.reason,
            message=f"{failure.step} at {failure.at}: {failure.seen} ({self.summary})",
            hint=failure.hint,
            exit_code=failure.exit_code,
        )

    def as_json(self) -> str:
        """See `tables.py`."""
        return tables.as_json(self.findings, exit_code=self.outcome.exit_code)

    def as_table(self) -> str:
        """See `tables.py`."""
        return tables.as_table(self.findings)


def examine(
    environ: Mapping[str, str],
    said: CommandLine,
    *,
    adopt: Callable[[Settings], StopSwitch | None],
    stop: StopSwitch,
    host: Host | None = None,
    clock: Clock = now,
) -> Examination:
    """Look at everything that a run with these settings depends on.

    `adopt` is told of the settings before anybody is asked anything, and may say which switch stops us from then on.
    Where they are wrong, all problems are findings, and what can be understood without the source and the registry is
    looked at all the same.  A deadline that passes is the last finding.
    """
    book = Book(stop)
    settings = _settings(book, environ, said)
    if settings is None:
        return Examination(tuple(book.findings))
    book.stop = adopt(settings) or stop
    try:
        _look_at_all(book, settings, host or Host(), clock)
    except DeadlinePassed as error:
        at = f"{settings.deadline:g} s"
        book.findings.append(
            Finding("deadline", at, "failed", error.message, "raise S3_SYNC_DEADLINE", error.exit_code, error.reason)
        )
    return Examination(tuple(book.findings))


def _look_at_all(book: Book, settings: Settings, host: Host, clock: Clock) -> None:
    look_at_host(book, settings, host)
    reached = Ways(book, settings.network, clock)
    to_source = reached(_ways_to_source(settings))
    wanted = far_ends.look_at_source(book, settings, reached=to_source)
    for place in settings.destinations:
        far_ends.look_at_destination(
            book,
            place,
            settings,
            reached=reached(_ways_to(place, settings.network, destination=True)),
            wanted=None if settings.compression else wanted,
        )
    to_registry = reached(_ways_to_registry(settings))
    far_ends.look_at_registry(book, settings.registry, settings.network, reached=to_registry)


def ways_of(settings: Settings) -> Iterator[Way]:
    """Every way that a run with these settings goes, in its order."""
    yield from _ways_to_source(settings)
    for place in settings.destinations:
        yield from _ways_to(place, settings.network, destination=True)
    yield from _ways_to_registry(settings)


def _settings(book: Book, environ: Mapping[str, str], said: CommandLine) -> Settings | None:
    try:
        settings = environment.load(environ, command_line=said)
    except ConfigurationError as error:
        for problem in error.problems:
            book.findings.append(
                Finding("settings", "environment", "failed", problem, error.hint, error.exit_code, error.reason)
            )
    else:
        book.look("settings", "environment", lambda: f"{len(settings.origins)} variable(s), all understood")
        return settings
    try:
        return environment.load(environ, command_line=said, needs_source=False, registers=False)
    except ConfigurationError:
        book.skip("everything else", "environment", "the settings come first")
        return None


class Ways:
    """Looks at each way once, however many ends lie at it."""

    def __init__(self, book: Book, network: Network, clock: Clock) -> None:
        self._book = book
        self._network = network
        self._clock = clock
        self._reached: dict[tuple[str, bool], bool] = {}

    def __call__(self, ways: Iterable[Way]) -> bool:
        """Whether all of them lead to somebody."""
        found = []
        for way in ways:
            key = (way.url, way.validate_tls)
            if key not in self._reached:
                self._reached[key] = look_at_way(self._book, way, self._network, clock=self._clock)
            found.append(self._reached[key])
        return all(found)


def _ways_to_source(settings: Settings) -> Iterator[Way]:
    yield from _ways_to(settings.source, settings.network)
    data = settings.compression.dataset if settings.compression else None
    if isinstance(data, HubDataset):
        yield Way(data.endpoint, "HF_ENDPOINT")


def _ways_to_registry(settings: Settings) -> Iterator[Way]:
    if settings.registry is not None:
        yield Way(settings.registry.endpoint, _REGISTRY)


def _ways_to(location: object, network: Network, *, destination: bool = False) -> Iterator[Way]:
    """Every host that somebody at `location` will be asked at."""
    match location:
        case S3Location():
            yield _to_bucket(location, DESTINATION if destination else SOURCES[location.scheme])
        case CosLocation(bucket=bucket):
            unchecked = COS_SOURCE.unchecked
            yield Way(location.iam_endpoint, "S3_SYNC_COS_IAM_ENDPOINT", bucket.validate_tls, unchecked)
            yield _to_bucket(bucket, COS_SOURCE)
        case HuggingFaceLocation():
            yield Way(location.endpoint, "HF_ENDPOINT")
        case ImageLocation():
            yield _to_images(
                location, network, "OCI_IMAGE or S3_SYNC_DEST__PATH" if destination else "S3_SYNC_SRC__PATH"
            )
    if isinstance(base := getattr(location, "base", None), ImageLocation):
        yield _to_images(base, network, "OCI_BASE_IMAGE")


def _to_bucket(location: S3Location, end: End) -> Way:
    try:
        url = str(Origin.split(Endpoint.of(location, variable=end.endpoint).base(location.bucket))[0])
    except ConfigurationError:
        url = location.endpoint  # no URL at all, which the first step says
    return Way(url, end.endpoint, location.validate_tls, end.unchecked)


def _to_images(location: ImageLocation, network: Network, variable: str) -> Way:
    """By https, or by http where the registry speaks no TLS and that is allowed: the store's own rule."""
    with closing(Registry(location, network, writes=False, variable=variable, patience=Patience(seconds=0.0))) as found:
        try:
            url = str(found.session.origin)
        except SyncerError:
            url = f"https://{location.registry}"  # nobody answers, which the steps find out one by one
    return Way(url, variable, location.validate_tls, "OCI_VALIDATE_TLS")
