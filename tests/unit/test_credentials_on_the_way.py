"""Credentials go to the place that they are for: no client carries them along a redirect, no token goes over http.

What the Hub's token and the Registry's settings do is with their tests; here is every other client, before a server
that sends it to another host.
"""

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
import yaml
from pydantic import SecretStr

from syncer.cluster import Cluster, find_access
from syncer.errors import ConfigurationError, SyncerError
from syncer.manifest import ModelFile
from syncer.registration.rest import Rest
from syncer.retry import Patience
from syncer.settings.locations import ImageLocation, Network, RegistryLocation, RegistryLogin, S3Location
from syncer.stores.oci.login import Login
from syncer.stores.oci.session import Session
from syncer.stores.protocols import Cut
from syncer.stores.s3 import S3Destination, S3Source
from syncer.wire import Origin, Wire
from tests.contract.checks import send_part
from tests.support.cos_places import own_redactor
from tests.support.scripted_server import Heard, ScriptedServer, reply

CANARY = "canary-credential-0123456789"
ONCE = Patience(seconds=0.0)
FILE = ModelFile("a.bin", 10, '"e1"')
SCOPES = ("repository:team/model:pull",)


@pytest.fixture(autouse=True)
def _redactor() -> Iterator[None]:
    with own_redactor():
        yield


@pytest.fixture
def elsewhere() -> Iterator[ScriptedServer]:
    """Another origin, which takes whatever comes."""
    with ScriptedServer(lambda heard: heard.say(reply(200, b"{}"))) as server:
        yield server


@pytest.fixture(params=[301, 302, 307, 308])
def sends_on(request: pytest.FixtureRequest, elsewhere: ScriptedServer) -> Iterator[ScriptedServer]:
    """A server that says of everything that it is elsewhere."""

    def script(heard: Heard) -> None:
        heard.body()
        heard.say(reply(request.param, location=f"{elsewhere.url}{heard.target}"))

    with ScriptedServer(script) as server:
        yield server


def bucket(server: ScriptedServer) -> S3Location:
    secret = SecretStr(CANARY)
    return S3Location("b", "m/", server.url, access_key=secret, secret_key=secret, session_token=secret)


def list_a_bucket(server: ScriptedServer, _folder: Path) -> None:
    with closing(S3Source(bucket(server), Network(), patience=ONCE)) as source:
        source.listing()


def read_an_object(server: ScriptedServer, _folder: Path) -> None:
    with closing(S3Source(bucket(server), Network(), patience=ONCE)) as source:
        source.read(FILE, 0, 10).close()


def write_an_object(server: ScriptedServer, _folder: Path) -> None:
    with closing(S3Destination(bucket(server), Network(), patience=ONCE)) as destination:
        upload = destination.begin(FILE, Cut(10, 10))
        send_part(upload, 0, b"0123456789")


def ask_the_model_registry(server: ScriptedServer, _folder: Path) -> None:
    location = RegistryLocation(server.url, "model", "1", token=SecretStr(CANARY))
    with closing(Rest(location, Network())) as rest:
        rest.find_base()


def ask_a_cluster(server: ScriptedServer, folder: Path) -> None:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": server.url}}],
        "users": [{"name": "u", "user": {"token": CANARY}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
    }
    (folder / "config").write_text(yaml.safe_dump(document))
    with closing(Cluster(find_access({"KUBECONFIG": str(folder / "config")}))) as cluster:
        cluster.secret("demo", "models")


@pytest.mark.parametrize("ask", [list_a_bucket, read_an_object, write_an_object, ask_the_model_registry, ask_a_cluster])
def test_nothing_follows_a_redirect_with_its_credentials(
    sends_on: ScriptedServer, elsewhere: ScriptedServer, ask: Callable[[ScriptedServer, Path], None], tmp_path: Path
) -> None:
    with suppress(SyncerError):
        ask(sends_on, tmp_path)
    assert any(CANARY in str(heard.headers) for heard in sends_on.heard)
    assert [heard for heard in elsewhere.heard if CANARY in f"{heard.headers} {heard.target}"] == []
    assert elsewhere.connections == 0


# Image registries ---------------------------------------------------------------------------------------------------


def image(registry: str, *, identity: bool = False, allowed: bool = False) -> ImageLocation:
    secret = SecretStr(CANARY)
    login = RegistryLogin(registry, "" if identity else "me", *((None, secret) if identity else (secret,)))
    return ImageLocation(registry, "team/model", "1", logins=(login,), validate_tls=False, plaintext_tokens=allowed)


def session_at(registry: ScriptedServer, location: ImageLocation) -> closing[Session]:
    session = Session(location, Network(), variable="X", patience=ONCE)
    session._origin = Origin.split(registry.url)[0]  # whether it speaks TLS it would find out by its silence
    return closing(session)


def sent(server: ScriptedServer) -> str:
    basic = base64.b64encode(f"me:{CANARY}".encode()).decode()
    said = "".join(f"{heard.headers} {heard.target} {heard.body().decode()}\n" for heard in server.heard)
    return said.replace(basic, CANARY)


@pytest.mark.parametrize("identity", [False, True])
def test_a_token_server_that_sends_us_on_is_not_followed(
    sends_on: ScriptedServer, elsewhere: ScriptedServer, identity: bool
) -> None:
    challenge = f'Bearer realm="{sends_on.url}/token",service="x"'
    with ExitStack() as stack:
        registry = stack.enter_context(ScriptedServer(lambda heard: heard.say(reply(401, www_authenticate=challenge))))
        location = image(f"localhost:{registry.port}", identity=identity)
        session = stack.enter_context(session_at(registry, location))
        with pytest.raises(SyncerError):
            session.ask("GET", "/v2/team/model/manifests/1", scopes=SCOPES)
    assert CANARY in sent(sends_on)
    assert elsewhere.connections == 0


def test_an_upload_that_goes_on_elsewhere_goes_without_the_login(elsewhere: ScriptedServer) -> None:
    def script(heard: Heard) -> None:
        heard.body()
        if "authorization" not in heard.headers:
            heard.say(reply(401, www_authenticate='Basic realm="x"'))
        else:
            heard.say(reply(202, location=f"{elsewhere.url}/upload"))

    with ScriptedServer(script) as registry, ExitStack() as stack:
        location = image(f"localhost:{registry.port}")
        session = stack.enter_context(session_at(registry, location))
        with session.ask("POST", "/v2/team/model/blobs/uploads/", scopes=SCOPES) as answer:
            url = session.resolve(str(session.origin), answer.header("Location"))
        session.ask("PATCH", url, scopes=SCOPES, body=b"x").close()
        exchange = session.begin("PUT", url, {}, length=1, scopes=SCOPES)
        assert exchange.send(memoryview(b"x"))
        exchange.answer().close()
        assert CANARY in sent(registry)
    assert [heard.method for heard in elsewhere.heard] == ["PATCH", "PUT"]
    assert not any("authorization" in heard.headers for heard in elsewhere.heard)


@pytest.mark.parametrize("allowed", [False, True])
def test_a_token_that_came_over_a_safe_way_does_not_go_on_over_http(allowed: bool) -> None:
    """A registry without TLS may well have a token server with it."""
    with ScriptedServer(lambda heard: heard.say(reply(200, json.dumps({"token": "x" * 20}).encode()))) as tokens:
        registry, _ = Origin.split("http://registry.example.com:5000/")
        challenge = f'Bearer realm="{tokens.url}/token",service="x"'
        with ScriptedServer(lambda heard: heard.say(reply(401, www_authenticate=challenge))) as refusing:
            wire = Wire(Network())
            login = Login(image("registry.example.com:5000", allowed=allowed), wire, patience=ONCE)
            here, _ = Origin.split(refusing.url)
            with closing(wire), wire.ask("GET", here, "/v2/", {}) as refusal:
                if allowed:
                    login.refused(refusal, registry, SCOPES, "")
                    assert login.header(registry, SCOPES) == "Bearer " + "x" * 20
                    return
                with pytest.raises(ConfigurationError) as caught:
                    login.refused(refusal, registry, SCOPES, "")
        assert "S3_SYNC_ALLOW_PLAINTEXT_TOKENS" in caught.value.hint
        assert tokens.heard == []
