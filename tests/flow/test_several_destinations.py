"""One run with several destinations: the source is read once, and none that fails takes the others along."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from syncer import job, stores
from syncer.again import Again
from syncer.errors import (
    ConfigurationError,
    CredentialsRefused,
    Interrupted,
    NotThereYet,
    OutOfSpace,
    SourceMissing,
    SyncerError,
    WrongBytes,
)
from syncer.manifest import BY_HAND, ModelFile
from syncer.registration import Registration
from syncer.settings.locations import (
    DirectoryLocation,
    Network,
    RegistryLocation,
    S3Location,
    Settings,
    SourceLocation,
    UploadedByHand,
)
from syncer.stop import StopSwitch
from syncer.stores.directory import DirectoryDestination, DirectorySource
from syncer.stores.protocols import Body, Cut, Source, Upload
from syncer.verify import Differences
from tests.flow.conftest import Run, in_silence
from tests.support.buckets import S3Server
from tests.support.models import pattern, read_model, write_model
from tests.support.whole import WholeBody

WEIGHTS = 300_007
"""Bytes of several parts, with the part size of `spread`."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    files = {
        "config.json": b'{"model_type": "bert"}',
        "model.safetensors": pattern(WEIGHTS),
        "tokenizer/vocab.txt": pattern(5_000, 1),
        "empty.txt": b"",
    }
    return write_model(tmp_path / "source", files)


@dataclass
class Watch:
    """What was read and listed at the source, and what goes wrong at a destination, by the name of its folder."""

    read: Counter[str] = field(default_factory=Counter)
    listed: int = 0
    begin: dict[str, Callable[[], None]] = field(default_factory=dict)
    read_back: dict[str, Callable[[], None]] = field(default_factory=dict)
    bodies: dict[str, Callable[[Body], Body]] = field(default_factory=dict)


class Flipped(WholeBody):
    """Every byte is another one."""

    def readinto(self, buffer: memoryview) -> int:
        count = super().readinto(buffer)
        buffer[:count] = bytes(255 - byte for byte in buffer[:count])
        return count


def _untouched(body: Body) -> Body:
    return body


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    seen = Watch()
    read, listing = DirectorySource.read, DirectorySource.listing
    begin, read_back = DirectoryDestination.begin, DirectoryDestination.read

    def counted(self: DirectorySource, file: ModelFile, start: int, length: int) -> Body:
        seen.read[file.path] += length
        return read(self, file, start, length)

    def listed(self: DirectorySource) -> object:
        seen.listed += 1
        return listing(self)

    def begun(self: DirectoryDestination, file: ModelFile, cut: Cut, *, resume: str = "") -> Upload:
        seen.begin.get(Path(self.name.rstrip("/")).name, lambda: None)()
        return begin(self, file, cut, resume=resume)

    def opened(self: DirectoryDestination, file: ModelFile, start: int, length: int) -> Body:
        name = Path(self.name.rstrip("/")).name
        seen.read_back.get(name, lambda: None)()
        return seen.bodies.get(name, _untouched)(read_back(self, file, start, length))

    monkeypatch.setattr(DirectorySource, "read", counted)
    monkeypatch.setattr(DirectorySource, "listing", listed)
    monkeypatch.setattr(DirectoryDestination, "begin", begun)
    monkeypatch.setattr(DirectoryDestination, "read", opened)
    return seen


@pytest.fixture
def volumes(target: Path, settings: Settings) -> tuple[Path, ...]:
    assert settings.destination is not None
    return target, target.with_name("second"), target.with_name("third")


@pytest.fixture
def spread(run: Run, volumes: tuple[Path, ...]) -> Run:
    """A run to all three volumes."""
    further = tuple(map(DirectoryLocation, volumes[1:]))
    return lambda stop=None, **changes: run(stop, further=further, transfer_chunk_size=1 << 16, **changes)


def refusing(error: SyncerError) -> Callable[[], None]:
    def refuse() -> None:
        raise error

    return refuse


def seal_of(folder: Path) -> dict[str, object] | None:
    path = folder / ".syncer/complete.json"
    return dict(json.loads(path.read_bytes())) if path.exists() else None


def content(path: Path) -> dict[str, object]:
    """A manifest without what is each destination's own."""
    document = json.loads((path / ".syncer/manifest.json").read_bytes())
    return {entry["path"]: (entry["source_version"], entry["digests"]) for entry in document["files"]} | {
        "source": document["source"],
        "fingerprint": document["fingerprint"],
    }


def sizes(folder: Path) -> dict[str, int]:
    """What reading everything once comes to."""
    return {path: len(data) for path, data in read_model(folder).items() if data}


def test_all_have_the_bytes_and_the_source_is_read_and_listed_once(
    spread: Run, source: Path, volumes: tuple[Path, ...], watch: Watch
) -> None:
    result = spread()
    files = read_model(source)
    assert [read_model(folder) for folder in volumes] == [files] * 3
    assert watch.listed == 1
    assert watch.read == sizes(source)
    assert [content(folder) for folder in volumes] == [content(volumes[0])] * 3
    seals = [seal_of(folder) for folder in volumes]
    assert [seal and seal["manifest"] for seal in seals] == result.digest.split(",")
    assert result.uris == tuple(f"{folder.as_uri()}/" for folder in volumes)
    assert result.uri == result.uris[0]
    assert (result.files, result.copied_files) == (len(files), 3 * len(files))
    assert not list(volumes[0].parent.rglob("lease.json"))


def test_a_second_run_copies_nothing_and_a_changed_file_goes_to_all(
    spread: Run, source: Path, volumes: tuple[Path, ...], watch: Watch
) -> None:
    spread()
    before = {path: path.stat().st_mtime_ns for path in volumes[0].parent.rglob("*") if path.is_file()}
    watch.read.clear()
    assert spread().copied_files == 0
    assert not watch.read
    assert {path: path.stat().st_mtime_ns for path in volumes[0].parent.rglob("*") if path.is_file()} == before
    (source / "config.json").write_bytes(b'{"model_type": "roberta"}')
    assert spread().copied_files == 3
    assert watch.read == {"config.json": 25}
    assert [read_model(folder) for folder in volumes] == [read_model(source)] * 3


def test_one_that_fails_leaves_the_others_finished_and_the_next_run_does_the_rest(
    spread: Run, source: Path, volumes: tuple[Path, ...], watch: Watch
) -> None:
    watch.begin["second"] = refusing(OutOfSpace("the volume is full", hint="make room"))
    with pytest.raises(OutOfSpace) as caught:
        spread()
    assert caught.value.exit_code == 73
    assert caught.value.message.startswith("1 of 3 destinations failed: ")
    assert "second" in caught.value.message
    assert "the volume is full; finished: " in caught.value.message
    assert caught.value.hint == "make room"
    first, second, third = volumes
    assert read_model(first) == read_model(third) == read_model(source)
    assert seal_of(first)
    assert seal_of(third)
    assert not seal_of(second)
    watch.begin.clear()
    watch.read.clear()
    result = spread()
    assert result.copied_files == len(read_model(source))
    assert not watch.read, "the first one has it all"
    assert read_model(second) == read_model(source)
    assert seal_of(second)


def test_when_the_first_fails_the_others_read_the_source(
    spread: Run, source: Path, volumes: tuple[Path, ...], watch: Watch
) -> None:
    watch.begin["models"] = refusing(CredentialsRefused("not yours"))
    with pytest.raises(CredentialsRefused, match="1 of 3 destinations failed"):
        spread()
    assert [read_model(folder) for folder in volumes[1:]] == [read_model(source)] * 2
    assert watch.read == sizes(source)


@pytest.mark.parametrize("order", [("models", "third"), ("third", "models")])
def test_the_most_permanent_failure_counts(spread: Run, watch: Watch, order: tuple[str, str]) -> None:
    transient, permanent = order
    watch.begin[transient] = refusing(SyncerError("a bug there"))
    watch.begin[permanent] = refusing(OutOfSpace("full there"))
    with pytest.raises(OutOfSpace) as caught:
        spread()
    assert "2 of 3 destinations failed: " in caught.value.message
    assert "a bug there" in caught.value.message
    assert "full there" in caught.value.message
    assert "; finished: " in caught.value.message


def test_what_is_refused_before_its_first_byte_fails_alone(
    spread: Run, source: Path, volumes: tuple[Path, ...], watch: Watch
) -> None:
    volumes[1].mkdir()
    (volumes[1] / "config.json").write_bytes(b"somebody else's")
    with pytest.raises(ConfigurationError, match=r"^1 of 3 destinations failed: .*not ours"):
        spread()
    assert (volumes[1] / "config.json").read_bytes() == b"somebody else's"
    assert read_model(volumes[2]) == read_model(source)
    assert watch.read == sizes(source)
    assert watch.listed == 1


def test_an_interrupt_ends_all_and_the_next_run_resumes(
    spread: Run, source: Path, volumes: tuple[Path, ...], watch: Watch
) -> None:
    stop = StopSwitch()
    watch.begin["second"] = lambda: stop.throw(Interrupted())
    with pytest.raises(Interrupted):
        spread(stop)
    assert seal_of(volumes[0])
    assert not seal_of(volumes[1])
    assert not volumes[2].exists() or not read_model(volumes[2])
    watch.begin.clear()
    spread()
    assert [read_model(folder) for folder in volumes] == [read_model(source)] * 3


def test_a_lease_that_is_lost_is_lost_for_one_destination(
    spread: Run, source: Path, volumes: tuple[Path, ...], watch: Watch
) -> None:
    def lose() -> None:
        (volumes[1] / ".syncer/lease.json").write_text('{"holder": "somebody else"}')

    watch.begin["second"] = lose
    with pytest.raises(NotThereYet, match=r"^1 of 3 destinations failed: .*has taken this destination over"):
        spread()
    assert not seal_of(volumes[1])
    assert read_model(volumes[2]) == read_model(source)
    assert seal_of(volumes[2])


def test_a_finished_destination_keeps_nobody_waiting(
    spread: Run, source: Path, volumes: tuple[Path, ...], watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs with the same destinations in another order would wait for each other's leases."""
    held: list[list[str]] = []

    def look() -> None:
        held.append([folder.name for folder in volumes if (folder / ".syncer/lease.json").exists()])

    watch.begin |= {"second": look, "third": look}
    spread()
    assert {tuple(names) for names in held} == {("second",), ("third",)}

    held.clear()
    (source / "config.json").write_bytes(b"{}")
    for name in ("check", "begin", "complete", "abandon"):
        monkeypatch.setattr(Registration, name, lambda *_, **__: {})
    spread(registry=RegistryLocation("http://127.0.0.1:1", "m", "1"))
    assert held[-1] == [folder.name for folder in volumes], "what is registered must be what this run has left"
    assert not list(volumes[0].parent.rglob("lease.json"))


def test_a_registry_that_refuses_ends_all(
    spread: Run, volumes: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Registration, "check", lambda _: None)
    monkeypatch.setattr(Registration, "begin", lambda _: refusing(CredentialsRefused("not registered"))())
    with pytest.raises(CredentialsRefused, match=r"^not registered$"):
        spread(registry=RegistryLocation("http://127.0.0.1:1", "m", "1"))
    assert not any(map(seal_of, volumes))
    assert not volumes[1].exists()


def test_every_login_goes_on_from_the_one_before(spread: Run, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A passcode is spent by the first source; a login that was renewed since is worth more than the first one."""
    formers = []
    opened = stores.open_source

    def noted(location: SourceLocation, network: Network, *, former: Source | None = None, **more: Any) -> Source:
        formers.append(former)
        return opened(location, network, former=former, **more)

    monkeypatch.setattr(stores, "open_source", noted)
    watch.begin |= {name: refusing(OutOfSpace("full")) for name in ("models", "second", "third")}
    with pytest.raises(OutOfSpace, match=r"^3 of 3 destinations failed"):
        spread()
    assert formers[0] is None
    assert len({id(former) for former in formers}) == len(formers) == 3


def test_a_source_that_is_gone_ends_all(spread: Run, source: Path, volumes: tuple[Path, ...], watch: Watch) -> None:
    watch.begin["models"] = refusing(SourceMissing("no such file any more"))
    with pytest.raises(SourceMissing):
        spread()
    assert not volumes[1].exists()


def test_a_destination_that_may_not_be_read_is_passed_over(
    spread: Run, source: Path, volumes: tuple[Path, ...], watch: Watch
) -> None:
    watch.read_back["models"] = refusing(CredentialsRefused("write only"))
    spread()
    assert [read_model(folder) for folder in volumes] == [read_model(source)] * 3
    assert watch.read == {path: 3 * size for path, size in sizes(source).items()}


def test_what_somebody_changed_at_the_finished_one_is_read_from_the_source(
    spread: Run, source: Path, volumes: tuple[Path, ...], watch: Watch
) -> None:
    weights = "model.safetensors"

    def damage() -> None:
        (volumes[0] / weights).write_bytes(pattern(WEIGHTS, 77))

    watch.begin["second"] = damage
    spread()
    assert read_model(volumes[1]) == read_model(volumes[2]) == read_model(source)
    assert watch.read == sizes(source) | {weights: 3 * WEIGHTS}


@pytest.mark.parametrize("interrupts", [True, False])
def test_bytes_that_went_wrong_at_the_finished_one_never_arrive(
    spread: Run,
    source: Path,
    volumes: tuple[Path, ...],
    watch: Watch,
    monkeypatch: pytest.MonkeyPatch,
    interrupts: bool,
) -> None:
    if not interrupts:  # which the engine does only while other lanes are at work
        monkeypatch.setattr(Again, "interrupt", lambda _: None)
    watch.bodies["models"] = Flipped
    with pytest.raises(WrongBytes, match=r"^1 of 3 destinations failed: .*finished: ") as caught:
        spread()
    assert "syncer verify" in caught.value.hint
    assert read_model(volumes[0]) == read_model(source)
    assert not seal_of(volumes[1])
    assert not read_model(volumes[1]).keys() - {"empty.txt"}
    assert read_model(volumes[2]) == read_model(source), "it read the source"


def test_a_model_uploaded_by_hand_goes_to_the_others_from_the_first(
    spread: Run, source: Path, volumes: tuple[Path, ...], watch: Watch
) -> None:
    write_model(volumes[0], read_model(source))
    result = spread(source=UploadedByHand())
    assert [read_model(folder) for folder in volumes] == [read_model(source)] * 3
    assert all(map(seal_of, volumes))
    assert (result.source, result.copied_files) == (BY_HAND, 2 * len(read_model(source)))
    assert spread(source=UploadedByHand()).copied_files == 0
    assert not watch.read


def test_the_others_are_looked_at_whatever_is_wrong_with_one(
    spread: Run, settings: Settings, volumes: tuple[Path, ...]
) -> None:
    spread()
    all_three = replace(settings, further=tuple(map(DirectoryLocation, volumes[1:])))
    assert [bool(each) for each in job.verify(all_three, StopSwitch(), in_silence).values()] == [False] * 3
    assert [plan.copy for plan in job.plan(all_three, StopSwitch()).values()] == [()] * 3
    (volumes[0] / ".syncer/manifest.json").unlink()
    (volumes[2] / "config.json").write_bytes(b"{}")
    first, second, third = job.verify(all_three, StopSwitch(), in_silence).values()
    assert isinstance(first, SourceMissing)
    assert isinstance(third, Differences)
    assert not second
    assert list(third.wrong) == ["config.json"]
    assert [len(plan.copy) for plan in job.plan(all_three, StopSwitch()).values()] == [0, 0, 0]


def test_a_source_that_was_interrupted_is_opened_anew(
    s3: S3Server, spread: Run, source: Path, volumes: tuple[Path, ...], watch: Watch
) -> None:
    """An engine that fails wakes whoever reads, and a connection that was woken has no patience left."""
    bucket = s3.new_bucket("several")
    s3.fill(bucket, read_model(source), "from/")
    keys = SecretStr(s3.access_key), SecretStr(s3.secret_key)
    watch.begin["models"] = refusing(OutOfSpace("full"))
    with pytest.raises(OutOfSpace, match=r"^1 of 3 destinations failed"):
        spread(source=S3Location(bucket, "from/", s3.endpoint, s3.region, *keys))
    assert [read_model(folder) for folder in volumes[1:]] == [read_model(source)] * 2


def test_a_bucket_and_a_volume(s3: S3Server, source: Path, settings: Settings, target: Path) -> None:
    name = s3.new_bucket("several")
    bucket = S3Location(name, "models/", s3.endpoint, s3.region, SecretStr(s3.access_key), SecretStr(s3.secret_key))
    both = replace(settings, destination=bucket, further=(DirectoryLocation(target),))
    result = job.sync(both, StopSwitch(), in_silence)
    assert read_model(target) == s3.read(name, "models/") == read_model(source)
    assert result.uris == (bucket.uri, f"{target.as_uri()}/")
    assert job.sync(both, StopSwitch(), in_silence).copied_files == 0
