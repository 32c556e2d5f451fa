"""Volumes: one that is small, one that the kernel makes read-only, one whose files share blocks. For root alone."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest


def fill_up(path: Path) -> None:
    """Take all the room there is; a run may still be writing what it had read, so the rest is not known before."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(64 * 1024))


@contextlib.contextmanager
def small_volume(mount: Path, size: str) -> Iterator[None]:
    """A tmpfs of so much at `mount`."""
    mount.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={size}", "none", str(mount))
    try:
        yield
    finally:
        _unmount(mount)


@dataclass(frozen=True)
class FailingVolume:
    """An ext4 file system in a file, which becomes read-only at an error, as most nodes mount theirs."""

    image: Path
    mount: Path

    def fail(self) -> None:
        """What a bad block does: no write comes through any more, open files included.

        https://www.kernel.org/doc/Documentation/ABI/testing/sysfs-fs-ext4: trigger_fs_error.
        """
        number = self.mount.stat().st_dev
        device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve().name
        Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("test")

    def repair(self) -> None:
        """What the node does before it mounts it again."""
        subprocess.run(["umount", self.mount], check=True)
        checked = subprocess.run(["e2fsck", "-f", "-p", self.image], check=False, stdout=subprocess.DEVNULL)
        assert checked.returncode in {0, 1}, checked  # e2fsck(8): 1 is "errors corrected"
        self.attach()

    def attach(self) -> None:
        _mount("-o", "loop,errors=remount-ro", str(self.image), str(self.mount))


@contextlib.contextmanager
def failing_volume(folder: Path, mount: Path, size: int) -> Iterator[FailingVolume]:
    """One of so many bytes at `mount`; `folder` keeps the file."""
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("mkfs.ext4 is not installed")
    image = folder / "volume.ext4"
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-b", "4096", image], check=True)
    mount.mkdir()
    volume = FailingVolume(image, mount)
    volume.attach()
    try:
        yield volume
    finally:
        _unmount(mount)


@contextlib.contextmanager
def sharing_volume(folder: Path, mount: Path) -> Iterator[None]:
    """An xfs at `mount`, whose files can share blocks; `folder` keeps the file that it lies in."""
    if shutil.which("mkfs.xfs") is None:
        pytest.skip("mkfs.xfs is not installed")
    image = folder / "volume.xfs"
    with image.open("wb") as file:
        file.truncate(300 << 20)  # mkfs.xfs makes none smaller
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", image], check=True)
    mount.mkdir()
    _mount("-o", "loop", str(image), str(mount))
    try:
        yield
    finally:
        _unmount(mount)


def _mount(*arguments: str) -> None:
    if os.geteuid() or subprocess.run(["mount", *arguments], check=False).returncode:
        pytest.skip("only root can mount a volume")


def _unmount(mount: Path) -> None:
    if mount.is_mount():
        subprocess.run(["umount", "--lazy", mount], check=True)
