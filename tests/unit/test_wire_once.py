"""A request that must not be received twice: always a connection of its own, never sent again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from syncer.errors import EndpointUnreachable, Transient
from syncer.settings.locations import Network
from syncer.wire import Origin, Wire
from tests.support.buckets import free_port
from tests.support.scripted_server import Heard, Script, ScriptedServer, reply


@contextmanager
def wired(script: Script) -> Iterator[tuple[Wire, Origin, ScriptedServer]]:
    with ScriptedServer(script) as server, closing(Wire(Network())) as wire:
        yield wire, Origin.split(server.url)[0], server


def ask(wire: Wire, origin: Origin, *, once: bool) -> int:
    with wire.ask("POST", origin, "/", {}, body=b"passcode", once=once) as answer:
        answer.read()
        return answer.status


def test_a_kept_connection_is_not_used() -> None:
    with wired(lambda heard: heard.say(reply(200, heard.body()))) as (wire, origin, server):
        assert [ask(wire, origin, once=once) for once in (False, True, False)] == [200, 200, 200]
        # The third one takes either of the two that are kept by then.
        assert [heard.connection for heard in server.heard[:2]] == [1, 2]
        assert server.connections == 2


def test_what_may_have_been_received_is_not_sent_again() -> None:
    def script(heard: Heard) -> None:
        heard.body()
        if len(server.heard) == 1:
            heard.say(reply(200, b"x"))
        else:
            heard.close()  # after it took the request, without a word

    with wired(script) as (wire, origin, server):
        ask(wire, origin, once=False)
        with pytest.raises(Transient) as caught:
            ask(wire, origin, once=True)
        assert not isinstance(caught.value, EndpointUnreachable)
        assert len(server.heard) == 2
        with pytest.raises(Transient):
            ask(wire, origin, once=True)
        assert len(server.heard) == 3


def test_what_nobody_received_is_told_apart() -> None:
    with closing(Wire(Network())) as wire, pytest.raises(EndpointUnreachable):
        ask(wire, Origin("http", "127.0.0.1", free_port()), once=True)
