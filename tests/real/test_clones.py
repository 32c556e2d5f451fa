"""From folder to folder of one file system that shares blocks between files."""

from __future__ import annotations

import hashlib
import json
import os
import random
from pathlib import Path

import pytest

from tests.support.processes import Pod
from tests.support.small_volumes import sharing_volume

pytestmark = pytest.mark.real

MiB = 1 << 20


def test_a_model_takes_no_room_twice_and_is_proved_all_the_same(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    with sharing_volume(tmp_path, volume):
        data = random.Random(9).randbytes(60 * MiB + 17)
        (volume / "from").mkdir()
        (volume / "from" / "large.safetensors").write_bytes(data)
        (volume / "from" / "config.json").write_bytes(b"{}")
        os.sync()
        before = os.statvfs(volume)

        to = volume / "to"
        ended = Pod(tmp_path).run({"S3_SYNC_SRC__PATH": str(volume / "from"), "S3_SYNC_DEST__PATH": str(to)})

        assert ended.code == 0, ended
        assert (to / "large.safetensors").read_bytes() == data
        assert (to / "config.json").read_bytes() == b"{}"
        after = os.statvfs(volume)
        assert (before.f_bfree - after.f_bfree) * before.f_frsize < 20 * MiB
        manifest = json.loads((to / ".syncer" / "manifest.json").read_text())
        proofs = {entry["path"]: (entry["proved_by"], entry["digests"]["sha256"]) for entry in manifest["files"]}
        assert proofs["large.safetensors"] == ("readback", hashlib.sha256(data).hexdigest())
        assert proofs["config.json"] == ("stream", hashlib.sha256(b"{}").hexdigest())
