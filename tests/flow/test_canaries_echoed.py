"""Servers that send our own secrets back, in any dress and with any failure, bring none of them into what we say."""

import base64
import json
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from tests.support.canaries import CANARIES, all_of, echo, hasty, leaked, places, watched_by_a_person
from tests.support.models import write_model
from tests.support.processes import Ended, Pod
from tests.support.scripted_server import ScriptedServer

KEYS = {
    "S3_SYNC_SRC__ACCESS_KEY": CANARIES["source access key"],
    "S3_SYNC_SRC__SECRET_KEY": CANARIES["source secret key"],
    "S3_SYNC_SRC__SESSION_TOKEN": CANARIES["source session token"],
}
TARGET_KEYS = {
    "AWS_ACCESS_KEY_ID": CANARIES["target access key"],
    "AWS_SECRET_ACCESS_KEY": CANARIES["target secret key"],
    "AWS_SESSION_TOKEN": CANARIES["target session token"],
}
PLAIN = {"S3_SYNC_ALLOW_PLAINTEXT_TOKENS": "true"}
RARE = pytest.mark.real  # they need no gateway, but the time of a ring that has more of it
Scene = Callable[[ScriptedServer, Path], dict[str, str]]


def to_volume(folder: Path) -> dict[str, str]:
    (folder / "volume").mkdir(exist_ok=True)
    return {"S3_SYNC_DEST__PATH": str(folder / "volume" / "models")}


def from_folder(folder: Path) -> dict[str, str]:
    return {"S3_SYNC_SRC__PATH": str(write_model(folder / "source", {"config.json": b"{}"}))}


def bucket_as_source(server: ScriptedServer, folder: Path) -> dict[str, str]:
    return KEYS | {"S3_SYNC_SRC__PATH": "s3://b/m/", "S3_SYNC_SRC__ENDPOINT": server.url} | to_volume(folder)


def bucket_as_destination(server: ScriptedServer, folder: Path) -> dict[str, str]:
    return from_folder(folder) | TARGET_KEYS | {"AWS_S3_BUCKET": "demo", "AWS_S3_ENDPOINT": server.url}


def bucket_behind_a_proxy(server: ScriptedServer, folder: Path) -> dict[str, str]:
    proxy = f"http://canary-user:{CANARIES['proxy']}@localhost:{server.port}"
    return (
        KEYS
        | {"S3_SYNC_SRC__PATH": "s3://b/m/", "S3_SYNC_SRC__ENDPOINT": f"{server.url.partition(':')[0]}://store.test"}
        | {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy}
        | to_volume(folder)
    )


def cos(server: ScriptedServer, folder: Path) -> dict[str, str]:
    place = {"S3_SYNC_COS_BUCKET": "b", "S3_SYNC_COS_ENDPOINT": server.url, "S3_SYNC_COS_IAM_ENDPOINT": server.url}
    return place | PLAIN | to_volume(folder)


def cos_by_passcode(server: ScriptedServer, folder: Path) -> dict[str, str]:
    return cos(server, folder) | {"S3_SYNC_COS_TEMPORARY_PASSCODE": CANARIES["passcode"]}


def cos_by_api_key(server: ScriptedServer, folder: Path) -> dict[str, str]:
    return cos(server, folder) | {"S3_SYNC_COS_API_KEY": CANARIES["api key"]}


def hub(server: ScriptedServer, folder: Path) -> dict[str, str]:
    told = {"HUGGINGFACE_MODEL": "team/model", "HF_ENDPOINT": server.url, "HF_TOKEN": CANARIES["hub"]}
    return told | PLAIN | to_volume(folder)


def logins(server: ScriptedServer, folder: Path, *, identity: bool) -> dict[str, str]:
    password = "" if identity else CANARIES["registry password"]
    entry = {"auth": base64.b64encode(f"me:{password}".encode()).decode()}
    entry |= {"identitytoken": CANARIES["registry identity"]} if identity else {}
    (folder / "auth.json").write_text(json.dumps({"auths": {f"localhost:{server.port}": entry}}))
    checked = {} if server.url.startswith("https") else {"OCI_VALIDATE_TLS": "false"}
    return {"REGISTRY_AUTH_FILE": str(folder / "auth.json")} | PLAIN | checked


def image_as_source(server: ScriptedServer, folder: Path) -> dict[str, str]:
    image = f"oci://localhost:{server.port}/team/model:1"
    return {"S3_SYNC_SRC__PATH": image} | to_volume(folder) | logins(server, folder, identity=False)


def image_as_destination(server: ScriptedServer, folder: Path) -> dict[str, str]:
    image = f"localhost:{server.port}/team/model:1"
    return from_folder(folder) | {"OCI_IMAGE": image} | logins(server, folder, identity=False)


def image_by_identity(server: ScriptedServer, folder: Path) -> dict[str, str]:
    image = f"localhost:{server.port}/team/model:1"
    return from_folder(folder) | {"OCI_IMAGE": image} | logins(server, folder, identity=True)


def model_registry(server: ScriptedServer, folder: Path) -> dict[str, str]:
    told = {"MODEL_REGISTRY_URL": server.url, "MODEL_NAME": "m", "MODEL_REGISTRY_TOKEN": CANARIES["model registry"]}
    return from_folder(folder) | to_volume(folder) | told | PLAIN


SCENES: list[Scene] = [
    bucket_as_source,
    bucket_as_destination,
    bucket_behind_a_proxy,
    cos_by_passcode,
    cos_by_api_key,
    hub,
    image_as_source,
    image_as_destination,
    image_by_identity,
    model_registry,
]


def run(scene: Scene, server: ScriptedServer, pod: Pod, *commands: tuple[str, ...]) -> list[Ended]:
    environ = scene(server, pod.folder.parent) | places(pod) | {"S3_SYNC_WAIT_FOR_DESTINATION": "0s"}
    with hasty():
        return [pod.run_here(environ, *arguments) for arguments in commands]


def used_by(scene: Scene, pod: Pod) -> list[str]:
    """The secrets that a scene brings along, in its variables and in its files."""
    with ScriptedServer(lambda heard: heard.close()) as server:
        told = list(scene(server, pod.folder.parent).values())
    for file in pod.folder.parent.glob("auth.json"):
        entries = json.loads(file.read_text())["auths"].values()
        told += [text for entry in entries for text in (str(entry), base64.b64decode(entry["auth"]).decode())]
    found = [secret for secret in CANARIES.values() if any(secret in text for text in told)]
    assert found
    return found


@pytest.mark.parametrize("status", [302, 403, 500, *(pytest.param(code, marks=RARE) for code in (200, 400, 401, 404))])
@pytest.mark.parametrize("scene", SCENES)
def test_an_answer_that_holds_our_secrets_is_told_without_them(scene: Scene, status: int, pod: Pod) -> None:
    used = used_by(scene, pod)
    with ScriptedServer(echo(status, used)) as server:
        ended = run(scene, server, pod, ("-vvvvv",))
        assert server.heard
    assert ended[0].code in {65, 66, 69, 75, 77, 78}, ended[0]
    assert "Traceback" not in ended[0].termination["message"]
    assert leaked(all_of(ended, pod), used) == []


@pytest.mark.parametrize("scene", SCENES)
def test_a_certificate_that_nobody_vouches_for_is_told_without_secrets(scene: Scene, pod: Pod) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    with ScriptedServer(lambda heard: heard.close(), context=context) as server:
        ended = run(scene, server, pod, ("-vvvvv",))
        assert not server.heard
    assert ended[0].code in {69, 78}, ended[0]
    assert leaked(all_of(ended, pod), CANARIES.values()) == []


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("scene", [bucket_as_destination, hub, image_by_identity])
def test_every_command_at_every_verbosity_in_both_forms(scene: Scene, terminal: bool, pod: Pod) -> None:
    secrets = used_by(scene, pod)
    levels = [("-" + "v" * level,) if level else () for level in range(6)]
    commands = [*levels, ("plan", "-vvvvv", "--json"), ("verify", "-vvvvv"), ("wait", "-vvvvv", "--deadline", "0s")]
    commands += [("doctor", "-vvvvv"), ("doctor", "-vvvvv", "--json")]
    with ScriptedServer(echo(403, secrets)) as server:
        if terminal:
            with watched_by_a_person():
                ended = run(scene, server, pod, *commands)
        else:
            ended = run(scene, server, pod, *commands)
    assert not any(one.code in {0, 70} for one in ended), [str(one) for one in ended]
    assert leaked(all_of(ended, pod), secrets) == []
