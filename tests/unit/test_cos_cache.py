"""The file of the refresh token: in memory, ours alone, and for one passcode."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncer.errors import ConfigurationError
from syncer.redaction import redact
from syncer.stores.cos.cache import TokenCache
from tests.support.cos_places import file_in_memory, own_redactor

TOKEN = "refresh-token-canary"


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    with own_redactor():
        yield tmp_path / "token"


def mounts(tmp_path: Path, kind: str) -> Path:
    """A table of mounts in which the folder of the test is of this kind."""
    device = tmp_path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    table = tmp_path / "mountinfo"
    table.write_text(
        "22 28 0:21 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n"
        f"29 28 {number} / /some\\040where rw shared:1 master:2 - {kind} none rw,size=64k\n"
    )
    return table


def refusal(cache: TokenCache) -> ConfigurationError:
    def use() -> None:
        cache.check()
        cache.read()

    with pytest.raises(ConfigurationError) as caught:
        use()
    assert "S3_SYNC_COS_TOKEN_CACHE" in caught.value.hint
    assert "canary" not in caught.value.message
    return caught.value


def test_what_was_kept_is_found_by_the_same_passcode_alone(path: Path) -> None:
    TokenCache(path, "one").write(TOKEN)
    assert TokenCache(path, "one").read() == TOKEN
    assert TokenCache(path, "another").read() == ""
    TokenCache(path, "another").write("new")
    assert TokenCache(path, "another").read() == "new"
    assert TokenCache(path, "one").read() == ""
    assert list(path.parent.iterdir()) == [path]


def test_nothing_was_kept(path: Path) -> None:
    assert TokenCache(path, "one").read() == ""


def test_the_file_is_ours_alone_and_holds_no_passcode(path: Path) -> None:
    old = os.umask(0)
    try:
        TokenCache(path, "passcode-canary").write(TOKEN)
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600
    assert "passcode-canary" not in path.read_text()


def test_two_files_of_one_passcode_show_no_same_hash(path: Path) -> None:
    seen = set()
    for _ in range(2):
        TokenCache(path, "one").write(TOKEN)
        seen.add(json.loads(path.read_text())["passcode_sha256"])
    assert len(seen) == 2


def test_what_was_read_is_hidden_from_then_on(path: Path) -> None:
    TokenCache(path, "one").write("another-canary-token")
    assert redact("another-canary-token") != "***"
    TokenCache(path, "one").read()
    assert redact("another-canary-token") == "***"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_can_read_is_refused(path: Path, mode: int) -> None:
    cache = TokenCache(path, "one", mounts=mounts(path.parent, "tmpfs"))
    cache.write(TOKEN)
    path.chmod(mode)
    assert "others can read it" in refusal(cache).message


def test_a_link_is_not_followed(path: Path) -> None:
    TokenCache(path.with_name("real"), "one").write(TOKEN)
    path.symlink_to("real")
    refusal(TokenCache(path, "one", mounts=mounts(path.parent, "tmpfs")))


def test_a_pipe_is_no_file(path: Path) -> None:
    os.mkfifo(path, 0o600)
    assert "no file" in refusal(TokenCache(path, "one", mounts=mounts(path.parent, "tmpfs"))).message


@pytest.mark.parametrize("content", [b"", b"[]", b'"x"', b'{"refresh_token": "x"}', b"\xff\xfe", b"PASSWORD=canary"])
def test_a_foreign_file_is_not_overwritten(path: Path, content: bytes) -> None:
    path.touch(0o600)
    path.write_bytes(content)
    assert "not written by us" in refusal(TokenCache(path, "one", mounts=mounts(path.parent, "tmpfs"))).message


@pytest.mark.parametrize("kind", ["tmpfs", "ramfs"])
def test_memory_is_fine(path: Path, kind: str) -> None:
    TokenCache(path, "one", mounts=mounts(path.parent, kind)).check()


@pytest.mark.parametrize("kind", ["ext4", "xfs", "overlay", "nfs4"])
def test_a_token_must_not_reach_a_disk(path: Path, kind: str) -> None:
    error = refusal(TokenCache(path, "one", mounts=mounts(path.parent, kind)))
    assert f"is on {kind}, and a token must not reach a disk" in error.message


def test_an_unknown_file_system_is_no_memory(path: Path) -> None:
    table = path.with_name("mountinfo")
    table.write_text("22 28 0:21 / /sys rw - sysfs sysfs rw\n")
    assert "must not reach a disk" in refusal(TokenCache(path, "one", mounts=table)).message


def test_the_folder_must_be_there(path: Path) -> None:
    assert "cannot be looked at" in refusal(TokenCache(path / "nowhere" / "token", "one")).message


def test_this_machines_own_table_is_understood() -> None:
    TokenCache(file_in_memory(), "one").check()
    assert "must not reach a disk" in refusal(TokenCache(Path("/proc/token"), "one")).message
