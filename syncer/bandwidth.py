"""The limit of the bandwidth: bytes come in no faster than the timetable allows, whoever reads them.

A lane takes its share of the limit before it reads, and little at once, so that its connections are never silent for
long: at 64 KiB a second 64 lanes read a kilobyte each second, instead of a megabyte in 16 minutes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from syncer.settings.timetable import Timetable
from syncer.stop import StopSwitch

_CREDIT: Final = 0.05
"""Seconds of the limit that may be made up for after a pause, so that a wait that ends late costs nothing."""
_LEEWAY: Final = 0.001
"""Seconds too early that are not worth a wait."""
_CHUNKS_A_SECOND: Final = 64
_SMALLEST_CHUNK: Final = 256
_UNLIMITED: Final = 1 << 62
_LOOK_SECONDS: Final = 1.0
_MINUTES: Final = 60


def minute_of_day() -> int:
    """What the pod's clock shows, in the time zone of `TZ`."""
    now = time.localtime()
    return now.tm_hour * _MINUTES + now.tm_min


class Throttle:
    """At most so many bytes a second over all lanes: within 5 % over any two seconds.  Safe from many threads.

    What counts is what this process reads from the network, once: the limit holds for each direction of the link.
    Files that are read back count too.  What stores copy among themselves and what a library fetches by itself does not
    pass here.
    """

    def __init__(
        self,
        limit: Timetable | None,
        stop: StopSwitch,
        *,
        clock: Callable[[], float] = time.monotonic,
        minute: Callable[[], int] = minute_of_day,
    ) -> None:
        self._limit = limit
        self._stop = stop
        self._clock = clock
        self._minute = minute
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._free = clock()
        self._look_at = self._free
        self._rate: int | None = None

    @property
    def chunk(self) -> int:
        """The most bytes that it is sensible to take at once now."""
        rate = self._rate_now()
        return _UNLIMITED if rate is None else max(_SMALLEST_CHUNK, rate // _CHUNKS_A_SECOND)

    def read(self, readinto: Callable[[memoryview], int], view: memoryview) -> int:
        """Read into `view` what the limit allows at once, when it does; the count of bytes that came.

        Raises what `readinto` raises, and the error of the stop switch.
        """
        if self._limit is None:
            return readinto(view)
        wanted = min(len(view), self.chunk)
        self.take(wanted)
        count = 0
        try:
            count = readinto(view[:wanted])
        finally:
            self.give_back(wanted - count)
        return count

    def take(self, count: int) -> None:
        """Wait until `count` bytes may come; raises the error of the stop switch."""
        if self._limit is None:
            return
        with self._turn:  # one lane waits for the clock, the others for that lane: in turn, and none for two shares
            while (pause := self._pause()) > _LEEWAY:
                self._stop.check()
                self._stop.wait(min(pause, _LOOK_SECONDS))
            self._stop.check()
            self._spend(count)

    def give_back(self, count: int) -> None:
        """`count` of the bytes that were taken did not come."""
        if count > 0:
            self._spend(-count)

    def _pause(self) -> float:
        """Seconds until the next byte may come."""
        rate = self._rate_now()
        with self._lock:
            now = self._clock()
            self._free = now if rate is None else max(self._free, now - _CREDIT)
            return self._free - now

    def _spend(self, count: int) -> None:
        rate = self._rate_now()
        with self._lock:
            if rate is not None:
                self._free += count / rate

    def _rate_now(self) -> int | None:
        """The limit of this minute; whoever sets the clock is noticed within a second."""
        if self._limit is None:
            return None
        with self._lock:
            if (now := self._clock()) >= self._look_at:
                self._rate = self._limit.at(self._minute())
                self._look_at = now + _LOOK_SECONDS
            return self._rate
