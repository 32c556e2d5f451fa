"""One file, one layer, the same bytes on every machine; and what the image says of itself."""

import hashlib
import io
import json
import tarfile

import pytest

from syncer.manifest import FileRecord, Manifest, Origin, ProvedBy
from syncer.stores.oci.documents import Descriptor, ImageManifest, read_document
from syncer.stores.oci.images import Base, build_image, build_index, manifest_of
from syncer.stores.oci.layers import data_offset, head, layer_size, tail

PATHS = ("config.json", "a/b/c.safetensors", "ünï/模型.bin", "x" * 150, "/".join(["d" * 90] * 4), "line\nbreak")
GIB = 1024**3


def layer(path: str, content: bytes) -> bytes:
    return head(path, len(content)) + content + tail(len(content))


def record(path: str, content: bytes = b"weights", *, proved_by: ProvedBy = "stream") -> FileRecord:
    return FileRecord(
        path,
        len(content),
        {"sha256": hashlib.sha256(content).hexdigest()},
        proved_by,
        f"version of {path}",
        f"sha256:{hashlib.sha256(layer(path, content)).hexdigest()}",
    )


def manifest(*records: FileRecord, origin: Origin | None = None) -> Manifest:
    return Manifest("hf://team/model", "abc", {it.path: it for it in records}, origin=origin)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("size", [0, 1, 511, 512, 513])
def test_a_layer_is_a_tar_with_the_file_in_it(path: str, size: int) -> None:
    content = bytes(range(256)) * 3
    blob = layer(path, content[:size])
    assert len(blob) == layer_size(path, size)
    assert blob[data_offset(path, size) :][:size] == content[:size]
    with tarfile.open(fileobj=io.BytesIO(blob), mode="r:") as tar:
        *folders, file = tar.getmembers()
        assert [it.name for it in folders] == [
            "/".join(["models", *path.split("/")][:depth]) for depth in range(1, path.count("/") + 2)
        ]
        assert file.name == f"models/{path}"
        found = tar.extractfile(file)
        assert found is not None
        assert found.read() == content[:size]
    assert {(it.uid, it.gid, it.mtime, it.uname, it.gname) for it in (*folders, file)} == {(0, 0, 0, "", "")}
    assert ({it.mode for it in folders}, file.mode) == ({0o775}, 0o664)


@pytest.mark.parametrize("path", ["w.bin", "模型.bin", "x" * 150])
@pytest.mark.parametrize("size", [8 * GIB - 1, 8 * GIB, 700 * GIB])
def test_a_file_of_any_size_has_a_head(path: str, size: int) -> None:
    with tarfile.open(fileobj=io.BytesIO(head(path, size)), mode="r:", ignore_zeros=True) as tar:
        tar.next()
        file = tar.next()
        assert file is not None
        assert (file.name, file.size, file.offset_data) == (f"models/{path}", size, data_offset(path, size))


@pytest.mark.parametrize("size", [8 * GIB - 1, 8 * GIB, 700 * GIB])
def test_the_size_stands_in_the_header_itself(size: int) -> None:
    """For readers that do not know pax sizes, and would look for the next header in the middle of the file."""
    assert tarfile.nti(head("w.bin", size)[-512:][124:136]) == size  # type: ignore[attr-defined]  # typeshed hides it


def test_a_large_layer_never_changes_between_versions_of_this_tool() -> None:
    assert hashlib.sha256(head("a/ünï.bin", 8 * GIB)).hexdigest()[:16] == "c1ad25773f4106c0"


def test_a_layer_never_changes_between_versions_of_this_tool() -> None:
    """A golden value: another one would push every model of every user again."""
    names = ("config.json", "a/b/ünï.bin")
    found = [hashlib.sha256(layer(path, b"weights")).hexdigest()[:16] for path in names]
    assert found == ["f5397076e8c872a0", "af82e80797900a4f"]


def test_what_an_image_tells_is_what_was_proved() -> None:
    origin = Origin("hf://team/model", "abc", "W4A16 g128", "sha256:1")
    told = manifest(record("b.bin"), record("README.md"), record("a.bin"), origin=origin)
    found = read_document(build_image(told, None).document, where="here")
    assert isinstance(found, ImageManifest)
    assert manifest_of(found) == told
    kinds = {it.annotations["io.github.model-syncer.path"]: it.annotations for it in found.layers}
    assert list(kinds) == ["README.md", "a.bin", "b.bin"]
    assert kinds["README.md"]["io.opendatahub.modelcar.layer.type"] == "modelcard"
    assert "io.opendatahub.modelcar.layer.type" not in kinds["a.bin"]


def test_equal_models_are_equal_images() -> None:
    one, two = manifest(record("a"), record("b")), manifest(record("b", proved_by="server-copy"), record("a"))
    assert build_image(one, None) == build_image(two, None)
    assert "created" not in str(sorted(json.loads(build_image(one, None).document.content)))


@pytest.mark.parametrize(
    ("name", "value"), [("size", "8"), ("size", "-1"), ("sha256", "x"), ("path", ""), ("path", "other")]
)
def test_annotations_that_somebody_changed_prove_nothing(name: str, value: str) -> None:
    document = json.loads(build_image(manifest(record("a.bin")), None).document.content)
    document["layers"][0]["annotations"][f"io.github.model-syncer.{name}"] = value
    layers = [Descriptor(it["mediaType"], it["digest"], it["size"], it["annotations"]) for it in document["layers"]]
    config = Descriptor("", "sha256:" + 64 * "0", 0, {})
    assert manifest_of(ImageManifest(config, tuple(layers), document["annotations"])) is None


def test_a_base_keeps_its_layers_config_and_platform() -> None:
    layers = (Descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", "sha256:" + 64 * "1", 7, {}),)
    config = {
        "architecture": "arm64",
        "os": "linux",
        "created": "2020-01-01T00:00:00Z",
        "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + 64 * "2"]},
        "history": [{"created_by": "base"}],
    }
    image = build_image(manifest(record("a.bin")), Base(config, layers, ("linux", "arm64")))
    made = json.loads(image.config)
    assert made["config"] == {"Cmd": ["sh"]}
    assert made["rootfs"]["diff_ids"] == ["sha256:" + 64 * "2", record("a.bin").destination_version]
    assert [step["created_by"] for step in made["history"]] == ["base", "models/a.bin"]
    document = json.loads(image.document.content)
    assert document["layers"][0] == {
        "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
        "digest": "sha256:" + 64 * "1",
        "size": 7,
    }
    index = json.loads(build_index([image], manifest(record("a.bin"))).content)
    assert index["manifests"][0]["platform"] == {"architecture": "arm64", "os": "linux"}
    assert index["manifests"][0]["digest"] == image.document.digest
