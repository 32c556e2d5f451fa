"""moto with the habits of NooBaa (Multicloud Object Gateway) in file-system mode, as far as a client can tell them.

What it answers is as people have seen it: versions named after a file's time and inode (`mtime-…-ino-…`) for objects
and parts alike, framing that shows in what is read (`Content-Encoding: aws-chunked`), a second completion that knows no
upload any more, and no look at Content-MD5.
"""

import contextlib
import io
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from tests.support.buckets import S3Server

_MD5 = re.compile(rb"(?P<md5>[0-9a-f]{32})(?:-(?P<parts>\d+))?")
_OURS = re.compile(rb"mtime-(?P<md5>[0-9a-f]{32})-ino-(?P<parts>\d+)")
_IN_XML = re.compile(rb"(?<=<ETag>)[^<]*(?=</ETag>)")
_CONDITIONS = ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH", "HTTP_X_AMZ_COPY_SOURCE_IF_MATCH")
_GONE = b"<Error><Code>NoSuchUpload</Code><Message>The specified upload does not exist.</Message></Error>"

Start = Callable[..., Any]
App = Callable[[dict[str, Any], Start], Iterable[bytes]]


class NooBaaLike:
    """In front of moto; keeps nothing but which uploads were completed."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._completed: set[str] = set()

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        environ.pop("HTTP_CONTENT_MD5", None)
        for name in _CONDITIONS:
            if name in environ:
                environ[name] = _back(environ[name].encode("latin-1")).decode("latin-1")
        upload = parse_qs(environ.get("QUERY_STRING", "")).get("uploadId", [""])[0]
        completes = environ["REQUEST_METHOD"] == "POST" and upload
        if completes:
            if upload in self._completed:
                start("404 NOT FOUND", [("Content-Type", "application/xml"), ("Content-Length", str(len(_GONE)))])
                return [_GONE]
            body = _back(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
            environ |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        told: list[Any] = []
        body = b"".join(self._app(environ, lambda *said: told.extend(said)))
        status, headers = told[0], dict(told[1])
        if headers.get("Content-Type", "").endswith("xml"):
            body = _IN_XML.sub(lambda etag: _named(etag[0]), body)
        for name in [name for name in headers if name.lower() == "etag"]:
            headers[name] = _named(headers[name].encode()).decode()
        if environ["REQUEST_METHOD"] != "HEAD":
            headers["Content-Length"] = str(len(body))
            if environ["REQUEST_METHOD"] == "GET" and "ETag" in headers:
                headers["Content-Encoding"] = "aws-chunked"
        if completes and status.startswith("200"):
            self._completed.add(upload)
        start(status, list(headers.items()))
        return [body]


def _named(etag: bytes) -> bytes:
    return _MD5.sub(lambda it: b"mtime-%s-ino-%s" % (it["md5"], it["parts"] or b"0"), etag)


def _back(text: bytes) -> bytes:
    return _OURS.sub(lambda it: it["md5"] + (b"" if it["parts"] == b"0" else b"-" + it["parts"]), text)


@contextlib.contextmanager
def running_noobaa_like() -> Iterator[S3Server]:
    """The same as `running_moto`, and a store that it shares with all of them."""
    app = NooBaaLike(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=MotoRequestHandler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield S3Server(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        thread.join()
