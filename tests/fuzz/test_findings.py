"""What once ended a run as a bug of ours, or made it take all time or memory there is: each mistake with its input."""

import gzip
import json
import tarfile
import time
from pathlib import Path

import pytest

from syncer.claims import LARGEST_SIZE, is_size, whole_number
from syncer.errors import ConfigurationError, SyncerError, UnsafeNames, WrongBytes
from syncer.journal import recover
from syncer.lease import Holder
from syncer.manifest import Manifest
from syncer.redaction import redact_value
from syncer.settings import load
from syncer.settings.locations import ArchiveLocation, Network
from syncer.stores.oci.login import _door
from syncer.stores.oci.source import OciSource
from syncer.stores.oci.unpacking import DEEPEST_PATH
from syncer.stores.s3.objects import bare
from syncer.wire.proxies import proxy_for
from tests.fuzz.answers import answer, told
from tests.fuzz.mutation import NEXT
from tests.fuzz.target import survive
from tests.fuzz.targets import TARGETS
from tests.fuzz.targets_left import Control
from tests.support.cos_places import own_redactor
from tests.support.foreign_images import GZIP, DictionaryDepot, member, tar_of
from tests.support.measured_memory import peak_of

_PAGE = TARGETS["s3-listing"].seeds[0]
_ENTRY = b"<Size>100</Size>"
_ENDLESS = b'{"a": {"shape": [1e999], "data_offsets": [0, 1e999]}}'
_LISTING = TARGETS["hub-listing"].seeds[0].partition(NEXT)[0]


def measured(seed: bytes, old: bytes, new: bytes) -> bytes:
    """An answer with something else in it, and the right length."""
    assert old in seed
    head, _, body = seed.partition(b"\r\n\r\n")
    body = body.replace(old, new)
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body)]) + b"\r\n\r\n" + body


def tree_with(**changes: object) -> bytes:
    """The Hub's answers with another entry in its tree."""
    sha = "0123456789abcdef0123456789abcdef01234567"
    return _LISTING + NEXT + told([{"type": "file", "oid": sha, "size": 1, "path": "a"} | changes])


def kept(**changes: str) -> bytes:
    """The file of a refresh token."""
    return json.dumps({"refresh_token": "a", "salt": "b", "passcode_sha256": "c"} | changes).encode()


@pytest.mark.parametrize(
    ("name", "data", "outcome"),
    [
        pytest.param("s3-listing", measured(_PAGE, _ENTRY, b"<Size>many</Size>"), "Transient", id="size is a word"),
        pytest.param("s3-listing", measured(_PAGE, _ENTRY, b"<Size>-5</Size>"), "Transient", id="size below zero"),
        pytest.param("s3-listing", measured(_PAGE, _ENTRY, b"<Size>" + b"9" * 40 + b"</Size>"), "Transient", id="huge"),
        pytest.param("s3-listing", measured(_PAGE, b"T00:00:00.000Z", b"T00:00:999999999999Z"), "", id="unneeded date"),
        pytest.param(
            "s3-listing", measured(_PAGE.replace(b"ETag", b"Gate"), b"T00:00:00.000Z", b"T9Z"), "Transient", id="date"
        ),
        pytest.param("s3-listing", measured(_PAGE, b"</ListBucketResult>", b"<"), "Transient", id="cut short"),
        pytest.param("s3-listing", measured(_PAGE, _ENTRY, b"<Key>x</Key>"), "Transient", id="two keys"),
        pytest.param(
            "s3-listing", answer(b"<!DOCTYPE html><html><body/></html>", kind="text/html"), "Transient", id="page"
        ),
        pytest.param(
            "s3-reading", answer(b'<?xml version="1.0" encoding="x"?><a/>', status=500), "Transient", id="encoding"
        ),
        pytest.param(
            "s3-reading",
            answer(bytes(100), 'ETag: "abc"', "Content-Range: bytes " + "9" * 60_000, status=206),
            "Transient",
            id="a range that is quoted",
        ),
        pytest.param(
            "s3-head",
            b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\nETag: x\r\n\r\n",
            "Transient",
            id="a digit to isdigit alone",
        ),
        pytest.param("hub-listing", tree_with(size=True), "Transient", id="size is true"),
        pytest.param("hub-listing", tree_with(size=10**400), "Transient", id="size of 400 digits"),
        pytest.param("hub-listing", tree_with(path=5), "Transient", id="path is a number"),
        pytest.param("hub-listing", tree_with(path="a/" * 4000), "Transient", id="path without end"),
        pytest.param(
            "hub-listing", answer(gzip.compress(b"{}"), "Content-Encoding: gzip"), "Transient", id="packed answer"
        ),
        pytest.param(
            "hub-listing",
            _LISTING + NEXT + told([], 'Link: <https://a\x7f/>; rel="next"'),
            "Transient",
            id="link of no sense",
        ),
        pytest.param(
            "hub-reading",
            answer(bytes(100), "Content-Range: bytes " + "9" * 5000 + "-1/*", status=206),
            "Transient",
            id="range of 5000 digits",
        ),
        pytest.param(
            "oci-asking",
            told({}) + NEXT + answer(b"").replace(b": 0\r", b": " + b"9" * 5000 + b"\r"),
            "Transient",
            id="length of 5000 digits",
        ),
        pytest.param(
            "parts-record", b'{"format":1,"path":"a","version":"v","size":1e999,"part_size":1}\n', "", id="inf"
        ),
        pytest.param("token-cache", kept(passcode_sha256="é"), "ConfigurationError", id="é"),
        pytest.param("token-cache", kept(refresh_token="\ud800"), "ConfigurationError", id="surrogate"),
        pytest.param("token-cache", b"[" * 100_000, "ConfigurationError", id="nested"),
        pytest.param("kubeconfig", b"a: " + b"9" * 5000, "ConfigurationError", id="kubeconfig with a long number"),
        pytest.param("kubeconfig", b"[" * 5000, "ConfigurationError", id="kubeconfig without end"),
        pytest.param("kubeconfig", b"a: &a [1]\nb: *a\n", "ConfigurationError", id="kubeconfig with an alias"),
        pytest.param(
            "hub-reading", answer(b"", "X-Repo-Commit: " + "a" * 60_000), "ConfigurationError", id="long commit"
        ),
        pytest.param("cluster-ways", b'[{"spec": {"tls": [{"hosts": [{}]}]}}]', "", id="hosts that are none"),
        pytest.param(
            "model-registry",
            told({"items": []}) + NEXT + told({"id": "1"}) + NEXT + told({"id": "1"}) + NEXT + told({"items": 5}),
            "Transient",
            id="items is a number",
        ),
        pytest.param(
            "safetensors",
            len(_ENDLESS).to_bytes(8, "little") + _ENDLESS + b"\n====\n{}",
            "ConfigurationError",
            id="endless tensor",
        ),
        pytest.param(
            "proxies", b"http://proxy:1\nhost:\xc2\xb2,10.0.0.0:" + b"9" * 5000, "", id="NO_PROXY with odd ports"
        ),
    ],
)
def test_it_is_survived(name: str, data: bytes, outcome: str) -> None:
    with own_redactor():
        assert survive(TARGETS[name], data) == outcome


def test_entities_of_an_xml_answer_never_grow() -> None:
    bombs = [seed for seed in TARGETS["s3-listing"].seeds if b"<!ENTITY" in seed]
    assert len(bombs) == 2
    before = "from tests.fuzz.target import survive\nfrom tests.fuzz.targets import TARGETS"
    for bomb in bombs:
        assert peak_of(f"survive(TARGETS['s3-listing'], {bomb!r})", before=before) < 8 << 20


def test_a_long_challenge_costs_no_quadratic_time() -> None:
    begun = time.process_time()
    _door(["Bearer " + "a" * 65_000])
    assert time.process_time() - begun < 1


def test_a_layer_cannot_make_memory_out_of_folders(tmp_path: Path) -> None:
    depot = DictionaryDepot()
    deep = tar_of([(f"models/{'d/' * (DEEPEST_PATH + 1)}x", b"")])
    depot.push([depot.descriptor(gzip.compress(deep), GZIP)])
    source = OciSource(ArchiveLocation(tmp_path / "x"), Network())
    source._depot = depot
    with pytest.raises(WrongBytes, match="folders"):
        source.listing()


def test_names_of_a_layer_are_bounded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncer.stores.oci.unpacking.LONGEST_NAMES", 1000)
    depot = DictionaryDepot()
    depot.push([depot.descriptor(gzip.compress(tar_of([(f"models/{n:090}", b"") for n in range(12)])), GZIP)])
    source = OciSource(ArchiveLocation(tmp_path / "x"), Network())
    source._depot = depot
    with pytest.raises(WrongBytes, match="names"):
        source.listing()


def test_a_link_to_a_folder_that_only_its_files_tell_of_is_told(tmp_path: Path) -> None:
    depot = DictionaryDepot()
    link = member("models/link", tarfile.SYMTYPE, target="a/b")
    depot.push([depot.descriptor(gzip.compress(tar_of([("models/a/b/c", b"c"), link])), GZIP)])
    source = OciSource(ArchiveLocation(tmp_path / "x"), Network())
    source._depot = depot
    with pytest.raises(UnsafeNames, match="a link to a folder"):
        source.listing()


@pytest.mark.parametrize(
    "change",
    [
        {"digests": [["a", "b"], [1, 2]]},
        {"digests": "sha256"},
        {"proved_by": "rumour"},
        {"proved_by": []},
        {"size": 10**400},
        {"size": True},
        {"path": None},
    ],
)
def test_a_manifest_of_no_sense_is_none(change: dict[str, object]) -> None:
    record = {"path": "a", "size": 1, "digests": {}, "proved_by": "stream"}
    Manifest.from_json({"format": 1, "files": [record]})
    with pytest.raises((KeyError, TypeError, ValueError)):
        Manifest.from_json({"format": 1, "files": [record | change]})


@pytest.mark.parametrize("etag", ['"a\nX-Evil: 1"', '"é"', '"\x1b[31m"', '"中"', '""', '"' + "a" * 5000 + '"'])
def test_an_etag_that_cannot_travel_in_a_header_is_none(etag: str) -> None:
    assert bare(etag) == ""
    assert bare('W/"abc-2"') == "abc-2"


@pytest.mark.parametrize("change", [{"token": "a\r\nb"}, {"token": "\ud800"}, {"path": "\ud800"}, {"part_size": 1e999}])
def test_an_open_upload_of_no_sense_is_passed_over(change: dict[str, object]) -> None:
    whole = {"path": "a", "token": "t", "part_size": 1, "size": 1, "source_version": "", "source": ""}
    for entry, found in ((whole, 1), (whole | change, 0)):
        assert len(recover(Control(json.dumps(entry).encode())).open_files) == found


def test_a_holder_of_no_sense_is_nobody() -> None:
    holder = Holder.of({"holder": [[]], "host": {}, "pid": 10**400, "name": "x" * 5000, "started": None})
    assert (holder.identity, holder.host, holder.pid, holder.started, len(holder.name)) == ("", "", -1, "", 256)


def test_a_number_of_any_length_can_be_logged() -> None:
    said = redact_value({"count": 10**5000, "small": 5, "large": 2**80})
    assert said["small"] == 5
    json.dumps(said)


def test_a_home_that_cannot_be_looked_into_holds_no_login() -> None:
    environ = {
        "S3_SYNC_SRC__PATH": "oci://quay.io/org/model:1",
        "S3_SYNC_DEST__PATH": "/mnt/models",
        "HOME": "/" + "h" * 5000,
        "XDG_RUNTIME_DIR": "/" + "x" * 300,
    }
    assert load(environ).source is not None


def test_a_proxy_of_no_sense_is_refused_by_name() -> None:
    network = Network(proxies={"https": "http://proxy:99999999"}, no_proxy="a:²")
    with pytest.raises(ConfigurationError, match="HTTPS_PROXY"):
        proxy_for(network, scheme="https", host="host.example", port=443)


@pytest.mark.parametrize("text", ["", "-1", "+1", " 1", "1_0", "²", "\u0662", "1.0", "1e3", "9" * 19 + "9", "9" * 5000])
def test_what_is_no_whole_number(text: str) -> None:
    assert whole_number(text) is None


def test_what_is_a_whole_number() -> None:
    assert [whole_number("0"), whole_number("007"), whole_number(str(LARGEST_SIZE))] == [0, 7, LARGEST_SIZE]
    assert whole_number(str(LARGEST_SIZE + 1)) is None
    assert [is_size(each) for each in (0, LARGEST_SIZE)] == [True, True]
    assert not any(map(is_size, (-1, LARGEST_SIZE + 1, True, 1.0, "1", None)))


def test_no_answer_of_these_is_our_bug() -> None:
    for name, target in TARGETS.items():
        for seed in target.seeds:
            try:
                with own_redactor():
                    survive(target, seed[: len(seed) // 2])
            except SyncerError as error:
                pytest.fail(f"{name}: {error}")
