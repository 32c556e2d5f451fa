"""The destinations of one run, one after another: the source is read once, and none that fails takes the others along.

Each destination has its own plan, journal and lease.  The ones that are finished are sealed at once and stay so,
whatever becomes of the rest; the next run finds them up to date and does the rest alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

from syncer import bringing
from syncer.again import Again
from syncer.bringing import Brought
from syncer.ends import Ends
from syncer.errors import InternalError, SourceChanged, SourceMissing, SyncerError, WrongBytes, first_few
from syncer.lease import Holder
from syncer.manifest import Listing
from syncer.stores.protocols import Destination

_PERMANENT: Final = frozenset({os.EX_CONFIG, os.EX_NOPERM, os.EX_NOINPUT, os.EX_DATAERR, os.EX_CANTCREAT})
"""Exit codes that another pod would end with too."""
_NAMED: Final = 5

Failure = tuple[str, SyncerError]
"""The name of a destination, and why it failed."""


def bring_each(
    ends: Ends,
    wanted: Listing,
    *,
    list_source: Callable[[Ends], Listing],
    holder: Holder,
    leases: ExitStack,
    begun: float,
) -> list[Brought]:
    """Bring every destination to what `wanted` lists and seal it, without ids.

    A lease is given back with the seal, so that no two runs with the same destinations in another order wait for each
    other.  Where a registry is to be told, whose ids go into the seals, all leases are held on.

    Whatever ends the run ends it at once: a stop, a source that is gone, a registry that refuses.  A destination that
    fails is told of when all others had their turn: the error is then the most permanent one, and names them all.
    """
    done: list[Brought] = []
    failures: list[Failure] = []
    again: Again | None = None
    for index, destination in enumerate(ends.destinations):
        stop = leases.enter_context(ends.stop.for_one_attempt())  # a lease that is lost is lost for one destination
        run = ends.run(index, source=again, stop=stop)
        try:
            listing = again.proved(wanted) if again else wanted
            with ExitStack() as own:
                brought = bringing.bring(run, listing, holder=holder, leases=own)
                done.append(bringing.seal(brought, {}, begun=begun))
                if ends.registration is not None:
                    leases.enter_context(own.pop_all())
        except SyncerError as error:
            if _ends_all(error, ends):
                raise _with_state(error, failures, done) from None
            if again is not None and isinstance(error, WrongBytes):
                error.hint = f"the bytes came from {again.place}: `syncer verify` tells whether they are right there"
            failures.append((destination.name, error))
            _tell(ends, destination, error)
            # Wrong bytes may have come from the finished destination: the next one had better read the source.
            doubtful = again is None or again.interrupted or isinstance(error, WrongBytes)
            if doubtful and index + 1 < len(ends.destinations):
                again = None
                ends, wanted = _read_anew(ends, list_source, failures, done)
        else:
            again = again or Again(ends.source, destination, brought.manifest)
    if failures:
        raise worst(failures, done=[brought.run.destination.name for brought in done])
    return done


def worst(failures: Sequence[Failure], *, done: Sequence[str], verb: str = "finished") -> SyncerError:
    """The most permanent of the errors, the first among equals; its message names all and what is `done`."""
    error = min((error for _, error in failures), key=lambda error: error.exit_code not in _PERMANENT)
    reasons = first_few([f"{name}: {each.message}" for name, each in failures], _NAMED)
    total = len(failures) + len(done)
    finished = f"; {verb}: {first_few(done, _NAMED)}" if done else ""
    return error.reworded(f"{len(failures)} of {total} destinations failed: {reasons}{finished}")


def _read_anew(
    ends: Ends, list_source: Callable[[Ends], Listing], failures: Sequence[Failure], done: Sequence[Brought]
) -> tuple[Ends, Listing]:
    """The source opened and listed once more, for the destinations that are left."""
    try:
        ends = replace(ends, source=ends.open_anew())
        return ends, list_source(ends)
    except SyncerError as error:
        raise _with_state(error, failures, done) from None


def _tell(ends: Ends, destination: Destination, error: SyncerError) -> None:
    name, code = destination.name, error.exit_code
    ends.log.error("destination_failed", destination=name, reason=error.message, hint=error.hint, exit_code=code)


def _ends_all(error: SyncerError, ends: Ends) -> bool:
    """Whether `error` is no matter of one destination."""
    refused = error is ends.announce.refusal
    return refused or ends.stop.thrown or isinstance(error, SourceMissing | SourceChanged | InternalError)


def _with_state(error: SyncerError, failures: Sequence[Failure], done: Sequence[Brought]) -> SyncerError:
    """`error`, which says what had become of the destinations before it."""
    state = [f"{name} failed before: {each.message}" for name, each in failures]
    state += [f"{brought.run.destination.name} is finished" for brought in done]
    return error.reworded(f"{error.message} ({first_few(state, _NAMED)})") if state else error
