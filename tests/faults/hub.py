"""The Hugging Face Hub as the source: a Hub in this process and the storage that it redirects to, each with a proxy."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.frame import MODEL, READ, Bench, Phase, Store
from tests.faults.s3 import Proxies
from tests.faults.services import ONE_BY_ONE, ToFolder, proxies_before, refusal, rows_of
from tests.support.fake_hub import FakeHub

TOKEN = "hf_canary_of_the_faults_0123456789"
STORAGE = "read a part"
PHASES = (
    Phase("find the commit", r"^GET /api/models/.*/revision/|^GET /api/models/team/model$", frozenset({"document"})),
    Phase("list", r"^GET /api/models/.*/tree/", frozenset({"document"})),
    Phase("read a small file", r"^GET .*/resolve/.*/config\.json", frozenset({"bytes"})),
    Phase("find a large file", r"^GET .*/resolve/.*/model\.safetensors", frozenset()),
    Phase(STORAGE, r"^GET /repos/", frozenset({"bytes", "ranged"})),
)


@dataclass
class HubBench(ToFolder):
    hub: FakeHub | None = None

    def proxies_of(self, phase: Phase) -> Proxies:
        return self.services[phase.name == STORAGE]

    def environment(self) -> Mapping[str, str]:
        assert self.hub is not None
        there, storage = self.services
        self.hub.advertised_storage = storage.used.endpoint
        return (
            ONE_BY_ONE
            | self.to_folder()
            | {
                "HUGGINGFACE_MODEL": "team/model",
                "HF_TOKEN": TOKEN,
                "HF_ENDPOINT": there.used.endpoint,
                "S3_SYNC_ALLOW_PLAINTEXT_TOKENS": "true",
                "HUGGINGFACE_ALLOW_PATTERNS": "*",
                "AWS_CA_BUNDLE": str(self.folder / "both.pem"),
            }
        )

    def cost(self) -> str:
        return READ if self.more(r"/repos/|/config\.json|/vocab\.txt") else self.asked()


@contextmanager
def opened(_: pytest.FixtureRequest, folder: Path) -> Iterator[Bench]:
    words = refusal(lambda code: {"error": code})
    with ExitStack() as running:
        hub = running.enter_context(FakeHub())
        hub.tokens.add(TOKEN)
        repository = hub.create("team/model", private=True)
        repository.readers.add(TOKEN)
        repository.commit(MODEL)
        both = []
        for name, url in (("hub", hub.endpoint), ("storage", hub.storage)):
            (folder / name).mkdir()
            both.append(running.enter_context(proxies_before(url, folder / name, words)))
        (folder / "both.pem").write_text("".join(proxies.ca_file.read_text() for proxies in both))
        bench = HubBench(folder, tuple(both), hub=hub)
        yield bench


STORES = (
    Store(
        "hub",
        PHASES,
        rows_of(PHASES),
        opened,
    ),
)
