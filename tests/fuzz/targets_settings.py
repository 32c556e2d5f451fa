"""The environment, mounted Secrets, logins for registries, tokens and authorities in files, proxies."""

import base64
import json
import os
from collections.abc import Mapping
from functools import cache
from typing import Final

import trustme

from syncer.errors import ConfigurationError
from syncer.logs import redact
from syncer.settings import load
from syncer.settings.locations import ImageLocation, Network
from syncer.settings.variables import known_names
from syncer.stores.cos.cache import TokenCache
from syncer.stores.oci.registry import Registry
from syncer.trust import Trust
from syncer.wire.proxies import proxy_for
from tests.fuzz.air import ONCE, UNKEPT, Air
from tests.fuzz.answers import answer
from tests.fuzz.mutation import NEXT
from tests.fuzz.target import Target, scratch
from tests.fuzz.targets_registry import CHALLENGE, PASS

_BASE: Final = {
    "S3_SYNC_SRC__PATH": "hf://owner/name",
    "S3_SYNC_DEST__PATH": "/mnt/models",
    "MODEL_REGISTRY_URL": "",
}


def _settings(data: bytes) -> None:
    """The environment: lines of NAME=VALUE, bytes as the kernel hands them over."""
    environ = dict(_BASE)
    for line in data.split(b"\n@@")[:400]:
        name, _, value = line.partition(b"=")
        if b"\0" not in line and name.strip():
            environ[os.fsdecode(name.strip())] = os.fsdecode(value)
    _load(environ)


def _load(environ: Mapping[str, str]) -> None:
    try:
        settings = load(environ)
    except ConfigurationError as error:
        json.dumps([redact(problem) for problem in error.problems])
        raise
    for location in (settings.source, *settings.destinations):
        if location is not None:
            redact(location.uri)
    for host, port in (("registry.example", 443), ("10.0.0.1", 80), ("::1", 80)):
        for scheme in ("http", "https"):
            proxy_for(settings.network, scheme=scheme, host=host, port=port)


_SECRET_NAMES: Final = (
    "PATH", "ENDPOINT", "access_key", "SECRET_KEY", "SESSION_TOKEN", "AWS_REGION", "VALIDATE_TLS", "AWS_S3_BUCKET",
    "HF_TOKEN", "S3_SYNC_COS_API_KEY",
)  # fmt: skip


def _mounted_secret(data: bytes) -> None:
    """Every file of a mounted Secret, and files that `NAME_FILE` names, with bytes of any kind."""
    folder = scratch() / "secret"
    folder.mkdir(exist_ok=True)
    pieces = data.split(b"\n@@")
    for number, name in enumerate(_SECRET_NAMES):
        (folder / name).write_bytes(pieces[number % len(pieces)])
    names = sorted(known_names())
    named = {f"{names[(len(data) + step * 7) % len(names)]}FILE": str(folder / "ENDPOINT") for step in range(3)}
    _load({**_BASE, "S3_SYNC_DEST__PATH": "", "S3_SYNC_DEST__CREDENTIALS_DIR": str(folder)})
    _load({**_BASE, "S3_SYNC_SRC__PATH": "", "S3_SYNC_SRC__CREDENTIALS_DIR": str(folder), **named})


def _auth_file(data: bytes) -> None:
    path = scratch() / "auth.json"
    path.write_bytes(data)
    environ = {
        "S3_SYNC_SRC__PATH": "oci://quay.io/org/model:1",
        "S3_SYNC_DEST__PATH": "/mnt/models",
        "REGISTRY_AUTH_FILE": str(path),
    }
    settings = load(environ)
    if isinstance(settings.source, ImageLocation):
        registry = Registry(settings.source, Network(), writes=False, timeouts=UNKEPT, patience=ONCE)
        with Air().answering(CHALLENGE + NEXT + PASS + NEXT + answer(b"{}")):
            registry.manifest("")


_AUTH: Final = {
    "auths": {
        "quay.io": {"auth": base64.b64encode(b"user:password").decode()},
        "https://index.docker.io/v1/": {"username": "u", "password": "p"},
        "quay.io/org": {"identitytoken": "token"},
    },
    "credHelpers": {"gcr.io": "gcloud"},
    "credsStore": "",
}


def _token_cache(data: bytes) -> None:
    path = scratch() / "token"
    path.write_bytes(data)
    path.chmod(0o600)
    token = TokenCache(path, "passcode").read()
    token.encode("ascii")


def _authorities(data: bytes) -> None:
    path, system = scratch() / "ca.crt", scratch() / "system.crt"
    system.write_bytes(_pem())  # a small one: the system's own store takes longer to read than all the rest
    path.write_bytes(data[:8192])
    try:
        Trust([path], system_bundles=[system]).context()
    finally:
        Trust([path], system_bundles=[system]).bundle()


@cache
def _pem() -> bytes:
    return trustme.CA(key_type=trustme.KeyType.ECDSA).cert_pem.bytes()


def _proxies(data: bytes) -> None:
    text = data.decode("utf-8", "replace").replace("\0", "")
    address, _, no_proxy = text.partition("\n")
    network = Network(proxies={"http": address, "https": address}, no_proxy=no_proxy)
    for host, port in (("host.example", 443), ("10.0.0.1", 80), ("::1", 80), ("2001:db8::1", 443)):
        proxy_for(network, scheme="https", host=host, port=port)


_ENVIRONMENT: Final = "\n@@".join(
    f"{name}={value}"
    for name, value in {
        "S3_SYNC_SRC__PATH": "s3://bucket/folder/",
        "S3_SYNC_SRC__ENDPOINT": "https://s3.example.com",
        "S3_SYNC_SRC__ACCESS_KEY": "a",
        "S3_SYNC_SRC__SECRET_KEY": "b",
        "S3_SYNC_TRANSFER_CONFIG__MAX_FILES": "5",
        "S3_SYNC_TRANSFER_CONFIG__CHUNK_SIZE": "15MiB",
        "S3_SYNC_PROGRESS_INTERVAL": "10s",
        "S3_SYNC_DEADLINE": "2h",
        "S3_SYNC_DELETE": "all",
        "HUGGINGFACE_ALLOW_PATTERNS": '["*.json", "a b"]',
        "NO_PROXY": "10.0.0.0/8,.svc,host:80,[::1]:80",
        "HTTPS_PROXY": "http://user:pw@proxy:3128",
        "SKIP_TASKS": "compress, register",
    }.items()
).encode()
_KEYS: Final = ("AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b")


def _lines(*lines: str) -> bytes:
    return "\n@@".join(lines).encode()


_ENVIRONMENTS: Final = (
    _ENVIRONMENT,
    b"OCI_IMAGE=quay.io/org/model:1,quay.io/org/model:2\n@@OCI_BASE_IMAGE=registry/base@sha256:" + b"a" * 64,
    _lines("BUCKET_HOST=s3.svc", "BUCKET_PORT=443", "BUCKET_NAME=b", "BUCKET_REGION=r", "S3_SYNC_DEST__PATH=", *_KEYS),
    _lines(
        "S3_SYNC_SRC__PATH=",
        "S3_SYNC_USE_IBMCLOUD_CLI=true",
        "S3_SYNC_COS_INSTANCE_CRN=crn:v1:bluemix:public:cloud-object-storage:global:a/A:I:bucket:NAME",
        "S3_SYNC_COS_INSTANCE_REGION=us-geo",
        "S3_SYNC_COS_BUCKET=NAME",
        "S3_SYNC_COS_TEMPORARY_PASSCODE=abc",
    ),
    b"COMPRESS_MODEL=true\n@@BITS=4\n@@GROUP_SIZE=128\n@@DATASET=c4\n@@COMPRESSION_SCHEME=W4A16\n@@S3_SYNC_SCRATCH_DIR=/tmp",
    b"MODEL_REGISTRY_URL=mysql://db:3306/x\n@@MODEL_NAME=m\n@@MODEL_VERSION=1\n@@HOME=/root\n@@XDG_RUNTIME_DIR=/run",
    "\n@@".join(f"{name}=x" for name in sorted(known_names())).encode(),
)


TARGETS: Final = (
    Target("settings", _settings, _ENVIRONMENTS),
    Target(
        "mounted-secret",
        _mounted_secret,
        (
            b"s3://bucket/x/\n@@https://s3.example\n@@AKIA\n@@secret\n@@token\n@@us-east-1\n@@true\n@@bucket\n@@hf_x\n@@k",
            b"\x00\x01\x02binary\xff\n@@\xef\xbb\xbfhttps://s3.example\r\n",
        ),
    ),
    Target("registry-logins", _auth_file, (json.dumps(_AUTH).encode(),)),
    Target(
        "token-cache",
        _token_cache,
        (json.dumps({"refresh_token": "token", "salt": "salt", "passcode_sha256": "a" * 64}).encode(),),
    ),
    Target("ca-files", _authorities, (_pem(),)),
    Target("proxies", _proxies, (b"http://user:pw@proxy:3128\n10.0.0.0/8,.svc,host.example:443,[::1]:80,*",)),
)
