"""The bytes of the Hub: exactly the range that was asked for, from wherever the Hub keeps it."""

import logging
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trustme
from pydantic import SecretStr

from syncer.errors import (
    ConfigurationError,
    CredentialsRefused,
    EndpointUnreachable,
    InternalError,
    SourceMissing,
    Transient,
)
from syncer.manifest import ModelFile
from syncer.retry import Patience
from syncer.settings.locations import HuggingFaceLocation, Network
from syncer.stores.huggingface import HuggingFaceSource
from tests.contract.checks import drain, some_bytes
from tests.support.buckets import free_port
from tests.support.fake_hub import FakeHub, Fault, Generated
from tests.support.scripted_server import Heard, ScriptedServer, reply

TOKEN = "hf_canary_of_the_hub_0123456789"
WEIGHTS = some_bytes(100_000)
NOTE = some_bytes(3000, seed="plain")
MiB = 1024 * 1024


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hub(clock: Clock) -> Iterator[FakeHub]:
    with FakeHub(clock=clock, lifetime=60.0) as hub:
        hub.tokens.add(TOKEN)
        hub.create("team/model").commit({"w/model.safetensors": WEIGHTS, "note, 100%+ü.txt": NOTE})
        yield hub


@pytest.fixture
def source(hub: FakeHub) -> Iterator[HuggingFaceSource]:
    source = HuggingFaceSource(
        HuggingFaceLocation("team/model", endpoint=hub.endpoint, token=SecretStr(TOKEN), plaintext_tokens=True),
        Network(),
        patience=Patience(seconds=0.0),
    )
    source.listing()
    hub.seen.clear()
    yield source
    source.close()


@pytest.fixture
def weights(source: HuggingFaceSource) -> ModelFile:
    return source.listing().files["w/model.safetensors"]


@pytest.fixture
def note(source: HuggingFaceSource) -> ModelFile:
    return source.listing().files["note, 100%+ü.txt"]


def read(source: HuggingFaceSource, file: ModelFile, start: int = 0, length: int = 0) -> bytes:
    length = length or file.size - start
    return drain(source.read(file, start, length), length)


def resolved(hub: FakeHub) -> int:
    return len(hub.requests("hub", "/resolve/"))


def test_what_is_in_lfs_and_what_is_not_have_exactly_their_ranges(
    hub: FakeHub, source: HuggingFaceSource, weights: ModelFile, note: ModelFile
) -> None:
    for cached in (False, True):
        hub.caches_plain = cached
        for file, content in ((weights, WEIGHTS), (note, NOTE)):
            for start, length in ((0, len(content)), (0, 1), (17, 1234), (len(content) - 1, 1)):
                assert read(source, file, start, length) == content[start : start + length]


def test_a_signed_url_is_used_until_it_expires_and_resolved_again_then(
    hub: FakeHub, source: HuggingFaceSource, weights: ModelFile, clock: Clock
) -> None:
    for at in range(0, 50_000, 10_000):
        assert read(source, weights, at, 10_000) == WEIGHTS[at : at + 10_000]
    assert resolved(hub) == 1
    clock.now += 61
    assert read(source, weights, 50_000) == WEIGHTS[50_000:]
    assert resolved(hub) == 2
    assert [seen.headers.get("range") for seen in hub.requests("storage")][-2:] == ["bytes=50000-99999"] * 2


def test_a_url_that_is_refused_twice_counts_and_names_no_signature(
    hub: FakeHub, source: HuggingFaceSource, weights: ModelFile
) -> None:
    hub.lifetime = -1.0
    with pytest.raises(Transient) as caught:
        read(source, weights, 5, 10)
    assert resolved(hub) == 2
    told = f"{caught.value} {caught.value.hint}"
    assert hub.storage in told
    assert "HTTP 403" in told
    assert "Signature" not in told
    assert weights.version not in told
    hub.lifetime = 60.0
    assert read(source, weights, 5, 10) == WEIGHTS[5:15]


def test_a_storage_that_is_gone_is_asked_for_again(hub: FakeHub, source: HuggingFaceSource, weights: ModelFile) -> None:
    there = hub.storage
    hub.advertised_storage = f"http://localhost:{free_port()}"
    for _ in range(2):
        with pytest.raises(EndpointUnreachable):
            source.read(weights, 0, 10)
    hub.advertised_storage = there
    assert read(source, weights, 0, 10) == WEIGHTS[:10]
    source._ranges._keep(weights, f"http://localhost:{free_port()}/gone")
    with pytest.raises(EndpointUnreachable):
        source.read(weights, 0, 10)
    assert read(source, weights, 0, 10) == WEIGHTS[:10]


def test_many_threads_outlast_an_expiry(
    hub: FakeHub, source: HuggingFaceSource, weights: ModelFile, clock: Clock
) -> None:
    def part(at: int) -> bytes:
        if at == 40_000:
            clock.now += 61
        return read(source, weights, at, 1000)

    with ThreadPoolExecutor(8) as pool:
        assert b"".join(pool.map(part, range(0, 100_000, 1000))) == WEIGHTS


def test_the_token_goes_to_the_hub_and_never_to_another_host(
    hub: FakeHub, source: HuggingFaceSource, weights: ModelFile, note: ModelFile, clock: Clock
) -> None:
    hub.caches_plain = True
    read(source, note)
    for start in (0, 100):
        read(source, weights, start)
        clock.now += 61
    assert len(hub.requests("storage")) == 3
    assert not any(TOKEN in str(seen.headers) for seen in hub.requests("storage"))
    assert all(seen.headers["authorization"] == f"Bearer {TOKEN}" for seen in hub.requests("hub"))
    assert hub.requests("hub", "/api/resolve-cache/")


def test_no_signature_and_no_token_is_logged(
    hub: FakeHub, source: HuggingFaceSource, weights: ModelFile, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        read(source, weights)
    for secret in (TOKEN, "X-Amz-Signature", weights.version):
        assert secret not in caplog.text


@pytest.mark.parametrize("name", ["weights", "note"])
def test_a_body_that_ends_early_is_passing(
    hub: FakeHub, source: HuggingFaceSource, name: str, request: pytest.FixtureRequest
) -> None:
    file = request.getfixturevalue(name)
    hub.fail(Fault("short", "", at=1234, host="storage" if name == "weights" else "hub"))
    with pytest.raises(Transient):
        read(source, file, 1)
    assert len(read(source, file, 1)) == file.size - 1


def test_another_range_than_the_one_asked_for_is_not_taken(
    hub: FakeHub, source: HuggingFaceSource, weights: ModelFile
) -> None:
    hub.fail(Fault("wrong_range", "", host="storage"))
    with pytest.raises(Transient, match="bytes 10-29 were asked for"):
        source.read(weights, 10, 20)
    assert read(source, weights, 10, 20) == WEIGHTS[10:30]


def test_bytes_that_are_not_there_yet_are_passing(hub: FakeHub, source: HuggingFaceSource, weights: ModelFile) -> None:
    hub.fail(Fault("status", "", host="storage", status=416))
    with pytest.raises(Transient, match="has no bytes"):
        source.read(weights, 10, 20)
    assert read(source, weights, 10, 20) == WEIGHTS[10:30]


@pytest.mark.parametrize("host", ["hub", "storage"])
def test_a_rate_limit_says_how_long(hub: FakeHub, source: HuggingFaceSource, weights: ModelFile, host: str) -> None:
    hub.fail(Fault("status", "", host=host, status=429, headers={"Retry-After": "23"}))
    with pytest.raises(Transient) as caught:
        source.read(weights, 0, 10)
    assert caught.value.retry_after == 23.0


def test_a_server_without_ranges_serves_small_files_alone(
    hub: FakeHub, source: HuggingFaceSource, note: ModelFile
) -> None:
    hub.serves_ranges = False
    assert read(source, note) == NOTE
    assert read(source, note, 100, 50) == NOTE[100:150]
    assert read(source, note, 2900) == NOTE[2900:]
    hub.find("team/model").commit({"large.bin": bytes(9 * MiB)})  # type: ignore[union-attr]  # it is there
    other = HuggingFaceSource(HuggingFaceLocation("team/model", endpoint=hub.endpoint), Network())
    large = other.listing().files["large.bin"]
    assert read(other, large, 0, 10) == bytes(10)
    with pytest.raises(ConfigurationError, match="the whole file came") as caught:
        other.read(large, 9 * MiB - 1, 1)
    assert "HF_ENDPOINT" in caught.value.hint
    other.close()


def test_what_a_commit_lost_is_missing_and_what_was_closed_is_refused(
    hub: FakeHub, source: HuggingFaceSource, weights: ModelFile, note: ModelFile
) -> None:
    repository = hub.find("team/model")
    assert repository is not None
    del repository.commits[source.revision][note.path]
    with pytest.raises(SourceMissing):
        source.read(note, 0, 10)
    repository.gated = True
    with pytest.raises(CredentialsRefused, match="gated"):
        source.read(weights, 0, 10)
    repository.gated = False
    repository.commits.clear()
    with pytest.raises(SourceMissing):
        source.read(weights, 0, 10)


def test_an_interrupt_ends_a_read(hub: FakeHub) -> None:
    hub.create("team/large").commit({"large.bin": Generated(64 * MiB)})
    source = HuggingFaceSource(HuggingFaceLocation("team/large", endpoint=hub.endpoint), Network())
    file = source.listing().files["large.bin"]
    body = source.read(file, 0, file.size)
    source.interrupt()
    with pytest.raises(Transient):
        drain(body, file.size, buffer_size=MiB)
    source.close()


def test_a_read_must_be_of_the_file(source: HuggingFaceSource, weights: ModelFile) -> None:
    for start, length in ((0, 0), (-1, 5), (99_999, 2)):
        with pytest.raises(InternalError):
            source.read(weights, start, length)


# Servers that are no Hub of any good ----------------------------------------------------------------------------------

COMMIT = "c" * 40


def mirror(
    answer: bytes | str, *, context: ssl.SSLContext | None = None, ca_file: Path | None = None
) -> tuple[HuggingFaceSource, ScriptedServer]:
    """A source whose only file has ten bytes, from a server that answers with `answer` when they are asked for."""

    def script(heard: Heard) -> None:
        if heard.target.startswith("/api/"):
            files = f'[{{"type": "file", "path": "a", "oid": "{"b" * 40}", "size": 10}}]'
            about = f'{{"id": "team/model", "sha": "{COMMIT}"}}'
            heard.say(reply(200, (files if "/tree/" in heard.target else about).encode()))
        elif isinstance(answer, str):
            heard.say(reply(302, location=answer))
        else:
            heard.say(answer)

    server = ScriptedServer(script, context=context)
    network = Network(ca_files=(ca_file,) if ca_file else ())
    return HuggingFaceSource(HuggingFaceLocation("team/model", endpoint=server.url), network), server


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (reply(200, b"0123456789", x_repo_commit="d" * 40), "the server has"),
        (reply(206, b"01234", content_range="bytes 0-4/11"), "it has 11 bytes there"),
        (reply(206, b"01234", content_range="bytes 1-5/10"), "bytes 0-4 were asked for"),
        (reply(206, b"01234"), "bytes 0-4 were asked for"),
        (reply(206, b"0123", content_range="bytes 0-4/10"), "5 bytes should come, 4 do"),
        (reply(200, b"01234567890"), "10 bytes should come, 11 do"),
        (reply(206, b"01234", content_range="bytes 0-4/10", content_encoding="gzip"), "compressed"),
        ("ftp://elsewhere.test/signed?sig=canary", "a redirect to nowhere"),
        ("//[broken?sig=canary", "a redirect to nowhere"),
        ("/a", "redirects"),
    ],
)
def test_an_answer_that_makes_no_sense_is_not_taken(answer: bytes | str, what: str) -> None:
    source, server = mirror(answer)
    with server:
        file = source.listing().files["a"]
        with pytest.raises((Transient, ConfigurationError)) as caught:
            drain(source.read(file, 0, 5), 5)
        source.close()
    assert what in str(caught.value)
    assert "canary" not in str(caught.value)


def test_a_chunked_answer_is_read_to_its_end_and_a_longer_one_costs_its_connection() -> None:
    head = b"HTTP/1.1 206 OK\r\nContent-Range: bytes 0-4/10\r\nTransfer-Encoding: chunked\r\n\r\n"
    for tail in (b"0\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n"):
        source, server = mirror(head + b"5\r\n01234\r\n" + tail)
        with server:
            file = source.listing().files["a"]
            assert drain(source.read(file, 0, 5), 5) == b"01234"
            assert drain(source.read(file, 0, 5), 5) == b"01234"
            source.close()


def test_a_location_with_spaces_and_umlauts_is_quoted() -> None:
    with ScriptedServer(lambda heard: heard.say(reply(200, b"0123456789"))) as storage:
        source, server = mirror(f"{storage.url}/a b?name=ü&x=%20")
        with server:
            assert drain(source.read(source.listing().files["a"], 0, 10), 10) == b"0123456789"
            source.close()
    assert storage.heard[0].target == "/a%20b?name=%C3%BC&x=%20"


def test_nothing_follows_from_https_to_http(tmp_path: Path) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with ScriptedServer(lambda heard: heard.say(reply(200, b"0123456789"))) as storage:
        source, server = mirror(f"{storage.url}/a", context=context, ca_file=tmp_path / "ca.pem")
        with server:
            file = source.listing().files["a"]
            with pytest.raises(Transient, match="from https:// to http://"):
                source.read(file, 0, 10)
            source.close()
    assert storage.heard == []
