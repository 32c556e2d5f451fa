"""Whole runs into a registry: again, after a kill, upon a base, over somebody else's image."""

import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from syncer import job
from syncer.errors import ConfigurationError, SyncerError, Transient
from syncer.journal import Journal
from syncer.manifest import FileRecord
from syncer.progress import Progress
from syncer.settings.locations import ArchiveLocation, DirectoryLocation, ImageLocation, Network, Settings, Transfer
from syncer.stop import StopSwitch
from syncer.stores import open_source
from syncer.stores.oci import leftovers
from syncer.stores.oci.archive_destination import ArchiveDestination
from syncer.stores.oci.destination import OciDestination
from syncer.stores.oci.images import PATH, SHA256, VERSION
from syncer.stores.oci.leftovers import state_tag
from syncer.stores.oci.names import MOST_LAYERS
from syncer.stores.protocols import Cut
from syncer.verify import Differences
from tests.contract.checks import as_file, some_bytes, store
from tests.support.captured import capture_logs
from tests.support.foreign_images import DictionaryDepot, olot_image, plain_image, tar_of
from tests.support.image_registry import ImageRegistry, digest_of

MODEL = {"config.json": b"{}", "README.md": b"# card", "sub/w.bin": some_bytes(5000), "empty": b""}


@contextmanager
def quietly(_: Progress) -> Iterator[None]:
    yield


@pytest.fixture
def registry() -> Iterator[ImageRegistry]:
    with ImageRegistry() as there:
        yield there


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path, content in MODEL.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    return tmp_path


def run(folder: Path, location: ImageLocation) -> job.Result:
    return job.sync(Settings(DirectoryLocation(folder), location), StopSwitch(), quietly)


def unpacked(registry: ImageRegistry, reference: str = "latest", repository: str = "team/model") -> dict[str, bytes]:
    """What the layers of an image hold below `/models`."""
    found = {}
    for layer in registry.document(reference, repository)["layers"]:
        with tarfile.open(
            fileobj=io.BytesIO(registry.repository(repository).blobs[layer["digest"]]), mode="r:*"
        ) as tar:
            for it in tar:
                content = tar.extractfile(it)
                if content is not None:
                    found[it.name] = content.read()
    return {name.removeprefix("models/"): data for name, data in found.items() if name.startswith("models/")}


def base_image(registry: ImageRegistry, *architectures: str, repository: str = "base/image") -> ImageLocation:
    depot = DictionaryDepot()
    there = registry.repository(repository)
    entries = []
    for architecture in architectures or ("amd64",):
        layer = tar_of([("bin/sh", architecture.encode())])
        config: dict[str, Any] = {"architecture": architecture, "os": "linux", "config": {"Cmd": ["sh"]}}
        config["rootfs"] = {"type": "layers", "diff_ids": [digest_of(layer)]}
        told = {
            "config": depot.descriptor(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
            "layers": [depot.descriptor(layer, "application/vnd.docker.image.rootfs.diff.tar")],
        }
        document = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", **told}
        entry = depot.tag(document, "application/vnd.oci.image.manifest.v1+json")
        entries.append(entry | {"platform": {"os": "linux", "architecture": architecture}})
    if architectures:
        depot.index(entries)
    there.blobs |= depot.blobs
    there.manifests |= {digest: (it.media_type, it.content) for digest, it in depot.documents.items() if digest}
    there.tags["1"] = depot.documents[""].digest
    return registry.location(repository, "1")


def test_every_byte_arrives_and_a_second_run_pushes_nothing(registry: ImageRegistry, folder: Path) -> None:
    first = run(folder, registry.location())
    assert unpacked(registry) == MODEL
    assert first.digest == registry.repository().tags["latest"]
    assert first.uri == f"oci://{registry.authority}/team/model@{first.digest}"
    registry.asked.clear()
    second = run(folder, registry.location())
    assert (second.uri, second.copied_files) == (first.uri, 0)
    assert {asked.method for asked in registry.written()} <= {"POST", "DELETE"}  # that writing is allowed
    assert registry.uploads == {}


def test_the_same_files_elsewhere_have_the_same_layers(registry: ImageRegistry, folder: Path) -> None:
    run(folder, registry.location())
    run(folder, registry.location("other/model"))
    one, two = registry.document(), registry.document(repository="other/model")
    assert one == two


def test_what_the_source_dropped_is_not_in_the_next_image(registry: ImageRegistry, folder: Path) -> None:
    run(folder, registry.location())
    (folder / "README.md").unlink()
    (folder / "config.json").write_bytes(b'{"a": 1}')
    assert run(folder, registry.location()).copied_files == 1
    assert unpacked(registry) == {
        "config.json": b'{"a": 1}',
        "sub/w.bin": MODEL["sub/w.bin"],
        "empty": b"",
    }


@pytest.mark.parametrize("deletes", [True, False], ids=["deleting", "keeping"])
def test_a_killed_run_goes_on_by_file(registry: ImageRegistry, folder: Path, deletes: bool) -> None:
    registry.deletes = deletes
    with closing(OciDestination(registry.location(), Network())) as killed:
        journal = Journal(killed.control, source=str(folder))
        journal.open_run(MODEL)
        found = (folder / "sub/w.bin").stat()
        version = store(killed, "sub/w.bin", MODEL["sub/w.bin"], part_size=1000)
        digest = {"sha256": digest_of(MODEL["sub/w.bin"]).removeprefix("sha256:")}
        record = FileRecord("sub/w.bin", found.st_size, digest, "stream", _version(folder, "sub/w.bin"), version)  # type: ignore[arg-type]
        journal.finished(record, at_once=True)
    assert state_tag("latest") in registry.repository().tags
    assert version in registry.named()
    registry.asked.clear()
    assert run(folder, registry.location()).copied_files == len(MODEL) - 1
    assert unpacked(registry) == MODEL
    tags = registry.repository().tags
    assert tags == {"latest": tags["latest"]} | ({} if deletes else {state_tag("latest"): tags["latest"]})
    run(folder, registry.location())  # an alias of the image is never removed by its digest
    assert unpacked(registry) == MODEL


def _version(folder: Path, path: str) -> str:
    return open_source(DirectoryLocation(folder), Network()).listing().files[path].version


def test_a_fault_while_the_state_is_removed_does_not_keep_its_tag_for_ever(
    registry: ImageRegistry, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bytes:
        raise Transient("connection reset")

    with monkeypatch.context() as patch:
        patch.setattr(leftovers, "small_blob", broken)
        with pytest.raises(Transient):
            run(folder, registry.location())
    run(folder, registry.location())
    assert list(registry.repository().tags) == ["latest"]
    assert unpacked(registry) == MODEL


@pytest.mark.parametrize("what", ["another image", "no image", "no config"])
def test_a_state_that_makes_no_sense_is_passed_over(registry: ImageRegistry, folder: Path, what: str) -> None:
    base_image(registry, repository="team/model")
    there = registry.repository()
    digest = there.tags[state_tag("latest")] = there.tags.pop("1")
    if what == "no image":
        there.manifests[digest_of(b"[]")] = ("application/vnd.oci.image.manifest.v1+json", b"[]")
        there.tags[state_tag("latest")] = digest_of(b"[]")
    if what == "no config":
        del there.blobs[json.loads(there.manifests[digest][1])["config"]["digest"]]
    run(folder, registry.location())
    assert unpacked(registry) == MODEL


def test_somebody_elses_image_keeps_its_tag_unless_forced(registry: ImageRegistry, folder: Path) -> None:
    depot = DictionaryDepot()
    plain_image(depot, [tar_of([("models/theirs.bin", b"theirs")])])
    there = registry.repository()
    there.blobs |= depot.blobs
    found = depot.documents[""]
    there.manifests[found.digest] = (found.media_type, found.content)
    there.tags["latest"] = found.digest
    settings = Settings(DirectoryLocation(folder), registry.location())
    (foreseen,) = job.plan(settings, StopSwitch()).values()
    assert foreseen.foreign == (found.digest,)
    with pytest.raises(ConfigurationError, match=f"latest is an image that is not ours: {found.digest}") as refused:
        job.sync(settings, StopSwitch(), quietly)
    assert "FORCE=true" in refused.value.hint
    assert (sent(registry), there.tags) == (0, {"latest": found.digest})
    job.sync(replace(settings, transfer=Transfer(force=True)), StopSwitch(), quietly)
    assert unpacked(registry) == MODEL


@pytest.mark.parametrize(("count", "warned"), [(MOST_LAYERS, False), (MOST_LAYERS + 1, True)])
def test_more_layers_than_some_runtimes_mount_are_told_of_first(
    registry: ImageRegistry, count: int, warned: bool, tmp_path: Path
) -> None:
    names = [f"{number}.json" for number in range(count)]
    archive = ArchiveDestination(ArchiveLocation(tmp_path / "model.tar"), Network())
    with closing(OciDestination(registry.location(), Network())) as image, closing(archive), capture_logs() as told:
        assert (image.name_problems(names), archive.name_problems(names)) == ([], [])
    assert [entry["layers"] for entry in told if entry["event"] == "layers_counted"] == [count] * (2 * warned)


def test_a_base_of_the_same_registry_is_linked(registry: ImageRegistry, folder: Path) -> None:
    base = base_image(registry)
    run(folder, registry.location(base=base))
    document = registry.document()
    assert len(document["layers"]) == 1 + len(MODEL)
    assert document["layers"][0]["mediaType"] == "application/vnd.oci.image.layer.v1.tar"
    config = json.loads(registry.repository().blobs[document["config"]["digest"]])
    assert config["config"] == {"Cmd": ["sh"]}
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in document["layers"]]
    assert any("mount=" in asked.path for asked in registry.asked)
    patched = [asked for asked in registry.asked if asked.method == "PATCH"]
    assert len(patched) == len(MODEL)


def test_a_base_of_several_platforms_makes_an_index(registry: ImageRegistry, folder: Path) -> None:
    with ImageRegistry() as elsewhere:
        base = base_image(elsewhere, "amd64", "arm64")
        result = run(folder, registry.location(base=base))
        index = registry.document()
        assert [it["platform"]["architecture"] for it in index["manifests"]] == ["amd64", "arm64"]
        for entry in index["manifests"]:
            assert unpacked(registry, entry["digest"]) == MODEL
        again = run(folder, registry.location(base=base))
    assert (again.digest, again.copied_files) == (result.digest, 0)


@pytest.mark.parametrize("auth", ["", "bearer"])
def test_a_second_image_of_the_same_registry_is_linked(auth: Any, folder: Path) -> None:
    with ImageRegistry(auth=auth) as registry:
        settings = Settings(DirectoryLocation(folder), registry.location(), (registry.location("other/model"),))
        result = job.sync(settings, StopSwitch(), quietly)
        assert registry.document() == registry.document(repository="other/model")
        assert len(set(result.digest.split(","))) == 1
        patched = [asked.path for asked in registry.asked if asked.method == "PATCH"]
        assert len(patched) == len(MODEL)
        assert not any("other/model" in path for path in patched)


def model_of(location: ImageLocation, to: ImageLocation, *more: ImageLocation | DirectoryLocation) -> job.Result:
    return job.sync(Settings(location, to, more), StopSwitch(), quietly)


def sent(registry: ImageRegistry) -> int:
    return sum(asked.received for asked in registry.asked if asked.method == "PATCH")


@pytest.mark.parametrize("auth", ["", "bearer"])
@pytest.mark.parametrize(("repository", "tag"), [("other/model", "latest"), ("team/model", "2")])
def test_an_image_of_the_same_registry_is_linked(auth: Any, repository: str, tag: str, folder: Path) -> None:
    with ImageRegistry(auth=auth) as registry:
        run(folder, registry.location())
        registry.asked.clear()
        result = model_of(registry.location(), registry.location(repository, tag))
        assert result.copied_files == len(MODEL)
        assert sent(registry) == 0
        former, copy = registry.document(), registry.document(tag, repository)
        assert copy["layers"] == [
            layer | {"annotations": layer["annotations"] | {VERSION: f"sha256:{layer['annotations'][SHA256]}"}}
            for layer in former["layers"]
        ]
        assert registry.uploads == {}


def test_a_bucket_before_it_does_not_hide_where_the_layers_are(
    registry: ImageRegistry, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run(folder, registry.location())
    registry.asked.clear()
    model_of(registry.location(), DirectoryLocation(tmp_path_factory.mktemp("volume")), registry.location("other/it"))  # type: ignore[arg-type]
    assert sent(registry) == 0


@pytest.mark.parametrize("why", ["no right to pull there", "no linking", "not ours", "another registry"])
def test_what_cannot_be_linked_is_sent(why: str, folder: Path) -> None:
    with ImageRegistry(auth="bearer") as registry, ImageRegistry() as elsewhere:
        source = registry
        if why == "another registry":
            source = elsewhere
        if why == "not ours":
            depot = DictionaryDepot()
            olot_image(depot, {path: data for path, data in MODEL.items() if data})
            there = registry.repository()
            there.blobs |= depot.blobs
            there.manifests |= {digest: (it.media_type, it.content) for digest, it in depot.documents.items() if digest}
            there.tags["latest"] = depot.documents[""].digest
        else:
            run(folder, source.location())
        registry.links = why != "no linking"
        registry.private = {"team/model"} if why == "no right to pull there" else set()
        registry.asked.clear()
        model_of(source.location(), registry.location("other/model"))
        assert sent(registry) > len(MODEL["sub/w.bin"])
        assert unpacked(registry, repository="other/model") | {"empty": b""} == MODEL
        assert registry.uploads == {}


@pytest.mark.parametrize("where", [0, 1024, -1], ids=["folder", "file's header", "end"])
def test_a_layer_with_something_else_around_the_file_is_not_linked(
    registry: ImageRegistry, folder: Path, where: int
) -> None:
    """Its digest and annotations are as they should be; only the bytes tell."""
    run(folder, registry.location())
    depot = registry.repository()
    document = registry.document()
    layer = next(it for it in document["layers"] if it["annotations"][PATH] == "sub/w.bin")
    blob = bytearray(depot.blobs[layer["digest"]])
    blob[where] ^= 1
    layer["digest"] = digest_of(blob)
    depot.blobs[layer["digest"]] = bytes(blob)
    content = json.dumps(document).encode()
    depot.manifests[digest_of(content)] = ("application/vnd.oci.image.manifest.v1+json", content)
    depot.tags["latest"] = digest_of(content)
    model_of(registry.location(), registry.location("other/model"))
    assert layer["digest"] not in registry.named("other/model")
    assert unpacked(registry, repository="other/model") == MODEL


def test_a_base_that_is_not_there_says_which_variable_names_it(registry: ImageRegistry, folder: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        run(folder, registry.location(base=registry.location("no/base")))
    assert "OCI_BASE_IMAGE" in caught.value.hint
    assert "latest" not in registry.repository().tags


def test_verify_reads_the_layers(registry: ImageRegistry, folder: Path) -> None:
    run(folder, registry.location())
    settings = Settings(DirectoryLocation(folder), registry.location())
    assert not any(job.verify(settings, StopSwitch(), quietly).values())
    blobs = registry.repository().blobs
    damaged = next(digest for digest, data in blobs.items() if MODEL["sub/w.bin"] in data)
    blobs[damaged] = blobs[damaged].replace(MODEL["sub/w.bin"][:10], b"0123456789")
    found = job.verify(settings, StopSwitch(), quietly).values()
    assert [list(it.wrong) for it in found if isinstance(it, Differences)] == [["sub/w.bin"]]


def test_a_whiteout_is_no_name_for_a_file(registry: ImageRegistry) -> None:
    with closing(OciDestination(registry.location(), Network())) as destination:
        problems = destination.name_problems(["fine", "a/.wh.b", "a//b", "\udcff", "fine/below"])
    assert len(problems) >= 4


def test_interrupt_ends_a_push(registry: ImageRegistry) -> None:
    with closing(OciDestination(registry.location(), Network())) as destination:
        destination.interrupt()
        registry.answers["POST", "/v2/team/model/blobs/uploads"] = [(503, {}, {})] * 9
        with pytest.raises(SyncerError) as caught:
            destination.begin(as_file("a", b"1"), Cut(1, 1))
    assert isinstance(caught.value, Transient)
