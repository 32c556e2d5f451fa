"""Names and words of strangers."""

import json
from typing import Final

from syncer.errors import SyncerError
from syncer.logs import redact
from syncer.redaction import redact_value
from syncer.report import outcome_of_error, termination_message
from syncer.retry import seconds_of
from syncer.stores.directory.names import NameLimits, collisions, problem_of
from syncer.wire.dialing import Origin
from tests.fuzz.target import Target, Violated


def _texts(data: bytes) -> None:
    """Names and words of strangers, everywhere where they are printed, joined or sorted."""
    text = data.decode("utf-8", "surrogateescape")
    for line in (redact(text), json.dumps(redact_value({"token": text, "said": [text, {text: text}]}))):
        if any(ord(letter) < 32 or 0x7F <= ord(letter) < 0xA0 for letter in line):
            raise Violated(f"a log line with control characters: {line[:200]!r}")
    error = SyncerError(text, hint=text, path=text)
    message = termination_message(outcome_of_error(error, source=text, destination=text, seconds=1.0))
    if len(message) > 4096:
        raise Violated(f"a termination message of {len(message)} bytes")
    json.loads(message)
    seconds_of(text)
    paths = list(dict.fromkeys(filter(None, text.split("\n"))))[:200]
    for path in paths:
        problem_of(path, NameLimits())
    list(collisions(paths))
    for address in paths[:5]:
        try:
            Origin.split(address)
        except ValueError:
            continue


_TEXTS: Final = (
    b"model.safetensors\nsub/config.json\na\na/b\na//b\n../x\n/abs\n.syncer/x\nlost+found/x",
    b"Authorization: Bearer abcdef123456 token=secret password: 'x' https://user:pw@host/?X-Amz-Signature=abc",
    b"http://host:80/x\nhttps://[::1]/\nhttp://a b/\n",
)


TARGETS: Final = (Target("texts", _texts, _TEXTS),)
