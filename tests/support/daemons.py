"""Real servers as children of the tests: started on free ports, stopped with them, and gone even when nobody can stop.

A port that was free a moment ago may be taken when a daemon wants it.  So ports are chosen where the kernel gives none
to others by itself, and a server that cannot have its ports is started once more with new ones (`persistently`).
"""

import contextlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TypeVar

START_SECONDS = 120
"""For the start of one daemon: a machine that runs several rings at once is slow, not broken."""
STOP_SECONDS = 20
_PORTS = range(20_000, 32_000)
"""Below those that Linux gives to outgoing connections and to whoever does not care (`ip_local_port_range`)."""

T = TypeVar("T")


class NotReady(RuntimeError):
    """A server did not get ready; its last words."""


def start(
    command: Sequence[str], *, output: Path, running: ExitStack, folder: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start a daemon in the foreground, with what it says in `output`, and leave its end to `running`.

    The kernel ends it with the thread that started it, even when we are killed and can clean up nothing.
    """
    bound = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
    said = running.enter_context(output.open("wb"))
    daemon = subprocess.Popen([*bound, *command], cwd=folder, stdout=said, stderr=said, stdin=subprocess.DEVNULL)
    running.callback(stop, daemon)
    return daemon


def stop(daemon: subprocess.Popen[bytes]) -> None:
    """End the daemon: what it has written is thrown away, so it need not end well."""
    daemon.terminate()
    try:
        daemon.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def wait(daemon: subprocess.Popen[bytes], until: Callable[[], T | None], *, outputs: Sequence[Path]) -> T:
    """Return the first thing that `until` has to say; `NotReady` when the daemon ended or says nothing in time."""
    deadline = time.monotonic() + START_SECONDS
    while not (found := until()):
        if daemon.poll() is not None or time.monotonic() > deadline:
            words = "".join(file.read_text(errors="replace")[-2000:] for file in outputs if file.exists())
            raise NotReady(f"a daemon did not get ready: {daemon.args!r}\n{words}")
        time.sleep(0.05)  # real daemons start in real time
    return found


@contextlib.contextmanager
def persistently(server: Callable[[], AbstractContextManager[T]]) -> Iterator[T]:
    """Enter `server`, once more when it did not get ready: its ports may have been taken, or the machine was busy."""
    with ExitStack() as running:
        try:
            here = running.enter_context(server())
        except NotReady as first:
            print(f"{first}\nonce more", file=sys.stderr)
            here = running.enter_context(server())
        yield here


def answers(url: str) -> bool:
    """Whether somebody speaks HTTP there, whatever is said."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def free_ports(number: int) -> list[int]:
    """Return ports that nobody listens on now, and that the kernel gives to nobody by itself."""
    found: list[int] = []
    with ExitStack() as held:  # held together while they are chosen, so that they differ
        for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
            candidate = held.enter_context(socket.socket())
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
            if len(found) == number:
                return found
    raise NotReady("this machine has no free port")


def pause_until_interrupted() -> None:
    """Keep a server up for a person who wants to look at it."""
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()
