"""What the ring of real servers starts is started again where a port was taken, and never outlives the tests."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import daemons
from tests.support.daemons import NotReady

# Where the tests run in the background of a shell, SIGINT is ignored by whatever they start (POSIX, 2.12).
_STARTS_ONE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from contextlib import ExitStack
from pathlib import Path
from tests.support import daemons
with ExitStack() as running:
    command = [sys.executable, "-c", "print('up', flush=True); import signal; signal.pause()"]
    out = Path(sys.argv[1])
    daemon = daemons.start(command, output=out, running=running)
    daemons.wait(daemon, lambda: "up" in out.read_text(), outputs=[out])
    print(daemon.pid, flush=True)
    daemons.pause_until_interrupted()
    raise SystemExit(1)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_daemon_does_not_outlive_who_started_it(how: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _STARTS_ONE, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        daemon = os.pidfd_open(int(starter.stdout.readline()))
        starter.send_signal(how)
        starter.wait(30)
    try:
        assert select.select([daemon], [], [], 30)[0], "the daemon is still there"
    finally:
        os.close(daemon)


def test_a_daemon_that_ends_at_once_is_told_with_its_last_words(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with ExitStack() as running:
        daemon = daemons.start([sys.executable, "-c", "print('address in use')"], output=out, running=running)
        with pytest.raises(NotReady, match="address in use"):
            daemons.wait(daemon, lambda: False, outputs=[out])


@pytest.mark.parametrize(("failures", "starts"), [(0, 1), (1, 2)])
def test_a_server_whose_ports_were_taken_is_started_once_more(failures: int, starts: int) -> None:
    begun: list[int] = []

    @contextlib.contextmanager
    def server() -> Iterator[str]:
        begun.append(1)
        if len(begun) <= failures:
            raise NotReady("address in use")
        yield "here"

    with daemons.persistently(server) as here:
        assert here == "here"
    assert len(begun) == starts


def test_a_failed_test_is_no_server_that_did_not_get_ready() -> None:
    begun: list[int] = []

    @contextlib.contextmanager
    def server() -> Iterator[None]:
        begun.append(1)
        yield

    with pytest.raises(NotReady), daemons.persistently(server):
        raise NotReady("of another one, in the test")
    assert len(begun) == 1


def test_free_ports_are_such_as_nobody_else_is_given() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = daemons.free_ports(4)
    assert len(set(ports)) == 4
    assert max(ports) < lowest
    with socket.create_server(("127.0.0.1", ports[0])):
        pass
