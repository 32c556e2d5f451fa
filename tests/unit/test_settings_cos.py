"""IBM Cloud Object Storage as the source: bucket, host, credentials, and what does not go together."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import SecretStr

from syncer.settings import effective, load, secrets
from syncer.settings.locations import CosLocation, S3Location, Settings
from tests.support.refused_settings import only_problem, problems

CRN = "crn:v1:bluemix:public:cloud-object-storage:global:a/ACCOUNT:INSTANCE"
VOLUME = {"S3_SYNC_DEST__PATH": "/mnt/models"}
PLACE = {"S3_SYNC_COS_BUCKET": "models", "S3_SYNC_COS_INSTANCE_REGION": "us-south", **VOLUME}
PASSCODE = {"S3_SYNC_COS_TEMPORARY_PASSCODE": "AbCdEfG123"}
API_KEY = {"S3_SYNC_COS_API_KEY": "canary-api-key"}
HMAC = {"S3_SYNC_SRC__ACCESS_KEY": "hmac-access", "S3_SYNC_SRC__SECRET_KEY": "hmac-secret"}
LOGIN_LINE = "ibmcloud login -a https://cloud.ibm.com -u passcode -p canaryX1y2"


def cos(environ: Mapping[str, str]) -> CosLocation:
    found = load(environ).source
    assert isinstance(found, CosLocation)
    return found


def hmac(environ: Mapping[str, str]) -> S3Location:
    found = load(environ).source
    assert isinstance(found, S3Location)
    return found


def note(settings: Settings, *words: str) -> bool:
    return any(all(word in each for word in words) for each in settings.notes)


# Bucket and prefix ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bucket", "crn"),
    [
        ("models", ""),
        ("", f"{CRN}:bucket:models"),
        ("models", f"{CRN}:bucket:models"),
        ("models", f"{CRN}::"),
    ],
)
def test_the_bucket_from_its_name_or_its_crn(bucket: str, crn: str) -> None:
    named = {"S3_SYNC_COS_BUCKET": bucket, "S3_SYNC_COS_INSTANCE_CRN": crn}
    assert cos({**PLACE, **PASSCODE, **named}).uri == "cos://models/"


@pytest.mark.parametrize(
    ("bucket", "crn", "words"),
    [
        ("models", f"{CRN}:bucket:others", ["S3_SYNC_COS_BUCKET", "S3_SYNC_COS_INSTANCE_CRN", "different buckets"]),
        ("", f"{CRN}::", ["no bucket", "S3_SYNC_COS_BUCKET", "S3_SYNC_COS_INSTANCE_CRN"]),
        ("", "", ["no bucket"]),
        ("a/b", "", ["S3_SYNC_COS_BUCKET", "name of a bucket"]),
        ("models", CRN, ["S3_SYNC_COS_INSTANCE_CRN", "CRN of a bucket"]),
        ("models", f"{CRN}:bucket:", ["CRN of a bucket"]),
        ("models", f"{CRN}:bucket:a/b", ["name of a bucket"]),
        ("models", "crn:v1:bluemix:public:kms:us-south:a/ACCOUNT:INSTANCE::", ["CRN of a bucket"]),
        ("models", "INSTANCE", ["CRN of a bucket"]),
    ],
)
def test_buckets_that_are_none(bucket: str, crn: str, words: list[str]) -> None:
    problem = only_problem({**PLACE, **PASSCODE, "S3_SYNC_COS_BUCKET": bucket, "S3_SYNC_COS_INSTANCE_CRN": crn})
    for word in words:
        assert word in problem


@pytest.mark.parametrize(
    ("written", "prefix"),
    [
        ("trained_models/ID/model", "trained_models/ID/model"),
        ("trained_models/ID/model/", "trained_models/ID/model/"),
        ("//a/b", "a/b"),
        ("/", ""),
        ("", ""),
        ("a b/é?#", "a b/é?#"),
    ],
)
def test_the_prefix_stays_as_it_was_written(written: str, prefix: str) -> None:
    assert cos({**PLACE, **PASSCODE, "S3_SYNC_COS_MODEL_PREFIX": written}).bucket.prefix == prefix


@pytest.mark.parametrize("written", ["a/.syncer/b", "x" * 1025])
def test_prefixes_that_are_none(written: str) -> None:
    assert "S3_SYNC_COS_MODEL_PREFIX" in only_problem({**PLACE, **PASSCODE, "S3_SYNC_COS_MODEL_PREFIX": written})


# Hosts ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "kind", "endpoint", "host"),
    [
        ("us-geo", "", "", "https://s3.us.cloud-object-storage.appdomain.cloud"),
        ("us-south-smart", "public", "", "https://s3.us-south.cloud-object-storage.appdomain.cloud"),
        ("EU-DE", "Private", "", "https://s3.private.eu-de.cloud-object-storage.appdomain.cloud"),
        ("ams03", "direct", "", "https://s3.direct.ams03.cloud-object-storage.appdomain.cloud"),
        ("us-south", "private", "https://other.example:8443/", "https://other.example:8443"),
        ("nowhere", "", "other.example", "https://other.example"),
        (
            "",
            "",
            "s3.us.cloud-object-storage.appdomain.cloud",
            "https://s3.us.cloud-object-storage.appdomain.cloud",
        ),
    ],
)
def test_the_host(region: str, kind: str, endpoint: str, host: str) -> None:
    said = {
        "S3_SYNC_COS_INSTANCE_REGION": region,
        "S3_SYNC_COS_ENDPOINT_TYPE": kind,
        "S3_SYNC_COS_ENDPOINT": endpoint,
    }
    assert cos({**PLACE, **PASSCODE, **said}).bucket.endpoint == host


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"S3_SYNC_COS_INSTANCE_REGION": "us-west-2"}, ["S3_SYNC_COS_INSTANCE_REGION", "us-geo", "jp-tok", "sng01"]),
        ({"S3_SYNC_COS_INSTANCE_REGION": ""}, ["no region", "S3_SYNC_COS_INSTANCE_REGION", "S3_SYNC_COS_ENDPOINT"]),
        ({"S3_SYNC_COS_ENDPOINT": "ftp://x"}, ["S3_SYNC_COS_ENDPOINT", "https://"]),
        ({"S3_SYNC_COS_ENDPOINT": "https://canary:canary@x"}, ["S3_SYNC_COS_ENDPOINT", "password"]),
        ({"S3_SYNC_COS_ENDPOINT_TYPE": "vpc"}, ["S3_SYNC_COS_ENDPOINT_TYPE", "public, private or direct"]),
    ],
)
def test_hosts_that_are_none(said: dict[str, str], words: list[str]) -> None:
    problem = only_problem({**PLACE, **PASSCODE, **said})
    for word in words:
        assert word in problem


@pytest.mark.parametrize(
    ("written", "iam"),
    [
        ("", "https://iam.cloud.ibm.com"),
        ("private.iam.cloud.ibm.com", "https://private.iam.cloud.ibm.com"),
        ("https://iam.test.cloud.ibm.com/", "https://iam.test.cloud.ibm.com"),
        ("https://iam.cloud.ibm.com/identity/token", "https://iam.cloud.ibm.com"),
        ("https://iam.cloud.ibm.com:443/oidc/token/", "https://iam.cloud.ibm.com:443"),
    ],
)
def test_the_iam_endpoint(written: str, iam: str) -> None:
    assert cos({**PLACE, **PASSCODE, "S3_SYNC_COS_IAM_ENDPOINT": written}).iam_endpoint == iam


def test_an_iam_endpoint_with_another_path() -> None:
    problem = only_problem({**PLACE, **PASSCODE, "S3_SYNC_COS_IAM_ENDPOINT": "https://iam.cloud.ibm.com/v1/apikeys"})
    assert problem.startswith("S3_SYNC_COS_IAM_ENDPOINT must be a URL without a path")


@pytest.mark.parametrize("name", ["S3_SYNC_COS_ENDPOINT", "S3_SYNC_COS_IAM_ENDPOINT"])
@pytest.mark.parametrize("login", [PASSCODE, API_KEY])
def test_no_token_over_http_unless_it_is_meant(name: str, login: dict[str, str]) -> None:
    environ = {**PLACE, **login, name: "http://local.example:9000"}
    problem = only_problem(environ)
    assert problem.startswith(name)
    assert "S3_SYNC_ALLOW_PLAINTEXT_TOKENS=true" in problem
    settings = load({**environ, "S3_SYNC_ALLOW_PLAINTEXT_TOKENS": "true"})
    assert isinstance(settings.source, CosLocation)
    assert settings.source.plaintext_tokens is True
    assert note(settings, name, "http://")


def test_signatures_may_go_over_http() -> None:
    environ = {**PLACE, **HMAC, "S3_SYNC_COS_ENDPOINT": "http://local.example:9000"}
    assert hmac(environ).endpoint == "http://local.example:9000"


def test_the_certificate_of_the_bucket_may_be_left_unchecked() -> None:
    settings = load({**PLACE, **PASSCODE, "S3_SYNC_SRC__VALIDATE_TLS": "false"})
    assert isinstance(settings.source, CosLocation)
    assert settings.source.bucket.validate_tls is False
    assert note(settings, "S3_SYNC_SRC__VALIDATE_TLS", "cloud-object-storage", "is not checked")
    assert note(settings, "S3_SYNC_SRC__VALIDATE_TLS", "iam.cloud.ibm.com", "is not checked")


# Credentials ---------------------------------------------------------------------------------------------------------


def test_an_api_key() -> None:
    found = cos({**PLACE, **API_KEY})
    assert found.passcode is None
    assert found.api_key is not None
    assert found.api_key.get_secret_value() == "canary-api-key"


def test_hmac_keys_make_it_a_bucket_like_any_other() -> None:
    own = {**HMAC, "S3_SYNC_SRC__SESSION_TOKEN": "hmac-token", "S3_SYNC_COS_INSTANCE_REGION": "us-geo-smart"}
    found = hmac({**PLACE, **own, "S3_SYNC_COS_MODEL_PREFIX": "a/b"})
    assert (found.uri, found.region, found.ambient_keys) == ("cos://models/a/b", "us", False)
    assert found.endpoint == "https://s3.us.cloud-object-storage.appdomain.cloud"
    keys = (found.access_key, found.secret_key, found.session_token)
    assert [key.get_secret_value() for key in keys if key] == ["hmac-access", "hmac-secret", "hmac-token"]


def test_hmac_keys_of_a_mounted_secret(tmp_path: Path) -> None:
    (tmp_path / "ACCESS_KEY").write_text("hmac-access\n")
    (tmp_path / "SECRET_KEY").write_text("hmac-secret\n")
    found = hmac({**PLACE, "S3_SYNC_SRC__CREDENTIALS_DIR": str(tmp_path)})
    assert found.secret_key is not None
    assert found.secret_key.get_secret_value() == "hmac-secret"


def test_the_whole_secret_may_be_mounted(tmp_path: Path) -> None:
    said = {
        "S3_SYNC_USE_IBMCLOUD_CLI": "true",
        "S3_SYNC_COS_INSTANCE_CRN": f"{CRN}:bucket:models",
        "S3_SYNC_COS_INSTANCE_REGION": "us-geo",
        **PASSCODE,
    }
    for name, text in said.items():
        (tmp_path / name).write_text(text + "\n")
    settings = load({**VOLUME, "S3_SYNC_SRC__CREDENTIALS_DIR": str(tmp_path)})
    assert isinstance(settings.source, CosLocation)
    assert settings.source.uri == "cos://models/"
    assert "AbCdEfG123" in secrets(settings)
    origin = "S3_SYNC_SRC__CREDENTIALS_DIR/S3_SYNC_COS_TEMPORARY_PASSCODE"
    assert settings.origins["S3_SYNC_COS_TEMPORARY_PASSCODE"] == origin


def test_a_passcode_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "code").write_text("AbCdEfG123\n")
    found = cos({**PLACE, "S3_SYNC_COS_TEMPORARY_PASSCODE_FILE": str(tmp_path / "code")})
    assert found.passcode is not None
    assert found.passcode.get_secret_value() == "AbCdEfG123"


@pytest.mark.parametrize("login", [PASSCODE, API_KEY])
def test_the_rest_of_a_former_s3_source_is_not_used_and_said(login: dict[str, str]) -> None:
    former = {**HMAC, "S3_SYNC_SRC__ENDPOINT": "https://s3.amazonaws.com", "S3_SYNC_SRC__REGION": "us-east-1"}
    settings = load({**PLACE, **login, **former})
    assert isinstance(settings.source, CosLocation)
    assert settings.source.bucket.access_key is None
    assert note(settings, *former)
    assert {"hmac-access", "hmac-secret"} <= set(secrets(settings))


@pytest.mark.parametrize(
    ("login", "words"),
    [
        ({}, ["no credentials", "S3_SYNC_COS_TEMPORARY_PASSCODE", "S3_SYNC_COS_API_KEY", "S3_SYNC_SRC__ACCESS_KEY"]),
        ({**PASSCODE, **API_KEY}, ["S3_SYNC_COS_TEMPORARY_PASSCODE and S3_SYNC_COS_API_KEY are both set"]),
        ({"S3_SYNC_COS_TEMPORARY_PASSCODE": LOGIN_LINE}, ["only the passcode itself"]),
        ({"S3_SYNC_COS_TEMPORARY_PASSCODE": "canary canary"}, ["only the passcode itself"]),
        ({"S3_SYNC_COS_TEMPORARY_PASSCODE": '"canary"'}, ["only the passcode itself"]),
        ({"S3_SYNC_COS_TEMPORARY_PASSCODE": "can\nary"}, ["S3_SYNC_COS_TEMPORARY_PASSCODE", "line break"]),
        ({"S3_SYNC_COS_API_KEY": "apikey: canary"}, ["only the API key itself"]),
        ({"S3_SYNC_SRC__ACCESS_KEY": "canary"}, ["S3_SYNC_SRC__SECRET_KEY is missing"]),
        ({"S3_SYNC_SRC__SECRET_KEY": "canary"}, ["S3_SYNC_SRC__ACCESS_KEY is missing"]),
        ({"S3_SYNC_SRC__SESSION_TOKEN": "canary"}, ["S3_SYNC_SRC__ACCESS_KEY and S3_SYNC_SRC__SECRET_KEY are missing"]),
    ],
)
def test_credentials_that_are_none(login: dict[str, str], words: list[str]) -> None:
    problem = only_problem({**PLACE, **login})
    for word in words:
        assert word in problem


def test_the_keys_of_the_destination_never_log_in_to_ibm() -> None:
    aws = {"AWS_ACCESS_KEY_ID": "theirs", "AWS_SECRET_ACCESS_KEY": "theirs-too"}
    assert "no credentials" in only_problem({**PLACE, **aws})
    assert hmac({**PLACE, **aws, **HMAC}).ambient_keys is False


def test_the_token_cache_is_for_passcodes(tmp_path: Path) -> None:
    cache = {"S3_SYNC_COS_TOKEN_CACHE": str(tmp_path / "token")}
    assert cos({**PLACE, **PASSCODE, **cache}).token_cache == tmp_path / "token"
    for login in (API_KEY, HMAC):
        assert note(load({**PLACE, **login, **cache}), "S3_SYNC_COS_TOKEN_CACHE is not used")
    assert cos({**PLACE, **API_KEY, **cache}).token_cache is None
    folder = {"S3_SYNC_COS_TOKEN_CACHE": str(tmp_path)}
    assert only_problem({**PLACE, **PASSCODE, **folder}) == "S3_SYNC_COS_TOKEN_CACHE must name a file, not a folder"
    assert "absolute path" in only_problem({**PLACE, **PASSCODE, "S3_SYNC_COS_TOKEN_CACHE": "token"})


# Together ------------------------------------------------------------------------------------------------------------


def test_all_problems_at_once() -> None:
    found = problems(
        {
            **VOLUME,
            "S3_SYNC_COS_INSTANCE_CRN": "canary",
            "S3_SYNC_COS_INSTANCE_REGION": "canary",
            "S3_SYNC_COS_MODEL_PREFIX": ".syncer",
            "S3_SYNC_COS_IAM_ENDPOINT": "https://x/canary",
            "S3_SYNC_COS_TEMPORARY_PASSCODE": LOGIN_LINE,
            "S3_SYNC_COS_API_KEY": "canary canary",
            "S3_SYNC_COS_TOKEN_CACHE": "/",
        }
    )
    assert len(found) == 8
    assert [each for each in found if "no source" in each or "no bucket" in each] == []


@pytest.mark.parametrize("only", [{"S3_SYNC_USE_IBMCLOUD_CLI": "true"}, {"S3_SYNC_COS_MODEL_PREFIX": "a"}])
def test_one_name_chooses_ibm_and_the_rest_is_asked_for(only: dict[str, str]) -> None:
    found = problems({**VOLUME, **only})
    assert [each.partition(" for IBM COS")[0] for each in found] == ["no bucket", "no region", "no credentials"]


@pytest.mark.parametrize(
    "complete",
    [
        {"S3_SYNC_USE_IBMCLOUD_CLI": "true"},
        {"S3_SYNC_COS_BUCKET": "models", **API_KEY},
        {"S3_SYNC_COS_INSTANCE_CRN": f"{CRN}:bucket:models", **PASSCODE},
    ],
)
@pytest.mark.parametrize("path", ["s3://bucket/folder/", "hf://ibm/granite", "/mnt/x"])
def test_two_complete_sources_are_both_named(complete: dict[str, str], path: str) -> None:
    problem = only_problem({**VOLUME, **complete, "S3_SYNC_SRC__PATH": path})
    assert problem.startswith("2 sources at once: S3_SYNC_SRC__PATH")
    assert f"{next(iter(complete))} (IBM COS)" in problem


@pytest.mark.parametrize(
    "rest", [{"S3_SYNC_COS_BUCKET": "models"}, PASSCODE, {"S3_SYNC_COS_INSTANCE_CRN": f"{CRN}::", **PASSCODE}]
)
def test_the_rest_of_a_former_source_does_not_count(rest: dict[str, str]) -> None:
    settings = load({**VOLUME, **rest, **HMAC, "S3_SYNC_SRC__PATH": "s3://bucket/folder/"})
    assert isinstance(settings.source, S3Location)
    assert settings.source.uri == "s3://bucket/folder/"
    assert note(settings, "S3_SYNC_COS_* is not complete")


@pytest.mark.parametrize("login", [PASSCODE, HMAC])
@pytest.mark.parametrize(
    ("prefix", "words"), [("x", "same place"), ("x/y", "inside the destination"), ("", "inside the source"), ("y", "")]
)
def test_a_destination_in_the_same_bucket(login: dict[str, str], prefix: str, words: str) -> None:
    own = {
        "S3_SYNC_DEST__PATH": "s3://models/x/",
        "S3_SYNC_DEST__ENDPOINT": "https://s3.private.us-south.cloud-object-storage.appdomain.cloud",
        "S3_SYNC_DEST__ACCESS_KEY": "own-key",
        "S3_SYNC_DEST__SECRET_KEY": "own-secret",
    }
    environ = {**PLACE, **login, **own, "S3_SYNC_COS_MODEL_PREFIX": prefix}
    if words:
        assert words in only_problem(environ)
    else:
        load(environ)


@pytest.mark.parametrize("login", [{"S3_SYNC_COS_TEMPORARY_PASSCODE": "canary-passcode"}, API_KEY])
def test_no_secret_in_what_may_be_shown(login: dict[str, str]) -> None:
    settings = load({**PLACE, **login, "S3_SYNC_COS_TOKEN_CACHE": "/run/token"})
    for shown in (str(effective(settings)), repr(settings), str(settings), str(settings.notes)):
        assert "canary" not in shown
    [secret] = login.values()
    assert secrets(settings) == [secret]
    source = effective(settings)["source"]
    assert source["uri"] == "cos://models/"
    assert source["endpoint"] == "https://s3.us-south.cloud-object-storage.appdomain.cloud"
    assert source.get("passcode", source.get("api_key")) == "***"


def test_a_location_that_no_variable_made_has_its_secrets_too() -> None:
    made = CosLocation(S3Location("models"), passcode=SecretStr("canary-1"), api_key=SecretStr("canary-2"))
    assert secrets(Settings(made, None)) == ["canary-1", "canary-2"]
