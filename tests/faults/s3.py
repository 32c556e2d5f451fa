"""S3, as source and as destination: RADOS Gateway, with a directory at the other end."""

import contextlib
import itertools
import re
import ssl
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme

from tests.faults.frame import (
    ASKED,
    LEFT,
    MODEL,
    NOTHING,
    READ,
    RESTARTED,
    SENT,
    SMALL_STEPS,
    Bench,
    MiB,
    Phase,
    Row,
    SealedWrongError,
    Store,
)
from tests.support.buckets import S3Server
from tests.support.fault_proxy import FaultProxy
from tests.support.http_faults import FAULTS, Fault
from tests.support.kill_places import CONTROL
from tests.support.models import read_model, write_model
from tests.support.rados_gateway import RadosGateway

SOURCE_PHASES = (
    Phase("list", r"^GET .*list-type=2", frozenset({"document"})),
    Phase("read a part", r"^GET .*/model\.safetensors", frozenset({"bytes", "ranged"})),
    Phase("read a whole file", r"^GET .*/config\.json", frozenset({"bytes"})),
)
DESTINATION_PHASES = (
    Phase("list", r"^GET .*list-type=2", frozenset({"document"})),
    Phase("lease", r"^PUT .*/lease\.json", frozenset({"change"})),
    Phase("write a whole file", r"^PUT .*/config\.json", frozenset({"upload", "change"})),
    Phase("start an upload", r"^POST .*\?uploads", frozenset({"change", "document"})),
    Phase("write a part", r"^PUT .*partNumber=1&", frozenset({"upload", "change"})),
    Phase("complete", r"^POST .*\?uploadId", frozenset({"change", "document"})),
    Phase("seal", r"^PUT .*/complete\.json", frozenset({"change"})),
    Phase("give the lease back", r"^DELETE .*/lease\.json", frozenset({"change"})),
)

SMALL_MODEL = {path: data for path, data in MODEL.items() if len(data) < 5 * MiB}
"""Enough for the phases that have nothing to do with parts."""
_OF_PARTS = re.compile("part|upload|complete")

MOST_TAKEN = 32 * MiB
"""Of 100 MB of headers; most of it lies in the system's buffers."""
LEASE = ".syncer/lease.json"

_numbers = itertools.count(1)


@dataclass
class Proxies:
    """The same server by http and by https, of which a fault needs one."""

    plain: FaultProxy
    encrypted: FaultProxy
    ca_file: Path
    used: FaultProxy

    @classmethod
    @contextmanager
    def before(cls, server: S3Server, folder: Path) -> "Iterator[Proxies]":
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(tls)
        with FaultProxy(*server.address) as plain, FaultProxy(*server.address, tls=tls) as encrypted:
            yield cls(plain, encrypted, folder / "ca.pem", plain)

    def choose(self, *, tls: bool) -> None:
        self.used = self.encrypted if tls else self.plain

    def environment(self) -> dict[str, str]:
        return {"AWS_CA_BUNDLE": str(self.ca_file)} if self.used.tls else {}

    def forget(self) -> None:
        self.choose(tls=False)
        self.plain.forget()
        self.encrypted.forget()

    def requests(self) -> Counter[str]:
        """What was asked since `forget`, without what differs from run to run."""
        seen = [*self.plain.requests, *self.encrypted.requests]
        return Counter(
            re.sub(r"(uploadId=)[^&]*|(?<=/state/).*|case-\d+|\b(whole|small)\b", r"\1", str(one)) for one in seen
        )

    @contextmanager
    def disturbed(self, row: Row, phase: Phase, *, for_ever: bool) -> Iterator[None]:
        assert isinstance(row, Fault)
        self.choose(tls=row.tls)
        self.used.inject(row.act, phase.pattern, for_ever=for_ever)
        try:
            yield
        finally:
            self.used.heal()

    def check_strangers(self) -> None:
        """Nobody followed a redirect with credentials, and nobody took an answer that does not end."""
        heads = b"".join([*self.plain.strangers, *self.encrypted.strangers])
        assert b"authorization" not in heads.lower()
        assert max(self.plain.poured, self.encrypted.poured) <= MOST_TAKEN


@dataclass
class _S3Bench:
    server: S3Server
    bucket: str
    proxies: Proxies
    folder: Path
    number: int = 0
    normal: Counter[str] = field(default_factory=Counter)
    phase: str = ""
    model: Mapping[str, bytes] = field(default_factory=lambda: MODEL)

    def anew(self) -> None:
        self.number = next(_numbers)
        self.phase = ""
        self.model = MODEL
        self.proxies.forget()

    def learn(self) -> None:
        self.normal = self.proxies.requests()

    def disturbed(self, row: Row, phase: Phase, *, for_ever: bool) -> contextlib.AbstractContextManager[None]:
        self.phase = phase.name
        self.model = MODEL if _OF_PARTS.search(phase.name) else SMALL_MODEL
        return self.proxies.disturbed(row, phase, for_ever=for_ever)

    @property
    def size(self) -> str:
        """The name of the model that the phase takes."""
        return "whole" if self.model is MODEL else "small"

    def hits(self) -> int:
        return self.proxies.used.hits

    def more(self, pattern: str) -> int:
        """How many more such requests than in a run that nobody disturbed."""
        seen = self.proxies.requests()
        return sum(
            max(0, count - self.normal[request]) for request, count in seen.items() if re.search(pattern, request)
        )


class SourceBench(_S3Bench):
    """A bucket to read from, a folder to write to."""

    @property
    def target(self) -> Path:
        return self.folder / f"case-{self.number}"

    def environment(self) -> Mapping[str, str]:
        source = self.server.source_environment(self.bucket, f"{self.size}/", endpoint=self.proxies.used.endpoint)
        return source | self.proxies.environment() | SMALL_STEPS | {"S3_SYNC_DEST__PATH": str(self.target)}

    def look(self) -> bool:
        return look_at_folder(self.target, self.model)

    def check(self) -> None:
        check_folder(self.target, self.model)
        self.proxies.check_strangers()

    def cost(self) -> str:
        if self.more("^HEAD "):
            return RESTARTED
        if self.more(r"^GET /[^?]*//"):
            return READ
        return ASKED if self.more("") else NOTHING


class DestinationBench(_S3Bench):
    """A folder to read from, a bucket to write to."""

    @property
    def prefix(self) -> str:
        return f"case-{self.number}/"

    def environment(self) -> Mapping[str, str]:
        return (
            SMALL_STEPS
            | self.proxies.environment()
            | {
                "S3_SYNC_SRC__PATH": str(self.folder / self.size),
                "S3_SYNC_DEST__PATH": f"s3://{self.bucket}/{self.prefix}",
                "S3_SYNC_DEST__ENDPOINT": self.proxies.used.endpoint,
                "S3_SYNC_DEST__ACCESS_KEY": self.server.access_key,
                "S3_SYNC_DEST__SECRET_KEY": self.server.secret_key,
                "S3_SYNC_DEST__REGION": self.server.region,
            }
        )

    def look(self) -> bool:
        sizes = self.server.keys(self.bucket, self.prefix)
        files = {key.removeprefix(self.prefix): size for key, size in sizes.items() if "/.syncer/" not in key}
        if f"{self.prefix}{CONTROL[0]}" not in sizes:
            assert files.items() <= sizes_of(self.model).items()
            return False
        check_bytes(self.server.read(self.bucket, self.prefix), self.model)
        return True

    def check(self) -> None:
        assert self.look()
        assert set(self.server.control(self.bucket, self.prefix)) - {LEASE} == set(CONTROL)
        assert not self.lease_left() or self.phase == "give the lease back"
        assert not [key for key in self.server.open_uploads(self.bucket) if key.startswith(self.prefix)]
        self.proxies.check_strangers()

    def lease_left(self) -> bool:
        return LEASE in self.server.control(self.bucket, self.prefix)

    def cost(self) -> str:
        if self.lease_left():
            return LEFT
        if self.more(r"^PUT (?!.*/\.syncer/)"):
            return RESTARTED if self.more(r"^POST .*\?uploads") else SENT
        if self.more(r"^GET (?!.*(/\.syncer/|\?))"):
            return READ
        return ASKED if self.more("") else NOTHING


def sizes_of(model: Mapping[str, bytes]) -> dict[str, int]:
    """What may lie there before the seal does: files of their right size."""
    return {path: len(data) for path, data in model.items()}


def check_bytes(there: Mapping[str, bytes], model: Mapping[str, bytes]) -> None:
    """What is sealed is the model."""
    if there != model:
        wrong = [path for path in model.keys() | there.keys() if there.get(path) != model.get(path)]
        raise SealedWrongError(f"sealed, and yet wrong: {wrong}")


def look_at_folder(folder: Path, model: Mapping[str, bytes] = MODEL) -> bool:
    """Whether a folder is sealed; asserts that nothing in it is wrong."""
    there = read_model(folder)
    if (folder / CONTROL[0]).exists():
        check_bytes(there, model)
        return True
    assert sizes_of(there).items() <= sizes_of(model).items()
    return False


def check_folder(folder: Path, model: Mapping[str, bytes] = MODEL) -> None:
    """Sealed, whole, and nothing left over."""
    assert look_at_folder(folder, model)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == model.keys() | set(CONTROL)


def _opener(kind: type[_S3Bench]) -> Callable[[pytest.FixtureRequest, Path], contextlib.AbstractContextManager[Bench]]:
    @contextmanager
    def opened(request: pytest.FixtureRequest, folder: Path) -> Iterator[Bench]:
        rgw: RadosGateway = request.getfixturevalue("rgw")
        server = rgw.server()
        bucket = server.new_bucket("faults")
        for name, model in (("whole", MODEL), ("small", SMALL_MODEL)):
            server.fill(bucket, model, prefix=f"{name}/")
            write_model(folder / name, model)
        with ExitStack() as running:
            proxies = running.enter_context(Proxies.before(server, folder))
            bench = kind(server, bucket, proxies, folder)
            yield bench  # type: ignore[misc]  # both kinds are whole

    return opened


STORES = (
    Store(
        "s3-source",
        SOURCE_PHASES,
        tuple(FAULTS.values()),
        _opener(SourceBench),
    ),
    Store(
        "s3-destination",
        DESTINATION_PHASES,
        tuple(FAULTS.values()),
        _opener(DestinationBench),
    ),
)
