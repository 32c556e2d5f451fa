"""The Hugging Face Hub: its commits and trees, the redirects to its bytes."""

from functools import cache
from typing import Final

from pydantic import SecretStr

from syncer.manifest import Listing, is_control_path
from syncer.settings.locations import (
    HuggingFaceLocation,
)
from syncer.stores.huggingface.hub import Hub
from syncer.stores.huggingface.library import Commit, resolve, tree
from syncer.stores.huggingface.ranges import Ranges
from syncer.stores.huggingface.selection import choose
from syncer.stores.huggingface.xet import XetFetcher
from tests.fuzz.air import ONCE, UNKEPT
from tests.fuzz.answers import AIR, FILE, NO_NETWORK, SHA, SHA256, answer, drain, told
from tests.fuzz.mutation import NEXT
from tests.fuzz.target import Target, check_listing

_MODEL: Final = HuggingFaceLocation("owner/name", token=SecretStr("hf_token"), endpoint="https://hub.example")
_COMMIT: Final = Commit("owner/name", SHA, gated=False)
_INFO: Final = told(
    {
        "_id": "1",
        "id": "owner/name",
        "modelId": "owner/name",
        "sha": SHA,
        "gated": False,
        "private": False,
        "disabled": False,
        "downloads": 5,
        "likes": 2,
        "tags": ["safetensors", "license:mit"],
        "lastModified": "2024-01-01T00:00:00.000Z",
        "createdAt": "2024-01-01T00:00:00.000Z",
        "siblings": [{"rfilename": "README.md"}, {"rfilename": "model.safetensors"}],
        "cardData": {"license": "mit", "language": ["en"]},
        "config": {"architectures": ["LlamaForCausalLM"]},
        "safetensors": {"parameters": {"BF16": 5}, "total": 5},
    }
)
_TREE_PAGE: Final = (
    {"type": "directory", "oid": SHA, "size": 0, "path": "original"},
    {"type": "file", "oid": SHA, "size": 10, "path": "config.json"},
    {
        "type": "file",
        "oid": SHA,
        "size": 135,
        "path": "original/model-00001-of-00002.safetensors",
        "lfs": {"oid": SHA256, "size": 100, "pointerSize": 135},
        "xetHash": SHA256,
    },
)
_TREE: Final = told(_TREE_PAGE)
_HUB_GONE: Final = told({"error": "x"}, "X-Error-Code: RepoNotFound", "X-Error-Message: not found", status=404)


@cache
def _hub() -> Hub:
    return Hub(_MODEL, NO_NETWORK, timeouts=UNKEPT, patience=ONCE)


def _hub_listing(data: bytes) -> None:
    hub = _hub()
    with AIR.answering(data):
        commit = resolve(hub, "owner/name", "main")
        files = tree(hub, commit)
        check_listing(Listing.of([file for file in files if not is_control_path(file.path)]))
        for file in choose(files, allow=(), ignore=("*.bin",)).taken:
            hub.url_of(commit.repository, commit.sha, file.path)


def _hub_reading(data: bytes) -> None:
    ranges = Ranges(_hub())
    with AIR.answering(data):
        for start, length in ((0, 100), (10, 20)):
            drain(ranges.open(_COMMIT, FILE, start, length))


def _hub_xet(data: bytes) -> None:
    fetcher = XetFetcher(_hub(), NO_NETWORK, clock=lambda: 0.0)
    with AIR.answering(data):
        fetcher._hash(_COMMIT, FILE)
        fetcher._token(_COMMIT)


def _hub_access(data: bytes) -> None:
    with AIR.answering(data):
        _hub().check_access("owner/name", SHA, "model.safetensors")


TARGETS: Final = (
    Target(
        "hub-listing",
        _hub_listing,
        (
            _INFO + NEXT + _TREE,
            _INFO
            + NEXT
            + told(_TREE_PAGE[:2], f'Link: <https://hub.example/api/models/owner/name/tree/{SHA}?cursor=x>; rel="next"')
            + NEXT
            + told(_TREE_PAGE[2:]),
            answer(b"", "Location: /api/models/other/name/revision/main", status=307) + NEXT + _INFO + NEXT + _TREE,
            _HUB_GONE,
            told({"error": "later"}, 'RateLimit: "api";r=0;t=55', status=429),
        ),
    ),
    Target(
        "hub-reading",
        _hub_reading,
        (
            answer(b"", "Location: https://cdn.example/x?Signature=abc", f"X-Repo-Commit: {SHA}", status=302)
            + NEXT
            + answer(bytes(100))
            + NEXT
            + answer(bytes(20), "Content-Range: bytes 10-29/100", status=206),
            answer(bytes(100), f"X-Repo-Commit: {SHA}"),
            _HUB_GONE,
        ),
    ),
    Target(
        "hub-xet",
        _hub_xet,
        (
            answer(b"", f"X-Xet-Hash: {SHA256}")
            + NEXT
            + answer(
                b"{}",
                "X-Xet-Cas-Url: https://cas.example",
                "X-Xet-Access-Token: token",
                "X-Xet-Token-Expiration: 2000000000",
            ),
        ),
    ),
    Target("hub-access", _hub_access, (answer(), _HUB_GONE, told({}, "X-Error-Code: GatedRepo", status=403))),
)
