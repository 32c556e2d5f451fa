"""Archives and images against the tools that everybody has: what they make is read, what is made they read."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.archive_bench import files_in
from tests.support.models import pattern, read_model, small_model
from tests.support.processes import Pod

pytestmark = pytest.mark.real

MiB = 1 << 20


def tool(*command: str, environment: dict[str, str] | None = None) -> str:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=os.environ | (environment or {})
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model on a volume, with a file of several parts."""
    root = tmp_path / "source"
    for path, data in (small_model() | {"large.safetensors": pattern(20 * MiB + 17)}).items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return root


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """Debian's registry, without a door."""
    if shutil.which("docker-registry") is None:
        pytest.skip("docker-registry is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = tmp_path / "registry.yml"
    root = tmp_path / "registry"
    storage = f"storage: {{filesystem: {{rootdirectory: {root}}}}}"
    settings.write_text(f"version: 0.1\nlog: {{level: error}}\n{storage}\nhttp: {{addr: {address}}}\n")
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(["docker-registry", "serve", str(settings)], stdout=quiet, stderr=quiet)
    try:
        host, _, port = address.partition(":")
        for _ in range(200):
            with suppress(OSError), socket.create_connection((host, int(port))):
                break
            time.sleep(0.05)
        yield address
    finally:
        server.terminate()
        server.wait(30)


def unpacked(archive: Path, folder: Path) -> Path:
    """The root file system of an archive, as skopeo and umoci see it."""
    folder.mkdir()
    tool("skopeo", "copy", "--quiet", f"oci-archive:{archive}", f"oci:{folder}/layout:latest")
    tool("umoci", "unpack", "--rootless", "--image", f"{folder}/layout:latest", f"{folder}/bundle")
    return folder / "bundle" / "rootfs"


def test_an_archive_of_ours_is_what_the_tools_unpack(model: Path, pod: Pod, tmp_path: Path) -> None:
    archive = tmp_path / "out" / "model.tar"
    environment = {"S3_SYNC_SRC__PATH": str(model), "S3_SYNC_DEST__PATH": f"oci-archive:{archive}"}
    ended = pod.run(environment)
    assert ended.code == 0, ended
    told = json.loads(tool("skopeo", "inspect", f"oci-archive:{archive}"))
    assert len(told["Layers"]) == len(read_model(model))
    assert read_model(unpacked(archive, tmp_path / "one") / "models") == read_model(model)
    before = archive.stat()
    again = pod.run(environment)
    assert (again.code, again.termination["copied_bytes"]) == (0, 0), again
    assert (archive.stat().st_ino, archive.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    other = tmp_path / "other.tar"
    assert pod.run(environment | {"S3_SYNC_DEST__PATH": f"oci-archive:{other}"}).code == 0
    assert json.loads(tool("skopeo", "inspect", f"oci-archive:{other}"))["Digest"] == told["Digest"]


@pytest.mark.parametrize("unchanged", [True, False], ids=["unchanged", "packed"])
def test_an_archive_goes_through_a_registry_and_back(
    model: Path, pod: Pod, tmp_path: Path, registry: str, unchanged: bool
) -> None:
    """Without being told, skopeo packs layers on their way and drops what they say of themselves."""
    archive = tmp_path / "model.tar"
    assert pod.run({"S3_SYNC_SRC__PATH": str(model), "S3_SYNC_DEST__PATH": f"oci-archive:{archive}"}).code == 0
    image = f"{registry}/org/model:1"
    how = ["--preserve-digests"] if unchanged else []
    tool("skopeo", "copy", "--quiet", "--dest-tls-verify=false", *how, f"oci-archive:{archive}", f"docker://{image}")
    volume = tmp_path / "volume"
    ended = pod.run(
        {
            "S3_SYNC_SRC__PATH": f"oci://{image}",
            "S3_SYNC_SRC__VALIDATE_TLS": "false",
            "S3_SYNC_DEST__PATH": str(volume),
        }
    )
    assert ended.code == 0, ended
    assert read_model(volume) == read_model(model)
    digest = json.loads(tool("skopeo", "inspect", f"oci-archive:{archive}"))["Digest"]
    assert (ended.termination["revision"] == digest) is unchanged
    assert ("layer_examined" in ended.output) is not unchanged


@pytest.fixture
def built(model: Path, tmp_path: Path) -> tuple[list[str], dict[str, bytes]]:
    """An image that buildah made in two layers, and the files that it should have."""
    buildah = ["buildah", "--root", f"{tmp_path}/store", "--runroot", f"{tmp_path}/run", "--storage-driver", "vfs"]
    first = tool(*buildah, "from", "scratch").strip()
    tool(*buildah, "copy", "--quiet", first, str(model), "/models")
    tool(*buildah, "commit", "--quiet", first, "first")
    second = tool(*buildah, "from", "first").strip()
    root = Path(tool(*buildah, "mount", second).strip())
    (root / "models" / "config.json").unlink()
    (root / "models" / "again.bin").symlink_to("large.safetensors")
    (root / "models" / "new.txt").write_bytes(b"new")
    tool(*buildah, "commit", "--quiet", second, "second")
    files = read_model(model)
    del files["config.json"]
    return buildah, files | {"again.bin": files["large.safetensors"], "new.txt": b"new"}


@pytest.mark.parametrize("through", ["archive", "registry"])
def test_an_image_of_buildah_is_a_source(
    built: tuple[list[str], dict[str, bytes]], pod: Pod, tmp_path: Path, registry: str, through: str
) -> None:
    buildah, files = built
    image = f"oci-archive:{tmp_path}/built.tar" if through == "archive" else f"oci://{registry}/org/built:latest"
    there = image if through == "archive" else image.replace("oci://", "docker://")
    tool(*buildah, "push", "--quiet", "--tls-verify=false", "second", there)
    environment = {"S3_SYNC_SRC__PATH": image, "S3_SYNC_SRC__VALIDATE_TLS": "false"}
    ended = pod.run(environment | {"S3_SYNC_DEST__PATH": str(tmp_path / "volume")})
    assert ended.code == 0, ended
    assert read_model(tmp_path / "volume") == files
    archive = tmp_path / "ours.tar"
    ended = pod.run(environment | {"S3_SYNC_DEST__PATH": f"oci-archive:{archive}"})
    assert ended.code == 0, ended
    assert files_in(archive) == files


def test_a_flipped_byte_in_a_layer_of_buildah_is_65(
    built: tuple[list[str], dict[str, bytes]], pod: Pod, tmp_path: Path
) -> None:
    buildah, _ = built
    archive = tmp_path / "built.tar"
    tool(*buildah, "push", "--quiet", "--disable-compression", "second", f"oci-archive:{archive}")
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)
    ended = pod.run({"S3_SYNC_SRC__PATH": f"oci-archive:{archive}", "S3_SYNC_DEST__PATH": str(tmp_path / "volume")})
    assert ended.code == 65, ended
    assert not list((tmp_path).glob("volume/*.safetensors"))


def test_an_archive_of_docker_save_is_refused_with_the_way_out(
    built: tuple[list[str], dict[str, bytes]], pod: Pod, tmp_path: Path
) -> None:
    buildah, files = built
    old, new = tmp_path / "old.tar", tmp_path / "new.tar"
    tool(*buildah, "push", "--quiet", "second", f"docker-archive:{old}")
    environment = {"S3_SYNC_DEST__PATH": str(tmp_path / "volume")}
    ended = pod.run(environment | {"S3_SYNC_SRC__PATH": f"oci-archive:{old}"})
    assert ended.code == 78, ended
    assert "skopeo copy docker-archive:" in ended.termination["hint"]
    tool("skopeo", "copy", "--quiet", f"docker-archive:{old}", f"oci-archive:{new}")
    ended = pod.run(environment | {"S3_SYNC_SRC__PATH": f"oci-archive:{new}"})
    assert ended.code == 0, ended
    assert read_model(tmp_path / "volume") == files
