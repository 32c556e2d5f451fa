"""Which cluster, and as whom: the kubeconfig files of the user, or the ServiceAccount of a pod.

The rules are those of `oc` and `kubectl`: `KUBECONFIG` may name several files, of which the first that has an entry
wins, paths in a file are relative to that file, and without `KUBECONFIG` it is `~/.kube/config`.  The client library
reads one file alone, so that the joining is done here.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.config.models import Cluster, User
from lightkube.core.exceptions import ConfigError

from syncer.cluster.held import HeldFile
from syncer.cluster.login import LOG_IN, Plugin, TokenFile, plugin_of, text_of
from syncer.errors import ConfigurationError
from syncer.redaction import register_secrets

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_PATHS: Final = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
_DATA: Final = ("certificate-authority", "client-certificate", "client-key")
_LONGEST: Final = 1024 * 1024
_SECRET: Final = ("token", "password", "client-key-data")
_WITHOUT: Final = (
    "point KUBECONFIG at the file of a cluster that you are logged in to (oc login), or set AWS_S3_ENDPOINT, "
    "AWS_S3_BUCKET, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to upload without asking a cluster"
)


@dataclass(frozen=True)
class Access:
    """How to reach one cluster.

    `proxy` is the kubeconfig's own, empty without one.  `inside` says that this process runs in the cluster.  `login`
    is where a token comes from that does not stand in the kubeconfig, and `held` are the files that `config` names.
    """

    config: SingleConfig = field(repr=False)
    proxy: str = field(default="", repr=False)
    inside: bool = False
    login: TokenFile | Plugin | None = None
    held: tuple[HeldFile, ...] = field(default=(), repr=False)

    @property
    def server(self) -> str:
        """The URL of the API server."""
        return str(self.config.cluster.server)

    @property
    def unchecked(self) -> bool:
        """Whether the kubeconfig says that nobody is to check the server's certificate."""
        return bool(self.config.cluster.insecure)

    def interrupt(self) -> None:
        """End what `logged_in` waits for."""
        if self.login is not None:
            self.login.interrupt()

    def logged_in(self) -> SingleConfig:
        """The configuration with today's token."""
        if self.login is None:
            return self.config
        return self.config._replace(user=msgspec.structs.replace(self.config.user or User(), token=self.login.token()))


def find_access(environ: Mapping[str, str], *, service_account: Path = SERVICE_ACCOUNT) -> Access:
    """The access that the environment names; `ConfigurationError` when there is none or it cannot be understood."""
    named = [path for path in environ.get("KUBECONFIG", "").split(os.pathsep) if path.strip()]
    home = environ.get("HOME", "")
    paths = named or ([os.path.join(home, ".kube", "config")] if home else [])  # noqa: PTH118 - as the user wrote it
    if found := [Path(path) for path in paths if os.path.isfile(path)]:  # noqa: PTH113 - Path's raises if forbidden
        return _of_files(found, environ)
    if not named and environ.get("KUBERNETES_SERVICE_HOST") and (service_account / "token").is_file():
        return _of_service_account(environ, service_account)
    where = f"KUBECONFIG names no file that is there: {os.pathsep.join(named)}" if named else "there is no kubeconfig"
    raise ConfigurationError(where, hint=_WITHOUT)


def _of_service_account(environ: Mapping[str, str], folder: Path) -> Access:
    host, port = environ["KUBERNETES_SERVICE_HOST"], environ.get("KUBERNETES_SERVICE_PORT", "443")
    config = KubeConfig.from_one(
        cluster=Cluster(
            server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
            certificate_auth=str(folder / "ca.crt"),
        ),
    ).get()
    if config is None:
        raise ConfigurationError("the ServiceAccount describes no cluster", hint=_WITHOUT)
    return Access(config, inside=True, login=TokenFile(folder / "token"))


def _of_files(paths: Sequence[Path], environ: Mapping[str, str]) -> Access:
    merged, shown = _Merged(), os.pathsep.join(map(str, paths))
    for path in paths:
        merged.add(_document(path), folder=path.parent)
    if not merged.context:
        raise ConfigurationError(f"{shown} has no current context", hint="log in: oc login https://api.CLUSTER:6443")
    proxy = merged.take_proxy()
    merged.register()
    held = merged.hold_data(shown)
    login = merged.take_login(environ)
    try:
        config = KubeConfig.from_dict(merged.to_dict(), fname=paths[0]).get()
    except (ConfigError, KeyError, TypeError, msgspec.ValidationError) as error:
        problem = f"nothing is called {error}" if isinstance(error, KeyError) else str(error)
        raise ConfigurationError(f"{shown} cannot be understood: {problem}", hint=LOG_IN) from error
    if config is None:
        raise ConfigurationError(f"{shown} describes no cluster", hint=LOG_IN)
    user = config.user or User()
    for file in (config.cluster.certificate_auth, user.client_cert, user.client_key):
        if file and not os.path.exists(file):  # noqa: PTH110 - a text, as the library has it
            raise ConfigurationError(f"{shown} names {file}, which is not there", hint=LOG_IN)
    return Access(config._replace(user=user), proxy=proxy, login=login, held=held)


class _Merged:
    """Several files as one: of what has the same name the first wins, whole."""

    def __init__(self) -> None:
        self.context = ""
        self._kinds: dict[str, dict[str, dict[str, Any]]] = {"cluster": {}, "context": {}, "user": {}}

    def add(self, document: Mapping[str, Any], *, folder: Path) -> None:
        self.context = self.context or str(document.get("current-context") or "")
        for kind, known in self._kinds.items():
            for name, entry in _entries(document, kind):
                known.setdefault(name, _anchored(entry, folder))

    def to_dict(self) -> dict[str, Any]:
        """The document that the client library understands."""
        named = {
            f"{kind}s": [{"name": name, kind: entry} for name, entry in known.items()]
            for kind, known in self._kinds.items()
        }
        return {"current-context": self.context, **named}

    def take_proxy(self) -> str:
        """The `proxy-url` of the current cluster, which the client library takes apart from the kubeconfig."""
        return str(self._current("cluster").get("proxy-url", ""))

    def register(self) -> None:
        """Hide all that is secret in here from everything that is said from now on."""
        for user in self._kinds["user"].values():
            register_secrets(str(user[name]) for name in _SECRET if name in user)

    def take_login(self, environ: Mapping[str, str]) -> TokenFile | Plugin | None:
        """Where the current user's token comes from; the client library hears of no such thing."""
        user = dict(self._current("user"))
        for other in self._kinds["user"].values():
            other.pop("tokenFile", None)
            other.pop("exec", None)
        if "tokenFile" in user:
            return TokenFile(Path(str(user["tokenFile"])))
        program = user.get("exec")
        return plugin_of(program, environ) if isinstance(program, dict) and "token" not in user else None

    def hold_data(self, shown: str) -> tuple[HeldFile, ...]:
        """Put what stands in the files as data into files: the client library would write a private key to the disk."""
        held: list[HeldFile] = []
        for entry in (self._current("cluster"), self._current("user")):
            for name in _DATA:
                if f"{name}-data" not in entry:
                    continue
                try:
                    content = base64.b64decode(str(entry.pop(f"{name}-data")), validate=True)
                except (binascii.Error, ValueError) as error:
                    raise ConfigurationError(f"{shown}: {name}-data is not base64", hint=LOG_IN) from error
                held.append(HeldFile(name, content))
                entry[name] = str(held[-1].path)
        return tuple(held)

    def _current(self, kind: str) -> dict[str, Any]:
        context = self._kinds["context"].get(self.context, {})
        return self._kinds[kind].get(str(context.get(kind)), {})


class _WithoutAliases(yaml.SafeLoader):
    """YAML without `*name`: no kubeconfig has it, and a few lines of it grow to gigabytes as soon as they are used."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """One node; `ComposerError` for an alias."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "an alias", self.get_mark())
        return super().compose_node(parent, index)


def _document(path: Path) -> dict[str, Any]:
    text = text_of(path)
    if len(text) > _LONGEST:
        raise ConfigurationError(f"{path} has {len(text)} characters, more than any kubeconfig", hint=LOG_IN)
    try:
        document = yaml.load(text, Loader=_WithoutAliases)  # noqa: S506 - a safe loader, made safer
    except (ValueError, RecursionError):
        raise ConfigurationError(f"{path} is not a kubeconfig", hint=LOG_IN) from None
    except yaml.YAMLError as error:
        # The parser's own words show lines of the file, and tokens are in it.
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark is not None else ""
        raise ConfigurationError(f"{path} is not YAML{where}", hint=LOG_IN) from None
    if not isinstance(document, dict | None):
        raise ConfigurationError(f"{path} is not a kubeconfig", hint=LOG_IN)
    return document or {}


def _entries(document: Mapping[str, Any], kind: str) -> Iterable[tuple[str, dict[str, Any]]]:
    listed = document.get(f"{kind}s")
    for each in listed if isinstance(listed, list) else ():
        if isinstance(each, dict) and isinstance(each.get(kind), dict):
            yield str(each.get("name", "")), {name: value for name, value in each[kind].items() if value or value == 0}


def _anchored(entry: dict[str, Any], folder: Path) -> dict[str, Any]:
    """`entry` with its relative paths made absolute, for it will stand among entries of other files."""
    there: dict[str, Any] = {name: str(folder.absolute() / str(entry[name])) for name in _PATHS if name in entry}
    program = entry.get("exec")
    if isinstance(program, dict) and "/" in (command := str(program.get("command", ""))):
        there["exec"] = program | {"command": str(folder.absolute() / command)}
    return entry | there
