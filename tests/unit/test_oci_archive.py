"""Archives as destinations: the same model is the same image, and a kill costs one file at most."""

import hashlib
import json
import os
import stat
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from syncer.errors import ConfigurationError, SourceChanged, WrongBytes
from syncer.manifest import FileRecord, Manifest, Origin
from syncer.marker import read_seal
from syncer.settings.locations import ArchiveLocation, Network
from syncer.stores.oci.archive import Archive
from syncer.stores.oci.archive_destination import ArchiveDestination
from syncer.stores.oci.documents import ImageIndex, manifest_at, read_document
from syncer.stores.oci.source import OciSource
from syncer.stores.protocols import Cut
from tests.contract.checks import as_file, check_range, drain, part_of, send_part, some_bytes, store
from tests.support.archive_bench import files_in
from tests.support.foreign_images import CONFIG, TAR, DictionaryDepot, digest_of, plain_image, tar_of

FILES = {"config.json": b"{}", "weights/model.safetensors": some_bytes(5000), "empty": b"", "README.md": b"# card"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.tar"


def opened(path: Path) -> ArchiveDestination:
    return ArchiveDestination(ArchiveLocation(path), Network())


def sealed(destination: ArchiveDestination, files: dict[str, bytes]) -> Manifest:
    """What the job commits: records with the versions that are there, and the digests of what passed."""
    there = destination.listing().files
    records = {
        path: FileRecord(
            path, len(data), {"sha256": hashlib.sha256(data).hexdigest()}, "stream", f"v-{path}", there[path].version
        )
        for path, data in files.items()
    }
    manifest = Manifest("s3://bucket/model/", "", records, origin=Origin("hf://org/model", "abc"))
    destination.commit(manifest)
    return manifest


def written(path: Path, files: dict[str, bytes]) -> ArchiveDestination:
    destination = opened(path)
    for name, data in files.items():
        store(destination, name, data, part_size=1000)
    sealed(destination, files)
    return destination


def content_of(path: Path) -> dict[str, bytes]:
    """The model in an archive, unpacked by tarfile: around the code under test."""
    blobs: dict[str, bytes] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            extracted = archive.extractfile(member)
            assert extracted is not None
            assert member.name not in blobs
            blobs[member.name] = extracted.read()
    assert json.loads(blobs["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    for name, data in blobs.items():
        if name.startswith("blobs/"):
            assert name == f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"
    used = [json.loads(blobs["index.json"])["manifests"][0]["digest"]]
    manifest = json.loads(blobs[named(used[0])])
    used += [manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])]
    assert {named(digest) for digest in used} | {"oci-layout", "index.json"} == blobs.keys()
    config = json.loads(blobs[named(used[1])])
    assert config["rootfs"]["diff_ids"] == used[2:]
    files = {}
    for digest in used[2:]:
        layer = path.with_name("layer.tar")
        layer.write_bytes(blobs[named(digest)])
        with tarfile.open(layer) as tar:
            for member in tar:
                if member.isfile() and (extracted := tar.extractfile(member)) is not None:
                    files[member.name.removeprefix("models/")] = extracted.read()
        layer.unlink()
    return files


def named(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def test_an_archive_holds_every_byte(path: Path) -> None:
    destination = written(path, FILES)
    assert content_of(path) == FILES
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [it.name for it in path.parent.iterdir()] == ["model.tar"]
    assert destination.digest.startswith("sha256:")
    assert destination.uri == f"oci-archive:{path}"


def test_the_same_model_is_the_same_image_whatever_the_order(path: Path) -> None:
    other = path.with_name("other.tar")
    first, second = written(path, FILES), written(other, dict(reversed(FILES.items())))
    assert first.digest == second.digest


def test_the_same_run_is_the_same_archive(path: Path) -> None:
    other = path.with_name("other.tar")
    written(path, FILES)
    written(other, FILES)
    assert path.read_bytes() == other.read_bytes()


def test_what_was_written_is_a_source(path: Path) -> None:
    destination = written(path, FILES)
    source = OciSource(ArchiveLocation(path), Network())
    for name, file in source.listing().files.items():
        assert file.digests["sha256"] == hashlib.sha256(FILES[name]).hexdigest()
        if FILES[name]:
            check_range(source, file, FILES[name], start=0, length=file.size)
    assert source.revision == destination.digest
    assert source.origin == Origin("hf://org/model", "abc")
    source.close()


def test_an_archive_that_was_replaced_is_not_read_on(path: Path) -> None:
    """A file of it may be there again, and the others would be of the image before."""
    revisions = set()  # that a lane beside the one that looks could take for the one that was planned

    class Watched(OciSource):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if name == "_image":
                revisions.add(self.revision)

    source = Watched(ArchiveLocation(path), Network())
    revision = written(path, FILES).digest
    file = next(iter(source.listing().files.values()))
    assert source.look_again(file) == file
    written(path.with_name("other.tar"), FILES | {"another": b"one"})
    path.with_name("other.tar").replace(path)
    with pytest.raises(SourceChanged, match="was replaced while it was read"):
        source.look_again(file)
    assert source.revision == revision
    assert revisions == {"", revision}
    source.close()


def test_what_a_replaced_archive_no_longer_has_is_not_called_damaged(path: Path) -> None:
    """One lane has looked again, and so opened the successor; another one goes on with the image that was planned."""
    source = OciSource(ArchiveLocation(path), Network())
    written(path, FILES)
    file = next(iter(source.listing().files.values()))
    written(path.with_name("other.tar"), {"another": b"one"})
    path.with_name("other.tar").replace(path)
    with pytest.raises(SourceChanged):
        source.look_again(file)
    with pytest.raises(SourceChanged, match="was changed while it was read"):
        source.read(file, 0, file.size)
    source.close()


def test_a_second_run_writes_nothing(path: Path) -> None:
    manifest = written(path, FILES).manifest()
    before = path.stat()
    destination = opened(path)
    destination.prepare()
    assert {name: file.size for name, file in destination.listing().files.items()} == {
        name: len(data) for name, data in FILES.items()
    }
    assert manifest is not None
    destination.commit(manifest)
    after = path.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert destination.digest == manifest_digest(path)


def manifest_digest(path: Path) -> str:
    with tarfile.open(path) as archive:
        index = archive.extractfile("index.json")
        assert index is not None
        return str(json.loads(index.read())["manifests"][0]["digest"])


def test_what_an_archive_proves_is_known_without_its_control_folder(path: Path) -> None:
    written(path, FILES)
    found = opened(path).control.read("manifest.json")
    assert found is not None
    manifest = Manifest.from_json(json.loads(found[0]))
    assert manifest.files.keys() == FILES.keys()
    assert manifest.source == "s3://bucket/model/"
    seal = read_seal(opened(path).control)
    assert seal is not None
    assert (seal.fingerprint, seal.files) == (manifest.fingerprint, len(FILES))


def test_a_change_takes_the_rest_over(path: Path) -> None:
    written(path, FILES)
    changed = {"config.json": b'{"new": 1}', "weights/model.safetensors": FILES["weights/model.safetensors"]}
    destination = opened(path)
    store(destination, "config.json", changed["config.json"], part_size=1000)
    destination.delete(["empty", "README.md"])
    assert destination.listing().files.keys() == changed.keys()
    sealed(destination, changed)
    assert content_of(path) == changed
    assert written(path.with_name("new.tar"), changed).digest == destination.digest


def test_a_kept_layer_that_is_damaged_is_not_taken_over(path: Path) -> None:
    written(path, FILES)
    data = path.read_bytes()
    at = data.index(FILES["weights/model.safetensors"]) + 100
    path.write_bytes(data[:at] + b"!" + data[at + 1 :])
    destination = opened(path)
    store(destination, "config.json", b"other", part_size=1000)
    with pytest.raises(WrongBytes):
        sealed(destination, FILES | {"config.json": b"other"})


@pytest.mark.parametrize("politely", [True, False])
def test_a_killed_run_goes_on_by_file(path: Path, politely: bool) -> None:
    large = FILES["weights/model.safetensors"]
    first = opened(path)
    store(first, "config.json", b"{}", part_size=1000)
    cut = Cut(len(large), 1000)
    upload = first.begin(as_file("weights/model.safetensors", large), cut)
    send_part(upload, 0, part_of(large, cut, 0))
    store(first, "README.md", b"# card", part_size=1000)
    if politely:
        upload.suspend()
        first.close()
    second = opened(path)
    assert second.listing().files.keys() == {"config.json", "README.md"}
    for name in ("weights/model.safetensors", "empty"):
        store(second, name, FILES[name], part_size=1000)
    sealed(second, FILES)
    assert content_of(path) == FILES
    assert [it.name for it in path.parent.iterdir()] == ["model.tar"]


def test_what_is_not_wanted_any_more_leaves_no_gap(path: Path) -> None:
    destination = opened(path)
    for name, data in {**FILES, "gone": some_bytes(3000)}.items():
        store(destination, name, data, part_size=1000)
    upload = destination.begin(as_file("given/up", b"x" * 700), Cut(700, 700))
    store(destination, "later", b"l", part_size=10)
    upload.abort()
    sealed(destination, {**FILES, "later": b"l"})
    assert content_of(path) == {**FILES, "later": b"l"}
    assert [it.name for it in path.parent.iterdir()] == ["model.tar"]


def test_a_commit_that_was_killed_is_repeated(path: Path) -> None:
    destination = opened(path)
    for name, data in FILES.items():
        store(destination, name, data, part_size=1000)
    destination._growing.finish({"index.json": b"{}", "oci-layout": b"{}"})
    sealed(opened(path), FILES)
    assert content_of(path) == FILES


def test_a_partial_archive_that_a_crash_left_torn_counts_as_far_as_it_is_sound(path: Path) -> None:
    destination = opened(path)
    store(destination, "config.json", b"{}", part_size=10)
    store(destination, "empty", b"", part_size=10)
    destination.close()
    partial = path.with_name(".model.tar.partial")
    data = partial.read_bytes()
    partial.write_bytes(data[: len(data) - 600])
    assert opened(path).listing().files.keys() == {"config.json"}


def test_who_looks_while_another_run_is_at_it_changes_nothing(path: Path) -> None:
    writing, looking = opened(path), opened(path)
    store(writing, "config.json", FILES["config.json"], part_size=1000)
    partial = path.with_name(".model.tar.partial")
    with partial.open("ab") as file:
        file.write(b"\1" * 512)  # a header that is just being written
    before = partial.read_bytes()
    assert looking.listing().files.keys() == {"config.json"}
    assert partial.read_bytes() == before
    sealed(writing, {"config.json": FILES["config.json"]})
    finished = path.read_bytes()
    store(looking, "README.md", FILES["README.md"], part_size=1000)
    assert path.read_bytes() == finished, "what was looked at has become the archive"


def test_a_part_is_sent_again_with_its_share_of_the_digest(path: Path) -> None:
    content = some_bytes(2500)
    cut = Cut(2500, 1000)
    destination = opened(path)
    upload = destination.begin(as_file("a", content), cut)
    send_part(upload, 0, b"x" * 1000)
    send_part(upload, 0, part_of(content, cut, 0))
    sink = upload.open_part(1)
    sink.send(memoryview(b"wrong"))
    sink.cancel()
    send_part(upload, 1, b"y" * 1000)
    for index in (1, 2):
        send_part(upload, index, part_of(content, cut, index))
    assert upload.finish() == upload.finish()
    sealed(destination, {"a": content})
    assert content_of(path) == {"a": content}


def test_records_without_a_digest_are_read(path: Path) -> None:
    destination = opened(path)
    version = store(destination, "a", b"content", part_size=10)
    destination.commit(Manifest("s3://x/", "", {"a": FileRecord("a", 7, {}, "listing", "1", version)}))
    manifest = opened(path).manifest()
    assert manifest is not None
    assert manifest.files["a"].digests == {"sha256": hashlib.sha256(b"content").hexdigest()}


@pytest.mark.parametrize("foreign", [b"no archive", tar_of([("x", b"1")]), None])
def test_a_file_that_is_none_of_ours_stays(path: Path, foreign: bytes | None) -> None:
    if foreign is None:
        depot = DictionaryDepot()
        plain_image(depot, [tar_of([("models/x", b"1")])])
        depot.archive(path)
    else:
        path.write_bytes(foreign)
    with pytest.raises(ConfigurationError, match="no image of a model that this tool has made"):
        opened(path).prepare()


def test_a_file_that_appears_before_the_commit_stays(path: Path) -> None:
    destination = opened(path)
    for name, data in FILES.items():
        store(destination, name, data, part_size=1000)
    path.write_bytes(b"somebody else's")
    with pytest.raises(ConfigurationError, match="no image of a model that this tool has made"):
        sealed(destination, FILES)
    assert path.read_bytes() == b"somebody else's"
    path.unlink()
    sealed(destination, FILES)
    assert content_of(path) == FILES


def test_a_folder_in_the_way_is_said(path: Path) -> None:
    path.mkdir()
    with pytest.raises(ConfigurationError, match="in the way"):
        opened(path).prepare()


def test_names_that_an_image_cannot_hold_are_named(path: Path) -> None:
    bad = ["", "/a", "a/../b", ".syncer/x", "a/.wh.b", "x", "x/y", "\udcff", "a" * 300]
    problems = opened(path).name_problems([*bad, "fine/name.bin", "weird\nname"])
    assert len(problems) == len(bad)
    assert opened(path).name_problems(["fine/name.bin", "ü" * 100]) == []


def test_a_file_of_more_than_8_gib_has_a_sound_header(path: Path) -> None:
    from syncer.stores.oci.growing import member_header
    from syncer.stores.oci.members import Window, members

    header = member_header("blobs/sha256/" + "a" * 64, 9 << 30)
    assert len(header) == 512
    window = Window(lambda at, count: header[at : at + count].ljust(count, b"\0"), 10 << 30)
    assert [(it.name[:5], it.size) for it in members(window, most=3)] == [("blobs", 9 << 30)]


def base_archive(path: Path, machines: list[str]) -> None:
    """A base image as an archive, for each of `machines`; for none without an index."""
    depot = DictionaryDepot()
    images = []
    for machine in machines or ["amd64"]:
        layer = tar_of([("bin/sh", machine.encode())])
        config = {"architecture": machine, "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]}}
        described = depot.descriptor(json.dumps(config).encode(), CONFIG)
        image = depot.push([depot.descriptor(layer, TAR)], config=described)
        images.append(image | {"platform": {"os": "linux", "architecture": machine}})
    if machines:
        depot.index(images)
    depot.archive(path)


@pytest.mark.parametrize("machines", [[], ["amd64"], ["arm64", "amd64"]])
def test_a_model_goes_upon_a_base_image(path: Path, machines: list[str]) -> None:
    base = path.with_name("base.tar")
    base_archive(base, machines)
    destination = ArchiveDestination(ArchiveLocation(path, base=ArchiveLocation(base)), Network())
    for name, data in FILES.items():
        store(destination, name, data, part_size=1000)
    manifest = sealed(destination, FILES)
    archive = Archive(path)
    top = archive.manifest("")
    assert top is not None
    _, image = manifest_at(top, archive.manifest, where="x")
    assert drain(archive.read(image.layers[0].digest, 512, 5), 5) == b"amd64"
    assert len(image.layers) == 1 + len(FILES)
    found = read_document(top, where="x")
    platforms = [entry.platform[1] for entry in found.manifests] if isinstance(found, ImageIndex) else []
    assert platforms == machines
    archive.close()
    source = OciSource(ArchiveLocation(path), Network())
    assert source.listing().files.keys() == FILES.keys()
    source.close()
    before = path.stat()
    again = ArchiveDestination(ArchiveLocation(path, base=ArchiveLocation(base)), Network())
    again.commit(manifest)
    assert path.stat().st_ino == before.st_ino
    assert files_in(path).keys() == FILES.keys() | {"bin/sh"}


def test_a_base_image_with_other_bytes_is_refused(path: Path) -> None:
    base = path.with_name("base.tar")
    base_archive(base, [])
    base.write_bytes(base.read_bytes().replace(b"amd64\0", b"AMD64\0"))
    destination = ArchiveDestination(ArchiveLocation(path, base=ArchiveLocation(base)), Network())
    store(destination, "a", b"1", part_size=10)
    with pytest.raises(WrongBytes, match="other bytes"):
        sealed(destination, {"a": b"1"})
    assert not path.exists()


def test_a_manifest_of_another_run_is_another_image(path: Path) -> None:
    destination = written(path, FILES)
    manifest = destination.manifest()
    assert manifest is not None
    before = destination.digest
    destination.commit(replace(manifest, revision="another"))
    assert destination.digest != before
    assert content_of(path) == FILES


def test_the_group_may_go_on_and_everybody_may_read(path: Path) -> None:
    umask = os.umask(0o077)
    try:
        destination = opened(path)
        store(destination, "a", b"1", part_size=10)
        assert stat.S_IMODE(path.with_name(".model.tar.partial").stat().st_mode) == 0o664
        sealed(destination, {"a": b"1"})
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
