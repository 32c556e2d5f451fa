"""What a run does, in figures for Prometheus: `GET /metrics` on the port of `S3_SYNC_METRICS_PORT`, on all addresses.

Nothing is kept for it that is not kept anyway: each scrape asks the `Progress` of the moment.  No figure names a path,
a bucket or a person, so that there are few of them and none is a secret.  Nothing here may ever fail a run.

`METRICS` is the closed list of what is told; `docs/metrics.md` is written from it.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple, Self

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from syncer import __version__
from syncer.logs import Log, logger
from syncer.progress import PHASES, Figures, Phase, Progress
from syncer.settings.locations import Settings, UploadedByHand
from syncer.threads import NoThread, start

PATH: Final = "/metrics"
_SILENT_SECONDS: Final = 10.0
_SCRAPES_AT_ONCE: Final = 4
"""Whoever else comes is sent away: what asks must not cost a run its memory."""
_SCHEMES: Final = frozenset({"s3", "cos", "hf", "file", "oci", "oci-archive"})


class Described(NamedTuple):
    """One metric, as Prometheus and its readers know it."""

    name: str
    kind: Literal["counter", "gauge"]
    about: str
    labels: tuple[str, ...] = ()


_ENDS: Final = ("source", "destination")

METRICS: Final = {
    described.name: described
    for described in (
        Described(
            "syncer_run_info",
            "gauge",
            "Always 1: what runs here, from which kind of place to which",
            ("version", *_ENDS),
        ),
        Described(
            "syncer_read_bytes_total", "counter", "Bytes read from the source, those read once more included", _ENDS
        ),
        Described(
            "syncer_written_bytes_total",
            "counter",
            "Bytes sent to the destination, those sent once more included",
            _ENDS,
        ),
        Described("syncer_read_back_bytes_total", "counter", "Bytes read to prove or to compare what is there already"),
        Described("syncer_files_total", "counter", "Files that are done: copied, or found to be there"),
        Described("syncer_parts_total", "counter", "Parts of files that are whole at the destination"),
        Described(
            "syncer_retries_total",
            "counter",
            "Tries that failed and were made again, by what they failed of",
            ("cause",),
        ),
        Described(
            "syncer_phase_seconds_total", "counter", "Seconds that the run has spent in each of its phases", ("phase",)
        ),
        Described("syncer_goal_bytes", "gauge", "Bytes of the files that are being copied or read back now"),
        Described("syncer_done_bytes", "gauge", "How many of them are done; falls when a part or a file begins anew"),
        Described("syncer_files_in_flight", "gauge", "Files that are under way"),
        Described("syncer_parts_in_flight", "gauge", "Parts that are under way: connections in use on each side"),
        Described("syncer_lanes", "gauge", "Parts that the engine wants under way at once"),
        Described("syncer_memory_reserved_bytes", "gauge", "Memory that holds bytes of the model"),
        Described(
            "syncer_last_success_timestamp_seconds", "gauge", "When this process last sealed a model; 0 before it has"
        ),
    )
}


class Metrics(Collector):
    """The figures of one process, over all that it does one after another.  `known` has the settings of now."""

    def __init__(self, known: Callable[[], Settings], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._known = known
        self._clock = clock
        self._lock = threading.Lock()
        self._watched: dict[Progress, bool] = {}
        self._copied, self._proved = Figures(), Figures()
        self._files = 0
        self._retries: Counter[str] = Counter()
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._phase: Phase = "starting"
        self._since = clock()
        self._sealed_at = 0.0

    def enter(self, phase: Phase) -> None:
        """The run is in `phase` from now on."""
        with self._lock:
            now = self._clock()
            self._seconds[self._phase] += now - self._since
            self._phase, self._since = phase, now
            if phase == "finished":
                self._sealed_at = time.time()

    @contextmanager
    def watching(self, progress: Progress) -> Iterator[None]:
        """Ask `progress` for the figures until this ends, and keep the last ones."""
        with self._lock:
            copies = self._watched[progress] = self._phase == "copying"
        try:
            yield
        finally:
            figures, retries, files = progress.figures(), progress.retries(), progress.snapshot().done_files
            with self._lock:
                del self._watched[progress]
                if copies:
                    self._copied += figures
                    self._files += files
                else:
                    self._proved += figures
                self._retries += retries

    def collect(self) -> Iterator[Metric]:
        """All metrics of `METRICS`, as they are now."""
        with self._lock:
            watched, copied, proved, files = dict(self._watched), self._copied, self._proved, self._files
            retries, seconds = Counter(self._retries), dict(self._seconds)
            seconds[self._phase] += self._clock() - self._since
            sealed_at = self._sealed_at
        snapshots = []
        for progress, copies in watched.items():
            snapshot, figures = progress.snapshot(), progress.figures()
            snapshots.append((snapshot, figures))
            retries += progress.retries()
            if copies:
                copied += figures
                files += snapshot.done_files
            else:
                proved += figures
        settings = self._known()
        ends = (_kind(settings.source), ",".join(map(_kind, settings.destinations)))
        yield _family("syncer_run_info", {(__version__, *ends): 1})
        yield _family("syncer_read_bytes_total", {ends: copied.read_bytes})
        yield _family("syncer_written_bytes_total", {ends: copied.sent_bytes})
        yield _family("syncer_read_back_bytes_total", {(): proved.read_bytes})
        yield _family("syncer_files_total", {(): files})
        yield _family("syncer_parts_total", {(): copied.parts})
        yield _family("syncer_retries_total", {(cause,): count for cause, count in retries.items()})
        yield _family("syncer_phase_seconds_total", {(phase,): spent for phase, spent in seconds.items()})
        now = [figures for _, figures in snapshots]
        yield _family("syncer_goal_bytes", {(): sum(snapshot.total_bytes for snapshot, _ in snapshots)})
        yield _family("syncer_done_bytes", {(): sum(snapshot.done_bytes for snapshot, _ in snapshots)})
        yield _family("syncer_files_in_flight", {(): sum(len(snapshot.in_flight) for snapshot, _ in snapshots)})
        yield _family("syncer_parts_in_flight", {(): sum(figures.parts_in_flight for figures in now)})
        yield _family("syncer_lanes", {(): sum(snapshot.lanes for snapshot, _ in snapshots)})
        yield _family("syncer_memory_reserved_bytes", {(): sum(figures.memory_bytes for figures in now)})
        yield _family("syncer_last_success_timestamp_seconds", {(): sealed_at})


class Server:
    """Serves `metrics` at `port` from `with` to its end.  A port that is not to be had is a warning, no failure."""

    def __init__(self, metrics: Metrics, port: int, *, log: Log | None = None) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(metrics)
        self._port = port
        self._log = log or logger(component="metrics")
        self._server: ThreadingHTTPServer | None = None

    def __enter__(self) -> Self:
        try:
            self._server = _listening(self._port, self._registry)
        except OSError as error:
            self._log.warning("metrics_not_served", port=self._port, reason=str(error), variable="S3_SYNC_METRICS_PORT")
            return self
        serve, every = self._server.serve_forever, {"poll_interval": 0.1}
        try:
            start(threading.Thread(target=serve, kwargs=every, name="metrics", daemon=True))
        except NoThread as error:
            self._server.server_close()
            self._server = None
            self._log.warning("metrics_not_served", port=self._port, reason=error.message, hint=error.hint)
            return self
        self._log.info("metrics_served", port=self.port, path=PATH)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port if self._server is None else int(self._server.server_address[1])


def _kind(location: Any) -> str:
    """What sort of place this is, in one word; a place has no name here."""
    if location is None:
        return ""
    if isinstance(location, UploadedByHand):
        return "uploaded"
    scheme, separator, _ = str(location.uri).partition(":")
    return scheme if separator and scheme in _SCHEMES else "file"


def _family(name: str, values: Mapping[tuple[str, ...], float]) -> Metric:
    described = METRICS[name]
    family: CounterMetricFamily | GaugeMetricFamily
    if described.kind == "counter":
        family = CounterMetricFamily(name, described.about, labels=described.labels)
    else:
        family = GaugeMetricFamily(name, described.about, labels=described.labels)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


class _Listener(ThreadingHTTPServer):
    """Each scrape has a thread, and a few are served at once."""

    daemon_threads = True
    block_on_close = False  # a scrape that hangs holds nobody up
    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET

    def __init__(self, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self.places = threading.BoundedSemaphore(_SCRAPES_AT_ONCE)
        super().__init__(("", port), handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        TCPServer.server_bind(self)  # HTTPServer's own looks the host's name up

    def verify_request(self, _request: object, _client_address: object) -> bool:
        return self.places.acquire(blocking=False)

    def process_request(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread for it
            self.places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.places.release()

    def handle_error(self, _request: object, _client_address: object) -> None:
        """Who went away in the middle of an answer is nobody's trouble."""


def _listening(port: int, registry: CollectorRegistry) -> ThreadingHTTPServer:
    """A server that listens at all addresses, of both families where the host has both."""

    class Answer(BaseHTTPRequestHandler):
        """Answers one scrape."""

        timeout = _SILENT_SECONDS  # who says nothing holds a thread for no longer
        server_version, sys_version = "syncer", ""

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != PATH:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            encode, kind = choose_encoder(self.headers.get("Accept", ""))
            text = encode(registry)
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_said: object) -> None:
            """A scrape is no event."""

    return _Listener(port, Answer)
