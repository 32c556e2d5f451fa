"""The log chain: one line per event, JSON or console, never a secret, never an exception."""

import ast
import io
import json
import logging
import threading
import typing
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncer import logs, redaction
from syncer.redaction import MASK, Redactor
from tests.support.captured import forget_logs

CANARY = "canary/Secret+Value=42"


@pytest.fixture(autouse=True)
def own_redactor(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(redaction, "_OF_THIS_PROCESS", Redactor())
    level = logging.getLogger().level
    hooks = threading.excepthook
    yield
    threading.excepthook = hooks
    logging.captureWarnings(capture=False)
    root = logging.getLogger()
    root.setLevel(level)
    for handler in list(root.handlers):
        if type(handler).__module__ == "syncer.logs":
            root.removeHandler(handler)
    forget_logs()


def read(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_elsewhere_every_event_is_one_line_of_json() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    logs.logger(store="s3").info("model_sealed", path="a\nb é", bytes=3)
    (line,) = read(stream)
    assert list(line)[:3] == ["timestamp", "level", "event"]
    assert line["timestamp"].endswith("Z")
    assert line | {"timestamp": ""} == {
        "timestamp": "",
        "level": "info",
        "event": "model_sealed",
        "store": "s3",
        "path": r"a\nb é",
        "bytes": 3,
    }


def test_on_a_terminal_lines_are_for_people() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream, terminal=True)
    logs.logger().info("model_sealed", path="a")
    assert logs.on_terminal()
    assert not stream.getvalue().startswith("{")
    assert "model_sealed" in stream.getvalue()
    assert "path=a" in stream.getvalue()


@pytest.mark.parametrize(
    ("verbosity", "ours", "sdk"),
    [
        (0, "info", "warning"),
        (1, "debug", "warning"),
        (2, "debug", "warning"),
        (3, "debug", "info"),
        (5, "debug", "debug"),
    ],
)
def test_levels_rise_with_v(verbosity: int, ours: str, sdk: str) -> None:
    stream = io.StringIO()
    logs.configure(stream=stream, verbosity=verbosity)
    log = logs.logger()
    log.debug("file_resumed")
    log.info("file_resumed")
    log.warning("file_resumed")
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        logging.getLogger("botocore.auth").log(level, "said")
    order = ["debug", "info", "warning", "error"]
    seen = read(stream)
    assert [line["level"] for line in seen if line["event"] == "file_resumed"] == order[order.index(ours) : 3]
    assert [line["level"] for line in seen if line["event"] == "sdk_logged"] == order[order.index(sdk) :]


def test_what_botocore_says_at_the_deepest_level_is_redacted() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream, verbosity=5)
    log = logging.getLogger("botocore.auth")
    log.debug(
        "CanonicalRequest:\n%s", "PUT\n/k\n\nhost:h\nx-amz-security-token:FwoGZXIv\n\nhost;x-amz-security-token\nX"
    )
    log.debug("Signature:\n%s", "ab" * 32)
    log.debug("headers %s", {"Authorization": b"AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/2026, Signature=feed"})
    text = stream.getvalue()
    assert text.count(MASK) == 3
    for secret in ("FwoGZXIv", "abab", "AKIAEXAMPLE", "feed"):
        assert secret not in text


def test_a_traceback_shows_neither_locals_nor_secrets_and_cannot_forge_a_line() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream, terminal=True)
    logs.register_secrets([CANARY])
    hidden_local = "value-of-a-local-variable"
    try:
        raise ValueError(f"{CANARY}\n00:00:00 [info] run_finished status=succeeded") from OSError(CANARY)
    except ValueError as error:
        logs.logger().error("run_crashed", exc_info=error)
    text = stream.getvalue()
    assert "Traceback" in text
    assert CANARY not in text
    assert hidden_local not in text.replace('hidden_local = "value-of-a-local-variable"', "")
    assert not any(line.startswith("00:00:00") for line in text.splitlines())


def test_a_bad_format_string_of_somebody_else_does_not_print_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    record = logging.LogRecord("urllib3", logging.WARNING, "", 0, "%d parts", (CANARY,), None)
    (ours,) = [handler for handler in logging.getLogger().handlers if type(handler).__module__ == "syncer.logs"]
    ours.handle(record)
    assert CANARY not in stream.getvalue() + capsys.readouterr().err
    assert read(stream)[0]["message"] == "%d parts"


def test_warnings_go_the_same_way() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("InsecureRequest", UserWarning, stacklevel=1)
    assert "InsecureRequest" in read(stream)[0]["message"]


def test_a_thread_that_dies_is_logged_without_secrets() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    logs.register_secrets([CANARY])
    logs.catch_strays()

    def die() -> None:
        raise RuntimeError(CANARY)

    thread = threading.Thread(target=die, name="lane-1")
    thread.start()
    thread.join()
    (line,) = read(stream)
    assert (line["event"], line["thread"]) == ("thread_crashed", "lane-1")
    assert MASK in line["exception"]
    assert CANARY not in stream.getvalue()


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_reader_that_went_away_or_a_closed_stream_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    for stream in (Gone(), closed):
        logs.configure(stream=stream)
        logs.logger().info("settings_loaded")
    monkeypatch.setattr("sys.stderr", None)
    logs.configure()
    logs.logger().info("settings_loaded")


def test_the_list_of_events_has_nothing_that_nobody_says() -> None:
    """That nothing is said which the list does not have is the type checker's business."""
    said = set()
    for path in Path(logs.__file__).parent.rglob("*.py"):
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            of_the_list = path.name == "logs.py" and ast.unparse(statement).startswith("Event = ")
            if not of_the_list:
                nodes = ast.walk(statement)
                said |= {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert set(typing.get_args(logs.Event)) <= said


def test_event_names_are_short_and_in_the_past_tense() -> None:
    names = typing.get_args(logs.Event)
    assert len(names) == len(set(names))
    irregular = {"begun", "made", "found", "lost", "taken", "kept", "read", "spoke", "written", "overwritten"}
    for name in names:
        last = name.rsplit("_", 1)[-1]
        assert last.endswith("ed") or last in irregular, name
        assert len(name) <= 24


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    secret=st.text(st.characters(codec="utf-8"), min_size=9, max_size=40).filter(lambda text: len(set(text)) > 4),
    around=st.text(max_size=20),
    terminal=st.booleans(),
)
def test_registered_canaries_never_appear_in_any_line(secret: str, around: str, terminal: bool) -> None:
    stream = io.StringIO()
    logs.configure(stream=stream, verbosity=5, terminal=terminal)
    logs.register_secrets([secret])
    said = f"{around}{secret}{around}"
    log = logs.logger(bound=said)
    log.info("model_sealed", path=said, nested={said: [said, {"x": (said,)}]}, raised=ValueError(said))
    try:
        raise ValueError(said)
    except ValueError as error:
        raised = error
    log.error("run_crashed", exc_info=raised)
    logging.getLogger("boto3").error("%s", said)
    assert secret not in stream.getvalue()
    assert json.dumps(secret)[1:-1] not in stream.getvalue()
    assert repr(secret)[1:-1] not in stream.getvalue()
    if not terminal:
        read(stream)
