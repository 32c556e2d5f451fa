"""Where an upload goes: waiting for the data connection, and what it does to the environment."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from syncer import settings
from syncer.cluster import Door
from syncer.errors import (
    ConfigurationError,
    CredentialsRefused,
    EndpointUnreachable,
    Interrupted,
    NotThereYet,
    SyncerError,
    Transient,
)
from syncer.settings import Settings
from syncer.settings.locations import DirectoryLocation, S3Location
from syncer.stop import StopSwitch
from syncer.uploading.target import Connection, await_connection, environment_with, reached_from_outside

DATA = {
    "AWS_S3_ENDPOINT": "https://s3.openshift-storage.svc",
    "AWS_S3_BUCKET": "demo-1",
    "AWS_ACCESS_KEY_ID": "AKIA",
    "AWS_SECRET_ACCESS_KEY": "canary-secret",
    "AWS_DEFAULT_REGION": "local",
}


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


@dataclass
class Answers:
    """A cluster that answers by script; the last answer stays."""

    script: list[dict[str, str] | SyncerError | None]
    asked: list[tuple[str, str]] = field(default_factory=list)

    def secret(self, namespace: str, name: str) -> dict[str, str] | None:
        self.asked.append((namespace, name))
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(answer, SyncerError):
            raise answer
        return answer


def wait(
    *script: dict[str, str] | SyncerError | None, wait: float = 600.0, clock: Clock | None = None
) -> dict[str, str]:
    clock, cluster = clock or Clock(), Answers(list(script))
    return await_connection(
        cluster,  # type: ignore[arg-type]  # it answers as a cluster does
        Connection(wait=wait),
        StopSwitch(),
        clock=clock,
        pause=clock.pause,
    )


def test_a_late_or_unfinished_secret_is_waited_for() -> None:
    half = DATA | {"AWS_SECRET_ACCESS_KEY": " "}
    clock = Clock()
    hiccup = Transient("500")
    assert wait(None, hiccup, half, None, DATA | {"OTHER": "x", "AWS_DEFAULT_REGION": ""}, clock=clock) == {
        name: value for name, value in DATA.items() if name != "AWS_DEFAULT_REGION"
    }
    assert clock.now == 20.0


def test_what_never_comes_is_69_and_says_why() -> None:
    clock = Clock()
    with pytest.raises(NotThereYet) as caught:
        wait(None, wait=12.0, clock=clock)
    assert clock.now == 12.0
    assert "demo/demo-models after 12 s: it is not there yet" in caught.value.message
    with pytest.raises(NotThereYet, match="it lacks AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY"):
        wait({"AWS_S3_BUCKET": "b"}, wait=0.0)


def test_what_waiting_cannot_heal_ends_it_at_once() -> None:
    for error in (CredentialsRefused("401"), ConfigurationError("kubeconfig")):
        clock = Clock()
        with pytest.raises(type(error)):
            wait(error, clock=clock)
        assert clock.now == 0.0


def test_a_cluster_that_is_out_of_reach_gets_a_minute_and_an_absent_secret_all_the_time() -> None:
    clock, silence = Clock(), EndpointUnreachable("refused")
    with pytest.raises(EndpointUnreachable):
        wait(silence, clock=clock)
    assert clock.now == 60.0
    clock = Clock()
    assert wait(*[None] * 30, *[silence] * 11, DATA, clock=clock) == DATA
    assert clock.now == 205.0


def test_a_stop_ends_the_waiting() -> None:
    stop = StopSwitch()
    stop.throw(Interrupted(15))
    with pytest.raises(Interrupted):
        await_connection(Answers([None]), Connection(), stop)  # type: ignore[arg-type]  # it answers as a cluster does


@pytest.mark.parametrize("name", ["", "Demo", "a/b", "../kube-system", "-a", "a" * 300])
def test_names_that_no_cluster_has_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="--namespace"):
        Connection(namespace=name).check()
    with pytest.raises(ConfigurationError, match="--secret"):
        Connection(secret=name).check()


def test_the_connection_is_the_only_destination_and_everything_else_still_holds() -> None:
    environ = environment_with(
        {
            "S3_SYNC_DEST__PATH": "s3://mine/",
            "S3_SYNC_DEST__ACCESS_KEY_FILE": "/x",
            "S3_SYNC_DEST__DEFAULT_DIRECTORY": "served",
            "S3_SYNC_DEST__VALIDATE_TLS": "false",
            "S3_SYNC_TRANSFER_CONFIG__MAX_FILES": "3",
            "AWS_SESSION_TOKEN": "of another account",
            "AWS_SECRET_ACCESS_KEY_FILE": "/y",
            "AWS_ACCESS_KEY_ID": "of another account",
            "BUCKET_NAME": "claim",
            "S3_BUCKET": "pipeline",
            "OCI_IMAGE": "registry/repo:tag",
            "HOME": "/home/user",
        },
        DATA,
    )
    understood = settings.load(environ, needs_source=False)
    location = understood.destination
    assert isinstance(location, S3Location)
    assert (location.uri, location.endpoint) == ("s3://demo-1/served/", "https://s3.openshift-storage.svc")
    assert location.access_key is not None
    assert location.access_key.get_secret_value() == "AKIA"
    assert (location.session_token, location.validate_tls) == (None, False)
    assert understood.transfer.max_files == 3
    assert environ["HOME"] == "/home/user"


def inner() -> Settings:
    return settings.load(DATA, needs_source=False)


@pytest.mark.parametrize("in_memory", [True, False])
def test_the_authorities_of_the_ingress_are_believed_while_it_lasts(
    monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    door = Door("https://s3.apps.example", authorities=b"PEM")
    monkeypatch.setattr("syncer.cluster.door_to", lambda *_: door)
    if not in_memory:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    before = inner()
    with reached_from_outside(before, None, StopSwitch()) as reached:  # type: ignore[arg-type]  # nobody asks it
        assert isinstance(reached.destination, S3Location)
        assert reached.destination.endpoint == "https://s3.apps.example"
        assert reached.destination.uri == "s3://demo-1/models/"
        (file,) = set(reached.network.ca_files) - set(before.network.ca_files)
        assert file.read_bytes() == b"PEM"
    assert not file.exists()


def test_without_a_door_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncer.cluster.door_to", lambda _, endpoint: Door(endpoint, note="none"))
    with reached_from_outside(inner(), None, StopSwitch()) as reached:  # type: ignore[arg-type]  # nobody asks it
        assert reached == inner()
    volume = Settings(source=None, destination=DirectoryLocation(Path("/mnt")))
    with reached_from_outside(volume, None, StopSwitch()) as reached:  # type: ignore[arg-type]  # nobody asks it
        assert reached == volume


def test_a_door_without_authorities_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncer.cluster.door_to", lambda *_: Door("http://s3.apps.example"))
    with reached_from_outside(inner(), None, StopSwitch()) as reached:  # type: ignore[arg-type]  # nobody asks it
        assert isinstance(reached.destination, S3Location)
        assert reached.destination.endpoint == "http://s3.apps.example"
        assert reached.network == inner().network
