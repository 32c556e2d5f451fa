"""Knobs, network, places for results; what is masked; what is documented."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from syncer.errors import ConfigurationError
from syncer.settings import CommandLine, effective, load, network, secrets
from syncer.settings.locations import Reporting, Settings, Transfer
from syncer.settings.variables import definitions, known_names

ROOT = Path(__file__).parents[2]
BASE = {"S3_SYNC_SRC__PATH": "s3://bucket/folder/", "S3_SYNC_DEST__PATH": "/mnt/models"}


@pytest.fixture(autouse=True)
def no_mounted_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "MOUNTED_AUTHORITIES", ())


def test_defaults_are_those_of_the_types() -> None:
    found = load(BASE)
    plain = Settings(found.source, found.destination)
    assert (found.transfer, found.reporting, found.network) == (Transfer(), Reporting(), plain.network)
    assert (found.delete, found.deadline, found.wait_for_destination) == ("off", None, plain.wait_for_destination)
    assert (found.skip, found.notes, found.model_name) == (frozenset(), (), "")


def test_the_knobs() -> None:
    knobs = {
        "S3_SYNC_TRANSFER_CONFIG__CHUNK_SIZE": "15MiB",
        "S3_SYNC_TRANSFER_CONFIG__MAX_THREADS_PER_FILE": "5",
        "S3_SYNC_TRANSFER_CONFIG__MAX_FILES": "7",
        "S3_SYNC_TRANSFER_CONFIG__MEMORY": "32MiB",
        "S3_SYNC_TRANSFER_CONFIG__FORCE": "Yes",
        "S3_SYNC_DEADLINE": "2h",
        "S3_SYNC_WAIT_FOR_DESTINATION": "0",
        "S3_SYNC_PROGRESS_INTERVAL": "30",
        "S3_SYNC_WORKSPACE": "/workspace",
        "RESULTS_DIR": "/results",
        "TERMINATION_MESSAGE_PATH": "/run/message",
        "SKIP_TASKS": "compress,\n register , evaluate",
        "MODEL_NAME": "granite",
    }
    found = load({**BASE, **knobs})
    assert found.transfer == Transfer(15 * 2**20, 7, 5, 32 * 2**20, force=True)
    assert found.reporting == Reporting(Path("/run/message"), Path("/results"), Path("/workspace"), 30.0)
    assert (found.deadline, found.wait_for_destination) == (7200.0, 0.0)
    assert found.skip == {"compress", "register"}
    assert any("evaluate" in note for note in found.notes)
    assert (found.model_name, found.model_version) == ("granite", "1.0.0")


@pytest.mark.parametrize("path", ["/tekton/termination", "//tekton/x", "/dev/../tekton/x", "/tekton", "relative"])
def test_the_termination_message_never_goes_where_it_must_not(path: str) -> None:
    found = load({**BASE, "TERMINATION_MESSAGE_PATH": path})
    assert found.reporting.termination_message == Path("/dev/termination-log")
    assert any("TERMINATION_MESSAGE_PATH" in note for note in found.notes)


def test_certificate_authorities_are_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, mounted = (tmp_path / name for name in ("one.pem", "two.pem", "service-ca.crt"))
    for path in (one, two, mounted):
        path.write_text("certificate")
    monkeypatch.setattr(network, "MOUNTED_AUTHORITIES", (mounted, tmp_path / "absent.crt", one))
    found = load({**BASE, "AWS_CA_BUNDLE": str(one), "SSL_CERT_FILE": str(two)})
    assert found.network.ca_files == (one, two, mounted)


def test_authorities_that_are_missing() -> None:
    with pytest.raises(ConfigurationError, match="AWS_CA_BUNDLE names a file that does not exist"):
        load({**BASE, "AWS_CA_BUNDLE": "/no/such.pem"})
    found = load({**BASE, "SSL_CERT_FILE": "/no/such.pem"})
    assert found.network.ca_files == ()
    assert any("SSL_CERT_FILE" in note for note in found.notes)


def test_proxies_in_both_cases() -> None:
    capitals = {"HTTP_PROXY": "http://a:1", "HTTPS_PROXY": "http://b:2", "NO_PROXY": ".svc,\n10.0.0.0/8"}
    found = load({**BASE, **capitals}).network
    assert (found.proxies, found.no_proxy) == ({"http": "http://a:1", "https": "http://b:2"}, ".svc, 10.0.0.0/8")
    found = load({**BASE, **capitals, "https_proxy": "http://c:3", "no_proxy": "x", "http_proxy": ""}).network
    assert (found.proxies, found.no_proxy) == ({"http": "http://a:1", "https": "http://c:3"}, "x")


def test_the_name_of_the_sdk_is_not_used_and_said() -> None:
    found = load({**BASE, "AWS_ENDPOINT_URL": "http://elsewhere"})
    assert any("AWS_ENDPOINT_URL is not used" in note for note in found.notes)


CANARIES = {
    "S3_SYNC_SRC__ACCESS_KEY": "canary-1",
    "S3_SYNC_SRC__SECRET_KEY": "canary-2",
    "S3_SYNC_SRC__SESSION_TOKEN": "canary-3",
    "S3_SYNC_DEST__ACCESS_KEY": "canary-4",
    "S3_SYNC_DEST__SECRET_KEY": "canary-5",
    "AWS_ACCESS_KEY_ID": "canary-6",
    "AWS_SECRET_ACCESS_KEY": "canary-7",
    "AWS_SESSION_TOKEN": "canary-8",
    "HF_TOKEN": "canary-9",
    "S3_SYNC_COS_TEMPORARY_PASSCODE": "canary-10",
    "MODEL_REGISTRY_TOKEN": "canary-11",
    "HTTPS_PROXY": "http://user:canary%2D12@proxy:3128",
    "http_proxy": "http://user:canary-13@proxy:3128/",
}
ENDS = {
    "S3_SYNC_SRC__PATH": "s3://from/x/",
    "S3_SYNC_DEST__PATH": "s3://to/x/",
    "S3_SYNC_TRANSFER_CONFIG__MAX_FILES": "3",
}


def test_no_secret_in_what_may_be_shown() -> None:
    settings = load({**ENDS, **CANARIES})
    for shown in (str(effective(settings)), repr(settings), str(settings), str(settings.notes)):
        assert "canary" not in shown
    shown_values = effective(settings)
    assert shown_values["source"]["secret_key"] == "***"
    assert shown_values["source"]["uri"] == "s3://from/x/"
    assert shown_values["network"]["proxies"] == {"http": "http://proxy:3128/", "https": "http://proxy:3128"}
    assert shown_values["transfer"] == {"max_files": 3, "digest": "sha256", "force": False}


def test_every_secret_is_known_to_the_redaction_needed_or_not() -> None:
    found = secrets(load({**ENDS, **CANARIES}))
    assert {f"canary-{number}" for number in range(1, 14)} <= set(found)
    assert secrets(load(BASE)) == []
    assert secrets(load({**BASE, "HTTPS_PROXY": "http://proxy:3128"})) == []
    assert "canary-10" in secrets(load({"S3_SYNC_LOCAL_UPLOAD_COMPLETE": "1", **CANARIES}))


def test_no_secret_in_an_error() -> None:
    broken = {name: f"{value}\ncanary" for name, value in CANARIES.items()}
    misplaced = {
        "S3_SYNC_SRC__PATH": "s3://canary:canary@x/",
        "S3_SYNC_DEST__PATH": "canary",
        "S3_SYNC_SRC__ENDPOINT": "https://canary:canary@host",
        "S3_SYNC_TRANSFER_CONFIG__MAX_FILES": "canary",
        "S3_SYNC_TRANSFER_CONFIG__FORCE": "canary",
        "S3_SYNC_DELETE": "canary",
        "S3_SYNC_DEADLINE": "canary",
        "RESULTS_DIR": "canary",
        "AWS_CA_BUNDLE": "/canary",
    }
    with pytest.raises(ConfigurationError) as caught:
        load({**broken, **misplaced})
    assert len(caught.value.problems) >= len(misplaced)
    assert "canary" not in str(caught.value.problems) + caught.value.message + caught.value.hint


def test_the_real_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in known_names() & os.environ.keys():
        monkeypatch.delenv(name)
    monkeypatch.setenv("S3_SYNC_LOCAL_UPLOAD_COMPLETE", "true")
    assert load().destination is None
    # Nothing else of the process's environment gets in, however a settings library would read it.
    with pytest.raises(ConfigurationError, match="no source"):
        load({})


def test_the_library_reads_no_environment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_SYNC_DELETE", "all")
    monkeypatch.setenv("delete", "all")
    assert load(BASE).delete == "off"


def test_every_variable_is_described() -> None:
    for definition in definitions():
        assert re.fullmatch(r"[A-Z][A-Z0-9_]*", definition.name)
        assert definition.description
        assert definition.form
        assert definition.section


def test_every_flag_stands_for_a_variable() -> None:
    everything = CommandLine(
        source="a",
        destination="b",
        src_endpoint="c",
        dest_endpoint="d",
        src_region="e",
        dest_region="f",
        src_validate=True,
        dest_validate=False,
        tls_verify=True,
        max_threads_per_file=1,
        max_files=1,
        chunk_size="1MiB",
        force=True,
    )
    given = list(everything.given())
    assert len(given) == 13
    assert {name for name, _, _ in given} <= known_names()


def test_the_documentation_is_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "hack/generate_docs.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_documentation_names_every_variable() -> None:
    text = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    assert [name for name in sorted(known_names()) if f"`{name}`" not in text] == []
