"""The images of `memory.py`: Docker's own registry, which keeps real bytes on this machine's disk."""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from benchmarks.clients import ours
from benchmarks.compare import Client
from benchmarks.data_path import World
from benchmarks.process import run
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
    """Where the image is."""

    made: World
    authority: str

    def to_image(self) -> Client:
        """Ours, from the world's beginning to the image."""
        leg = replace(self.made.leg(), target=f"oci://{self.authority}/team/model", dest_endpoint="")
        return ours(leg, settings={"OCI_VALIDATE_TLS": "false"})

    def from_image(self) -> Client:
        """Ours, from the image to the world's end; the image is pushed first, which is not measured.

        Raises `SystemExit` when that fails.
        """
        client = self.to_image()
        cost = run(client.command, environment=client.environment, limit=_LIMIT_SECONDS)
        if problem := self.problem() if cost.status == 0 else f"exit {cost.status}: {cost.output}":
            raise SystemExit(f"there is no image to begin with: {problem}")
        leg = replace(self.made.leg(), source=f"oci://{self.authority}/team/model", src_endpoint="")
        return ours(leg, settings={"S3_SYNC_SRC__VALIDATE_TLS": "false"})

    def problem(self) -> str:
        """What is wrong with the image now; whether layers have the right bytes the registry has seen to."""
        address = f"http://{self.authority}/v2/team/model/manifests/latest"
        try:
            with urllib.request.urlopen(urllib.request.Request(address, headers={"Accept": MANIFEST_TYPE})) as answer:
                document = json.load(answer)
        except OSError as error:
            return f"there is no image: {error}"
        names = [name.rpartition("/")[2] for name in self.made.objects.names]
        expected = {name: layer_size(name, self.made.objects.size) for name in names}
        found = {layer["annotations"][PATH]: layer["size"] for layer in document["layers"]}
        return "" if found == expected else f"the image has {found}, not {expected}"


@contextmanager
def image_place(made: World) -> Iterator[Place]:
    """An empty registry in the world's folder."""
    folder = made.folder / "registry"
    folder.mkdir()
    with running_registry(folder) as registry:
        yield Place(made, registry.authority)
