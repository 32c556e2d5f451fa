"""What was done to a model, in words that are the same for the same outcome: the `recipe` of its origin."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Final

from syncer.errors import ConfigurationError
from syncer.manifest import Listing
from syncer.settings.locations import Compression, HubDataset

_BEGINNING: Final = 1 << 20


def recipe_of(wanted: Compression) -> str:
    """`W4A16 group 128 gptq c4 512x2048 ignore lm_head`; a local data set is `NAME@DIGEST`."""
    words = [wanted.scheme]
    if wanted.group_size:
        words.append(f"group {wanted.group_size}" if wanted.group_size > 0 else "per channel")
    words.append(wanted.algorithm)
    match wanted.dataset:
        case Path():
            data = f"{wanted.dataset.name}@{_seen(wanted.dataset)}"
            words.append(f"{data} {wanted.samples}x{wanted.sequence_length}")
        case HubDataset():
            words.append(f"{wanted.dataset.name} {wanted.samples}x{wanted.sequence_length}")
        case None:
            pass
    if wanted.ignore:
        words.append(f"ignore {' '.join(wanted.ignore)}")
    return " ".join(words)


def _seen(path: Path) -> str:
    """Eight letters for what lies there: names, sizes, and how each file begins, which is what calibrates."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    digest = hashlib.sha256()
    try:
        for file in files:
            with file.open("rb") as opened:
                digest.update(json.dumps([file.name, file.stat().st_size]).encode() + opened.read(_BEGINNING))
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error.strerror}", hint="DATASET must name a file or folder that can be read"
        ) from error
    return digest.hexdigest()[:8]


def short_digest(name: str) -> str:
    """Eight letters that stand for `name`."""
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]


def inputs_of(listing: Listing) -> str:
    """A digest of what a store lists: names, sizes and versions."""
    digest = hashlib.sha256()
    for path in sorted(listing.files):
        file = listing.files[path]
        digest.update(json.dumps([path, file.size, file.version]).encode())
    return "sha256:" + digest.hexdigest()
