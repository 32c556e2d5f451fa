"""Each step of `syncer doctor` by itself: what it sees, and how it fails."""

import json
import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from syncer import redaction
from syncer.errors import Interrupted, NotThereYet
from syncer.examining import examine, tables
from syncer.examining.findings import Book, Finding, Skipped
from syncer.examining.host import Host, look_at_host
from syncer.examining.ways import Way, look_at_way
from syncer.redaction import Redactor
from syncer.settings import CommandLine
from syncer.settings.locations import (
    Compression,
    DirectoryLocation,
    Network,
    Reporting,
    Settings,
    Transfer,
)
from syncer.stop import StopSwitch
from tests.support.buckets import free_port
from tests.support.scripted_server import Heard, ScriptedServer, reply

NOON = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
DATE = "Thu, 01 Jan 2026 12:00:00 GMT"
GIB = 1 << 30


@pytest.fixture
def book() -> Book:
    return Book(StopSwitch())


def row(book: Book, step: str) -> Finding:
    (found,) = [finding for finding in book.findings if finding.step == step]
    return found


def says(date: str = DATE) -> Callable[[Heard], None]:
    return lambda heard: heard.say(reply(403, date=date))


def look(book: Book, url: str, network: Network | None = None, **more: object) -> bool:
    way = Way(url, "S3_SYNC_SRC__ENDPOINT", **more)  # type: ignore[arg-type]
    return look_at_way(book, way, network or Network(), clock=lambda: NOON)


def test_a_way_is_looked_at_step_by_step(book: Book) -> None:
    with ScriptedServer(says()) as server:
        assert look(book, server.url)
    assert [finding.step for finding in book.findings] == ["proxy", "name", "connection", "clock"]
    assert [finding.verdict for finding in book.findings] == ["skipped", "ok", "ok", "ok"]
    assert [(heard.method, heard.target) for heard in server.heard] == [("HEAD", "/")]
    assert server.connections == 1


def test_a_name_that_nobody_knows_is_69_and_ends_the_way(book: Book) -> None:
    assert not look(book, "https://store.invalid")
    name = row(book, "name")
    assert (name.verdict, name.exit_code, name.reason) == ("failed", 69, "EndpointUnreachable")
    assert "S3_SYNC_SRC__ENDPOINT" in name.hint
    assert [row(book, step).verdict for step in ("TLS", "clock")] == ["skipped", "skipped"]


def test_what_is_no_url_is_78(book: Book) -> None:
    assert not look(book, "ftp://user:canary@store.test/x")
    assert (row(book, "name").exit_code, "canary" in str(book.findings)) == (78, False)


def test_a_port_where_nobody_listens_is_69(book: Book) -> None:
    assert not look(book, f"http://127.0.0.1:{free_port()}")
    assert row(book, "connection").exit_code == 69


def test_a_proxy_is_told_without_its_password_and_a_wrong_one_is_78(book: Book) -> None:
    with ScriptedServer(says()) as proxy:
        network = Network(proxies={"http": f"http://me:canary@127.0.0.1:{proxy.port}"})
        assert look(book, "http://store.test", network)
        assert row(book, "proxy").seen == f"through 127.0.0.1:{proxy.port}, with a login"
    assert "canary" not in str(book.findings)
    wrong = Book(StopSwitch())
    assert not look(wrong, "http://store.test", Network(proxies={"http": "socks5://me:canary@host"}))
    assert (row(wrong, "proxy").exit_code, "canary" in str(wrong.findings)) == (78, False)


def test_no_proxy_is_told(book: Book) -> None:
    with ScriptedServer(says()) as server:
        assert look(book, server.url, Network(proxies={"http": "http://proxy.test:1"}))
    assert "NO_PROXY" in row(book, "proxy").seen


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(organization_name="Example Trust")


def test_a_certificate_is_trusted_by_its_authority_alone(book: Book, authority: trustme.CA, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    with ScriptedServer(says(), context=context) as server:
        assert look(book, server.url, Network(ca_files=(bundle,)))
        strange, unchecked = Book(StopSwitch()), Book(StopSwitch())
        assert not look(strange, server.url)
        assert look(unchecked, server.url, validate_tls=False, unchecked_by="S3_SYNC_SRC__VALIDATE_TLS")
    assert "valid until" in row(book, "TLS").seen
    assert row(strange, "TLS").exit_code == 78
    assert "AWS_CA_BUNDLE" in row(strange, "TLS").hint
    assert "not checked (S3_SYNC_SRC__VALIDATE_TLS=false)" in row(unchecked, "TLS").seen


@pytest.mark.parametrize(("skew", "verdict"), [(899, "ok"), (900, "failed"), (-900, "failed")])
def test_a_clock_that_is_minutes_off_is_77(book: Book, skew: int, verdict: str) -> None:
    their = NOON - timedelta(seconds=skew)
    with ScriptedServer(says(f"{their:%a, %d %b %Y %H:%M:%S} GMT")) as server:
        assert look(book, server.url)  # somebody answers all the same
    clock = row(book, "clock")
    assert (clock.verdict, clock.exit_code) == (verdict, 77 if verdict == "failed" else 0)
    assert f"{abs(skew)} s {'ahead' if skew > 0 else 'behind'}" in clock.seen


@pytest.mark.parametrize("script", [says(date=""), says("yesterday"), Heard.close])
def test_without_a_date_the_clock_is_not_judged(book: Book, script: Callable[[Heard], None]) -> None:
    with ScriptedServer(script) as server:
        assert look(book, server.url)
    assert row(book, "clock").verdict == "skipped"


# The pod --------------------------------------------------------------------------------------------------------------


def pod(folder: Path, *, memory: str = "max", cpu: str = "max 100000") -> Path:
    for name, text in {
        "proc/self/cgroup": "0::/\n",
        "proc/self/status": "VmRSS:\t102400 kB\n",
        "proc/meminfo": "MemAvailable:   67108864 kB\n",
        "sys/fs/cgroup/memory.max": f"{memory}\n",
        "sys/fs/cgroup/cpu.max": f"{cpu}\n",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def on_host(book: Book, tmp_path: Path, settings: Settings | None = None, **host_of: object) -> None:
    root = pod(tmp_path / "root")
    settings = settings or Settings(source=None, destination=DirectoryLocation(tmp_path / "models"))
    look_at_host(book, settings, Host(**({"root": root} | host_of)))  # type: ignore[arg-type]


def test_without_limits_nothing_fails(book: Book, tmp_path: Path) -> None:
    on_host(book, tmp_path)
    assert {finding.verdict for finding in book.findings} <= {"ok", "skipped"}
    assert f"UID {os.getuid()}" in row(book, "user").seen
    assert "no limit" in row(book, "memory").seen


def test_a_folder_that_we_may_not_enter_names_both_sides(book: Book, tmp_path: Path) -> None:
    on_host(book, tmp_path, may=lambda path, mode: not (path == tmp_path and mode & os.W_OK))
    user = row(book, "user")
    assert (user.verdict, user.exit_code) == ("failed", 78)
    assert f"UID {os.getuid()}" in user.seen
    assert "belongs to UID" in user.seen
    assert "S3_SYNC_DEST__PATH" in user.hint


def test_memory_has_to_hold_the_buffers(book: Book, tmp_path: Path) -> None:
    root = pod(tmp_path / "small", memory=str(256 << 20))
    on_host(book, tmp_path, root=root)
    assert row(book, "memory").verdict == "ok"
    large = Settings(source=None, destination=None, transfer=Transfer(memory=GIB))
    tight = Book(StopSwitch())
    on_host(tight, tmp_path, large, root=root)
    assert row(tight, "memory").exit_code == 78
    assert "S3_SYNC_TRANSFER_CONFIG__MEMORY" in row(tight, "memory").hint


COMPRESSING = Settings(source=None, destination=None, compression=Compression())


@pytest.mark.parametrize(
    ("told", "verdict", "words"),
    [
        ("NVIDIA H200, 143771, 1024\n", "ok", "NVIDIA H200: 1.0 GiB of 140.4 GiB free"),
        (None, "skipped", "would use the processors"),
        ("No devices were found\n", "failed", "it lists no GPU"),
    ],
)
def test_a_gpu_is_looked_at_where_compression_is_asked_for(
    book: Book, tmp_path: Path, told: str | None, verdict: str, words: str
) -> None:
    on_host(book, tmp_path, COMPRESSING, gpus=lambda: told)
    assert (row(book, "GPU").verdict, words in row(book, "GPU").seen) == (verdict, True)


@pytest.mark.parametrize(
    ("script", "verdict"),
    [
        ("echo 'A100, 81920, 81000'", "ok"),
        ("echo no driver; exit 9", "failed"),
        ('[ -z "$AWS_SECRET_ACCESS_KEY" ] && echo "A100, 81920, 81000"', "ok"),
    ],
)
def test_the_drivers_own_program_is_asked(
    book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, verdict: str
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")
    on_host(book, tmp_path, COMPRESSING)
    assert row(book, "GPU").verdict == verdict


def test_compression_wants_its_library_and_its_memory(
    book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    on_host(book, tmp_path, COMPRESSING, root=pod(tmp_path / "tight", memory=str(GIB)), gpus=lambda: None)
    assert (row(book, "compression").exit_code, row(book, "memory").exit_code) == (78, 78)


def test_places_that_are_written_to_are_tried_and_left_as_they_were(book: Book, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    message = tmp_path / "message"
    message.write_text("what was there")
    reporting = Reporting(message, tmp_path / "results", tmp_path / "workspace")
    settings = Settings(None, None, reporting=reporting, compression=Compression(scratch=tmp_path / "scratch"))
    on_host(book, tmp_path, settings, gpus=lambda: None)
    assert [row(book, it).verdict for it in ("scratch", "workspace", "results", "termination message")] == ["ok"] * 4
    assert message.read_text() == "what was there"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["message", "results", "root"]
    assert not list((tmp_path / "results").iterdir())


def test_a_file_where_a_folder_should_be_fails(book: Book, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    reporting = Reporting(file / "message", tmp_path / "no-results", file)
    settings = Settings(None, None, reporting=reporting, compression=Compression(scratch=file / "scratch"))
    on_host(book, tmp_path, settings, gpus=lambda: None)
    assert [row(book, step).exit_code for step in ("scratch", "workspace", "termination message")] == [78, 78, 65]
    assert row(book, "results").verdict == "skipped"


def test_results_that_take_no_write_fail(book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    on_host(book, tmp_path, Settings(None, None, reporting=Reporting(results=tmp_path)))
    assert (row(book, "results").exit_code, "RESULTS_DIR" in row(book, "results").hint) == (77, True)


# Findings -------------------------------------------------------------------------------------------------------------


def raising(error: Exception) -> Callable[[], str]:
    def work() -> str:
        raise error

    return work


def test_a_step_that_breaks_is_a_row_and_hides_no_other(book: Book) -> None:
    assert not book.look("one", "here", raising(ZeroDivisionError("by nothing")))
    assert not book.look("two", "here", raising(NotThereYet("not yet", hint="wait")))
    assert not book.look("three", "here", raising(Skipped("no need")))
    assert book.look("four", "here", lambda: "fine")
    assert [finding.exit_code for finding in book.findings] == [70, 69, 0, 0]
    assert "Traceback" not in str(book.findings)


def test_a_stop_ends_the_examination() -> None:
    stop = StopSwitch()
    book = Book(stop)

    def stopped() -> str:
        stop.throw(Interrupted())
        raise NotThereYet("cut off")

    with pytest.raises(Interrupted):
        book.look("one", "here", stopped)
    assert not book.findings


def test_all_problems_of_the_settings_are_rows_and_nobody_is_asked() -> None:
    environ = {"S3_SYNC_SRC__PAHT": "x", "S3_SYNC_PROGRESS_INTERVAL": "soon", "S3_SYNC_DEST__PATH": "/nowhere"}
    found = examine(environ, CommandLine(), adopt=lambda _: None, stop=StopSwitch())
    settings = [finding for finding in found.findings if finding.step == "settings"]
    assert len(settings) == 3  # the source is missing too
    assert found.findings[-1].seen == "the settings come first"
    assert (found.outcome.exit_code, found.outcome.reason) == (78, "Configuration")


def test_without_a_source_the_destination_is_looked_at_all_the_same(tmp_path: Path) -> None:
    found = examine({"S3_SYNC_DEST__PATH": str(tmp_path)}, CommandLine(), adopt=lambda _: None, stop=StopSwitch())
    steps = {finding.step: finding.verdict for finding in found.findings}
    assert (steps["settings"], steps["write"], steps["delete"]) == ("failed", "ok", "ok")
    assert found.outcome.exit_code == 78


def test_both_forms_are_whole_and_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_OF_THIS_PROCESS", Redactor())
    redaction.register_secrets(["canary-secret"])
    findings = [
        Finding("list", "s3://b/\x1b[31m", "failed", "said canary-secret", "look at [bold]canary-secret[/]", 77, "No"),
        Finding("read", "s3://b/", "skipped", "the listing failed"),
    ]
    document = json.loads(tables.as_json(findings, exit_code=77))
    assert document["exit_code"] == 77
    assert [set(step) for step in document["steps"]] == [{"step", "at", "result", "seen", "hint", "exit_code"}] * 2
    table = tables.as_table(findings, width=100, colours=False)
    for text in (str(document), table):
        assert "canary-secret" not in text
        assert "\x1b" not in text
    assert "→ look at [bold]***[/]" in table
    assert [line.split()[0] for line in table.splitlines()] == ["step", "list", "→", "read"]
