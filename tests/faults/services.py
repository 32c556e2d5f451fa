"""What the benches of registry, Hub, IAM and Model Registry have in common: the rows, and a folder at the other end.

These services word errors in JSON, and know nothing of S3's codes; instead there are logins that end, and proxies that
say 200 to a browser.
"""

import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from syncer.wire.dialing import Timeouts
from tests.faults.frame import ASKED, NOTHING, SMALL_STEPS, Phase, Row
from tests.faults.hurry import QUIET
from tests.faults.s3 import Proxies, check_folder, look_at_folder
from tests.support.fault_proxy import FaultProxy, Incident, Refusal, Reply, Seen
from tests.support.http_faults import FAULTS, Fault, Kind

_NO_BODY = "the answer has no body that is read"


def _refused(status: int, code: str) -> Callable[[Incident], None]:
    def act(incident: Incident) -> None:
        incident.answer(incident.refusal(status, code))

    return act


def _page(incident: Incident) -> None:
    """What a network says that wants people to log in first; the request never arrives."""
    body = b"<html><head><title>Welcome</title></head><body>Please accept our terms</body></html>"
    incident.answer(Reply(200, "OK", [("Content-Type", "text/html")], body))


_LEFT_OUT = frozenset({
    "301 to another host", "429", "503", "503 with Retry-After", "an answer byte by byte", "100 MB of headers",
    "half-open: the end of the stream instead of an answer", "reset in the middle of the answer",
    "silence in the middle of the answer",
})  # fmt: skip
"""What differs from a neighbour in the list by nothing that these clients see; the tables of S3 have it."""


def _whole_file(incident: Incident) -> None:
    """What a server without ranges says, which can be asked of it where requests are not signed."""
    incident.headers = [(name, value) for name, value in incident.headers if name.lower() != "range"]
    incident.answer(incident.pass_on())


def _is_ours(name: str) -> bool:
    return name not in _LEFT_OUT and not name.startswith("403 ")


_MORE: tuple[Fault, ...] = (
    Fault("200 with a page for people", _page, frozenset[Kind]({"change", "document", "bytes"}), _NO_BODY),
    Fault("401", _refused(401, "UNAUTHORIZED")),
    Fault("403", _refused(403, "DENIED")),
)
_WHOLE = "200 with the whole file instead of a range"
_ALL = (
    *(
        replace(fault, act=_whole_file) if fault.name == _WHOLE else fault
        for fault in FAULTS.values()
        if _is_ours(fault.name)
    ),
    *_MORE,
)


def rows_of(phases: Sequence[Phase]) -> tuple[Fault, ...]:
    """The faults that can happen in one of the phases; S3's own codes are not among them."""
    return tuple(fault for fault in _ALL if any(fault.fits(phase.kinds) for phase in phases))


ONE_BY_ONE = SMALL_STEPS | {
    "S3_SYNC_TRANSFER_CONFIG__MAX_FILES": "1",
    "S3_SYNC_TRANSFER_CONFIG__MAX_THREADS_PER_FILE": "1",
}
"""Lanes beside each other ask for the same now and then, and a table must not differ by that."""
_SHORT_SILENCE = 0.7
_DIFFERS = re.compile(
    r"-?case-\d+|\?.*signature=.*|(?<=/uploads/)[-\w]+\?_state=[^&]*|(?<=/manifests/)sha256:\w+", re.IGNORECASE
)

_numbers = itertools.count(1)


def refusal(document: Callable[[str], Any]) -> Refusal:
    """How a service words an error of a code, in JSON."""
    return lambda _status, code: ("application/json", json.dumps(document(code)).encode())


@dataclass(frozen=True)
class At:
    """Where `url` listens, for `Proxies.before`."""

    url: str

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return str(parts.hostname), int(parts.port or 0)


@contextmanager
def proxies_before(url: str, folder: Path, words: Refusal) -> Iterator[Proxies]:
    """The service at `url` by http and by https, whose proxies word errors as it does."""
    with Proxies.before(At(url), folder) as proxies:  # type: ignore[arg-type]  # its address is all that is wanted
        proxies.plain.refusal = proxies.encrypted.refusal = words
        yield proxies


@dataclass
class Service:
    """A bench with one or more services, each behind proxies of its own; the first ones are those of most phases.

    `limits` are the seconds of silence that somebody bears for longer than usual, each a module and a name.
    """

    folder: Path
    services: tuple[Proxies, ...]
    number: int = 0
    normal: Counter[str] = field(default_factory=Counter)
    limits: tuple[tuple[Any, str], ...] = ()
    hit: FaultProxy | None = None
    phase: str = ""

    def anew(self) -> None:
        self.number = next(_numbers)
        self.phase, self.hit = "", None
        for proxies in self.services:
            proxies.forget()

    def learn(self) -> None:
        self.normal = self.requests()

    def hits(self) -> int:
        return self.hit.hits if self.hit is not None else 0

    def disturbed(self, row: Row, phase: Phase, *, for_ever: bool) -> AbstractContextManager[None]:
        return self._disturbed(row, phase, for_ever=for_ever)

    @contextmanager
    def _disturbed(self, row: Row, phase: Phase, *, for_ever: bool) -> Iterator[None]:
        assert isinstance(row, Fault)
        for proxies in self.services:
            proxies.choose(tls=row.tls)
        self.phase = phase.name
        self.hit = self.proxies_of(phase).used
        self.hit.inject(row.act, phase.pattern, at=self.turn_of(phase), for_ever=for_ever)
        with pytest.MonkeyPatch.context() as patch:
            if row.silent:
                patch.setattr(Timeouts.__init__, "__defaults__", (QUIET, _SHORT_SILENCE, 20.0))
                for module, name in self.limits:
                    patch.setattr(module, name, _SHORT_SILENCE)
            try:
                yield
            finally:
                self.hit.heal()

    def proxies_of(self, phase: Phase) -> Proxies:
        """Whose requests a phase is about."""
        return self.services[0]

    def turn_of(self, phase: Phase) -> int:
        """Which of the requests that match is the phase's first."""
        return 1

    def seen(self) -> list[Seen]:
        """All requests since `anew`."""
        return [
            seen for proxies in self.services for proxy in (proxies.plain, proxies.encrypted) for seen in proxy.requests
        ]

    def requests(self) -> Counter[str]:
        """All requests since `anew`, without what differs from run to run."""
        return Counter(_DIFFERS.sub("", str(seen)) for seen in self.seen())

    def more(self, pattern: str = "") -> int:
        """How many more such requests than in a run that nobody disturbed."""
        return sum(
            max(0, count - self.normal[request])
            for request, count in self.requests().items()
            if re.search(pattern, request)
        )

    def asked(self) -> str:
        """The cost of a run that moved no byte twice."""
        return ASKED if self.more() else NOTHING

    def check_strangers(self) -> None:
        for proxies in self.services:
            proxies.check_strangers()


@dataclass
class ToFolder(Service):
    """A service to read from, a folder to write to."""

    @property
    def target(self) -> Path:
        return self.folder / f"case-{self.number}"

    def to_folder(self) -> dict[str, str]:
        return {"S3_SYNC_DEST__PATH": str(self.target)} | self.services[0].environment()

    def look(self) -> bool:
        return look_at_folder(self.target)

    def check(self) -> None:
        check_folder(self.target)
        self.check_strangers()
