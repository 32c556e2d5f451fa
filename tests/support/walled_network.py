"""A network for containers in which one address exists, no name is known, and every other packet is counted.

A network namespace with a pair of virtual Ethernet devices (veth(4)), and netfilter in front of it. It takes root.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

COMMANDS = ("ip", "iptables", "ip6tables")

# Addresses that are for tests of devices (RFC 2544) and so nobody's: the third number is the process's.
_OUTSIDE, _INSIDE = "198.18.{}.1", "198.18.{}.2"


class NoWalls(Exception):
    """This machine or this user cannot have such a network; the message says why."""


@dataclass(frozen=True)
class WalledNetwork:
    """`network` is what podman takes; servers listen on `address`, the only place that can be reached."""

    name: str
    address: str

    @property
    def network(self) -> str:
        return f"ns:/run/netns/{self.name}"

    def strays(self) -> int:
        """Packets to anywhere else that were thrown away until now."""
        return sum(self._thrown_away(command) for command in ("iptables", "ip6tables"))

    def _thrown_away(self, command: str) -> int:
        said = _call("ip", "netns", "exec", self.name, command, "--list-rules", "OUTPUT", "--verbose")
        found = re.search(r"^-P OUTPUT DROP -c (\d+) ", said, re.MULTILINE)
        if found is None:
            raise RuntimeError(f"no policy in what {command} says:\n{said}")
        return int(found[1])


@contextlib.contextmanager
def walled_network() -> Iterator[WalledNetwork]:
    """Make one and take it away again; NoWalls where that is impossible."""
    if missing := [command for command in COMMANDS if shutil.which(command) is None]:
        raise NoWalls(f"needs {', '.join(missing)}")
    if os.geteuid() != 0:
        raise NoWalls("only root makes network namespaces")
    number = os.getpid() % 250 + 1
    made = WalledNetwork(f"walled-{number}", _OUTSIDE.format(number))
    out, inner = f"walled{number}", f"inner{number}"
    with contextlib.ExitStack() as undoing:
        try:
            _call("ip", "netns", "add", made.name)
            undoing.callback(_call, "ip", "netns", "delete", made.name)
            _call("ip", "link", "add", out, "type", "veth", "peer", "name", inner, "netns", made.name)
            undoing.callback(_call, "ip", "link", "delete", out)
            _call("ip", "address", "add", f"{made.address}/30", "dev", out)
            _call("ip", "link", "set", out, "up")
            for command in (
                f"ip address add {_INSIDE.format(number)}/30 dev {inner}",
                f"ip link set {inner} up",
                "ip link set lo up",
                f"ip route add default via {made.address}",
                f"iptables -A OUTPUT -d {made.address} -p tcp -j ACCEPT",
                "iptables -P OUTPUT DROP",
                "ip6tables -A OUTPUT -p ipv6-icmp -j ACCEPT",  # the kernel's own words when a device comes up
                "ip6tables -P OUTPUT DROP",
            ):
                _call("ip", "netns", "exec", made.name, *command.split())
        except RuntimeError as refused:
            raise NoWalls(str(refused)) from refused
        yield made


def _call(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {(done.stdout + done.stderr).strip()}")
    return done.stdout
