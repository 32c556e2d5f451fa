"""The registry along a job: found, announced, completed, taken back; races, refusals and states."""

import ssl
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import SecretStr

from syncer.errors import ConfigurationError, CredentialsRefused, EndpointUnreachable, SyncerError, Transient
from syncer.redaction import redact
from syncer.registration import Registration
from syncer.settings.locations import Network, RegistryLocation
from syncer.stop import StopSwitch
from tests.support import fake_registry
from tests.support.buckets import free_port
from tests.support.captured import capture_logs
from tests.support.fake_registry import FakeRegistry, Reply
from tests.support.registrations import MODEL, Make, registrations

Lines = list[Any]


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as server:
        yield server


@pytest.fixture
def log_lines() -> Iterator[Lines]:
    with capture_logs() as lines:
        yield lines


@pytest.fixture
def make(registry: FakeRegistry) -> Iterator[Make]:
    with registrations(registry.url) as maker:
        yield maker


def test_a_new_model_is_pending_then_live(registry: FakeRegistry, make: Make) -> None:
    registration = make(author="me", storage_key="demo-models")
    registration.check()
    assert registry.written == []
    registration.begin()
    assert registry.artifact["state"] == "PENDING"
    assert "uri" not in registry.artifact
    ids = registration.complete(MODEL)
    assert registry.artifact["state"] == "LIVE"
    assert registry.artifact["uri"] == MODEL.uri
    assert registry.artifact["storageKey"] == "demo-models"
    assert registry.artifact["storagePath"] == "models/granite"
    assert (registry.artifact["modelFormatName"], registry.artifact["modelFormatVersion"]) == ("safetensors", "1")
    assert (registry.model["owner"], registry.version["author"]) == ("me", "me")
    assert registry.version["registeredModelId"] == registry.model["id"]
    assert ids == {
        "RegisteredModel": registry.model["id"],
        "ModelVersion": registry.version["id"],
        "ModelArtifact": registry.artifact["id"],
    }
    assert registry.text("bytes") == "50000000000"
    assert registry.text("source") == "huggingface"
    assert registry.text("huggingface_model") == "ibm-granite/granite"
    assert registry.version["customProperties"]["compressed"]["bool_value"] is False


def test_a_second_run_writes_nothing(registry: FakeRegistry, make: Make) -> None:
    first = make()
    first.begin()
    ids = first.complete(MODEL)
    registry.asked.clear()
    second = make()
    second.check()
    second.begin()
    assert second.complete(MODEL) == ids
    assert registry.written == []


def test_completing_alone_registers(registry: FakeRegistry, make: Make) -> None:
    make().complete(MODEL)
    assert registry.artifact["state"] == "LIVE"
    assert [line.partition("/")[0] for line in registry.written] == [
        "POST registered_models",
        "POST model_versions",
        "POST model_versions",
    ]


def test_a_failing_run_abandons_what_it_began(registry: FakeRegistry, make: Make) -> None:
    registration = make()
    registration.begin()
    registration.abandon()
    assert registry.artifact["state"] == "ABANDONED"
    again = make()
    again.begin()
    assert registry.artifact["state"] == "PENDING"
    again.complete(MODEL)
    assert registry.artifact["state"] == "LIVE"
    again.abandon()
    assert registry.artifact["state"] == "LIVE"


def test_what_a_killed_run_left_pending_is_abandoned_by_the_next_that_fails(registry: FakeRegistry, make: Make) -> None:
    make().begin()
    second = make()
    second.begin()
    second.abandon()
    assert registry.artifact["state"] == "ABANDONED"


@pytest.mark.parametrize("state", ["LIVE", "UNKNOWN", "REFERENCE", "MARKED_FOR_DELETION"])
def test_a_finished_one_is_never_touched_by_a_failing_run(registry: FakeRegistry, make: Make, state: str) -> None:
    make().complete(MODEL)
    registry.artifact["state"] = state
    before = dict(registry.artifact)
    registry.asked.clear()
    registration = make()
    registration.begin()
    registration.abandon()
    assert registry.artifact == before
    assert registry.written == []


def test_one_that_another_run_has_finished_meanwhile_stays_live(registry: FakeRegistry, make: Make) -> None:
    slow = make()
    slow.begin()
    make().complete(MODEL)
    slow.abandon()
    assert registry.artifact["state"] == "LIVE"


def test_another_source_is_patched_and_said(registry: FakeRegistry, make: Make, log_lines: Lines) -> None:
    make().complete(MODEL)
    registry.version["customProperties"] |= {"team": {"metadataType": "MetadataStringValue", "string_value": "ours"}}
    registry.version["description"] = "written by a person"
    other = replace(MODEL, source="s3://elsewhere/granite/", revision="", uri=MODEL.uri.replace("demo", "prod"))
    make().complete(other)
    assert registry.artifact["uri"] == other.uri
    assert registry.text("source_uri") == "s3://elsewhere/granite/"
    assert "huggingface_model" not in registry.version["customProperties"]
    assert "revision" not in registry.version["customProperties"]
    assert registry.text("team") == "ours"
    assert registry.version["description"] == "written by a person"
    (said,) = [line for line in log_lines if line["event"] == "registration_changed"]
    assert said["source_uri"] == f"{MODEL.source} -> {other.source}"
    assert said["uri"] == f"{MODEL.uri} -> {other.uri}"
    assert said["revision"] == "c0ffee -> none"
    assert len(registry.entries["model_artifacts"]) == 1


def test_the_only_artifact_of_others_is_taken_over(registry: FakeRegistry, make: Make) -> None:
    """What the dashboard registered by hand has a name of its own; a second artifact would be a second model."""
    model = registry.create("registered_models", {"name": "granite"})
    version = registry.create("model_versions", {"name": "1.0.0", "registeredModelId": model["id"]})
    body = {"name": "granite-1.0.0-artifact", "artifactType": "model-artifact", "state": "LIVE", "uri": "s3://x"}
    registry.create("model_artifacts", body, owner=version["id"])
    make().complete(MODEL)
    assert registry.artifact["uri"] == MODEL.uri
    assert registry.artifact["name"] == "granite-1.0.0-artifact"


def test_of_several_artifacts_the_one_with_the_name_counts(registry: FakeRegistry, make: Make) -> None:
    make().complete(MODEL)
    (mine,) = registry.entries["model_artifacts"]
    for number in range(250):
        body = {"name": f"a{number}", "artifactType": "model-artifact"}
        registry.create("model_artifacts", body, owner=registry.version["id"])
    entries = registry.entries["model_artifacts"]
    entries[mine] = entries.pop(mine)  # the last one of the last page
    assert make().complete(MODEL)["ModelArtifact"] == mine
    assert len(entries) == 251


@pytest.mark.parametrize("folder", ["registered_models", "model_versions", "artifacts"])
@pytest.mark.parametrize("status", [409, 400])
def test_who_is_quicker_wins_and_both_go_on(registry: FakeRegistry, make: Make, folder: str, status: int) -> None:
    quicker = make()
    raced: list[str] = []

    def race(method: str, path: str) -> Reply | None:
        if method == "POST" and path.endswith(folder) and not raced:
            raced.append(path)
            quicker.complete(MODEL)
            return fake_registry.error(status, "duplicate: already exists") if status == 400 else None
        return None

    registry.before = race
    make().complete(MODEL)
    assert raced
    assert [len(entries) for entries in registry.entries.values()] == [1, 1, 1]
    assert registry.artifact["state"] == "LIVE"


def test_an_answer_that_gets_lost_creates_nothing_twice(registry: FakeRegistry, make: Make) -> None:
    lost: list[str] = []

    def lose(method: str, path: str) -> Reply | None:
        if method == "POST" and path not in lost:
            lost.append(path)
            return fake_registry.LOST
        return None

    registry.before = lose
    registration = make(tries=True)
    registration.begin()
    registration.complete(MODEL)
    assert len(lost) == 3
    assert [len(entries) for entries in registry.entries.values()] == [1, 1, 1]


@pytest.mark.parametrize(
    ("reply", "kind", "code", "words"),
    [
        (fake_registry.DOWN, EndpointUnreachable, 69, "is down"),
        (fake_registry.DATABASE_AWAY, Transient, 75, "error connecting to the database"),
        (fake_registry.UNAUTHORIZED, CredentialsRefused, 77, "refuses MODEL_REGISTRY_TOKEN"),
        (fake_registry.FORBIDDEN, CredentialsRefused, 77, "does not let MODEL_REGISTRY_TOKEN"),
        (Reply(302, headers={"Location": "https://login"}), ConfigurationError, 78, "no REST service"),
        (Reply(200, page="<html>a dashboard</html>"), ConfigurationError, 78, "no Model Registry"),
        (Reply(400, page="Client sent an HTTP request to an HTTPS server."), ConfigurationError, 78, "HTTP 400"),
    ],
)
def test_what_is_wrong_is_told_apart(
    registry: FakeRegistry, make: Make, reply: Reply, kind: type[SyncerError], code: int, words: str
) -> None:
    registry.before = lambda _method, _path: reply
    with pytest.raises(kind) as raised:
        make(token=SecretStr("canary-token")).check()
    assert raised.value.exit_code == code
    assert words in raised.value.message
    assert raised.value.hint
    assert "canary-token" not in f"{raised.value} {raised.value.hint}"


def test_a_page_that_knows_no_registry(registry: FakeRegistry, make: Make) -> None:
    registry.base = "/elsewhere"
    with pytest.raises(ConfigurationError, match="is no Model Registry"):
        make().check()
    assert [asked.status for asked in registry.asked] == [404, 404]


def test_nobody_there(make: Make) -> None:
    with pytest.raises(EndpointUnreachable) as raised:
        make(f"http://localhost:{free_port()}").check()
    assert raised.value.exit_code == 69
    assert "MODEL_REGISTRY_URL" in raised.value.hint


def test_no_token_where_one_is_wanted(registry: FakeRegistry, make: Make) -> None:
    registry.tokens.add("t")
    with pytest.raises(CredentialsRefused, match="wants a token, and there is none"):
        make().check()


def test_a_registry_that_comes_back_is_waited_for(registry: FakeRegistry, make: Make) -> None:
    registry.next_replies += [fake_registry.DOWN, fake_registry.DATABASE_AWAY]
    make(tries=True).check()
    assert [asked.status for asked in registry.asked] == [503, 500, 200]


def test_the_newest_base(make: Make) -> None:
    with FakeRegistry(base=fake_registry.NEWEST_BASE) as newest, closing(make(newest.url)) as registration:
        registration.check()
        registration.complete(MODEL)
        assert newest.artifact["state"] == "LIVE"


def test_the_token_of_the_service_account_is_read_anew(registry: FakeRegistry, make: Make, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first-canary\n")
    registry.tokens.add("first-canary")
    registration = make(token_file=file)
    registration.check()
    assert redact("it was first-canary") == "it was ***"
    file.write_text("second-canary")
    registry.tokens = {"second-canary"}
    registration.complete(MODEL)
    for broken in (file.unlink, lambda: file.write_text("\n"), lambda: file.write_bytes(b"\xff")):
        broken()
        with pytest.raises(CredentialsRefused, match="cannot read the ServiceAccount's token"):
            registration.complete(MODEL)


def test_an_authority_of_the_cluster_vouches_for_it(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "service-ca.crt"))
    with FakeRegistry(context=context) as registry:
        registry.tokens.add("canary-token")
        location = RegistryLocation(registry.url, model="granite", version="1", token=SecretStr("canary-token"))
        trusting, other = Network(ca_files=(tmp_path / "service-ca.crt",)), Network()
        with closing(Registration(location, trusting, StopSwitch())) as registration:
            registration.complete(MODEL)
        assert registry.artifact["state"] == "LIVE"
        distrusting = Registration(location, other, StopSwitch())
        with closing(distrusting), pytest.raises(ConfigurationError, match="is not trusted") as raised:
            distrusting.check()
        assert "AWS_CA_BUNDLE" in raised.value.hint
        assert "VALIDATE_TLS" not in raised.value.hint, "nothing switches that check off"


def test_a_run_that_is_stopped_can_still_take_back(registry: FakeRegistry, make: Make) -> None:
    registration = make()
    registration.begin()
    registration.interrupt()
    registration.abandon()
    assert registry.artifact["state"] == "ABANDONED"


def test_trouble_with_taking_back_is_no_error(registry: FakeRegistry, make: Make) -> None:
    registration = make()
    registration.begin()
    registry.before = lambda _method, _path: fake_registry.DOWN
    registration.abandon()
    assert registry.artifact["state"] == "PENDING"


def test_names_that_need_quoting(registry: FakeRegistry, make: Make) -> None:
    name = "Größe & more?=1/2"
    make(model=name, version="full fp16+2511").complete(MODEL)
    assert make(model=name, version="full fp16+2511").complete(MODEL)
    assert (registry.model["name"], registry.version["name"]) == (name, "full fp16+2511")


def test_an_archived_version_is_said(registry: FakeRegistry, make: Make, log_lines: Lines) -> None:
    make().complete(MODEL)
    registry.version["state"] = "ARCHIVED"
    make().complete(MODEL)
    assert registry.version["state"] == "ARCHIVED"
    assert [line["entry"] for line in log_lines if line["event"] == "registration_archived"] == ["version"]
