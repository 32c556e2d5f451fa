"""Foreign manifests and archives: what they mean, and that nothing in them can do more than end in a clear error."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.errors import ConfigurationError, SourceChanged, SourceMissing, SyncerError, WrongBytes
from syncer.stores.oci.archive import Archive
from syncer.stores.oci.depot import Document
from syncer.stores.oci.documents import ImageManifest, identified, manifest_at, read_document
from tests.contract.checks import drain
from tests.support.foreign_images import INDEX, MANIFEST, TAR, DictionaryDepot, digest_of, tar_of

DIGEST = "sha256:" + "a" * 64


def document(content: Any) -> Document:
    return identified(content if isinstance(content, bytes) else json.dumps(content).encode(), MANIFEST)


def sound(**changes: Any) -> dict[str, Any]:
    descriptor = {"mediaType": TAR, "digest": DIGEST, "size": 3}
    return {"schemaVersion": 2, "config": descriptor, "layers": [descriptor]} | changes


def layer(**changes: Any) -> dict[str, Any]:
    return sound(layers=[{"mediaType": TAR, "digest": DIGEST, "size": 3} | changes])


def test_a_manifest_is_read() -> None:
    found = read_document(document(sound(annotations={"a": "b"})), where="x")
    assert isinstance(found, ImageManifest)
    assert (found.layers[0].digest, found.layers[0].size, found.annotations) == (DIGEST, 3, {"a": "b"})


@pytest.mark.parametrize(
    "content",
    [
        b"no json",
        b"[]",
        b"[" * 100_000,
        b" " * (5 << 20),
        sound(layers="x"),
        sound(layers=["x"]),
        sound(config=None),
        sound(layers=[sound()["config"]] * 10_001),
        sound(annotations=[]),
        layer(digest="sha512:" + "a" * 128),
        layer(digest=DIGEST.upper()),
        layer(digest=f"{DIGEST}/../x"),
        layer(size=-1),
        layer(size=True),
        layer(size="3"),
        layer(size=1 << 62),
        layer(mediaType=3),
        layer(annotations={"a": 1}),
    ],
)
def test_a_damaged_manifest_is_wrong_bytes(content: Any) -> None:
    with pytest.raises(WrongBytes):
        read_document(document(content), where="x")


@pytest.mark.parametrize("content", [{"schemaVersion": 1, "fsLayers": []}, {"schemaVersion": 2}])
def test_what_is_no_image_is_said(content: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_document(document(content), where="x")
    assert caught.value.hint


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda it: (
            st.lists(it)
            | st.dictionaries(
                st.sampled_from(
                    ["layers", "manifests", "config", "digest", "size", "mediaType", "platform", "annotations"]
                ),
                it,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_a_document_or_an_error_of_ours(content: Any) -> None:
    with suppress(SyncerError):
        read_document(document(content), where="x")


def platform(entry: dict[str, Any], system: str, machine: str, **annotations: str) -> dict[str, Any]:
    return entry | {"platform": {"os": system, "architecture": machine}, "annotations": annotations}


def test_of_several_platforms_the_usual_one_is_taken() -> None:
    depot = DictionaryDepot()
    images = [depot.push([depot.descriptor(name.encode(), TAR)]) for name in ("attested", "windows", "arm", "amd")]
    depot.index(
        [
            platform(images[0], "unknown", "unknown", **{"vnd.docker.reference.type": "attestation-manifest"}),
            platform(images[1], "windows", "amd64"),
            platform(images[2], "linux", "arm64"),
            platform(images[3], "linux", "amd64"),
        ],
        reference="all",
    )
    depot.index([platform(images[1], "windows", "amd64"), platform(images[2], "linux", "arm64")], reference="no-amd")
    depot.index([images[1]], reference="unnamed")
    for reference, image in (("all", 3), ("no-amd", 2), ("unnamed", 1)):
        top = depot.documents[reference]
        assert manifest_at(top, depot.manifest, where="x")[0].digest == images[image]["digest"]


def test_indexes_without_end_or_image_are_refused() -> None:
    depot = DictionaryDepot()
    entry = depot.index([], reference="empty")
    for _ in range(5):
        entry = depot.index([entry], reference="deep")
    depot.index([{"mediaType": MANIFEST, "digest": DIGEST, "size": 1}], reference="missing")
    liar = depot.push([])
    depot.documents[DIGEST] = depot.documents[liar["digest"]]
    depot.index([{"mediaType": MANIFEST, "digest": DIGEST, "size": 1}], reference="lying")
    for reference in ("empty", "deep", "missing", "lying"):
        with pytest.raises((ConfigurationError, WrongBytes)):
            manifest_at(depot.documents[reference], depot.documents.get, where="x")


# Archives ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def depot() -> DictionaryDepot:
    depot = DictionaryDepot()
    depot.push([depot.descriptor(b"a layer's bytes", TAR)])
    return depot


@pytest.fixture
def path(tmp_path: Path, depot: DictionaryDepot) -> Path:
    depot.archive(tmp_path / "image.tar")
    return tmp_path / "image.tar"


def test_an_archive_is_read_where_it_lies(path: Path, depot: DictionaryDepot) -> None:
    archive = Archive(path)
    found = archive.manifest("")
    assert found == depot.documents[""]
    digest = digest_of(b"a layer's bytes")
    assert archive.blob_size(digest) == 15
    assert drain(archive.read(digest, 2, 5), 5) == b"layer"
    assert archive.blob_size(DIGEST) is None
    assert archive.manifest(DIGEST) is None
    archive.close()
    archive.close()


def test_one_that_is_put_in_its_place_changes_nothing(path: Path, depot: DictionaryDepot) -> None:
    archive = Archive(path)
    digest = digest_of(b"a layer's bytes")
    body = archive.read(digest, 0, 15)
    other = path.with_name("other.tar")
    other.write_bytes(b"x" * 4096)
    other.rename(path)
    assert drain(body, 15) == b"a layer's bytes"
    assert drain(archive.read(digest, 0, 7), 7) == b"a layer"
    archive.close()


def test_writing_into_it_is_noticed(path: Path, depot: DictionaryDepot) -> None:
    archive = Archive(path)
    archive.manifest("")
    os.utime(path, (1, 1))
    with pytest.raises(SourceChanged):
        drain(archive.read(digest_of(b"a layer's bytes"), 0, 15), 15)
    archive.close()


def test_a_flipped_byte_in_a_manifest_is_seen(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"schemaVersion": 2, "mediaType"', b'"schemaVersion": 3, "mediaType"'))
    with pytest.raises(WrongBytes, match="another digest"):
        Archive(path).manifest("")


def two_images(depot: DictionaryDepot) -> bytes:
    named = {"org.opencontainers.image.ref.name": "one"}
    images = [depot.push([]) | {"annotations": named}, depot.push([depot.descriptor(b"2", TAR)])]
    return tar_of([("index.json", json.dumps({"manifests": images}).encode())])


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (lambda _: None, SourceMissing, "there is no archive"),
        (lambda _: b"", ConfigurationError, "holds no image"),
        (lambda _: b"\x1f\x8b" + b"x" * 600, ConfigurationError, "compressed with gzip"),
        (lambda _: b"\x28\xb5\x2f\xfd" + b"x" * 600, ConfigurationError, "compressed with zstd"),
        (lambda _: b"x" * 600, WrongBytes, "no sound tar"),
        (lambda _: tar_of([("manifest.json", b"[]")]), ConfigurationError, "docker save"),
        (lambda _: tar_of([("models/x", b"1")]), ConfigurationError, "holds no image"),
        (lambda _: tar_of([("index.json", b"{}")]), WrongBytes, "no list of descriptors"),
        (lambda _: tar_of([("index.json", b'{"manifests": []}')]), ConfigurationError, "holds no image"),
        (two_images, ConfigurationError, "'one'"),
    ],
)
def test_what_is_no_archive_of_one_image_is_said(
    tmp_path: Path, depot: DictionaryDepot, content: Any, error: type[SyncerError], words: str
) -> None:
    path = tmp_path / "image.tar"
    if (data := content(depot)) is not None:
        path.write_bytes(data)
    with pytest.raises(error, match=words) as caught:
        Archive(path).manifest("")
    assert caught.value.hint


def test_a_folder_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is no file"):
        Archive(tmp_path).manifest("")


def test_a_blob_that_is_not_there_is_named(tmp_path: Path, depot: DictionaryDepot) -> None:
    del depot.blobs[digest_of(b"a layer's bytes")]
    depot.archive(tmp_path / "image.tar")
    with pytest.raises(WrongBytes, match=digest_of(b"a layer's bytes")):
        Archive(tmp_path / "image.tar").read(digest_of(b"a layer's bytes"), 0, 1)


def test_the_index_of_an_index_is_followed(tmp_path: Path) -> None:
    depot = DictionaryDepot()
    image = depot.push([], reference="image")
    depot.index([platform(image, "linux", "amd64")])
    depot.archive(tmp_path / "image.tar")
    archive = Archive(tmp_path / "image.tar")
    top = archive.manifest("")
    assert top is not None
    assert top.media_type == INDEX
    assert manifest_at(top, archive.manifest, where="x")[0].digest == image["digest"]
    archive.close()
