"""The limit of the bandwidth: one number, or a timetable of the day."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BeforeValidator

from syncer.settings.values import Form, size

_ENTRY: Final = re.compile(r"([0-9]{1,2}):([0-9]{2}),(\S+)")
_HOURS: Final = 24
_MINUTES: Final = 60


@dataclass(frozen=True)
class Timetable:
    """Bytes a second by the time of day; None is no limit.

    `entries` are minutes of the day, ascending, and what holds from then on; the last one holds beyond midnight.
    """

    entries: tuple[tuple[int, int | None], ...]

    def at(self, minute: int) -> int | None:
        """The limit at that minute of the day."""
        rate = self.entries[-1][1]
        for begins, limit in self.entries:
            if begins <= minute:
                rate = limit
        return rate

    def __str__(self) -> str:
        """The table as it may be set."""
        if len(self.entries) == 1 and self.entries[0][1] is not None:
            return str(self.entries[0][1])
        return " ".join(
            f"{begins // _MINUTES:02}:{begins % _MINUTES:02},{'off' if limit is None else limit}"
            for begins, limit in self.entries
        )


def timetable(text: str) -> Timetable:
    """`200MiB`, or a table such as `08:00,50MiB 20:00,off`, as rclone's `--bwlimit` has it."""
    if "," not in text and ":" not in text:
        return Timetable(((0, size(text)),))
    entries: dict[int, int | None] = {}
    for word in text.split():
        found = _ENTRY.fullmatch(word)
        if found is None or int(found[1]) >= _HOURS or int(found[2]) >= _MINUTES:
            raise ValueError("must be a size such as 200MiB, or a timetable such as 08:00,50MiB 20:00,off")
        minute = int(found[1]) * _MINUTES + int(found[2])
        if minute in entries:
            raise ValueError("has the same time twice")
        entries[minute] = None if found[3].lower() == "off" else size(found[3])
    return Timetable(tuple(sorted(entries.items())))


Bandwidth = Annotated[Timetable | None, BeforeValidator(timetable), Form("size or timetable")]
