"""Whole runs from the Hub into a directory and into a bucket: settings in, a sealed model out, each digest checked."""

import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from syncer import job, logs
from syncer.errors import CredentialsRefused, Interrupted, SourceMissing, WrongBytes
from syncer.progress import Progress
from syncer.settings.locations import DirectoryLocation, HuggingFaceLocation, S3Location, Settings, Transfer
from syncer.stop import StopSwitch
from tests.support.buckets import S3Server
from tests.support.fake_hub import FakeHub, Fault, Repository
from tests.support.models import pattern, read_model, sha256

TOKEN = "hf_canary_of_the_hub_0123456789"
WEIGHTS = pattern(6_000_003)
MiB = 1 << 20
# Forty files: what a model of transformers with parts of its own looks like, in miniature.
FILES = (
    {
        "model.safetensors": WEIGHTS,
        "README.md": b"# A model",
        "LICENSE": b"free",
        "config.json": b"{}",
        "empty.txt": b"",
    }
    | {f"{n}_Dense/model.safetensors": pattern(20_000 + n, n) for n in range(1, 11)}
    | {f"{n}_Dense/config.json": b'{"number": %d}' % n for n in range(1, 11)}
    | {f"deep/er/still/part {n:02}+ü.txt": pattern(1_000 + n, 100 + n) for n in range(15)}
)
NOT_TAKEN = {
    ".gitattributes": b"*.safetensors filter=lfs",
    "pytorch_model.bin": b"twice",
    "original/params.json": b"{}",
}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def in_silence(_progress: Progress) -> Iterator[None]:
    yield


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hub(clock: Clock) -> Iterator[FakeHub]:
    with FakeHub(clock=clock, lifetime=60.0, page_size=15) as hub:
        hub.tokens.add(TOKEN)
        yield hub


@pytest.fixture
def repository(hub: FakeHub) -> Repository:
    repository = hub.create("team/model")
    repository.commit(FILES | NOT_TAKEN)
    return repository


def settings_of(hub: FakeHub, target: Path | S3Location, *, token: str = "") -> Settings:
    return Settings(
        source=HuggingFaceLocation(
            "team/model",
            endpoint=hub.endpoint,
            token=SecretStr(token) if token else None,
            plaintext_tokens=True,
        ),
        destination=DirectoryLocation(target) if isinstance(target, Path) else target,
        transfer=Transfer(chunk_size=5 * MiB),
        wait_for_destination=0.0,
    )


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "models"


def synchronize(settings: Settings, stop: StopSwitch | None = None) -> job.Result:
    return job.sync(settings, stop or StopSwitch(), in_silence)


def document(folder: Path, name: str) -> dict[str, object]:
    return dict(json.loads((folder / ".syncer" / name).read_bytes()))


def check_manifest(manifest: dict[str, object], repository: Repository, commit: str) -> None:
    """Every digest is the one of the bytes, and every one that the Hub knows is there."""
    entries = manifest["files"]
    assert isinstance(entries, list)
    assert (manifest["source"], manifest["revision"]) == ("hf://team/model", commit)
    assert [entry["path"] for entry in entries] == sorted(FILES)
    for entry in entries:
        path, data = entry["path"], FILES[entry["path"]]
        wanted = {"sha256": sha256(data)}
        if not repository.commits[commit][path].in_lfs:
            header = b"blob %d\0" % len(data)
            wanted["git_sha1"] = hashlib.sha1(header + data, usedforsecurity=False).hexdigest()
        assert (entry["digests"], entry["proved_by"]) == (wanted, "stream"), path


def test_forty_files_go_into_a_directory_with_each_digest_checked(
    hub: FakeHub, repository: Repository, target: Path
) -> None:
    assert len(FILES) == 40
    result = synchronize(settings_of(hub, target))
    commit = repository.branches["main"]
    assert (result.revision, result.files, result.copied_bytes) == (commit, 40, sum(map(len, FILES.values())))
    assert read_model(target) == FILES
    check_manifest(document(target, "manifest.json"), repository, commit)
    assert document(target, "complete.json")["revision"] == commit
    before = hub.bytes_served
    again = synchronize(settings_of(hub, target))
    assert (again.copied_bytes, hub.bytes_served) == (0, before)


def test_forty_files_go_into_a_bucket_with_each_digest_checked(
    hub: FakeHub, repository: Repository, s3: S3Server
) -> None:
    bucket = s3.new_bucket("demo")
    location = S3Location(
        bucket=bucket,
        prefix="models/",
        endpoint=s3.endpoint,
        region=s3.region,
        access_key=SecretStr(s3.access_key),
        secret_key=SecretStr(s3.secret_key),
    )
    result = synchronize(settings_of(hub, location))
    assert s3.read(bucket, "models/") == FILES
    check_manifest(json.loads(s3.control(bucket, "models/")[".syncer/manifest.json"]), repository, result.revision)


@pytest.mark.parametrize(
    ("where", "path", "host"),
    [("/repos/", "model.safetensors", "storage"), ("config.json", "1_Dense/config.json", "hub")],
)
def test_one_flipped_byte_is_caught_and_read_again(
    hub: FakeHub, repository: Repository, target: Path, where: str, path: str, host: str
) -> None:
    fault = Fault("flip", where, host=host, at=3)
    hub.fail(fault)
    synchronize(settings_of(hub, target))
    assert fault.times == 0
    assert read_model(target) == FILES
    check_manifest(document(target, "manifest.json"), repository, repository.branches["main"])


def test_a_byte_that_is_flipped_for_ever_is_wrong_and_named(hub: FakeHub, repository: Repository, target: Path) -> None:
    hub.fail(Fault("flip", "/LICENSE", times=-1, at=1))
    with pytest.raises(WrongBytes, match="LICENSE"):
        synchronize(settings_of(hub, target))
    assert not (target / ".syncer" / "complete.json").exists()


def test_a_branch_that_moves_during_a_run_changes_nothing(hub: FakeHub, repository: Repository, target: Path) -> None:
    first = repository.branches["main"]
    moved: list[str] = []

    def move(_: int) -> None:
        if not moved:
            moved.append(repository.commit({"config.json": b"[]", "new.txt": b"new"}, remove=("README.md",)))

    hub.on_bytes = move
    result = synchronize(settings_of(hub, target))
    assert moved
    assert result.revision == first
    assert read_model(target) == FILES
    before = hub.bytes_served
    result = synchronize(settings_of(hub, target))
    assert result.revision == moved[0]
    assert read_model(target)["config.json"] == b"[]"
    assert hub.bytes_served - before == len(b"[]") + len(b"new")


def test_a_stopped_run_resumes(hub: FakeHub, repository: Repository, target: Path) -> None:
    stop = StopSwitch()
    hub.on_bytes = lambda served: stop.throw(Interrupted()) if served > 3 * MiB else None
    with pytest.raises(Interrupted):
        synchronize(settings_of(hub, target), stop)
    hub.on_bytes = lambda _: None
    first = hub.bytes_served
    synchronize(settings_of(hub, target))
    assert read_model(target) == FILES
    assert hub.bytes_served - first < sum(map(len, FILES.values()))
    assert sorted(path.name for path in (target / ".syncer").iterdir()) == ["complete.json", "manifest.json"]


def test_a_signature_that_expires_in_the_middle_of_a_file_is_renewed(
    hub: FakeHub, repository: Repository, target: Path, clock: Clock
) -> None:
    def pass_time(_: int) -> None:
        clock.now += 61.0

    hub.on_bytes = pass_time
    one_by_one = Transfer(chunk_size=5 * MiB, max_files=1, max_threads_per_file=1)
    synchronize(replace(settings_of(hub, target), transfer=one_by_one))
    assert read_model(target) == FILES
    # Two parts: the first one's URL is refused for the second one.
    assert len(hub.requests("hub", f"/resolve/{repository.branches['main']}/model.safetensors")) == 2
    assert len(hub.requests("storage", f"/repos/{sha256(WEIGHTS)}")) == 3


def test_broken_answers_and_a_busy_hub_cost_nothing_but_time(
    hub: FakeHub, repository: Repository, target: Path
) -> None:
    hub.fail(Fault("short", "/repos/", at=70_000, host="storage"))
    hub.fail(Fault("status", "/repos/", status=429, host="storage", headers={"Retry-After": "0"}))
    hub.fail(Fault("status", "/resolve/", status=503))
    hub.fail(Fault("wrong_range", "/repos/", host="storage"))
    synchronize(settings_of(hub, target))
    assert read_model(target) == FILES


def test_what_may_not_be_read_leaves_the_destination_as_it_was(
    hub: FakeHub, repository: Repository, target: Path
) -> None:
    synchronize(settings_of(hub, target))
    sealed = document(target, "complete.json")
    repository.commit({"config.json": b"[]"})
    repository.gated = True
    with pytest.raises(CredentialsRefused):
        synchronize(settings_of(hub, target))
    repository.gated, repository.private = False, True
    with pytest.raises(SourceMissing):
        synchronize(settings_of(hub, target, token=TOKEN))
    assert read_model(target) == FILES
    assert document(target, "complete.json") == sealed


def test_no_token_and_no_signature_in_anything_that_is_said(hub: FakeHub, repository: Repository, target: Path) -> None:
    said = io.StringIO()
    logs.configure(verbosity=5, stream=said, terminal=False)
    try:
        repository.private = True
        repository.readers.add(TOKEN)
        hub.fail(Fault("short", "/repos/", at=70_000, host="storage"))
        hub.fail(Fault("status", "/repos/", status=403, host="storage"))
        synchronize(settings_of(hub, target, token=TOKEN))
        repository.readers.clear()
        with pytest.raises(SourceMissing):
            synchronize(settings_of(hub, target, token=TOKEN))
    finally:
        logs.configure()
    assert "files_excluded" in said.getvalue()
    assert "file_finished" in said.getvalue()
    left = "".join(path.read_text() for path in (target / ".syncer").rglob("*") if path.is_file())
    for secret in (TOKEN, "X-Amz-Signature="):
        assert secret not in said.getvalue() + left
    assert not any(seen.authorized for seen in hub.requests("storage"))
