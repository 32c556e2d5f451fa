"""Control files on stores that obey conditions, ignore them, spell them differently, or lose answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import pytest

from syncer.errors import CredentialsRefused, NotThereYet, Transient, WrongBytes
from syncer.stores.protocols import ControlConflict
from syncer.stores.s3 import S3Destination, control
from tests.support.scripted_bucket import TWICE_AND_MORE, listed, refusal, scripted_bucket, stored
from tests.support.scripted_server import Heard, ScriptedServer, reply

NAME = "/b/m/.syncer/lease.json"
Condition = Literal["if-match", "if-none-match"]
Habit = Literal["obeys", "ignores", "bare", "refuses"]


class TinyStore:
    """One object with its own way to honour conditions; `lose` answers are swallowed after the work is done."""

    def __init__(self, habit: Habit) -> None:
        self.habit = habit
        self.data: bytes | None = None
        self.version = 0
        self.lose = 0
        self.lock = threading.Lock()

    def __call__(self, heard: Heard) -> None:
        body = heard.body()
        with self.lock:
            answer = self._put(heard, body) if heard.method == "PUT" else self._get()
            lost, self.lose = self.lose > 0, max(0, self.lose - 1)
        if lost:
            heard.close()
        else:
            heard.say(answer)

    def _get(self) -> bytes:
        return reply(404) if self.data is None else reply(200, self.data, etag=f'"v{self.version}"')

    def _put(self, heard: Heard, body: bytes) -> bytes:
        names: tuple[Condition, ...] = ("if-match", "if-none-match")
        conditions = {name: heard.headers[name] for name in names if name in heard.headers}
        if conditions and self.habit == "refuses":
            return refusal(501, "NotImplemented")
        if conditions and self.habit != "ignores" and not self._holds(conditions):
            return refusal(412, "PreconditionFailed")
        self.data = body
        self.version += 1
        return stored(f"v{self.version}")

    def _holds(self, conditions: Mapping[Condition, str]) -> bool:
        if "if-none-match" in conditions:
            return self.data is None
        spelled = f"v{self.version}" if self.habit == "bare" else f'"v{self.version}"'
        return self.data is not None and conditions["if-match"] == spelled


@contextmanager
def tiny(habit: Habit) -> Iterator[tuple[S3Destination, TinyStore]]:
    store = TinyStore(habit)
    with ScriptedServer(store) as server, scripted_bucket({}) as bucket:
        yield bucket.destination(endpoint=server.url, patience=TWICE_AND_MORE), store


@pytest.mark.parametrize("habit", ["obeys", "bare"])
def test_a_store_that_obeys_conditions(habit: Habit) -> None:
    with tiny(habit) as (destination, store):
        control = destination.control
        first = control.write("lease.json", b"1", expected="")
        assert control.conditional
        with pytest.raises(ControlConflict):
            control.write("lease.json", b"2", expected="")
        second = control.write("lease.json", b"3", expected=first)
        assert control.conditional
        with pytest.raises(ControlConflict):
            control.write("lease.json", b"4", expected=first)
        assert control.read("lease.json") == (b"3", second)
        assert store.data == b"3"


@pytest.mark.parametrize("habit", ["ignores", "refuses"])
def test_a_store_that_does_not_says_so_and_just_writes(habit: Habit) -> None:
    with tiny(habit) as (destination, store):
        control = destination.control
        before = control.conditional
        first = control.write("lease.json", b"1", expected="")
        assert (before, control.conditional) == (True, False)
        control.write("lease.json", b"2", expected=first)
        control.write("lease.json", b"3", expected=first)
        control.write("lease.json", b"4", expected="")
        assert store.data == b"4"


@pytest.mark.parametrize(("habit", "obeyed"), [("obeys", True), ("bare", True), ("ignores", False)])
def test_who_takes_a_file_over_learns_of_both_conditions(habit: Habit, obeyed: bool) -> None:
    """Or a run that goes on after a killed one would look before each small file, on a store that minds conditions."""
    with tiny(habit) as (destination, store):
        store.data, store.version = b"of a killed run", 1
        destination.control.write("lease.json", b"mine", expected="v1")
        abilities = destination.service.abilities
        assert abilities.has("create_if_absent") is abilities.has("replace_if_unchanged") is obeyed
        assert store.data == b"mine"


def test_a_version_that_is_gone_is_a_lost_race() -> None:
    with tiny("obeys") as (destination, _), pytest.raises(ControlConflict):
        destination.control.write("lease.json", b"1", expected="v7")


@pytest.mark.parametrize("expected", ["", "v1"])
@pytest.mark.parametrize("lost", [1, 2])
def test_a_write_whose_answer_was_lost_is_recognized(expected: str, lost: int) -> None:
    """With two, the look at what became of it is lost as well, and the second try meets the first one's work."""
    with tiny("obeys") as (destination, store):
        if expected:
            store.data, store.version = b"0", 1
        store.lose = lost
        destination.control.write("lease.json", b"mine", expected=expected)
        assert store.data == b"mine"


def test_a_plain_write_outlasts_a_passing_fault() -> None:
    answers = {("PUT", NAME): [refusal(503, "SlowDown"), b"", stored("v1")]}
    with scripted_bucket(answers) as bucket:
        assert bucket.destination(patience=TWICE_AND_MORE).control.write("lease.json", b"1") == "v1"
        assert len(bucket.heard) == 3


def test_reading_and_removing_outlast_a_passing_fault() -> None:
    answers = {
        ("GET", NAME): [refusal(500, "InternalError"), reply(200, b"1", etag='"v1"')],
        ("DELETE", NAME): [b"", reply(204)],
    }
    with scripted_bucket(answers) as bucket:
        control = bucket.destination(patience=TWICE_AND_MORE).control
        assert control.read("lease.json") == (b"1", "v1")
        control.remove("lease.json")
        assert len(bucket.heard) == 4


def test_a_store_that_gives_no_etag_is_asked_for_it() -> None:
    head = reply(200, etag='"v9"', content_length="1")
    with scripted_bucket({("PUT", NAME): [stored("")], ("HEAD", NAME): [head]}) as bucket:
        assert bucket.destination().control.write("lease.json", b"1") == "v9"


def test_names_are_relative_to_the_folder() -> None:
    page = listed(("m/.syncer/state/", 0, "x"), ("m/.syncer/state/a.json", 1, "e"), ("m/.syncer/state/b/c", 1, "e"))
    with scripted_bucket({("GET", "prefix=m%2F.syncer%2Fstate%2F"): [page]}) as bucket:
        assert bucket.destination().control.names("state/") == ["state/a.json", "state/b/c"]


def test_a_missing_file_is_none_but_a_missing_bucket_is_not_there_yet() -> None:
    with scripted_bucket({("GET", NAME): [refusal(404, "NoSuchKey"), refusal(404, "NoSuchBucket")]}) as bucket:
        control = bucket.destination().control
        assert control.read("lease.json") is None
        with pytest.raises(NotThereYet):
            control.read("lease.json")


def test_a_refused_write_is_told() -> None:
    with scripted_bucket({("PUT", NAME): [refusal(403, "AccessDenied")]}) as bucket:
        control = bucket.destination().control
        for expected in (None, ""):
            with pytest.raises(CredentialsRefused):
                control.write("lease.json", b"1", expected=expected)


def test_after_an_interrupt_nothing_is_tried_twice() -> None:
    with scripted_bucket({("GET", NAME): [refusal(503, "SlowDown")]}) as bucket:
        destination = bucket.destination(patience=TWICE_AND_MORE)
        destination.interrupt()
        with pytest.raises(Transient):
            destination.control.read("lease.json")
        assert len(bucket.heard) == 1


def test_the_manifest_of_very_many_files_is_read() -> None:
    """300,000 of them make 80 MB: a model of that size must not be refused by the runs that come after its first."""
    manifest = bytes(80_000_000)
    with scripted_bucket({("GET", "manifest.json"): [reply(200, manifest, etag='"v1"')]}) as bucket:
        assert bucket.destination().control.read("manifest.json") == (manifest, "v1")


def test_a_file_larger_than_any_of_ours_is_named_and_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "LARGEST_CONTROL_FILE", 10)
    with scripted_bucket({("GET", NAME): [reply(200, bytes(11), etag='"v1"')]}) as bucket:
        with pytest.raises(WrongBytes, match=r"m/\.syncer/lease\.json") as caught:
            bucket.destination(patience=TWICE_AND_MORE).control.read("lease.json")
        assert caught.value.hint
        assert len(bucket.heard) == 1
