"""Text to values: sizes, durations, flags, addresses, and no traceback for any text."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.settings import values
from syncer.settings.addresses import (
    ArchivePath,
    DirectoryPath,
    ImagePath,
    S3Path,
    bucket_name,
    folder_key,
    host_endpoint,
    object_key,
    parse_address,
    parse_endpoint,
)
from syncer.settings.regions import endpoint_of, parse_region
from syncer.settings.repositories import Repository, parse_repository, parse_revision
from syncer.settings.tasks import read_tasks
from syncer.settings.timetable import timetable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("15MiB", 15 * 2**20),
        ("15mib", 15 * 2**20),
        ("16MB", 16_000_000),
        ("16 MB", 16_000_000),
        ("1.5GiB", 3 * 2**29),
        ("1Gi", 2**30),
        ("5T", 5 * 10**12),
        ("1048576", 2**20),
        ("1024b", 1024),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    assert values.size(text) == expected


@pytest.mark.parametrize(
    "text", ["", "15", "0", "-1MiB", "MiB", "15 MiBs", "1e3KiB", "٣MiB", "6TiB", "1,5GiB", "inf", "9" * 400 + "KiB"]
)
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match=r"size|at least|at most"):
        values.size(text)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("200MiB", {0: 200 * 2**20, 1439: 200 * 2**20}),
        ("08:00,50MiB 20:00,off", {0: None, 479: None, 480: 50 * 2**20, 1199: 50 * 2**20, 1200: None, 1439: None}),
        ("20:30,OFF  8:05,2kB", {0: None, 484: None, 485: 2000, 1229: 2000, 1230: None}),
        ("00:00,1GB", {0: 10**9, 1439: 10**9}),
    ],
)
def test_timetables(text: str, minutes: dict[int, int | None]) -> None:
    table = timetable(text)
    assert {minute: table.at(minute) for minute in minutes} == minutes
    assert timetable(str(table)) == table


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fast", "must be a size"),
        ("off", "must be a size"),
        ("08:00", "or a timetable such as"),
        ("08:00,50MiB,20:00,off", "must be a size|or a timetable"),
        ("24:00,50MiB", "or a timetable such as"),
        ("08:60,50MiB", "or a timetable such as"),
        ("08:00,50MiB 8:00,off", "the same time twice"),
        ("08:00,5", "at least 1KiB"),
        ("08:00,", "or a timetable such as"),
        ("Mon-08:00,50MiB", "or a timetable such as"),
    ],
)
def test_no_timetables(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        timetable(text)


def test_a_size_without_its_unit_is_asked_about() -> None:
    with pytest.raises(ValueError, match="MiB is missing"):
        values.size("15")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10s", 10), ("10m", 600), ("2h", 7200), ("1h30m", 5400), ("500ms", 0.5), ("90", 90), ("1.5", 1.5), ("2H", 7200)],
)
def test_durations(text: str, expected: float) -> None:
    assert values.some_seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "ten", "10 s", "-1s", "1h 30m", "1h30", "nan", "inf", "400d", "9" * 400])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|at most"):
        values.seconds(text)


def test_patience_may_be_nothing_but_an_interval_may_not() -> None:
    assert values.seconds("0") == 0
    with pytest.raises(ValueError, match="longer than nothing"):
        values.some_seconds("0s")


@pytest.mark.parametrize("word", ["true", "TRUE", "True", "yes", "Yes", "1", "on", "ON"])
def test_true_words(word: str) -> None:
    assert values.flag(word) is True


@pytest.mark.parametrize("word", ["false", "No", "0", "OFF"])
def test_false_words(word: str) -> None:
    assert values.flag(word) is False


@pytest.mark.parametrize("word", ["maybe", "2", "t", "enabled"])
def test_no_flags(word: str) -> None:
    with pytest.raises(ValueError, match="must be true"):
        values.flag(word)


@pytest.mark.parametrize("text", ["0", "-1", "1.0", "10001", "five", "1_0", "9" * 5000])
def test_no_counts(text: str) -> None:
    with pytest.raises(ValueError, match="whole number"):
        values.count(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://bucket/folder/", S3Path("bucket", "folder/", bare=False)),
        ("s3a://bucket/folder/x.bin", S3Path("bucket", "folder/x.bin", bare=False)),
        ("S3://bucket", S3Path("bucket", "", bare=True)),
        ("s3://bucket/", S3Path("bucket", "", bare=False)),
        ("s3://bucket//folder//x/", S3Path("bucket", "folder//x/", bare=False)),
        ("s3://Bucket_1.x/a b+c%20?#é/", S3Path("Bucket_1.x", "a b+c%20?#é/", bare=False)),
        ("/mnt/models", DirectoryPath(Path("/mnt/models"))),
        ("//mnt//models/", DirectoryPath(Path("/mnt/models"))),
        ("/mnt/50%", DirectoryPath(Path("/mnt/50%"))),
        ("file:///mnt/my%20model", DirectoryPath(Path("/mnt/my model"))),
        ("file://localhost/mnt/x", DirectoryPath(Path("/mnt/x"))),
        ("file:/mnt/x", DirectoryPath(Path("/mnt/x"))),
        ("oci://quay.io/me/x:1", ImagePath("oci://quay.io/me/x:1")),
        ("oci-archive:/mnt/x.tar", ArchivePath(Path("/mnt/x.tar"))),
        ("oci-archive:///mnt/x.tar", ArchivePath(Path("/mnt/x.tar"))),
    ],
)
def test_addresses(text: str, expected: object) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "models",
        "./models",
        "s3:bucket/x",
        "s3:///x",
        "s3://..",
        "s3://buc ket/x",
        "s3://key:secret@bucket/x",
        "s3://host:9000/bucket",
        "s3://bucket/a/.syncer/b",
        "s3://bucket/" + "x" * 1025,
        "gs://bucket/x",
        "hf://ibm/granite",
        "https://bucket.s3.amazonaws.com/x",
        "C:\\models",
        "/mnt/../etc",
        "/mnt/.syncer",
        "/",
        "//",
        "file://server/mnt/x",
        "file://mnt",
        "file:///",
        "file:///mnt/%00",
        "file:///mnt/%ff",
        "file:///mnt/%2e%2e/x",
    ],
)
def test_no_addresses(text: str) -> None:
    with pytest.raises(ValueError, match=r"must|than|characters|source only") as caught:
        parse_address(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["a/../b", "..", "./x"])
def test_no_folder_keys(text: str) -> None:
    with pytest.raises(ValueError, match="components"):
        folder_key(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://s3.amazonaws.com", "https://s3.amazonaws.com"),
        ("https://s3.amazonaws.com/", "https://s3.amazonaws.com"),
        ("s3.openshift-storage.svc", "https://s3.openshift-storage.svc"),
        ("minio.demo.svc:9000", "https://minio.demo.svc:9000"),
        ("http://minio:9000", "http://minio:9000"),
        ("HTTPS://S3.Example.COM:443", "https://s3.example.com:443"),
        ("http://[fd00::1]:9000", "http://[fd00::1]:9000"),
        ("https://gateway/storage/v1/s3/", "https://gateway/storage/v1/s3"),
        ("under_score.svc", "https://under_score.svc"),
    ],
)
def test_endpoints(text: str, expected: str) -> None:
    assert parse_endpoint(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://",
        "ftp://host",
        "s3://bucket",
        "https://user:secret@host",
        "https://host:port",
        "https://host:99999",
        "https://host:0",
        "https://host?x=secret",
        "https://host#x",
        "https://[fd00",
        "https://ho st",
        "https://hôst",
        "https://host/a b",
        "https://-host",
    ],
)
def test_no_endpoints(text: str) -> None:
    with pytest.raises(ValueError, match="must") as caught:
        parse_endpoint(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [
        ("rgw.rook-ceph.svc", "80", "http://rgw.rook-ceph.svc"),
        ("s3.openshift-storage.svc", "443", "https://s3.openshift-storage.svc"),
        ("s3.openshift-storage.svc", "", "https://s3.openshift-storage.svc"),
        ("minio", "9000", "https://minio:9000"),
        ("http://minio", "9000", "http://minio:9000"),
        ("https://rgw", "80", "https://rgw:80"),
        ("rgw:8443", "443", "https://rgw:8443"),
        ("fd00::1", "80", "http://[fd00::1]"),
    ],
)
def test_endpoint_of_a_bucket_claim(host: str, port: str, expected: str) -> None:
    assert host_endpoint(host, port) == expected


@pytest.mark.parametrize("port", ["x", "0", "65536", "-1", "tcp://10.0.0.1:80"])
def test_no_port_of_a_bucket_claim(port: str) -> None:
    with pytest.raises(ValueError, match="port from 1"):
        host_endpoint("host", port)


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("us-geo", "us"),
        ("us", "us"),
        (" US-Geo ", "us"),
        ("us-geo-standard", "us"),
        ("us-standard", "us"),
        ("eu-geo", "eu"),
        ("ap-geo-smart", "ap"),
        ("us-south", "us-south"),
        ("us south", "us-south"),
        ("us-south-smart", "us-south"),
        ("us-south-onerate_active", "us-south"),
        ("US-EAST-Vault", "us-east"),
        ("eu-de-cold", "eu-de"),
        ("jp-tok-flex", "jp-tok"),
        ("ams03", "ams03"),
        ("ams03-standard", "ams03"),
    ],
)
def test_regions_of_ibm(text: str, region: str) -> None:
    assert parse_region(text) == region


@pytest.mark.parametrize(
    "text", ["us-west", "us-east-1", "us-south-geo", "ams03-geo", "geo", "-smart", "us-", "us-geo-geo", "eu-de-deep"]
)
def test_no_regions_of_ibm_are_answered_with_the_list(text: str) -> None:
    with pytest.raises(ValueError, match=r"ap-geo, eu-geo, us-geo, au-syd, .*, us-south, ams03, .*, sng01"):
        parse_region(text)


def test_hosts_of_ibm() -> None:
    assert endpoint_of("us", "public") == "https://s3.us.cloud-object-storage.appdomain.cloud"
    assert endpoint_of("ams03", "private") == "https://s3.private.ams03.cloud-object-storage.appdomain.cloud"
    assert endpoint_of("eu-de", "direct") == "https://s3.direct.eu-de.cloud-object-storage.appdomain.cloud"


@pytest.mark.parametrize(
    ("text", "repository"),
    [
        ("ibm-granite/granite-3.1-8b-instruct", Repository("ibm-granite/granite-3.1-8b-instruct")),
        ("gpt2", Repository("gpt2")),
        ("ibm/granite/", Repository("ibm/granite")),
        ("ibm/granite@v1.0", Repository("ibm/granite", "v1.0")),
        ("hf://ibm/granite", Repository("ibm/granite")),
        ("HF://ibm/granite@refs/pr/1", Repository("ibm/granite", "refs/pr/1")),
        ("hf://ibm/granite@refs%2Fpr%2F1", Repository("ibm/granite", "refs/pr/1")),
        ("https://huggingface.co/ibm/granite", Repository("ibm/granite")),
        ("https://huggingface.co/ibm/granite/?library=transformers#usage", Repository("ibm/granite")),
        ("http://www.HuggingFace.co/gpt2", Repository("gpt2")),
        ("huggingface.co/ibm/granite", Repository("ibm/granite")),
        ("https://hf.co/ibm/granite/tree/refs%2Fpr%2F2", Repository("ibm/granite", "refs/pr/2")),
        ("https://huggingface.co/gpt2/tree/main", Repository("gpt2", "main")),
        ("a/" + "b" * 96, Repository("a/" + "b" * 96)),
    ],
)
def test_models_of_the_hub(text: str, repository: Repository) -> None:
    assert parse_repository(text) == repository


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a/b/c", "one slash"),
        ("https://huggingface.co/a/b/blob/main/config.json", "one slash"),
        ("https://huggingface.co/a/b/tree/main/sub", "one slash"),
        ("https://huggingface.co/datasets/a/b", "data sets"),
        ("https://mirror.example/a/b", "HF_ENDPOINT"),
        ("https://user:secret@huggingface.co/a/b", "HF_ENDPOINT"),
        ("hf:a/b", "hf://owner/name"),
        ("hf://", "letters"),
        ("/b", "letters"),
        ("a/b c", "letters"),
        ("a/modèle", "letters"),
        ("a/..", "begins or ends"),
        (".a/b", "begins or ends"),
        ("a/b-", "begins or ends"),
        ("a/b--c", "`--`"),
        ("a/b..c", "`..`"),
        ("a/" + "b" * 97, "96"),
        ("a/b.git", ".git"),
        ("a/b@", "branch"),
        ("hf://a/b@x y", "branch"),
        ("hf://a/b@%2e%2e/x", "branch"),
    ],
)
def test_no_models_of_the_hub(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        parse_repository(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["main", "v1.0", "refs/pr/1", "feature/x-y_z", "a" * 40, "größer"])
def test_revisions(text: str) -> None:
    assert parse_revision(text) == text


@pytest.mark.parametrize(
    "text", ["", "a b", "-x", "/x", "x/", ".x", "x.", "a..b", "a~1", "a^", "a:b", "a?b", "a*", "a\\b", "x.lock", "a//b"]
)
def test_no_revisions(text: str) -> None:
    with pytest.raises(ValueError, match="branch"):
        parse_revision(text)


@pytest.mark.parametrize(
    ("text", "patterns"),
    [
        ("*.json", ("*.json",)),
        ("*.json *.txt", ("*.json", "*.txt")),
        ("*.json,*.txt", ("*.json", "*.txt")),
        (" *.json,, \n *.txt , ", ("*.json", "*.txt")),
        ('["*.json", "a, b  c/*", " ", ""]', ("*.json", "a, b  c/*")),
        ('[\n "*.json"\n]', ("*.json",)),
        ("[]", ()),
        ("[ab]*.json", ("[ab]*.json",)),
        ("[ab]*,[0-9]*", ("[ab]*", "[0-9]*")),
    ],
)
def test_patterns(text: str, patterns: tuple[str, ...]) -> None:
    assert values.patterns(text) == patterns


@pytest.mark.parametrize(
    "text",
    ['["*.json"', '["a", 1]', '["a", ["b"]]', "['*.json']", '"*.json"', "'a' 'b'", '["\\ud800"]', '["a' + "[" * 9999],
)
def test_no_patterns(text: str) -> None:
    with pytest.raises(ValueError, match="JSON list"):
        values.patterns(text)


def test_skip_tasks() -> None:
    skip, notes = read_tasks(" download ,Compress-Model,, register-with-registry,upload-model-to-s3,evaluate\x1b")
    assert skip == {"download", "compress", "register", "upload-model-to-s3"}
    assert len(notes) == 1
    assert "evaluate\\x1b" in notes[0]


PARSERS: list[Callable[[str], Any]] = [
    values.flag,
    values.size,
    values.seconds,
    values.some_seconds,
    values.count,
    values.absolute_path,
    values.delete_mode,
    values.one_line,
    values.words,
    values.patterns,
    values.endpoint_kind,
    parse_region,
    parse_repository,
    parse_revision,
    bucket_name,
    object_key,
    parse_address,
    parse_endpoint,
    folder_key,
    lambda text: host_endpoint(text, "80"),
    lambda text: host_endpoint("host", text),
]
ANY_TEXT = st.text(alphabet=st.characters(), max_size=60)
LIKELY = st.lists(
    st.sampled_from(
        [
            "s3",
            "s3a",
            "hf",
            "file",
            "oci-archive",
            ":",
            "//",
            "/",
            "@",
            "%",
            "[",
            "]",
            "..",
            "1",
            "MiB",
            "h",
            "\0",
            "é",
            " ",
        ]
    ),
    max_size=12,
).map("".join)


@given(st.one_of(ANY_TEXT, LIKELY), st.sampled_from(PARSERS))
def test_any_text_is_a_value_or_a_value_error(text: str, parser: Callable[[str], Any]) -> None:
    with contextlib.suppress(ValueError):
        parser(text)


@given(st.one_of(ANY_TEXT, LIKELY))
def test_an_address_never_leads_outside(text: str) -> None:
    try:
        address = parse_address(text)
    except ValueError:
        return
    match address:
        case DirectoryPath(path):
            assert path.is_absolute()
            assert ".." not in path.parts
            assert ".syncer" not in path.parts
        case S3Path(bucket, prefix):
            assert "/" not in bucket
            assert not prefix.startswith("/")


@given(st.integers(min_value=1, max_value=5 * 2**20))
def test_a_size_survives_its_own_spelling(count: int) -> None:
    assert values.size(f"{count}MiB") == count * 2**20
    assert values.size(str(count * 1024)) == count * 1024
