"""Registrations of one model at a fake registry."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import Any

from syncer.registration import Description, Registration
from syncer.retry import Patience
from syncer.settings.locations import Network, RegistryLocation
from syncer.stop import StopSwitch

GB = 10**9
MODEL = Description(
    uri="s3://demo/models/granite?endpoint=https%3A%2F%2Fminio.example.com&defaultRegion=us-east-1",
    source="hf://ibm-granite/granite@main",
    revision="c0ffee",
    files=4,
    bytes=50 * GB,
    manifest="sha256:0123",
    storage_type="s3",
    storage_path="models/granite",
)
Make = Callable[..., Registration]


@contextmanager
def registrations(url: str, network: Network | None = None) -> Iterator[Make]:
    """What makes a `Registration` at `url` or another endpoint, with changes to its location.

    With `tries` it has patience, and its pauses take no time.
    """
    with ExitStack() as stack:

        def make(endpoint: str = "", *, tries: bool = False, **changes: Any) -> Registration:
            location = RegistryLocation(endpoint or url, model="granite", version="1.0.0")
            patience = Patience(seconds=60.0 if tries else 0.0, sleep=lambda _: None)
            made = Registration(replace(location, **changes), network or Network(), StopSwitch(), patience=patience)
            return stack.enter_context(closing(made))

        yield make
