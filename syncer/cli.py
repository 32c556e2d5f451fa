"""The command line: `sync` (also without the word) and the other sub-commands; thin, the story is in `job.py`.

Whatever happens between the first argument and the last byte ends here as an exit code and a report.  Old command
lines stay valid: flags before or after the sub-command, `SRC DEST` without one.  The flags are in `flags.py`.
Heavy modules are imported when a command needs them, so that `--help` costs nothing.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping, Sequence
from typing import Final

from syncer import __version__, commands
from syncer.commands import Call, Order
from syncer.report import LastWords
from syncer.stop import StopSwitch

COMMANDS: Final = ("sync", "plan", "verify", "wait", "upload", "register", "compress", "doctor")
_WITH_VALUE: Final = frozenset({
    "-s", "--src-endpoint", "-d", "--dest-endpoint", "--src-region", "--dest-region",
    "--max-threads-per-file", "--max-files", "--chunk-size", "--source", "--revision", "--deadline",
    "-n", "--namespace", "--secret", "--wait", "--finish-secret", "--version-from",
})  # fmt: skip


def run(arguments: Sequence[str], *, environ: Mapping[str, str], stop: StopSwitch, words: LastWords) -> int:
    """Carry out a command line and report; the exit code.  Raises only what breaks while it reports."""
    if {"-V", "--version"} & set(arguments):
        commands.print_result(f"syncer {__version__}")
        return os.EX_OK
    call = Call(environ=environ, stop=stop, words=words)
    line = with_command(arguments)
    try:
        order = _order(line)
        if not gc.isenabled():  # the entry point had it so: what was imported stays, and need not be looked at again
            gc.freeze()
            gc.enable()
        if order is not None:
            call.carry_out(order)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it must end in a report and an exit code
        call.failed(error)
    return words.outcome.exit_code if words.outcome else os.EX_OK


def with_command(arguments: Sequence[str]) -> list[str]:
    """`arguments` with the sub-command in front: the one that is there, else `sync`."""
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        if argument == "--":
            break
        if argument in _WITH_VALUE:
            position += 2
        elif argument.startswith("-"):
            position += 1
        elif argument in COMMANDS:
            return [argument, *arguments[:position], *arguments[position + 1 :]]
        else:
            break
    if {"-h", "--help"} & set(arguments):
        return ["--help"]
    return ["sync", *arguments]


def _order(line: list[str]) -> Order | None:
    if line == ["sync"]:  # as in a pod: there is nothing to parse
        from syncer.settings import CommandLine

        return commands.to_sync(CommandLine())
    from syncer import flags

    return flags.parse(line)
