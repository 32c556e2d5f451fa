"""What names an image: references to registries, and the locations that they become with logins and a base.

The pure functions raise `ValueError` with half a sentence, like those of `addresses.py`, and never repeat what they
get.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal

from syncer.settings.addresses import ARCHIVE, ArchivePath, ImagePath, archive_path, registry_host
from syncer.settings.locations import ArchiveLocation, ImageLocation
from syncer.settings.reading import Reading
from syncer.settings.registries import logins_for

IMAGE: Final = "OCI_IMAGE"
BASE: Final = "OCI_BASE_IMAGE"
VALIDATE: Final = "OCI_VALIDATE_TLS"
_VERSION: Final = "MODEL_VERSION"

_FORM: Final = "must be registry/repository:tag with the registry's host, such as quay.io/org/model:1.0.0"
_PART: Final = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
"""One component of a repository's name, and `_TAG` a tag, both by the OCI distribution specification."""
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_LONGEST: Final = 255
_SCHEME: Final = re.compile(r"(?i)(?:oci|docker)://")

End = Literal["SRC", "DEST"]


@dataclass(frozen=True)
class Reference:
    """A reference taken apart; `tag` and `digest` are empty where they were not said.

    `lowered` tells that the repository was written with capitals, which no registry knows.
    """

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""
    lowered: bool = False


def parse_reference(text: str) -> Reference:
    """`quay.io/org/model:1.0`, perhaps with `@sha256:…`, perhaps behind `oci://` or `docker://`.

    The registry's host is part of it: nothing is guessed to be on Docker Hub.  What is there (`docker.io`) has the
    names that Docker gives it, with `library/` before the ones that are alone.
    """
    if found := _SCHEME.match(text):
        text = text[found.end() :]
    if "://" in text:
        raise ValueError(f"{_FORM}, without https://")
    if "@" in text.partition("/")[0]:
        raise ValueError(f"{_FORM}, without credentials: they have files of their own")
    name, at, digest = text.partition("@")
    if at and _DIGEST.fullmatch(digest) is None:
        raise ValueError("must have sha256: and 64 hexadecimal digits behind its @")
    registry, slash, rest = name.partition("/")
    path, colon, tag = rest.partition(":")
    if not slash or not re.search(r"[.:]|^localhost$", registry):
        raise ValueError(_FORM)
    if colon and _TAG.fullmatch(tag) is None:
        raise ValueError(f"{_FORM}: a tag has letters, digits, `_`, `.` and `-`, at most 128")
    host = registry_host(registry)
    repository = path.lower()
    if host in {"docker.io", "index.docker.io", "registry-1.docker.io"}:
        host = "docker.io"
        repository = repository if "/" in repository else f"library/{repository}"
    if not all(map(_PART.fullmatch, repository.split("/"))):
        raise ValueError(f"{_FORM}: the repository has letters, digits, `_`, `.` and `-` between its slashes")
    if len(host) + 1 + len(repository) > _LONGEST:
        raise ValueError(f"{_FORM}, at most {_LONGEST} characters")
    return Reference(host, repository, tag, digest, lowered=path != path.lower())


def pipeline_images(reading: Reading) -> Iterator[ImageLocation]:
    """The images of `OCI_IMAGE`; problems are left in `reading`."""
    texts = [text.strip() for text in reading.variables.oci_image.split(",")]
    for text in filter(None, texts):
        image = _destination(reading, IMAGE, text, validate_tls=reading.variables.oci_validate_tls)
        if image is not None:
            yield image


def explicit_image(
    reading: Reading, name: str, address: ImagePath | ArchivePath, *, validate_tls: bool
) -> ImageLocation | ArchiveLocation | None:
    """The image that the destination's path names."""
    if isinstance(address, ArchivePath):
        return ArchiveLocation(address.path, base=_base(reading, beside=None))
    checked = validate_tls and reading.variables.oci_validate_tls
    return _destination(reading, name, address.reference, validate_tls=checked)


def source_image(
    reading: Reading, name: str, address: ImagePath | ArchivePath, *, validate_tls: bool
) -> ImageLocation | ArchiveLocation | None:
    """The image that the source's path names; a digest beats a tag."""
    if isinstance(address, ArchivePath):
        return ArchiveLocation(address.path)
    reference = _reference(reading, name, address.reference)
    if reference is None:
        return None
    checked = validate_tls and reading.variables.oci_validate_tls
    return _location(reading, reference, end="SRC", tag=reference.tag or "latest", validate_tls=checked)


def _destination(reading: Reading, name: str, text: str, *, validate_tls: bool) -> ImageLocation | None:
    reference = _reference(reading, name, text)
    if reference is None:
        return None
    if reference.digest:
        reading.problems.append(
            f"{reading.layers.place(name)} names a digest, which only the finished image has; name a tag instead"
        )
        return None
    tag = reference.tag or _default_tag(reading, name)
    if tag is None:
        return None
    image = _location(reading, reference, end="DEST", tag=tag, validate_tls=validate_tls)
    return replace(image, base=_base(reading, beside=image))


def _default_tag(reading: Reading, name: str) -> str | None:
    """What the pipelines push: the model's version where one is said, else `latest`."""
    if not reading.is_set(_VERSION):
        return "latest"
    version = reading.variables.model_version
    if _TAG.fullmatch(version) is None:
        reading.problems.append(
            f"{reading.layers.place(name)} has no tag, and {reading.layers.place(_VERSION)} cannot be one: a tag has "
            "letters, digits, `_`, `.` and `-`"
        )
        return None
    return version


def _base(reading: Reading, *, beside: ImageLocation | None) -> ImageLocation | ArchiveLocation | None:
    """The base image; in the registry of the image `beside` it is reached as that one is."""
    text = reading.variables.oci_base_image
    if not text:
        return None
    if text.lower().startswith(ARCHIVE):
        archive = reading.attempt(BASE, archive_path, text)
        return None if archive is None else ArchiveLocation(archive.path)
    reference = _reference(reading, BASE, text)
    if reference is None:
        return None
    checked = reading.variables.oci_validate_tls
    if beside is not None and beside.registry == reference.registry:
        checked = beside.validate_tls
    return _location(reading, reference, end="DEST", tag=reference.tag or "latest", validate_tls=checked)


def _reference(reading: Reading, name: str, text: str) -> Reference | None:
    reference = reading.attempt(name, parse_reference, text)
    if reference is not None and reference.lowered:
        reading.notes.append(
            f"{reading.layers.place(name)}: registries know no capitals, the repository is {reference.repository}"
        )
    return reference


def _location(reading: Reading, reference: Reference, *, end: End, tag: str, validate_tls: bool) -> ImageLocation:
    return ImageLocation(
        registry=reference.registry,
        repository=reference.repository,
        tag=tag,
        digest=reference.digest,
        logins=logins_for(reading, reference.registry, end=end),
        validate_tls=validate_tls,
        plaintext_tokens=reading.variables.plaintext_tokens,
    )
