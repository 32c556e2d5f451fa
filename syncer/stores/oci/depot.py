"""Where the manifests and blobs of one repository lie: a registry or an archive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from syncer.manifest import ModelFile
from syncer.settings.locations import ArchiveLocation, ImageLocation, Network
from syncer.stores.protocols import Body

T = TypeVar("T")


@dataclass(frozen=True)
class Document:
    """A manifest or an index; `digest` is that of `content`, and the one that was asked for where one was."""

    media_type: str
    digest: str
    content: bytes


class Depot(Protocol):
    """Where manifests and blobs of one repository lie.  Safe from many threads."""

    @property
    def name(self) -> str:
        """Printable and without secrets: `oci://registry/repository` or `oci-archive:/x.tar`."""
        ...

    def manifest(self, reference: str) -> Document | None:
        """What a tag or `sha256:…` names; empty means the location's own reference.  None when it is absent."""
        ...

    def blob_size(self, digest: str) -> int | None:
        """Bytes of a blob, None when it is absent."""
        ...

    def read(self, digest: str, start: int, length: int) -> Body:
        """A range of a blob; the caller proves digests."""
        ...

    def persistently(self, work: Callable[[], T]) -> T:
        """Outlast a passing fault in `work`, which reads a little."""
        ...

    def interrupt(self) -> None:
        """Wake every thread that is blocked in a network call; they fail with `Transient`."""
        ...

    def close(self) -> None: ...


def open_depot(location: ImageLocation | ArchiveLocation, network: Network, *, variable: str) -> Depot:
    """The depot at `location`, to read from; `variable` is the setting that names it, for hints."""
    if isinstance(location, ArchiveLocation):
        from syncer.stores.oci.archive import Archive

        return Archive(location.path, variable=variable)
    from syncer.stores.oci.registry import Registry

    return Registry(location, network, writes=False, variable=variable)


@runtime_checkable
class KnowsLayers(Protocol):
    """The optional ability of a source whose files are layers of our making: to say where they lie."""

    def layer_of(self, file: ModelFile) -> tuple[ImageLocation, str] | None:
        """The image and the layer's digest of exactly this version of a file; None where it is no such layer."""
        ...
