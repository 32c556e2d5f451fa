"""Whole runs in this process, without the command line: settings in, a sealed model out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from syncer import job
from syncer.progress import Progress
from syncer.registration import registration
from syncer.retry import Patience
from syncer.settings.locations import DirectoryLocation, Settings
from syncer.stop import StopSwitch
from tests.support.buckets import S3Server, running_moto
from tests.support.models import small_model, write_model

Run = Callable[..., job.Result]


@contextmanager
def in_silence(_progress: Progress) -> Iterator[None]:
    yield


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_model(tmp_path / "source", small_model())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "volume" / "models"


@pytest.fixture
def settings(source: Path, target: Path) -> Settings:
    target.parent.mkdir()
    return Settings(source=DirectoryLocation(source), destination=DirectoryLocation(target), wait_for_destination=0.0)


@pytest.fixture
def run(settings: Settings) -> Run:
    """Run once more; keywords change the settings of this one run, `transfer_...` those of the transfer."""

    def once(stop: StopSwitch | None = None, **changes: object) -> job.Result:
        transfer = {name[9:]: changes.pop(name) for name in list(changes) if name.startswith("transfer_")}
        changed = replace(settings, transfer=replace(settings.transfer, **transfer), **changes)  # type: ignore[arg-type]
        return job.sync(changed, stop or StopSwitch(), in_silence)

    return once


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second try of what the Model Registry refuses."""
    monkeypatch.setattr(registration, "PATIENCE", Patience(seconds=0.0))


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """One server for all flow tests; its buckets are cheap, so that each test takes its own."""
    with running_moto() as server:
        yield server
