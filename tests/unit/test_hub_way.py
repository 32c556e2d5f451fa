"""The way to the Hub: whom the library asks, who waits, and what an answer must be."""

import json
import logging
from collections.abc import Iterator
from contextlib import closing
from itertools import count

import pytest
from huggingface_hub import close_session, constants, get_session
from pydantic import SecretStr

from syncer.errors import (
    EndpointUnreachable,
    SourceMissing,
    SyncerError,
    Transient,
)
from syncer.retry import Patience
from syncer.settings.locations import HuggingFaceLocation, Network
from syncer.stores.huggingface import HuggingFaceSource
from syncer.stores.huggingface.carrier import Ahead
from syncer.stores.huggingface.hub import Hub
from tests.support import few_threads
from tests.support.buckets import free_port
from tests.support.fake_hub import FakeHub, Fault
from tests.support.fake_hub_sources import FILES, TOKEN, close_all, opened, source_of
from tests.support.scripted_server import Heard, ScriptedServer, reply


@pytest.fixture(autouse=True)
def all_closed() -> Iterator[None]:
    yield
    close_all()


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub(page_size=2) as hub:
        hub.tokens.add(TOKEN)
        yield hub


def test_the_library_asks_nobody_else_and_nothing_of_the_environment(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.create("team/model").commit(FILES)
    dead = f"http://127.0.0.1:{free_port()}"
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HF_ENDPOINT"):
        monkeypatch.setenv(name, dead)
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    monkeypatch.setattr(constants, "ENDPOINT", dead)
    monkeypatch.setattr("huggingface_hub.utils._headers.get_token", lambda: pytest.fail("it looked for a token"))
    source_of(hub).listing()
    assert {seen.path.rpartition("/")[0] for seen in hub.seen} == {"/api/models/team", "/api/models/team/model/tree"}
    for seen in hub.seen:
        assert not seen.authorized
        assert seen.headers["user-agent"].startswith("model-syncer/")
        assert seen.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(("revision", "asked"), [("", ""), ("refs/pr/1", "/revision/refs/pr/1")])
def test_what_is_asked_ahead_of_the_library_is_not_asked_again(hub: FakeHub, revision: str, asked: str) -> None:
    hub.create("team/model").commit(FILES, branch=revision or "main")
    source_of(hub, revision=revision).listing()
    paths = [seen.path for seen in hub.seen if "/tree/" not in seen.path]
    assert paths == [f"/api/models/team/model{asked}"]


def test_what_failed_ahead_of_the_library_is_tried_again(hub: FakeHub) -> None:
    hub.create("team/model").commit(FILES)
    hub.fail(Fault("status", "/api/models/", status=503))
    ticks = count()
    patience = Patience(seconds=10.0, clock=lambda: float(next(ticks)), sleep=lambda _pause: None)
    source = opened(HuggingFaceLocation("team/model", endpoint=hub.endpoint), patience=patience)
    assert source.listing().files.keys() == FILES.keys()
    assert [seen.path for seen in hub.seen if "/tree/" not in seen.path] == ["/api/models/team/model"] * 2


def test_an_answer_ahead_is_handed_over_once_and_to_its_own_question(hub: FakeHub) -> None:
    hub.create("team/model").commit(FILES)
    with closing(Hub(HuggingFaceLocation("team/model", endpoint=hub.endpoint), Network())) as asked:
        url = f"{hub.endpoint}/api/models/team/model"
        ahead = Ahead(asked, url)
        assert ahead.take(f"{url}/revision/main") is None
        answer = ahead.take(url)
        assert answer is not None
        assert json.loads(answer.content)["id"] == "team/model"
        assert ahead.take(url) is None


def test_the_library_asks_by_itself_where_there_is_no_thread_for_it(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.create("team/model").commit(FILES)
    refused = few_threads.none_called(monkeypatch, "first request")
    assert source_of(hub).listing().files.keys() == FILES.keys()
    assert refused == ["first request"]


def test_the_library_has_its_own_way_again_behind_a_listing(hub: FakeHub) -> None:
    hub.create("team/model").commit(FILES)
    telemetry = constants.HF_HUB_DISABLE_TELEMETRY
    source = source_of(hub)
    source.listing()
    source.close()
    assert telemetry == constants.HF_HUB_DISABLE_TELEMETRY
    assert get_session().get(f"{hub.endpoint}/api/models/team/model").json()["id"] == "team/model"
    close_session()
    assert "model-syncer" not in hub.seen[-1].headers["user-agent"]


def test_the_next_page_at_another_host_is_asked_without_the_token(hub: FakeHub) -> None:
    with ScriptedServer(lambda heard: heard.say(reply(200, b"[]"))) as other:

        def mirror(heard: Heard) -> None:
            if "/tree/" in heard.target:
                entry = b'[{"type": "file", "path": "a", "oid": "%s", "size": 1}]' % (b"b" * 40)
                heard.say(reply(200, entry, link=f'<{other.url}/more>; rel="next"'))
            else:
                heard.say(reply(200, b'{"id": "team/model", "sha": "%s"}' % (b"c" * 40)))

        with ScriptedServer(mirror) as server:
            location = HuggingFaceLocation(
                "team/model", endpoint=server.url, token=SecretStr(TOKEN), plaintext_tokens=True
            )
            source = opened(location)
            assert set(source.listing().files) == {"a"}
        assert all("authorization" in heard.headers for heard in server.heard)
        assert ["authorization" in heard.headers for heard in other.heard] == [False]


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({"Retry-After": "17"}, 17.0),
        ({"RateLimit": '"api";r=0;t=55', "Retry-After": "1"}, 55.0),
        ({"RateLimit": '"api";r=12;t=55'}, None),
        ({}, None),
    ],
)
def test_a_rate_limit_is_ours_to_wait_for(hub: FakeHub, headers: dict[str, str], pause: float | None) -> None:
    hub.create("team/model").commit(FILES)
    hub.fail(Fault("status", "/tree/", status=429, headers=headers))
    source = source_of(hub)
    with pytest.raises(Transient) as caught:
        source.listing()
    assert caught.value.retry_after == pause
    assert source.listing().files


def test_a_pause_that_was_asked_for_is_kept_on_the_clock(hub: FakeHub) -> None:
    hub.create("team/model").commit(FILES)
    hub.fail(Fault("status", "/tree/", times=2, status=429, headers={"Retry-After": "40"}))
    pauses: list[float] = []
    patience = Patience(seconds=100.0, clock=lambda: sum(pauses), sleep=pauses.append)
    location = HuggingFaceLocation("team/model", endpoint=hub.endpoint)
    assert opened(location, patience=patience).listing().files
    assert pauses == [40.0, 40.0]


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_hub_that_is_down_is_passing(hub: FakeHub, status: int) -> None:
    hub.create("team/model").commit(FILES)
    hub.fail(Fault("status", "/api/models/", status=status))
    with pytest.raises(Transient):
        source_of(hub).listing()


def test_nobody_there_is_unreachable_and_names_the_variable() -> None:
    location = HuggingFaceLocation("team/model", endpoint=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(EndpointUnreachable) as caught:
        opened(location).listing()
    assert "HF_ENDPOINT" in caught.value.hint


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b"{}", b'{"id": "team/model"}', b'{"id": "a/b", "sha": "../x"}'])
def test_an_answer_that_is_none_of_a_hub_says_so(answer: bytes) -> None:
    with ScriptedServer(lambda heard: heard.say(reply(200, answer))) as server:
        source = opened(HuggingFaceLocation("team/model", endpoint=server.url))
        with pytest.raises(Transient, match="makes no sense") as caught:
            source.listing()
    assert "HF_ENDPOINT" in caught.value.hint


def test_a_mirror_that_always_has_the_same_page_is_given_up() -> None:
    tree = b'[{"type": "file", "path": "a", "size": 0, "oid": "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"}]'

    def say(heard: Heard) -> None:
        if "/tree/" in heard.target:
            heard.say(reply(200, tree, link=f'<{server.url}/api/models/team/model/tree/x?cursor=2>; rel="next"'))
        else:
            heard.say(reply(200, b'{"id": "team/model", "sha": "%s"}' % (b"0" * 40)))

    with ScriptedServer(say) as server:
        source = opened(HuggingFaceLocation("team/model", endpoint=server.url))
        with pytest.raises(Transient, match="makes no sense"):
            source.listing()
    assert len(server.heard) == 3


@pytest.mark.parametrize(("location", "why"), [("/api/models/team/model", "redirects"), ("//[x", "nowhere")])
def test_a_redirect_that_leads_nowhere_is_given_up_at_once(location: str, why: str) -> None:
    with ScriptedServer(lambda heard: heard.say(reply(307, location=location))) as server:
        source = opened(HuggingFaceLocation("team/model", endpoint=server.url))
        with pytest.raises(Transient, match=why):
            source.listing()
    assert len(server.heard) <= 6


@pytest.mark.parametrize(("code", "kind"), [("", Transient), ("RevisionNotFound", SourceMissing)])
def test_a_redirect_to_what_is_no_hub_does_not_say_that_a_model_is_missing(code: str, kind: type[SyncerError]) -> None:
    with ScriptedServer(lambda heard: heard.say(reply(404, x_error_code=code))) as elsewhere:
        away = reply(307, location=elsewhere.url.replace("localhost", "127.0.0.1") + "/x")
        with ScriptedServer(lambda heard: heard.say(away)) as server, pytest.raises(kind) as caught:
            opened(HuggingFaceLocation("team/model", endpoint=server.url)).listing()
    assert caught.value.hint


def test_no_sign_of_the_token_in_what_the_library_logs(hub: FakeHub, caplog: pytest.LogCaptureFixture) -> None:
    hub.create("team/model").commit(FILES)
    with caplog.at_level(logging.DEBUG):
        source = source_of(hub, token=TOKEN)
        source.listing()
        with pytest.raises(SourceMissing):
            source_of(hub, "team/nobody", token=TOKEN).listing()
    assert caplog.records
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(source)


def test_an_interrupt_ends_a_listing_that_waits(hub: FakeHub) -> None:
    with ScriptedServer(lambda _: HuggingFaceSource.interrupt(waiting)) as server:
        waiting = opened(HuggingFaceLocation("team/model", endpoint=server.url))
        with pytest.raises(Transient):
            waiting.listing()


def test_a_stop_ends_the_pause_between_two_requests(hub: FakeHub) -> None:
    hub.create("team/model").commit(FILES)
    hub.fail(Fault("status", "/api/models/", times=-1, status=503))
    asked = count()

    def clock() -> float:
        if next(asked) == 1:  # after the first refusal, before the pause
            source.interrupt()
        return 0.0

    patience = Patience(seconds=3600.0, first_pause=3600.0, longest_pause=3600.0, clock=clock)
    source = opened(HuggingFaceLocation("team/model", endpoint=hub.endpoint), patience=patience)
    with pytest.raises(Transient):
        source.listing()
