"""Writes what an image holds of Python packages, as CycloneDX reads it: from a lock file, and from nothing else.

    python hack/sbom.py requirements.lock > dist/model-syncer.cdx.json

No time and no random serial number is in it: the same lock and the same version give the same bytes.  Every file that
the lock admits for a package is there with its SHA-256, and which package wanted which.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

ROOT = Path(__file__).resolve().parent.parent
NAME = "model-syncer"

_PACKAGE = re.compile(r"^(?P<name>[a-z0-9-]+)(?:\[[^]]*\])?==(?P<version>[^ ;]+)(?: ; (?P<marker>.+?))? \\$")
_HASH = re.compile(r"^    --hash=sha256:([0-9a-f]{64})(?: \\)?$")
_VIA = re.compile(r"^    # (?:via ?|  )(?P<name>[a-z0-9-]*)(?: \(pyproject\.toml\))?$")


@dataclass(frozen=True)
class Locked:
    """One package of a lock file; `wanted_by` are packages, of which one is ours."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]
    wanted_by: tuple[str, ...]


def read_lock(text: str) -> list[Locked]:
    """The packages of a lock file that uv wrote; raises `ValueError` for a line that would be left out."""
    found: list[Locked] = []
    for lines in _packages(text):
        head = _PACKAGE.match(lines[0])
        hashes = [match[1] for match in map(_HASH.match, lines[1:]) if match]
        via = [match["name"] for match in map(_VIA.match, lines[1:]) if match]
        if head is None or not hashes or 1 + len(hashes) + len(via) != len(lines):
            raise ValueError(f"not understood: {lines[0]}")
        wanted_by = tuple(filter(None, via))
        found.append(Locked(head["name"], head["version"], head["marker"] or "", tuple(hashes), wanted_by))
    return found


def document(packages: list[Locked], version: str) -> str:
    """The packages as CycloneDX 1.6 in JSON."""
    ours = Component(
        name=NAME,
        version=version,
        type=ComponentType.APPLICATION,
        bom_ref=NAME,
        licenses=[LicenseFactory().make_with_expression("Apache-2.0")],
    )
    # A lock for all versions of Python may hold a package twice, each for some of them.
    components = [_component(package) for package in packages]
    bom = Bom(components=components)
    bom.metadata.component = ours
    for owner in (ours, *components):
        wanted = zip(packages, components, strict=True)
        bom.register_dependency(owner, [each for package, each in wanted if owner.name in package.wanted_by])
    # The library gives each document a number and a time of its own.
    bom.serial_number = None  # type: ignore[assignment]
    bom.metadata.timestamp = None  # type: ignore[assignment]
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2) + "\n"


def _packages(text: str) -> Iterator[list[str]]:
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("#") or not line:
            continue
        if not line.startswith(" ") and lines:
            yield lines
            lines = []
        lines.append(line)
    if lines:
        yield lines


def _component(package: Locked) -> Component:
    url = PackageURL("pypi", None, package.name, package.version)
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        bom_ref=url.to_string(),
        purl=url,
        properties=[Property(name=f"{NAME}:where", value=package.marker)] if package.marker else (),
        external_references=[
            ExternalReference(
                type=ExternalReferenceType.DISTRIBUTION,
                url=XsUri(url.to_string()),
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
            )
            for digest in package.hashes
        ],
    )


def main(arguments: list[str]) -> int:
    """Write the bill of one lock file to standard output."""
    if len(arguments) != 1:
        print("usage: python hack/sbom.py LOCK-FILE", file=sys.stderr)
        return 64
    from syncer import __version__

    sys.stdout.write(document(read_lock(Path(arguments[0]).read_text(encoding="utf-8")), __version__))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
