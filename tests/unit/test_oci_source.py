"""Images as sources: whatever made them, the files are right or the run ends with the right code."""

import gzip
import hashlib
import json
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from syncer.errors import (
    ConfigurationError,
    SourceChanged,
    SourceMissing,
    SyncerError,
    Transient,
    UnsafeNames,
    WrongBytes,
)
from syncer.manifest import Origin
from syncer.settings.locations import ImageLocation, Network
from syncer.stores.oci import source as module
from syncer.stores.oci.layers import head, tail
from syncer.stores.oci.source import OciSource
from syncer.stores.oci.streams import Milestones
from tests.contract.checks import check_listing, check_range, drain, some_bytes
from tests.support.foreign_images import (
    GZIP,
    TAR,
    DictionaryDepot,
    digest_of,
    member,
    modelpack_artifact,
    olot_image,
    oras_artifact,
    plain_image,
    tar_of,
)

FILES = {
    "config.json": b'{"model_type": "llama"}',
    "weights/model-00001-of-00002.safetensors": some_bytes(70_000),
    "weights/model-00002-of-00002.safetensors": some_bytes(50_001, seed="2"),
    "empty.txt": b"",
}
OURS = "io.github.model-syncer."


@pytest.fixture
def depot() -> DictionaryDepot:
    return DictionaryDepot()


@pytest.fixture
def open_source(depot: DictionaryDepot, monkeypatch: pytest.MonkeyPatch) -> Callable[[], OciSource]:
    monkeypatch.setattr(module, "open_depot", lambda _location, _network, *, variable: depot)
    return lambda: OciSource(ImageLocation("registry.example", "org/model"), Network())


def check_files(source: OciSource, files: dict[str, bytes]) -> None:
    """Listed exactly, read exactly, in ranges side by side, and with the digest that the engine will compare."""
    check_listing(source, files)
    for path, file in source.listing().files.items():
        assert file.digests == {"sha256": hashlib.sha256(files[path]).hexdigest()}
        if file.size:
            check_range(source, file, files[path], start=0, length=file.size)
            check_range(source, file, files[path], start=file.size // 3, length=file.size // 3)


def below_models(files: dict[str, bytes]) -> bytes:
    return tar_of((f"models/{path}", content) for path, content in files.items())


def our_layer(depot: DictionaryDepot, path: str, content: bytes, **changed: str) -> dict[str, Any]:
    sha256 = hashlib.sha256(content).hexdigest()
    told = {"path": path, "size": str(len(content)), "sha256": sha256} | changed
    layer = head(path, len(content)) + content + tail(len(content))
    return depot.descriptor(layer, TAR, **{OURS + name: value for name, value in told.items()})


def fingerprint_of(files: dict[str, bytes]) -> str:
    prints = hashlib.sha256()
    for path in sorted(files):
        digests = [["sha256", hashlib.sha256(files[path]).hexdigest()]]
        prints.update(json.dumps([path, len(files[path]), digests]).encode())
    return f"sha256:{prints.hexdigest()}"


def our_image(depot: DictionaryDepot, files: dict[str, bytes], **told: str) -> None:
    base = depot.descriptor(gzip.compress(tar_of([("bin/sh", b"#!")])), GZIP)
    told = {"source": "s3://x/", "fingerprint": fingerprint_of(files)} | told
    layers = [base, *(our_layer(depot, path, content) for path, content in files.items())]
    depot.push(layers, annotations={OURS + name: value for name, value in told.items()})


def test_ours_is_listed_without_reading_a_layer(depot: DictionaryDepot, open_source: Callable[[], OciSource]) -> None:
    our_image(depot, FILES, source="hf://org/model", revision="abc")
    source = open_source()
    assert source.revision == ""
    source.listing()
    assert depot.reads == []
    check_files(source, FILES)
    assert source.revision == depot.documents[""].digest
    assert source.origin == Origin("hf://org/model", "abc")


@pytest.mark.parametrize("changed", [{"size": "1000"}, {"size": "-1"}, {"size": "9" * 30}, {"sha256": "x"}])
def test_annotations_that_cannot_be_are_not_believed(
    depot: DictionaryDepot, open_source: Callable[[], OciSource], changed: dict[str, str]
) -> None:
    told = {f"{OURS}fingerprint": fingerprint_of({"x": b"abc"}), f"{OURS}source": "s3://x/"}
    depot.push([our_layer(depot, "x", b"abc", **changed)], annotations=told)
    check_files(open_source(), {"x": b"abc"})


def test_an_image_of_ours_whose_layers_were_packed_on_their_way_is_whole(
    depot: DictionaryDepot, open_source: Callable[[], OciSource]
) -> None:
    """skopeo does so without being told, and drops the annotations of the layers that it packs, and of these alone."""
    kept = our_layer(depot, "a", b"kept")
    layer = head("b", 3) + b"abc" + tail(3)
    packed = depot.descriptor(gzip.compress(layer), GZIP)
    files = {"a": b"kept", "b": b"abc"}
    depot.push([kept, packed], annotations={f"{OURS}fingerprint": fingerprint_of(files), f"{OURS}source": "s3://x/"})
    check_files(open_source(), files)


def test_olot_layers_that_were_packed_on_their_way_are_part_of_the_model(
    depot: DictionaryDepot, open_source: Callable[[], OciSource]
) -> None:
    olot_image(depot, {"README.md": b"# card"})
    manifest = json.loads(depot.documents[""].content)
    packed = depot.descriptor(gzip.compress(below_models({"a.bin": b"weights"})), GZIP)
    depot.push([*manifest["layers"], packed])
    check_files(open_source(), {"README.md": b"# card", "a.bin": b"weights"})


def test_paths_of_ours_that_lead_out_are_refused(depot: DictionaryDepot, open_source: Callable[[], OciSource]) -> None:
    our_image(depot, {"../x": b"evil"})
    with pytest.raises(UnsafeNames, match="leads out"):
        open_source().listing()


def test_olot_is_listed_from_headers_alone(depot: DictionaryDepot, open_source: Callable[[], OciSource]) -> None:
    olot_image(depot, FILES)
    source = open_source()
    source.listing()
    assert sum(length for _, _, length in depot.reads) < 50_000
    check_files(source, FILES)
    assert source.origin is None


def test_olot_whose_layer_has_another_file_is_refused(
    depot: DictionaryDepot, open_source: Callable[[], OciSource]
) -> None:
    olot_image(depot, {"a.bin": b"content"})
    told = {"olot.layer.content.type": "file", "olot.layer.content.digest": digest_of(b"content")}
    layer = tar_of([("models/evil.bin", b"content")])
    depot.push([depot.descriptor(layer, TAR, **{**told, "olot.layer.content.inlayerpath": "/models/a.bin"})])
    with pytest.raises(WrongBytes, match="should hold"):
        open_source().listing()


@pytest.mark.parametrize("packed", [True, False])
def test_a_plain_image_has_its_files_below_models(
    depot: DictionaryDepot, open_source: Callable[[], OciSource], packed: bool
) -> None:
    base = tar_of([("usr/lib/large", some_bytes(9000)), ("models-not/x", b"1"), ("etc/models/y", b"2")])
    plain_image(depot, [base, below_models(FILES)], packed=packed)
    check_files(open_source(), FILES)


def test_parts_of_packed_files_are_read_side_by_side(
    depot: DictionaryDepot, open_source: Callable[[], OciSource]
) -> None:
    plain_image(depot, [below_models(FILES)])
    source = open_source()
    file = source.listing().files["weights/model-00001-of-00002.safetensors"]
    with ThreadPoolExecutor(8) as pool:
        parts = pool.map(lambda at: drain(source.read(file, at, 7000), 7000), range(0, 70_000, 7000))
    assert b"".join(parts) == FILES["weights/model-00001-of-00002.safetensors"]


def test_later_layers_win_and_whiteouts_take_away(depot: DictionaryDepot, open_source: Callable[[], OciSource]) -> None:
    plain_image(
        depot,
        [
            tar_of([("./models/a", b"old"), ("models/b", b"gone"), ("models/d/x", b"gone"), ("models/e/x", b"gone")]),
            tar_of([("models/a", b"new"), ("models/.wh.b", b""), ("models/.wh.d", b""), ("models/d/y", b"stays")]),
            tar_of([("models/e/.wh..wh..opq", b""), ("models/e/z", b"stays"), ("models/f/.wh.none", b"")]),
            tar_of([member("models/g", tarfile.DIRTYPE), ("models/g/inside", b"gone")]),
            tar_of([("models/g", b"a file now")]),
        ],
    )
    check_files(open_source(), {"a": b"new", "d/y": b"stays", "e/z": b"stays", "g": b"a file now"})


@pytest.mark.parametrize("whiteout", [".wh.models", ".wh..wh..opq"])
def test_the_whole_model_can_be_taken_away(
    depot: DictionaryDepot, open_source: Callable[[], OciSource], whiteout: str
) -> None:
    plain_image(depot, [tar_of([("models/a", b"old")]), tar_of([(whiteout, b""), ("models/b", b"new")])])
    check_files(open_source(), {"b": b"new"})


def test_links_inside_are_files(depot: DictionaryDepot, open_source: Callable[[], OciSource]) -> None:
    links: list[tuple[str, bytes] | tarfile.TarInfo] = [
        ("models/blobs/1", b"one"),
        member("models/relative", tarfile.SYMTYPE, target="blobs/1"),
        member("models/absolute", tarfile.SYMTYPE, target="/models/blobs/1"),
        member("models/snapshots/x/up", tarfile.SYMTYPE, target="../../blobs/1"),
        member("models/chain", tarfile.SYMTYPE, target="relative"),
        member("models/latest", tarfile.SYMTYPE, target="blobs"),
        member("models/hard", tarfile.LNKTYPE, target="models/blobs/1"),
    ]
    plain_image(depot, [tar_of([*links[:5], links[6]]), tar_of([("models/blobs/1", b"two")])])
    two = dict.fromkeys(["blobs/1", "relative", "absolute", "snapshots/x/up", "chain"], b"two")
    check_files(open_source(), {**two, "hard": b"one"})
    plain_image(depot, [tar_of([links[0], links[5], member("models/x", tarfile.SYMTYPE, target="latest/1")])])
    with pytest.raises(UnsafeNames, match="'latest' is a link to a folder"):
        open_source().listing()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (member("models/x", tarfile.SYMTYPE, target="../etc/passwd"), "leads out of the folder"),
        (member("models/x", tarfile.SYMTYPE, target="/etc/passwd"), "leads out of the folder"),
        (member("models/x", tarfile.SYMTYPE, target="nothing"), "link to nothing"),
        (member("models/x", tarfile.SYMTYPE, target="x"), "in a circle"),
        (member("models/x", tarfile.SYMTYPE, target="x/y"), "in a circle"),
        (member("models/x", tarfile.LNKTYPE, target="etc/passwd"), "hard link to 'etc/passwd'"),
        (member("models/x", tarfile.LNKTYPE, target="../x"), "hard link"),
        (member("models/x", tarfile.CHRTYPE), "a device"),
        (member("models/x", tarfile.FIFOTYPE), "a pipe"),
        (member("models/x", tarfile.GNUTYPE_SPARSE), "sparse"),
        (member("models/../../etc/passwd"), "leads out of the image"),
        (member("../models/x"), "leads out of the image"),
        (member("models/new\nline", tarfile.CHRTYPE), "new\\\\nline"),
    ],
)
def test_what_cannot_be_copied_as_a_file_is_refused_by_name(
    depot: DictionaryDepot, open_source: Callable[[], OciSource], entry: tarfile.TarInfo, words: str
) -> None:
    plain_image(depot, [tar_of([("models/fine", b"1"), ("etc/passwd", b"root"), entry])])
    with pytest.raises(UnsafeNames, match=words) as caught:
        open_source().listing()
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    "entry", [member("m" * 5000), member("models/x", tarfile.SYMTYPE, target="./" * 2500 + "fine")]
)
def test_paths_longer_than_any_are_refused(
    depot: DictionaryDepot, open_source: Callable[[], OciSource], entry: tarfile.TarInfo
) -> None:
    plain_image(depot, [tar_of([("models/fine", b"1"), entry])])
    with pytest.raises(WrongBytes, match="a path of 500"):
        open_source().listing()


def test_oras_has_files_and_packed_folders(depot: DictionaryDepot, open_source: Callable[[], OciSource]) -> None:
    folder = tar_of([member("weights", tarfile.DIRTYPE), ("weights/a.bin", b"aaa"), ("weights/d/b.bin", b"bbb")])
    oras_artifact(depot, {"config.json": b"{}", "kept.tar.gz": b"not for unpacking"}, folders={"weights": folder})
    check_files(
        open_source(),
        {
            "config.json": b"{}",
            "kept.tar.gz": b"not for unpacking",
            "weights/a.bin": b"aaa",
            "weights/d/b.bin": b"bbb",
        },
    )


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../../b", ""])
def test_artifacts_cannot_name_what_they_like(
    depot: DictionaryDepot, open_source: Callable[[], OciSource], name: str
) -> None:
    oras_artifact(depot, {name: b"evil"})
    with pytest.raises(ConfigurationError):
        open_source().listing()


def test_modctl_has_raw_files_and_tars(depot: DictionaryDepot, open_source: Callable[[], OciSource]) -> None:
    modelpack_artifact(
        depot,
        {"model.safetensors": b"weights"},
        {"tar": tar_of([("tokenizer/vocab.json", b"{}")]), "tar+gzip": gzip.compress(tar_of([("docs/x.md", b"#")]))},
    )
    check_files(open_source(), {"model.safetensors": b"weights", "tokenizer/vocab.json": b"{}", "docs/x.md": b"#"})


def test_kitops_has_tars(depot: DictionaryDepot, open_source: Callable[[], OciSource]) -> None:
    kind = "application/vnd.kitops.modelkit.model.v1"
    layers = [
        depot.descriptor(gzip.compress(tar_of([("model/a.bin", b"a")])), f"{kind}.tar+gzip"),
        depot.descriptor(tar_of([("model/b.bin", b"b")]), f"{kind}.tar"),
    ]
    depot.push(layers, config_type="application/vnd.kitops.modelkit.config.v1+json")
    check_files(open_source(), {"model/a.bin": b"a", "model/b.bin": b"b"})


def test_a_layer_that_was_damaged_on_the_way_is_read_once_more(
    depot: DictionaryDepot, open_source: Callable[[], OciSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_image(depot, [below_models(FILES)])
    digest = next(iter(depot.blobs))
    sound = depot.blobs[digest]
    real = DictionaryDepot.read

    def damaged(self: DictionaryDepot, asked: str, start: int, length: int) -> Any:
        self.blobs[digest] = sound if self.reads else bytes([*sound[:-1], sound[-1] ^ 1])
        return real(self, asked, start, length)

    monkeypatch.setattr(DictionaryDepot, "read", damaged)
    check_files(open_source(), FILES)
    assert [(start, length) for asked, start, length in depot.reads if asked == digest][:2] == [(0, len(sound))] * 2


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("at", [0, 700, -1])
def test_a_flipped_byte_in_a_layer_is_wrong_bytes(
    depot: DictionaryDepot, open_source: Callable[[], OciSource], packed: bool, at: int
) -> None:
    plain_image(depot, [below_models(FILES)], packed=packed)
    digest = next(iter(depot.blobs))
    damaged = bytearray(depot.blobs[digest])
    damaged[at] ^= 1
    depot.blobs[digest] = bytes(damaged)
    with pytest.raises(WrongBytes, match="its bytes are sha256"):
        open_source().listing()


def flip(depot: DictionaryDepot, digest: str, at: int) -> None:
    damaged = bytearray(depot.blobs[digest])
    damaged[at] ^= 1
    depot.blobs[digest] = bytes(damaged)


@pytest.mark.parametrize("make", [our_image, olot_image, oras_artifact, modelpack_artifact])
def test_a_byte_flipped_in_a_file_differs_from_the_listed_digest(
    depot: DictionaryDepot, open_source: Callable[[], OciSource], make: Callable[[DictionaryDepot, Any], None]
) -> None:
    content = some_bytes(5000)
    make(depot, {"a.bin": content})
    digest = next(digest for digest, data in depot.blobs.items() if content in data)
    flip(depot, digest, depot.blobs[digest].index(content) + 1234)
    source = open_source()
    file = source.listing().files["a.bin"]
    got = drain(source.read(file, 0, 5000), 5000)
    assert hashlib.sha256(got).hexdigest() != file.digests["sha256"]


@pytest.mark.parametrize("kind", [f"{TAR}+zstd", "application/vnd.oci.image.layer.v1.cpio"])
def test_layers_that_are_not_read_are_said(
    depot: DictionaryDepot, open_source: Callable[[], OciSource], kind: str
) -> None:
    depot.push([depot.descriptor(b"whatever", kind)])
    with pytest.raises(ConfigurationError, match="is not read") as caught:
        open_source().listing()
    assert "skopeo copy" in caught.value.hint


@pytest.mark.parametrize("files", [{}, {".syncer/complete.json": b"{}"}])
def test_an_image_without_a_model_is_a_missing_source(
    depot: DictionaryDepot, open_source: Callable[[], OciSource], files: dict[str, bytes]
) -> None:
    plain_image(depot, [tar_of([("etc/passwd", b"root")]), below_models(files)])
    with pytest.raises(SourceMissing, match="no file of a model") as caught:
        open_source().listing()
    assert "/models" in caught.value.hint


def test_no_image_is_a_missing_source(open_source: Callable[[], OciSource]) -> None:
    with pytest.raises(SourceMissing) as caught:
        open_source().listing()
    assert caught.value.hint


def test_rubbish_that_is_proved_is_still_rubbish(depot: DictionaryDepot, open_source: Callable[[], OciSource]) -> None:
    depot.push([depot.descriptor(b"x" * 600, TAR)])
    with pytest.raises(WrongBytes, match="cannot be read"):
        open_source().listing()


def test_a_listing_that_broke_goes_on_with_the_layers_it_had(
    depot: DictionaryDepot, open_source: Callable[[], OciSource]
) -> None:
    plain_image(depot, [below_models({"a": some_bytes(3000)}), below_models({"b": b"2"})])
    second = depot.documents[""]
    source = open_source()
    missing = depot.blobs.pop(digest_of(gzip.compress(below_models({"b": b"2"}), 1)), None)
    if missing is None:
        pytest.skip("gzip wrote another time into its header")
    with pytest.raises(SyncerError):
        source.listing()
    depot.put(missing)
    reads = len(depot.reads)
    assert source.listing().files.keys() == {"a", "b"}
    assert len(depot.reads) == reads + 1
    assert second.digest == source.revision


def test_a_file_that_is_another_one_by_now_has_changed(
    depot: DictionaryDepot, open_source: Callable[[], OciSource]
) -> None:
    our_image(depot, {"a": b"one"})
    source, other = open_source(), open_source()
    file = source.listing().files["a"]
    assert source.look_again(file) == file
    our_image(depot, {"a": b"two"})
    assert drain(source.read(file, 0, 3), 3) == b"one"
    other.listing()
    with pytest.raises(SourceChanged):
        other.read(file, 0, 3)


def test_looking_through_a_layer_can_be_interrupted(
    depot: DictionaryDepot, open_source: Callable[[], OciSource]
) -> None:
    plain_image(depot, [below_models(FILES)])
    source = open_source()
    source.interrupt()
    with pytest.raises(Transient, match="interrupted"):
        source.listing()
    assert depot.reads == []


def test_milestones_of_many_layers_have_a_bounded_memory(
    depot: DictionaryDepot, open_source: Callable[[], OciSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_MILESTONES_TOGETHER", 8)
    monkeypatch.setattr(module, "Milestones", lambda: Milestones(most=20, closest=2000))
    files = {f"{number}.bin": some_bytes(300_000, seed=str(number)) for number in range(3)}
    plain_image(depot, [below_models({path: data}) for path, data in files.items()])
    source = open_source()
    listing = source.listing()
    assert sum(it.count for it in source._milestones.values()) <= 8
    for path, data in files.items():
        assert drain(source.read(listing.files[path], 250_000, 10), 10) == data[250_000:250_010]
