"""The pods beside index 0: each waits for the plan that all share, and reads what that was made from."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from syncer import marker
from syncer.errors import NotThereYet, SyncerError
from syncer.lease import LEASE, Holder
from syncer.logs import logger
from syncer.marker import parse_json
from syncer.settings.locations import HuggingFaceLocation, ImageLocation, Settings, Share, SourceLocation
from syncer.shares import RULE
from syncer.sharing import board
from syncer.sharing.board import SharedPlan
from syncer.stop import Clock, StopSwitch
from syncer.stores.oci.documents import is_digest
from syncer.stores.protocols import Destination

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


@dataclass
class Waiting:
    """Waits for the plan of a run that lives; `nothing_left` tells whether the sealed model is what the source has.

    The lease of a run that is gone lies there as that of one that lives: index 0 counts as alive once its lease has
    changed, or if it is a process of this very host.  As long as a lease beats there is hope; without, the patience is
    that for a destination.
    """

    settings: Settings
    share: Share
    stop: StopSwitch
    destination: Destination
    nothing_left: Callable[[], bool]
    clock: Clock = time.monotonic

    def __post_init__(self) -> None:
        self._looked = False
        self._lease: bytes | None = None
        self._alive = ""
        self._seal: marker.Seal | None = None

    def plan(self) -> SharedPlan | None:
        """The plan; None when there is nothing to do any more.  `NotThereYet` when nobody comes who has one."""
        log = logger(component="share", share=self.share.index)
        patience, begun = self.settings.wait_for_destination, self.clock()
        hope_until, told_at = begun + patience, float("-inf")
        while True:
            self.stop.check()
            now = self.clock()
            why = ""
            try:
                if self._beats():
                    hope_until = now + patience
                plan = self._shared()
                if plan is not None:
                    return plan
                if self._is_over(last=now >= hope_until):
                    return None
            except SyncerError as error:
                if not (error.retryable or isinstance(error, NotThereYet)):
                    raise
                why = error.message
            if now >= hope_until:
                raise NotThereYet(
                    f"nobody shares work at {self.destination.name}" + (f": {why}" if why else ""),
                    hint="look at the pod of index 0, which makes the plan; S3_SYNC_WAIT_FOR_DESTINATION says how long "
                    "to wait for it",
                    stage="lease",
                )
            if now - told_at >= self.settings.reporting.progress_interval:
                log.info("plan_awaited", destination=self.destination.name, reason=why or "index 0 has not shared one")
                told_at = now
            self.stop.wait(min(5 * board.POLL_SECONDS, max(board.POLL_SECONDS, (now - begun) / 10)))

    def _beats(self) -> bool:
        """Whether a run has been alive since the last look."""
        found = self.destination.control.read(LEASE)
        lease = found[0] if found else None
        holder = Holder.of(parse_json(lease) or {}) if lease else None
        changed, self._looked, self._lease = self._looked and lease != self._lease, True, lease
        if holder is None or not (changed or holder.is_here()):
            return False
        self._alive = holder.identity
        return True

    def _shared(self) -> SharedPlan | None:
        """The plan of the run that is alive; `NotThereYet` says why it is none of ours."""
        notice = board.read_notice(self.destination.control) if self._alive else None
        if notice is None or not notice.run or notice.holder != self._alive:
            return None
        if notice.rule != RULE:
            raise NotThereYet("index 0 shares the work by another rule: let all pods run the same image")
        if notice.count != self.share.count:
            raise NotThereYet(f"index 0 shares among {notice.count} pods, and S3_SYNC_SHARES is {self.share.count}")
        plan = board.read_plan(self.destination.control, notice.run)
        return plan if plan is not None and plan.count == self.share.count else None

    def _is_over(self, *, last: bool) -> bool:
        """Whether the model is sealed and the same as at the source; looked at once for each seal.

        A run that is to copy all of it anyway is over only if nobody begins with it for long.
        """
        seal = marker.read_seal(self.destination.control)
        if seal is None or seal == self._seal or (self.settings.transfer.force and not last):
            return False
        over = self.nothing_left()
        self._seal = seal  # not before: who could not look at the source has not looked
        return over


def pinned(location: SourceLocation | None, revision: str) -> SourceLocation | None:
    """The very commit or image that index 0 has planned from, whatever the name leads to by now, if anywhere.

    A plan that names neither says nothing of where to read, and what has no name for its revisions stays as it is.
    """
    match location:
        case HuggingFaceLocation() if _COMMIT.fullmatch(revision):
            return replace(location, revision=revision)
        case ImageLocation() if is_digest(revision):
            return replace(location, digest=revision)
        case _:
            return location
