"""A registry of images, as source and as destination: Docker's own, with tokens and with Basic."""

import base64
import io
import json
import re
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from syncer.stores.oci import uploads
from tests.faults.frame import ASKED, MODEL, NOTHING, READ, RESTARTED, SENT, Bench, Phase, Store
from tests.faults.s3 import Proxies, check_bytes
from tests.faults.services import ONE_BY_ONE, Service, ToFolder, proxies_before, refusal, rows_of
from tests.support.docker_registry import COMMANDS, PASSWORD, USER, DockerRegistry, running_registry
from tests.support.models import write_model
from tests.support.processes import Pod

TOKEN, START, GIVE_UP, WRITE = "log in", "start a layer", "give a layer up", "write a part"
DESTINATION_PHASES = (
    Phase(TOKEN, r"^GET /token", frozenset({"document"})),
    Phase("list", r"^GET .*/manifests/latest$", frozenset({"document"})),
    Phase(GIVE_UP, r"^DELETE .*/blobs/uploads/", frozenset({"change"})),
    Phase(START, r"^POST .*/blobs/uploads/", frozenset({"change"})),
    Phase(WRITE, r"^PATCH ", frozenset({"upload", "change"})),
    Phase("close a layer", r"^PUT .*digest=", frozenset({"change"})),
    Phase("seal", r"^PUT .*/manifests/latest$", frozenset({"change"})),
    Phase("clean up", r"^DELETE .*/manifests/", frozenset({"change"})),
)
SOURCE_PHASES = (
    Phase("list", r"^GET .*/manifests/latest$", frozenset({"document"})),
    Phase("read a part", r"^GET .*/blobs/sha256:", frozenset({"bytes", "ranged"})),
)
_STEADY = r"^GET .*/uploads/|^DELETE |/manifests/latest|^GET /token|^GET /v2/$|"
_PARTS = 4
"""PATCHes of a run: one of each small file, two of the large one."""


def logins(folder: Path, proxies: Proxies) -> Path:
    """A file of logins for both of a registry's proxies."""
    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    names = [proxy.endpoint.partition("://")[2] for proxy in (proxies.plain, proxies.encrypted)]
    path = folder / "logins.json"
    path.write_text(json.dumps({"auths": {name: {"auth": login} for name in names}}))
    return path


def name_of(proxies: Proxies) -> str:
    return proxies.used.endpoint.partition("://")[2]


@dataclass
class Stored:
    """What a repository has, looked up in the registry's own folder."""

    registry: DockerRegistry
    repository: str

    @property
    def folder(self) -> Path:
        return self.registry.folder / "data/docker/registry/v2"

    def tags(self) -> dict[str, str]:
        found = (self.folder / f"repositories/{self.repository}/_manifests/tags").glob("*/current/link")
        return {path.parts[-3]: path.read_text() for path in found}

    def uploads(self) -> list[str]:
        """Upload sessions; of one that was given up the registry itself leaves a folder without `startedat`."""
        found = (self.folder / f"repositories/{self.repository}/_uploads").glob("*/startedat")
        return [path.parent.name for path in found]

    def blob(self, digest: str) -> bytes:
        value = digest.removeprefix("sha256:")
        return (self.folder / f"blobs/sha256/{value[:2]}/{value}/data").read_bytes()

    def files(self, digest: str) -> dict[str, bytes]:
        """The files in the layers of an image."""
        found = {}
        for layer in json.loads(self.blob(digest))["layers"]:
            with tarfile.open(fileobj=io.BytesIO(self.blob(layer["digest"]))) as archive:
                for member in archive:
                    if content := archive.extractfile(member):
                        found[member.name.removeprefix("models/")] = content.read()
        return found


@dataclass
class DestinationBench(Service):
    """A folder to read from, a registry with tokens to write to."""

    registry: DockerRegistry | None = None
    layers: frozenset[str] = field(default_factory=frozenset)

    @property
    def stored(self) -> Stored:
        assert self.registry is not None
        return Stored(self.registry, f"team/case-{self.number}")

    def environment(self) -> Mapping[str, str]:
        there = self.services[0]
        return ONE_BY_ONE | {
            "S3_SYNC_SRC__PATH": str(self.folder / "source"),
            "S3_SYNC_DEST__PATH": f"oci://{name_of(there)}/{self.stored.repository}:latest",
            "S3_SYNC_DEST__VALIDATE_TLS": str(there.used.tls is not None).lower(),
            "REGISTRY_AUTH_FILE": str(self.folder / "logins.json"),
            "AWS_CA_BUNDLE": str(self.folder / "all.pem"),
        }

    def proxies_of(self, phase: Phase) -> Proxies:
        return self.services[phase.name == TOKEN]

    def turn_of(self, phase: Phase) -> int:
        return 2 if phase.name == START else 1  # the first one is begun to look around, and given up

    def learn(self) -> None:
        super().learn()
        manifest = json.loads(self.stored.blob(self.stored.tags()["latest"]))
        self.layers = frozenset(layer["digest"] for layer in manifest["layers"])

    def look(self) -> bool:
        digest = self.stored.tags().get("latest")
        if digest is None:
            return False
        check_bytes(self.stored.files(digest), MODEL)
        return True

    def check(self) -> None:
        assert self.look()
        # What cannot be removed is another name for the finished image, which costs nothing.
        assert set(self.stored.tags().values()) == {self.stored.tags()["latest"]}
        assert len(self.stored.uploads()) <= self.unreachable()
        self.check_strangers()

    def unreachable(self) -> int:
        """Uploads that nobody can give up.

        The request that does it is lost, or the answer that told of the upload, or the one that told where it goes on:
        this registry knows an upload by its latest address alone.
        """
        hits = [seen for seen in self.seen() if seen.hit]
        return len(hits) if self.phase in {START, GIVE_UP, WRITE} else 0

    def cost(self) -> str:
        seen = self.seen()
        patched = [one.target.partition("?")[0] for one in seen if one.method == "PATCH"]
        if len(set(patched)) > len(self.layers):
            return RESTARTED
        if len(patched) > _PARTS:
            return SENT
        begun = sum(one.method == "POST" and one.status != 401 for one in seen)
        looked = [one.target for one in seen if one.method == "HEAD"]
        closed = {found[1] for one in seen if one.method == "PUT" and (found := re.search("digest=(.*)", one.target))}
        # How often the journal is kept differs from run to run, and so do its layers and their number.
        more = begun > 1 + len(closed) or len(looked) > len(set(looked))
        return ASKED if more or self.more(_STEADY + "|".join(self.layers)) else NOTHING


@dataclass
class SourceBench(ToFolder):
    """A registry that wants Basic to read from, a folder to write to."""

    def environment(self) -> Mapping[str, str]:
        there = self.services[0]
        return (
            ONE_BY_ONE
            | self.to_folder()
            | {
                "S3_SYNC_SRC__PATH": f"oci://{name_of(there)}/team/model:latest",
                "S3_SYNC_SRC__VALIDATE_TLS": str(there.used.tls is not None).lower(),
                "REGISTRY_AUTH_FILE": str(self.folder / "logins.json"),
            }
        )

    def cost(self) -> str:
        return READ if self.more(r"/blobs/") else self.asked()


def _words(code: str) -> object:
    return {"errors": [{"code": code, "message": f"{code}, so it says"}]}


def _need_commands() -> None:
    if not all(map(shutil.which, COMMANDS)):
        pytest.skip(f"needs {', '.join(COMMANDS)} from the distribution's packages")


@contextmanager
def destination(_: pytest.FixtureRequest, folder: Path) -> Iterator[Bench]:
    _need_commands()
    write_model(folder / "source", MODEL)
    for name in ("registry", "tokens", "proxies"):
        (folder / name).mkdir()
    with ExitStack() as running:
        before: list[Proxies] = []

        def before_tokens(url: str) -> str:
            before.append(running.enter_context(proxies_before(url, folder / "tokens", refusal(_words))))
            return before[-1].encrypted.endpoint

        registry = running.enter_context(
            running_registry(folder / "registry", auth="bearer", before_tokens=before_tokens)
        )
        there = running.enter_context(
            proxies_before(f"http://{registry.authority}", folder / "proxies", refusal(_words))
        )
        logins(folder, there)
        (folder / "all.pem").write_text("".join(proxies.ca_file.read_text() for proxies in (there, *before)))
        yield DestinationBench(
            folder, (there, AlwaysEncrypted.of(before[-1])), limits=((uploads, "_CLOSING_SECONDS"),), registry=registry
        )


class AlwaysEncrypted(Proxies):
    """A registry names one address of its token server."""

    @classmethod
    def of(cls, proxies: Proxies) -> "AlwaysEncrypted":
        return cls(proxies.plain, proxies.encrypted, proxies.ca_file, proxies.encrypted)

    def choose(self, *, tls: bool) -> None:
        self.used = self.encrypted


@contextmanager
def source(_: pytest.FixtureRequest, folder: Path) -> Iterator[Bench]:
    _need_commands()
    write_model(folder / "source", MODEL)
    for name in ("registry", "proxies", "pod"):
        (folder / name).mkdir()
    with ExitStack() as running:
        registry = running.enter_context(running_registry(folder / "registry", auth="basic"))
        there = running.enter_context(
            proxies_before(f"http://{registry.authority}", folder / "proxies", refusal(_words))
        )
        logins(folder, there)
        told = {
            "S3_SYNC_SRC__PATH": str(folder / "source"),
            "S3_SYNC_DEST__PATH": f"oci://{name_of(there)}/team/model:latest",
            "S3_SYNC_DEST__VALIDATE_TLS": "false",
            "REGISTRY_AUTH_FILE": str(folder / "logins.json"),
        }
        pushed = Pod(folder / "pod").run_here(told)
        assert pushed.code == 0, pushed
        yield SourceBench(folder, (there,))


STORES = (
    Store(
        "registry-source",
        SOURCE_PHASES,
        rows_of(SOURCE_PHASES),
        source,
    ),
    Store(
        "registry-destination",
        DESTINATION_PHASES,
        rows_of(DESTINATION_PHASES),
        destination,
    ),
)
