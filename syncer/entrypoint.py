"""Where the process begins and ends: `python entrypoint.py` in the image, the console script `syncer` elsewhere.

Signal handlers stand before anything heavy is imported, also as PID 1, where the kernel gives signals no meaning of
their own.  This is the only module that exits.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NoReturn

from syncer.errors import Interrupted
from syncer.report import LastWords
from syncer.stop import StopSwitch
from syncer.threads import NoThread, start

if TYPE_CHECKING:
    from types import FrameType

GRACE_SECONDS: Final = 8.0
"""How long a run may take to end after a signal; the contract's ten seconds less what the last report may need."""

_REPORT_SECONDS: Final = 1.0
_STOPPING: Final = (signal.SIGTERM, signal.SIGINT)


def main() -> NoReturn:
    """Run the command line and end the process with its exit code."""
    stop, words = StopSwitch(), LastWords()
    watch = SignalWatch(stop, words, leave=os._exit)
    code = run(sys.argv[1:], stop, words, before=watch.install)
    for stream in (sys.stdout, sys.stderr):
        # A reader that went away does not change how the run ended.
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    # Not sys.exit: that waits for every thread, and one of them may be listening to a peer that fell silent.
    os._exit(code)


def run(arguments: list[str], stop: StopSwitch, words: LastWords, *, before: Callable[[], None] = lambda: None) -> int:
    """The command line's exit code; even what fails while it is imported, or `before`, is reported."""
    gc.disable()  # modules make no garbage worth a look; `cli` enables it again, before any work
    # Who is installed beside us has no say in our settings, and looking for them takes longer than reading those.
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    try:
        before()
        from syncer import cli

        return cli.run(arguments, environ=os.environ, stop=stop, words=words)
    except BaseException as error:  # noqa: BLE001 - the last net: whatever it is, the process ends with a report
        words.say(words.failure(error))
        return words.outcome.exit_code if words.outcome else os.EX_SOFTWARE
    finally:
        gc.enable()


class SignalWatch:
    """Turns SIGTERM and SIGINT into a stop; a run that does not end in time, and a second signal, end the process.

    Python runs signal handlers between two instructions of the main thread, which may hold any lock or be stuck in a
    call.  So the handlers do nothing, and a thread reads the numbers that the interpreter writes into a pipe as they
    arrive.  `leave` ends the process with an exit code.
    """

    def __init__(
        self,
        stop: StopSwitch,
        words: LastWords,
        *,
        leave: Callable[[int], object],
        grace: float = GRACE_SECONDS,
    ) -> None:
        self._stop = stop
        self._words = words
        self._leave = leave
        self._grace = grace
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)

    def install(self) -> None:
        """Set the handlers and start the thread; only from the main thread."""
        signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        for number in _STOPPING:
            signal.signal(number, _in_the_pipe)
        start(threading.Thread(target=self.watch, name="signals", daemon=True))

    def watch(self) -> None:
        """Wait for the first signal, stop the run, and leave when it is overdue or a second signal comes."""
        first = self._next_signal(None)
        if first is None:
            return
        # In a thread of its own: whoever is woken by the stop may hold us up, and the second signal must be heard.
        error = Interrupted(first)
        try:
            start(threading.Thread(target=self._stop.throw, args=(error,), name="stop", daemon=True))
        except NoThread:
            self._stop.throw(error)
        second = self._next_signal(self._grace)
        self._speak_for_the_run(first if second is None else second)

    def _speak_for_the_run(self, number: int) -> None:
        """The run is held up, or somebody is in a hurry: say that it was interrupted, and go."""

        def say() -> None:
            self._words.say(self._words.failure(Interrupted(number)))

        with suppress(NoThread):  # it ends without a word rather than not at all
            start(threading.Thread(target=say, name="last words", daemon=True))
            self._words.wait(_REPORT_SECONDS)
        outcome = self._words.outcome
        # Had the run its say before, then that is how it ended.
        self._leave(outcome.exit_code if outcome else 128 + number)

    def _next_signal(self, seconds: float | None) -> int | None:
        """The next signal's number; None when none comes within `seconds` or nobody can send one any more."""
        while True:
            ready, _, _ = select.select([self._reading], [], [], seconds)
            if not ready:
                return None
            number = os.read(self._reading, 1)
            if not number:
                return None
            if number[0] in _STOPPING:
                return number[0]


def _in_the_pipe(number: int, frame: FrameType | None) -> None:
    """The interpreter has already written `number` into the pipe."""
