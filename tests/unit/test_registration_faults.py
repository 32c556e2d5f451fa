"""The registry when something goes wrong: faults at every request, races, and others at its address."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from syncer.errors import ConfigurationError, CredentialsRefused, EndpointUnreachable, SyncerError, Transient
from syncer.registration import Registration
from syncer.registration.card import Card
from syncer.settings.locations import Network
from tests.support import fake_registry
from tests.support.captured import capture_logs
from tests.support.fake_registry import FakeRegistry, Reply
from tests.support.registrations import MODEL, Make, registrations

Lines = list[Any]


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as server:
        yield server


@pytest.fixture
def log_lines() -> Iterator[Lines]:
    with capture_logs() as lines:
        yield lines


@pytest.fixture
def make(registry: FakeRegistry) -> Iterator[Make]:
    with registrations(registry.url) as maker:
        yield maker


FAULTS = {
    "broken": fake_registry.DATABASE_AWAY,
    "lost": fake_registry.LOST,
    "routed to nobody": Reply(404, page="<html>no route</html>"),
    "a page": Reply(200, page="<html>Please accept our terms</html>"),
    "an error that says 200": Reply(200, {"code": "500", "message": "no"}),
}
NOT_AT_FIRST = {"routed to nobody", "a page"}
"""What as a first answer is what no registry looks like."""


@pytest.mark.parametrize("fault", FAULTS)
def test_every_request_may_fail_once_and_all_is_as_without(make: Make, fault: str) -> None:
    """One fault at the first request of a run, then at its second and so on, until a run has no further one."""
    number = 1 if fault in NOT_AT_FIRST else 0
    while True:
        number += 1
        with FakeRegistry() as registry:
            registry.before = nth(number, FAULTS[fault])
            registration = make(registry.url, tries=True)
            registration.check()
            registration.begin()
            registration.complete(MODEL)
            assert [len(entries) for entries in registry.entries.values()] == [1, 1, 1]
            assert (registry.artifact["state"], registry.artifact["uri"]) == ("LIVE", MODEL.uri)
            assert registry.text("revision") == "c0ffee"
            if len(registry.asked) < number:
                break
    assert number > 10


def nth(number: int, reply: Reply) -> Callable[[str, str], Reply | None]:
    asked = iter(range(1, 1000))
    return lambda _method, _path: reply if next(asked) == number else None


def test_a_router_without_a_registry_says_nothing_of_what_there_is(registry: FakeRegistry, make: Make) -> None:
    """Its 404 is none of the registry's: nothing is created because of it."""
    registration = make()
    registration.check()
    registry.before = lambda _method, _path: FAULTS["routed to nobody"]
    with pytest.raises(Transient, match="cannot read registered_model now"):
        registration.begin()
    assert {asked.method for asked in registry.asked} == {"GET"}


def test_a_change_that_something_else_has_answered_is_no_change(registry: FakeRegistry, make: Make) -> None:
    """A run ended well, and its artifact stayed pending."""
    registration = make()
    registration.check()
    registration.begin()
    registry.before = lambda method, _: FAULTS["an error that says 200"] if method == "PATCH" else None
    with pytest.raises(Transient, match="something else than an entry") as caught:
        registration.complete(MODEL)
    assert caught.value.hint
    assert registry.artifact["state"] == "PENDING"


def test_what_creates_goes_out_once(make: Make, registry: FakeRegistry) -> None:
    """Also over a connection that was used before, whose end tells nothing of what the registry has done."""
    registration = make(registry.url, tries=True)
    registration.check()
    registry.before = lambda method, _: fake_registry.LOST if method == "POST" else None
    registration.begin()
    assert len([asked for asked in registry.asked if asked.method == "POST"]) == 3
    assert [len(entries) for entries in registry.entries.values()] == [1, 1, 1]


def test_many_runs_at_once_make_one_of_everything(registry: FakeRegistry, make: Make) -> None:
    ids: list[dict[str, str]] = []

    def run(registration: Registration) -> None:
        registration.begin()
        ids.append(registration.complete(MODEL))

    threads = [threading.Thread(target=run, args=(make(tries=True),)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ids == [ids[0]] * len(threads)
    assert [len(entries) for entries in registry.entries.values()] == [1, 1, 1]
    assert registry.artifact["state"] == "LIVE"


def test_live_is_the_last_that_is_written(registry: FakeRegistry, make: Make) -> None:
    """Who sees it live finds everything; and what the registry refuses to take leaves nothing live behind."""
    registration = make()
    registration.begin()

    def refuse(method: str, path: str) -> Reply | None:
        refused = method == "PATCH" and path.startswith("model_versions")
        return fake_registry.error(400, "a property is too long") if refused else None

    registry.before = refuse
    with pytest.raises(ConfigurationError, match="a property is too long"):
        registration.complete(MODEL)
    registration.abandon()
    assert registry.artifact["state"] == "ABANDONED"
    assert "uri" not in registry.artifact


def test_the_third_run_changes_nothing_whatever_the_card_says(registry: FakeRegistry, make: Make) -> None:
    card = Card(license="mit", tags=("a", "Größe"), description="Words.", language="no")
    model = replace(MODEL, card=card, recipe="W4A16", uris=(MODEL.uri, "oci://q/r@sha256:00"))
    for _ in range(2):
        registration = make(author="me", storage_key="k")
        registration.begin()
        registration.complete(model)
    registry.asked.clear()
    third = make(author="me", storage_key="k")
    third.check()
    third.begin()
    third.complete(model)
    assert registry.written == []


def test_the_only_change_is_the_only_thing_written(registry: FakeRegistry, make: Make, log_lines: Lines) -> None:
    make().complete(MODEL)
    registry.asked.clear()
    make().complete(replace(MODEL, manifest="sha256:4567"))
    assert registry.written == [f"PATCH model_versions/{registry.version['id']}"]
    (said,) = [line for line in log_lines if line["event"] == "registration_changed"]
    assert said["manifest"] == "sha256:0123 -> sha256:4567"
    assert "uri" not in said


def test_a_change_that_takes_two_attempts_is_said_once_and_whole(
    registry: FakeRegistry, make: Make, log_lines: Lines
) -> None:
    make().complete(MODEL)
    other = replace(MODEL, source="s3://elsewhere/", uri="oci://q/r@sha256:00")
    lost: list[str] = []

    def lose(method: str, path: str) -> Reply | None:
        if method == "PATCH" and path.startswith("model_versions") and not lost:
            lost.append(path)
            return fake_registry.LOST
        return None

    registry.before = lose
    make(tries=True).complete(other)
    assert lost
    (said,) = [line for line in log_lines if line["event"] == "registration_changed"]
    assert said["source_uri"] == f"{MODEL.source} -> s3://elsewhere/"
    assert said["uri"] == f"{MODEL.uri} -> oci://q/r@sha256:00"
    assert registry.artifact["uri"] == other.uri


def test_one_that_is_finished_while_it_is_taken_back_is_live_again(registry: FakeRegistry, make: Make) -> None:
    slow, quick = make(), make()
    slow.begin()
    raced: list[str] = []

    def finish(method: str, path: str) -> Reply | None:
        if method == "PATCH" and not raced:
            raced.append(path)
            quick.complete(MODEL)
        return None

    registry.before = finish
    slow.abandon()
    assert raced
    assert (registry.artifact["state"], registry.artifact["uri"]) == ("LIVE", MODEL.uri)


def test_a_conflict_in_the_words_of_a_database(registry: FakeRegistry, make: Make) -> None:
    """Some servers answer 500 when an artifact's name is taken: `duplicated key` of gorm, 1062 of MySQL."""
    make().complete(MODEL)
    hidden: list[str] = []

    def hide(method: str, path: str) -> Reply | None:
        if method == "GET" and path.endswith("/artifacts") and not hidden:
            hidden.append(path)
            return Reply(200, {"items": [], "nextPageToken": "", "pageSize": 100, "size": 0})
        return fake_registry.error(500, "Error 1062 (23000): Duplicate entry '2:granite'") if method == "POST" else None

    registry.before = hide
    make().begin()
    assert hidden
    assert len(registry.entries["model_artifacts"]) == 1


def test_what_does_not_exist_is_no_conflict(registry: FakeRegistry, make: Make) -> None:
    registry.before = lambda method, _: fake_registry.error(400, "type does not exist") if method == "POST" else None
    with pytest.raises(ConfigurationError, match="type does not exist"):
        make().begin()


@pytest.mark.parametrize("number", ["", "1/../2", "1?x=y", "1 2"])
def test_ids_that_fit_into_no_path(registry: FakeRegistry, make: Make, number: str) -> None:
    registry.before = lambda _method, path: Reply(200, {"id": number}) if path == "registered_model" else None
    with pytest.raises(ConfigurationError, match="its entries have no ids"):
        make().begin()


GREETING = b"J\0\0\0\x0a8.0.36\0\x08\0\0\0abcdefgh\0caching_sha2_password\0"
HTTP_TO_HTTPS = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"


@pytest.mark.parametrize(
    ("scheme", "first", "words", "hint"),
    [
        ("http", GREETING, "it is a MySQL server", "neither the dashboard nor the database"),
        ("http", b"-ERR unknown command\r\n", "it does not speak HTTP", "MODEL_REGISTRY_URL"),
        ("https", GREETING, "it does not speak TLS", "neither the dashboard nor the database"),
        ("https", b"HTTP/1.1 400 Bad Request\r\n\r\n", "it does not speak TLS", "write http://"),
        ("http", HTTP_TO_HTTPS, "sent an HTTP request to an HTTPS server", "write https://"),
    ],
)
def test_another_service_at_the_address_is_a_mistake_and_no_bad_luck(
    make: Make, scheme: str, first: bytes, words: str, hint: str
) -> None:
    with saying(first) as port, pytest.raises(ConfigurationError) as raised:
        make(f"{scheme}://localhost:{port}", tries=True).check()
    assert words in raised.value.message
    assert hint in raised.value.hint


@contextmanager
def saying(first: bytes) -> Iterator[int]:
    """A server that says `first` to whoever comes, and nothing more."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                peer, _ = listener.accept()
                with peer, suppress(OSError):
                    peer.sendall(first)
                    peer.shutdown(socket.SHUT_WR)
                    while peer.recv(4096):
                        pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("location", "token", "words", "hint"),
    [
        ("https://registry.example.com/x?code=canary", "t", " to https://registry.example.com (", "write https://"),
        ("http://login.example.com/oauth", None, " to http://login.example.com (", "set MODEL_REGISTRY_TOKEN"),
        ("/login", "t", "elsewhere (HTTP 302)", "check MODEL_REGISTRY_URL"),
    ],
)
def test_where_a_redirect_leads(
    registry: FakeRegistry, make: Make, location: str, token: str | None, words: str, hint: str
) -> None:
    registry.before = lambda _method, _path: Reply(302, headers={"Location": location})
    with pytest.raises(ConfigurationError) as raised:
        make(token=SecretStr(token) if token else None).check()
    assert words in raised.value.message
    assert raised.value.hint.startswith(hint)
    assert "canary" not in raised.value.message


def test_what_a_guard_before_the_registry_says_is_told(registry: FakeRegistry, make: Make) -> None:
    page = "Forbidden (user=system:serviceaccount:demo:default, token canary-token)\n"
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    registry.before = lambda _method, _path: Reply(403, page=page, headers=headers)
    with pytest.raises(CredentialsRefused) as raised:
        make(token=SecretStr("canary-token")).check()
    assert "(HTTP 403: Forbidden (user=system:serviceaccount:demo:default, token ***))" in raised.value.message


def test_an_error_that_is_only_a_text(registry: FakeRegistry, make: Make) -> None:
    """So the server answers to what it cannot parse."""
    headers = {"Content-Type": "application/json"}
    registry.before = lambda *_: Reply(400, page='"json: unknown field \\"custom\\""', headers=headers)
    with pytest.raises(ConfigurationError, match='unknown field "custom"'):
        make().check()


@pytest.mark.parametrize(("no_proxy", "told"), [("", True), ("registry.test", False)])
def test_what_a_proxy_answers_may_be_its_own(registry: FakeRegistry, no_proxy: str, told: bool) -> None:
    """The usual mistake: a cluster's proxy is asked for a Service, and NO_PROXY lacks .svc."""
    registry.before = lambda _method, _path: Reply(403, page="<html>Access Denied</html>")
    network = Network(
        proxies={"http": f"http://u:canary@localhost:{registry.url.rpartition(':')[2]}"}, no_proxy=no_proxy
    )
    with registrations("http://registry.test:8080", network) as make, pytest.raises(SyncerError) as raised:
        make(token=SecretStr("t")).check()
    assert ("NO_PROXY" in raised.value.hint) == told
    assert "canary" not in raised.value.hint
    assert isinstance(raised.value, CredentialsRefused if told else EndpointUnreachable)


def test_the_registry_behind_a_proxy(registry: FakeRegistry) -> None:
    network = Network(proxies={"http": f"http://localhost:{registry.url.rpartition(':')[2]}"})
    with registrations("http://registry.test:8080", network) as make:
        registration = make()
        registration.begin()
        registration.complete(MODEL)
    assert registry.artifact["state"] == "LIVE"
