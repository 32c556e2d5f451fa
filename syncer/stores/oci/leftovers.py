"""What a killed run had finished, kept in the registry until the model is whole.

It is an image of its own under the tag `…-syncer-state`: its layers are the finished files, so that the registry does
not collect them as garbage, and its config has the journal.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from syncer.claims import from_json
from syncer.errors import ConfigurationError, WrongBytes
from syncer.manifest import FileRecord
from syncer.stores.oci.control import DONE, PLAN, Held
from syncer.stores.oci.depot import Depot, Document
from syncer.stores.oci.documents import ImageManifest, identified, is_digest, read_document
from syncer.stores.oci.images import CONFIG_TYPE, MANIFEST_TYPE, dump, entry, layer_entry
from syncer.stores.oci.reading import small_blob
from syncer.stores.oci.registry import Registry

_ENDING: Final = "-syncer-state"
_LONGEST_TAG: Final = 128
_KEY: Final = "io.github.model-syncer.state"
_LARGEST: Final = 64 * 1024 * 1024


def state_tag(tag: str) -> str:
    """The tag beside `tag` (a tag has 128 characters at most)."""
    if len(tag) + len(_ENDING) <= _LONGEST_TAG:
        return tag + _ENDING
    return hashlib.sha256(tag.encode()).hexdigest()[:32] + _ENDING


def load(registry: Registry, tag: str) -> Held:
    """The journal that lies under the tag; empty for anything else that may lie there: it only saves work."""
    document = registry.manifest(state_tag(tag))
    if document is None:
        return {}
    try:
        found = read_document(document, where=registry.name)
        if not isinstance(found, ImageManifest) or found.config.size > _LARGEST:
            return {}
        held = from_json(small_blob(registry, found.config)).get(_KEY)
        return {name: text.encode() for name, text in held.items() if name == PLAN or name.startswith(DONE)}
    except (ConfigurationError, WrongBytes, ValueError, AttributeError, TypeError, RecursionError):
        return {}


def finished(held: Held) -> dict[str, FileRecord]:
    """The files that the journal calls finished, by path: they are layers of the state's image, and so still there."""
    records: dict[str, FileRecord] = {}
    for name in sorted(held):
        if not name.startswith(DONE):
            continue
        try:
            for told in from_json(held[name])["files"]:
                record = FileRecord.from_json(told)
                if is_digest(record.destination_version) and "sha256" in record.digests:
                    records[record.path] = record
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return records


def save(registry: Registry, tag: str, held: Held) -> None:
    """Replace what lies under the tag."""
    layers = [layer_entry(record) for _, record in sorted(finished(held).items())]
    config = dump(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
            _KEY: {name: data.decode() for name, data in sorted(held.items())},
        }
    )
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": entry(config, CONFIG_TYPE),
        "layers": layers,
    }
    registry.push_small(config, manifest["config"]["digest"])
    registry.push_manifest(state_tag(tag), identified(dump(manifest), MANIFEST_TYPE))


def forget(registry: Registry, tag: str, image: Document | None) -> None:
    """Remove the tag; where the registry will not, let it name the finished image, which costs nothing."""
    document = registry.manifest(state_tag(tag))
    if document is None or (image is not None and document.digest == image.digest):
        return
    if _is_state(registry, document) and registry.forget(state_tag(tag), document.digest):
        return
    if image is not None:
        registry.push_manifest(state_tag(tag), image)


def _is_state(registry: Depot, document: Document) -> bool:
    """Whether this is no image that somebody might use: only that may be removed by its digest.

    A fault that passes is no answer: the tag would name the finished image then, and no later run could remove it.
    """
    try:
        found = read_document(document, where=registry.name)
        return isinstance(found, ImageManifest) and _KEY in from_json(small_blob(registry, found.config))
    except (ConfigurationError, WrongBytes, ValueError, TypeError, RecursionError):
        return False
