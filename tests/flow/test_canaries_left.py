"""What a run shows of its secrets while it works and when it is killed: processes, journal, addresses, settings."""

import json
import pprint
import subprocess
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn
from urllib.parse import parse_qs, urlsplit

import pytest

from syncer.compressing import child
from syncer.settings import effective, load, secrets
from syncer.settings.locations import Settings
from tests.support.buckets import S3Server
from tests.support.canaries import CANARIES, all_of, hasty, leaked, left_in, places
from tests.support.fake_hub import FakeHub, Fault, File
from tests.support.fake_registry import FakeRegistry
from tests.support.image_registry import USER, ImageRegistry
from tests.support.models import pattern, write_model
from tests.support.processes import Pod
from tests.support.small_llama import fake_worker, write_llama

WEIGHTS = pattern(3 << 20)
TOKEN = CANARIES["hub"]


def private_model(hub: FakeHub, files: dict[str, bytes] | None = None) -> dict[str, str]:
    """A repository that only the canary may read; what the environment says of it."""
    hub.tokens.add(TOKEN)
    repository = hub.create("team/model", private=True)
    repository.readers.add(TOKEN)
    repository.commit(files or {"config.json": b"{}", "model.safetensors": WEIGHTS})
    told = {"HUGGINGFACE_MODEL": "team/model", "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN}
    return told | {"S3_SYNC_ALLOW_PLAINTEXT_TOKENS": "true", "S3_SYNC_WAIT_FOR_DESTINATION": "0s"}


def signed_by(hub: FakeHub) -> list[str]:
    """All addresses that the Hub signs from now on."""
    given, real = [], hub.sign

    def sign(file: File) -> str:
        given.append(real(file))
        return given[-1]

    hub.sign = sign  # type: ignore[method-assign]
    return given


def signatures(urls: list[str]) -> set[str]:
    return {parse_qs(urlsplit(url).query)["X-Amz-Signature"][0] for url in urls}


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (None, 0),
        (Fault("status", "", host="storage", status=403, times=1000), 75),
        (Fault("status", "", host="storage", status=503, times=1000), 75),
        (Fault("short", "", host="storage", times=1000), 75),
        (Fault("flip", "", host="storage", at=1000, times=1000), 65),
    ],
)
def test_an_address_that_the_hub_signs_is_nowhere(fault: Fault | None, code: int, pod: Pod, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    with FakeHub() as hub, hasty():
        given = signed_by(hub)
        environ = private_model(hub) | {"S3_SYNC_DEST__PATH": str(tmp_path / "volume")} | places(pod)
        if fault is not None:
            hub.fail(fault)
        ended = pod.run_here(environ, "-vvvvv")
    assert ended.code == code, ended
    assert given
    text = all_of([ended], pod) + left_in(tmp_path / "volume").replace(WEIGHTS.decode("utf-8", "replace"), "")
    assert leaked(text, [TOKEN, *signatures(given)]) == []


@pytest.mark.parametrize("status", [200, 403, 500])
def test_an_address_that_a_registry_signs_is_nowhere(status: int, pod: Pod, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    source = write_model(tmp_path / "source", {"config.json": b"{}", "model.safetensors": pattern(100_000)})
    signature = "CANARYsignature0123456789abcdef"
    with ImageRegistry(auth="basic", password=CANARIES["registry password"]) as images, ImageRegistry() as storage:
        logins = {"auths": {images.authority: {"username": USER, "password": images.password}}}
        (tmp_path / "auth.json").write_text(json.dumps(logins))
        login = {"REGISTRY_AUTH_FILE": str(tmp_path / "auth.json"), "OCI_VALIDATE_TLS": "false"}
        image = f"{images.authority}/team/model:1"
        assert pod.run_here(login | {"S3_SYNC_SRC__PATH": str(source), "OCI_IMAGE": image}).code == 0
        storage.repositories = images.repositories
        images.redirects_to = f"{storage.url}/signed?X-Amz-Signature={signature}&to="
        environ = login | {"S3_SYNC_SRC__PATH": f"oci://{image}", "S3_SYNC_DEST__PATH": str(tmp_path / "volume")}
        storage.answers = {("GET", ""): [(status, {}, {"errors": [{"message": signature}]})] * 100}
        with hasty():
            ended = pod.run_here(environ | places(pod), "-vvvvv")
    assert ended.code != 0, ended
    text = all_of([ended], pod) + left_in(tmp_path / "volume")
    assert leaked(text, [images.password, signature]) == []


# What is killed -------------------------------------------------------------------------------------------------------


def killed(pod: Pod, hub: FakeHub, environ: dict[str, str]) -> str:
    """Kill a run in the middle of its weights; what it has said, and its own and its children's command lines."""
    lines: list[str] = []
    with_process: list[subprocess.Popen[str]] = []

    def kill(served: int) -> None:
        if served > len(WEIGHTS) // 2 and not lines:
            process = with_process[0]
            here = Path(f"/proc/{process.pid}")
            folders = (here, *(here / "task").iterdir())
            lines.extend((folder / "cmdline").read_text().replace("\0", " ") for folder in folders)
            process.kill()

    hub.on_bytes = kill
    with_process.append(pod.start(environ, "-vvvvv"))
    ended = pod.end(with_process[0])
    assert ended.code == -9, ended
    assert "entrypoint.py" in lines[0]
    return "\n".join([ended.output, *lines])


def test_a_killed_run_leaves_no_secret_in_a_bucket(s3: S3Server, pod: Pod) -> None:
    target = s3.new_bucket("demo")
    keys = {
        "AWS_ACCESS_KEY_ID": CANARIES["target access key"],
        "AWS_SECRET_ACCESS_KEY": CANARIES["target secret key"],
        "AWS_SESSION_TOKEN": CANARIES["target session token"],
    }
    with FakeHub() as hub:
        given = signed_by(hub)
        environ = private_model(hub, {"model.safetensors": WEIGHTS, "a.json": b"{}"}) | s3.connection_environment(
            target
        )
        said = killed(pod, hub, environ | keys)
    there = s3.control(target, "models/")
    assert any("state/" in key or key.endswith("lease.json") for key in there), there
    text = said + str(sorted(there)) + b"".join(there.values()).decode()
    assert leaked(text + left_in(pod.folder), [TOKEN, *keys.values(), *signatures(given)]) == []


@pytest.mark.parametrize("destination", ["{}/models", "oci-archive:{}/model.tar"])
def test_a_killed_run_leaves_no_secret_in_a_volume(destination: str, pod: Pod, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    with FakeHub() as hub:
        given = signed_by(hub)
        said = killed(pod, hub, private_model(hub) | {"S3_SYNC_DEST__PATH": destination.format(volume)})
    left = left_in(volume)
    assert "lease.json" in left
    assert leaked(said + left + left_in(pod.folder), [TOKEN, *signatures(given)]) == []


# What is started ------------------------------------------------------------------------------------------------------

TELLS = """
import os
log.with_name("worker-cmdline").write_bytes(pathlib.Path("/proc/self/cmdline").read_bytes())
log.with_name("worker-environ").write_bytes(pathlib.Path("/proc/self/environ").read_bytes())
print("HTTP 401 for", task["dataset_token"], {"Authorization": "Bearer " + task["dataset_token"]}, file=sys.stderr)
tell("log", level=30, message="the Hub said no to " + task["dataset_token"])
"""
FAILS = (
    'tell("failed", number=0, message="x " + task["dataset_token"], trace="in " + task["dataset_token"]); sys.exit(1)'
)
CRASHES = 'raise RuntimeError("with " + task["dataset_token"])'


@pytest.mark.parametrize(("ends", "code"), [("", 0), (FAILS, 70), (CRASHES, 70)])
def test_the_process_that_compresses_has_one_token_and_shows_it_to_nobody(
    ends: str, code: int, pod: Pod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, log = fake_worker(tmp_path, before=TELLS + ends)
    monkeypatch.setattr(child, "WORKER", command)
    monkeypatch.setattr(child, "refuse_without_library", lambda: None)
    environ = {
        "S3_SYNC_SRC__PATH": str(write_llama(tmp_path / "source")),
        "S3_SYNC_DEST__PATH": str(tmp_path / "models"),
        "COMPRESS_MODEL": "true",
        "DATASET": "c4",
        "S3_SYNC_SCRATCH_DIR": str(tmp_path / "scratch"),
        "HF_TOKEN": TOKEN,
        "AWS_SECRET_ACCESS_KEY": CANARIES["target secret key"],
        "MODEL_REGISTRY_TOKEN": CANARIES["model registry"],
        "S3_SYNC_SRC__SECRET_KEY": CANARIES["source secret key"],
        "S3_SYNC_COS_API_KEY": "",
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    ended = pod.run_here(environ | places(pod), "-vvvvv")
    assert ended.code == code, ended
    assert json.loads(log.read_text())["dataset_token"] == TOKEN
    shown = (tmp_path / "worker-cmdline").read_text() + (tmp_path / "worker-environ").read_text()
    assert "worker.py" in shown
    assert "the Hub said no to ***" in ended.output
    left = "".join(left_in(tmp_path / name) for name in ("models", "scratch"))
    assert leaked(all_of([ended], pod) + shown + left, CANARIES.values()) == []


def test_the_scripts_of_cluster_and_driver_get_nothing_on_their_command_lines() -> None:
    """Every process that this program starts is named here, with words that hold no setting."""
    root = Path(child.__file__).parents[1]
    starts = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if any(call in path.read_text() for call in ("subprocess.run(", "subprocess.Popen(", "os.exec", "os.spawn"))
    }
    assert starts == {"cluster/login.py", "compressing/child.py", "examining/host.py"}
    assert all("-" in word or "/" in word or "." in word for word in child.WORKER)


# What Python would print ----------------------------------------------------------------------------------------------


@pytest.fixture
def everything(tmp_path: Path) -> Settings:
    """Settings with a secret of each kind that fits beside the others."""
    auths = {"auths": {"quay.io": {"username": "me", "password": CANARIES["registry password"]}}}
    auths["auths"]["ghcr.io"] = {"identitytoken": CANARIES["registry identity"]}
    (tmp_path / "auth.json").write_text(json.dumps(auths))
    (tmp_path / "passcode").write_text(CANARIES["passcode"] + "\n")
    proxy = f"http://me:{CANARIES['proxy']}@proxy.test:3128"
    return load(
        {
            "S3_SYNC_COS_BUCKET": "b",
            "S3_SYNC_COS_INSTANCE_REGION": "us-south",
            "S3_SYNC_COS_TEMPORARY_PASSCODE_FILE": str(tmp_path / "passcode"),
            "AWS_S3_BUCKET": "demo",
            "AWS_ACCESS_KEY_ID": CANARIES["target access key"],
            "AWS_SECRET_ACCESS_KEY": CANARIES["target secret key"],
            "OCI_IMAGE": "quay.io/team/model:1,ghcr.io/team/model:1",
            "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json"),
            "MODEL_REGISTRY_URL": "https://registry.test",
            "MODEL_REGISTRY_TOKEN": CANARIES["model registry"],
            "MODEL_NAME": "m",
            "COMPRESS_MODEL": "true",
            "S3_SYNC_SCRATCH_DIR": str(tmp_path),
            "HF_TOKEN": TOKEN,
            "HTTPS_PROXY": proxy,
        }
    )


def as_traceback(settings: Settings) -> str:
    def fails(settings: Settings, network: object) -> NoReturn:
        raise ValueError(f"with {settings} and {network!r}")

    try:
        try:
            fails(settings, settings.network)
        except ValueError as error:
            raise RuntimeError(settings, settings.destinations) from error
    except RuntimeError as error:
        return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


DUMPS: list[Callable[[Settings], str]] = [
    repr,
    str,
    pprint.pformat,
    lambda settings: json.dumps(effective(settings)),
    lambda settings: str(vars(settings)),
    as_traceback,
]


@pytest.mark.parametrize("dump", DUMPS)
def test_settings_can_be_shown_in_any_way(everything: Settings, dump: Callable[[Settings], str]) -> None:
    text = dump(everything)
    assert "demo" in text
    assert leaked(text, CANARIES.values()) == []


def test_settings_hold_what_the_search_looks_for(everything: Settings) -> None:
    kinds = "target access key", "target secret key", "passcode", "hub", "registry password", "registry identity"
    assert {CANARIES[kind] for kind in (*kinds, "model registry", "proxy")} <= set(secrets(everything))


def test_a_registry_that_says_the_token_back_learns_nothing_of_its_file(pod: Pod, tmp_path: Path) -> None:
    """A token that comes by a file, as most do in a pod."""
    secret = tmp_path / "token"
    secret.write_text(CANARIES["model registry"])
    (tmp_path / "volume").mkdir()
    with FakeRegistry() as registry:
        registry.tokens.add("another")
        environ = {
            "S3_SYNC_SRC__PATH": str(write_model(tmp_path / "source", {"config.json": b"{}"})),
            "S3_SYNC_DEST__PATH": str(tmp_path / "volume"),
            "MODEL_REGISTRY_URL": registry.url,
            "MODEL_REGISTRY_TOKEN_FILE": str(secret),
            "MODEL_NAME": "m",
            "S3_SYNC_ALLOW_PLAINTEXT_TOKENS": "true",
        }
        ended = pod.run_here(environ | places(pod), "-vvvvv")
    assert ended.code == 77, ended
    assert leaked(all_of([ended], pod), CANARIES.values()) == []
