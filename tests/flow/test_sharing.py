"""Several pods share one run: threads of this process here, each with a whole run of its own; processes are killed
in `test_sharing_killed.py`.  Nobody has anything in common with the others but the destination."""

import json
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from syncer import lease, partaking
from syncer.digests import PartHash
from syncer.errors import ConfigurationError, Interrupted, NotThereYet, SyncerError, Transient
from syncer.progress import Progress
from syncer.settings.locations import DirectoryLocation, Settings, Share, UploadedByHand
from syncer.sharing import board, carrying, following, leading
from syncer.stop import StopSwitch
from syncer.stores.directory import DirectoryDestination
from syncer.stores.protocols import ControlFolder, Destination
from tests.flow.pods import Cluster, shared_plan, until
from tests.support.buckets import S3Server
from tests.support.models import pattern, read_model, write_model

MiB = 1 << 20
MODEL = {
    "model-1.safetensors": pattern(300_000, 1),
    "model-2.safetensors": pattern(300_000, 2),
    "model-3.safetensors": pattern(300_000, 3),
    "config.json": b'{"model_type": "bert"}',
    "tokenizer/vocab.txt": pattern(5_000, 4),
    "empty.txt": b"",
}
CUT_MODEL = {
    "large.safetensors": pattern(10 * MiB + 7, 5),
    "model.safetensors": pattern(300_000, 1),
    "config.json": b"{}",
}


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "POLL_SECONDS", 0.02)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_model(tmp_path / "source", MODEL)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    (tmp_path / "volume").mkdir()
    return tmp_path / "volume/models"


@pytest.fixture
def cluster(source: Path, volume: Path) -> Cluster:
    return Cluster(Settings(source=DirectoryLocation(source), destination=DirectoryLocation(volume)))


@pytest.fixture
def bucket_cluster(tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Two pods, of which one would have to carry nearly all, but for the file that is cut in two."""
    monkeypatch.setattr(leading, "READ_BACK", 0.0)
    source = write_model(tmp_path / "source", CUT_MODEL)
    place = s3.location(s3.new_bucket("demo"), "m/")
    settings = Settings(source=DirectoryLocation(source), destination=place)
    return Cluster(replace(settings, transfer=replace(settings.transfer, chunk_size=5 * MiB)), count=2)


def manifest_of(volume: Path) -> dict[str, dict[str, object]]:
    document = json.loads((volume / ".syncer/manifest.json").read_bytes())
    return {entry["path"]: entry for entry in document["files"]}


def control_of(volume: Path) -> list[str]:
    return sorted(str(path.relative_to(volume)) for path in (volume / ".syncer").rglob("*") if path.is_file())


SEALED = [".syncer/complete.json", ".syncer/manifest.json"]


def test_pods_share_a_volume_and_index_0_seals_it(cluster: Cluster, volume: Path) -> None:
    first, *others = cluster.run()
    assert read_model(volume) == MODEL
    assert control_of(volume) == SEALED
    assert {entry["proved_by"] for entry in manifest_of(volume).values()} == {"stream"}
    assert (first.files, first.bytes) == (len(MODEL), sum(map(len, MODEL.values())))
    assert [result.reason for result in others] == ["Shared", "Shared"]
    assert [result.bytes // 100_000 for result in others] == [3, 3]
    assert [result.uris for result in others] == [(), ()]


def test_a_second_run_of_all_pods_has_nothing_to_do(cluster: Cluster, volume: Path) -> None:
    cluster.run()
    before = {path: path.stat().st_mtime_ns for path in volume.rglob("*") if path.is_file()}
    first, *others = cluster.run()
    assert first.copied_bytes == 0
    assert all("nothing left" in result.skipped for result in others)
    assert {path: path.stat().st_mtime_ns for path in volume.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("lost", [False, True])
def test_with_a_checksum_that_combines_only_what_was_sent_twice_is_read_back(
    bucket_cluster: Cluster, s3: S3Server, lost: bool
) -> None:
    transfer = replace(bucket_cluster.settings.transfer, digest="crc64nvme")
    if lost:  # nobody knows what it has seen of the large file
        with pytest.raises(Interrupted):
            bucket_cluster.start(0, show=then_dying, transfer=transfer).end()
    bucket_cluster.run(transfer=transfer)
    bucket = bucket_cluster.settings.destination.bucket  # type: ignore[union-attr]
    assert s3.read(bucket, "m/") == CUT_MODEL
    files = json.loads(s3.control(bucket, "m/")[".syncer/manifest.json"])["files"]
    [large] = [entry for entry in files if entry["path"] == "large.safetensors"]
    assert large["proved_by"] == ("readback" if lost else "stream")
    whole = PartHash()
    whole.update(memoryview(CUT_MODEL["large.safetensors"]))
    assert large["digests"]["crc64nvme"] == whole.hexdigest()


@contextmanager
def then_dying(_progress: Progress) -> Iterator[None]:
    """The bytes of a share arrive, and nothing after them."""
    yield
    raise Interrupted


def dying(_progress: Progress) -> AbstractContextManager[object]:
    raise Interrupted


def test_a_run_with_another_number_of_pods_goes_on_with_what_is_there(bucket_cluster: Cluster, s3: S3Server) -> None:
    bucket = bucket_cluster.settings.destination.bucket  # type: ignore[union-attr]
    leader = bucket_cluster.start(0)
    bucket_cluster.start(1).end()
    leader.stop.throw(Interrupted())
    with pytest.raises(SyncerError):
        leader.end()
    before = {name for name in s3.keys(bucket, "m/") if ".syncer" not in name}
    there = {key: s3.client.head_object(Bucket=bucket, Key=key)["LastModified"] for key in before}
    assert before
    results = Cluster(bucket_cluster.settings, 1).run()
    assert s3.read(bucket, "m/") == CUT_MODEL
    assert sorted(s3.control(bucket, "m/")) == SEALED
    assert {key: s3.client.head_object(Bucket=bucket, Key=key)["LastModified"] for key in before} == there
    assert results[0].files == len(CUT_MODEL)
    assert results[0].copied_files < len(CUT_MODEL)


def test_index_0_carries_the_shares_that_no_pod_comes_for(cluster: Cluster, volume: Path) -> None:
    assert cluster.start(0, wait_for_destination=0.0).end().files == len(MODEL)
    assert read_model(volume) == MODEL
    assert control_of(volume) == SEALED
    assert "nothing left" in cluster.start(1).end().skipped


def test_an_outage_of_the_source_does_not_keep_a_pod_from_seeing_that_all_is_sealed(
    cluster: Cluster, volume: Path
) -> None:
    cluster.run()
    answers: Iterator[Transient | None] = iter([Transient("the source does not answer"), None])

    def nothing_left() -> bool:
        if (error := next(answers)) is not None:
            raise error
        return True

    destination = DirectoryDestination(DirectoryLocation(volume))
    settings = replace(cluster.settings, wait_for_destination=1.0)
    assert following.Waiting(settings, Share(1, 3), StopSwitch(), destination, nothing_left).plan() is None


def test_a_pod_that_nobody_shares_with_says_so(cluster: Cluster, volume: Path) -> None:
    with pytest.raises(NotThereYet, match="nobody shares work"):
        cluster.start(1, wait_for_destination=0.0).end()
    assert not volume.exists()


def test_a_plan_of_a_run_that_is_gone_is_nobodys(cluster: Cluster, volume: Path) -> None:
    with pytest.raises(Interrupted):
        cluster.start(0, show=dying).end()
    plan, control = shared_plan(volume), DirectoryDestination(DirectoryLocation(volume)).control
    for holder in (board.read_notice(control) or board.Notice()).holder, "":
        board.lead(control, plan, holder=holder)
        with pytest.raises(NotThereYet, match="nobody shares work"):
            cluster.start(1, wait_for_destination=0.0).end()
    assert read_model(volume) == {}


def test_pods_of_another_number_are_told(cluster: Cluster) -> None:
    leader = cluster.start(0)
    cluster.start(1).end()
    with pytest.raises(NotThereYet, match="shares among 3 pods, and S3_SYNC_SHARES is 4"):
        Cluster(cluster.settings, 4).start(3, wait_for_destination=0.0).end()
    cluster.start(2).end()
    leader.end()


def test_a_model_that_was_uploaded_by_hand_is_the_business_of_index_0(cluster: Cluster, volume: Path) -> None:
    write_model(volume, MODEL)
    first, *others = cluster.run(source=UploadedByHand())
    assert first.files == len(MODEL)
    assert all("index 0" in result.skipped for result in others)


def test_a_foreign_file_in_a_share_stays_and_its_pod_says_so(cluster: Cluster, volume: Path) -> None:
    cluster.count = 2
    leader = cluster.start(0)
    theirs = dict.fromkeys(shared_plan(volume).portions[1].whole, b"somebody else's")
    write_model(volume, theirs)
    for _ in "once", "and a replacement of the pod":
        with pytest.raises(ConfigurationError, match="not ours have appeared") as refused:
            cluster.start(1).end()
        assert set(refused.value.problems) == theirs.keys()
    leader.stop.throw(Interrupted())
    with pytest.raises(Interrupted):
        leader.end()
    assert theirs.keys().isdisjoint(json.loads((volume / ".syncer/state/plan.json").read_bytes())["paths"])
    with pytest.raises(ConfigurationError, match="not ours and differ"):
        cluster.start(0).end()
    assert read_model(volume) == {path: theirs.get(path, MODEL[path]) for path in MODEL}


def test_pods_begin_anew_when_index_0_shares_other_work(
    cluster: Cluster, source: Path, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced = threading.Event()
    real = board.PlanReplaced.__init__

    def noticed(error: board.PlanReplaced, destination: str) -> None:
        real(error, destination)
        replaced.set()

    # Not the class itself: who is imported meanwhile would take it for the real one for as long as this process lives.
    monkeypatch.setattr(board.PlanReplaced, "__init__", noticed)
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.02)

    @contextmanager
    def waits(_progress: Progress) -> Iterator[None]:
        assert replaced.wait(60)
        yield

    cluster.count = 2
    with pytest.raises(Interrupted):
        cluster.start(0, show=dying).end()
    former = shared_plan(volume)
    lost = cluster.start(0)
    other = cluster.start(1, show=waits)
    until(lambda: board.was_begun(DirectoryDestination(DirectoryLocation(volume)).control, former.run, 1))
    lost.stop.throw(Interrupted())
    with pytest.raises(Interrupted):
        lost.end()
    changed = write_model(source, {"config.json": b"another one"})
    assert cluster.start(0).end().files == len(MODEL)
    assert other.end().reason == "Shared"
    assert read_model(volume) == read_model(changed)
    assert control_of(volume) == SEALED


def test_a_second_pod_of_one_index_waits_and_finds_nothing_left(
    cluster: Cluster, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a node that is cut off leaves them; when its turn comes, the model may be sealed."""
    monkeypatch.setattr(lease, "_LOOK_SECONDS", 0.02)
    cluster.count = 2
    gate, again = threading.Event(), threading.Event()

    @contextmanager
    def holds(_progress: Progress) -> Iterator[None]:
        assert gate.wait(60)
        yield

    @contextmanager
    def tells(_progress: Progress) -> Iterator[None]:
        again.set()
        yield

    leader, first = cluster.start(0), cluster.start(1, show=holds)
    plan = shared_plan(volume)
    until(lambda: board.was_begun(DirectoryDestination(DirectoryLocation(volume)).control, plan.run, 1))
    second = cluster.start(1, show=tells)
    gate.set()
    assert first.end().reason == "Shared"
    assert leader.end().files == len(MODEL)
    assert second.end().skipped
    assert not again.is_set()
    assert read_model(volume) == MODEL
    assert control_of(volume) == SEALED


def test_a_pod_whose_turn_comes_while_index_0_seals_finds_nothing_left(
    cluster: Cluster, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Index 0 takes the lease of a share away with the rest, and its pod beats before it looks at anything else."""
    cluster.count = 2
    gate, waits, held = threading.Event(), threading.Event(), threading.Event()
    lease_of, read_done, done = carrying._lease, board.read_done, board.done
    leases: list[lease.Lease] = []
    seen: list[bool] = []

    @contextmanager
    def holds(_progress: Progress) -> Iterator[None]:
        assert gate.wait(60)
        yield

    def noted(*given: Any, **more: Any) -> lease.Lease:
        leases.append(lease_of(*given, **more))
        if len(leases) == 2:
            leases[-1].told = lambda _waits: waits.set()
        return leases[-1]

    def then_sealed(control: ControlFolder, run: str, index: int) -> dict[str, Any] | None:
        if index and len(leases) == 2:  # the second pod, and its first look under its lease
            held.set()
            leader.end()
            leases[-1]._beat()
            seen.append(leases[-1].stop.thrown)
        return read_done(control, run, index)

    def once_held(control: ControlFolder, run: str) -> frozenset[int]:
        assert held.wait(60)
        return done(control, run)

    monkeypatch.setattr(lease, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(carrying, "_lease", noted)
    monkeypatch.setattr(board, "read_done", then_sealed)
    monkeypatch.setattr(board, "done", once_held)
    leader, first = cluster.start(0), cluster.start(1, show=holds)
    plan = shared_plan(volume)
    until(lambda: board.was_begun(DirectoryDestination(DirectoryLocation(volume)).control, plan.run, 1))
    second = cluster.start(1)
    assert waits.wait(60)
    gate.set()
    assert first.end().reason == "Shared"
    assert "nothing left" in second.end().skipped
    assert seen == [True]
    assert read_model(volume) == MODEL
    assert control_of(volume) == SEALED


def test_a_pod_says_why_it_stopped_and_not_what_broke_by_that(cluster: Cluster) -> None:
    lost = NotThereYet("another run has taken share 1 over")

    def cut_off(ours: StopSwitch) -> AbstractContextManager[Destination]:
        ours.throw(lost)
        raise Transient("stopped")

    ways = partaking.Ways(destination=cut_off, ends=None, list_source=None)  # type: ignore[arg-type]
    with pytest.raises(NotThereYet) as raised:
        partaking.take_part(cluster.settings, Share(1, 2), StopSwitch(), ways)
    assert raised.value is lost


def test_what_broke_a_pod_keeps_its_own_cause(cluster: Cluster) -> None:
    cause = OSError("the wire")

    def refuses(_ours: StopSwitch) -> AbstractContextManager[Destination]:
        raise Transient("no answer") from cause

    ways = partaking.Ways(destination=refuses, ends=None, list_source=None)  # type: ignore[arg-type]
    with pytest.raises(Transient) as raised:
        partaking.take_part(cluster.settings, Share(1, 2), StopSwitch(), ways)
    assert raised.value.__cause__ is cause


def test_force_copies_all_of_it_again_by_all_pods(cluster: Cluster, volume: Path) -> None:
    cluster.run()
    before = {path: (volume / path).stat().st_ino for path in MODEL}
    forced = replace(cluster.settings.transfer, force=True)
    first, *others = cluster.run(transfer=forced)
    assert first.copied_files == len(MODEL)
    assert [result.reason for result in others] == ["Shared", "Shared"]
    assert before.items().isdisjoint({path: (volume / path).stat().st_ino for path in MODEL}.items())
    assert read_model(volume) == MODEL


def test_a_leader_that_was_replaced_takes_nothing_away(
    cluster: Cluster, source: Path, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was suspended while it waited for the pods of a former plan, and another one shares its own by now."""
    control = DirectoryDestination(DirectoryLocation(volume)).control
    with pytest.raises(Interrupted):
        cluster.start(0, show=dying).end()
    former = shared_plan(volume)

    def suspended(_run: object) -> None:
        control.write(lease.LEASE, json.dumps({"holder": "another"}).encode())
        board.lead(control, replace(former, run="2-b"), holder="another")

    monkeypatch.setattr(leading, "_await_silence", suspended)
    write_model(source, {"config.json": b"another one"})
    with pytest.raises(NotThereYet, match="has taken this destination over"):
        cluster.start(0).end()
    assert board.is_shared(control, "2-b")
    assert board.read_plan(control, former.run) == former


def test_a_pod_with_another_source_takes_no_share(cluster: Cluster, tmp_path: Path, volume: Path) -> None:
    """As when a Job is created anew with another source, and the leader of the former is still at its end."""
    cluster.count = 2
    other = write_model(tmp_path / "other", {path: data[::-1] for path, data in MODEL.items()})
    leader = cluster.start(0)
    shared_plan(volume)
    with pytest.raises(NotThereYet, match="the source of this pod is"):
        cluster.start(1, source=DirectoryLocation(other)).end()
    assert cluster.start(1).end().reason == "Shared"
    leader.end()
    assert read_model(volume) == MODEL


def test_what_the_source_does_not_list_is_no_pods_to_carry(cluster: Cluster, source: Path, volume: Path) -> None:
    """Whoever may write to the destination may write a plan, and must not get at more than the model by it."""
    cluster.count = 2
    leader = cluster.start(0)
    plan = shared_plan(volume)
    path = plan.portions[1].whole[0]
    write_model(source, {"nested/.syncer/secret": MODEL[path]})
    version = str((source / "nested/.syncer/secret").stat().st_mtime_ns)
    where = volume / f".syncer/state/shares/{plan.run}/plan.json"
    document = json.loads(where.read_bytes())
    rows = [
        row if row[0] != path else ["nested/.syncer/secret", row[1], version, *row[3:]] for row in document["files"]
    ]
    where.write_bytes(json.dumps(document | {"files": rows}).encode())
    assert cluster.start(1).end().files == len(plan.portions[1].whole) - 1
    leader.end()
    assert not (volume / "nested").exists()
    assert read_model(volume) == MODEL
    assert control_of(volume) == SEALED


def test_a_file_that_a_former_run_has_brought_whole_is_read_back_and_not_copied_again(
    bucket_cluster: Cluster, s3: S3Server
) -> None:
    bucket = bucket_cluster.settings.destination.bucket  # type: ignore[union-attr]
    shown: list[Progress] = []

    @contextmanager
    def killed_at_the_reading(progress: Progress) -> Iterator[None]:
        shown.append(progress)
        if len(shown) == 3:
            raise Interrupted
        yield

    leader = bucket_cluster.start(0, show=killed_at_the_reading)
    bucket_cluster.start(1).end()
    with pytest.raises(Interrupted):
        leader.end()
    key = "m/large.safetensors"
    before = s3.client.head_object(Bucket=bucket, Key=key)["LastModified"]
    results = Cluster(bucket_cluster.settings, 3).run()
    assert results[0].copied_files == 0
    assert s3.client.head_object(Bucket=bucket, Key=key)["LastModified"] == before
    assert s3.read(bucket, "m/") == CUT_MODEL
    assert sorted(s3.control(bucket, "m/")) == SEALED
