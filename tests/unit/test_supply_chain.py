"""What goes out beside the code: the bill of materials, the audit's verdict, and no credential."""

import importlib.util
import json
import re
import subprocess
from pathlib import Path

import jsonschema
import pytest
import referencing

from hack import audit
from hack.audit import verdict
from hack.sbom import document, read_lock

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-compress.lock")

KEYS = re.compile(
    r"""
    (?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])    # AWS
    | (?<![A-Za-z0-9])hf_[A-Za-z0-9]{30,}                       # Hugging Face
    | (?<![A-Za-z0-9])gh[oprsu]_[A-Za-z0-9]{30,} | github_pat_[A-Za-z0-9_]{30,} | glpat-[A-Za-z0-9_-]{18,}
    | (?<![A-Za-z0-9])xox[abprs]-[A-Za-z0-9-]{10,}              # Slack
    | -----BEGIN[ A-Z]*[ ]PRIVATE[ ]KEY-----
    | (?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}   # a JWT
    | (?i:secret_?(?:access_?)?key|api_?key|passcode|password|token)["']?\s*[:=]\s*["']?
      (?=[A-Za-z0-9/+=_-]*[0-9])(?=[A-Za-z0-9/+=_-]*[a-z])(?=[A-Za-z0-9/+=_-]*[A-Z])[A-Za-z0-9/+=_-]{32,}
    """,
    re.VERBOSE,
)
EXAMPLES = (
    "AKIAIOSFODNN7EXAMPLE",  # AWS's own, of its documentation; so is the next
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "CANARY",  # what the tests look for in everything that a run says
)


@pytest.mark.parametrize("lock", LOCKS)
def test_the_bill_has_every_package_of_the_lock_and_nothing_of_the_moment(lock: str) -> None:
    text = (ROOT / lock).read_text()
    bill = document(read_lock(text), "1.2.3")
    assert document(read_lock(text), "1.2.3") == bill
    said = json.loads(bill)
    assert "serialNumber" not in said
    assert "timestamp" not in said["metadata"]
    assert said["metadata"]["component"]["version"] == "1.2.3"
    pinned = re.findall(r"^([a-z0-9-]+)(?:\[.*\])?==([^ ]+)", text, re.MULTILINE)
    assert [(each["name"], each["version"]) for each in said["components"]] == sorted(pinned)
    files = [
        reference["hashes"][0]["content"] for each in said["components"] for reference in each["externalReferences"]
    ]
    assert sorted(files) == sorted(re.findall(r"sha256:([0-9a-f]{64})", text))
    wants = {each["ref"]: each.get("dependsOn", []) for each in said["dependencies"]}
    assert any(want.startswith("pkg:pypi/botocore@") for want in wants["model-syncer"])
    assert all(want in wants for wanted in wants.values() for want in wanted)


def test_the_bill_is_what_cyclonedx_says_it_must_be() -> None:
    package = importlib.util.find_spec("cyclonedx.schema")
    assert package is not None
    assert package.submodule_search_locations is not None
    folder = Path(package.submodule_search_locations[0]) / "_res"
    schema = json.loads((folder / "bom-1.6.SNAPSHOT.schema.json").read_text())

    def others(uri: str) -> referencing.Resource:
        return referencing.Resource.from_contents(json.loads((folder / uri.rpartition("/")[2]).read_text()))

    registry = referencing.Registry(retrieve=others)  # type: ignore[call-arg]
    said = json.loads(document(read_lock((ROOT / LOCKS[0]).read_text()), "1.2.3"))
    validator = jsonschema.Draft7Validator(schema, registry=registry)
    validator.validate(said)
    said["components"][0]["type"] = "nonsense"
    assert not validator.is_valid(said)


def test_a_line_of_a_lock_that_is_not_understood_is_no_silence() -> None:
    with pytest.raises(ValueError, match="not understood"):
        read_lock("a-package @ https://example.com/a.whl \\\n    --hash=sha256:" + "0" * 64)


@pytest.mark.parametrize(
    ("dependencies", "code", "words"),
    [
        ([{"name": "a", "version": "1", "vulns": []}], 0, "no weakness is known of its 1 packages"),
        ([{"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}], 1, "CVE-1, repaired in 2"),
        ([{"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "?"}], 69, "NOT AUDITED"),
        ([], 69, "NOT AUDITED"),
    ],
)
def test_an_audit_that_nobody_answered_is_none(dependencies: list[dict[str, object]], code: int, words: str) -> None:
    found, said = verdict("x.lock", dependencies)
    assert found == code
    assert words in "\n".join(said)


WEAK = {"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
ANSWERED = f"print({json.dumps(json.dumps({'dependencies': [WEAK]}))})"
UNANSWERED = "raise SystemExit('no way there')"
SILENT = "import signal; signal.pause()"


@pytest.mark.parametrize(
    ("answer", "lenient", "code", "words"),
    [
        (ANSWERED, False, 1, "CVE-1, repaired in 2"),
        (ANSWERED, True, 1, "CVE-1, repaired in 2"),
        (UNANSWERED, False, 69, "NOT AUDITED"),
        (UNANSWERED, True, 0, "NOT AUDITED"),
        (SILENT, True, 0, "did not end within"),
    ],
)
def test_an_audit_passes_where_nobody_answers_if_that_is_allowed_and_never_with_a_weakness(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    answer: str,
    lenient: bool,
    code: int,
    words: str,
) -> None:
    (tmp_path / "pip_audit.py").write_text(answer)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    patience = 0.3 if answer is SILENT else 60.0
    assert audit.main(["one.lock"], lenient=lenient, patience=patience) == code
    assert words in "".join(capfd.readouterr())


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], check=False, capture_output=True, text=True)
    if listed.returncode:  # an archive of the sources
        pytest.skip("no git repository here")
    return [path for name in listed.stdout.split("\0") if (path := ROOT / name).is_file()]


def test_no_credential_is_in_the_tree() -> None:
    found = []
    for path in tracked():
        if path.suffix == ".lock":
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [
            f"{path.relative_to(ROOT)}: {match[0][:12]}…"
            for match in KEYS.finditer(text)
            if not any(example in match[0] for example in EXAMPLES)
        ]
    assert found == []


@pytest.mark.parametrize(
    "planted",
    [
        "key: AKIA" + "Q3EGVMTD6YXWR2PA",
        "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789",
        "-----BEGIN RSA " + "PRIVATE KEY-----",
        "Bearer eyJ" + "hbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlcm5ldGVz.c2lnbmF0dXJlLW9m",
        "S3_SYNC_SRC__SECRET_KEY: " + "9aFr/K7MDENGbPxRfiCYq2LzV0tWs8uXnOp4Ye1H",
    ],
)
def test_a_credential_would_be_found(planted: str) -> None:
    assert KEYS.search(planted)
