"""The servers and folders that clients are measured between, and what must be there when they are done."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.response import addinfourl

from benchmarks.clients import REPOSITORY, Leg
from benchmarks.compare import files_problem, objects_problem
from benchmarks.server import Certificate, Objects, Stub, build

TINY = Objects("src/tiny/", 1, 1024)
"""What is left of a run without its bytes: the start and the end of a client."""
MEMORY_FOLDER = Path("/dev/shm")  # noqa: S108 - a file system in memory, for folders of our own


def client_cores() -> frozenset[int] | None:
    """All but the last core, which is the servers'; None where there is one alone."""
    cores = sorted(os.sched_getaffinity(0))
    return frozenset(cores[:-1]) if len(cores) > 1 else None


def server_cores() -> frozenset[int] | None:
    """The last core, None where there is one alone."""
    cores = sorted(os.sched_getaffinity(0))
    return frozenset(cores[-1:]) if len(cores) > 1 else None


@dataclass
class World:
    """Servers and folders of one comparison; `checked` turns sizes into bytes compared."""

    path: str
    source: Stub
    target: Stub
    folder: Path
    objects: Objects
    authority: Path | None
    checked: bool = False

    def leg(self, bucket: str = "dst") -> Leg:
        """The way that the clients go."""
        from_s3, to_s3 = self.path.startswith("s3"), self.path.endswith("s3")
        return Leg(
            source=f"s3://{self.objects.prefix}" if from_s3 else str(self.files),
            target=f"s3://{bucket}/models/" if to_s3 else str(self.folder / "to"),
            src_endpoint=self.source.url if from_s3 else "",
            dest_endpoint=self.target.url if to_s3 else "",
            authority=self.authority,
        )

    @property
    def files(self) -> Path:
        """The folder with the objects as files, for clients that read files."""
        return self.folder / "from" / Path(self.objects.prefix).name

    @property
    def work(self) -> Path:
        """An empty folder for clients that go by files of their own."""
        return self.folder / "work"

    def clear(self) -> None:
        """Make the destination empty."""
        self.source.reset()
        self.target.reset()
        for folder in (self.folder / "to", self.work):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()

    def problem(self) -> str:
        """What is wrong with the destination now."""
        names = [name.rpartition("/")[2] for name in self.objects.names]
        if self.path.endswith("s3"):
            expected = {f"models/{name}": self.objects.size for name in names}
            return objects_problem(self.target.stats()["objects"], expected)
        folder = self.folder / "to"
        problem = files_problem(folder, dict.fromkeys(names, self.objects.size))
        if problem or not self.checked:
            return problem
        wrong = [name for name in names if not self._same(folder / name, name)]
        return f"wrong bytes in {', '.join(wrong)}" if wrong else ""

    def server_seconds(self) -> float:
        """CPU time of both servers until now."""
        return self.source.cpu_seconds + self.target.cpu_seconds

    def check_bytes(self, *, on: bool) -> None:
        """Compare bytes from now on, or sizes alone."""
        self.checked = on
        self.target.check_bytes(on=on)

    def pin(self, cores: frozenset[int] | None) -> None:
        """Let the servers run on these cores from now on; None is all."""
        for server in (self.source, self.target):
            server.pin(cores or frozenset(os.sched_getaffinity(0)))

    def fill_folder(self) -> None:
        """Put the source's objects into the folder of files."""
        self.files.mkdir(parents=True)
        for name in self.objects.names:
            with self._open(Path(name).name) as answer, (self.files / Path(name).name).open("wb") as file:
                shutil.copyfileobj(answer, file, 1 << 20)

    def _open(self, name: str) -> contextlib.AbstractContextManager[addinfourl]:
        answer: addinfourl = self.source.opener().open(f"{self.source.url}/{self.objects.prefix}{name}")
        return answer

    def _same(self, path: Path, name: str) -> bool:
        with self._open(name) as answer, path.open("rb") as file:
            while piece := answer.read(1 << 20):
                if file.read(len(piece)) != piece:
                    return False
        return True


@contextlib.contextmanager
def world(
    path: str, objects: Objects, *, tls: bool, base: Path | None, flags: Sequence[str] = (), pinned: bool = True
) -> Iterator[World]:
    """Servers, on the last core when there are several, and empty folders in `base`; `flags` are the stub's own."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=base, prefix="syncer-bench-")))
        certificate = make_certificate(folder) if tls else None
        program = build(REPOSITORY / "build", tls=tls)
        cores = server_cores() if pinned else None
        source = stack.enter_context(
            Stub(program, objects=[objects, TINY], flags=flags, certificate=certificate, cores=cores)
        )
        target = stack.enter_context(
            Stub(program, buckets=["dst"], opaque_buckets=["opaque"], flags=flags, certificate=certificate, cores=cores)
        )
        made = World(path, source, target, folder, objects, certificate.authority if certificate else None)
        if path.startswith("dir"):
            made.fill_folder()
        yield made


def make_certificate(folder: Path) -> Certificate:
    """A certificate for the loopback, of an authority that lives as long as the folder."""
    import trustme

    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    certificate = Certificate(folder / "chain.pem", folder / "key.pem", folder / "authority.pem")
    issued.cert_chain_pems[0].write_to_path(certificate.chain)
    issued.private_key_pem.write_to_path(certificate.key)
    authority.cert_pem.write_to_path(certificate.authority)
    return certificate
