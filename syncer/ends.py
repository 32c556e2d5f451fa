"""What one run has opened: its source, its destinations and the registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from syncer.copying import Run, Show
from syncer.errors import SyncerError
from syncer.logs import Log, logger
from syncer.registration import Registration
from syncer.settings.locations import Settings, UploadedByHand
from syncer.stop import StopSwitch
from syncer.stores.protocols import Destination, Source


@dataclass
class Announcement:
    """Lets the registry know of the model, once in a run; `refusal` is why it would not hear of it."""

    registration: Registration | None = None
    made: bool = False
    refusal: SyncerError | None = None

    def __call__(self) -> None:
        """Announce it, unless that is done."""
        if self.registration is None or self.made:
            return
        try:
            self.registration.begin()
        except SyncerError as error:
            self.refusal = error
            raise
        self.made = True


@dataclass
class Ends:
    """Both ends of a run; there is at least one destination, and the first one is where a model is uploaded by hand.

    `open_anew` opens the source once more, and closes it with all others: one that was interrupted because a
    destination failed has no patience left.
    """

    settings: Settings
    stop: StopSwitch
    show: Show
    source: Source
    destinations: tuple[Destination, ...]
    open_anew: Callable[[], Source]
    registration: Registration | None = None
    announce: Announcement = field(default_factory=Announcement)
    log: Log = field(default_factory=lambda: logger(component="job"))

    def run(self, index: int, *, source: Source | None = None, stop: StopSwitch | None = None) -> Run:
        """The run to destination `index`, perhaps from another source and with a stop switch of its own."""
        by_hand = isinstance(self.settings.source, UploadedByHand)
        return Run(
            self.settings,
            stop or self.stop,
            self.show,
            source or self.source,
            self.destinations[index],
            in_place=by_hand and index == 0,
            announce=self.announce,
        )
