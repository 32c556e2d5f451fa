"""The closed list of what goes wrong between a client and an HTTP server, each a function of a proxy's `Incident`.

A fault says of what kind a request must be for it to be possible at all (`needs`, any of them; nothing: any request),
and in words why it is not with others.  Kinds:

- `bytes`: the answer is bytes of the model;  `document`: the answer is a text that somebody parses
- `ranged`: a part of a file is asked for;  `upload`: the request carries bytes of the model
- `change`: the request changes something at the server
"""

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from tests.support.fault_proxy import Incident, Reply

Kind = Literal["bytes", "document", "ranged", "upload", "change"]


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    `silent` ones are noticed by a time limit alone, `tls` ones need https, and of `unseen` ones a store may have no
    means to know.
    """

    name: str
    act: Callable[[Incident], None]
    needs: frozenset[Kind] = frozenset()
    why_not: str = ""
    silent: bool = False
    tls: bool = False
    unseen: bool = False

    def fits(self, kinds: frozenset[Kind]) -> bool:
        """Whether it can happen to a request of these kinds."""
        return not self.needs or bool(self.needs & kinds)


_BODY: frozenset[Kind] = frozenset({"bytes", "document"})
_NO_BODY = "the answer has no body that is read"
_NO_CHANGE = "the request changes nothing, so an answer that is lost is the same as one that never was"
_NO_UPLOAD = "the request carries no bytes of the model"
_NO_RANGE = "no range is asked for"
_NO_BYTES = "the answer is no bytes of the model"
_PATIENCE = threading.Event()
"""Never set: what is waited for between the bytes of a slow answer."""

JUNK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong"
ALERT = b"\x15\x03\x03\x00\x02\x02\x50"
"""A TLS record with a fatal alert, internal_error (RFC 8446, section 6)."""


def _reset_before(incident: Incident) -> None:
    incident.body()
    incident.reset()


def _reset_in_request(incident: Incident) -> None:
    incident.read_half()
    incident.reset()


def _reset_in_answer(incident: Incident) -> None:
    reply = incident.pass_on()
    incident.say(reply.head() + reply.body[: len(reply.body) // 2])
    incident.reset()


def _silence(incident: Incident) -> None:
    incident.body()
    incident.wait_for_client()


def _silence_in_answer(incident: Incident) -> None:
    reply = incident.pass_on()
    incident.say(reply.head() + reply.body[: len(reply.body) // 2])
    incident.wait_for_client()


def _half_open(incident: Incident) -> None:
    incident.end_stream()


def _refused(status: int, code: str, **headers: str) -> Callable[[Incident], None]:
    def act(incident: Incident) -> None:
        incident.answer(incident.refusal(status, code, **headers))

    return act


def _bad_gateway(incident: Incident) -> None:
    page = b"<html><head><title>502 Bad Gateway</title></head><body><center><h1>502 Bad Gateway</h1></center></body>"
    incident.answer(Reply(502, "Bad Gateway", [("Content-Type", "text/html")], page))


def _cut_short(incident: Incident) -> None:
    reply = incident.pass_on()
    incident.say(reply.head() + reply.body[: len(reply.body) // 2])
    incident.close()


def _less_announced(incident: Incident) -> None:
    reply = incident.pass_on()
    incident.answer(replace(reply, body=reply.body[: len(reply.body) // 2]))


def _more_announced(incident: Incident) -> None:
    reply = incident.pass_on()
    incident.answer(replace(reply, body=reply.body + b"more"))


def _junk_behind(incident: Incident) -> None:
    reply = incident.pass_on()
    incident.say(reply.head() + (b"" if incident.method == "HEAD" else reply.body) + JUNK)


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def _bit_in_answer(incident: Incident) -> None:
    reply = incident.pass_on()
    incident.answer(replace(reply, body=_flipped(reply.body)))


def _bit_in_request(incident: Incident) -> None:
    incident.answer(incident.pass_on(body=_flipped(incident.body())))


def _answer_lost(incident: Incident) -> None:
    incident.pass_on()
    incident.reset()


def _gateway_timeout(incident: Incident) -> None:
    incident.pass_on()
    page = b"<html><body><h1>504 Gateway Time-out</h1></body></html>"
    incident.answer(Reply(504, "Gateway Time-out", [("Content-Type", "text/html")], page))


def _error_inside(incident: Incident) -> None:
    said = incident.refusal(500, "InternalError")
    incident.answer(replace(said, status=200, reason="OK"))


def _other_range(incident: Incident) -> None:
    reply = incident.pass_on()
    first, _, rest = reply.header("Content-Range").removeprefix("bytes ").partition("-")
    last, _, whole = rest.partition("/")
    if not last:
        incident.answer(reply)  # a client that asked for no range was to be asked for none
        return
    incident.answer(reply.having("Content-Range", f"bytes {int(first) + 1}-{int(last) + 1}/{whole}"))


def _whole_file(incident: Incident) -> None:
    reply = incident.pass_on()  # with its range, which may be signed
    whole = reply.header("Content-Range").rpartition("/")[2]
    said = [(name, value) for name, value in reply.headers if name.lower() != "content-range"]
    body = reply.body + bytes(int(whole) - len(reply.body)) if whole.isdigit() else reply.body
    incident.answer(replace(reply, status=200, reason="OK", headers=said, body=body))


def _moved(status: int) -> Callable[[Incident], None]:
    def act(incident: Incident) -> None:
        said = incident.refusal(status, "TemporaryRedirect" if status == 307 else "PermanentRedirect")
        incident.answer(said.having("Location", incident.proxy.other_host + incident.target))

    return act


def _slowly(incident: Incident) -> None:
    reply = incident.pass_on()
    data = reply.head() + (b"" if incident.method == "HEAD" else reply.body)
    for at in range(min(len(data), 200)):
        incident.say(data[at : at + 1])
        _PATIENCE.wait(0.001)
    incident.say(data[200:])


def _garbage(incident: Incident) -> None:
    incident.body()
    incident.say(bytes(range(256)) * 4 + b"\r\n\r\n")
    incident.close()


def _endless_header(incident: Incident) -> None:
    incident.body()
    incident.say(b"HTTP/1.1 200 OK\r\nX-Long: ")
    _pour(incident, b"a" * (1 << 20))


def _endless_headers(incident: Incident) -> None:
    incident.body()
    incident.say(b"HTTP/1.1 200 OK\r\n")
    _pour(incident, b"X-Many: header\r\n" * 65536)


def _pour(incident: Incident, data: bytes) -> None:
    """A hundred mebibytes, or as many as the client takes."""
    with contextlib.suppress(OSError):
        for number in range(100 * (1 << 20) // len(data)):
            incident.say(data)
            incident.proxy.poured = max(incident.proxy.poured, (number + 1) * len(data))
    incident.close()


def _alert(incident: Incident) -> None:
    incident.body()
    incident.say_below_tls(ALERT)
    incident.close()


_LIST = (
    Fault("reset before the answer", _reset_before),
    Fault("reset in the middle of the request", _reset_in_request, frozenset({"upload"}), _NO_UPLOAD),
    Fault("reset in the middle of the answer", _reset_in_answer, _BODY, _NO_BODY),
    Fault("silence instead of an answer", _silence, silent=True),
    Fault("silence in the middle of the answer", _silence_in_answer, _BODY, _NO_BODY, silent=True),
    Fault("half-open: the end of the stream instead of an answer", _half_open),
    Fault("500", _refused(500, "InternalError")),
    Fault("502 with a page of a proxy", _bad_gateway),
    Fault("503", _refused(503, "SlowDown")),
    Fault("503 with Retry-After", _refused(503, "SlowDown", Retry_After="3")),
    Fault("429", _refused(429, "TooManyRequests")),
    Fault("429 with Retry-After", _refused(429, "TooManyRequests", Retry_After="3")),
    Fault("the answer ends before its length", _cut_short, _BODY, _NO_BODY),
    Fault("a shorter answer, which says so", _less_announced, frozenset({"bytes"}), _NO_BYTES),
    Fault("a longer answer, which says so", _more_announced, frozenset({"bytes"}), _NO_BYTES),
    Fault("an answer nobody asked for behind the right one", _junk_behind),
    Fault("a flipped bit in the answer", _bit_in_answer, frozenset({"bytes"}), _NO_BYTES, unseen=True),
    Fault("a flipped bit in the request", _bit_in_request, frozenset({"upload"}), _NO_UPLOAD, unseen=True),
    Fault("done, but the answer is lost", _answer_lost, frozenset({"change"}), _NO_CHANGE),
    Fault("done, but a proxy answers 504", _gateway_timeout, frozenset({"change"}), _NO_CHANGE),
    Fault("200 with an error inside", _error_inside, frozenset({"change", "document"}), _NO_BODY),
    Fault("206 with another range", _other_range, frozenset({"ranged"}), _NO_RANGE),
    Fault("200 with the whole file instead of a range", _whole_file, frozenset({"ranged"}), _NO_RANGE),
    Fault("307 to another host", _moved(307)),
    Fault("301 to another host", _moved(301)),
    Fault("403 RequestTimeTooSkewed", _refused(403, "RequestTimeTooSkewed")),
    Fault("403 ExpiredToken", _refused(403, "ExpiredToken")),
    Fault("403 SignatureDoesNotMatch", _refused(403, "SignatureDoesNotMatch")),
    Fault("a TLS alert", _alert, tls=True),
    Fault("an answer byte by byte", _slowly),
    Fault("garbage instead of HTTP", _garbage),
    Fault("a header of 100 MB", _endless_header),
    Fault("100 MB of headers", _endless_headers),
)

FAULTS = {fault.name: fault for fault in _LIST}
