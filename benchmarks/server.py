"""The stub S3 server as a process: built with the system's C compiler, started on a free port of the loopback.

Refuses to run without a compiler: a server in Python would cost more than the clients that it should measure.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import ssl
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

SOURCES = Path(__file__).parent / "stub"
COMPILER = os.environ.get("CC", "cc")
ACCESS_KEY, SECRET_KEY, REGION = "benchmark", "benchmark-secret", "us-east-1"


def compiler() -> str | None:
    """Path of the C compiler (`CC`, else `cc`), None where there is none."""
    return shutil.which(COMPILER)


def build(folder: Path, *, tls: bool = False) -> Path:
    """Compile the stub into `folder` unless these very sources are there already; the program's path.

    Raises `SystemExit` with the compiler's words when it cannot be built.
    """
    if compiler() is None:
        raise SystemExit(f"no C compiler ({COMPILER}): install one (Debian: gcc libc6-dev) or name it in CC")
    parts = sorted(SOURCES.glob("*.[ch]"))
    sources = [str(part) for part in parts if part.suffix == ".c"]
    flags = ["-O2", "-Wall", "-Wextra", "-pthread"]
    libraries = ["-lssl", "-lcrypto"] if tls else []
    digest = hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()[:16]
    program = folder / f"s3stub-{digest}{'-tls' if tls else ''}"
    if program.exists():
        return program
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:  # two builders at once must not see half a program
        fresh = Path(scratch) / "s3stub"
        defines = ["-DWITH_TLS"] if tls else []
        command = [COMPILER, *flags, *defines, "-o", str(fresh), *sources, *libraries]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            hint = "\n--tls needs OpenSSL's headers (Debian: libssl-dev)" if tls else ""
            raise SystemExit(f"the stub server does not compile:\n{done.stderr}{hint}")
        fresh.rename(program)
    return program


@dataclass(frozen=True)
class Objects:
    """`count` virtual objects of `size` bytes each, called `prefix` + `000.safetensors` and so on."""

    prefix: str
    count: int
    size: int

    @property
    def names(self) -> list[str]:
        """The keys, `bucket/` included, as the prefix has it."""
        digits = 6 if self.count > 1000 else 3
        return [f"{self.prefix}{number:0{digits}}.safetensors" for number in range(self.count)]


@dataclass(frozen=True)
class Certificate:
    """Files in PEM format; `authority` is what a client must trust."""

    chain: Path
    key: Path
    authority: Path


class Stub:
    """One stub server.  A context manager; the process ends with it.

    ETags are MD5s, as those of most stores, but not in `opaque_buckets`.  `flags` are the program's own, see
    `stub/main.c`.  `cores` pins it, so that it does not compete with the client.
    """

    def __init__(
        self,
        program: Path,
        *,
        buckets: Iterable[str] = (),
        opaque_buckets: Iterable[str] = (),
        objects: Iterable[Objects] = (),
        flags: Sequence[str] = (),
        certificate: Certificate | None = None,
        cores: frozenset[int] | None = None,
    ) -> None:
        self._certificate = certificate
        command = [str(program), "-p", "0", *flags]
        for bucket in buckets:
            command += ["-b", bucket]
        for bucket in opaque_buckets:
            command += ["-E", bucket]
        for some in objects:
            command += ["-o", f"{some.prefix}:{some.count}:{some.size}"]
        if certificate:
            command += ["-t", f"{certificate.chain}:{certificate.key}"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the stub server did not start: {' '.join(command)}")
        self.port = int(line)
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.port}"
        if cores:
            self.pin(cores)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    @property
    def cpu_seconds(self) -> float:
        """User and system time of the server until now."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def pin(self, cores: frozenset[int]) -> None:
        """Serve all connections to come on these cores."""
        os.sched_setaffinity(self._process.pid, cores)

    def reset(self) -> None:
        """Forget all uploads and counters."""
        self._page("/_reset")

    def check_bytes(self, *, on: bool) -> None:
        """Whether uploads are compared with the pattern from now on (which costs the server)."""
        self._page(f"/_check/{'on' if on else 'off'}")

    def stats(self) -> dict[str, Any]:
        """Counters, `objects` (name, size, right) and `open_uploads`."""
        answer: dict[str, Any] = json.loads(self._page("/_stats"))
        return answer

    def opener(self) -> urllib.request.OpenerDirector:
        """What opens this server's addresses: no proxy, and its own authority trusted."""
        context = ssl.create_default_context(cafile=str(self._certificate.authority)) if self._certificate else None
        return urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )

    def _page(self, path: str) -> bytes:
        with self.opener().open(self.url + path) as answer:
            data: bytes = answer.read()
        return data
