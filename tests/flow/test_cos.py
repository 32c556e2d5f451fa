"""IBM COS by a one-time passcode: whole runs on a clock of our own, and as a pod runs it."""

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from syncer import job, stores
from syncer.errors import CredentialsRefused, Interrupted
from syncer.settings.locations import CosLocation, DirectoryLocation, Network, Settings, Transfer
from syncer.stop import StopSwitch
from syncer.stores.cos import CosSource
from syncer.stores.cos.source import BearerAccount
from tests.flow.conftest import in_silence
from tests.support.buckets import S3Server
from tests.support.captured import capture_logs
from tests.support.cos_places import cos_location, file_in_memory, own_redactor
from tests.support.fake_cos import FakeCos
from tests.support.fake_iam import BROKEN, HOUR, LOST, MINUTE, PASSCODE, REFRESH, FakeIam, HandClock
from tests.support.models import pattern, read_model, small_model
from tests.support.processes import Pod

MiB = 1 << 20
Sync = Callable[..., job.Result]


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def iam(clock: HandClock) -> Iterator[FakeIam]:
    with own_redactor(), FakeIam(clock) as server:
        yield server


@pytest.fixture
def cos(iam: FakeIam, s3: S3Server) -> Iterator[FakeCos]:
    with FakeCos(iam, s3.endpoint) as server:
        yield server


@pytest.fixture
def sync(clock: HandClock, target: Path, monkeypatch: pytest.MonkeyPatch) -> Sync:
    """A run from a location into a folder, on the test's clock."""
    target.parent.mkdir()

    def open_source(location: CosLocation, network: Network, **named: Any) -> CosSource:
        return CosSource(location, network, former=named.get("former"), clock=clock)

    monkeypatch.setattr(stores, "open_source", open_source)

    def once(location: CosLocation, stop: StopSwitch | None = None) -> job.Result:
        settings = Settings(
            source=location,
            destination=DirectoryLocation(target),
            transfer=Transfer(chunk_size=MiB),
            wait_for_destination=0.0,
        )
        return job.sync(settings, stop or StopSwitch(), in_silence)

    return once


def reads(cos: FakeCos) -> int:
    """How often content was asked for, and granted."""
    return sum(seen.method == "GET" and "list-type" not in seen.target and seen.status < 300 for seen in cos.seen)


class World:
    """Lets time pass while no token is on its way to the store: in earnest, that takes no quarter of an hour.

    Before every `every`-th request gets its token, those under way arrive and no other one begins; `seconds` pass then.
    """

    def __init__(self, clock: HandClock, cos: FakeCos, *, every: int, seconds: float) -> None:
        self.passed = 0.0
        self._clock = clock
        self._every = every
        self._seconds = seconds
        self._turn = threading.Condition()
        self._begun = 0
        self._under_way = 0
        self._stands_still = False
        cos.after = self._arrived

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        authorize = BearerAccount.authorize

        def watched(account: BearerAccount, *arguments: Any, **named: Any) -> dict[str, str]:
            self._begin()
            return authorize(account, *arguments, **named)

        monkeypatch.setattr(BearerAccount, "authorize", watched)

    def _begin(self) -> None:
        with self._turn:
            assert self._turn.wait_for(lambda: not self._stands_still, 30)
            self._begun += 1
            if self._begun % self._every == 0:
                self._stands_still = True
                assert self._turn.wait_for(lambda: not self._under_way, 30)
                self._clock.advance(self._seconds)
                self.passed += self._seconds
                self._stands_still = False
                self._turn.notify_all()
            self._under_way += 1

    def _arrived(self, method: str, target: str) -> None:
        with self._turn:
            self._under_way -= 1
            self._turn.notify_all()


class Counted:
    """Calls `then` before the `number`-th request for content, once."""

    def __init__(self, cos: FakeCos, number: int, then: Callable[[], object]) -> None:
        self._lock = threading.Lock()
        self._left = number
        self._then = then
        cos.before = self._before

    def _before(self, method: str, target: str) -> None:
        with self._lock:
            self._left -= method == "GET" and "list-type" not in target
            mine = self._left == 0 and "list-type" not in target
        if mine:
            self._then()


def test_a_copy_of_three_hours_renews_its_token_and_no_part_fails(
    iam: FakeIam,
    cos: FakeCos,
    clock: HandClock,
    s3: S3Server,
    sync: Sync,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket = s3.new_bucket("source")
    files = {f"shard-{number:03}.bin": pattern(100, number) for number in range(44)} | {"large.bin": pattern(8 * MiB)}
    s3.fill(bucket, files, prefix="m/")
    world = World(clock, cos, every=3, seconds=12 * MINUTE)
    world.watch(monkeypatch)
    with capture_logs() as logs:
        result = sync(cos_location(iam, cos.url, bucket=bucket))
    assert world.passed > 3 * HOUR
    assert read_model(target) == files
    assert result.copied_files == len(files)
    assert reads(cos) == 52
    assert cos.refused == []
    assert all(seen.valid for seen in cos.seen)
    assert len(iam.grants(PASSCODE)) == 1
    assert len(iam.grants(REFRESH)) >= 3
    assert {asked.status for asked in iam.asked} == {200}
    assert not {"part_retried", "token_renewal_failed"} & {entry["event"] for entry in logs}


def test_an_iam_that_is_away_is_borne_while_the_token_lives(
    iam: FakeIam,
    cos: FakeCos,
    clock: HandClock,
    s3: S3Server,
    sync: Sync,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket = s3.new_bucket("source")
    files = {f"{number}.bin": pattern(100, number) for number in range(40)}
    s3.fill(bucket, files, prefix="m/")
    World(clock, cos, every=2, seconds=4 * MINUTE).watch(monkeypatch)
    location = cos_location(iam, cos.url, bucket=bucket)
    source = CosSource(location, Network(), clock=clock)
    source.login.bearer()
    iam.next_replies.extend([BROKEN, BROKEN])
    monkeypatch.setattr(stores, "open_source", lambda *_, **__: source)
    with capture_logs() as logs:
        sync(location)
    assert read_model(target) == files
    failed = [entry["still_valid_seconds"] for entry in logs if entry["event"] == "token_renewal_failed"]
    assert failed == [710, 470]
    assert cos.refused == []


def test_a_token_that_ends_in_the_middle_of_a_file_costs_no_part(
    iam: FakeIam, cos: FakeCos, s3: S3Server, sync: Sync, target: Path
) -> None:
    bucket = s3.new_bucket("source")
    weights = pattern(16 * MiB)
    s3.fill(bucket, {"model.safetensors": weights}, prefix="m/")
    Counted(cos, 6, iam.revoke_access)
    with capture_logs() as logs:
        sync(cos_location(iam, cos.url, bucket=bucket))
    assert read_model(target) == {"model.safetensors": weights}
    assert reads(cos) == 16
    assert 1 <= len(cos.refused) <= 8, "those that were on their way"
    assert len(iam.grants(REFRESH)) == 1
    assert "part_retried" not in {entry["event"] for entry in logs}


def test_a_stopped_run_goes_on_with_a_new_passcode(
    iam: FakeIam, cos: FakeCos, s3: S3Server, sync: Sync, target: Path
) -> None:
    bucket = s3.new_bucket("source")
    files = {f"shard-{number:02}.bin": pattern(1000, number) for number in range(40)}
    s3.fill(bucket, files, prefix="m/")
    stop = StopSwitch()
    Counted(cos, 30, lambda: stop.throw(Interrupted()))
    first = cos_location(iam, cos.url, bucket=bucket)
    with pytest.raises(Interrupted):
        sync(first, stop)
    with FakeCos(iam, s3.endpoint) as later:  # the former one may be busy with what was on its way
        spent = replace(first, bucket=replace(first.bucket, endpoint=later.url))
        with pytest.raises(CredentialsRefused):
            sync(spent)
        assert later.seen == [], "a spent passcode gets nowhere"
        sync(cos_location(iam, later.url, bucket=bucket))
        # What was on its way when the run stopped is read again: at most one file for each lane.
        assert 10 <= reads(later) <= 40 - 30 + 8
    assert read_model(target) == files


# ----------------------------------------------------------------------------------------------------------- as a pod


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server's context, and the file that vouches for it."""
    ours = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.issue_cert("localhost").configure_cert(context)
    file = tmp_path_factory.mktemp("authority") / "ca.pem"
    ours.cert_pem.write_to_path(file)
    return context, file


class Cloud:
    """IAM and COS over TLS, and the Secret of the contract for them."""

    def __init__(self, iam: FakeIam, cos: FakeCos, ca_file: Path) -> None:
        self.iam = iam
        self.cos = cos
        self._ca_file = ca_file

    def secret(self, bucket: str, **more: str) -> dict[str, str]:
        return {
            "S3_SYNC_USE_IBMCLOUD_CLI": "true",
            "S3_SYNC_COS_INSTANCE_CRN": f"crn:v1:bluemix:public:cloud-object-storage:global:a/ACC:INST:bucket:{bucket}",
            "S3_SYNC_COS_INSTANCE_REGION": "us-geo",
            "S3_SYNC_COS_BUCKET": bucket,
            "S3_SYNC_COS_MODEL_PREFIX": "trained_models/ID/model",
            "S3_SYNC_COS_TEMPORARY_PASSCODE": self.iam.new_passcode(),
            "S3_SYNC_COS_ENDPOINT": self.cos.url,
            "S3_SYNC_COS_IAM_ENDPOINT": self.iam.url,
            "AWS_CA_BUNDLE": str(self._ca_file),
            **more,
        }


@pytest.fixture
def cloud(s3: S3Server, authority: tuple[ssl.SSLContext, Path]) -> Iterator[Cloud]:
    context, file = authority
    with FakeIam(time.time, context=context) as iam, FakeCos(iam, s3.endpoint, context=context) as cos:
        yield Cloud(iam, cos, file)


def test_the_secret_of_the_contract_works_once(cloud: Cloud, s3: S3Server, pod: Pod) -> None:
    source, target = s3.new_bucket("source"), s3.new_bucket("demo")
    s3.fill(source, small_model(), prefix="trained_models/ID/model/")
    s3.fill(source, {"trained_models/ID/model-2/other.bin": b"never"})
    environment = cloud.secret(source) | s3.connection_environment(target)
    ended = pod.run(environment, "-vvvvv")
    assert ended.code == 0, ended
    assert s3.read(target, "models/") == small_model()
    assert len(cloud.iam.asked) == 1

    elsewhere = s3.new_bucket("demo")
    began = time.monotonic()
    again = pod.run(environment | s3.connection_environment(elsewhere), "-vvvvv")
    assert again.code == 77, again
    assert time.monotonic() - began < 15, "at once"
    assert [asked.status for asked in cloud.iam.asked] == [200, 400]
    assert (again.termination["reason"], again.termination["exit_code"]) == ("CredentialsRefused", 77)
    said = str(again.termination)
    assert "BXNIM0602E" in said
    assert "S3_SYNC_COS_TEMPORARY_PASSCODE" in said
    assert "what was copied is kept" in said
    assert s3.keys(elsewhere) == {}

    for secret in cloud.iam.issued:
        assert secret not in ended.output + str(ended.termination) + again.output + said


def test_an_answer_that_got_lost_is_asked_for_by_nobody(cloud: Cloud, s3: S3Server, pod: Pod) -> None:
    source, target = s3.new_bucket("source"), s3.new_bucket("demo")
    s3.fill(source, small_model(), prefix="trained_models/ID/model/")
    cloud.iam.next_replies.append(LOST)
    ended = pod.run(cloud.secret(source) | s3.connection_environment(target))
    assert ended.code == 77, ended
    assert len(cloud.iam.asked) == 1
    assert "may be spent" in str(ended.termination)
    assert s3.keys(target) == {}
    assert [seen for seen in cloud.cos.seen if seen.target != "/"] == []


@pytest.mark.real
def test_a_killed_pod_is_gone_on_with_by_a_new_passcode(cloud: Cloud, s3: S3Server, pod: Pod) -> None:
    source, target = s3.new_bucket("source"), s3.new_bucket("demo")
    files = {f"shard-{number}.bin": pattern(10 * MiB, number) for number in range(4)}
    s3.fill(source, files, prefix="trained_models/ID/model/")
    small_steps = {"S3_SYNC_TRANSFER_CONFIG__CHUNK_SIZE": "5MiB", "S3_SYNC_TRANSFER_CONFIG__MEMORY": "20MiB"}
    half, killed = threading.Event(), threading.Event()

    def hold() -> None:
        half.set()
        killed.wait(60)

    # Memory for four parts: the sixth is asked for when two of the others are at the destination.
    Counted(cloud.cos, 6, hold)
    environment = cloud.secret(source) | s3.connection_environment(target) | small_steps
    process = pod.start(environment)
    assert half.wait(20), pod.end(process, seconds=5)
    process.kill()
    pod.end(process)
    cloud.cos.before = None
    killed.set()
    before = reads(cloud.cos)
    ended = pod.run(environment | {"S3_SYNC_COS_TEMPORARY_PASSCODE": cloud.iam.new_passcode()})
    assert ended.code == 0, ended
    assert s3.read(target, "models/") == files
    assert reads(cloud.cos) - before < 8


@pytest.mark.real
def test_a_container_that_starts_again_goes_on_with_the_session(cloud: Cloud, s3: S3Server, pod: Pod) -> None:
    cache = file_in_memory()
    source, target = s3.new_bucket("source"), s3.new_bucket("demo")
    s3.fill(source, small_model(), prefix="trained_models/ID/model/")
    environment = cloud.secret(source, S3_SYNC_COS_TOKEN_CACHE=str(cache)) | s3.connection_environment(target)
    try:
        codes = [pod.run(environment).code for _ in range(2)]
        assert codes == [0, 0]
        assert [asked.grant for asked in cloud.iam.asked] == [PASSCODE, REFRESH]
        assert cache.stat().st_mode & 0o777 == 0o600
    finally:
        cache.unlink(missing_ok=True)
