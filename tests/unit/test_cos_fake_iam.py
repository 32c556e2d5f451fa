"""What the other tests log in to, proved by IBM's own client and by the protocol's own words."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from ibm_cloud_sdk_core import ApiException, IAMTokenManager  # type: ignore[import-untyped]  # it ships no types

from tests.support.fake_iam import API_KEY, COMMAND_LINE, HOUR, PASSCODE, REFRESH, TOO_MANY, FakeIam, HandClock


@pytest.fixture
def iam() -> Iterator[FakeIam]:
    with FakeIam() as server:
        yield server


def post(iam: FakeIam, authorization: str = COMMAND_LINE, **form: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(iam.url.removeprefix("http://"))
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": authorization}
    connection.request("POST", "/identity/token", body=urlencode(form), headers=headers)
    answer = connection.getresponse()
    document = json.loads(answer.read())
    connection.close()
    return answer.status, document


def log_in(iam: FakeIam, passcode: str) -> tuple[int, dict[str, Any]]:
    return post(iam, grant_type=PASSCODE, passcode=passcode, response_type="cloud_iam")


def test_ibms_own_client_logs_in_with_an_api_key(iam: FakeIam) -> None:
    manager = IAMTokenManager(iam.new_api_key(), url=iam.url)
    assert iam.is_valid(manager.get_token())
    assert manager.refresh_token == "not_supported"
    assert iam.asked[0].grant == API_KEY


def test_ibms_own_client_gets_a_refresh_token_when_it_gives_a_name(iam: FakeIam) -> None:
    manager = IAMTokenManager(iam.new_api_key(), url=iam.url, client_id="bx", client_secret="bx")
    assert iam.is_valid(manager.get_token())
    status, renewed = post(iam, grant_type=REFRESH, refresh_token=manager.refresh_token)
    assert status == 200
    assert iam.is_valid(renewed["access_token"])


def test_ibms_own_client_understands_the_errors(iam: FakeIam) -> None:
    with pytest.raises(ApiException) as caught:
        IAMTokenManager("no such key", url=iam.url).get_token()
    assert (caught.value.status_code, caught.value.message) == (400, "Provided API key could not be found.")
    iam.next_replies.append(TOO_MANY)
    with pytest.raises(ApiException) as caught:
        IAMTokenManager(iam.new_api_key(), url=iam.url).get_token()
    assert caught.value.status_code == 429
    assert caught.value.http_response.headers["Retry-After"] == "7"


def test_a_passcode_works_once_and_for_five_minutes() -> None:
    clock = HandClock()
    with FakeIam(clock) as iam:
        first, second = iam.new_passcode(), iam.new_passcode()
        assert log_in(iam, first)[0] == 200
        assert log_in(iam, first)[1]["errorCode"] == "BXNIM0602E"
        clock.advance(300)
        assert log_in(iam, second)[0] == 400


def test_tokens_and_sessions_end_on_the_clock() -> None:
    clock = HandClock()
    with FakeIam(clock) as iam:
        _, said = log_in(iam, iam.new_passcode())
        claims = json.loads(base64.urlsafe_b64decode(said["access_token"].split(".")[1] + "=="))
        assert claims["exp"] - claims["iat"] == said["expires_in"] == HOUR
        assert said["expiration"] == clock() + HOUR
        assert iam.is_valid(said["access_token"])
        clock.advance(HOUR)
        assert not iam.is_valid(said["access_token"])
        assert post(iam, grant_type=REFRESH, refresh_token=said["refresh_token"])[0] == 200
        clock.advance(71 * HOUR)
        assert post(iam, grant_type=REFRESH, refresh_token=said["refresh_token"])[1]["errorCode"] == "BXNIM0408E"


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({}, "BXNIM0109E"),
        ({"grant_type": PASSCODE, "response_type": "cloud_iam"}, "BXNIM0109E"),
        ({"grant_type": PASSCODE, "passcode": "x"}, "BXNIM0106E"),
        ({"grant_type": API_KEY, "apikey": "x", "response_type": "cloud_iam"}, "BXNIM0415E"),
        ({"grant_type": REFRESH, "refresh_token": "x"}, "BXNIM0407E"),
    ],
)
def test_what_is_wrong_is_said_in_ibms_words(iam: FakeIam, form: dict[str, str], code: str) -> None:
    assert post(iam, **form)[1]["errorCode"] == code


def test_a_passcode_wants_the_command_lines_name(iam: FakeIam) -> None:
    passcode = iam.new_passcode()
    assert post(iam, "", grant_type=PASSCODE, passcode=passcode, response_type="cloud_iam")[0] == 400
    assert log_in(iam, passcode)[0] == 200
