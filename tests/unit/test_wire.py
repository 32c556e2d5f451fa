"""The wire against a server that says what a test wrote down."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from syncer.errors import ConfigurationError, EndpointUnreachable, InternalError, Transient
from syncer.settings.locations import Network
from syncer.wire import Answer, CutOff, Exchange, Origin, Timeouts, Wire
from tests.support.scripted_server import Heard, Script, ScriptedServer, reply

MIB = 1024 * 1024
Opened = tuple[Wire, Origin, ScriptedServer]


@pytest.fixture
def wired() -> Iterator[Callable[..., Opened]]:
    """Start a scripted server and a wire to it."""
    running: list[ScriptedServer] = []
    wires: list[Wire] = []

    def start(script: Script, *, network: Network | None = None, timeouts: Timeouts | None = None) -> Opened:
        server = ScriptedServer(script)
        server.__enter__()
        running.append(server)
        wire = Wire(network or Network(), timeouts=timeouts, store="s3://b/", hint="check the endpoint")
        wires.append(wire)
        origin, _ = Origin.split(server.url)
        return wire, origin, server

    yield start
    for wire in wires:
        wire.close()
    for server in running:
        server.__exit__()


def say(data: bytes) -> Script:
    def script(heard: Heard) -> None:
        heard.body()
        heard.say(data)

    return script


def say_and_close(data: bytes) -> Script:
    def script(heard: Heard) -> None:
        heard.body()
        heard.say(data)
        heard.close()

    return script


def read_all(answer: Answer, piece: int = 7) -> bytes:
    data, view = bytearray(), memoryview(bytearray(piece))
    while count := answer.readinto(view):
        data += view[:count]
    return bytes(data)


def send_all(exchange: Exchange, count: int) -> None:
    """Send `count` bytes, whatever becomes of them."""
    piece = memoryview(bytes(MIB))
    for _ in range(count // MIB):
        exchange.send(piece)


def test_an_answer_is_read_into_the_callers_buffer_and_its_connection_used_again(wired: Callable[..., Opened]) -> None:
    wire, origin, server = wired(say(reply(206, b"0123456789", x_thing="yes")))
    for _ in range(3):
        with wire.ask("GET", origin, "/k?a=b", {"Range": "bytes=0-9"}) as answer:
            assert (answer.status, answer.length, answer.header("X-THING")) == (206, 10, "yes")
            assert read_all(answer) == b"0123456789"
    assert server.connections == 1
    assert server.heard[0].target == "/k?a=b"
    assert server.heard[0].headers["host"] == f"localhost:{server.port}"
    assert server.heard[0].headers["accept-encoding"] == "identity"
    assert "content-length" not in server.heard[0].headers


def test_a_body_is_sent_piece_by_piece(wired: Callable[..., Opened]) -> None:
    bodies: list[bytes] = []

    def script(heard: Heard) -> None:
        bodies.append(heard.body())
        heard.say(reply(200))

    wire, origin, _ = wired(script)
    data = bytes(range(256)) * 8192
    exchange = wire.begin("PUT", origin, "/k", {}, length=len(data))
    for start in range(0, len(data), 300_000):
        assert exchange.send(memoryview(data)[start : start + 300_000])
    assert exchange.answer().status == 200
    assert bodies == [data]


def test_an_empty_body_announces_its_length(wired: Callable[..., Opened]) -> None:
    wire, origin, server = wired(say(reply(200)))
    assert wire.begin("PUT", origin, "/k", {}, length=0).answer().status == 200
    assert server.heard[0].headers["content-length"] == "0"


def test_an_answer_is_not_waited_for_before_all_was_sent(wired: Callable[..., Opened]) -> None:
    wire, origin, _ = wired(say(reply(200)))
    exchange = wire.begin("PUT", origin, "/k", {}, length=10)
    exchange.send(memoryview(b"12345"))
    with pytest.raises(InternalError, match="5 of 10"):
        exchange.answer()


def test_a_short_body_is_no_body(wired: Callable[..., Opened]) -> None:
    wire, origin, _ = wired(say_and_close(reply(200, b"01234", content_length="10")))
    with wire.ask("GET", origin, "/", {}) as answer, pytest.raises(Transient, match="5 of 10 bytes"):
        read_all(answer)


def test_chunks_are_decoded(wired: Callable[..., Opened]) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n8;x=y\r\ndefghijk\r\n0\r\n\r\n"
    wire, origin, server = wired(say(chunked))
    for _ in range(2):
        with wire.ask("GET", origin, "/", {}) as answer:
            assert answer.length is None
            assert read_all(answer, 4) == b"abcdefghijk"
    assert server.connections == 1, "the end mark was read, so the connection is clean"


@pytest.mark.parametrize("tail", [b"3\r\nab", b"3\r\nabc\r\n", b"3\r\nabc\r\nxyz\r\n"])
def test_chunks_that_end_early_are_no_body(wired: Callable[..., Opened], tail: bytes) -> None:
    wire, origin, _ = wired(say_and_close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + tail))
    with wire.ask("GET", origin, "/", {}) as answer, pytest.raises(Transient):
        read_all(answer)


def test_a_body_that_is_not_drained_costs_the_connection(wired: Callable[..., Opened]) -> None:
    wire, origin, server = wired(say(reply(200, b"0123456789")))
    with wire.ask("GET", origin, "/", {}) as answer:
        answer.readinto(memoryview(bytearray(4)))
    with wire.ask("GET", origin, "/", {}) as answer:
        assert read_all(answer) == b"0123456789"
    assert server.connections == 2


def test_a_connection_that_will_close_is_not_kept(wired: Callable[..., Opened]) -> None:
    wire, origin, server = wired(say(reply(200, b"x", connection="close")))
    for _ in range(2):
        with wire.ask("GET", origin, "/", {}) as answer:
            assert read_all(answer) == b"x"
    assert server.connections == 2


def test_an_early_answer_is_what_happened(wired: Callable[..., Opened]) -> None:
    def script(heard: Heard) -> None:
        heard.say(reply(403, b"<Error><Code>AccessDenied</Code></Error>", connection="close"))
        heard.close()

    wire, origin, _ = wired(script)
    exchange = wire.begin("PUT", origin, "/k", {}, length=64 * MIB)
    piece = memoryview(bytes(MIB))
    sent = 0
    while exchange.send(piece):
        sent += 1
        assert sent < 64, "the other side had stopped reading"
    assert not exchange.send(piece)
    answer = exchange.answer()
    assert answer.status == 403
    assert b"AccessDenied" in answer.read()


def test_a_peer_that_goes_away_while_we_send_is_a_passing_fault(wired: Callable[..., Opened]) -> None:
    wire, origin, _ = wired(lambda heard: heard.close())
    exchange = wire.begin("PUT", origin, "/k", {}, length=64 * MIB)
    with pytest.raises(Transient, match="broke off"):
        send_all(exchange, 64 * MIB)


def test_a_kept_connection_that_the_peer_has_closed_is_replaced(wired: Callable[..., Opened]) -> None:
    closed = threading.Event()

    def script(heard: Heard) -> None:
        heard.body()
        heard.say(reply(200, b"x"))
        if heard.connection == 1:
            heard.close()
            closed.set()

    wire, origin, server = wired(script)
    with wire.ask("GET", origin, "/", {}) as answer:
        read_all(answer)
    closed.wait(5)
    exchange = wire.begin("PUT", origin, "/k", {}, length=3)
    exchange.send(memoryview(b"abc"))
    with exchange.answer() as answer:
        assert answer.status == 200
    assert server.connections == 2


def test_a_kept_connection_that_dies_under_the_request_is_replaced_once(wired: Callable[..., Opened]) -> None:
    def script(heard: Heard) -> None:
        heard.body()
        if heard.connection == 1 and len(server.heard) == 2:
            heard.close()  # after it took the request, without a word
        else:
            heard.say(reply(200, b"x"))

    wire, origin, server = wired(script)
    for _ in range(2):
        with wire.ask("POST", origin, "/", {}, body=b"same") as answer:
            assert read_all(answer) == b"x"
    assert [heard.connection for heard in server.heard] == [1, 1, 2]


def test_a_new_connection_without_an_answer_is_not_asked_again(wired: Callable[..., Opened]) -> None:
    wire, origin, server = wired(lambda heard: heard.close())
    with pytest.raises(Transient, match="before it answered"):
        wire.ask("GET", origin, "/", {})
    assert len(server.heard) == 1


def test_silence_ends_after_the_limit(wired: Callable[..., Opened]) -> None:
    wire, origin, _ = wired(lambda heard: None, timeouts=Timeouts(idle=0.1))
    with pytest.raises(Transient, match="no byte within the time limit"):
        wire.ask("GET", origin, "/", {})


def test_a_peer_that_takes_nothing_is_silent_too(wired: Callable[..., Opened]) -> None:
    over = threading.Event()

    def script(heard: Heard) -> None:
        over.wait(20)
        heard.close()

    wire, origin, _ = wired(script, timeouts=Timeouts(idle=0.1))
    exchange = wire.begin("PUT", origin, "/k", {}, length=1024 * MIB)
    with pytest.raises(Transient, match="no byte within the time limit"):
        send_all(exchange, 1024 * MIB)
    over.set()


@pytest.mark.parametrize("nonsense", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x00" * 100 + b"\r\n\r\n"])
def test_nonsense_is_a_passing_fault(wired: Callable[..., Opened], nonsense: bytes) -> None:
    wire, origin, _ = wired(say_and_close(nonsense))
    with pytest.raises(Transient):
        wire.ask("GET", origin, "/", {})


def test_interrupt_wakes_those_who_read_and_those_who_send(wired: Callable[..., Opened]) -> None:
    reached = threading.Semaphore(0)

    def script(heard: Heard) -> None:
        reached.release()
        release.wait(20)

    release = threading.Event()
    wire, origin, _ = wired(script)
    caught: list[BaseException] = []

    def work(job: Callable[[], object]) -> None:
        try:
            job()
        except Transient as error:
            caught.append(error)

    def send() -> None:
        exchange = wire.begin("PUT", origin, "/k", {}, length=1024 * MIB)
        piece = memoryview(bytes(MIB))
        while True:
            exchange.send(piece)

    threads = [threading.Thread(target=work, args=(job,)) for job in (lambda: wire.ask("GET", origin, "/", {}), send)]
    for thread in threads:
        thread.start()
    for _ in threads:
        reached.acquire(timeout=5)
    wire.interrupt()
    for thread in threads:
        thread.join(5)
    release.set()
    assert [type(error) for error in caught] == [CutOff, CutOff]


def test_an_interrupted_wire_still_works_but_hurries(wired: Callable[..., Opened]) -> None:
    wire, origin, _ = wired(say(reply(200, b"x")))
    wire.interrupt()
    with wire.ask("GET", origin, "/", {}) as answer:
        assert read_all(answer) == b"x"
    connection = wire.take(origin, fresh=True, idle=25.0)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        seconds, rest = struct.unpack(
            "@ll", connection.sock.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("@ll"))
        )
        assert 0 < seconds + rest / 1e6 <= 3.1
    wire.drop(connection)


def test_a_dead_endpoint_is_unreachable_with_a_hint() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    wire = Wire(Network(), store="s3://b/", hint="check S3_SYNC_SRC__ENDPOINT")
    with pytest.raises(EndpointUnreachable, match=f"localhost:{port}") as caught:
        wire.ask("GET", Origin("http", "localhost", port), "/", {})
    assert caught.value.hint == "check S3_SYNC_SRC__ENDPOINT"
    assert caught.value.store == "s3://b/"


def test_an_unknown_host_is_unreachable() -> None:
    with pytest.raises(EndpointUnreachable, match="not known"):
        Wire(Network()).ask("GET", Origin("http", "no-such-host.invalid", 80), "/", {})


def test_a_line_break_never_gets_into_a_head(wired: Callable[..., Opened]) -> None:
    wire, origin, server = wired(say(reply(200)))
    with pytest.raises(InternalError):
        wire.ask("GET", origin, "/", {"X-A": "b\r\nX-Evil: c"})
    assert not server.heard


# ------------------------------------------------------------------------------------------------------------------ TLS


class Authority:
    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.file = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(self.file)

    def context(self, *names: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*names).configure_cert(context)
        return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_tls_with_an_authority_of_ours(authority: Authority) -> None:
    data = bytes(range(256)) * 4096
    with ScriptedServer(say(reply(200, data)), context=authority.context("localhost")) as server:
        wire = Wire(Network(ca_files=(authority.file,)))
        for _ in range(2):
            with wire.ask("GET", Origin.split(server.url)[0], "/", {}) as answer:
                assert read_all(answer, 256 * 1024) == data
        assert server.connections == 1
        wire.close()


@pytest.mark.parametrize("names", [["localhost"], ["elsewhere.example"]])
def test_a_certificate_nobody_vouches_for_is_a_mistake_not_bad_luck(authority: Authority, names: list[str]) -> None:
    known = (authority.file,) if names != ["localhost"] else ()
    with ScriptedServer(say(reply(200)), context=authority.context(*names)) as server:
        for switch in ("", "S3_SYNC_DEST__VALIDATE_TLS"):
            wire = Wire(Network(ca_files=known), unchecked_by=switch)
            with pytest.raises(ConfigurationError, match="not trusted") as caught:
                wire.ask("GET", Origin.split(server.url)[0], "/", {})
            assert "AWS_CA_BUNDLE" in caught.value.hint
            assert (f"{switch}=false" if switch else "") in caught.value.hint
            assert ("VALIDATE_TLS" in caught.value.hint) == bool(switch)


def test_the_check_can_be_switched_off(authority: Authority) -> None:
    with ScriptedServer(say(reply(200, b"x")), context=authority.context("elsewhere.example")) as server:
        wire = Wire(Network(), validate_tls=False)
        with wire.ask("GET", Origin.split(server.url)[0], "/", {}) as answer:
            assert read_all(answer) == b"x"
        wire.close()


def test_interrupt_never_lets_cipher_text_pass_as_a_body(authority: Authority) -> None:
    halfway = threading.Event()

    def script(heard: Heard) -> None:
        heard.say(reply(200, bytes(MIB), content_length=str(2 * MIB)))
        halfway.set()

    with ScriptedServer(script, context=authority.context("localhost")) as server:
        wire = Wire(Network(ca_files=(authority.file,)))
        answer = wire.ask("GET", Origin.split(server.url)[0], "/", {})
        view = memoryview(bytearray(1000))
        assert answer.readinto(view)
        halfway.wait(5)
        wire.interrupt()
        data = bytearray()

        def read_the_rest() -> None:
            while True:
                data.extend(view[: answer.readinto(view)])

        with pytest.raises(CutOff):
            read_the_rest()
        assert not any(data)


# -------------------------------------------------------------------------------------------------------------- proxies


def test_plain_requests_go_to_the_proxy_with_the_whole_url(wired: Callable[..., Opened]) -> None:
    _, origin, server = wired(say(reply(200, b"x")))
    network = Network(proxies={"http": f"http://user:p%40ss@localhost:{origin.port}"})
    wire = Wire(network)
    with wire.ask("GET", Origin("http", "store.example", 9000), "/b/k?x=1", {}) as answer:
        assert read_all(answer) == b"x"
    heard = server.heard[0]
    assert heard.target == "http://store.example:9000/b/k?x=1"
    assert heard.headers["host"] == "store.example:9000"
    assert heard.headers["proxy-authorization"] == "Basic dXNlcjpwQHNz"
    wire.close()


def tunnel_to(port: int) -> Script:
    """A proxy that leads every tunnel to one local port."""

    def script(heard: Heard) -> None:
        upstream = socket.create_connection(("127.0.0.1", port))
        heard.say(b"HTTP/1.1 200 Connection established\r\n\r\n")

        def copy(source: socket.socket, sink: socket.socket) -> None:
            try:
                while data := source.recv(65536):
                    sink.sendall(data)
            except OSError:
                pass

        back = threading.Thread(target=copy, args=(upstream, heard.sock), daemon=True)
        back.start()
        copy(heard.sock, upstream)
        upstream.close()
        heard.close()

    return script


def test_tls_goes_through_a_tunnel(authority: Authority, wired: Callable[..., Opened]) -> None:
    with ScriptedServer(say(reply(200, b"secret")), context=authority.context("store.example")) as server:
        _, proxy, proxy_server = wired(tunnel_to(server.port))
        network = Network(
            ca_files=(authority.file,),
            proxies={"https": f"http://u:p@localhost:{proxy.port}"},
            no_proxy="other.example",
        )
        wire = Wire(network)
        with wire.ask("GET", Origin("https", "store.example", 443), "/k", {}) as answer:
            assert read_all(answer) == b"secret"
        assert server.heard[0].target == "/k"
        assert "proxy-authorization" not in server.heard[0].headers, "the login is for the proxy alone"
        assert (proxy_server.heard[0].method, proxy_server.heard[0].target) == ("CONNECT", "store.example:443")
        assert proxy_server.heard[0].headers["proxy-authorization"] == "Basic dTpw"
        wire.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_refuses_is_named_without_its_password(wired: Callable[..., Opened], scheme: str) -> None:
    _, proxy, _ = wired(say_and_close(reply(407)))
    wire = Wire(Network(proxies={scheme: f"http://user:canary@localhost:{proxy.port}"}))
    with pytest.raises(EndpointUnreachable, match="answered 407") as caught:
        wire.ask("GET", Origin(scheme, "store.example", 443), "/k", {})
    assert "canary" not in caught.value.message + caught.value.hint
    assert f"{scheme.upper()}_PROXY" in caught.value.hint
