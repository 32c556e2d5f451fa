"""A token that is found out anew when it is refused: from a file that somebody renews, or from a credential plugin.

The client library would do both, but it tells plugins nothing, gives them all the time in the world and the terminal
to read from, knows their earlier versions alone, and nobody would learn the token that must not be shown.
Protocol: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from syncer.claims import from_json
from syncer.errors import ConfigurationError
from syncer.redaction import register_secrets

LOG_IN: Final = "log in again: oc login https://api.CLUSTER:6443"
_WITHOUT_PROGRAM: Final = "log in with a token: oc login --token=... (programs of this machine are not in a container)"
_SECONDS: Final = 60.0
"""How long a plugin may take: it asks a server, and nobody."""
_SHOWN: Final = 500


@dataclass(frozen=True)
class TokenFile:
    """A file that somebody else keeps up to date."""

    path: Path

    def token(self) -> str:
        """What it says now, hidden from now on; `ConfigurationError` when it cannot be read."""
        return _hidden(text_of(self.path).strip())

    def interrupt(self) -> None:
        """Nothing to end: a file answers at once."""


@dataclass(frozen=True)
class Plugin:
    """A program that prints a token.  It gets `environ`, and nothing to read from."""

    command: tuple[str, ...]
    version: str
    environ: Mapping[str, str] = field(repr=False)
    _running: list[subprocess.Popen[bytes]] = field(default_factory=list, init=False, repr=False)

    def token(self) -> str:
        """What it says now, hidden from now on; `ConfigurationError` with its own words when it gives none."""
        told = {"apiVersion": self.version, "kind": "ExecCredential", "spec": {"interactive": False}}
        try:
            running = subprocess.Popen(
                self.command,
                env={**self.environ, "KUBERNETES_EXEC_INFO": json.dumps(told)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except (OSError, ValueError) as error:
            raise self._useless(getattr(error, "strerror", None) or str(error)) from None
        with running:
            self._running.append(running)
            try:
                said, complained = running.communicate(timeout=_SECONDS)
            except subprocess.TimeoutExpired:
                raise self._useless(f"it said nothing for {_SECONDS:.0f} s") from None
            finally:
                self._running.remove(running)
                running.kill()
        if running.returncode:
            words = complained.decode(errors="replace").strip()[-_SHOWN:]
            raise self._useless(f"it ended with {running.returncode}: {words}")
        try:
            token = from_json(said)["status"]["token"]
        except (ValueError, KeyError, TypeError, RecursionError):
            token = None
        if not isinstance(token, str):
            raise self._useless("it gives no token")
        return _hidden(token)

    def interrupt(self) -> None:
        """End the program: nobody waits for its token any more."""
        for running in tuple(self._running):
            running.kill()

    def _useless(self, reason: str) -> ConfigurationError:
        return ConfigurationError(
            f"the kubeconfig gets its token from {self.command[0]}, which does not work here: {reason}",
            hint=_WITHOUT_PROGRAM,
        )


def plugin_of(program: Mapping[str, Any], environ: Mapping[str, str]) -> Plugin:
    """The plugin that the `exec` of a kubeconfig describes."""
    pairs = [each for each in program.get("env") or () if isinstance(each, dict)]
    return Plugin(
        (str(program.get("command", "")), *map(str, program.get("args") or ())),
        version=str(program.get("apiVersion", "")),
        environ={**environ, **{str(each.get("name")): str(each.get("value", "")) for each in pairs}},
    )


def text_of(path: Path) -> str:
    """What a file of the kubeconfig holds; `ConfigurationError` when that cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigurationError(f"{path} cannot be read: {reason}", hint=LOG_IN) from None


def _hidden(token: str) -> str:
    register_secrets([token])
    return token
