"""A model that was uploaded by hand is accepted when it is whole, as far as it tells itself."""

import json

import pytest

from syncer.errors import SourceMissing
from syncer.stores import uploaded
from syncer.stores.uploaded import UploadedSource
from tests.support.captured import capture_logs
from tests.support.memory_store import MemoryDestination, MemoryVolume


def index(*shards: str) -> bytes:
    return json.dumps({"metadata": {}, "weight_map": {f"layer.{n}": shard for n, shard in enumerate(shards)}}).encode()


def source_of(files: dict[str, bytes], *, verify: bool = True) -> UploadedSource:
    volume = MemoryVolume()
    volume.fill("model/", files)
    return UploadedSource(MemoryDestination(volume), verify=verify)


def refusal_of(files: dict[str, bytes]) -> SourceMissing:
    with pytest.raises(SourceMissing) as caught:
        source_of(files).listing()
    assert caught.value.exit_code == 66
    assert "\n" not in caught.value.message
    return caught.value


def test_nothing_uploaded_is_refused_with_a_hint() -> None:
    refusal = refusal_of({})
    assert "S3_SYNC_LOCAL_UPLOAD_COMPLETE" in refusal.hint
    assert "memory://model/" in refusal.hint


def test_a_whole_model_is_what_the_destination_lists() -> None:
    files = {
        "model.safetensors.index.json": index("model-1.safetensors", "model-2.safetensors", "model-1.safetensors"),
        "model-1.safetensors": b"1",
        "model-2.safetensors": b"2",
    }
    assert source_of(files).listing().files.keys() == files.keys()


@pytest.mark.parametrize(
    ("files", "warned"),
    [
        ({"granite/config.json": b"{}", "granite/model.gguf": b"weights"}, True),
        ({"granite/config.json": b"{}", "README.md": b"#"}, False),
        ({"config.json": b"{}"}, False),
    ],
)
def test_a_model_one_folder_too_deep_is_taken_with_a_warning(files: dict[str, bytes], warned: bool) -> None:
    with capture_logs() as said:
        assert source_of(files).listing().files.keys() == files.keys()
    assert [line["event"] for line in said] == (["model_misplaced"] if warned else [])
    assert all("granite" in line["reason"] for line in said)


def test_a_model_without_an_index_is_whole() -> None:
    assert source_of({"model.gguf": b"weights"}).listing().total_bytes == 7


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors.index.json",
        "pytorch_model.bin.index.json",
        "diffusion_pytorch_model.fp16.safetensors.index.json",
        "tf_model.h5.index.json",
    ],
)
def test_missing_shards_are_named(name: str) -> None:
    refusal = refusal_of({name: index("model-1", "model-2", "model-3"), "model-2": b"2"})
    assert "'model-1'" in refusal.message
    assert "'model-2'" not in refusal.message
    assert "'model-3'" in refusal.message
    assert name in refusal.message
    assert "S3_SYNC_LOCAL_UPLOAD_VERIFY=false" in refusal.hint


def test_shards_are_looked_for_beside_their_index() -> None:
    files = {"unet/model.safetensors.index.json": index("model-1"), "unet/model-1": b"1"}
    assert source_of(files).listing().files
    refusal = refusal_of({"unet/model.safetensors.index.json": index("model-1"), "model-1": b"1"})
    assert "'unet/model-1'" in refusal.message


def test_a_long_list_is_bounded() -> None:
    refusal = refusal_of({"model.safetensors.index.json": index(*(f"model-{n:04}" for n in range(1000)))})
    assert "and 980 more" in refusal.message
    assert len(refusal.message) < 1000


def test_the_look_can_be_skipped() -> None:
    files = {"model.safetensors.index.json": index("model-1")}
    assert source_of(files, verify=False).listing().files.keys() == files.keys()


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"1",
        b"[" * 100_000,
        b'{"weight_map": []}',
        b'{"weight_map": {"a": 1}}',
        b'{"weight_map": {"a": ""}}',
        b'{"weight_map": {"a": ["x"]}}',
        b'{"weight_map": {"a": null}}',
        b'{"metadata": {}}',
    ],
)
def test_what_is_no_index_is_refused_as_cut_short(document: bytes) -> None:
    refusal = refusal_of({"model.safetensors.index.json": document, "x": b"x"})
    assert "upload it again" in refusal.hint


@pytest.mark.parametrize("shard", ["../other/model-1", "/etc/passwd", "a\nb", "a/../model-1", "\udcff", "x" * 100_000])
def test_hostile_shard_names_are_just_missing(shard: str) -> None:
    refusal = refusal_of({"model.safetensors.index.json": index(shard), "model-1": b"1"})
    assert len(refusal.message.encode()) < 1000


def test_an_index_too_large_to_be_one_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploaded, "LARGEST_INDEX", 10)
    volume = MemoryVolume()
    volume.fill("model/", {"model.safetensors.index.json": index("model-1")})
    with pytest.raises(SourceMissing, match="more than any index"):
        UploadedSource(MemoryDestination(volume)).listing()
    assert volume.requests["read"] == 0


def test_indexes_of_nested_sealed_folders_are_not_ours() -> None:
    files = {
        "granite/.syncer/complete.json": b"{}",
        "granite/model.safetensors.index.json": index("model-1"),
        "config.json": b"{}",
    }
    assert source_of(files).listing().files.keys() == {"config.json"}


def test_the_destination_stays_open() -> None:
    source = source_of({"model.gguf": b"weights"})
    source.close()
    destination = source._destination
    assert isinstance(destination, MemoryDestination)
    assert not destination.closed
    source.interrupt()
    assert destination.interrupted.is_set()


def test_a_look_that_is_not_wanted_finds_nothing_wrong_with_an_empty_place() -> None:
    destination = MemoryDestination(MemoryVolume())
    assert UploadedSource(destination, verify=False).listing().files == {}
