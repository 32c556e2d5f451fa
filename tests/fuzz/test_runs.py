"""Whole runs from sources whose names are hostile: what is written, said and reported, and where."""

import hashlib
import json
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from syncer import cli
from syncer.report import LastWords
from syncer.stop import StopSwitch
from tests.fuzz.air import Hall
from tests.fuzz.answers import answer, told
from tests.support.cos_places import own_redactor

_COMMIT = "0123456789abcdef0123456789abcdef01234567"
_CONTENT = b"some weights"
_BLOB = hashlib.sha1(b"blob %d\0" % len(_CONTENT) + _CONTENT).hexdigest()
_EXIT_CODES = {0, 65, 66, 69, 73, 75, 77, 78}
_HOSTILE = (
    "../escaped",
    "sub/../../escaped",
    "/etc/escaped",
    "a\0b",
    "a\nb",
    "a\r\n[error] forged",
    "\x1b[2J\x1b]0;owned\x07",
    "\u202egnp.exe",
    "\u2028line",
    "x" * 300,
    "a/" * 300 + "b",
    "e\u0301.json",
    "\u00e9.json",
    "Config.json",
    "config.json",
    "config.json/inside",
    ".syncer/complete.json",
    "a/.syncer/lease.json",
    "lost+found/x",
    "a//b",
    "./a",
    "a",
    "a/",
    "",
    " ",
    "-rf",
    "%2e%2e%2fx",
    "..\\x",
    "con",
    "\ud800",
    "\udc80",
    "model.safetensors?x=1#y",
)


def hub_with(names: list[str]) -> Hall:
    """A Hub with one repository, every file of which has the same content."""
    entries = [{"type": "file", "oid": _BLOB, "size": len(_CONTENT), "path": name} for name in names]
    info = {"id": "owner/name", "sha": _COMMIT, "siblings": [{"rfilename": name} for name in names]}

    def says(method: str, target: str) -> bytes:
        path = unquote(urlsplit(target).path)
        if path.startswith("/api/models/owner/name/revision/") or path == "/api/models/owner/name":
            return told(info)
        if path.startswith("/api/models/owner/name/tree/"):
            return told(entries)
        return answer(_CONTENT, f"X-Repo-Commit: {_COMMIT}")

    return Hall(says)


def run(names: list[str], home: Path) -> tuple[int, dict[str, object]]:
    """Bring the repository into `home/models`: the exit code and the termination message."""
    message = home / "termination"
    message.touch()
    environ = {
        "S3_SYNC_SRC__PATH": "hf://owner/name",
        "HF_ENDPOINT": "http://hub.test",  # a name that nobody has: the look after a failure asks for it in earnest
        "S3_SYNC_DEST__PATH": str(home / "models"),
        "TERMINATION_MESSAGE_PATH": str(message),
    }
    with own_redactor(), hub_with(names).answering(b""):
        code = cli.run([], environ=environ, stop=StopSwitch(), words=LastWords())
    return code, json.loads(message.read_bytes())


def check(names: list[str], home: Path, capsys: pytest.CaptureFixture[str]) -> int:
    """Run, and look at everything that was left."""
    capsys.readouterr()
    code, message = run(names, home)
    said = capsys.readouterr()
    assert code in _EXIT_CODES, said.err
    assert message["exit_code"] == code
    assert len((home / "termination").read_bytes()) <= 4096
    for line in (said.out + said.err).splitlines():
        assert not any(ord(letter) < 32 or 0x7F <= ord(letter) < 0xA0 for letter in line), line
        assert "Traceback" not in line
    assert {path.name for path in home.iterdir()} <= {"models", "termination"}
    files = {path for path in (home / "models").rglob("*") if path.is_file() and ".syncer" not in path.parts}
    assert {path.read_bytes() for path in files} <= {_CONTENT}
    if code == 0:
        wanted = {home / "models" / name for name in names if ".syncer" not in name.split("/")}
        assert files == wanted
    return code


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.sampled_from(_HOSTILE) | st.text(max_size=30), min_size=1, max_size=6, unique=True))
@example(names=["config.json", "Config.json", "e\u0301.json", "\u00e9.json", "sub/a b"])
@example(names=["../escaped", "\x1b[2J"])
def test_no_name_leads_a_run_astray(
    names: list[str], tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    check(names, tmp_path_factory.mktemp("home"), capsys)


@pytest.mark.parametrize("name", _HOSTILE)
def test_each_hostile_name_is_held_or_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = check(["config.json", name] if name != "config.json" else [name], tmp_path, capsys)
    assert code in {0, 65, 75}


def test_what_is_safe_arrives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(["config.json", "Config.json", "e\u0301.json", "\u00e9.json", "-rf", "a b/c"], tmp_path, capsys) == 0
