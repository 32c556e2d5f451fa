"""The proxy that the tables of reliability are made with: a fault that does not happen would prove anything."""

import http.client
from collections.abc import Iterator

import pytest

from tests.support.fault_proxy import FaultProxy
from tests.support.http_faults import FAULTS
from tests.support.scripted_server import Heard, ScriptedServer, reply

BODY = b"0123456789"


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    def script(heard: Heard) -> None:
        heard.body()
        heard.say(reply(206, BODY, content_range="bytes 10-19/40", content_type="text/plain"))

    with ScriptedServer(script) as server, FaultProxy("127.0.0.1", server.port) as between:
        yield between


def ask(proxy: FaultProxy, method: str = "GET", target: str = "/a", body: bytes | None = None) -> tuple[int, bytes]:
    client = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=20)
    try:
        client.request(method, target, body=body, headers={"Authorization": "Bearer canary"})
        with client.getresponse() as answer:
            return answer.status, answer.read()
    finally:
        client.close()


def test_everything_else_passes_unchanged(proxy: FaultProxy) -> None:
    proxy.inject(FAULTS["500"].act, r"^GET /b$")
    assert ask(proxy) == (206, BODY)
    assert [str(seen) for seen in proxy.requests] == ["GET /a"]
    assert proxy.hits == 0


@pytest.mark.parametrize(("for_ever", "statuses"), [(False, [206, 500, 206]), (True, [206, 500, 500])])
def test_the_nth_request_is_hit_and_perhaps_all_after_it(
    proxy: FaultProxy, for_ever: bool, statuses: list[int]
) -> None:
    proxy.inject(FAULTS["500"].act, r"^PUT", at=2, for_ever=for_ever)
    assert [ask(proxy, "PUT", body=b"data")[0] for _ in range(3)] == statuses
    proxy.heal()
    assert ask(proxy, "PUT", body=b"data")[0] == 206


@pytest.mark.parametrize(
    "name",
    [
        "reset before the answer",
        "reset in the middle of the answer",
        "half-open: the end of the stream instead of an answer",
        "the answer ends before its length",
        "garbage instead of HTTP",
        "a header of 100 MB",
        "100 MB of headers",
    ],
)
def test_what_breaks_an_answer_off_breaks_it_off(proxy: FaultProxy, name: str) -> None:
    proxy.inject(FAULTS[name].act, "^GET")
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(proxy)
    assert proxy.hits == 1


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("a shorter answer, which says so", (206, BODY[:5])),
        ("a longer answer, which says so", (206, BODY + b"more")),
        ("a flipped bit in the answer", (206, b"0123446789")),
        ("200 with the whole file instead of a range", (200, BODY + bytes(30))),
        ("an answer byte by byte", (206, BODY)),
        ("an answer nobody asked for behind the right one", (206, BODY)),
    ],
)
def test_what_changes_an_answer_changes_it(proxy: FaultProxy, name: str, answer: tuple[int, bytes]) -> None:
    proxy.inject(FAULTS[name].act, "^GET")
    assert ask(proxy) == answer


@pytest.mark.parametrize("name", ["done, but the answer is lost", "reset before the answer"])
def test_a_lost_answer_is_not_a_lost_request(name: str) -> None:
    done = []

    def script(heard: Heard) -> None:
        done.append(heard.body())
        heard.say(reply(200))

    with ScriptedServer(script) as server, FaultProxy("127.0.0.1", server.port) as proxy:
        proxy.inject(FAULTS[name].act, "^PUT")
        with pytest.raises((OSError, http.client.HTTPException)):
            ask(proxy, "PUT", body=b"data")
        assert done == ([b"data"] if name.startswith("done") else [])


def test_who_follows_a_redirect_is_seen(proxy: FaultProxy) -> None:
    proxy.inject(FAULTS["307 to another host"].act, "^GET")
    assert ask(proxy)[0] == 307
    assert proxy.strangers == []
    elsewhere = http.client.HTTPConnection(proxy.other_host.partition("//")[2], timeout=20)
    elsewhere.request("GET", "/a", headers={"Authorization": "Bearer canary"})
    with elsewhere.getresponse() as answer:
        assert answer.status == 404
    elsewhere.close()
    assert b"Bearer canary" in proxy.strangers[0]
