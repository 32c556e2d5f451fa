"""Docker's own registry as an end of a way: it keeps real bytes on this machine's disk."""

from __future__ import annotations

import json
import shutil
import ssl
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.clients import RELAY, base_environment, ours
from benchmarks.compare import Client
from benchmarks.process import run
from benchmarks.world import World
from syncer.stores.oci.images import MANIFEST_TYPE, PATH
from syncer.stores.oci.layers import layer_size
from tests.support.docker_registry import running_registry

SERVER = "docker-registry"
_LIMIT_SECONDS = 3600


def missing() -> str:
    """What has to be installed for it, empty when it is."""
    return "" if shutil.which(SERVER) else f"{SERVER} is not installed"


@dataclass(frozen=True)
class Place:
    """Where the image is.  `trusted` holds the authorities of both ends where the registry speaks TLS.

    It is a scene too: emptied on the registry's disk, which keeps nothing in memory.
    """

    made: World
    authority: str
    trusted: Path | None = None
    repository: str = "team/model"

    def to_image(self, **settings: str) -> Client:
        """Ours, from the world's beginning to the image."""
        leg = replace(self.made.leg(), target=f"oci://{self.authority}/{self.repository}", dest_endpoint="")
        if self.trusted:
            return ours(replace(leg, authority=self.trusted), settings=settings)
        return ours(leg, settings={"OCI_VALIDATE_TLS": "false"} | settings)

    def relay(self, *, lanes: int) -> Client:
        """The reference, which pushes the blobs alone."""
        leg = self.made.leg()
        command = [sys.executable, "-m", "benchmarks.image_relay", leg.source, f"{self.authority}/{self.repository}"]
        command += ["--src-endpoint", leg.src_endpoint, "--files", str(lanes)]
        command += ["--scheme", "https" if self.trusted else "http"]
        return Client(RELAY, tuple(command), base_environment(replace(leg, authority=self.trusted)))

    def from_image(self) -> Client:
        """Ours, from the image to the world's end; the image is pushed first, which is not measured.

        Raises `SystemExit` when that fails.
        """
        client = self.to_image()
        cost = run(client.command, environment=client.environment, limit=_LIMIT_SECONDS)
        if problem := self.problem() if cost.status == 0 else f"exit {cost.status}: {cost.output}":
            raise SystemExit(f"there is no image to begin with: {problem}")
        leg = replace(self.made.leg(), source=f"oci://{self.authority}/{self.repository}", src_endpoint="")
        return ours(leg, settings={"S3_SYNC_SRC__VALIDATE_TLS": "false"})

    def clear(self) -> None:
        """Leave nothing in the registry."""
        self.made.clear()
        shutil.rmtree(self._data, ignore_errors=True)

    def problem(self) -> str:
        """What is wrong with the image now, or with the blobs where there is none.

        Whether they have the right bytes the registry has seen to: it compares each blob with its name.
        """
        if not any(self._data.glob(f"repositories/{self.repository}/_manifests/tags")):
            found = sorted(blob.stat().st_size for blob in self._data.glob("blobs/sha256/*/*/data"))
            return "" if found == sorted(self._sizes.values()) else f"the registry holds blobs of {found} bytes"
        scheme = "https" if self.trusted else "http"
        address = f"{scheme}://{self.authority}/v2/{self.repository}/manifests/latest"
        asked = urllib.request.Request(address, headers={"Accept": MANIFEST_TYPE})
        context = ssl.create_default_context(cafile=str(self.trusted)) if self.trusted else None
        try:
            with urllib.request.urlopen(asked, context=context) as answer:
                document = json.load(answer)
        except OSError as error:
            return f"there is no image: {error}"
        layers = {layer["annotations"][PATH]: layer["size"] for layer in document["layers"]}
        return "" if layers == self._sizes else f"the image has {layers}, not {self._sizes}"

    def server_seconds(self) -> float:
        """CPU time of the source until now; that of the registry is not known."""
        return self.made.source.cpu_seconds

    @property
    def _data(self) -> Path:
        return self.made.folder / "registry/data/docker/registry/v2"

    @property
    def _sizes(self) -> dict[str, int]:
        """The layers' by the names of the files."""
        names = [name.rpartition("/")[2] for name in self.made.objects.names]
        return {name: layer_size(name, self.made.objects.size) for name in names}


@contextmanager
def image_place(made: World, *, tls: bool = False) -> Iterator[Place]:
    """An empty registry in the world's folder."""
    folder = made.folder / "registry"
    folder.mkdir()
    with running_registry(folder, https=tls) as registry:
        trusted = made.folder / "authorities.pem" if tls else None
        if trusted:
            known = [registry.ca_file, *([made.authority] if made.authority else [])]
            trusted.write_text("".join(path.read_text() for path in known))
        yield Place(made, registry.authority, trusted)
