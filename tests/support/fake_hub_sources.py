"""Sources of the Hub for tests: opened as they need them, and closed behind each test."""

from pydantic import SecretStr

from syncer.retry import Patience
from syncer.settings.locations import HuggingFaceLocation, Network
from syncer.stores.huggingface import HuggingFaceSource
from tests.support.fake_hub import FakeHub

TOKEN = "hf_canary_of_the_hub_0123456789"
FILES = {"README.md": b"# A model", "config.json": b"{}", "model.safetensors": b"weights" * 1000, "a/b.txt": b"nested"}
AT_ONCE = Patience(seconds=0.0)

_open: list[HuggingFaceSource] = []


def opened(location: HuggingFaceLocation, *, patience: Patience = AT_ONCE) -> HuggingFaceSource:
    """A source at `location` that does not try again by itself."""
    _open.append(HuggingFaceSource(location, Network(), patience=patience))
    return _open[-1]


def source_of(hub: FakeHub, repository: str = "team/model", *, token: str = "", **more: object) -> HuggingFaceSource:
    """A repository of `hub`; more keywords go into its location."""
    location = HuggingFaceLocation(
        repository,
        endpoint=hub.endpoint,
        token=SecretStr(token) if token else None,
        plaintext_tokens=True,
        **more,  # type: ignore[arg-type]  # what a test says about the location
    )
    return opened(location)


def close_all() -> None:
    """Close every source that was opened."""
    while _open:
        _open.pop().close()
