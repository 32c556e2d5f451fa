"""What the code understands of the environment that each template gives it."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from pydantic import SecretStr

from syncer.errors import ConfigurationError
from syncer.settings import load
from syncer.settings.locations import (
    CosLocation,
    DirectoryLocation,
    HuggingFaceLocation,
    ImageLocation,
    S3Location,
    Settings,
    Share,
    Transfer,
    UploadedByHand,
)
from tests.support.manifests import ROOT, TEMPLATES, container, documents, environment, job, patched, secret

# As the field's own automation writes it from an ObjectBucketClaim.
DATA_CONNECTION = {
    "AWS_DEFAULT_REGION": "local",
    "AWS_S3_ENDPOINT": "http://s3.openshift-storage.svc",
    "AWS_S3_BUCKET": "demo-64d3c912",
    "AWS_ACCESS_KEY_ID": "claim-access",
    "AWS_SECRET_ACCESS_KEY": "claim-secret",
}
CLAIM_CONFIG = {
    "BUCKET_HOST": "s3.openshift-storage.svc",
    "BUCKET_NAME": "demo-64d3c912",
    "BUCKET_PORT": "443",
    "BUCKET_REGION": "",
    "BUCKET_SUBREGION": "",
}
CLAIM_SECRET = {"AWS_ACCESS_KEY_ID": "claim-access", "AWS_SECRET_ACCESS_KEY": "claim-secret"}


# `  # NAME: value` in a Secret: what a user may uncomment.
OFFERED = re.compile(r"^  # ([A-Z][A-Z0-9_]+): (.+)$", re.MULTILINE)


def offered(source: str) -> dict[str, str]:
    """The alternatives that stand in a Secret's comments, as YAML would read them."""
    text = (TEMPLATES / source).read_text(encoding="utf-8")
    return {name: yaml.safe_load(value) for name, value in OFFERED.findall(text)}


def settings_of(template: str, source: str = "", *, patch: str = "") -> Settings:
    """The settings that the container of a template's Job starts with, its arguments aside."""
    document = job(template)
    secrets = {"demo-models": DATA_CONNECTION, "demo": CLAIM_SECRET}
    if source:
        secrets["model-source"] = secret(source)
    if patch:
        document = patched(document, documents(TEMPLATES / "patches" / patch)[0])
    return load(environment(container(document), secrets=secrets, config_maps={"demo": CLAIM_CONFIG}))


def plain(value: SecretStr | None) -> str:
    assert value is not None
    return value.get_secret_value()


@pytest.mark.parametrize(
    "patch",
    ["", "destination-objectbucketclaim.yaml", "source-volume.yaml", "destination-oci.yaml"],
    ids=lambda name: name or "unpatched",
)
@pytest.mark.parametrize("source", sorted(path.name for path in TEMPLATES.glob("model-source-*.yaml")))
def test_every_source_goes_with_the_job(source: str, patch: str) -> None:
    settings = settings_of("synchronize-model.yaml", source, patch=patch)
    assert settings.source is not None
    assert isinstance(settings.destination, S3Location)
    assert settings.destination.bucket == "demo-64d3c912"
    assert settings.destination.prefix == "models/"
    assert plain(settings.destination.access_key) == "claim-access"
    assert plain(settings.destination.secret_key) == "claim-secret"


@pytest.mark.parametrize("index", [0, 3])
def test_each_pod_of_the_indexed_job_knows_its_share(index: int) -> None:
    spec = container(job("synchronize-model-indexed.yaml"))
    found = environment(spec, secrets={"demo-models": DATA_CONNECTION, "model-source": secret("model-source-s3.yaml")})
    # Kubernetes adds this one to every container of an Indexed Job.
    assert load(found | {"JOB_COMPLETION_INDEX": str(index)}).share == Share(index, 4)
    with pytest.raises(ConfigurationError, match="JOB_COMPLETION_INDEX"):
        load(found | {"JOB_COMPLETION_INDEX": "4"})


def test_bucket_as_source() -> None:
    settings = settings_of("synchronize-model.yaml", "model-source-s3.yaml")
    source = settings.source
    assert isinstance(source, S3Location)
    assert source.uri == "s3://bucket/folder/"
    assert source.endpoint == "https://s3.amazonaws.com"
    assert source.region == "us-east-1"
    assert source.validate_tls is True
    assert plain(source.access_key) == "AKIAIOSFODNN7EXAMPLE"
    assert plain(source.secret_key) == "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    assert settings.transfer == Transfer(), "no cap: the engine chooses"


class TestIbmCos:
    """The Secret that the field has, with the Job that goes with it."""

    def test_passcode(self) -> None:
        settings = settings_of("synchronize-model-ibm-cos.yaml", "model-source-ibm-cos.yaml")
        source = settings.source
        assert isinstance(source, CosLocation)
        assert source.uri == "cos://NAME/trained_models/ID/model"
        assert plain(source.passcode) == "AbCdEfG123"
        assert source.api_key is None
        assert source.iam_endpoint == "https://iam.cloud.ibm.com"
        assert source.bucket.endpoint == "https://s3.us.cloud-object-storage.appdomain.cloud"

    def test_the_names_are_those_of_the_field(self) -> None:
        # Not one letter of them may change: the Secrets are in the clusters already.
        assert set(secret("model-source-ibm-cos.yaml")) == {
            "S3_SYNC_USE_IBMCLOUD_CLI",
            "S3_SYNC_COS_INSTANCE_CRN",
            "S3_SYNC_COS_INSTANCE_REGION",
            "S3_SYNC_COS_BUCKET",
            "S3_SYNC_COS_MODEL_PREFIX",
            "S3_SYNC_COS_TEMPORARY_PASSCODE",
        }

    def test_patience_with_the_destination_is_longer_than_the_usual_job_s(self) -> None:
        usual = settings_of("synchronize-model.yaml", "model-source-s3.yaml").wait_for_destination
        patient = settings_of("synchronize-model-ibm-cos.yaml", "model-source-ibm-cos.yaml").wait_for_destination
        assert usual < 3600 < patient < 72 * 3600  # IBM ends a session after 72 hours

    def test_api_key_instead_of_the_passcode(self) -> None:
        data = secret("model-source-ibm-cos.yaml")
        del data["S3_SYNC_COS_TEMPORARY_PASSCODE"]
        data["S3_SYNC_COS_API_KEY"] = offered("model-source-ibm-cos.yaml")["S3_SYNC_COS_API_KEY"]
        source = load(DATA_CONNECTION | data).source
        assert isinstance(source, CosLocation)
        assert plain(source.api_key) == "KEY"
        assert source.passcode is None

    def test_hmac_keys_instead_of_the_passcode(self) -> None:
        data = secret("model-source-ibm-cos.yaml")
        del data["S3_SYNC_COS_TEMPORARY_PASSCODE"]
        names = ("S3_SYNC_SRC__ACCESS_KEY", "S3_SYNC_SRC__SECRET_KEY")
        data |= {name: offered("model-source-ibm-cos.yaml")[name] for name in names}
        source = load(DATA_CONNECTION | data).source
        assert isinstance(source, S3Location)
        assert source.uri == "cos://NAME/trained_models/ID/model"
        assert (plain(source.access_key), plain(source.secret_key)) == ("ACCESS", "SECRET")

    def test_private_host_instead_of_the_public_one(self) -> None:
        name = "S3_SYNC_COS_ENDPOINT_TYPE"
        private = {name: offered("model-source-ibm-cos.yaml")[name]}
        source = load(DATA_CONNECTION | secret("model-source-ibm-cos.yaml") | private).source
        assert isinstance(source, CosLocation)
        assert source.bucket.endpoint == "https://s3.private.us.cloud-object-storage.appdomain.cloud"

    def test_everything_that_its_comments_offer_is_tested_above(self) -> None:
        assert set(offered("model-source-ibm-cos.yaml")) == {
            "S3_SYNC_COS_API_KEY",
            "S3_SYNC_SRC__ACCESS_KEY",
            "S3_SYNC_SRC__SECRET_KEY",
            "S3_SYNC_COS_ENDPOINT_TYPE",
        }


class TestHuggingFace:
    @pytest.fixture
    def settings(self) -> Settings:
        return settings_of("synchronize-model.yaml", "model-source-huggingface.yaml")

    def test_model_and_revision(self, settings: Settings) -> None:
        source = settings.source
        assert isinstance(source, HuggingFaceLocation)
        assert source.uri == "hf://ibm-granite/granite-3.3-2b-instruct@main"
        assert source.endpoint == "https://huggingface.co"
        assert source.token is None
        assert source.allow == source.ignore == ()

    def test_everything_that_its_comments_offer(self) -> None:
        extra = offered("model-source-huggingface.yaml")
        assert set(extra) == {"HF_TOKEN", "HUGGINGFACE_ALLOW_PATTERNS", "HUGGINGFACE_IGNORE_PATTERNS", "HF_ENDPOINT"}
        source = load(DATA_CONNECTION | secret("model-source-huggingface.yaml") | extra).source
        assert isinstance(source, HuggingFaceLocation)
        assert plain(source.token) == "hf_TOKEN"
        assert source.allow[:2] == ("*.safetensors", "*.json")
        assert source.ignore == ("original/*", "*.pth")
        assert source.endpoint == "https://hub.example.com"


def test_uploaded_by_hand() -> None:
    settings = settings_of("synchronize-model.yaml", "model-source-uploaded.yaml")
    assert settings.source == UploadedByHand(verify=True)


def test_uploaded_by_hand_can_be_added_to_another_source() -> None:
    both = secret("model-source-s3.yaml") | secret("model-source-uploaded.yaml")
    variables = environment(
        container(job("synchronize-model.yaml")), secrets={"demo-models": DATA_CONNECTION, "model-source": both}
    )
    assert isinstance(load(variables).source, UploadedByHand)


def test_folder_on_the_mounted_volume_as_source() -> None:
    settings = settings_of("synchronize-model.yaml", "model-source-directory.yaml", patch="source-volume.yaml")
    assert isinstance(settings.source, DirectoryLocation)
    [patch] = documents(TEMPLATES / "patches" / "source-volume.yaml")
    [mount] = patch["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert Path(mount["mountPath"]) in settings.source.path.parents


def test_destination_of_the_data_connection() -> None:
    destination = settings_of("synchronize-model.yaml", "model-source-s3.yaml").destination
    assert isinstance(destination, S3Location)
    assert destination.endpoint == "http://s3.openshift-storage.svc"
    assert destination.region == "local"


def test_destination_of_an_object_bucket_claim() -> None:
    settings = settings_of("synchronize-model.yaml", "model-source-s3.yaml", patch="destination-objectbucketclaim.yaml")
    assert isinstance(settings.destination, S3Location)
    url = urlsplit(settings.destination.endpoint)
    assert (url.scheme, url.hostname, url.port or 443) == ("https", "s3.openshift-storage.svc", 443)


def test_an_image_beside_the_bucket() -> None:
    settings = settings_of("synchronize-model.yaml", "model-source-oci.yaml", patch="destination-oci.yaml")
    assert isinstance(settings.source, ImageLocation)
    [image] = settings.further
    assert isinstance(image, ImageLocation)
    assert image.uri == "oci://quay.io/org/modelcar:1.0.0"


def test_the_login_of_a_registry_is_read_from_where_the_patch_mounts_it(tmp_path: Path) -> None:
    [patch] = documents(TEMPLATES / "patches" / "registry-login.yaml")
    pod = patched(job("synchronize-model.yaml"), patch)["spec"]["template"]["spec"]
    [mount] = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "registry"]
    assert {"name": "registry", "secret": {"secretName": "registry-login"}} in pod["volumes"]
    found = environment(pod["containers"][0], secrets={"demo-models": DATA_CONNECTION, "model-source": {}})
    assert found["DOCKER_CONFIG"] == mount["mountPath"]
    # A Secret of the type kubernetes.io/dockerconfigjson is mounted as this one file.
    (tmp_path / ".dockerconfigjson").write_text('{"auths": {"quay.io/org": {"auth": "dXNlcjpjYW5hcnk="}}}')
    source = load(secret("model-source-oci.yaml") | DATA_CONNECTION | {"DOCKER_CONFIG": str(tmp_path)}).source
    assert isinstance(source, ImageLocation)
    assert [(login.scope, login.username) for login in source.logins] == [("quay.io/org", "user")]


def test_without_its_secret_the_pod_does_not_start() -> None:
    with pytest.raises(KeyError, match="model-source"):
        settings_of("synchronize-model.yaml")


class TestMirrorToPvc:
    @pytest.fixture
    def settings(self) -> Settings:
        return settings_of("mirror-to-pvc.yaml")

    def test_reads_from_the_data_connection(self, settings: Settings) -> None:
        source = settings.source
        assert isinstance(source, S3Location)
        assert source.uri == "s3://demo-64d3c912/Mistral-Small-24B-Instruct/full-fp16/"
        assert source.endpoint == "http://s3.openshift-storage.svc"
        assert plain(source.access_key) == "claim-access"
        assert plain(source.secret_key) == "claim-secret"
        assert source.region == "local"

    def test_writes_to_the_mounted_volume(self, settings: Settings) -> None:
        assert settings.destination == DirectoryLocation(Path("/mnt/models"))

    def test_deletes_and_overwrites_only_when_asked(self, settings: Settings) -> None:
        assert settings.delete == "off"
        assert settings.transfer.force is False

    @pytest.mark.parametrize(("value", "meaning"), [("true", "recorded"), ("all", "all")])
    def test_knows_the_values_that_its_comment_offers(self, value: str, meaning: str) -> None:
        text = (TEMPLATES / "mirror-to-pvc.yaml").read_text(encoding="utf-8")
        assert f'"{value}"' in text
        variables = environment(container(job("mirror-to-pvc.yaml")), secrets={"demo-models": DATA_CONNECTION})
        assert load(variables | {"S3_SYNC_DELETE": value}).delete == meaning


def test_the_gate_needs_the_data_connection_alone() -> None:
    variables = environment(container(job("wait-for-model.yaml")), secrets={"demo-models": DATA_CONNECTION})
    settings = load(variables, needs_source=False)
    assert settings.source is None
    assert isinstance(settings.destination, S3Location)
    assert settings.destination.uri == "s3://demo-64d3c912/models/"


def test_compose() -> None:
    [document] = documents(ROOT / "compose.yaml")
    settings = load(document["services"]["syncer"]["environment"])
    assert isinstance(settings.source, S3Location)
    assert settings.source.uri == "s3://source/model/"
    assert isinstance(settings.destination, S3Location)
    assert settings.destination.uri == "s3://models/models/"
    assert settings.source.endpoint == settings.destination.endpoint == "http://minio:9000"


def test_a_typing_error_in_a_secret_is_refused() -> None:
    # The counterpart of all the above: an environment that is accepted was really read.
    broken = secret("model-source-s3.yaml")
    broken["S3_SYNC_SRC__ENDPIONT"] = broken.pop("S3_SYNC_SRC__ENDPOINT")
    with pytest.raises(ConfigurationError, match=re.escape("S3_SYNC_SRC__ENDPOINT")):
        load(DATA_CONNECTION | broken)
