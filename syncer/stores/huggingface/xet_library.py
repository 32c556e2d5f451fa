"""The library `hf_xet`, loaded and configured so that we can answer for what it does.

What its configuration object knows is set there, and wins over `HF_XET_*` of the user.  The rest it reads from the
environment alone, and this is the one place of the project that writes to it: just before the import, which opens a log
file already, and before each download.  Nothing else in this process reads these variables after the settings have.

Versions 1.6 to 1.8 were tried.  A setting that a version does not know is left out.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from syncer.errors import Transient
from syncer.settings.locations import Network
from syncer.trust import Trust

_MEMORY_FOLDER: Final = Path("/dev/shm")  # noqa: S108 - a memory-backed folder that every container has
_ONE_AT_A_TIME: Final = threading.Lock()
_TRUSTS: Final[dict[tuple[Path, ...], Trust]] = {}
"""Whose bundles the library reads whenever it opens a connection pool."""


class Progress(Protocol):
    """How far a download is: what we use of `hf_xet.GroupProgressReport`, which has no type hints."""

    @property
    def total_bytes_completed(self) -> int:
        """Bytes that were written."""
        ...


class Download(Protocol):
    """One file on its way: what we use of `hf_xet.XetFileDownload`.

    Its `try_result` is of no use: without somebody in `result` a download never ends (1.8).
    """

    def result(self) -> object:
        """Wait until the file is there, other threads go on; raises RuntimeError or OSError when it failed."""
        ...

    def cancel(self) -> None:
        """Fail the download now, wherever it waits.  Idempotent and quick."""
        ...


def start_download(
    network: Network, *, memory: int, into: Path, digest: str, size: int, connection: Mapping[str, Any]
) -> Download:
    """Begin to write a file of the store to `into`, with about `memory` bytes at most; it goes on in the background.

    `connection` goes to `new_file_download_group`.  Each download has a session of its own: the first one that fails
    would poison a common one (version 1.6).  Raises `Transient` when there is no such library here, or no folder in
    memory that it could be given, and the library's own RuntimeError and OSError.
    """
    with _ONE_AT_A_TIME, _folder_in_memory() as folder:
        trust = _TRUSTS.setdefault(network.ca_files, Trust(network.ca_files))
        _tell(_environment(network, bundle=trust.bundle(), folder=folder))
        try:
            import hf_xet  # type: ignore[import-untyped]  # the wheel brings no type hints
        except ImportError as error:  # there is no wheel for every machine
            raise Transient("the library hf_xet is not installed") from error
        config = hf_xet.XetConfig()
        known = set(config.keys())
        wanted = {name: value for name, value in _configuration(memory).items() if name in known}
        session = hf_xet.XetSession(config.with_config(wanted))
        group = session.new_file_download_group(**connection)
        download: Download = group.start_download_file(hf_xet.XetFileInfo(digest, size), str(into))
        return download


def _configuration(memory: int) -> Mapping[str, Any]:
    """`reconstruction.*` bounds the memory, see `xet.py`; the rest is about being a good guest.

    With a quarter and an eighth, `memory` was kept to for whatever way a file was spread over the store; with a half
    and a quarter it was exceeded by half.
    """
    buffer, layout = memory // 4, memory // 8
    return {
        "reconstruction.download_buffer_size": buffer,
        "reconstruction.download_buffer_perfile_size": 1,
        "reconstruction.download_buffer_limit": buffer,
        "reconstruction.min_reconstruction_fetch_size": layout,
        "reconstruction.max_reconstruction_fetch_size": layout,
        "reconstruction.min_prefetch_buffer": layout,
        "chunk_cache.size_bytes": 0,
        "client.ac_max_download_concurrency": 16,
        # Pauses of 10 ms, 100 ms, 1 s, 10 s: the first is also the factor.
        "client.retry_base_delay": "10ms",
        "client.retry_max_attempts": 4,
        "client.retry_max_duration": "15s",
        "client.connect_timeout": "15s",
        "client.read_timeout": "60s",
        "data.staging_subdir": ".",
        "telemetry.enabled": False,
        "system_monitor.enabled": False,
    }


def _tell(values: Mapping[str, str]) -> None:
    environment = os.environ  # noqa: TID251 - a library in Rust reads it from there alone; see the module
    for name, value in values.items():
        if value:
            environment[name] = value
        else:
            environment.pop(name, None)


def _environment(network: Network, *, bundle: str, folder: str) -> Mapping[str, str]:
    """Its log, the folder for the empty folders that it makes, whom it believes, and which way it goes.

    Empty values are for variables that must not be there.
    """
    values = {"HF_XET_LOG_DEST": os.devnull, "HF_XET_CACHE": folder, "SSL_CERT_FILE": bundle}
    for name, value in (
        ("http_proxy", network.proxies.get("http", "")),
        ("https_proxy", network.proxies.get("https", "")),
        ("all_proxy", ""),
        ("no_proxy", ",".join(filter(None, (network.no_proxy, "localhost,127.0.0.0/8,::1")))),
    ):
        values |= {name: value, name.upper(): value}
    return values


@contextmanager
def _folder_in_memory() -> Iterator[str]:
    """A folder for the empty folders that the library makes when a group begins, and never looks at again."""
    try:
        with tempfile.TemporaryDirectory(prefix="hf-xet-", dir=_MEMORY_FOLDER, ignore_cleanup_errors=True) as folder:
            yield folder
    except OSError as error:
        if Path(str(error.filename or "")).parent != _MEMORY_FOLDER:
            raise
        raise Transient(f"there is no writable {_MEMORY_FOLDER} for the empty folders of hf_xet") from error
