"""What IAM's answers mean, and what never gets out of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from syncer import redaction
from syncer.errors import ConfigurationError, CredentialsRefused, SyncerError, Transient
from syncer.settings.locations import Network
from syncer.stores.cos.iam import Iam, Tokens
from tests.support.cos_places import cos_location, own_redactor
from tests.support.fake_iam import FakeIam, Reply, error
from tests.support.scripted_server import Heard, ScriptedServer, reply

PASSCODE = "pAsScOdE-canary-1"
GRANTS: dict[str, Callable[[Iam], Tokens]] = {
    "passcode": lambda iam: iam.by_passcode(PASSCODE),
    "api key": lambda iam: iam.by_api_key("key-canary-2"),
    "refresh token": lambda iam: iam.by_refresh_token("refresh-canary-3"),
}
EVERY_GRANT = pytest.mark.parametrize("grant", GRANTS.values(), ids=GRANTS)
REPEATABLE = pytest.mark.parametrize("grant", [GRANTS["api key"], GRANTS["refresh token"]])


@pytest.fixture
def fake() -> Iterator[FakeIam]:
    with own_redactor(), FakeIam() as server:
        yield server


@pytest.fixture
def iam(fake: FakeIam) -> Iterator[Iam]:
    client = Iam(cos_location(fake, passcode=PASSCODE), Network())
    yield client
    client.close()


def failure(grant: Callable[[Iam], Tokens], iam: Iam) -> SyncerError:
    with pytest.raises(SyncerError) as caught:
        grant(iam)
    return caught.value


@EVERY_GRANT
def test_the_request_is_ibms(grant: Callable[[Iam], Tokens]) -> None:
    said = {"access_token": "access-canary", "refresh_token": "not_supported", "expires_in": 1200}
    with own_redactor(), ExitStack() as opened:
        answer = reply(200, json.dumps(said).encode())
        server = opened.enter_context(ScriptedServer(lambda heard: heard.say(answer)))
        with FakeIam() as other:
            location = replace(cos_location(other), iam_endpoint=f"{server.url}/")
        client = Iam(location, Network())
        opened.callback(client.close)
        assert grant(client) == Tokens("access-canary", "", 1200.0)
        (heard,) = server.heard
        assert (heard.method, heard.target) == ("POST", "/identity/token")
        assert heard.headers["content-type"] == "application/x-www-form-urlencoded"
        assert heard.headers["accept"] == "application/json"
        named = heard.headers.get("authorization", "")
        assert named == ("" if grant is GRANTS["api key"] else "Basic Yng6Yng=")


@EVERY_GRANT
@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refusal_is_final_with_ibms_code(
    fake: FakeIam, iam: Iam, grant: Callable[[Iam], Tokens], status: int
) -> None:
    fake.next_replies.append(error("BXNIM0439E", "Session is\n not active", status=status))
    refused = failure(grant, iam)
    assert isinstance(refused, CredentialsRefused)
    assert "(BXNIM0439E: Session is not active)" in refused.message
    assert "S3_SYNC_COS_" in refused.hint


@EVERY_GRANT
def test_a_refusal_without_a_code_is_perhaps_not_ibms(fake: FakeIam, iam: Iam, grant: Callable[[Iam], Tokens]) -> None:
    fake.next_replies.append(Reply(403))
    refused = failure(grant, iam)
    assert isinstance(refused, CredentialsRefused)
    assert "HTTP 403" in refused.message
    assert "S3_SYNC_COS_IAM_ENDPOINT" in refused.hint


@EVERY_GRANT
def test_somebody_who_sends_us_elsewhere_is_not_followed(
    fake: FakeIam, iam: Iam, grant: Callable[[Iam], Tokens]
) -> None:
    fake.next_replies.append(Reply(307, headers={"Location": "http://elsewhere.invalid/identity/token"}))
    assert isinstance(failure(grant, iam), ConfigurationError)
    assert len(fake.asked) == 1


NO_TOKENS: list[object] = ["", None, 7, ["a"], "line\nbreak", "with space", "f\u00fcnf"]


@REPEATABLE
@pytest.mark.parametrize("token", NO_TOKENS)
def test_what_can_be_no_token_is_none(fake: FakeIam, iam: Iam, grant: Callable[[Iam], Tokens], token: object) -> None:
    fake.next_replies.append(Reply(200, {"access_token": token}))
    assert isinstance(failure(grant, iam), Transient)
    fake.next_replies.append(Reply(200, {"access_token": "access", "refresh_token": token}))
    assert grant(iam).refresh == ""


def test_an_answer_that_nobody_can_read_is_none(fake: FakeIam) -> None:
    deep = reply(200, b"[" * 200_000)
    with ScriptedServer(lambda heard: heard.say(deep)) as server:
        client = Iam(replace(cos_location(fake), iam_endpoint=server.url), Network())
        assert isinstance(failure(GRANTS["api key"], client), Transient)
        client.close()


@REPEATABLE
@pytest.mark.parametrize("said", [Reply(500), Reply(408), Reply(200), Reply(200, {"access_token": ""})])
def test_what_spends_nothing_may_be_asked_again(
    fake: FakeIam, iam: Iam, grant: Callable[[Iam], Tokens], said: Reply
) -> None:
    fake.next_replies.append(said)
    assert isinstance(failure(grant, iam), Transient)


@pytest.mark.parametrize("said", [Reply(500), Reply(408), Reply(200), Reply(200, {"access_token": ""})])
def test_a_passcode_is_spent_by_all_but_a_clear_no(fake: FakeIam, iam: Iam, said: Reply) -> None:
    fake.next_replies.append(said)
    lost = failure(GRANTS["passcode"], iam)
    assert isinstance(lost, CredentialsRefused)
    assert "may be spent" in lost.message


def test_ibms_words_are_cut_short_and_hold_no_secret(fake: FakeIam, iam: Iam) -> None:
    fake.next_replies.append(error("BXNIM0602E", f"Passcode {PASSCODE} is wrong" + " and so on" * 90))
    refused = failure(GRANTS["passcode"], iam)
    assert PASSCODE not in refused.message + repr(refused)
    assert "BXNIM0602E: Passcode ***" in refused.message
    assert len(refused.message) < 400


def test_tokens_are_hidden_from_the_moment_they_are_known(fake: FakeIam, iam: Iam) -> None:
    fake.next_replies.append(Reply(200, {"access_token": "access-canary-4", "refresh_token": "refresh-canary-5"}))
    tokens = iam.by_passcode(PASSCODE)
    assert redaction.redact("access-canary-4 refresh-canary-5 " + PASSCODE) == "*** *** ***"
    assert "canary" not in repr(tokens)


@pytest.mark.parametrize("life", [None, "soon", -1, True, 0, 10**400, float("inf"), float("nan")])
def test_a_life_that_nobody_tells_is_the_usual_one(fake: FakeIam, iam: Iam, life: object) -> None:
    fake.next_replies.append(Reply(200, {"access_token": "access", "expires_in": life}))
    assert iam.by_passcode(PASSCODE).seconds == 3600


@pytest.mark.parametrize("url", ["iam.cloud.ibm.com", "ftp://iam", "https://"])
def test_an_endpoint_that_is_no_url_is_a_mistake(fake: FakeIam, url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Iam(replace(cos_location(fake), iam_endpoint=url), Network())
    assert "S3_SYNC_COS_IAM_ENDPOINT" in caught.value.hint


def test_an_answer_that_never_ends_is_no_answer(fake: FakeIam) -> None:
    def script(heard: Heard) -> None:
        heard.body()
        heard.say(reply(200, b"{" + b" " * (2 << 20)))

    with ScriptedServer(script) as server:
        client = Iam(replace(cos_location(fake), iam_endpoint=server.url), Network())
        assert isinstance(failure(GRANTS["passcode"], client), CredentialsRefused)
        assert len(server.heard) == 1
        client.close()
