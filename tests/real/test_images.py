"""ModelCars in Docker's own registry: pulled by skopeo, unpacked by umoci, every byte compared."""

import json
import multiprocessing
import os
import shutil
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from syncer import job
from syncer.errors import CredentialsRefused
from syncer.progress import Progress
from syncer.settings.locations import DirectoryLocation, ImageLocation, Network, RegistryLogin, Settings, Transfer
from syncer.stop import StopSwitch
from syncer.stores.oci.uploads import Chunk
from tests.contract.checks import some_bytes
from tests.support.docker_registry import COMMANDS, DockerRegistry, running_registry

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not all(map(shutil.which, COMMANDS)), reason=f"needs {', '.join(COMMANDS)} from the distribution's packages"
    ),
]
MiB = 1024 * 1024


@contextmanager
def quietly(_: Progress) -> Iterator[None]:
    yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    files = {"config.json": b"{}", "README.md": b"# card", "empty": b"", "sub/ünï.bin": some_bytes(5000)}
    files["sub/weights.safetensors"] = some_bytes(20 * MiB + 17)
    files["/".join(["deep" * 20] * 3) + "/x.json"] = b"[]"
    for path, content in files.items():
        (model / path).parent.mkdir(parents=True, exist_ok=True)
        (model / path).write_bytes(content)
    return model


@pytest.fixture
def place(tmp_path: Path) -> Path:
    found = tmp_path / "registry"
    found.mkdir()
    return found


def run(folder: Path, location: ImageLocation, registry: DockerRegistry, **transfer: Any) -> job.Result:
    network = Network(ca_files=(registry.ca_file,) if registry.https else ())
    settings = Settings(DirectoryLocation(folder), location, network=network, transfer=Transfer(**transfer))
    return job.sync(settings, StopSwitch(), quietly)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("auth", "https"), [("", False), ("basic", False), ("bearer", False), ("bearer", True)])
def test_a_model_arrives_whole_and_a_second_run_pushes_nothing(
    auth: Any, https: bool, folder: Path, place: Path, tmp_path: Path
) -> None:
    with running_registry(place, auth=auth, https=https) as registry:
        first = run(folder, registry.location(), registry)
        models = registry.unpacked("team/model:latest", tmp_path)
        assert content(models) == content(folder)
        assert {path.stat().st_mode & 0o777 for path in models.rglob("*") if path.is_file()} == {0o664}
        assert {path.stat().st_mode & 0o777 for path in (models, *models.rglob("*")) if path.is_dir()} == {0o775}
        again = run(folder, registry.location(), registry)
        assert (again.digest, again.copied_files) == (first.digest, 0)
        other = run(folder, registry.location("other/model"), registry)
        assert other.digest == first.digest
        assert (registry.tokens > 0) == (auth == "bearer")


def test_a_wrong_password_is_refused(folder: Path, place: Path) -> None:
    with running_registry(place, auth="basic") as registry:
        wrong = (RegistryLogin(registry.authority, "robot"),)
        with pytest.raises(CredentialsRefused):
            run(folder, registry.location(logins=wrong), registry)


def test_an_image_is_a_source(folder: Path, place: Path, tmp_path: Path) -> None:
    with running_registry(place, auth="bearer") as registry:
        run(folder, registry.location(), registry)
        back = tmp_path / "back"
        job.sync(Settings(registry.location(), DirectoryLocation(back)), StopSwitch(), quietly)
        shutil.rmtree(back / ".syncer")
        assert content(back) == content(folder)


@pytest.mark.parametrize("auth", ["", "bearer"])
def test_an_image_goes_to_another_repository_of_its_registry_without_its_bytes(
    auth: Any, folder: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_registry(place, auth=auth) as registry:
        run(folder, registry.location(), registry)
        sent: list[int] = []
        original = Chunk.send

        def noted(self: Chunk, data: memoryview) -> None:
            sent.append(len(data))
            original(self, data)

        monkeypatch.setattr(Chunk, "send", noted)
        job.sync(Settings(registry.location(), registry.location("other/model")), StopSwitch(), quietly)
        assert sum(sent) == 0
        assert content(registry.unpacked("other/model:latest", tmp_path)) == content(folder)
        (folder / "config.json").write_bytes(b"[]")
        run(folder, registry.location("third/model"), registry)
        assert sum(sent) > 20 * MiB  # that it would be counted


def test_a_killed_run_goes_on_by_file(folder: Path, place: Path, tmp_path: Path) -> None:
    """The largest file goes first; the rest waits behind a second one that is cut into many small parts."""
    (folder / "second.bin").write_bytes(some_bytes(12 * MiB, seed="second"))
    with running_registry(place) as registry:
        child = multiprocessing.get_context("fork").Process(
            target=run, args=(folder, registry.location(), registry), kwargs={"chunk_size": 64 * 1024, "max_files": 1}
        )
        child.start()
        state = f"http://{registry.authority}/v2/team/model/tags/list"
        deadline = time.monotonic() + 60
        while child.is_alive() and time.monotonic() < deadline and "syncer-state" not in _get(state):
            time.sleep(0.01)  # another process gets on in real time
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
        assert "syncer-state" in _get(state)
        ended = run(folder, registry.location(), registry)
        assert 0 < ended.copied_files < len(content(folder))
        assert content(registry.unpacked("team/model:latest", tmp_path)) == content(folder)
        assert json.loads(_get(state))["tags"] == ["latest"]


def test_memory_is_bounded(place: Path, tmp_path: Path) -> None:
    """A small model of the 3 GiB that were pushed by hand: see `docs/decisions/oci.md`."""
    model = tmp_path / "model"
    model.mkdir()
    with (model / "weights.safetensors").open("wb") as file:
        for number in range(40):
            file.write(some_bytes(10 * MiB, seed=str(number)))
    with running_registry(place) as registry:
        child = multiprocessing.get_context("spawn").Process(target=_push_within, args=(model, registry.location()))
        child.start()
        child.join()
        assert child.exitcode == 0


def _push_within(model: Path, location: ImageLocation) -> None:
    job.sync(Settings(DirectoryLocation(model), location), StopSwitch(), quietly)
    # Not `ru_maxrss`, which begins with what the parent had.
    high_water = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    assert int(high_water.split()[1]) < 200 * 1024


def _get(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""
