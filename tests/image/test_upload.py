"""hack/upload.sh as a person calls it: really a container, a folder with spaces, and a Secret that comes late."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image.pods import TAG, Image, S3Server
from tests.support.fake_kubernetes import TOKEN, FakeKubernetes, running_kubernetes
from tests.support.models import write_model
from tests.support.podman import ROOT

pytestmark = [pytest.mark.image, pytest.mark.timeout(600)]

_noise = random.Random(20261121)
MODEL = {
    "config.json": b'{"model_type": "llama"}',
    "empty.txt": b"",
    "nested folder/tokenizer.json": _noise.randbytes(70_000),
    'ünï, "odd" + 100%.txt': b"odd",
    "model.safetensors": _noise.randbytes(21 * 2**20 + 13),
}
INNER = "https://s3.openshift-storage.svc:443"
_OURS = ("AWS_", "S3_SYNC_", "KUBECONFIG", "SYNCER_", "PIP_CERT")
KEYS = {"AWS_ACCESS_KEY_ID": "canary-access-key", "AWS_SECRET_ACCESS_KEY": "canary-secret-key"}


@pytest.fixture
def kubernetes() -> Iterator[FakeKubernetes]:
    with running_kubernetes(tls=True) as fake:
        yield fake


@pytest.fixture(scope="module")
def script(image: Image) -> Path:
    """The script of a checkout that stands still while this one is edited, so that its build is known to podman."""
    folder = image.context / "hack"
    folder.mkdir(exist_ok=True)
    shutil.copy2(ROOT / "hack/upload.sh", folder)
    return folder / "upload.sh"


def upload(image: Image, script: Path, here: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Exit code and output of the script in a folder; no canary is in the output.

    It builds unless SYNCER_IMAGE is said: with the arguments of the fixture `image`, so that podman has all layers.
    """
    clean = {name: value for name, value in image.podman.environment.items() if not name.startswith(_OURS)}
    done = subprocess.run(
        [str(script), *arguments],
        cwd=here,
        env=clean | {"SYNCER_BASE_IMAGE": image.base, "CONTAINER_ENGINE": "podman"} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    output = done.stdout + done.stderr
    assert "canary" not in output
    assert TOKEN not in output
    return done.returncode, output


def test_a_folder_with_spaces_goes_to_a_cluster_whose_secret_comes_late(
    image: Image, script: Path, s3: S3Server, kubernetes: FakeKubernetes, tmp_path: Path
) -> None:
    s3.put("demo", {})
    here = tmp_path / "my, downloads"
    write_model(here / "aligned model", MODEL)
    kubeconfig = kubernetes.kubeconfig(tmp_path / "my kube" / "config")
    kubeconfig.chmod(0o600)
    connection = KEYS | {"AWS_S3_ENDPOINT": INNER, "AWS_S3_BUCKET": "demo", "AWS_DEFAULT_REGION": "local"}
    kubernetes.put_secret("demo", "demo-models", connection, late=1)
    kubernetes.put_route("openshift-storage", "s3", service="s3", host=s3.endpoint.removeprefix("http://"))

    code, output = upload(image, script, here, "aligned model/", "--finish", KUBECONFIG=str(kubeconfig))

    assert code == 0, output
    assert "Building/updating image." in output
    found = s3.contents("demo")
    assert "models/.syncer/complete.json" in found
    model = {path.removeprefix("models/"): data for path, data in found.items() if "/.syncer/" not in path}
    assert model == MODEL
    assert "s3://demo/models/nested folder/tokenizer.json" in output
    assert kubernetes.secret("demo", "model-source") == {"S3_SYNC_LOCAL_UPLOAD_COMPLETE": "true"}
    assert b"canary" not in b"".join(data for path, data in found.items() if "/.syncer/" in path)

    code, output = upload(image, script, here, "aligned model/", KUBECONFIG=str(kubeconfig), SYNCER_IMAGE=TAG)
    assert code == 0, output
    assert '"reason": "UpToDate"' in output


def test_without_a_cluster_and_what_lies_elsewhere(image: Image, script: Path, s3: S3Server, tmp_path: Path) -> None:
    s3.put("demo", {})
    here = tmp_path / "here"
    write_model(tmp_path, {"here/config.json": b"{}", "outside/config.json": b"{}"})
    (here / "link").symlink_to("../outside/config.json")
    environment = KEYS | {
        "SYNCER_IMAGE": TAG,
        "AWS_S3_ENDPOINT": s3.endpoint,
        "AWS_S3_BUCKET": "demo",
        "HOME": str(tmp_path),
    }
    for argument in ("../outside/", "link"):
        code, output = upload(image, script, here, argument, **environment)
        assert code == 78, output
        assert f"{argument}: does not lie in the current directory or below it" in output
    code, output = upload(image, script, here, "config.json", **environment)
    assert code == 0, output
    assert s3.contents("demo")["models/config.json"] == b"{}"
