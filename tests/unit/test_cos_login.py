"""A valid token at any moment: one login, renewals ahead of time, and nothing that is sent twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from syncer.errors import ConfigurationError, CredentialsRefused, EndpointUnreachable, SyncerError, Transient
from syncer.settings.locations import CosLocation, Network
from syncer.stores.cos.iam import PASSCODE_HINT, Iam
from syncer.stores.cos.login import Login
from syncer.wire import CutOff
from tests.support.buckets import free_port
from tests.support.captured import capture_logs
from tests.support.cos_places import cos_location, file_in_memory, own_redactor
from tests.support.fake_iam import (
    API_KEY,
    BROKEN,
    HOUR,
    LOST,
    MINUTE,
    PASSCODE,
    REFRESH,
    TOO_MANY,
    WRONG_CREDENTIALS,
    FakeIam,
    HandClock,
)

Make = Callable[..., Login]


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def iam(clock: HandClock) -> Iterator[FakeIam]:
    with own_redactor(), FakeIam(clock) as server:
        yield server


@pytest.fixture
def make(iam: FakeIam, clock: HandClock) -> Iterator[Make]:
    """A login at the fake IAM; `location` or the arguments of `cos_location`."""
    with ExitStack() as opened:

        def login(location: CosLocation | None = None, *, former: Login | None = None, **arguments: Any) -> Login:
            location = location or cos_location(iam, **arguments)
            client = Iam(location, Network())
            opened.callback(client.close)
            return Login(location, client, clock=clock, former=former)

        yield login


def refused(login: Login) -> CredentialsRefused:
    with pytest.raises(CredentialsRefused) as caught:
        login.bearer()
    return caught.value


# --------------------------------------------------------------------------------------------------------- the passcode


def test_a_passcode_is_exchanged_once(iam: FakeIam, make: Make) -> None:
    login = make()
    assert login.bearer() == login.bearer()
    assert iam.is_valid(login.bearer())
    assert [asked.grant for asked in iam.asked] == [PASSCODE]


def test_many_threads_that_come_first_log_in_once(iam: FakeIam, make: Make) -> None:
    login = make()
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(lambda _: login.bearer(), range(16)))
    assert len(tokens) == len(iam.asked) == 1


def test_a_spent_passcode_is_final_with_ibms_code(iam: FakeIam, make: Make) -> None:
    location = cos_location(iam)
    make(location).bearer()
    second = make(location)
    for _ in range(3):
        error = refused(second)
        assert "BXNIM0602E" in error.message
        assert error.hint == PASSCODE_HINT
        assert "S3_SYNC_COS_TEMPORARY_PASSCODE" in error.hint
    assert len(iam.grants(PASSCODE)) == 2


def test_an_expired_passcode_is_final(iam: FakeIam, clock: HandClock, make: Make) -> None:
    login = make()
    clock.advance(5 * MINUTE)
    assert refused(login).exit_code == 77
    assert len(iam.asked) == 1


@pytest.mark.parametrize("reply", [LOST, BROKEN])
def test_an_answer_that_got_lost_is_never_asked_for_again(iam: FakeIam, make: Make, reply: Any) -> None:
    iam.next_replies.append(reply)
    login = make()
    for _ in range(3):
        error = refused(login)
        assert "may be spent" in error.message
        assert error.hint == PASSCODE_HINT
    assert len(iam.asked) == 1


def test_what_iam_had_no_time_for_is_tried_again(iam: FakeIam, make: Make) -> None:
    iam.next_replies.append(TOO_MANY)
    login = make()
    with pytest.raises(Transient) as caught:
        login.bearer()
    assert caught.value.retry_after == 7
    assert iam.is_valid(login.bearer())


def test_a_second_try_is_never_repeated_either(iam: FakeIam, make: Make) -> None:
    iam.next_replies.extend([TOO_MANY, LOST])
    login = make()
    with pytest.raises(Transient):
        login.bearer()
    assert "may be spent" in refused(login).message, "the connection that was kept is not asked again when it breaks"
    assert len(iam.asked) == 2


def test_what_nobody_received_is_tried_again(iam: FakeIam, make: Make) -> None:
    there = cos_location(iam)
    nowhere = CosLocation(
        bucket=there.bucket,
        passcode=there.passcode,
        iam_endpoint=f"http://127.0.0.1:{free_port()}",
        plaintext_tokens=True,
    )
    login = make(nowhere)
    for _ in range(2):
        with pytest.raises(EndpointUnreachable) as caught:
            login.bearer()
        assert "S3_SYNC_COS_IAM_ENDPOINT" in caught.value.hint


@pytest.mark.parametrize("anew", [False, True], ids=["one attempt", "several"])
def test_who_cannot_ask_for_five_minutes_has_an_expired_passcode(
    anew: bool, iam: FakeIam, clock: HandClock, make: Make
) -> None:
    iam.next_replies.extend([TOO_MANY] * 3)
    login = make()
    for minutes in (4, 1):
        with pytest.raises(Transient):
            login.bearer()
        clock.advance(minutes * MINUTE)
    login = make(login.location, former=login) if anew else login
    assert "expired before" in refused(login).message
    assert "S3_SYNC_COS_TEMPORARY_PASSCODE" in refused(login).hint
    assert len(iam.asked) == 3


def test_an_interrupted_login_is_not_repeated(iam: FakeIam, clock: HandClock) -> None:
    location = cos_location(iam)
    client = Iam(location, Network())
    login = Login(location, client, clock=clock)
    iam.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(login.bearer)
        wait_until(lambda: len(iam.asked) == 1)
        client.interrupt()
        assert isinstance(waiting.exception(10), CutOff)
    iam.gate.set()
    with pytest.raises(SyncerError):
        login.bearer()
    assert len(iam.asked) == 1
    client.close()


def test_a_later_attempt_goes_on_with_the_login(iam: FakeIam, clock: HandClock, make: Make) -> None:
    location = cos_location(iam)
    first = make(location)
    token = first.bearer()
    second = make(location, former=first)
    assert second.bearer() == token
    clock.advance(HOUR)
    assert iam.is_valid(second.bearer())
    assert [asked.grant for asked in iam.asked] == [PASSCODE, REFRESH]


def test_a_later_attempt_does_not_send_a_refused_passcode(iam: FakeIam, make: Make) -> None:
    iam.next_replies.append(WRONG_CREDENTIALS)
    location = cos_location(iam)
    first = make(location)
    refused(first)
    refused(make(location, former=first))
    assert len(iam.asked) == 1


# ------------------------------------------------------------------------------------------------------------- renewing


def test_a_token_is_renewed_in_the_last_quarter_of_its_life(iam: FakeIam, clock: HandClock, make: Make) -> None:
    login = make()
    first = login.bearer()
    clock.advance(0.74 * HOUR)
    assert login.bearer() == first
    clock.advance(0.02 * HOUR)
    second = login.bearer()
    assert second != first
    assert iam.is_valid(second)
    assert [asked.grant for asked in iam.asked] == [PASSCODE, REFRESH]


def test_renewal_after_renewal(iam: FakeIam, clock: HandClock, make: Make) -> None:
    login = make()
    for _ in range(8 * 6):
        assert iam.is_valid(login.bearer())
        clock.advance(10 * MINUTE)
    assert {asked.status for asked in iam.asked} == {200}
    assert len(iam.grants(PASSCODE)) == 1


def test_one_renews_and_the_others_go_on(iam: FakeIam, clock: HandClock, make: Make) -> None:
    login = make()
    first = login.bearer()
    clock.advance(0.8 * HOUR)
    iam.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        renewing = pool.submit(login.bearer)
        wait_until(lambda: len(iam.asked) == 2)
        assert {login.bearer() for _ in range(5)} == {first}
        iam.gate.set()
        assert renewing.result(10) == login.bearer() != first
    assert len(iam.asked) == 2


def test_all_wait_when_the_token_is_not_valid_any_more(iam: FakeIam, clock: HandClock, make: Make) -> None:
    login = make()
    first = login.bearer()
    clock.advance(HOUR)
    iam.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(login.bearer) for _ in range(8)]
        wait_until(lambda: len(iam.asked) == 2)
        assert not any(each.done() for each in waiting)
        iam.gate.set()
        tokens = {each.result(10) for each in waiting}
    assert len(tokens) == 1
    assert tokens != {first}
    assert len(iam.asked) == 2


def test_a_failed_renewal_can_wait_while_the_token_is_valid(iam: FakeIam, clock: HandClock, make: Make) -> None:
    login = make()
    first = login.bearer()
    clock.advance(0.8 * HOUR)
    iam.next_replies.append(BROKEN)
    with capture_logs() as logs:
        assert [login.bearer() for _ in range(9)] == [first] * 9
    assert [entry["event"] for entry in logs] == ["token_renewal_failed"]
    assert len(iam.asked) == 2, "not on each request"
    clock.advance(MINUTE)
    assert login.bearer() != first


def test_a_failed_renewal_without_a_valid_token_is_a_passing_fault(iam: FakeIam, clock: HandClock, make: Make) -> None:
    login = make()
    login.bearer()
    clock.advance(HOUR)
    iam.next_replies.append(TOO_MANY)
    for _ in range(4):
        with pytest.raises(Transient) as caught:
            login.bearer()
        assert caught.value.retry_after
    assert len(iam.asked) == 2, "threads that try again do not all ask"
    clock.advance(MINUTE)
    assert iam.is_valid(login.bearer())


def test_a_refused_renewal_is_final_when_the_token_ends(iam: FakeIam, clock: HandClock, make: Make) -> None:
    login = make()
    first = login.bearer()
    iam.end_sessions()
    clock.advance(0.8 * HOUR)
    assert login.bearer() == first
    clock.advance(10 * MINUTE)
    assert login.bearer() == first
    clock.advance(10 * MINUTE)
    error = refused(login)
    assert "BXNIM0407E" in error.message
    assert error.hint == PASSCODE_HINT
    assert len(iam.asked) == 2


def test_a_session_without_a_refresh_token_lasts_as_long_as_its_token(
    iam: FakeIam, clock: HandClock, make: Make
) -> None:
    iam.refreshable = False
    login = make()
    first = login.bearer()
    clock.advance(0.9 * HOUR)
    assert login.bearer() == first
    assert not login.renew_after_refusal(first)
    clock.advance(0.1 * HOUR)
    assert "no refresh token" in refused(login).message
    assert [asked.given for asked in iam.asked if asked.given == "not_supported"] == []


def test_a_refresh_token_serves_until_there_is_another(iam: FakeIam, clock: HandClock, make: Make) -> None:
    login = make()
    login.bearer()
    iam.refreshable = False
    for _ in range(3):
        clock.advance(HOUR)
        assert iam.is_valid(login.bearer())
    assert len({asked.given for asked in iam.grants(REFRESH)}) == 1


def test_the_life_is_by_our_own_clock(clock: HandClock) -> None:
    theirs = HandClock(clock() - 40 * HOUR)  # IAM's clock is far behind, so that `expiration` is long past
    with own_redactor(), FakeIam(theirs) as iam:
        location = cos_location(iam)
        client = Iam(location, Network())
        login = Login(location, client, clock=clock)
        assert login.bearer() == login.bearer()
        assert len(iam.asked) == 1
        client.close()


# ------------------------------------------------------------------------------------------------ after the store's no


def test_a_token_that_the_store_refused_is_renewed_once(iam: FakeIam, make: Make) -> None:
    login = make()
    first = login.bearer()
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: login.renew_after_refusal(first), range(8))) == {True}
    assert login.bearer() != first
    assert [asked.grant for asked in iam.asked] == [PASSCODE, REFRESH]


def test_why_it_cannot_be_renewed_is_said(iam: FakeIam, make: Make) -> None:
    login = make()
    token = login.bearer()
    iam.end_sessions()
    with pytest.raises(CredentialsRefused, match="BXNIM0407E"):
        login.renew_after_refusal(token)
    with pytest.raises(CredentialsRefused, match="BXNIM0407E"):
        login.renew_after_refusal(token)
    assert len(iam.asked) == 2


# ---------------------------------------------------------------------------------------------------------- an API key


def test_an_api_key_is_exchanged_anew(iam: FakeIam, clock: HandClock, make: Make) -> None:
    login = make(api_key=iam.new_api_key())
    first = login.bearer()
    clock.advance(HOUR)
    assert login.bearer() != first
    assert [asked.grant for asked in iam.asked] == [API_KEY, API_KEY]
    assert {asked.authorization for asked in iam.asked} == {""}


@pytest.mark.parametrize("reply", [LOST, BROKEN, TOO_MANY])
def test_an_api_keys_lost_answer_is_asked_for_again(iam: FakeIam, make: Make, reply: Any) -> None:
    iam.next_replies.append(reply)
    login = make(api_key=iam.new_api_key())
    with pytest.raises(Transient):
        login.bearer()
    assert iam.is_valid(login.bearer())


def test_an_unknown_api_key_is_final(iam: FakeIam, make: Make) -> None:
    error = refused(make(api_key="nobody-knows-this-key"))
    assert "BXNIM0415E: Provided API key could not be found." in error.message
    assert "S3_SYNC_COS_API_KEY" in error.hint


# ------------------------------------------------------------------------------------------------------------ the cache


@pytest.fixture
def cache() -> Iterator[Path]:
    path = file_in_memory()
    yield path
    path.unlink(missing_ok=True)


def test_a_container_that_starts_again_goes_on_with_the_session(iam: FakeIam, make: Make, cache: Path) -> None:
    location = cos_location(iam, token_cache=cache)
    make(location).bearer()
    assert iam.is_valid(make(location).bearer())
    assert [asked.grant for asked in iam.asked] == [PASSCODE, REFRESH]


def test_a_new_passcode_beats_an_older_session(iam: FakeIam, make: Make, cache: Path) -> None:
    make(token_cache=cache).bearer()
    make(token_cache=cache).bearer()
    assert [asked.grant for asked in iam.asked] == [PASSCODE, PASSCODE]


def test_a_kept_session_that_has_ended_is_final(iam: FakeIam, clock: HandClock, make: Make, cache: Path) -> None:
    location = cos_location(iam, token_cache=cache)
    make(location).bearer()
    clock.advance(73 * HOUR)
    error = refused(make(location))
    assert "BXNIM0408E" in error.message
    assert error.hint == PASSCODE_HINT
    assert len(iam.grants(PASSCODE)) == 1


def test_a_cache_that_is_not_in_memory_costs_no_passcode(iam: FakeIam, make: Make) -> None:
    location = cos_location(iam, token_cache=Path("/proc/token"))
    with pytest.raises(ConfigurationError, match="must not reach a disk"):
        make(location).bearer()
    assert iam.asked == []


def test_a_cache_that_fills_up_does_not_end_a_run(
    iam: FakeIam, make: Make, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = make(token_cache=cache)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("syncer.stores.cos.cache.TokenCache.write", full)
    with capture_logs() as logs:
        assert iam.is_valid(login.bearer())
    assert [entry["event"] for entry in logs] == ["login_accepted", "token_cache_failed"]


def wait_until(happened: Callable[[], bool]) -> None:
    """Wait for another thread to get somewhere; the test's own time limit bounds it."""
    pause = threading.Event()
    while not happened():
        pause.wait(0.002)
