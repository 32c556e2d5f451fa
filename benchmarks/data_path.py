"""What a byte costs on its way through us, against the least that Python can do and against stock boto3.

    python -m benchmarks.data_path [--gib 4] [--rounds 3] [--path s3-s3|s3-dir|dir-s3] [--tls]

Where the destination is S3 we are measured twice, because we check what the store says about each part: at most stores
its ETag is an MD5, which costs us an MD5 of our own, and at some it is not.
Compiles and starts two stub servers, checks in one untimed round that every client delivers the right bytes, then
measures all clients in interleaved rounds and prints a Markdown table, the ratios and whether they meet their targets.
Exit 0 when all clients worked (met or not: this machine may be busy), 1 when one failed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.response import addinfourl

from benchmarks.clients import OURS, OURS_OPAQUE, RELAY, REPOSITORY, STOCK, Leg, ours, relay, stock
from benchmarks.compare import GIB, Client, Results, Target, compare, files_problem, objects_problem, say, table
from benchmarks.process import run
from benchmarks.server import Certificate, Objects, Stub, build

TARGETS = tuple(Target(us, them, most) for us in (OURS, OURS_OPAQUE) for them, most in ((RELAY, 1.25), (STOCK, 0.5)))
TINY = Objects("src/tiny/", 1, 1024)


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
            source=f"s3://{self.objects.prefix}" if from_s3 else str(self.folder / "from"),
            target=f"s3://{bucket}/models/" if to_s3 else str(self.folder / "to"),
            src_endpoint=self.source.url if from_s3 else "",
            dest_endpoint=self.target.url if to_s3 else "",
            authority=self.authority,
        )

    def clear(self) -> None:
        """Make the destination empty."""
        self.target.reset()
        shutil.rmtree(self.folder / "to", ignore_errors=True)
        (self.folder / "to").mkdir()

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

    def fill_folder(self) -> None:
        """Put the source's objects into the folder `from`, for clients that read files."""
        (self.folder / "from").mkdir()
        for name in self.objects.names:
            with (
                self._open(name.rpartition("/")[2]) as answer,
                (self.folder / "from" / Path(name).name).open("wb") as file,
            ):
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
def world(path: str, objects: Objects, *, tls: bool, base: Path | None) -> Iterator[World]:
    """Servers on the last core when there are several, and an empty folder."""
    cores = sorted(os.sched_getaffinity(0))
    pinned = frozenset(cores[-1:]) if len(cores) > 1 else None
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=base, prefix="syncer-bench-")))
        certificate = make_certificate(folder) if tls else None
        program = build(REPOSITORY / "build", tls=tls)
        source = stack.enter_context(Stub(program, objects=[objects, TINY], certificate=certificate, cores=pinned))
        target = stack.enter_context(
            Stub(program, buckets=["dst"], opaque_buckets=["opaque"], certificate=certificate, cores=pinned)
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


def start_up_seconds(made: World, cores: frozenset[int] | None) -> float:
    """CPU that we take before and after the bytes: a run with one file of 1 KiB."""
    leg = Leg(f"s3://{TINY.prefix}", "s3://dst/tiny/", made.source.url, made.target.url, made.authority)
    client = ours(leg)
    made.clear()
    cost = run(client.command, environment=client.environment, cores=cores)
    return cost.cpu if cost.status == 0 else float("nan")


def report(results: Results, clients: Sequence[Client], start_up: float, *, promised: bool) -> str:
    """Table and, where something was promised, ratios against targets, as Markdown."""
    lines = [table(results, clients, reference=RELAY), ""]
    if promised:
        lines += [f"- {target.verdict(results)[1]}" for target in TARGETS if target.ours in results.good]
    lines.append(f"- of that, {OURS}'s start and end (one file of 1 KiB): {start_up:.2f} s CPU")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=4, help="bytes of a run in GiB")
    parser.add_argument("--files", type=int, default=4, help="files that they are cut into; as many go at once")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--path", choices=("s3-s3", "s3-dir", "dir-s3"), default="s3-s3")
    parser.add_argument(
        "--tls", action="store_true", help="HTTPS on both sides (the stub then needs OpenSSL's headers)"
    )
    parser.add_argument("--folder", type=Path, help="where directories are made (default: the system's place for them)")
    given = parser.parse_args(arguments)

    objects = Objects("src/model/", given.files, int(given.gib * GIB / given.files))
    available = sorted(os.sched_getaffinity(0))
    cores = frozenset(available[:-1]) if len(available) > 1 else None
    with world(given.path, objects, tls=given.tls, base=given.folder) as made:
        clients = [
            ours(made.leg()),
            *([ours(made.leg("opaque"), name=OURS_OPAQUE)] if given.path.endswith("s3") else []),
            relay(made.leg(), lanes=given.files),
            stock(made.leg(), files=given.files),
        ]
        gib = objects.count * objects.size / GIB
        say("round 0: right bytes?")
        made.check_bytes(on=True)
        trial = compare(clients, made, gib=gib, rounds=1, cores=cores)
        if trial.bad:
            say("no measurement: a client did not deliver")
            return 1
        made.check_bytes(on=False)
        say(f"{given.rounds} rounds of {gib:g} GiB")
        results = compare(clients, made, gib=gib, rounds=given.rounds, cores=cores)
        start_up = start_up_seconds(made, cores)
    scheme = "https" if given.tls else "http"
    print(f"## {given.path}, {scheme}, {objects.count} x {objects.size / GIB:g} GiB, {given.rounds} rounds\n")
    print(report(results, clients, start_up, promised=given.path == "s3-s3" and not given.tls))
    return 1 if results.bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
