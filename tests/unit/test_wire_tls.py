"""What TLS adds to the ways in which a peer talks, breaks off and goes away."""

from __future__ import annotations

import contextlib
import random
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from syncer.errors import Transient
from syncer.settings.locations import Network
from syncer.wire import CutOff, Origin, Timeouts, Wire
from tests.support.scripted_server import Heard, Script, ScriptedServer, reply

_CHAIN_NAME = "localhost"
Opened = Callable[..., tuple[Wire, Origin, ScriptedServer]]


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def opened(ca: trustme.CA, tmp_path: Path) -> Iterator[Opened]:
    """Start a server that speaks TLS, and a wire that trusts it."""
    authority = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(authority)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(_CHAIN_NAME).configure_cert(context)
    with contextlib.ExitStack() as stack:

        def start(script: Script, *, timeouts: Timeouts | None = None) -> tuple[Wire, Origin, ScriptedServer]:
            server = stack.enter_context(ScriptedServer(script, context=context))
            wire = Wire(Network(ca_files=(authority,)), timeouts=timeouts)
            stack.callback(wire.close)
            return wire, Origin.split(server.url)[0], server

        yield start


def test_many_records_fill_one_buffer(opened: Opened) -> None:
    data = random.Random(6).randbytes(300_000)

    def script(heard: Heard) -> None:
        heard.say(reply(200, content_length=str(len(data))))
        rest = memoryview(data)
        for size in (1, 100, 16_384, 5_000, 1, 70_000):  # each a record of its own, or a few
            heard.sock.sendall(rest[:size])
            rest = rest[size:]
        heard.sock.sendall(rest)

    wire, origin, server = opened(script)
    for _ in range(2):
        with wire.ask("GET", origin, "/", {}) as answer:
            view = memoryview(bytearray(256 * 1024))
            assert answer.readinto(view) == len(view)
            rest = answer.readinto(view[:])
            assert rest == len(data) - len(view)
            assert view[:rest] == data[len(view) :]
    assert server.connections == 1, "what TLS itself says between two answers, as a ticket, does no harm"


def test_bytes_that_nobody_asked_for_cost_the_connection(opened: Opened) -> None:
    """They are decrypted already when the body ends, and so not to be seen on the socket."""
    wire, origin, server = opened(
        lambda heard: heard.say(reply(200, b"x" * 20_000 + b"HTTP/1.1 500 No", content_length="20000"))
    )
    for _ in range(2):
        with wire.ask("GET", origin, "/", {}) as answer:
            view = memoryview(bytearray(20_000))
            assert (answer.status, answer.readinto(view), bytes(view)) == (200, 20_000, b"x" * 20_000)
    assert server.connections == 2


@pytest.mark.parametrize("announced", ["100", ""])
def test_an_end_without_a_good_bye_is_no_end(opened: Opened, announced: str) -> None:
    def script(heard: Heard) -> None:
        heard.say(reply(200, b"0123456789", content_length=announced))
        heard.close()

    wire, origin, _ = opened(script)
    with wire.ask("GET", origin, "/", {}) as answer:
        view = memoryview(bytearray(100))
        assert answer.readinto(view) == 10, "what has arrived counts"
        with pytest.raises(Transient, match="after 10 of"):
            answer.readinto(view)


def test_a_body_may_end_with_a_good_bye(opened: Opened) -> None:
    def script(heard: Heard) -> None:
        heard.say(reply(200, b"0123456789", content_length=""))
        heard.sock.unwrap()  # type: ignore[attr-defined]  # a TLS socket here

    wire, origin, _ = opened(script)
    with wire.ask("GET", origin, "/", {}) as answer:
        assert answer.read() == b"0123456789"


def test_a_kept_connection_that_went_without_a_good_bye_is_replaced(opened: Opened) -> None:
    """The server is gone before our request, but we hear of it only when we want the answer."""

    def script(heard: Heard) -> None:
        if heard.connection == 1 and len(server.heard) == 2:
            heard.close()
        else:
            heard.say(reply(200))

    wire, origin, server = opened(script)
    for _ in range(2):
        assert wire.ask("GET", origin, "/", {}).status == 200
    assert server.connections == 2


def test_interrupt_wakes_who_reads_and_who_sends(opened: Opened) -> None:
    over = threading.Event()

    def script(heard: Heard) -> None:
        if heard.method == "GET":
            heard.say(reply(200, b"x", content_length="100"))
        else:
            over.wait(20)  # and take nothing of the body

    wire, origin, _ = opened(script)
    ended: list[type[BaseException]] = []
    blocked = threading.Barrier(3)

    def read() -> None:
        answer = wire.ask("GET", origin, "/", {})
        view = memoryview(bytearray(1))
        assert answer.readinto(view) == 1
        blocked.wait(10)
        try:
            answer.readinto(view)
        except CutOff as error:
            ended.append(type(error))

    def send() -> None:
        exchange = wire.begin("PUT", origin, "/", {}, length=1 << 30)
        piece = memoryview(bytes(1 << 20))
        exchange.send(piece)
        blocked.wait(10)
        try:
            while exchange.send(piece):
                pass
        except CutOff as error:
            ended.append(type(error))

    threads = [threading.Thread(target=work, daemon=True) for work in (read, send)]
    for thread in threads:
        thread.start()
    blocked.wait(10)
    wire.interrupt()
    for thread in threads:
        thread.join(10)
    assert ended == [CutOff, CutOff]
    over.set()


def test_silence_ends_after_the_limit(opened: Opened) -> None:
    wire, origin, _ = opened(lambda heard: None, timeouts=Timeouts(idle=0.1))
    with pytest.raises(Transient, match="no byte within the time limit"):
        wire.ask("GET", origin, "/", {})
