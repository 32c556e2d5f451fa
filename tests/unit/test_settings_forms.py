"""Which source and which destination are meant, and what does not go together."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from syncer.errors import ConfigurationError
from syncer.settings import CommandLine, load
from syncer.settings.locations import CosLocation, DirectoryLocation, S3Location, Settings, Share, UploadedByHand
from syncer.settings.rules import same_service
from tests.support.refused_settings import only_problem

# The three Secrets of the field, not one letter changed.
S3_SECRET = {
    "S3_SYNC_TRANSFER_CONFIG__MAX_FILES": "5",
    "S3_SYNC_SRC__ENDPOINT": "https://s3.amazonaws.com",
    "S3_SYNC_SRC__PATH": "s3://bucket/folder/",
    "S3_SYNC_SRC__ACCESS_KEY": "AKIAIOSFODNN7EXAMPLE",
    "S3_SYNC_SRC__SECRET_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "S3_SYNC_SRC__REGION": "us-east-1",
    "S3_SYNC_SRC__VALIDATE_TLS": "true",
}
COS_SECRET = {
    "S3_SYNC_USE_IBMCLOUD_CLI": "true",
    "S3_SYNC_COS_INSTANCE_CRN": "crn:v1:bluemix:public:cloud-object-storage:global:a/ACCOUNT:INSTANCE:bucket:NAME",
    "S3_SYNC_COS_INSTANCE_REGION": "us-geo",
    "S3_SYNC_COS_BUCKET": "NAME",
    "S3_SYNC_COS_MODEL_PREFIX": "trained_models/ID/model",
    "S3_SYNC_COS_TEMPORARY_PASSCODE": "AbCdEfG123",
}
UPLOADED_SECRET = {"S3_SYNC_LOCAL_UPLOAD_COMPLETE": "true"}

KEYS = {"AWS_ACCESS_KEY_ID": "dest-key", "AWS_SECRET_ACCESS_KEY": "dest-secret"}
CONNECTION = {
    "AWS_S3_ENDPOINT": "https://s3.openshift-storage.svc",
    "AWS_S3_BUCKET": "demo",
    "AWS_DEFAULT_REGION": "local",
    **KEYS,
}
CLAIM = {
    "BUCKET_HOST": "s3.openshift-storage.svc",
    "BUCKET_PORT": "443",
    "BUCKET_NAME": "claimed",
    "BUCKET_REGION": "",
    **KEYS,
}
PIPELINE = {"S3_BUCKET": "pipe", "S3_ENDPOINT_URL": "http://minio:9000", "MODEL_NAME": "granite", **KEYS}
DIRECTORY = {"S3_SYNC_SRC__PATH": "/mnt/source"}
VOLUME = {"S3_SYNC_DEST__PATH": "/mnt/models"}


def s3_destination(environ: Mapping[str, str], command_line: CommandLine | None = None) -> S3Location:
    found = load({**DIRECTORY, **environ}, command_line=command_line).destination
    assert isinstance(found, S3Location)
    return found


def s3_source(settings: Settings) -> S3Location:
    assert isinstance(settings.source, S3Location)
    return settings.source


def keys_of(location: S3Location) -> tuple[str, str]:
    return (
        location.access_key.get_secret_value() if location.access_key else "",
        location.secret_key.get_secret_value() if location.secret_key else "",
    )


# The three Secrets ---------------------------------------------------------------------------------------------------


def test_the_s3_secret_of_the_field() -> None:
    found = load({**S3_SECRET, **CONNECTION}, command_line=CommandLine(dest_validate=False))
    source = s3_source(found)
    assert (source.uri, source.endpoint) == ("s3://bucket/folder/", "https://s3.amazonaws.com")
    assert (source.region, source.validate_tls) == ("us-east-1", True)
    assert keys_of(source) == ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    assert source.ambient_keys is False
    destination = found.destination
    assert isinstance(destination, S3Location)
    assert destination.uri == "s3://demo/models/"
    assert destination.validate_tls is False
    assert keys_of(destination) == ("dest-key", "dest-secret")
    assert found.transfer.max_files == 5
    assert any("is not checked" in note for note in found.notes)


def test_the_uploaded_secret_of_the_field() -> None:
    found = load({**UPLOADED_SECRET, **CONNECTION}, command_line=CommandLine(dest_validate=False))
    assert found.source == UploadedByHand(verify=True)
    assert found.destination is not None


def test_the_cos_secret_of_the_field() -> None:
    found = load({**COS_SECRET, **CONNECTION}, command_line=CommandLine(dest_validate=False))
    source = found.source
    assert isinstance(source, CosLocation)
    assert (source.uri, source.bucket.bucket) == ("cos://NAME/trained_models/ID/model", "NAME")
    assert source.bucket.endpoint == "https://s3.us.cloud-object-storage.appdomain.cloud"
    assert source.passcode is not None
    assert source.passcode.get_secret_value() == "AbCdEfG123"
    assert (source.api_key, source.token_cache, source.iam_endpoint) == (None, None, "https://iam.cloud.ibm.com")
    assert (source.bucket.access_key, source.bucket.ambient_keys) == (None, False)
    assert isinstance(found.destination, S3Location)
    assert keys_of(found.destination) == ("dest-key", "dest-secret")
    assert not any("COS" in note for note in found.notes)


# Sources -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", [S3_SECRET, COS_SECRET, {"HUGGINGFACE_MODEL": "ibm/granite"}, {}])
@pytest.mark.parametrize("destination", [CONNECTION, VOLUME, {}])
def test_uploaded_by_hand_beats_all_and_needs_no_destination(
    secret: dict[str, str], destination: dict[str, str]
) -> None:
    found = load({**secret, **destination, **UPLOADED_SECRET})
    assert found.source == UploadedByHand(verify=True)
    assert (found.destination is None) == (not destination)


def test_uploaded_by_hand_also_beats_what_is_broken() -> None:
    environ = {**UPLOADED_SECRET, "S3_SYNC_SRC__PATH": "nonsense", "S3_SYNC_SRC__ACCESS_KEY": "alone"}
    assert load({**environ, "S3_SYNC_LOCAL_UPLOAD_VERIFY": "false"}).source == UploadedByHand(verify=False)


@pytest.mark.parametrize(
    ("others", "named"),
    [
        (COS_SECRET, "S3_SYNC_USE_IBMCLOUD_CLI (IBM COS)"),
        ({"S3_SYNC_COS_BUCKET": "b", "S3_SYNC_COS_API_KEY": "k"}, "S3_SYNC_COS_BUCKET (IBM COS)"),
        ({"HUGGINGFACE_MODEL": "ibm/granite"}, "HUGGINGFACE_MODEL"),
    ],
)
@pytest.mark.parametrize("path", ["s3://bucket/folder/", "/mnt/x", "hf://ibm/granite-3"])
def test_two_sources_at_once_are_both_named(others: dict[str, str], named: str, path: str) -> None:
    problem = only_problem({"S3_SYNC_SRC__PATH": path, **others, **VOLUME})
    assert "S3_SYNC_SRC__PATH" in problem
    assert named in problem


def test_a_rest_of_another_source_is_noted() -> None:
    found = load({**S3_SECRET, **VOLUME, "S3_SYNC_COS_MODEL_PREFIX": "old"})
    assert s3_source(found).bucket == "bucket"
    assert any("S3_SYNC_COS_*" in note for note in found.notes)


def test_no_source_says_what_to_set() -> None:
    assert "set S3_SYNC_SRC__PATH" in only_problem(VOLUME)
    assert "S3_SYNC_SRC__ENDPOINT alone" in only_problem({**VOLUME, "S3_SYNC_SRC__ENDPOINT": "https://x"})
    assert "HUGGINGFACE_REVISION alone" in only_problem({**VOLUME, "HUGGINGFACE_REVISION": "main"})
    # What says how to reach IBM may stand in the Job, whatever the source is.
    beside = {"S3_SYNC_COS_TOKEN_CACHE": "/x", "S3_SYNC_COS_ENDPOINT_TYPE": "private", "HUGGINGFACE_MODEL": " "}
    assert "no source" in only_problem({**VOLUME, **beside})


def test_a_directory_as_source() -> None:
    found = load({"S3_SYNC_SRC__PATH": "file:///mnt/source", **CONNECTION})
    assert found.source == DirectoryLocation(Path("/mnt/source"))


@pytest.mark.parametrize("path", ["s3://bucket/models/a", "s3a://bucket/models/a", "s3://bucket/models/a/", "s3://b"])
def test_a_source_prefix_stays_as_it_was_written(path: str) -> None:
    found = s3_source(load({"S3_SYNC_SRC__PATH": path, **VOLUME}))
    assert found.uri == path.replace("s3a:", "s3:") + ("/" if path == "s3://b" else "")


def test_commands_that_look_at_the_destination_alone_need_no_source() -> None:
    assert load(CONNECTION, needs_source=False).source is None
    assert load({**CONNECTION, "S3_SYNC_COS_BUCKET": "NAME"}, needs_source=False).source is None
    assert load({**CONNECTION, "HUGGINGFACE_MODEL": "a/b/c"}, needs_source=False).source is None
    assert load({**CONNECTION, "S3_SYNC_SRC__PATH": "nonsense"}, needs_source=False).source is None
    with pytest.raises(ConfigurationError, match="no destination"):
        load(S3_SECRET, needs_source=False)


# Destinations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "uri", "endpoint", "region"),
    [
        (CONNECTION, "s3://demo/models/", "https://s3.openshift-storage.svc", "local"),
        (CLAIM, "s3://claimed/models/", "https://s3.openshift-storage.svc", ""),
        ({**CLAIM, "BUCKET_PORT": "80"}, "s3://claimed/models/", "http://s3.openshift-storage.svc", ""),
        ({**CLAIM, "BUCKET_REGION": "here"}, "s3://claimed/models/", "https://s3.openshift-storage.svc", "here"),
        (PIPELINE, "s3://pipe/model-data/granite/1.0.0/", "http://minio:9000", ""),
        ({**PIPELINE, "MODEL_VERSION": "2"}, "s3://pipe/model-data/granite/2/", "http://minio:9000", ""),
        ({**CONNECTION, **CLAIM, **PIPELINE}, "s3://pipe/model-data/granite/1.0.0/", "http://minio:9000", ""),
        ({**CONNECTION, **CLAIM}, "s3://demo/models/", "https://s3.openshift-storage.svc", "local"),
        ({**CONNECTION, "AWS_S3_ENDPOINT": "minio:9000"}, "s3://demo/models/", "https://minio:9000", "local"),
        ({"S3_SYNC_DEST__PATH": "s3://b"}, "s3://b/models/", "", ""),
        ({"S3_SYNC_DEST__PATH": "s3://b/"}, "s3://b/", "", ""),
        ({"S3_SYNC_DEST__PATH": "s3a://b/x"}, "s3://b/x/", "", ""),
        ({"S3_SYNC_DEST__PATH": "s3://b/x/", "S3_SYNC_DEST__DEFAULT_DIRECTORY": "y"}, "s3://b/x/", "", ""),
        ({"S3_SYNC_DEST__PATH": "s3://b", "S3_SYNC_DEST__DEFAULT_DIRECTORY": "/y/z/"}, "s3://b/y/z/", "", ""),
        (
            {**CONNECTION, "S3_SYNC_DEST__DEFAULT_DIRECTORY": "y"},
            "s3://demo/y/",
            "https://s3.openshift-storage.svc",
            "local",
        ),
    ],
)
def test_destination_forms(environ: dict[str, str], uri: str, endpoint: str, region: str) -> None:
    found = s3_destination(environ)
    assert (found.uri, found.endpoint, found.region) == (uri, endpoint, region)
    assert keys_of(found) == (("dest-key", "dest-secret") if "AWS_ACCESS_KEY_ID" in environ else ("", ""))


@pytest.mark.parametrize("path", ["/mnt/models", "/mnt/models/", "file:///mnt/models"])
def test_a_volume_as_destination(path: str) -> None:
    found = load({**S3_SECRET, "S3_SYNC_DEST__PATH": path})
    assert found.destination == DirectoryLocation(Path("/mnt/models"))


def test_the_explicit_form_stands_alone() -> None:
    own = {
        "S3_SYNC_DEST__PATH": "s3://own/x/",
        "S3_SYNC_DEST__ACCESS_KEY": "own-key",
        "S3_SYNC_DEST__SECRET_KEY": "own-secret",
    }
    settings = load({**DIRECTORY, **CONNECTION, **CLAIM, **PIPELINE, **own, "OCI_IMAGE": "quay.io/x/y:1"})
    found = settings.destination
    assert isinstance(found, S3Location)
    assert (found.uri, found.endpoint, found.region) == ("s3://own/x/", "", "")
    assert keys_of(found) == ("own-key", "own-secret")
    assert any(all(name in note for name in ("S3_BUCKET", "AWS_S3_BUCKET", "OCI_IMAGE")) for note in settings.notes)
    assert any("S3_SYNC_DEST__ENDPOINT is not set" in note for note in settings.notes)


def test_half_an_explicit_form_does_not_mix_into_another() -> None:
    halves = {
        "S3_SYNC_DEST__ENDPOINT": "https://other",
        "S3_SYNC_DEST__REGION": "other",
        "S3_SYNC_DEST__ACCESS_KEY": "other",
        "S3_SYNC_DEST__SECRET_KEY": "other",
    }
    settings = load({**DIRECTORY, **CONNECTION, **halves})
    assert settings.destination == s3_destination(CONNECTION)
    assert any("S3_SYNC_DEST__ENDPOINT" in note for note in settings.notes)
    assert keys_of(s3_destination({**{k: v for k, v in CONNECTION.items() if k not in KEYS}, **halves})) == ("", "")


def test_nothing_crosses_from_one_form_to_another() -> None:
    environ = {**CONNECTION, **{k: v for k, v in PIPELINE.items() if k != "S3_ENDPOINT_URL"}}
    found = s3_destination(environ)
    assert (found.endpoint, found.region) == ("", "")


def test_flags_count_for_every_form() -> None:
    for form in (CONNECTION, CLAIM, PIPELINE):
        said = CommandLine(dest_endpoint="http://forwarded:9000", dest_region="r", dest_validate=False)
        found = s3_destination(form, said)
        assert (found.endpoint, found.region, found.validate_tls) == ("http://forwarded:9000", "r", False)


def test_the_keys_of_a_bucket_claim_may_be_mounted(tmp_path: Path) -> None:
    for name, text in KEYS.items():
        (tmp_path / name).write_text(text + "\n")
    environ = {k: v for k, v in CLAIM.items() if k not in KEYS}
    found = s3_destination({**environ, "S3_SYNC_DEST__CREDENTIALS_DIR": str(tmp_path)})
    assert (found.uri, keys_of(found)) == ("s3://claimed/models/", ("dest-key", "dest-secret"))


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({k: v for k, v in PIPELINE.items() if k != "MODEL_NAME"}, ["S3_BUCKET", "MODEL_NAME is missing"]),
        ({**PIPELINE, "MODEL_NAME": "../x"}, ["MODEL_NAME", "components"]),
        ({k: v for k, v in CLAIM.items() if k != "BUCKET_HOST"}, ["BUCKET_HOST is missing"]),
        ({**CLAIM, "BUCKET_PORT": "tcp://10.0.0.1:80"}, ["BUCKET_PORT", "port"]),
        ({**CONNECTION, "AWS_S3_BUCKET": "demo/models"}, ["AWS_S3_BUCKET", "name of a bucket"]),
        ({**CONNECTION, "AWS_S3_ENDPOINT": "ftp://x"}, ["AWS_S3_ENDPOINT", "https://"]),
        ({**CONNECTION, "AWS_SECRET_ACCESS_KEY": ""}, ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY is missing"]),
        ({**CONNECTION, "AWS_ACCESS_KEY_ID": ""}, ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID is missing"]),
        ({"S3_SYNC_DEST__PATH": "s3://b/../x"}, ["S3_SYNC_DEST__PATH", "components"]),
        ({"S3_SYNC_DEST__PATH": "s3://b/a/.syncer"}, ["S3_SYNC_DEST__PATH", ".syncer"]),
        ({"S3_SYNC_DEST__PATH": "/mnt/.syncer/x"}, ["S3_SYNC_DEST__PATH", ".syncer"]),
        ({"S3_SYNC_DEST__PATH": "s3://b", "S3_SYNC_DEST__DEFAULT_DIRECTORY": "/"}, ["DEFAULT_DIRECTORY"]),
        ({"S3_SYNC_DEST__PATH": "s3://b", "S3_SYNC_DEST__DEFAULT_DIRECTORY": ".syncer"}, ["DEFAULT_DIRECTORY"]),
        ({"S3_SYNC_DEST__PATH": "hf://ibm/granite"}, ["S3_SYNC_DEST__PATH", "source only"]),
        ({"AWS_S3_ENDPOINT": "https://x", **KEYS}, ["no destination", "AWS_S3_ENDPOINT alone"]),
        ({"S3_SYNC_DEST__ENDPOINT": "https://x"}, ["no destination", "S3_SYNC_DEST__ENDPOINT alone"]),
    ],
)
def test_destinations_that_are_none(environ: dict[str, str], words: list[str]) -> None:
    problem = only_problem({**DIRECTORY, **environ})
    for word in words:
        assert word in problem


def test_a_skipped_image_is_not_in_the_way() -> None:
    found = load({**DIRECTORY, **PIPELINE, "OCI_IMAGE": "q/x:1", "SKIP_TASKS": "build-and-push-modelcar"})
    assert found.destination is not None
    assert "upload" not in found.skip


def test_a_skipped_upload_is_for_its_own_destination() -> None:
    skip = {**DIRECTORY, "SKIP_TASKS": "upload-model-to-s3"}
    assert "upload" in load({**skip, **PIPELINE}).skip
    assert "upload" not in load({**skip, **VOLUME}).skip


# The AWS keys --------------------------------------------------------------------------------------------------------

BARE_SOURCE = {"S3_SYNC_SRC__PATH": "s3://from/x/"}


def test_with_a_volume_the_aws_names_feed_the_source() -> None:
    source = s3_source(load({**BARE_SOURCE, **CONNECTION, **VOLUME, "AWS_SESSION_TOKEN": "a-token"}))
    assert (source.uri, source.endpoint) == ("s3://from/x/", "https://s3.openshift-storage.svc")
    assert (source.region, source.ambient_keys, keys_of(source)) == ("local", True, ("dest-key", "dest-secret"))
    assert source.session_token is not None


def test_a_source_with_keys_of_its_own_takes_nothing_of_another_service() -> None:
    own = {"S3_SYNC_SRC__ACCESS_KEY": "own-key", "S3_SYNC_SRC__SECRET_KEY": "own-secret"}
    source = s3_source(load({**BARE_SOURCE, **CONNECTION, **VOLUME, **own}))
    assert (source.endpoint, source.region, keys_of(source)) == ("", "", ("own-key", "own-secret"))


def test_a_source_with_an_endpoint_of_its_own_keeps_it() -> None:
    environ = {**BARE_SOURCE, "S3_SYNC_SRC__ENDPOINT": "http://own:9000", "S3_SYNC_SRC__REGION": "own"}
    source = s3_source(load({**environ, **CONNECTION, **VOLUME}))
    assert (source.endpoint, source.region, keys_of(source)) == ("http://own:9000", "own", ("dest-key", "dest-secret"))


@pytest.mark.parametrize("form", [CONNECTION, CLAIM, PIPELINE, {"S3_SYNC_DEST__PATH": "s3://to/x/", **KEYS}])
def test_keys_of_the_destination_never_reach_the_source(form: dict[str, str]) -> None:
    settings = load({**BARE_SOURCE, **form, "AWS_SESSION_TOKEN": "a-token"})
    source = s3_source(settings)
    assert (keys_of(source), source.session_token, source.endpoint) == (("", ""), None, "")
    assert source.ambient_keys is False
    assert isinstance(settings.destination, S3Location)
    assert keys_of(settings.destination) == ("dest-key", "dest-secret")
    assert settings.destination.session_token is not None
    assert any("AWS_ACCESS_KEY_ID belongs to the destination" in note for note in settings.notes)


def test_an_explicit_destination_with_its_own_keys_leaves_the_aws_names_to_the_source() -> None:
    own = {"S3_SYNC_DEST__ACCESS_KEY": "own-key", "S3_SYNC_DEST__SECRET_KEY": "own-secret"}
    source = s3_source(load({**BARE_SOURCE, **CONNECTION, "S3_SYNC_DEST__PATH": "s3://to/x/", **own}))
    assert (keys_of(source), source.ambient_keys) == (("dest-key", "dest-secret"), True)


@pytest.mark.parametrize("end", ["SRC", "DEST"])
def test_a_key_without_its_secret(end: str) -> None:
    environ = {"S3_SYNC_SRC__PATH": "s3://from/x/", "S3_SYNC_DEST__PATH": "s3://to/x/"}
    key, secret, token = (f"S3_SYNC_{end}__{name}" for name in ("ACCESS_KEY", "SECRET_KEY", "SESSION_TOKEN"))
    assert only_problem({**environ, key: "canary"}) == f"{key} is set but {secret} is missing"
    assert only_problem({**environ, secret: "canary"}) == f"{secret} is set but {key} is missing"
    assert only_problem({**environ, token: "canary"}) == f"{token} is set but {key} and {secret} are missing"


# What does not go together -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "destination", "words"),
    [
        ("s3://b/x/", "s3://b/x/", "same place"),
        ("s3://b/x", "s3://b/x/", "same place"),
        ("s3://b/x/", "s3://b/x/y/", "inside the source"),
        ("s3://b/x/y/", "s3://b/x/", "inside the destination"),
        ("s3://b/x/file", "s3://b/x/", "inside the destination"),
        ("s3://b", "s3://b/x/", "inside the source"),
        ("s3://b/x/", "s3://b/", "inside the destination"),
        ("s3://b/models/", "s3://b", "same place"),
        ("/mnt/x", "/mnt/x/", "same place"),
        ("/mnt/x", "file:///mnt/x/y", "inside the source"),
        ("/mnt/x/y", "/mnt/x", "inside the destination"),
    ],
)
def test_overlapping_places(source: str, destination: str, words: str) -> None:
    assert words in only_problem({"S3_SYNC_SRC__PATH": source, "S3_SYNC_DEST__PATH": destination})


@pytest.mark.parametrize(
    ("source", "destination"),
    [("s3://b/x/", "s3://b/xy/"), ("s3://b/x/", "s3://c/x/"), ("/mnt/x", "/mnt/xy"), ("/mnt/x", "s3://mnt/x/")],
)
def test_neighbours(source: str, destination: str) -> None:
    load({"S3_SYNC_SRC__PATH": source, "S3_SYNC_DEST__PATH": destination})


def test_folders_overlap_also_through_links(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    environ = {"S3_SYNC_SRC__PATH": f"{tmp_path}/real/x", "S3_SYNC_DEST__PATH": f"{tmp_path}/link"}
    assert "inside the destination" in only_problem(environ)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("", "https://s3.amazonaws.com", True),
        ("https://s3.eu-west-1.amazonaws.com", "https://s3.amazonaws.com", True),
        ("https://minio", "https://minio:443", True),
        ("http://minio:9000", "https://minio:9000", True),
        ("https://minio", "https://other", False),
        ("", "https://minio", False),
        ("", "https://s3.cn-north-1.amazonaws.com.cn", False),
        ("https://notamazonaws.com", "", False),
        (
            "https://s3.us.cloud-object-storage.appdomain.cloud",
            "https://s3.private.us.cloud-object-storage.appdomain.cloud",
            True,
        ),
    ],
)
def test_same_service(one: str, other: str, *, same: bool) -> None:
    assert same_service(S3Location("b", endpoint=one), S3Location("b", endpoint=other)) is same


def test_the_same_bucket_name_at_another_service_is_another_bucket() -> None:
    load({**S3_SECRET, "S3_SYNC_DEST__PATH": "s3://bucket/folder/", "S3_SYNC_DEST__ENDPOINT": "http://minio:9000"})


def test_no_mirror_at_the_root_of_a_bucket() -> None:
    root = {**DIRECTORY, "S3_SYNC_DEST__PATH": "s3://b/"}
    assert "root of a bucket" in only_problem({**root, "S3_SYNC_DELETE": "all"})
    assert load({**root, "S3_SYNC_DELETE": "true"}).delete == "recorded"
    assert load({**DIRECTORY, "S3_SYNC_DEST__PATH": "s3://b", "S3_SYNC_DELETE": "ALL"}).delete == "all"
    assert load({**root, "S3_SYNC_DELETE": "false"}).delete == "off"


def test_the_engine_has_more_wishes_granted() -> None:
    wishes = {
        "S3_SYNC_TRANSFER_CONFIG__BANDWIDTH": "200MiB",
        "S3_SYNC_DIGEST": "CRC64NVME",
        "S3_SYNC_METRICS_PORT": "9095",
    }
    settings = load({**DIRECTORY, **CONNECTION, **wishes})
    assert (str(settings.transfer.bandwidth), settings.transfer.digest) == (str(200 * 2**20), "crc64nvme")
    assert settings.reporting.metrics_port == 9095
    plain = load({**DIRECTORY, **CONNECTION})
    assert (plain.transfer.bandwidth, plain.transfer.digest, plain.reporting.metrics_port) == (None, "sha256", None)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("S3_SYNC_DIGEST", "md5", "must be sha256 or crc64nvme"),
        ("S3_SYNC_METRICS_PORT", "80", "must be a port from 1024 to 65535"),
        ("S3_SYNC_METRICS_PORT", "65536", "must be a port from 1024 to 65535"),
        ("JOB_COMPLETION_INDEX", "-1", "must be a whole number from 0"),
    ],
)
def test_wishes_that_make_no_sense_are_refused(name: str, text: str, says: str) -> None:
    assert only_problem({**DIRECTORY, **CONNECTION, name: text}) == f"{name} {says}"


def test_a_pod_knows_its_share_of_an_indexed_job() -> None:
    assert load({**DIRECTORY, **CONNECTION}).share is None
    share = load({**DIRECTORY, **CONNECTION, "S3_SYNC_SHARES": "8", "JOB_COMPLETION_INDEX": "7"}).share
    assert share == Share(index=7, count=8)
    assert load({**DIRECTORY, **CONNECTION, "JOB_COMPLETION_INDEX": "0"}).share is None
    assert load({**DIRECTORY, **CONNECTION, "S3_SYNC_SHARES": "1"}).share == Share(index=0, count=1)


@pytest.mark.parametrize(
    "environ",
    [
        {"S3_SYNC_SHARES": "8"},
        {"S3_SYNC_SHARES": "8", "JOB_COMPLETION_INDEX": "8"},
        {"JOB_COMPLETION_INDEX": "1"},
    ],
)
def test_a_pod_that_cannot_tell_its_share_is_told(environ: dict[str, str]) -> None:
    problem = only_problem({**DIRECTORY, **CONNECTION, **environ})
    assert problem.startswith("S3_SYNC_SHARES")
    assert "JOB_COMPLETION_INDEX" in problem or "completions" in problem


@pytest.mark.parametrize(
    "environ",
    [
        {"COMPRESS_MODEL": "false", "S3_SYNC_DIGEST": "SHA256"},
        {"COMPRESS_MODEL": "true", "SKIP_TASKS": "compress-model"},
        {"MODEL_REGISTRY_URL": "http://registry", "SKIP_TASKS": " register-with-registry "},
        {"S3_SYNC_METRICS_PORT": "9090", "S3_SYNC_SCRATCH_DIR": "/tmp/x", "S3_SYNC_ALLOW_PLAINTEXT_TOKENS": "false"},
        {"S3_SYNC_COS_TOKEN_CACHE": "/x", "HF_TOKEN": "hf_x", "HUGGINGFACE_ALLOW_PATTERNS": "*.json\n*.txt"},
    ],
)
def test_wishes_without_consequence_are_passed_over(environ: dict[str, str]) -> None:
    load({**DIRECTORY, **CONNECTION, **environ})
