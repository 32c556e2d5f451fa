"""A bucket behind a token: what is sent, what a refusal means, and which variables errors name."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from syncer.errors import ConfigurationError, CredentialsRefused, SourceMissing, Transient
from syncer.manifest import ModelFile
from syncer.settings.locations import CosLocation, Network, S3Location
from syncer.stores.cos import CosSource
from syncer.stores.s3 import S3Source
from tests.support.cos_places import cos_location, own_redactor
from tests.support.fake_iam import REFRESH, FakeIam
from tests.support.scripted_bucket import AT_ONCE, Answers, ScriptedBucket, listed, refusal, scripted_bucket
from tests.support.scripted_server import reply

FILE = ModelFile("a", 10, "e1")
DENIED = refusal(403, "AccessDenied", "Access Denied")


@pytest.fixture
def iam() -> Iterator[FakeIam]:
    with own_redactor(), FakeIam() as server:
        yield server


class Opened:
    """A source over a scripted bucket."""

    def __init__(self, iam: FakeIam, bucket: ScriptedBucket, stack: ExitStack) -> None:
        self.bucket = bucket
        self.location = cos_location(iam, bucket.location().endpoint)
        self.source = CosSource(self.location, Network(), patience=AT_ONCE)
        stack.callback(self.source.close)

    @property
    def tokens(self) -> list[str]:
        return [heard.headers["authorization"] for heard in self.bucket.heard]


@pytest.fixture
def opening(iam: FakeIam) -> Iterator[Any]:
    with ExitStack() as stack:

        def start(answers: Answers) -> Opened:
            return Opened(iam, stack.enter_context(scripted_bucket(answers)), stack)

        yield start


# ------------------------------------------------------------------------------------------------------------ the login


def test_the_login_comes_before_everything_and_once(iam: FakeIam, opening: Any) -> None:
    opened = opening({("GET", "/b?list"): [listed(("m/a", 10, "e1"))]})
    assert iam.asked == []
    for _ in range(3):
        opened.source.listing()
    assert len(iam.asked) == 1
    assert len(set(opened.tokens)) == 1
    assert opened.tokens[0].startswith("Bearer ")


def test_a_refused_login_asks_the_bucket_nothing(iam: FakeIam, opening: Any) -> None:
    opened = opening({})
    spent = CosSource(replace(opened.location, passcode=SecretStr("spent-already")), Network())
    with closing(spent), pytest.raises(CredentialsRefused, match="BXNIM0602E"):
        spent.listing()
    assert opened.bucket.heard == []


def test_a_later_source_goes_on_with_the_login(iam: FakeIam, opening: Any) -> None:
    opened = opening({("GET", "/b?list"): [listed(("m/a", 10, "e1"))]})
    opened.source.listing()
    opened.source.close()
    later = CosSource(opened.location, Network(), former=opened.source)
    with closing(later):
        later.listing()
    other = CosSource(cos_location(iam, opened.location.bucket.endpoint), Network(), former=opened.source)
    with closing(other):
        other.listing()
    assert len(iam.asked) == 2, "another passcode is another login"


def test_interrupt_wakes_who_waits_for_iam(iam: FakeIam, opening: Any) -> None:
    opened = opening({})
    iam.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(opened.source.listing)
        while not iam.asked:
            threading.Event().wait(0.002)
        opened.source.interrupt()
        assert isinstance(waiting.exception(10), Transient)


# --------------------------------------------------------------------------------------------------------- the refusals


def test_a_refused_token_is_renewed_and_the_same_call_made_again(iam: FakeIam, opening: Any) -> None:
    opened = opening({("GET", "/b?list"): [DENIED, listed(("m/a", 10, "e1"))]})
    assert set(opened.source.listing().files) == {"a"}
    assert len(iam.grants(REFRESH)) == 1
    assert len(set(opened.tokens)) == 2


@pytest.mark.parametrize("no", [DENIED, reply(401)])
def test_a_refused_token_is_renewed_and_the_same_range_read_again(iam: FakeIam, opening: Any, no: bytes) -> None:
    opened = opening({("GET", "/b/m/a"): [no, reply(200, b"0123456789", etag='"e1"')]})
    with closing(opened.source.read(FILE, 0, 10)) as body:
        assert body.readinto(memoryview(bytearray(10))) == 10
    assert len(set(opened.tokens)) == 2


@pytest.mark.parametrize("ask", [lambda source: source.listing(), lambda source: source.read(FILE, 0, 10)])
def test_what_is_refused_again_is_refused(iam: FakeIam, opening: Any, ask: Any) -> None:
    opened = opening({("GET", "/b"): [DENIED]})
    with pytest.raises(CredentialsRefused) as caught:
        ask(opened.source)
    assert len(opened.bucket.heard) == 2
    assert "S3_SYNC_COS_TEMPORARY_PASSCODE must be allowed to list and read the bucket" in caught.value.hint


def test_keys_that_are_refused_are_refused_at_once() -> None:
    with scripted_bucket({("GET", "/b"): [DENIED]}) as bucket:
        with pytest.raises(CredentialsRefused):
            bucket.source().listing()
        with pytest.raises(CredentialsRefused):
            bucket.source().read(FILE, 0, 10)
        assert len(bucket.heard) == 2


def test_a_bucket_that_is_not_there_names_the_variables(opening: Any) -> None:
    opened = opening({("GET", "/b?list"): [refusal(404, "NoSuchBucket")]})
    with pytest.raises(SourceMissing) as caught:
        opened.source.listing()
    for variable in ("S3_SYNC_COS_BUCKET", "S3_SYNC_COS_INSTANCE_REGION", "S3_SYNC_COS_ENDPOINT"):
        assert variable in caught.value.hint


def test_an_empty_folder_names_the_variable(opening: Any) -> None:
    opened = opening({("GET", "/b?list"): [listed()]})
    with pytest.raises(SourceMissing) as caught:
        opened.source.listing()
    assert "S3_SYNC_COS_MODEL_PREFIX" in caught.value.hint


def test_an_archived_object_is_said_to_be_one(opening: Any) -> None:
    opened = opening({("GET", "/b/m/a"): [refusal(403, "InvalidObjectState")]})
    with pytest.raises(SourceMissing, match="InvalidObjectState") as caught:
        opened.source.read(FILE, 0, 10)
    assert "restore it" in caught.value.hint


def test_hmac_keys_are_an_s3_source_with_the_names_of_cos() -> None:
    with scripted_bucket({("GET", "/b?list"): [refusal(404, "NoSuchBucket")]}) as bucket:
        source = S3Source(bucket.location(scheme="cos"), Network(), patience=AT_ONCE)
        with closing(source), pytest.raises(SourceMissing) as caught:
            source.listing()
        assert source.name == "cos://b/m/"
        assert "S3_SYNC_COS_BUCKET" in caught.value.hint


# -------------------------------------------------------------------------------------- what else is in the environment


@pytest.mark.parametrize("which", ["iam", "bucket"])
def test_no_token_travels_in_plain_text(iam: FakeIam, which: str) -> None:
    place = S3Location("b", "m/", "http://s3.test" if which == "bucket" else "https://s3.test", scheme="cos")
    location = CosLocation(
        bucket=place,
        passcode=SecretStr(iam.new_passcode()),
        iam_endpoint=iam.url if which == "iam" else "https://iam.cloud.ibm.com",
    )
    with pytest.raises(ConfigurationError) as caught:
        CosSource(location, Network())
    assert {"iam": "S3_SYNC_COS_IAM_ENDPOINT", "bucket": "S3_SYNC_COS_ENDPOINT"}[which] in caught.value.hint
    assert iam.asked == []


def test_the_environment_of_aws_means_nothing_here(
    opening: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOFTHEOTHEREND")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-other-end")
    monkeypatch.setenv("AWS_PROFILE", "nobody-has-this-profile")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    opened = opening({("GET", "/b?list"): [listed(("m/a", 10, "e1"))]})
    assert set(opened.source.listing().files) == {"a"}
    assert all(token.startswith("Bearer ") for token in opened.tokens)
    assert "x-amz-security-token" not in opened.bucket.heard[0].headers


def test_the_name_holds_no_secret(iam: FakeIam) -> None:
    source = CosSource(cos_location(iam, prefix="trained_models/ID/model"), Network())
    with closing(source):
        assert source.name == "cos://b/trained_models/ID/model"
