"""What hides secrets: known values in every dress, text that looks like a secret, fields that are named like one."""

import base64
import json
import re
import time
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer import redaction
from syncer.redaction import MASK, Redactor, escape_controls, is_secret_name

CANARY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCY=EXAMPLE"


@pytest.fixture
def redactor() -> Redactor:
    redactor = Redactor()
    redactor.register([CANARY])
    return redactor


@pytest.mark.parametrize(
    "form",
    [
        CANARY,
        urllib.parse.quote(CANARY, safe=""),
        urllib.parse.quote(CANARY, safe="").replace("%2F", "%2f").replace("%2B", "%2b").replace("%3D", "%3d"),
        urllib.parse.quote_plus(CANARY),
        base64.b64encode(CANARY.encode()).decode(),
        base64.urlsafe_b64encode(CANARY.encode()).decode().rstrip("="),
        CANARY.replace("/", r"\/"),  # PHP's JSON
        CANARY.replace("=", r"\u003d"),  # Java's and, of other letters, Go's
        CANARY.replace("/", r"\/").replace("=", r"\u003d"),
    ],
)
def test_a_registered_value_is_hidden_in_every_form(redactor: Redactor, form: str) -> None:
    assert form not in redactor.text(f"the store said <{form}> and hung up")
    assert MASK in redactor.text(f"the store said <{form}> and hung up")


@pytest.mark.parametrize("before", ["", "u:", "us:", "use:"])
def test_a_registered_value_is_hidden_inside_longer_base64(redactor: Redactor, before: str) -> None:
    whole = base64.b64encode(f"{before}{CANARY}!".encode()).decode()
    shown = redactor.text(f"sent {whole} along")
    core = whole[len(whole) // 3 : -len(whole) // 3]
    assert core not in shown


def test_the_longer_of_two_secrets_leaves_no_tail() -> None:
    redactor = Redactor()
    redactor.register(["minio", "minio-password"])
    assert redactor.text("got minio-password") == f"got {MASK}"


def test_a_new_secret_costs_no_work_on_those_before(monkeypatch: pytest.MonkeyPatch) -> None:
    # Tokens are renewed for as long as a copy takes, and each is as long as a page.
    dressed: list[str] = []

    def dress(value: str) -> set[str]:
        dressed.append(value)
        return {value}

    monkeypatch.setattr(redaction, "_forms", dress)
    monkeypatch.setattr(re, "compile", lambda *_: pytest.fail("a pattern was compiled"))
    redactor = Redactor()
    tokens = [f"token-{number:03}" for number in range(50)]
    for token in (*tokens, *tokens):
        redactor.register([token])
    assert dressed == tokens
    assert redactor.text(" ".join(tokens)) == " ".join([MASK] * 50)


@pytest.mark.parametrize("gap", [" ", "\r\n  ", "\n\t", "   ", r"\r\n ", "\n\n"])
def test_a_value_that_goes_on_in_the_next_line_is_hidden(redactor: Redactor, gap: str) -> None:
    folded = f"{CANARY[:9]}{gap}{CANARY[9:]}"
    assert redactor.text(f"X-Said: {folded}; and {folded}.") == f"X-Said: {MASK}; and {MASK}."
    assert redactor.text(f"one  two {CANARY[:9]} three") == f"one  two {CANARY[:9]} three"


@given(st.text(st.sampled_from("ab\\rnt \n\x1c\u2028\u00a0")))
def test_gaps_are_the_same_both_ways(text: str) -> None:
    assert redaction._without_gaps(text) == redaction._GAP.sub("", text)


def test_what_html_writes_differently_is_hidden() -> None:
    redactor = Redactor()
    redactor.register(['canary&secret<of>"somebody"'])
    for form in ("canary&amp;secret&lt;of&gt;&quot;somebody&quot;", 'canary&amp;secret&lt;of&gt;"somebody"'):
        assert redactor.text(f"<p>{form}</p>") == f"<p>{MASK}</p>"


def test_words_of_others_are_cut_after_their_secrets_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_OF_THIS_PROCESS", Redactor())
    redaction.register_secrets([CANARY])
    assert redaction.quoted(f" you said\r\n  {CANARY} to me", 20) == f"you said {MASK} to me"
    assert redaction.quoted(f"you said {CANARY}", 14) == f"you said {MASK}"
    assert redaction.quoted("\x1b[2J" + "x" * 20, 10) == r"\x1b[2Jxxx"


def test_a_short_value_is_hidden_where_it_is_the_whole_field_and_nowhere_else() -> None:
    redactor = Redactor()
    redactor.register(["ab", ""])
    assert redactor.value({"answer": "ab"}) == {"answer": MASK}
    assert redactor.text("a table of abbreviations") == "a table of abbreviations"


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("https://b.s3/k?X-Amz-Credential=AKIA%2F2026&X-Amz-Signature=0a1b2c&x=1", ["AKIA", "0a1b2c"]),
        ("https://b.s3/k?X-Amz-Security-Token=FwoGZ%2Fxyz&y=2", ["FwoGZ"]),
        ("https://blob/x?sv=2024&sig=abc%2Bdef%3D&se=1", ["abc%2Bdef"]),
        ("https://b/k?AWSAccessKeyId=AKIAX&Signature=vjby%3D&Expires=1", ["AKIAX", "vjby"]),
        ("{'Authorization': b'AWS4-HMAC-SHA256 Credential=AKIA1/20260101/us, Signature=beef'}", ["AKIA1", "beef"]),
        ("Authorization: Bearer eyJhbGciOi.J9.x\nHost: x", ["eyJhbGciOi"]),
        ("sent Basic dXNlcjpwYXNz= to it", ["dXNlcjpwYXNz"]),
        ("host:b\nx-amz-security-token:FwoGZXIvYXdz\n\nhost", ["FwoGZXIvYXdz"]),
        ("Signature:\n" + "0123456789abcdef" * 4, ["0123456789abcdef"]),
        ("proxy http://me:pa%40ss@proxy:3128/ refused", ["me:", "pa%40ss"]),
        ("AWS_SECRET_ACCESS_KEY=abcDEF123 make", ["abcDEF123"]),
        ('{"refresh_token": "R-123-\\"x", "expires_in": 3600}', ["R-123"]),
        ("{'passcode': 'AbCdEfG123', 'x': 1}", ["AbCdEfG123"]),
        ("b'<a:SecretAccessKey>wJalr/+=\\n</a:SecretAccessKey><SessionToken>Fwo</SessionToken>", ["wJalr", "Fwo"]),
    ],
)
def test_text_that_looks_like_a_secret_is_hidden_without_registration(text: str, gone: list[str]) -> None:
    shown = Redactor().text(text)
    assert MASK in shown
    for secret in gone:
        assert secret not in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x-amz-security-token:FwoGZXIv", f"x-amz-security-token:{MASK}"),
        ("passwd=AbCdEfG123", f"passwd={MASK}"),
        ("sig%3DAbCdEfG123", f"sig%3D{MASK}"),
        ("<Secret>AbCdEfG123</Secret>", f"<Secret>{MASK}</Secret>"),
        ("Bearer\u00a0eyJhbGciOi.J9", f"Bearer {MASK}"),
        ("made-up-\\nvalue", MASK),
    ],
)
def test_one_sign_is_enough_to_look_for_what_hides_behind_it(text: str, shown: str) -> None:
    redactor = Redactor()
    redactor.register(["made-up-value"])
    assert redactor.text(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "set S3_SYNC_SRC__SECRET_KEY or S3_SYNC_SRC__SECRET_KEY_FILE, not both",
        "s3://bucket/models/tokenizer.json: 1,234 bytes",
        "get a new passcode and create the Secret again",
        "syncer login --token <token> <NextToken>a</NextToken>",
        "Basic authentication is not supported by http://minio:9000/a@b",
    ],
)
def test_ordinary_text_stays_readable(text: str) -> None:
    assert Redactor().text(text) == text


@pytest.mark.parametrize(
    "name", ["Authorization", "x-amz-security-token", "AWS_SECRET_ACCESS_KEY", "hf_token", "passcode"]
)
def test_fields_named_like_secrets_are_masked(name: str) -> None:
    assert is_secret_name(name)
    assert Redactor().value({"deep": [{name: "anything"}]}) == {"deep": [{name: MASK}]}
    assert Redactor().value({name: ""}) == {name: ""}


@pytest.mark.parametrize("name", ["key", "storage_key", "S3_SYNC_SRC__CREDENTIALS_DIR", "tokens", "message", "path"])
def test_fields_that_only_sound_alike_are_shown(name: str) -> None:
    assert Redactor().value({name: "anything"}) == {name: "anything"}


def test_a_numeric_secret_is_hidden_as_a_number() -> None:
    redactor = Redactor()
    redactor.register(["40961234"])
    assert redactor.value({"code": 40961234, "bytes": 4096}) == {"code": MASK, "bytes": 4096}


def test_control_characters_become_visible() -> None:
    assert escape_controls("a\nb\x1b[2J\u202ec\x85\udcff") == r"a\nb\x1b[2J\u202ec\x85\udcff"


def test_values_that_cannot_be_printed_do_not_raise() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    looped: list[object] = []
    looped.append(looped)
    assert Redactor().value(Broken()) == "<Broken>"
    json.dumps(Redactor().value(looped))


def test_a_long_hostile_line_takes_no_quadratic_time() -> None:
    redactor = Redactor()
    begun = time.process_time()
    for piece in ("a", "a.", "a_", "secret_", "Bearer ", "'token': '", "authorization", "http://", "%3D", "\\"):
        redactor.text(piece * (200_000 // len(piece)))
    assert time.process_time() - begun < 5


@given(st.text(), st.lists(st.text(st.characters(codec="utf-8"), min_size=8, max_size=40), min_size=1, max_size=4))
def test_no_registered_value_survives_in_any_text(around: str, secrets: list[str]) -> None:
    redactor = Redactor()
    redactor.register(secrets)
    shown = json.dumps(redactor.value({"a": f"{around}{secrets[0]}{around}", "b": secrets}), ensure_ascii=False)
    for secret in secrets:
        # A secret made of asterisks alone is its own mask.
        assert secret not in shown or set(secret) <= {"*"}
