"""Builds and runs the image with podman, also where no image registry can be reached.

Everything that this machine lacks is said by `Unavailable`, so that a test can be skipped with the reason.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# A stand-in for the Containerfile's own base: Debian's Python 3.11 with pip and venv.
_LOCAL_BASE = "localhost/syncer-test-base:bookworm"
_LOCAL_BASE_PACKAGES = "python3.11,python3-pip,python3-venv,ca-certificates"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

# For machines on which the default runtime may neither raise limits nor make its cgroup.
_RUNC_SETTINGS = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
[engine]
runtime = "runc"
events_logger = "file"
"""


class Unavailable(Exception):
    """This machine cannot build or run containers; the message says why."""


class Podman:
    """The command, with the settings under which it works here: they are in `environment`."""

    def __init__(self, settings: Path | None = None) -> None:
        self.environment = dict(os.environ)
        if settings is not None:
            self.environment["CONTAINERS_CONF"] = str(settings)

    def __call__(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Runs one command to its end, whatever it says."""
        return subprocess.run(
            ["podman", *arguments],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def ask(self, *arguments: str, timeout: float = 120) -> str:
        """Runs one command that has to succeed and gives back what it printed, without the last newline."""
        done = self(*arguments, timeout=timeout)
        if done.returncode != 0:
            raise RuntimeError(f"podman {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout.rstrip("\n")

    def rootless(self) -> bool:
        """Whether containers run in a user namespace, where only some UIDs exist."""
        return self.ask("info", "--format", "{{.Host.Security.Rootless}}") == "true"


def prepare(scratch: Path) -> tuple[Podman, str]:
    """Podman in working order and a base image for it, or `Unavailable`."""
    if shutil.which("podman") is None:
        raise Unavailable("podman is not installed")
    podman = Podman()
    base = _base_image(podman)
    first = _trial(podman, base)
    if first.returncode == 0:
        return podman, base
    if shutil.which("runc") is not None and "CONTAINERS_CONF" not in os.environ:
        settings = scratch / "containers.conf"
        settings.write_text(_RUNC_SETTINGS, encoding="utf-8")
        podman = Podman(settings)
        if _trial(podman, base).returncode == 0:
            return podman, base
    raise Unavailable(f"podman cannot run a container here: {_last_line(first.stderr)}")


def snapshot(folder: Path) -> Path:
    """What the build gets of this checkout, so that editing goes on while the image is built."""
    names = [line[1:] for line in (ROOT / ".containerignore").read_text("utf-8").splitlines() if line.startswith("!")]
    for name in ["Containerfile", ".containerignore", *names]:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, folder / name)
    return folder


def build(podman: Podman, base: str, context: Path, tag: str, *options: str) -> str:
    """Builds the image of a snapshot and gives back the digests of its layers, as one text."""
    arguments = ["--timestamp", "0", "--build-arg", f"BASE_IMAGE={base}", *way_to_packages(), *options]
    podman.ask("build", *arguments, "--tag", tag, str(context), timeout=800)
    return podman.ask("image", "inspect", "--format", "{{json .RootFS.Layers}}", tag)


def environment_options(environment: Mapping[str, str]) -> list[str]:
    """`--env` for each variable."""
    return [option for name, value in environment.items() for option in ("--env", f"{name}={value}")]


def _base_image(podman: Podman) -> str:
    if chosen := os.environ.get("SYNCER_BASE_IMAGE"):
        return chosen
    default = re.search(r"^ARG BASE_IMAGE=(\S+)$", (ROOT / "Containerfile").read_text("utf-8"), re.MULTILINE)
    if default is None:
        raise RuntimeError("Containerfile has no default for BASE_IMAGE")
    for image in (default[1], _LOCAL_BASE):
        if podman("image", "exists", image).returncode == 0:
            return image
    if podman("pull", "--quiet", default[1], timeout=300).returncode == 0:
        return default[1]
    podman.ask("import", str(_root_file_system()), _LOCAL_BASE, timeout=300)
    return _LOCAL_BASE


def _root_file_system() -> Path:
    """A tar archive of Debian with Python, made once and kept in a folder of the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "model-syncer"
    archive = Path(os.environ.get("SYNCER_IMAGE_CACHE") or cache) / "base-bookworm.tar"
    if archive.exists():
        return archive
    if shutil.which("mmdebstrap") is None:
        raise Unavailable("no image registry can be reached, and there is no mmdebstrap to make a base instead")
    archive.parent.mkdir(parents=True, exist_ok=True)
    unfinished = archive.with_suffix(f".{os.getpid()}.tar")
    command = ["mmdebstrap", "--variant=minbase", f"--include={_LOCAL_BASE_PACKAGES}", "bookworm", str(unfinished)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode != 0:
            raise Unavailable(f"no image registry can be reached, and mmdebstrap failed: {_last_line(done.stderr)}")
        unfinished.rename(archive)
    finally:
        unfinished.unlink(missing_ok=True)
    return archive


def _trial(podman: Podman, base: str) -> subprocess.CompletedProcess[str]:
    return podman("run", "--rm", "--network", "none", "--entrypoint", "python3", base, "-c", "")


def way_to_packages() -> Sequence[str]:
    """What `pip` needs inside the build to get out as it does outside of it: authorities and index.

    A file may only be mounted over one that the base has: podman leaves an empty one in the image otherwise.
    """
    options: list[str] = []
    if _CERTIFICATES.exists():
        options += ["--volume", f"{_CERTIFICATES}:{_CERTIFICATES}:ro"]
    if index := os.environ.get("PIP_INDEX_URL") or _configured("global.index-url"):
        options += ["--build-arg", f"PIP_INDEX_URL={index}"]
    return options


def _configured(name: str) -> str:
    """What pip's own configuration files say, or nothing."""
    command = [sys.executable, "-m", "pip", "config", "get", name]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout.strip()


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no reason given"
