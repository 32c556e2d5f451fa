"""A repository on the bench of the contract suite: read-only, and each `put` is a commit."""

from collections.abc import Mapping
from contextlib import ExitStack

import pytest
from pydantic import SecretStr

from syncer.settings.locations import DestinationLocation, HuggingFaceLocation, Network
from syncer.stores import open_source
from syncer.stores.protocols import Destination, Source
from tests.support.abilities import Able
from tests.support.fake_hub import FakeHub


class HubBench(Able):
    """See `Bench`.  What a source has listed it reads for ever: tests of changes are skipped, `test_hub_*` has them."""

    part_size = 64
    takes_control_characters = True
    network = Network()

    def __init__(self, token: str) -> None:
        self._open = ExitStack()
        self._hub = self._open.enter_context(FakeHub())
        self._hub.tokens.add(token)
        self._token = token
        self._repository = self._hub.create("models/a")
        self._handed_out = False

    @property
    def place(self) -> DestinationLocation:
        raise NotImplementedError

    def below(self, folder: str) -> DestinationLocation:
        raise NotImplementedError

    def source(self) -> Source:
        self._handed_out = True
        return self._source("models/a")

    def single(self, path: str) -> Source:
        pytest.skip("a repository is never one file")

    def nowhere(self) -> Source:
        return self._source("models/nowhere")

    def destination(self) -> Destination:
        raise NotImplementedError

    def put(self, files: Mapping[str, bytes]) -> None:
        if self._handed_out:
            pytest.skip("what a commit holds never changes")
        self._repository.commit(files)

    def put_beside(self, path: str, data: bytes) -> None:
        self._hub.create("models/ab").commit({path: data})

    def remove(self, path: str) -> None:
        pytest.skip("what a commit holds never goes away")

    def far_end(self) -> dict[str, bytes]:
        raise NotImplementedError

    def close(self) -> None:
        self._open.close()

    def _source(self, repository: str) -> Source:
        location = HuggingFaceLocation(
            repository, endpoint=self._hub.endpoint, token=SecretStr(self._token), plaintext_tokens=True
        )
        source = open_source(location, Network())
        self._open.callback(source.close)
        return source
