"""The text of a location or an endpoint taken apart: pure, and suspicious of what cannot mean anything sensible.

The functions raise `ValueError` with half a sentence that goes on after the variable's name, and never repeat what they
were given: people do write credentials into URLs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from syncer.manifest import is_control_path
from syncer.settings.values import undecodable

_BUCKET: Final = re.compile(r"(?!\.+$)[A-Za-z0-9._-]{1,255}")
"""Looser than AWS, since other stores allow more; what the SDK's own check lets through."""

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+-]*):")
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?|\[[0-9A-Fa-f:.]+\]")
_LONGEST_KEY: Final = 1024
ARCHIVE: Final = "oci-archive:"
_FORMS: Final = (
    "must be s3://bucket/folder/, /mnt/folder, file:///mnt/folder, oci://registry/repository:tag, "
    "oci-archive:/mnt/model.tar or, as a source, hf://owner/name"
)


@dataclass(frozen=True)
class S3Path:
    """`bare` says that only the bucket was named, without even a slash behind it."""

    bucket: str
    prefix: str
    bare: bool


@dataclass(frozen=True)
class DirectoryPath:
    """An absolute path in a file system."""

    path: Path


@dataclass(frozen=True)
class ImagePath:
    """An image in a registry; `images.py` takes the reference apart."""

    reference: str


@dataclass(frozen=True)
class ArchivePath:
    """An image in a file; the path is absolute."""

    path: Path


Address = S3Path | DirectoryPath | ImagePath | ArchivePath


def parse_address(text: str) -> Address:
    """Take a source's or a destination's path apart; sources on the Hugging Face Hub are read by `repositories.py`."""
    if text.startswith("/"):
        return DirectoryPath(_directory(text))
    found = _SCHEME.match(text)
    scheme = found[1].lower() if found else ""
    match scheme:
        case "s3" | "s3a":
            return _s3(text[len(scheme) + 1 :])
        case "file":
            return DirectoryPath(_directory(_path_of_url(text[len(scheme) + 1 :])))
        case "hf":
            raise ValueError("names the Hugging Face Hub, which is a source only: name a bucket or a directory")
        case "oci":
            return ImagePath(text)
        case "oci-archive":
            return archive_path(text)
        case _:
            raise ValueError(_FORMS)


def archive_path(text: str) -> ArchivePath:
    """`oci-archive:/mnt/model.tar`, without the reference that other tools take behind a second colon."""
    path = text[len(ARCHIVE) :]
    # Who is used to URLs writes the two slashes of one.
    path = path[2:] if path.startswith("///") else path
    if not path.startswith("/") or path.endswith("/"):
        raise ValueError("must be oci-archive:/mnt/model.tar, the absolute path of a file")
    if ":" in path:
        raise ValueError("must be oci-archive:/mnt/model.tar, without a colon in it: the archive has no tag")
    return ArchivePath(_directory(path))


def registry_host(text: str) -> str:
    """The host of an image registry, perhaps with its port, in lower case."""
    host, colon, port = text.rpartition(":") if re.search(r":[0-9]*$", text) else (text, "", "")
    if _HOST.fullmatch(host) is None or (colon and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536)):
        raise ValueError("must begin with the registry's host, as in quay.io/org/model:1.0.0")
    return f"{host.lower()}{colon}{port}"


def bucket_name(text: str) -> str:
    """The name of a bucket."""
    if _BUCKET.fullmatch(text) is None:
        raise ValueError("must be the name of a bucket and nothing else")
    return text


def object_key(text: str) -> str:
    """A source's folder or one object below a bucket, as it was written but for slashes in front."""
    # Who joins a bucket and `/folder` writes two slashes; keys that really begin with one are no model's.
    key = text.lstrip("/")
    if len(key.encode()) > _LONGEST_KEY:
        raise ValueError(f"is longer than the {_LONGEST_KEY} bytes that an object's key may have")
    if is_control_path(key):
        raise ValueError("must not contain a `.syncer` component: that is where the proof of a model lies")
    return key


def folder_key(text: str) -> str:
    """A destination's key prefix without slashes around it; raises `ValueError` for what no folder can be called."""
    key = text.strip("/")
    if any(part in {".", ".."} for part in key.split("/")):
        raise ValueError("must not contain the components `.` or `..`")
    return key


def parse_endpoint(text: str, *, scheme: str = "https") -> str:
    """A full URL of a service, without a slash at its end; `scheme` is for those who left it out."""
    if "://" not in text:
        text = f"{scheme}://{text}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("must be a URL such as https://host.example.com:443") from None
    if parts.scheme not in {"http", "https"}:
        raise ValueError("must begin with https:// or http://")
    if "@" in parts.netloc:
        raise ValueError("must not contain a user or a password; credentials have variables of their own")
    if parts.query or parts.fragment or "?" in text or "#" in text:
        raise ValueError("must be a URL without anything behind a ? or #")
    host = parts.netloc.removesuffix(f":{port}") if port is not None else parts.netloc.removesuffix(":")
    if port == 0 or _HOST.fullmatch(host) is None:
        raise ValueError("must name a host, as in https://host.example.com:443")
    if not re.fullmatch(r"[A-Za-z0-9/._~%-]*", parts.path):
        raise ValueError("must be a URL without spaces or special characters")
    return f"{parts.scheme}://{host.lower()}{'' if port is None else f':{port}'}{parts.path.rstrip('/')}"


def host_endpoint(host: str, port: str) -> str:
    """The endpoint of an ObjectBucketClaim, which names host and port: 80 is http, everything else https.

    In a cluster other ports may well speak http; guessing would send a signature in the clear, so who has such a
    service says so with the scheme in `BUCKET_HOST` or uses the explicit form.
    """
    if port and (re.fullmatch(r"[0-9]{1,5}", port) is None or not 1 <= int(port) <= 65535):
        raise ValueError("must be a port from 1 to 65535")
    scheme, separator, rest = host.rpartition("://")
    name = f"[{rest}]" if rest.count(":") > 1 and not rest.startswith("[") else rest
    default = scheme.lower() or ("http" if port == "80" else "https")
    standard = "80" if default == "http" else "443"
    stands_in_host = re.search(r":[0-9]+$", name.partition("]")[2] if name.startswith("[") else name) is not None
    suffix = "" if port in {"", standard} or stands_in_host else f":{port}"
    if separator:
        return parse_endpoint(f"{default}://{name.rstrip('/')}{suffix}")
    return parse_endpoint(f"{name}{suffix}", scheme=default)


def _s3(rest: str) -> S3Path:
    if not rest.startswith("//"):
        raise ValueError(_FORMS)
    bucket, slash, key = rest[2:].partition("/")
    if "@" in bucket or ":" in bucket:
        raise ValueError("must be s3://bucket/folder/ without credentials or port; those have variables of their own")
    if _BUCKET.fullmatch(bucket) is None:
        raise ValueError("must name a bucket, as in s3://bucket/folder/")
    return S3Path(bucket, object_key(key), bare=not slash)


def _path_of_url(rest: str) -> str:
    if not rest.startswith("//"):
        return unquote(rest)
    host, slash, path = rest[2:].partition("/")
    if host not in {"", "localhost"} or not slash:
        raise ValueError("must be file:///mnt/folder, with three slashes")
    return unquote("/" + path)


def _directory(text: str) -> Path:
    if not text.startswith("/"):
        raise ValueError(_FORMS)
    if "\0" in text or undecodable(text) or "\ufffd" in text or any(ord(letter) < 32 for letter in text):
        raise ValueError("holds characters that no folder of a model is called by")
    if ".." in text.split("/"):
        raise ValueError("must not contain the component `..`")
    if is_control_path(text):
        raise ValueError("must not contain a `.syncer` component: that is where the proof of a model lies")
    # A leading `//` would survive in Path, and be another place than `/`.
    path = Path("/" + text.lstrip("/"))
    if path == Path("/"):
        raise ValueError("must name a folder, not the whole file system")
    return path
