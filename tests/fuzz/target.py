"""What is fed, and what counts as survived."""

import contextlib
import json
import re
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from syncer import redaction
from syncer.errors import InternalError, SyncerError
from syncer.logs import redact
from syncer.manifest import Listing
from syncer.progress import printed_bytes
from syncer.stores.protocols import ControlConflict

LONGEST_MESSAGE: Final = 32 * 1024
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class Target:
    """One parser: `feed` takes an input of it and may raise nothing but a `SyncerError` that is no `InternalError`.

    `repaired` puts sums of an input right, `share` is how many of all inputs are its, compared with the other parsers:
    6 for the quick ones, 1 for those that take a millisecond for each.
    """

    name: str
    feed: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    repaired: Callable[[bytes], bytes] = bytes
    share: int = 2


class Violated(AssertionError):
    """The parser ended well, or with an error of ours, and what came out must not."""


def survive(target: Target, data: bytes) -> str:
    """Feed one input; the name of the error that refused it, empty when it was taken.  Raises whatever is wrong."""
    try:
        target.feed(data)
    except ControlConflict:
        return "ControlConflict"
    except InternalError as error:
        raise Violated(f"an internal error: {error.message[:500]}") from error
    except SyncerError as error:
        _check_error(error)
        return type(error).__name__
    finally:
        # Secrets that answers told; a million of them would make every later look at a text slower.
        setattr(redaction, "_OF_THIS_PROCESS", redaction.Redactor())  # noqa: B010 - final to everybody else
    return ""


def _check_error(error: SyncerError) -> None:
    problems: Iterable[str] = getattr(error, "problems", ())
    for text in (error.message, error.hint, str(error), *problems):
        if found := _CONTROL.search(text):
            raise Violated(f"{type(error).__name__} with {found[0]!r} in its text: {text[:500]!a}") from error
    if len(error.message) + len(error.hint) > LONGEST_MESSAGE:
        raise Violated(f"{type(error).__name__} of {len(error.message)} characters") from error
    if error.exit_code not in {65, 66, 69, 70, 73, 75, 77, 78} or error.exit_code == 70:
        raise Violated(f"{type(error).__name__} ends with {error.exit_code}") from error
    json.dumps(redact(error.message))


def check_listing(listing: Listing) -> None:
    """A listing is what everything after it counts, prints, compares and joins to other paths."""
    for path, file in listing.files.items():
        told: tuple[object, object] = (file.path, file.version)  # by the types these are texts, whatever was listed
        if path != file.path or not all(isinstance(text, str) for text in told):
            raise Violated(f"a file that is called {file.path!r:.200}, of version {file.version!r:.200}")
        if type(file.size) is not int or not 0 <= file.size < 2**63:
            raise Violated(f"a file of {file.size!r:.200} bytes")
        if not all(isinstance(value, str) for value in file.digests.values()):
            raise Violated(f"digests that are no text: {file.digests!r:.200}")
    printed_bytes(listing.total_bytes)


@cache
def scratch() -> Path:
    """A folder of this process, in memory where the machine has one; it goes with the process."""
    home = Path("/dev/shm")
    folder = tempfile.TemporaryDirectory(prefix="fuzz-", dir=home if home.is_dir() else None)
    _KEPT.enter_context(folder)
    return Path(folder.name)


_KEPT: Final = contextlib.ExitStack()
