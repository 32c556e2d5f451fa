"""Destinations whose runs are killed: each says where it is, and what may be there at any moment and at the end."""

import io
import json
import re
import tarfile
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from syncer.stores.oci.images import MANIFEST_TYPE
from tests.support.buckets import S3Server
from tests.support.docker_registry import DockerRegistry
from tests.support.models import read_model
from tests.support.tripwire import Changes, Relay, Unit

CONTROL = [".syncer/complete.json", ".syncer/manifest.json"]
UPLOADS_AT_ONCE = 4
"""Upload sessions of a registry that one run has open at most: two files, the state's image, and the look around."""


class Place(Protocol):
    """One destination after another of the same kind; `anew` goes to the next one.

    `units` are what its tripwire counts.  `look` may be asked at any moment: nothing that is there may be wrong, and a
    seal stands over all of it or nothing.  `check` is for the end.
    """

    units: tuple[Unit, ...]

    def anew(self) -> None: ...
    def environment(self) -> dict[str, str]: ...
    def look(self, model: dict[str, bytes]) -> bool:
        """Whether it is sealed."""

    def check(self, model: dict[str, bytes], *, caught: int) -> None: ...
    def state(self) -> dict[str, tuple[str, bytes]]:
        """All that is there, control files, too: when it was written, and its bytes."""

    def sent(self) -> int | None:
        """Bytes that went there since `anew`; None where nobody can count."""

    def seals(self) -> int:
        """How often it was sealed since `anew`."""


@dataclass
class BucketPlace:
    server: S3Server
    relay: Relay
    bucket: str = ""
    units: tuple[Unit, ...] = ("requests", "bytes")

    def anew(self) -> None:
        if self.bucket:
            for key in self.server.keys(self.bucket):
                self.server.client.delete_object(Bucket=self.bucket, Key=key)
        self.bucket = self.server.new_bucket("killed")
        self.relay.reset()

    def environment(self) -> dict[str, str]:
        return self.server.connection_environment(self.bucket, endpoint=f"http://localhost:{self.relay.port}")

    def look(self, model: dict[str, bytes]) -> bool:
        sizes = self.server.keys(self.bucket, "models/")
        files = {key.removeprefix("models/"): size for key, size in sizes.items() if "/.syncer/" not in key}
        assert files.items() <= {path: len(data) for path, data in model.items()}.items()
        if "models/.syncer/complete.json" not in sizes:
            return False
        assert self.server.read(self.bucket, "models/") == model
        assert self.server.open_uploads(self.bucket) == []
        return True

    def check(self, model: dict[str, bytes], *, caught: int) -> None:
        assert self.look(model)
        found = sorted(self.server.control(self.bucket, "models/"))
        assert found == CONTROL, found

    def state(self) -> dict[str, tuple[str, bytes]]:
        found = self.server.client.list_objects_v2(Bucket=self.bucket)["Contents"]
        data = self.server.read(self.bucket) | self.server.control(self.bucket)
        return {it["Key"].removeprefix("models/"): (str(it["LastModified"]), data[it["Key"]]) for it in found}

    def sent(self) -> int:
        return self.relay.up_bytes

    def seals(self) -> int:
        return self.relay.count(r"^PUT .*complete\.json")


@dataclass
class FolderPlace:
    above: Path
    changes: Changes
    number: int = 0
    units: tuple[Unit, ...] = ("changes", "bytes")

    @property
    def folder(self) -> Path:
        return self.above / str(self.number)

    def anew(self) -> None:
        self.number += 1
        self.folder.mkdir(parents=True)
        self.changes.reset()

    def environment(self) -> dict[str, str]:
        return {"S3_SYNC_DEST__PATH": str(self.folder)} | self.changes.environment()

    def look(self, model: dict[str, bytes]) -> bool:
        there = read_model(self.folder)
        sealed = (self.folder / CONTROL[0]).exists()
        assert there == model if sealed else there.items() <= model.items()
        return sealed

    def check(self, model: dict[str, bytes], *, caught: int) -> None:
        assert self.look(model)
        files = {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}
        assert files == model.keys() | set(CONTROL)

    def state(self) -> dict[str, tuple[str, bytes]]:
        files = {path: path.stat() for path in self.folder.rglob("*") if path.is_file()}
        return {
            str(path.relative_to(self.folder)): (f"{told.st_ino} {told.st_mtime_ns}", path.read_bytes())
            for path, told in files.items()
        }

    def sent(self) -> None:
        return None

    def seals(self) -> int:
        return sum(bool(re.match(r"os\.rename .*'complete\.json'", line)) for line in self.changes.seen)


@dataclass
class ImagePlace:
    registry: DockerRegistry
    relay: Relay
    number: int = 0
    units: tuple[Unit, ...] = ("requests", "bytes")
    opener: urllib.request.OpenerDirector = field(
        default_factory=lambda: urllib.request.build_opener(urllib.request.ProxyHandler({}))
    )

    @property
    def repository(self) -> str:
        return f"team/model-{self.number}"

    def anew(self) -> None:
        self.number += 1
        self.relay.reset()

    def environment(self) -> dict[str, str]:
        return {
            "S3_SYNC_DEST__PATH": f"oci://localhost:{self.relay.port}/{self.repository}:latest",
            "S3_SYNC_DEST__VALIDATE_TLS": "false",
        }

    def look(self, model: dict[str, bytes]) -> bool:
        document = self._get("manifests/latest", MANIFEST_TYPE)
        if document is None:
            return False
        found = {}
        for layer in json.loads(document)["layers"]:
            blob = self._get(f"blobs/{layer['digest']}")
            assert blob is not None
            with tarfile.open(fileobj=io.BytesIO(blob)) as archive:
                for member in archive:
                    if content := archive.extractfile(member):
                        found[member.name.removeprefix("models/")] = content.read()
        assert found == model
        return True

    def check(self, model: dict[str, bytes], *, caught: int) -> None:
        assert self.look(model)
        assert json.loads(self._get("tags/list") or b"{}")["tags"] == ["latest"]
        # No registry lists them over HTTP; this one's lie in a folder, and leave an empty one when they are cancelled.
        # It forgets to forget one whose PATCH was still under way then, and nobody can take back what has no answer.
        uploads = self.registry.folder / f"data/docker/registry/v2/repositories/{self.repository}/_uploads"
        assert len(list(uploads.glob("*/startedat"))) <= caught * UPLOADS_AT_ONCE

    def state(self) -> dict[str, tuple[str, bytes]]:
        """Its manifest names all the rest by digest."""
        return {"latest": ("", self._get("manifests/latest", MANIFEST_TYPE) or b"")}

    def sent(self) -> int:
        return self.relay.up_bytes

    def seals(self) -> int:
        return self.relay.count(r"^PUT .*/manifests/latest$")

    def _get(self, what: str, accepted: str = "*/*") -> bytes | None:
        url = f"http://{self.registry.authority}/v2/{self.repository}/{what}"
        try:
            with self.opener.open(urllib.request.Request(url, headers={"Accept": accepted}), timeout=30) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                if error.code != 404:
                    raise
            return None
