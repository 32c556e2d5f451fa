"""How many lanes: more while that pays, fewer when a store asks for mercy.  Pure: it is told the time.

It climbs: what the present number brings is measured, then a larger one for a moment, and the larger one stays if each
lane more brings at least a quarter of what those before it did.  It doubles first, then tries half as many more, then a
quarter.  Later it tries again now and then, one time more lanes and one time fewer, and at once when what the link
gives has changed.

It does not measure while this process has next to nothing to do: its lanes then wait for the other side, and more of
them cost nothing.  So a far store has 32 lanes within a second; a near one, which eight lanes of two cores keep busy,
stays at eight.

A store that asks for mercy (503, 429, Retry-After) gets half as many lanes at once.  After a pause there are as many as
it was content with, and what it complained about is approached again by halves, slowly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_SETTLE: Final = 0.18
"""Seconds until what is measured counts: new lanes open connections, and superfluous ones end after their part."""
_SHORT: Final = 0.35
"""Seconds of a measurement while climbing."""
_LONG: Final = 1.0
"""Seconds of a measurement later, and of the second chance of a number that brought nothing at once."""
_FACTORS: Final = (2.0, 1.5, 1.25)
_LATER: Final = 1.5
"""The factor of trials that come later: what a smaller one brings would be lost in the noise."""
_WORTH: Final = 0.25
"""The part of its share that a lane more must bring."""
_LOSS: Final = 0.03
"""The part of the rate that fewer lanes may cost."""
_CHANGED: Final = 0.25
"""A rate that differs by this much, two measurements long, is a change of the link."""
_FIRST_REST: Final = 3.0
_LONGEST_REST: Final = 6.0
_MERCY: Final = 1.0
"""Seconds with half the lanes."""
_DEAF: Final = 1.0
"""Seconds in which further complaints are about what was sent before."""
_FORGETS: Final = 60.0
"""Seconds after which a store may have more room than it had."""
_IDLE: Final = 0.3
"""Of the cores that it may use: a process that takes less leaves the time to the stores and the way to them."""
_SPARE: Final = 1.15
"""What the cores could serve must be this many times as much as they serve, or more lanes only wait for each other."""
_UNMEASURED: Final = 32
"""So many lanes may there be before the first measurement."""
_FEW: Final = 8
"""So many lanes cost next to nothing, and fewer are not worth a trial."""
_NEAR: Final = 8
"""A number that differs from the one that a store complained about by an eighth of that is near enough to it."""
_PART_WORTH: Final = 256 * 1024
"""Bytes that a finished part counts for beside its own: of many small files the number is what is to grow."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the engine sees at one moment.

    `moved` bytes and `parts` are counted from the start of the run, `slow_downs` since the last look: answers 503, 429
    and the like.  `busy` lanes are on a part now, and `held` of them wait for memory.  `cpu` is what this process has
    used of its cores so far, in seconds.
    """

    now: float
    moved: int
    parts: int = 0
    busy: int = 0
    held: int = 0
    slow_downs: int = 0
    cpu: float = 0.0

    @property
    def work(self) -> int:
        """Bytes and requests in one number."""
        return self.moved + self.parts * _PART_WORTH


class Tempo:
    """The wanted number of lanes, asked for every fifth of a second or so; begins at `start`, at most `most`.

    `cores` is what this process may use of them, fractions included.
    """

    def __init__(self, *, most: int, start: int, cores: float) -> None:
        self.lanes = min(start, most)
        self._cores = cores
        self._most = most
        self._few = max(self.lanes, _FEW)
        # What has proved itself: how many lanes, and what they bring a second; 0 while that is not known.
        self._base = self.lanes
        self._rate = 0.0
        # The measurement under way: its first look, when it may begin, how long it takes.
        self._mark: Look | None = None
        self._begins = 0.0
        self._span = _SHORT
        self._second_chance = False
        # Whether nothing is measured yet because this process is idle; whether bytes come; the look before this one.
        self._leaping = True
        self._flows = False
        self._last: Look | None = None
        # Cores that were in use while the present number was measured.
        self._used = 0.0
        # What is tried next, and when.
        self._step = 0
        self._down = False
        self._rest = _FIRST_REST
        self._next_trial = 0.0
        self._odd = 0
        # What a store complained about last, and until when that counts.
        self._ceiling: int | None = None
        self._forgets = 0.0
        self._mercy_until: float | None = None
        self._deaf_until = 0.0

    def look(self, look: Look) -> int:
        """The lanes that there should be now."""
        if look.slow_downs and look.now >= self._deaf_until:
            self._give_way(look)
        elif self._mercy_until is not None:
            if look.now >= self._mercy_until:
                self._mercy_until = None
                self._go(self._base, look)
        elif 4 * look.busy < 3 * self.lanes:
            self._mark = None  # there is not work enough to tell anything
        elif not self._leap(look):
            self._measure(look)
        self._last = look
        return self.lanes

    def _leap(self, look: Look) -> bool:
        """Whether it is too early for a measurement; twice as many lanes while this process is idle.

        All leaps together are one trial: what they lead to is judged against what the first lanes brought.
        """
        if not self._leaping or self._last is None:
            return self._leaping
        moved, seconds = look.work - self._last.work, look.now - self._last.now
        if not moved or not self._flows:  # what comes first says nothing: its seconds began without a byte
            self._flows = self._flows or moved > 0
            return True
        idle = look.cpu - self._last.cpu < _IDLE * self._cores * seconds
        enough = min(self._most, _UNMEASURED)
        if idle and 4 * look.held <= look.busy and self.lanes < enough:
            self._rate = self._rate or moved / seconds
            self._go(min(enough, self.lanes * 2), look, trial=True)
        else:
            self._leaping = False
        return self._leaping

    def _measure(self, look: Look) -> None:
        if look.now < self._begins:
            return
        if self._mark is None:
            self._mark = look
        seconds = look.now - self._mark.now
        if seconds < self._span:
            return
        rate = (look.work - self._mark.work) / seconds
        self._used = (look.cpu - self._mark.cpu) / seconds
        self._mark = look
        if rate <= 0:
            return
        if self.lanes != self._base:
            self._judge(rate, look)
        else:
            self._watch(rate, look)

    def _watch(self, rate: float, look: Look) -> None:
        """The number that has proved itself: does it bring what it brought, and is it time to try another one?"""
        if self._rate and self._step == len(_FACTORS):
            self._odd = self._odd + 1 if abs(rate / self._rate - 1) > _CHANGED else 0
            if self._odd < 2:
                self._rate += (rate - self._rate) / 4 if not self._odd else 0
            else:
                self._rate, self._odd, self._step = rate, 0, 0
                self._rest, self._down, self._next_trial = _FIRST_REST, False, look.now
        else:
            self._rate = rate
        if look.now < self._next_trial:
            return
        target = self._target(look)
        if target != self.lanes:
            self._go(target, look, trial=True)
        else:
            self._settle(look)

    def _target(self, look: Look) -> int:
        """The number to try."""
        if self._down:
            return max(min(self.lanes, self._few), int(self.lanes / _FACTORS[-1]))
        if 4 * look.held > look.busy:
            return self.lanes  # memory is what there is too little of
        if self._ceiling is not None and look.now >= self._forgets:
            self._ceiling = None
        if self._ceiling is not None:
            near = self._ceiling - self.lanes <= max(1, self._ceiling // _NEAR)
            return self.lanes if near else (self.lanes + self._ceiling) // 2
        factor = _FACTORS[self._step] if self._step < len(_FACTORS) else _LATER
        served = self._cores / self._used if self._used else factor
        if served < _SPARE:
            return self.lanes
        return min(self._most, max(self.lanes + 1, int(self.lanes * min(factor, served))))

    def _judge(self, rate: float, look: Look) -> None:
        """The number that is tried: has it brought what it must?"""
        change, gain = self.lanes / self._base - 1, rate / self._rate - 1
        if gain >= (change * _WORTH if change > 0 else -_LOSS):
            self._base, self._rate, self._rest, self._next_trial = self.lanes, rate, _FIRST_REST, look.now
            if change < 0:
                self._settle(look)
            else:
                if self._step == len(_FACTORS) and self._ceiling is None:
                    self._step = 0  # there is more to gain than there was
                self._watch(rate, look)
        elif change > 0 and gain > -_LOSS and not self._second_chance:
            self._second_chance, self._span = True, _LONG
        else:
            if change > 0 and self._step < len(_FACTORS):
                self._step += 1
            if change < 0 or self._step == len(_FACTORS):
                self._settle(look)
            self._go(self._base, look)

    def _settle(self, look: Look) -> None:
        """Nothing more to gain for now: rest, and try the other direction next."""
        self._step = len(_FACTORS)
        self._span = _LONG
        self._next_trial = look.now + self._rest
        self._rest = min(_LONGEST_REST, self._rest * 1.5)
        self._down = not self._down and self._base > self._few

    def _go(self, lanes: int, look: Look, *, trial: bool = False) -> None:
        self.lanes = lanes
        self._mark = None
        self._begins = look.now + _SETTLE
        self._span = _LONG if self._step == len(_FACTORS) else _SHORT
        self._second_chance = trial and self._step == len(_FACTORS)
        if not trial:
            self._odd = 0

    def _give_way(self, look: Look) -> None:
        """A store asks for mercy."""
        complained = self.lanes
        self._ceiling, self._forgets, self._leaping = complained, look.now + _FORGETS, False
        if self._base >= complained:
            self._base = max(1, complained // 2)
        self._rate = 0.0
        self._step = len(_FACTORS)
        self._go(max(1, complained // 2), look)
        self._base = max(self._base, self.lanes)
        self._mercy_until = look.now + _MERCY
        self._deaf_until = look.now + _DEAF
        self._down = False
        self._rest = _FIRST_REST
        self._next_trial = look.now
