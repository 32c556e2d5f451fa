"""The Model Registry: a run announces a model there, brings it, and completes the entries before it seals."""

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.frame import MODEL, Bench, Phase, Store
from tests.faults.services import ONE_BY_ONE, ToFolder, proxies_before, refusal, rows_of
from tests.support.fake_registry import FakeRegistry
from tests.support.http_faults import Kind
from tests.support.models import write_model

_READ = frozenset[Kind]({"document"})
_WRITTEN = frozenset[Kind]({"change", "document"})
PHASES = (
    Phase("look for the registry", r"^GET .*/registered_models\?pageSize", _READ),
    Phase("find the model", r"^GET .*/registered_model\?", _READ),
    Phase("create the artifact", r"^POST .*/artifacts$", _WRITTEN),
    Phase("complete the version", r"^PATCH .*/model_versions/", _WRITTEN),
    Phase("complete the artifact", r"^PATCH .*/model_artifacts/", _WRITTEN),
)
_FOLDERS = ("registered_models", "model_versions", "model_artifacts")


@dataclass
class RegistryBench(ToFolder):
    registry: FakeRegistry | None = None

    def anew(self) -> None:
        super().anew()
        assert self.registry is not None
        for entries in self.registry.entries.values():
            entries.clear()
        self.registry._numbers = itertools.count(1)

    def environment(self) -> Mapping[str, str]:
        return (
            ONE_BY_ONE
            | self.to_folder()
            | {
                "S3_SYNC_SRC__PATH": str(self.folder / "source"),
                "MODEL_REGISTRY_URL": self.services[0].used.endpoint,
                "MODEL_NAME": "granite",
                "MODEL_VERSION": "1",
                "MODEL_REGISTRY_TOKEN": "canary-of-the-faults",
                "S3_SYNC_ALLOW_PLAINTEXT_TOKENS": "true",
            }
        )

    def look(self) -> bool:
        for folder in _FOLDERS:
            assert len(self.entries(folder)) <= 1
        return super().look()

    def check(self) -> None:
        super().check()
        for folder in _FOLDERS:
            (entry,) = self.entries(folder)
            assert entry["state"] == "LIVE"
        assert self.entries("model_artifacts")[0]["uri"] == f"file://{self.target}/"

    def entries(self, folder: str) -> list[dict[str, Any]]:
        assert self.registry is not None
        return list(self.registry.entries[folder].values())

    def cost(self) -> str:
        return self.asked()


@contextmanager
def opened(_: pytest.FixtureRequest, folder: Path) -> Iterator[Bench]:
    write_model(folder / "source", MODEL)
    words = refusal(lambda code: {"code": code, "message": f"{code}, so it says"})
    with FakeRegistry() as registry, proxies_before(registry.url, folder, words) as there:
        yield RegistryBench(folder, (there,), registry=registry)


STORES = (
    Store(
        "model-registry",
        PHASES,
        rows_of(PHASES),
        opened,
    ),
)
