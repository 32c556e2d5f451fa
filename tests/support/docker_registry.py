"""Docker's own registry, as Debian packages it, with every way to log in that it has.

Tokens come from a server in this process, signed as the distribution project's specification wants them
(https://distribution.github.io/distribution/spec/auth/jwt/).
"""

import base64
import contextlib
import hashlib
import json
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import parse_qs, urlsplit

import trustme
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from pydantic import SecretStr

from syncer.settings.locations import ImageLocation, RegistryLogin
from tests.support import daemons
from tests.support.fake_iam import Quiet, start

COMMANDS = ("docker-registry", "htpasswd", "skopeo", "umoci")
USER, PASSWORD = "robot", "canary-registry-password"
_LISTENS = re.compile(r"listening on 127\.0\.0\.1:(\d+)")
_CONFIGURATION = """
version: 0.1
log: {{level: info, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {folder}/data}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:0", secret: "none"{tls}}}
{auth}
"""


class RepositoryFiles:
    """One repository in the storage folder: content by digest, and small files that link to it.

    The layout is that of the registry's own storage (registry/storage/paths.go in the distribution project).
    """

    def __init__(self, root: Path, name: str) -> None:
        self._blobs = root / "blobs/sha256"
        self._root = root / "repositories" / name

    def put(self, tag: str, manifest: bytes, blobs: Mapping[str, bytes]) -> None:
        """Add blobs, and a manifest under a tag."""
        for digest, content in blobs.items():
            self._keep(digest, content)
            self._link(f"_layers/sha256/{digest.removeprefix('sha256:')}", digest)
        digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
        self._keep(digest, manifest)
        plain = digest.removeprefix("sha256:")
        for place in (f"revisions/sha256/{plain}", f"tags/{tag}/current", f"tags/{tag}/index/sha256/{plain}"):
            self._link(f"_manifests/{place}", digest)

    def clear(self) -> None:
        """Leave nothing in it."""
        shutil.rmtree(self._root, ignore_errors=True)

    def blobs(self) -> dict[str, bytes]:
        """What is linked as layer or configuration, by digest."""
        return self._linked("_layers/sha256")

    def manifests(self) -> dict[str, bytes]:
        """By digest."""
        return self._linked("_manifests/revisions/sha256")

    def tag(self, name: str) -> str:
        """The digest under a tag; empty where there is none."""
        link = self._root / "_manifests/tags" / name / "current/link"
        return link.read_text() if link.exists() else ""

    def uploads(self) -> list[str]:
        """Uploads that were begun and neither closed nor removed.

        Of one that was removed it keeps a folder with the state of its hash, which is none any more.
        """
        return sorted(path.parent.name for path in (self._root / "_uploads").glob("*/startedat"))

    def _linked(self, place: str) -> dict[str, bytes]:
        links = (path.parent.name for path in (self._root / place).glob("*/link"))
        return {f"sha256:{plain}": (self._blobs / plain[:2] / plain / "data").read_bytes() for plain in links}

    def _keep(self, digest: str, content: bytes) -> None:
        plain = digest.removeprefix("sha256:")
        file = self._blobs / plain[:2] / plain / "data"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def _link(self, place: str, digest: str) -> None:
        (self._root / place).mkdir(parents=True, exist_ok=True)
        (self._root / place / "link").write_text(digest)


@dataclass
class DockerRegistry:
    """`lives` is how long the tokens are good for, in seconds."""

    authority: str
    folder: Path
    auth: str
    https: bool
    lives: int = 300
    tokens: int = 0
    signer: trustme.LeafCert | None = field(default=None, repr=False)

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def auth_file(self) -> Path:
        """The login, as container tools keep it."""
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        path = self.folder / "auth.json"
        path.write_text(json.dumps({"auths": {self.authority: {"auth": login} if self.auth else {}}}))
        return path

    def location(self, repository: str = "team/model", tag: str = "latest", **more: Any) -> ImageLocation:
        logins = (RegistryLogin(self.authority, USER, SecretStr(PASSWORD)),) if self.auth else ()
        return ImageLocation(self.authority, repository, tag, **({"logins": logins, "validate_tls": self.https} | more))

    def repository(self, name: str) -> RepositoryFiles:
        """A repository as it lies on the registry's disk, which keeps nothing of it in memory."""
        return RepositoryFiles(self.folder / "data/docker/registry/v2", name)

    def unpacked(self, reference: str, into: Path) -> Path:
        """Pull with skopeo, unpack with umoci; the folder of the model."""
        layout = f"{into}/layout"
        trust = ["--src-cert-dir", str(self._certificates())] if self.https else ["--src-tls-verify=false"]
        name = f"docker://{self.authority}/{reference}"
        _call("skopeo", "copy", "--src-authfile", str(self.auth_file), *trust, name, f"oci:{layout}:model")
        _call("umoci", "unpack", "--rootless", "--image", f"{layout}:model", f"{into}/bundle")
        return into / "bundle/rootfs/models"

    def _certificates(self) -> Path:
        folder = self.folder / "certificates"
        folder.mkdir(exist_ok=True)
        shutil.copy(self.ca_file, folder / "ca.crt")
        return folder


@contextlib.contextmanager
def running_registry(
    folder: Path,
    *,
    auth: Literal["", "basic", "bearer"] = "",
    https: bool = False,
    before_tokens: Callable[[str], str] = lambda url: url,
) -> Iterator[DockerRegistry]:
    """Start a registry whose data lies in `folder`, stop it afterwards; `NotReady` with its last words.

    It chooses its port by itself, and says which.  `before_tokens` may put something before the token server: it is
    told where that is, and says where it is to be found.
    """
    registry = DockerRegistry("", folder, auth, https)
    with contextlib.ExitStack() as running:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(registry.ca_file))
        certificate = authority.issue_cert("localhost")
        certificate.private_key_pem.write_to_path(str(folder / "server.key"))
        certificate.cert_chain_pems[0].write_to_path(str(folder / "server.pem"))
        registry.signer = certificate
        tls = f', tls: {{certificate: "{folder}/server.pem", key: "{folder}/server.key"}}' if https else ""
        configuration = _CONFIGURATION.format(folder=folder, tls=tls, auth=_auth(registry, running, before_tokens))
        (folder / "config.yml").write_text(configuration)
        output = folder / "out"
        command = ["docker-registry", "serve", str(folder / "config.yml")]
        daemon = daemons.start(command, output=output, running=running)
        said = daemons.wait(daemon, lambda: _LISTENS.search(output.read_text(errors="replace")), outputs=[output])
        registry.authority = f"localhost:{said[1]}"
        yield registry


def missing_commands() -> list[str]:
    """Return those of the commands that are not on this machine's path."""
    return [command for command in COMMANDS if shutil.which(command) is None]


def _auth(registry: DockerRegistry, running: contextlib.ExitStack, before_tokens: Callable[[str], str]) -> str:
    if registry.auth == "basic":
        table = registry.folder / "htpasswd"
        table.write_text(_call("htpasswd", "-Bbn", USER, PASSWORD))
        return f"auth: {{htpasswd: {{realm: here, path: {table}}}}}"
    if registry.auth == "bearer":
        server = start(_Tokens, registry, None)
        running.callback(server.stop)
        realm = f"{before_tokens(server.url)}/token"
        told = f"realm: {realm}, service: here, issuer: us, rootcertbundle: {registry.ca_file}"
        return f"auth: {{token: {{{told}}}}}"
    return ""


class _Tokens(BaseHTTPRequestHandler):
    """The token server."""

    def do_GET(self) -> None:
        registry = cast("DockerRegistry", cast("Quiet", self.server).owner)
        known = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
        if self.headers.get("Authorization") != known:
            self.send_error(401)
            return
        registry.tokens += 1
        access = []
        for scope in parse_qs(urlsplit(self.path).query).get("scope", []):
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        now = int(time.time())
        claims = {
            "iss": "us",
            "sub": USER,
            "aud": "here",
            "exp": now + registry.lives,
            "nbf": now - 10,
            "iat": now,
            "jti": uuid.uuid4().hex,
            "access": access,
        }
        assert registry.signer is not None
        body = json.dumps({"token": signed(claims, registry.signer), "expires_in": registry.lives}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing to say."""


def signed(claims: dict[str, Any], signer: trustme.LeafCert) -> str:
    """A JSON Web Token, its certificate in the header."""
    chain = signer.cert_chain_pems[0].bytes()
    der = base64.b64decode(b"".join(chain.split(b"-----")[2].split()))
    head = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(der).decode()]}
    text = b".".join(_url64(json.dumps(part).encode()) for part in (head, claims))
    key = serialization.load_pem_private_key(signer.private_key_pem.bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    r, s = decode_dss_signature(key.sign(text, ec.ECDSA(hashes.SHA256())))
    return b".".join([text, _url64(r.to_bytes(32, "big") + s.to_bytes(32, "big"))]).decode()


def _url64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _call(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout
