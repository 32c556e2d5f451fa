"""This pod: as whom it runs, its memory, processors and GPUs, and the places that it writes to itself."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from syncer.compressing import child, room
from syncer.control_groups import in_use, memory_limit, processor_limit, usable_processors
from syncer.copying import sizing
from syncer.errors import ConfigurationError
from syncer.examining.findings import Book, Skipped
from syncer.settings.child import inherited
from syncer.settings.locations import ArchiveLocation, DirectoryLocation, GatheredLocation, Settings
from syncer.stores.directory.faults import existing, shown, translated

_MIB: Final = 1 << 20
_SYSTEM: Final = Path("/")
_PATIENCE: Final = 20.0
"""Seconds for nvidia-smi, which may wake a sleeping driver."""
_TEKTON: Final = Path("/tekton")


def _nvidia_smi() -> str | None:
    """Name, memory and free memory (MiB) of each GPU as lines; None where there is no such program."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = ("--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits")
    try:
        done = subprocess.run(
            (program, *query), env=inherited({}), capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _broken_driver(type(error).__name__) from error
    if done.returncode:
        raise _broken_driver((done.stdout + done.stderr).strip() or f"exit code {done.returncode}")
    return done.stdout


@dataclass(frozen=True)
class Host:
    """Where to look; everything else than the defaults is for tests."""

    root: Path = _SYSTEM
    may: Callable[[Path, int], bool] = os.access
    gpus: Callable[[], str | None] = _nvidia_smi


def look_at_host(book: Book, settings: Settings, host: Host) -> None:
    """All steps that need nobody else."""
    book.look("user", "UID and groups", lambda: _user(settings, host))
    book.look("memory", "limit of the control group", lambda: _memory(settings, host))
    book.look("processors", "limit of the control group", lambda: _processors(host))
    if settings.compression is None:
        book.skip("GPU", "compression", "COMPRESS_MODEL is not asked for")
    else:
        book.look("compression", "torch and llmcompressor", _library)
        book.look("GPU", "nvidia-smi", lambda: _gpu(host))
    _look_at_places(book, settings)


def _user(settings: Settings, host: Host) -> str:
    process = f"UID {os.getuid()}, GID {os.getgid()}, groups {' '.join(map(str, sorted(os.getgroups())))}"
    for path, variable, wanted in _folders(settings):
        here = existing(path)
        if not host.may(here, wanted):
            found = here.stat()
            mode = f"{stat.S_IMODE(found.st_mode):04o}"
            raise ConfigurationError(
                f"{process}; {shown(str(here))} belongs to UID {found.st_uid}, GID {found.st_gid}, mode {mode}",
                hint="give the pod the volume's fsGroup or supplemental group, or make the folder that "
                f"{variable} names accessible for the group",
            )
    return process


def _folders(settings: Settings) -> list[tuple[Path, str, int]]:
    """The folders of the settings, who names them, and what we have to be allowed to do there."""
    reads, writes = os.R_OK | os.X_OK, os.R_OK | os.W_OK | os.X_OK
    found = []
    match settings.source:
        case DirectoryLocation(path=path):
            found.append((path, "S3_SYNC_SRC__PATH", reads if path.is_dir() else os.R_OK))
        case ArchiveLocation(path=path):
            found.append((path, "S3_SYNC_SRC__PATH", os.R_OK))
        case GatheredLocation(paths=paths):
            found += [(path, "the command line", os.R_OK) for path in paths]
    for place in settings.destinations:
        if isinstance(place, DirectoryLocation | ArchiveLocation):
            folder = place.path.parent if isinstance(place, ArchiveLocation) else place.path
            found.append((folder, "S3_SYNC_DEST__PATH", writes))
    return found


def _memory(settings: Settings, host: Host) -> str:
    limit, used = memory_limit(root=host.root), in_use(root=host.root)
    wanted = settings.compression
    if wanted is not None:
        least = room.Needs(memory=room.LIBRARIES, result=0, device=0)
        room.refuse_small_memory(least, room.memory_to_be_had(root=host.root), samples=wanted.dataset is not None)
    if limit is None:
        raise Skipped(f"no limit; this process uses {_mib(used)}")
    budget = sizing(settings).memory
    if used + budget > limit:
        raise ConfigurationError(
            f"the limit is {_mib(limit)}, {_mib(used)} are in use, the buffers of a copy take {_mib(budget)}",
            hint="raise the memory limit of the pod, or lower S3_SYNC_TRANSFER_CONFIG__MEMORY",
        )
    return f"limit {_mib(limit)}, in use {_mib(used)}, {_mib(budget)} for the buffers of a copy"


def _processors(host: Host) -> str:
    usable = usable_processors()
    allowed = processor_limit(root=host.root)
    if allowed is None:
        raise Skipped(f"no limit; {usable} processors")
    return f"limit {allowed:g} of {usable} processors"


def _library() -> str:
    child.refuse_without_library()
    return "installed"


def _gpu(host: Host) -> str:
    told = host.gpus()
    if told is None:
        raise Skipped("no nvidia-smi here: compression would use the processors", hint="give the pod nvidia.com/gpu: 1")
    seen = []
    for line in told.splitlines():
        name, total, free = (*(word.strip() for word in line.rsplit(",", 2)), "", "")[:3]
        if total.isdecimal() and free.isdecimal():
            seen.append(f"{name}: {_mib(int(free) * _MIB)} of {_mib(int(total) * _MIB)} free")
    if not seen:
        raise _broken_driver("it lists no GPU")
    return "; ".join(seen)


def _broken_driver(why: str) -> ConfigurationError:
    return ConfigurationError(
        f"nvidia-smi does not tell of a GPU: {why}",
        hint="look at the node's GPU driver, or take nvidia.com/gpu from the pod: compression works without, slowly",
    )


def _look_at_places(book: Book, settings: Settings) -> None:
    reporting, scratch = settings.reporting, settings.compression.scratch if settings.compression else None
    for step, path, variable in (
        ("scratch", scratch, "S3_SYNC_SCRATCH_DIR"),
        ("workspace", reporting.workspace, "S3_SYNC_WORKSPACE"),
    ):
        if path is None:
            unused = "compression alone needs it" if step == "scratch" else f"{variable} is not set"
            book.skip(step, variable, unused)
        else:
            book.look(step, str(path), lambda path=path, variable=variable: _writable(path, variable))  # type: ignore[misc]
    book.look("results", str(reporting.results), lambda: _results(reporting.results))
    message = reporting.termination_message
    book.look("termination message", str(message), lambda: _termination_message(message))


def _results(folder: Path) -> str:
    if not folder.is_dir():
        raise Skipped("it is not there, so nothing is written")
    return _writable(folder, "RESULTS_DIR")


def _writable(path: Path, variable: str) -> str:
    """Write a file without a name at `path`, or where it will be made."""
    with translated(path, variable=variable):
        here = existing(path)
        if not here.is_dir():
            raise ConfigurationError(f"{shown(str(here))} is not a folder", hint=f"{variable} must name a folder")
        with tempfile.TemporaryFile(dir=here):
            pass
        told = os.statvfs(here)
    made = "" if here == path else f"; it will be made below {shown(str(here))}"
    return f"writable, {_mib(told.f_bavail * told.f_frsize)} free{made}"


def _termination_message(path: Path) -> str:
    if _TEKTON in Path(os.path.realpath(path)).parents:
        raise Skipped("Tekton's own, which is left alone")
    with translated(path, variable="TERMINATION_MESSAGE_PATH"):
        try:
            file = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise Skipped("it is not there, so nothing is written") from None
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise Skipped("it is no regular file, so nothing is written")
        finally:
            os.close(file)
    return "writable"


def _mib(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count / _MIB:.0f} MiB"
