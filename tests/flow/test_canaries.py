"""No credential of an image registry or of the Model Registry is in anything that a run says or leaves.

Those of S3 are looked for in `test_process.py`.
"""

import base64
import json

import pytest

from tests.support.fake_registry import FakeRegistry
from tests.support.image_registry import USER, ImageRegistry
from tests.support.models import small_model, write_model
from tests.support.processes import Pod

PASSWORD = "canary/registry+password=of:somebody"
REGISTRY_TOKEN = "canary-model-registry-token-0123456789"
HF_TOKEN = "hf_canaryTokenOfTheHub"
PROXY = "canary%2Fproxy-password"


@pytest.mark.parametrize("identity", [False, True])
def test_what_lets_us_into_a_registry_is_nowhere(pod: Pod, identity: bool) -> None:
    source = write_model(pod.folder / "source", small_model())
    results, workspace = pod.folder / "results", pod.folder / "workspace"
    results.mkdir()
    workspace.mkdir()
    pair = base64.b64encode(f"{USER}:{'' if identity else PASSWORD}".encode()).decode()
    entry = {"auth": pair} | ({"identitytoken": PASSWORD} if identity else {})
    with ImageRegistry(auth="bearer", password=PASSWORD) as images, FakeRegistry() as models:
        secret = pod.folder.parent / "auth.json"
        secret.write_text(json.dumps({"auths": {images.authority: entry}}))
        environ = {
            "S3_SYNC_SRC__PATH": str(source),
            "OCI_IMAGE": f"{images.authority}/team/model:1",
            "OCI_VALIDATE_TLS": "false",
            "REGISTRY_AUTH_FILE": str(secret),
            "MODEL_REGISTRY_URL": models.url,
            "MODEL_REGISTRY_TOKEN": REGISTRY_TOKEN,
            "S3_SYNC_ALLOW_PLAINTEXT_TOKENS": "true",
            "MODEL_NAME": "granite",
            "HF_TOKEN": HF_TOKEN,
            "HTTPS_PROXY": f"http://canary-user:{PROXY}@127.0.0.1:9",
            "NO_PROXY": "localhost,127.0.0.1",
            "RESULTS_DIR": str(results),
            "S3_SYNC_WORKSPACE": str(workspace),
            "S3_SYNC_WAIT_FOR_DESTINATION": "0s",
        }
        ended = [pod.run_here(environ, "-vvvvv"), pod.run_here(environ, "verify", "-vvvvv")]
        assert [one.code for one in ended] == [0, 0], [str(one) for one in ended]
        images.password, images.tokens = "another", {}
        ended.append(pod.run_here(environ, "-vvvvv"))
        assert ended[-1].code == 77, ended[-1]
        pushed = b"".join(content for _, content in images.repository().manifests.values()) + b"".join(
            map(bytes, images.repository().blobs.values())
        )
        given = {asked.authorization.partition(" ")[2] for asked in images.asked} - {""}
    said = "".join(f"{one.output}{json.dumps(one.termination)}" for one in ended)
    left = b"".join(path.read_bytes() for path in pod.folder.rglob("*") if path.is_file()) + pushed
    assert any(each.startswith("canary-token-") for each in given)
    for canary in {PASSWORD, REGISTRY_TOKEN, HF_TOKEN, PROXY, "canary/proxy-password", *given}:
        assert canary not in said
        assert canary.encode() not in left
