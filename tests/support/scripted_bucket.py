"""An S3 store with habits: answers by method and a piece of the target, each list of answers played to its last."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from pydantic import SecretStr

from syncer.retry import Patience
from syncer.settings.locations import Network, S3Location
from syncer.stores.s3 import S3Destination, S3Source
from syncer.wire import Timeouts
from tests.support.scripted_server import Heard, ScriptedServer, reply

SECRET = "canary-secret-key-0123456789"
AT_ONCE = Patience(seconds=0.0)
"""One try."""
TWICE_AND_MORE = Patience(seconds=60.0, first_pause=0.0, longest_pause=0.0, sleep=lambda _: None)

Answers = Mapping[tuple[str, str], Sequence[bytes]]


class ScriptedBucket:
    """Keeps what it heard as `METHOD target` and the bodies."""

    def __init__(self, server: ScriptedServer, opened: ExitStack, bodies: list[bytes]) -> None:
        self._server = server
        self._opened = opened
        self.bodies = bodies

    @property
    def heard(self) -> list[Heard]:
        return self._server.heard

    @property
    def said(self) -> list[str]:
        return [f"{heard.method} {heard.target.partition('&uploadId=')[0]}" for heard in self.heard]

    def location(self, prefix: str = "m/", **changes: Any) -> S3Location:
        named: dict[str, Any] = {
            "bucket": "b",
            "prefix": prefix,
            "endpoint": self._server.url,
            "access_key": SecretStr("AKIATEST"),
            "secret_key": SecretStr(SECRET),
        }
        return S3Location(**named | changes)

    def source(self, prefix: str = "m/", *, patience: Patience = AT_ONCE, **changes: Any) -> S3Source:
        source = S3Source(self.location(prefix, **changes), Network(), timeouts=Timeouts(idle=5.0), patience=patience)
        self._opened.callback(source.close)
        return source

    def destination(self, prefix: str = "m/", *, patience: Patience = AT_ONCE, **changes: Any) -> S3Destination:
        destination = S3Destination(
            self.location(prefix, **changes), Network(), timeouts=Timeouts(idle=5.0), patience=patience
        )
        self._opened.callback(destination.close)
        return destination


@contextmanager
def scripted_bucket(answers: Answers) -> Iterator[ScriptedBucket]:
    """Serve `answers`: keys are (method, a piece of the target), tried in their order; anything else is refused."""
    played: dict[tuple[str, str], int] = {}
    bodies: list[bytes] = []

    def script(heard: Heard) -> None:
        for key, replies in answers.items():
            if heard.method == key[0] and key[1] in heard.target:
                turn = played.get(key, 0)
                played[key] = turn + 1
                data = replies[min(turn, len(replies) - 1)]
                break
        else:
            data = refusal(418, "NotInTheScript", heard.target)
        bodies.append(heard.body())
        if data:
            heard.say(data)
        else:
            heard.close()  # an empty answer: the connection is gone and nobody knows what happened

    with ScriptedServer(script) as server, ExitStack() as opened:
        yield ScriptedBucket(server, opened, bodies)


def refusal(status: int, code: str, message: str = "", **headers: str) -> bytes:
    """An S3 error document."""
    text = message.replace("&", "&amp;").replace("<", "&lt;")
    return reply(status, f"<Error><Code>{code}</Code><Message>{text}</Message></Error>".encode(), **headers)


def stored(etag: str) -> bytes:
    """The answer to a PUT."""
    return reply(200, etag=f'"{etag}"' if etag else "")


def listed(*entries: tuple[str, int, str], truncated: str = "") -> bytes:
    """A page of a listing: key, size and ETag of each object; `truncated` is the token for the next page."""
    contents = "".join(
        f"<Contents><Key>{key}</Key><Size>{size}</Size><ETag>&quot;{etag}&quot;</ETag>"
        "<LastModified>2026-11-21T00:00:00.000Z</LastModified></Contents>"
        for key, size, etag in entries
    )
    more = f"<NextContinuationToken>{truncated}</NextContinuationToken>" if truncated not in ("", "lost") else ""
    return reply(
        200,
        f"<ListBucketResult><IsTruncated>{'true' if truncated else 'false'}</IsTruncated>{contents}{more}"
        "</ListBucketResult>".encode(),
    )
