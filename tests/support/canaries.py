"""Made-up secrets of every kind, a server that echoes them in every dress, and the search for what is left of them."""

import base64
import html
import json
import logging
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from syncer import logs, retry
from syncer.retry import Patience
from tests.support.processes import Ended, Pod
from tests.support.scripted_server import Heard, Script

CANARIES = {
    "source access key": "AKIACANARYSOURCEKEY1",
    "source secret key": "CANARYsrc/secret+of=forty/characters+long",
    "source session token": "CANARYsrc-session-token//with+signs==",
    "target access key": "AKIACANARYTARGETKEY2",
    "target secret key": "CANARYdst&secret<of>forty/characters",
    "target session token": "CANARYdst-session-token/0123456789",
    "passcode": "CANARYpass1",
    "api key": "CANARYapi-key_0123456789abcdefghij",
    "hub": "hf_CANARYtokenOfTheHub0123456789",
    "registry password": "CANARYregistry/password+of=somebody",
    "registry identity": "CANARYidentity-token.0123456789",
    "model registry": "CANARYmodelregistry.token-0123456789",
    "proxy": "CANARYproxy-password-0123",
}
"""One of each kind that comes in by the environment or by a file."""


def dresses(secret: str) -> dict[str, str]:
    """The forms in which somebody's words may bring `secret` back; the folded one is for headers alone."""
    raw, half = secret.encode(), len(secret) // 2
    return {
        "plain": secret,
        "url": urllib.parse.quote(secret, safe=""),
        "base64": base64.b64encode(raw).decode(),
        "base64url": base64.urlsafe_b64encode(raw).decode().rstrip("="),
        "inside base64": base64.b64encode(b"us:" + raw + b"!").decode(),
        "json": json.dumps(secret)[1:-1].replace("/", r"\/"),
        "go": "".join(f"\\u{ord(each):04x}" if each in "<>&='" else each for each in secret),
        "html": html.escape(secret),
        "folded": f"{secret[:half]}\r\n  {secret[half:]}",
    }


def pieces(secret: str) -> set[str]:
    """What must not be found: each half of it, and the inner part of each dress."""
    found = {secret[: len(secret) // 2], secret[len(secret) // 2 :]}
    for text in dresses(secret).values():
        if "\r" not in text:
            found.add(text[len(text) // 4 : -len(text) // 4])
    return {piece for piece in found if len(piece) > 4}


def leaked(text: str, secrets: Iterable[str]) -> list[str]:
    """The pieces of `secrets` that are in `text`, each with what stands before it."""
    found = []
    for secret in secrets:
        for piece in pieces(secret):
            at = text.find(piece)
            if at >= 0:
                found.append(f"{piece!r} after {text[max(0, at - 80) : at]!r}")
    return found


def all_of(ended: Sequence[Ended], pod: Pod) -> str:
    """All that runs have said and left in the places of their pod."""
    said = "".join(f"{one.output}\n{json.dumps(one.termination)}\n" for one in ended)
    return said + left_in(pod.folder)


def left_in(folder: Path) -> str:
    """Names and contents of all files in a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return "\n".join(f"{path} {path.read_bytes().decode('utf-8', 'replace')}" for path in files)


def places(pod: Pod) -> dict[str, str]:
    """Where a pipeline wants results and files, all of them in the pod's folder."""
    results, workspace = pod.folder / "results", pod.folder / "workspace"
    for folder in (results, workspace):
        folder.mkdir(exist_ok=True)
    return {"RESULTS_DIR": str(results), "S3_SYNC_WORKSPACE": str(workspace)}


def echo(status: int, secrets: Sequence[str]) -> Script:
    """A server that answers everything with `status` and all secrets in all dresses, as each protocol has errors."""
    plain = [dress for secret in secrets for name, dress in dresses(secret).items() if name != "folded"]
    words = " ".join(plain)
    said = {"errorCode": "BXNIM0109E", "errorMessage": words, "error": words, "message": words, "code": words}
    of_registries = [{"code": "DENIED", "message": words, "detail": {"Authorization": words}}]
    as_json = json.dumps(said | {"errors": of_registries}).encode()
    as_xml = f"<Error><Code>{html.escape(plain[0])}</Code><Message><![CDATA[{words}]]></Message></Error>".encode()

    def script(heard: Heard) -> None:
        heard.body()
        document = as_json if "json" in heard.headers.get("accept", "") or "/v2/" in heard.target else as_xml
        here = heard.headers.get("host", "localhost")
        lines = [f"HTTP/1.1 {status} {words}", f"Content-Length: {len(document)}", "Content-Type: application/json"]
        lines += [f"{name}: {words}" for name in ("X-Error-Message", "X-Request-Id", "x-amz-request-id", "Set-Cookie")]
        lines += [f"X-Folded: {dresses(secret)['folded']}" for secret in secrets]
        lines += [f"X-Error-Message: {dresses(secrets[0])['folded']}", f"Authorization: Bearer {plain[0]}"]
        lines += [f'WWW-Authenticate: Bearer realm="http://{here}/token?account={plain[1]}",service="{plain[0]}"']
        lines += [f"Location: http://{here}/moved?token={plain[1]}&X-Amz-Signature={plain[1]}"]
        heard.say("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (b"" if heard.method == "HEAD" else document))

    return script


@contextmanager
def hasty() -> Iterator[None]:
    """Everything is tried twice and nothing is waited for: what is said is of interest, not when."""

    def twice(_patience: Patience, tries: int) -> float:
        return 0.0 if tries < 2 else float("inf")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retry, "_pause", twice)
        patch.setattr("syncer.stop.StopSwitch.wait", lambda _stop, _seconds: None)
        yield


@contextmanager
def watched_by_a_person() -> Iterator[None]:
    """Logs for a terminal, with its two plain lines at the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs._Lines, "is_terminal", lambda _lines: True)
        yield
    logs.configure(terminal=False)
    root = logging.getLogger()
    root.handlers[:] = [handler for handler in root.handlers if type(handler).__module__ != "syncer.logs"]
