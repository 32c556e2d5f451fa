"""Second runs over every kind of destination: what is unchanged stays unread, what is not ours stays untouched.

The same stories on a volume, on stand-ins for a bucket and a registry, and in the ring of real servers on RADOS Gateway
and Docker's registry, over http and https.  What only a volume shows is in `test_again_and_again.py`.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from syncer import job, marker
from syncer.errors import ConfigurationError, UnsafeNames, WrongBytes
from syncer.journal import DONE
from syncer.manifest import Manifest
from syncer.settings.locations import DirectoryLocation, Settings, UploadedByHand
from syncer.stop import StopSwitch
from syncer.stores import open_destination
from syncer.verify import Differences
from tests.contract.benches import BENCHES, Bench, needs
from tests.flow.conftest import Run, in_silence
from tests.support.models import pattern, read_model, sha256, write_model

PLACES = ("directory", "noobaa", "image", "rgw-http", "rgw-https", "registry-http", "registry-https")

Once = Callable[..., job.Result]


@pytest.fixture(params=[pytest.param(name, marks=BENCHES[name].marks) for name in PLACES])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    bench = BENCHES[request.param].make(request)
    yield bench
    bench.close()


@pytest.fixture
def once(run: Run, bench: Bench) -> Once:
    """A run to the place on the bench, unless another one is named."""

    def to_the_bench(**changes: object) -> job.Result:
        return run(**{"destination": bench.place, "network": bench.network} | changes)

    return to_the_bench


def content(bench: Bench) -> dict[str, bytes]:
    return {path: data for path, data in bench.far_end().items() if ".syncer" not in path.split("/")}


def sealed(bench: Bench) -> tuple[marker.Seal, Manifest]:
    """The seal and the manifest, which is its own."""
    with closing(open_destination(bench.place, bench.network)) as destination:
        seal, manifest = marker.read_seal(destination.control), marker.read_manifest(destination.control)
    assert seal is not None
    assert manifest is not None
    assert seal.fingerprint == manifest.fingerprint
    return seal, manifest


def differences(settings: Settings, bench: Bench) -> Differences:
    there = replace(settings, destination=bench.place, network=bench.network)
    [found] = job.verify(there, StopSwitch(), in_silence).values()
    assert isinstance(found, Differences)
    return found


def test_a_first_run_copies_proves_and_seals(once: Once, bench: Bench, source: Path, settings: Settings) -> None:
    result = once()
    files = read_model(source)
    assert content(bench) == files
    assert (result.files, result.copied_files) == (len(files), len(files))
    assert result.copied_bytes == result.bytes == sum(map(len, files.values()))
    seal, manifest = sealed(bench)
    assert {path: it.digests for path, it in manifest.files.items()} == {
        path: {"sha256": sha256(data)} for path, data in files.items()
    }
    assert {it.proved_by for it in manifest.files.values()} == {"stream"}
    assert seal.files == len(files)
    if bench.keeps_control_files:
        control = {path for path in bench.far_end() if path.startswith(".syncer/")}
        assert control == {".syncer/complete.json", ".syncer/manifest.json"}
        assert seal.fingerprint == result.digest
    assert not differences(settings, bench)


def test_a_second_run_copies_nothing_and_leaves_the_seal_alone(once: Once, bench: Bench) -> None:
    first = once()
    before, seal = bench.far_end(), sealed(bench)
    result = once()
    assert (result.copied_bytes, result.copied_files, result.uri) == (0, 0, first.uri)
    assert (bench.far_end(), sealed(bench)) == (before, seal)


def test_the_last_note_of_a_run_that_was_replaced_does_not_stay(once: Once, bench: Bench) -> None:
    """A run that was suspended may have it on its way until its successor has sealed."""
    needs(bench, "keeps_control_files")
    once()
    before = bench.far_end()
    with closing(open_destination(bench.place, bench.network)) as destination:
        destination.control.write(f"{DONE}0-late-000000.json", b"{}")
    once()
    assert bench.far_end() == before
    with closing(open_destination(bench.place, bench.network)) as destination:
        assert not destination.control.names("state/")


def test_a_changed_file_is_copied_alone(once: Once, bench: Bench, source: Path) -> None:
    once()
    (source / "config.json").write_bytes(b'{"model_type": "roberta"}')
    assert once().copied_files == 1
    sealed(bench)
    assert {path: content(bench)[path] for path in read_model(source)} == read_model(source)


def test_force_copies_all(once: Once, bench: Bench, source: Path) -> None:
    once()
    assert once(transfer_force=True).copied_files == len(read_model(source))
    assert content(bench) == read_model(source)


def test_a_file_lost_at_the_destination_comes_back(once: Once, bench: Bench, source: Path) -> None:
    needs(bench, "holds_any_path")
    once()
    bench.remove("config.json")
    assert once().copied_files == 1
    assert content(bench) == read_model(source)


def test_what_the_source_no_longer_has_stays_unless_told(once: Once, bench: Bench, source: Path) -> None:
    needs(bench, "holds_any_path")
    once()
    (source / "tokenizer/vocab.txt").unlink()
    bench.put({"notes.txt": b"not ours"})
    assert once().deleted_files == 0
    assert "tokenizer/vocab.txt" in content(bench)
    assert once(delete="recorded").deleted_files == 1
    assert content(bench) == read_model(source) | {"notes.txt": b"not ours"}


def test_a_mirror_removes_everything_else_but_no_sealed_folder(
    once: Once, bench: Bench, source: Path, tmp_path: Path
) -> None:
    needs(bench, "holds_any_path")
    write_model(tmp_path / "other", {"w.bin": b"another model"})
    nested = bench.below("granite")
    once(source=DirectoryLocation(tmp_path / "other"), destination=nested)
    kept = {"lost+found/a": b"x", ".snapshot/b": b"x"}
    bench.put({"notes.txt": b"x"} | kept)
    once(delete="all")
    assert content(bench) == read_model(source) | kept | {"granite/w.bin": b"another model"}
    assert "granite/.syncer/complete.json" in bench.far_end()
    write_model(source, {"granite/w.bin": b"overwritten?"})
    with pytest.raises(UnsafeNames, match=r"granite/w\.bin"):
        once()
    assert content(bench)["granite/w.bin"] == b"another model"


def test_a_foreign_file_that_differs_is_named_and_only_force_replaces_it(
    once: Once, bench: Bench, source: Path
) -> None:
    needs(bench, "holds_any_path")
    foreign = {"config.json": b"somebody else's", "model.safetensors": pattern(9_000_003, seed=99)}
    bench.put(foreign)
    with pytest.raises(ConfigurationError, match=r"config\.json.*model\.safetensors") as refused:
        once()
    assert "S3_SYNC_TRANSFER_CONFIG__FORCE" in refused.value.hint
    assert content(bench) == foreign
    once(transfer_force=True)
    assert content(bench) == read_model(source)


def test_foreign_files_that_are_the_same_are_compared_and_kept(once: Once, bench: Bench, source: Path) -> None:
    needs(bench, "holds_any_path")
    bench.put(read_model(source))
    assert once().copied_files == 0
    seal, manifest = sealed(bench)
    assert {it.proved_by for it in manifest.files.values()} == {"readback"}
    assert seal.files == len(read_model(source))


def test_verify_names_what_is_wrong_missing_and_extra(once: Once, bench: Bench, settings: Settings) -> None:
    needs(bench, "holds_any_path")
    once()
    data = bytearray(content(bench)["model.safetensors"])
    data[5_000_000] ^= 1
    bench.put({"model.safetensors": bytes(data), "extra.bin": b"?"})
    bench.remove("config.json")
    found = differences(settings, bench)
    assert set(found.wrong) == {"model.safetensors"}
    assert found.missing == ("config.json",)
    assert found.extra == ("extra.bin",)
    assert isinstance(found.to_error(), WrongBytes)


def test_what_was_uploaded_by_hand_is_sealed_and_not_overwritten(once: Once, bench: Bench) -> None:
    needs(bench, "holds_any_path")
    theirs = {"config.json": b"by hand", "notes.txt": b"by hand"}
    bench.put(theirs)
    result = once(source=UploadedByHand())
    assert (result.files, result.copied_bytes) == (2, 0)
    seal, manifest = sealed(bench)
    assert seal.source == "uploaded-by-hand"
    assert {it.proved_by for it in manifest.files.values()} == {"listing"}
    with pytest.raises(ConfigurationError, match=r"config\.json"):
        once(delete="recorded")
    assert content(bench) == theirs


def test_a_sealed_model_is_a_source_and_goes_to_several(
    once: Once, bench: Bench, source: Path, settings: Settings, tmp_path: Path
) -> None:
    """From the volume to the bench and to another volume in one run, and from the bench to a third."""
    second, third = tmp_path / "volume/second", tmp_path / "volume/third"
    result = once(further=(DirectoryLocation(second),))
    assert len(result.uris) == 2
    assert content(bench) == read_model(second) == read_model(source)
    once(source=bench.place, destination=DirectoryLocation(third))
    assert read_model(third) == read_model(source)
