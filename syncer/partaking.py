"""One pod's part of a run that several pods share: wait for the plan, carry a share of it, leave the rest to index 0.

`sharing/` has what it is made of; here is the order, and what happens when index 0 shares other work in the middle.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace

from syncer import bringing
from syncer.ends import Ends
from syncer.errors import NotThereYet, SourceChanged, SyncerError
from syncer.lease import Holder
from syncer.logs import logger
from syncer.manifest import Listing
from syncer.settings.locations import Settings, Share, UploadedByHand
from syncer.sharing import following
from syncer.sharing.board import PlanReplaced
from syncer.sharing.carrying import carry_share
from syncer.stop import StopSwitch
from syncer.stores.protocols import Destination


@dataclass(frozen=True)
class Ways:
    """How a run opens what it needs, each closed again at the end of a block."""

    destination: Callable[[StopSwitch], AbstractContextManager[Destination]]
    ends: Callable[[Settings, StopSwitch], AbstractContextManager[Ends]]
    list_source: Callable[[Ends], Listing]


@dataclass(frozen=True)
class Part:
    """What came of it: the whole files and all bytes that this pod carried; `skipped` says why there was nothing."""

    skipped: str = ""
    told: str = ""
    destination: str = ""
    revision: str = ""
    files: int = 0
    bytes: int = 0


def take_part(settings: Settings, share: Share, stop: StopSwitch, ways: Ways) -> Part:
    """Carry our share; from the start again whenever index 0 shares other work than before."""
    if isinstance(settings.source, UploadedByHand):
        return Part("a model that was uploaded by hand has no shares: index 0 looks at all of it")
    holder = Holder()
    while True:
        with stop.for_one_attempt() as ours:
            try:
                return _attempt(settings, share, ours, ways, holder)
            except SyncerError as error:
                if stop.thrown:
                    raise
                # Whose turn comes when all is over may have lost the lease of the share, too, which goes with the plan.
                why = error if isinstance(error, PlanReplaced) else ours.error or error
                if not isinstance(why, PlanReplaced):
                    if why is error:
                        raise
                    raise why from error
                logger(component="share").warning("plan_replaced", share=share.index, reason=why.message)


def _attempt(settings: Settings, share: Share, stop: StopSwitch, ways: Ways, holder: Holder) -> Part:
    unforced = replace(settings, transfer=replace(settings.transfer, force=False))

    def nothing_left() -> bool:
        with ways.ends(unforced, stop) as ends:
            return bringing.look(ends.run(0), ways.list_source(ends)).changes_nothing

    with ways.destination(stop) as destination:
        plan = following.Waiting(settings, share, stop, destination, nothing_left).plan()
    if plan is None:
        return Part("the model is sealed and the same as at the source: there is nothing left to share")
    told = f"share {share.index} of {share.count}"
    with ExitStack() as opened:
        ends = opened.enter_context(ways.ends(settings, stop))
        if plan.source != ends.source.name:  # a Job that is at its end, or one that nobody should have started beside
            raise NotThereYet(
                f"index 0 shares what {plan.source} has, and the source of this pod is {ends.source.name}",
                hint="let the other Job end: only one may write to one destination",
                stage="lease",
            )
        exact = following.pinned(settings.source, plan.revision)
        if exact != settings.source:
            ends = opened.enter_context(ways.ends(replace(settings, source=exact), stop))
        wanted = ways.list_source(ends)
        if ends.source.revision != plan.revision:
            raise SourceChanged(f"{plan.source} is not what index 0 has planned from", hint="start this pod again")
        carried = carry_share(ends.run(0), plan, share.index, wanted, holder=holder)
        if carried is None:
            return Part(f"{told} was done before")
        return Part(
            told=f"{told} is at {ends.destinations[0].name}; index 0 proves the whole model and seals it",
            destination=ends.destinations[0].name,
            revision=plan.revision,
            files=carried.files,
            bytes=carried.bytes,
        )
