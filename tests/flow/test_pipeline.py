"""The pipeline's tasks as they are written in YAML, one after another on a shared folder: from the Hub to a bucket."""

import base64
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from syncer.settings import load
from syncer.stores.s3 import S3Destination
from tests.support.buckets import S3Server
from tests.support.fake_hub import FakeHub, Repository
from tests.support.fake_registry import FakeRegistry
from tests.support.image_registry import USER, ImageRegistry
from tests.support.models import pattern, read_model
from tests.support.processes import Ended, Pod
from tests.support.tekton import Run
from tests.unit.test_directory_sealed import seal

pytestmark = pytest.mark.usefixtures("impatient")

TOKEN = "hf_canary_of_the_pipeline_0123456789"
MODEL = {
    "config.json": b'{"torch_dtype": "bfloat16"}',
    "README.md": b"---\nlicense: apache-2.0\n---\n# A model\n",
    "model.safetensors": pattern(300_003),
    "1_Dense/model.safetensors": pattern(20_000),
}
OTHER = {"config.json": b"{}", "other.safetensors": pattern(1_000, 7)}
FOLDER = "model-data/granite/1.0.0/"
DOWNLOADS = ".pipeline-metadata/download-status.json"


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as server:
        server.tokens.add(TOKEN)
        yield server


@pytest.fixture
def repository(hub: FakeHub) -> Repository:
    repository = hub.create("team/model", private=True)
    repository.readers.add(TOKEN)
    repository.commit(MODEL)
    return repository


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as server:
        yield server


@dataclass
class Cluster:
    """What the pipeline runs in: a volume, Secrets, and everybody whom its steps talk to."""

    folder: Path
    hub: FakeHub
    s3: S3Server
    registry: FakeRegistry
    bucket: str
    processes: bool = False
    ended: dict[str, Ended] = field(default_factory=dict)
    compress: Callable[[dict[str, str]], int] | None = None

    @property
    def volume(self) -> Path:
        return self.folder / "volume"

    def run(self, **params: str) -> Run:
        """A run of the pipeline that has come to its end."""
        given = {
            "HUGGINGFACE_MODEL": "team/model",
            "HF_ENDPOINT": self.hub.endpoint,
            "MODEL_NAME": "granite",
            "S3_BUCKET": self.bucket,
            "S3_ENDPOINT_URL": self.s3.endpoint,
            "MODEL_REGISTRY_URL": self.registry.url,
        }
        run = Run(
            params=given | params,
            workspaces={
                "shared-workspace": self.volume,
                "s3-credentials": self.folder / "s3-credentials",
                "quay-auth": self.folder / "quay-auth",
            },
            folder=self.folder,
            carry_out=self.carry_out,
            secrets={"huggingface-secret": {"HUGGINGFACE_TOKEN": TOKEN}},
        )
        run.go()
        return run

    def carry_out(self, name: str, args: list[str], environ: dict[str, str]) -> int:
        pod = Pod(self.folder)
        # The servers here speak http, and no step has to wait for one.
        environ |= {"S3_SYNC_ALLOW_PLAINTEXT_TOKENS": "true", "S3_SYNC_WAIT_FOR_DESTINATION": "0s"}
        environ |= {"OCI_VALIDATE_TLS": "false"}
        if name == "compress-model" and self.compress is not None:
            code = self.compress(environ)
        else:
            self.ended[name] = (pod.run if self.processes else pod.run_here)(environ, *args)
            code = self.ended[name].code
        return code

    def written(self) -> dict[str, bytes]:
        return self.s3.read(self.bucket, FOLDER)


@pytest.fixture
def cluster(tmp_path: Path, hub: FakeHub, repository: Repository, s3: S3Server, registry: FakeRegistry) -> Cluster:
    secret = tmp_path / "s3-credentials"
    for folder in (secret, tmp_path / "volume", tmp_path / "quay-auth"):
        folder.mkdir()
    (secret / "AWS_ACCESS_KEY_ID").write_text(s3.access_key + "\n")
    (secret / "AWS_SECRET_ACCESS_KEY").write_text(s3.secret_key + "\n")
    (tmp_path / "volume" / "somebody's.txt").write_text("else")
    return Cluster(tmp_path, hub, s3, registry, s3.new_bucket("models"))


def stand_in(environ: Mapping[str, str]) -> int:
    """What `syncer compress` leaves, without the hours that it takes."""
    wanted = load({**environ, "DATASET": environ["S3_SYNC_SRC__PATH"]}, compresses=True, registers=False).compression
    assert wanted is not None
    assert (wanted.scheme, wanted.group_size, wanted.sequence_length) == ("W8A16", 64, 1024)
    source, target = Path(environ["S3_SYNC_SRC__PATH"]), Path(environ["S3_SYNC_DEST__PATH"])
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(".syncer", "*.safetensors"))
    (target / "model.safetensors").write_bytes(f"{environ['BITS']} bits in {environ['GROUP_SIZE']}".encode())
    seal(target)
    return 0


def test_from_the_hub_to_a_registered_bucket_and_again(cluster: Cluster, repository: Repository) -> None:
    """As processes, once: what is in the YAML is all that a step needs."""
    cluster.processes = True
    run = cluster.run()
    assert run.codes == {"fetch-model": 0, "upload-model": 0, "register-model": 0}, cluster.ended
    assert cluster.written() == MODEL == read_model(cluster.volume / "model")
    [commit] = repository.commits
    assert run.results["fetch-model"]["revision"] == commit
    assert run.results["upload-model"]["revision"] == commit
    assert run.results["upload-model"]["uri"] == f"s3://{cluster.bucket}/{FOLDER}"
    assert run.results["register-model"]["revision"] == commit
    assert cluster.ended["register-model"].termination["message"].startswith("granite 1.0.0 is registered")
    assert run.results["register-model"]["model-version-id"] == cluster.registry.version["id"]
    assert cluster.registry.artifact["state"] == "LIVE"
    assert cluster.registry.text("source_uri") == "hf://team/model"
    assert cluster.registry.text("revision") == commit
    assert (cluster.volume / "model_s3_uri").read_text() == f"s3://{cluster.bucket}/{FOLDER}".rstrip("/")
    assert json.loads((cluster.volume / DOWNLOADS).read_bytes())["hf_revision"] == commit
    assert (cluster.volume / "somebody's.txt").read_text() == "else"

    cluster.processes = False
    cluster.registry.asked.clear()
    again = cluster.run()
    assert set(again.codes.values()) == {0}
    assert [ended.termination["copied_bytes"] for ended in cluster.ended.values()] == [0, 0, 0]
    assert cluster.registry.written == []

    said = "".join(str(ended) for ended in cluster.ended.values())
    left = [path.read_bytes().decode("latin-1") for path in cluster.volume.rglob("*") if path.is_file()]
    for secret in (TOKEN, cluster.s3.secret_key):
        assert secret not in said + "".join(left)


def test_patterns_and_revision_are_those_of_the_run(cluster: Cluster, repository: Repository) -> None:
    [first] = repository.commits
    repository.commit(MODEL | {"later.json": b"{}"})
    run = cluster.run(HUGGINGFACE_REVISION=first, HUGGINGFACE_ALLOW_PATTERNS="*.json,README.md")
    assert set(run.codes.values()) == {0}, cluster.ended
    assert set(cluster.written()) == {"config.json", "README.md"}


def test_another_model_replaces_the_folders_content_and_nothing_else(cluster: Cluster) -> None:
    cluster.run()
    cluster.hub.create("team/other").commit(OTHER)
    run = cluster.run(HUGGINGFACE_MODEL="team/other", MODEL_VERSION="2.0.0")
    assert set(run.codes.values()) == {0}, cluster.ended
    assert read_model(cluster.volume / "model") == OTHER
    assert cluster.s3.read(cluster.bucket, "model-data/granite/2.0.0/") == OTHER
    assert cluster.written() == MODEL
    assert (cluster.volume / "somebody's.txt").read_text() == "else"


def test_the_compressed_model_goes_where_it_is_asked_for(cluster: Cluster) -> None:
    cluster.compress = stand_in
    wish = {"COMPRESS_MODEL": "true", "BITS": "8", "GROUP_SIZE": "64", "SEQUENCE_LENGTH": "1024"}
    run = cluster.run(**wish)
    assert run.codes == dict.fromkeys(("fetch-model", "compress-model", "upload-model", "register-model"), 0)
    kept = {path: data for path, data in MODEL.items() if not path.endswith(".safetensors")}
    assert cluster.written() == kept | {"model.safetensors": b"8 bits in 64"}
    assert read_model(cluster.volume / "model") == MODEL
    cluster.compress = None
    again = cluster.run(**wish, SKIP_TASKS="compress-model")
    assert again.results["compress-model"]["status"] == "skipped", cluster.ended
    assert cluster.ended["upload-model"].termination["copied_bytes"] == 0
    plain = cluster.run(COMPRESS_MODEL="no", MODEL_VERSION="2.0.0")
    assert "compress-model" not in plain.codes
    assert cluster.s3.read(cluster.bucket, "model-data/granite/2.0.0/") == MODEL


def test_a_failed_step_leaves_a_workspace_to_go_on_with_and_nothing_live(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise OSError("the bucket is away")

    with monkeypatch.context() as patch:
        patch.setattr(S3Destination, "begin", refuses)
        failed = cluster.run()
    assert failed.codes["fetch-model"] == 0
    assert failed.codes["upload-model"] != 0
    assert "register-model" not in failed.codes
    assert cluster.registry.artifact["state"] == "ABANDONED"
    assert failed.results["upload-model"]["status"] == "failed"
    run = cluster.run()
    assert set(run.codes.values()) == {0}, cluster.ended
    assert cluster.ended["fetch-model"].termination["copied_bytes"] == 0
    assert cluster.registry.artifact["state"] == "LIVE"
    assert cluster.written() == MODEL


def test_two_image_registries_and_again(cluster: Cluster) -> None:
    with ImageRegistry(auth="basic") as quay, ImageRegistry(auth="basic", password="another") as internal:
        logins = {
            registry.authority: {"auth": base64.b64encode(f"{USER}:{registry.password}".encode()).decode()}
            for registry in (quay, internal)
        }
        (cluster.folder / "quay-auth" / ".dockerconfigjson").write_text(json.dumps({"auths": logins}))
        images = {"S3_BUCKET": "", "OCI_IMAGE": ",".join(f"{each.authority}/team/granite" for each in (quay, internal))}
        run = cluster.run(**images)
        assert set(run.codes.values()) == {0}, cluster.ended
        for registry in (quay, internal):
            assert content(registry, "1.0.0") == MODEL
        assert cluster.registry.artifact["uri"].startswith(f"oci://{quay.authority}/team/granite@sha256:")
        cluster.registry.asked.clear()
        for registry in (quay, internal):
            registry.asked.clear()
        again = cluster.run(**images)
        assert set(again.codes.values()) == {0}, cluster.ended
        for registry in (quay, internal):
            assert not any(asked.received or asked.method in {"PUT", "PATCH"} for asked in registry.written())
        assert cluster.registry.written == []


def content(registry: ImageRegistry, tag: str) -> dict[str, bytes]:
    """The files below `/models`, as a runtime would unpack them."""
    found = {}
    for layer in registry.document(tag, "team/granite")["layers"]:
        blob = registry.repository("team/granite").blobs[layer["digest"]]
        with tarfile.open(fileobj=io.BytesIO(blob)) as archive:
            for member in archive.getmembers():
                if member.isfile() and (file := archive.extractfile(member)) is not None:
                    found[member.name.removeprefix("models/")] = file.read()
    return found


def test_damage_on_the_volume_is_found(cluster: Cluster) -> None:
    cluster.run(SKIP_TASKS="upload,register")
    weights = cluster.volume / "model" / "model.safetensors"
    found = weights.stat()
    weights.write_bytes(bytes(found.st_size))
    os.utime(weights, ns=(found.st_atime_ns, found.st_mtime_ns))
    run = cluster.run(SKIP_TASKS="download")
    assert run.codes["upload-model"] == 65, cluster.ended
    assert cluster.registry.artifact["state"] == "ABANDONED"


@pytest.mark.parametrize(
    ("skip", "skipped"),
    [
        ("pull-model-from-huggingface", {"fetch-model"}),
        ("upload-model-to-s3,register-with-registry", {"upload-model", "register-model"}),
        ("download,upload,register", {"fetch-model", "upload-model", "register-model"}),
    ],
)
def test_tasks_to_skip(cluster: Cluster, skip: str, skipped: set[str]) -> None:
    assert set(cluster.run(SKIP_TASKS="register").codes.values()) == {0}
    cluster.ended.clear()
    run = cluster.run(SKIP_TASKS=skip)
    assert set(run.codes.values()) == {0}, cluster.ended
    assert {name for name, results in run.results.items() if results["status"] == "skipped"} == skipped
    assert cluster.written() == MODEL


def test_the_registry_is_asked_before_a_byte_leaves_the_workspace(cluster: Cluster) -> None:
    run = cluster.run(MODEL_REGISTRY_URL="http://mysql.rhoai-model-registries.svc:3306")
    assert run.codes == {"fetch-model": 0, "upload-model": 78}
    assert "MySQL database" in cluster.ended["upload-model"].termination["message"]
    assert cluster.written() == {}


def test_the_single_step(cluster: Cluster) -> None:
    run = Run(
        params={},
        workspaces={"s3-credentials": cluster.folder / "s3-credentials"},
        folder=cluster.folder,
        carry_out=cluster.carry_out,
        secrets={"huggingface-secret": {"HUGGINGFACE_TOKEN": TOKEN}},
    )
    given = {
        "HUGGINGFACE_MODEL": "team/model",
        "HF_ENDPOINT": cluster.hub.endpoint,
        "MODEL_NAME": "granite",
        "S3_BUCKET": cluster.bucket,
        "S3_ENDPOINT_URL": cluster.s3.endpoint,
        "MODEL_REGISTRY_URL": cluster.registry.url,
    }
    assert run.run_task("sync-model", given, {"s3-credentials": "s3-credentials"}) == 0, cluster.ended
    assert cluster.written() == MODEL
    assert cluster.registry.artifact["state"] == "LIVE"
