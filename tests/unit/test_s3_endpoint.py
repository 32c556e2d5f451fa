"""Addresses: which host, which region, which style, and what does not leak in from the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from pydantic import SecretStr

from syncer.errors import ConfigurationError, CredentialsRefused, EndpointUnreachable, SyncerError
from syncer.settings.locations import Network, S3Location
from syncer.stores.s3 import S3Destination, S3Source
from syncer.stores.s3.chain import no_keys
from syncer.stores.s3.endpoint import Endpoint, quote_key
from syncer.stores.s3.ends import SOURCE
from tests.support.scripted_bucket import listed, scripted_bucket


def endpoint(url: str, *, region: str = "", profile: str = "") -> Endpoint:
    return Endpoint.of(S3Location("b", endpoint=url, region=region), variable="X", configured_region=profile)


@pytest.mark.parametrize(
    ("given", "region", "base"),
    [
        ("", "", "https://models.s3.us-east-1.amazonaws.com/"),
        ("", "eu-west-1", "https://models.s3.eu-west-1.amazonaws.com/"),
        ("", "cn-north-1", "https://models.s3.cn-north-1.amazonaws.com.cn/"),
        ("https://s3.amazonaws.com", "us-east-1", "https://models.s3.us-east-1.amazonaws.com/"),
        ("https://s3.us-west-2.amazonaws.com/", "", "https://models.s3.us-west-2.amazonaws.com/"),
        ("https://s3-us-west-2.amazonaws.com", "", "https://models.s3.us-west-2.amazonaws.com/"),
        ("https://s3-fips.us-gov-west-1.amazonaws.com", "", "https://s3-fips.us-gov-west-1.amazonaws.com/models/"),
        ("http://minio.minio.svc:9000", "", "http://minio.minio.svc:9000/models/"),
        ("https://gw.example/s3/", "", "https://gw.example/s3/models/"),
    ],
)
def test_where_keys_are(given: str, region: str, base: str) -> None:
    assert endpoint(given, region=region).base("models") == base


def test_a_bucket_with_dots_fits_no_wildcard_certificate() -> None:
    assert endpoint("").base("my.models") == "https://s3.us-east-1.amazonaws.com/my.models/"


@pytest.mark.parametrize(
    ("given", "region", "profile", "used"),
    [
        ("http://minio:9000", "", "eu-west-1", "us-east-1"),
        ("http://minio:9000", "lab", "", "lab"),
        ("", "", "eu-west-1", "eu-west-1"),
        ("https://bucket.vpce-1a2b.s3.us-west-2.vpce.amazonaws.com", "", "", "us-west-2"),
        ("https://s3-fips.us-gov-west-1.amazonaws.com", "", "", "us-gov-west-1"),
    ],
)
def test_the_region_of_a_signature(given: str, region: str, profile: str, used: str) -> None:
    assert endpoint(given, region=region, profile=profile).region == used


@pytest.mark.parametrize("url", ["minio:9000", "ftp://x", "https://", "s3.example.com", "http://u:canary@[bad"])
def test_an_endpoint_that_is_no_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Endpoint.of(S3Location("b", endpoint=url), variable="S3_SYNC_SRC__ENDPOINT")
    assert "S3_SYNC_SRC__ENDPOINT" in caught.value.hint
    assert "canary" not in caught.value.message


def test_the_same_service() -> None:
    assert endpoint("http://minio:9000").same_service(endpoint("http://MINIO:9000/"))
    assert endpoint("http://minio").same_service(endpoint("http://minio:80"))
    assert not endpoint("http://minio:9000").same_service(endpoint("http://minio:9001"))
    assert endpoint("").same_service(endpoint("https://s3.eu-west-1.amazonaws.com"))
    assert not endpoint("").same_service(endpoint("http://minio:9000"))


def test_keys_are_escaped_and_never_normalized() -> None:
    assert quote_key("a b+c%d/ü//../~.x") == "a%20b%2Bc%25d/%C3%BC//../~.x"


def test_the_environment_of_the_other_end_stays_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
        "AWS_DEFAULT_REGION": "mars-1",
        "AWS_PROFILE": "nobody",
        "AWS_ACCESS_KEY_ID": "AKIAOTHER",
        "AWS_SECRET_ACCESS_KEY": "other",
        "AWS_SESSION_TOKEN": "other",
        "AWS_CA_BUNDLE": "/nowhere",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_USE_DUALSTACK_ENDPOINT": "true",
        "AWS_DEFAULTS_MODE": "auto",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_supported",
        "HTTP_PROXY": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, value)
    answers = {("GET", "/b?list"): [listed(("m/a", 1, "e"))], ("HEAD", "/b/m/a"): [b"HTTP/1.1 200 OK\r\n\r\n"]}
    with scripted_bucket(answers) as bucket:
        bucket.source().listing()
        heard = bucket.heard[0].headers
        assert "Credential=AKIATEST/" in heard["authorization"]
        assert "/us-east-1/s3/" in heard["authorization"]
        assert "x-amz-security-token" not in heard
        with bucket.source().service.ask("HEAD", "m/a"):
            pass
        assert "Credential=AKIATEST/" in bucket.heard[-1].headers["authorization"]
        assert "/us-east-1/s3/" in bucket.heard[-1].headers["authorization"]


def test_aws_itself_is_not_redirected_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio.other.svc:9000")
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", "true")
    location = S3Location("b", region="eu-west-1", access_key=SecretStr("x"), secret_key=SecretStr("y"))
    source = S3Source(location, Network())
    assert source.service.endpoint.base("b") == "https://s3.eu-west-1.amazonaws.com/b/"
    source.close()


def test_absent_keys_come_from_the_environment_only_where_that_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAAMBIENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")
    with scripted_bucket({("GET", "/b?list"): [listed(("m/a", 1, "e"))]}) as bucket:
        bucket.source(access_key=None, secret_key=None).listing()
        assert "Credential=AKIAAMBIENT/" in bucket.heard[0].headers["authorization"]
        foreign = bucket.source(access_key=None, secret_key=None, ambient_keys=False)
        with pytest.raises(CredentialsRefused, match="no keys were given or found") as caught:
            foreign.listing()
        assert "S3_SYNC_SRC__ACCESS_KEY" in caught.value.hint


def test_a_profile_may_give_keys_and_is_named_when_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "credentials"
    config.write_text("[models]\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = x\nregion = lab-1\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "models")
    with scripted_bucket({("GET", "/b?list"): [listed(("m/a", 1, "e"))]}) as bucket:
        bucket.source(access_key=None, secret_key=None, ambient_keys=False).listing()
        assert "Credential=AKIAPROFILE/" in bucket.heard[0].headers["authorization"]
        monkeypatch.setenv("AWS_PROFILE", "nobody")
        with pytest.raises(ConfigurationError, match="nobody") as caught:
            bucket.source(access_key=None, secret_key=None, ambient_keys=False)
        assert "AWS_PROFILE" in caught.value.hint


def test_keys_that_their_issuer_does_not_give_are_no_bug_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK has errors of its own for some of that alone."""
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/models")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    with scripted_bucket({}) as bucket:
        source = bucket.source(access_key=None, secret_key=None)
        with pytest.raises(CredentialsRefused, match=f"FileNotFoundError: {tmp_path}/token"):
            source.listing()
    monkeypatch.delenv("AWS_WEB_IDENTITY_TOKEN_FILE")
    (tmp_path / "config").write_text("[default]\ncredential_process = echo canary\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with scripted_bucket({}) as bucket:
        source = bucket.source(access_key=None, secret_key=None)
        with pytest.raises(CredentialsRefused, match="JSONDecodeError") as caught:
            source.listing()
        assert "canary" not in caught.value.message


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "AccessDenied", CredentialsRefused),
        (400, "Throttling", EndpointUnreachable),
        (503, "ServiceUnavailable", EndpointUnreachable),
    ],
)
def test_an_issuer_in_trouble_is_worth_another_try(status: int, code: str, kind: type[SyncerError]) -> None:
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    assert type(no_keys(ClientError(answer, "AssumeRole"), end=SOURCE, store="s3://b/")) is kind


def test_half_a_pair_of_keys_is_a_mistake() -> None:
    with pytest.raises(ConfigurationError, match="only one of") as caught:
        S3Destination(S3Location("b", access_key=SecretStr("x")), Network())
    assert "S3_SYNC_DEST__ACCESS_KEY" in caught.value.hint


def test_the_session_token_is_sent_along() -> None:
    with scripted_bucket({("GET", "/b?list"): [listed(("m/a", 1, "e"))]}) as bucket:
        bucket.source(session_token=SecretStr("tok")).listing()
        assert bucket.heard[0].headers["x-amz-security-token"] == "tok"
