"""IBM COS by a passcode: what elsewhere is a new pod is another attempt of the same process, on the same login."""

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from syncer import attempts as attempting
from syncer import job, marker, stores
from syncer.errors import Interrupted, NotThereYet, OutOfSpace, SyncerError, Transient
from syncer.lease import Lease
from syncer.settings.locations import CosLocation, DirectoryLocation, S3Location, Settings, Transfer
from syncer.stop import StopSwitch
from syncer.stores.directory import DirectoryDestination
from tests.flow.conftest import in_silence
from tests.support.buckets import S3Server
from tests.support.captured import capture_logs
from tests.support.cos_places import cos_location, own_redactor
from tests.support.fake_cos import FakeCos
from tests.support.fake_iam import PASSCODE, FakeIam
from tests.support.models import pattern, read_model

MiB = 1 << 20


@pytest.fixture
def iam() -> Iterator[FakeIam]:
    with own_redactor(), FakeIam() as server:
        yield server


@pytest.fixture
def cos(iam: FakeIam, s3: S3Server) -> Iterator[FakeCos]:
    with FakeCos(iam, s3.endpoint) as server:
        yield server


class Attempts:
    """A run of a model of five files that has no patience within an attempt, and all of it between them.

    `between` is called in the pause behind each attempt.
    """

    def __init__(self, iam: FakeIam, cos: FakeCos, s3: S3Server, target: Path) -> None:
        self.files = {f"{number}.bin": pattern(100, number) for number in range(4)} | {"large.bin": pattern(4 * MiB)}
        self.bucket = s3.new_bucket("source")
        s3.fill(self.bucket, self.files, prefix="m/")
        self.location = cos_location(iam, cos.url, bucket=self.bucket)
        self.target = target
        self.stop = StopSwitch()
        self.pauses = 0
        self.between: Callable[[], object] = lambda: None
        target.parent.mkdir()

    def pause(self, _seconds: float) -> None:
        self.pauses += 1
        self.between()
        if self.pauses > 20:
            raise AssertionError("more attempts than any test needs")

    def sync(self, location: CosLocation | None = None, *, to: S3Location | None = None) -> job.Result:
        settings = Settings(
            source=location or self.location,
            destination=to or DirectoryLocation(self.target),
            transfer=Transfer(chunk_size=MiB),
            wait_for_destination=0.0,
        )
        return job.sync(settings, self.stop, in_silence)


@pytest.fixture
def attempts(iam: FakeIam, cos: FakeCos, s3: S3Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> Attempts:
    attempts = Attempts(iam, cos, s3, target)
    monkeypatch.setattr(job, "SOURCE_PATIENCE", replace(job.SOURCE_PATIENCE, seconds=0.0))
    monkeypatch.setattr(attempting, "LOGIN_PATIENCE", replace(attempting.LOGIN_PATIENCE, sleep=attempts.pause))
    return attempts


def failing(times: int, error: SyncerError, then: Callable[..., Any]) -> Callable[..., Any]:
    left = [error] * times

    def call(*arguments: Any, **named: Any) -> Any:
        if left:
            raise left.pop()
        return then(*arguments, **named)

    return call


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (DirectoryDestination, "prepare"),
        (DirectoryDestination, "commit"),
        (marker, "seal"),
    ],
)
def test_whatever_passes_is_outlasted_on_one_login(
    place: Any, name: str, attempts: Attempts, iam: FakeIam, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, name, failing(2, Transient("away"), getattr(place, name)))
    logins: list[int] = []
    attempts.between = lambda: logins.append(len(iam.grants(PASSCODE)))
    with capture_logs() as logs:
        attempts.sync()
    assert logins == [1, 1], "the login comes before all that may need patience"
    assert [entry["event"] for entry in logs].count("attempt_failed") == 2
    assert read_model(attempts.target) == attempts.files
    assert len(iam.asked) == 1


def test_what_a_store_can_do_is_found_out_once_in_all_attempts(
    attempts: Attempts, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marker, "seal", failing(2, Transient("away"), marker.seal))
    target = s3.new_bucket("target")
    with capture_logs() as logs:
        keys = SecretStr(s3.access_key), SecretStr(s3.secret_key)
        attempts.sync(to=S3Location(target, "m/", s3.endpoint, s3.region, *keys))
    assert [entry["event"] for entry in logs].count("attempt_failed") == 2
    assert s3.read(target, "m/") == attempts.files
    learned = [entry["ability"] for entry in logs if entry["event"] == "ability_learned"]
    assert {"create_if_absent", "etag_of_put_is_md5"} <= set(learned)
    assert len(learned) == len(set(learned)), "said once"


def test_what_one_attempt_copied_the_next_does_not_read_again(
    attempts: Attempts, iam: FakeIam, cos: FakeCos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DirectoryDestination, "commit", failing(1, Transient("away"), DirectoryDestination.commit))
    attempts.sync()
    read = [seen.target for seen in cos.seen if seen.method == "GET" and "list-type" not in seen.target]
    assert len(read) == 4 + 4
    assert len(iam.grants(PASSCODE)) == 1


def test_a_lease_that_somebody_holds_is_waited_for(
    attempts: Attempts, iam: FakeIam, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lease, "_acquire", failing(2, NotThereYet("held"), Lease._acquire))
    attempts.sync()
    assert attempts.pauses == 2
    assert len(iam.asked) == 1


def test_a_lease_that_was_taken_away_ends_an_attempt_and_not_the_run(
    attempts: Attempts, iam: FakeIam, monkeypatch: pytest.MonkeyPatch
) -> None:
    confirm = Lease.confirm

    def lose(lease: Lease) -> None:
        monkeypatch.setattr(Lease, "confirm", confirm)
        lease._lost()
        lease.stop.check()

    monkeypatch.setattr(Lease, "confirm", lose)
    attempts.sync()
    assert attempts.pauses == 1
    assert read_model(attempts.target) == attempts.files
    assert len(iam.asked) == 1


def test_a_lease_that_an_attempt_could_not_give_back_holds_nobody_up(
    attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_back = Lease.__exit__

    def leave(lease: Lease, *_: object) -> None:
        monkeypatch.setattr(Lease, "__exit__", give_back)
        lease._over.set()

    monkeypatch.setattr(Lease, "__exit__", leave)
    monkeypatch.setattr(DirectoryDestination, "commit", failing(1, Transient("away"), DirectoryDestination.commit))
    attempts.sync()
    assert attempts.pauses == 1


def test_a_stop_ends_it_at_once(attempts: Attempts, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(destination: DirectoryDestination) -> None:
        attempts.stop.throw(Interrupted())
        raise Transient("cut off")

    monkeypatch.setattr(DirectoryDestination, "listing", stopped)
    with pytest.raises(Transient):
        attempts.sync()
    assert attempts.pauses == 0


def test_what_does_not_pass_ends_it_at_once(attempts: Attempts, monkeypatch: pytest.MonkeyPatch) -> None:
    full = failing(1, OutOfSpace("full"), DirectoryDestination.commit)
    monkeypatch.setattr(DirectoryDestination, "commit", full)
    with pytest.raises(OutOfSpace):
        attempts.sync()
    assert attempts.pauses == 0


def test_a_day_of_attempts_leaves_nothing_behind(attempts: Attempts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has two stores, with a client of the SDK and connections: a thousand of them would fill the pod's memory."""
    opened: list[weakref.ref[Any]] = []
    open_source = stores.open_source

    def remembered(*arguments: Any, **named: Any) -> Any:
        source = open_source(*arguments, **named)
        opened.append(weakref.ref(source))
        return source

    monkeypatch.setattr(stores, "open_source", remembered)
    monkeypatch.setattr(DirectoryDestination, "prepare", failing(2, Transient("away"), DirectoryDestination.prepare))
    before = threading.enumerate()
    attempts.sync()
    gc.collect()
    assert len(opened) == 3
    assert [reference() for reference in opened] == [None] * 3
    # By name: the servers of the tests begin and end threads of their own whenever they like.
    left = [thread.name for thread in threading.enumerate() if thread not in before]
    assert [name for name in left if name.startswith(("lane-", "lease"))] == []
