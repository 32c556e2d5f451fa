"""What Python reads before the program starts, mounted over nothing of the image: the host that a test needs.

`sitecustomize` is a module that Python imports at its start, wherever it is on the path (https://docs.python.org/3/library/site.html).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

Md5 = Literal["for security alone", "never"]

_MARK = "audit: "
_LOOPBACK = {"127.0.0.1": "localhost", "::1": "localhost"}

_AUDIT = f"""\
import os, sys
def _hook(event, args):
    if event == "socket.connect" and isinstance(args[1], tuple):
        os.write(2, f"{_MARK}{{args[1][0]}} {{args[1][1]}}\\n".encode())
    elif event == "socket.getaddrinfo":
        os.write(2, f"{_MARK}{{args[0]}} {{args[1]}}\\n".encode())
sys.addaudithook(_hook)
"""

# In FIPS mode OpenSSL refuses the digest, Python's own `_md5` is not built, and `usedforsecurity=False` asks for an
# OpenSSL context without that rule (https://docs.python.org/3/library/hashlib.html). Some hosts refuse even that.
_WITHOUT_MD5 = """\
import hashlib, _hashlib, sys
_EVER = {ever!r}
_new, _openssl = hashlib.new, _hashlib.new
def _refuses(usedforsecurity):
    return usedforsecurity or not _EVER
def _guard(constructor):
    def new(name, *args, usedforsecurity=True, **more):
        if str(name).lower().startswith("md5") and _refuses(usedforsecurity):
            raise ValueError("[digital envelope routines] unsupported")
        return constructor(name, *args, usedforsecurity=usedforsecurity, **more)
    return new
hashlib.new, _hashlib.new = _guard(_new), _guard(_openssl)
def _md5(*args, **more):
    return hashlib.new("md5", *args, **more)
hashlib.md5 = _hashlib.openssl_md5 = _md5
sys.modules["_md5"] = None
"""


def auditing(folder: Path) -> list[str]:
    """Options of a container that says on its standard error whom Python connects to, or looks up."""
    return _mounted(folder, _AUDIT)


def place(url: str) -> tuple[str, int]:
    """Host and port; this machine's own addresses are one."""
    parts = urlsplit(url)
    return _LOOPBACK.get(str(parts.hostname), str(parts.hostname)), int(parts.port or 0)


def audited(output: str) -> set[tuple[str, int]]:
    """Places of all that it said."""
    lines = [line.removeprefix(_MARK).rsplit(" ", 1) for line in output.splitlines() if line.startswith(_MARK)]
    return {(_LOOPBACK.get(host, host), int(port)) for host, port in lines}


def without_md5(folder: Path, refused: Md5) -> list[str]:
    """Options of a container whose host refuses MD5: where security is not denied to be the purpose, or always."""
    return _mounted(folder, _WITHOUT_MD5.replace("{ever!r}", repr(refused == "for security alone")))


def _mounted(folder: Path, text: str) -> list[str]:
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    (folder / "sitecustomize.py").write_text(text, encoding="utf-8")
    return [f"--volume={folder}:/hooks:ro", "--env=PYTHONPATH=/hooks"]
