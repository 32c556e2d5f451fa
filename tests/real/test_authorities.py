"""Certificates of the test's own authorities, believed through every setting that names one, at every kind of service.

Which settings there are, their own definitions say: a new one gets its case by itself, or fails for want of one.
"""

import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import pytest
import trustme

from syncer.settings import network
from syncer.settings.variables import NETWORK, definitions
from tests.support.buckets import S3Server
from tests.support.docker_registry import DockerRegistry
from tests.support.fake_hub import FakeHub
from tests.support.fake_registry import FakeRegistry
from tests.support.image_bench import files_of
from tests.support.models import small_model
from tests.support.processes import Pod
from tests.support.rados_gateway import RadosGateway

pytestmark = pytest.mark.real

VARIABLES = [it.name for it in definitions() if it.section == NETWORK and it.form == "path"]
SWITCHES = [it.name for it in definitions() if it.name.endswith("VALIDATE_TLS")]
MOUNTED = [str(path) for path in network.MOUNTED_AUTHORITIES]
TOKEN = "canary-of-services-over-https-0123456789"

_numbers = count(1)


@dataclass
class Services:
    """Four services over https, each by its name in `authorities`, with the certificate of its authority."""

    s3: S3Server
    images: DockerRegistry
    models: FakeRegistry
    hub: FakeHub
    authorities: dict[str, str] = field(default_factory=dict)

    def bundle(self, *, but: str = "") -> str:
        """What vouches for all of them, or for all but one."""
        return "".join(text for name, text in self.authorities.items() if name != but)

    def into_a_registry(self) -> tuple[dict[str, str], str]:
        """A bucket becomes an image that the Model Registry knows; the environment, and the repository."""
        bucket, repository = self.s3.new_bucket("trusted"), f"trusted/model-{next(_numbers)}"
        self.s3.fill(bucket, small_model(), prefix="m/")
        return replace(self.s3, ca_file=None).source_environment(bucket, "m/") | {
            "OCI_IMAGE": f"{self.images.authority}/{repository}:1",
            "REGISTRY_AUTH_FILE": str(self.images.auth_file),
            "MODEL_REGISTRY_URL": self.models.url,
            "MODEL_REGISTRY_TOKEN": TOKEN,
            "MODEL_NAME": repository.replace("/", "-"),
        }, repository

    def into_a_bucket(self) -> tuple[dict[str, str], str]:
        """A repository of the Hub goes into a bucket; the environment, and the bucket."""
        bucket = self.s3.new_bucket("trusted")
        return {
            "HUGGINGFACE_MODEL": "team/model",
            "HF_ENDPOINT": self.hub.endpoint,
            "HF_TOKEN": TOKEN,
        } | replace(self.s3, ca_file=None).connection_environment(bucket, endpoint=self.s3.endpoint), bucket

    def image(self, repository: str) -> dict[str, bytes]:
        blobs = self.images.repository(repository).blobs()
        return {path: data for blob in blobs.values() for path, data in files_of(blob)}


@pytest.fixture(scope="module")
def services(rgw: RadosGateway, bearer_registry: DockerRegistry) -> Iterator[Services]:
    with ExitStack() as running:
        authorities = {"s3": rgw.ca_file.read_text(), "images": bearer_registry.ca_file.read_text()}
        contexts = {}
        for name in ("models", "hub"):
            authority = trustme.CA()
            contexts[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert("localhost", "127.0.0.1").configure_cert(contexts[name])
            authorities[name] = authority.cert_pem.bytes().decode()
        models = running.enter_context(FakeRegistry(context=contexts["models"]))
        hub = running.enter_context(FakeHub(context=contexts["hub"]))
        models.tokens.add(TOKEN)
        hub.tokens.add(TOKEN)
        hub.create("team/model").commit(small_model())
        s3 = rgw.server(https=True)
        yield Services(s3, bearer_registry, models, hub, authorities)


def test_all_kinds_of_settings_are_there() -> None:
    assert {"AWS_CA_BUNDLE", "SSL_CERT_FILE"} <= set(VARIABLES)
    assert any("serviceaccount" in path for path in MOUNTED)
    assert set(SWITCHES) == {switch for _, _, switch in DISTRUSTED if switch}, "each switch needs a line below"


@pytest.mark.parametrize("setting", [*VARIABLES, *MOUNTED])
def test_an_authority_is_believed_through_every_setting(
    setting: str, services: Services, pod: Pod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust = {}
    if setting in VARIABLES:
        file = tmp_path / "authorities.pem"
        trust = {setting: str(file)}
    else:
        file = tmp_path / setting.lstrip("/")
        mounted = tuple(tmp_path / path.lstrip("/") for path in MOUNTED)
        monkeypatch.setattr(network, "MOUNTED_AUTHORITIES", mounted)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(services.bundle())

    environment, repository = services.into_a_registry()
    ended = pod.run_here(environment | trust)
    assert ended.code == 0, str(ended)
    assert services.image(repository) == small_model()
    assert ended.termination["ModelArtifact"]["id"]
    environment, bucket = services.into_a_bucket()
    ended = pod.run_here(environment | trust)
    assert ended.code == 0, str(ended)
    assert services.s3.read(bucket, "models/") == small_model()


def test_authorities_of_two_settings_join(services: Services, pod: Pod, tmp_path: Path) -> None:
    for name in ("s3", "hub"):
        (tmp_path / name).write_text(services.authorities[name])
    environment, bucket = services.into_a_bucket()
    ended = pod.run_here(environment | {"AWS_CA_BUNDLE": str(tmp_path / "s3"), "SSL_CERT_FILE": str(tmp_path / "hub")})
    assert ended.code == 0, str(ended)
    assert services.s3.read(bucket, "models/") == small_model()


DISTRUSTED = [
    ("s3", "into_a_registry", "S3_SYNC_SRC__VALIDATE_TLS"),
    ("s3", "into_a_bucket", "S3_SYNC_DEST__VALIDATE_TLS"),
    ("images", "into_a_registry", "OCI_VALIDATE_TLS"),
    ("models", "into_a_registry", ""),
    ("hub", "into_a_bucket", ""),
]
"""For whom nobody vouches, in which story, and what switches the check off."""


@pytest.mark.parametrize(("distrusted", "story", "switch"), DISTRUSTED)
def test_whom_nobody_vouches_for_is_78_with_the_way_out(
    distrusted: str, story: str, switch: str, services: Services, pod: Pod, tmp_path: Path
) -> None:
    (tmp_path / "authorities.pem").write_text(services.bundle(but=distrusted))
    environment, place = getattr(services, story)()
    environment |= {"AWS_CA_BUNDLE": str(tmp_path / "authorities.pem")}
    refused = pod.run_here(environment)
    assert refused.code == 78, str(refused)
    assert "is not trusted" in refused.termination["message"]
    assert "AWS_CA_BUNDLE" in refused.termination["hint"]
    assert (f"{switch}=false" if switch else "") in refused.termination["hint"]
    assert "VALIDATE_TLS" in refused.termination["hint"] or not switch
    there = services.image(place) if story == "into_a_registry" else services.s3.read(place)
    assert there == {}, "not a byte goes where nobody knows who it is"
    if switch:
        ended = pod.run_here(environment | {switch: "false"})
        assert ended.code == 0, str(ended)
        assert "is not checked" in ended.output, "a run without the check says so"
