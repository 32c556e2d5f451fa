"""Starting a thread where the pod may have no more of them: one clear error instead of the interpreter's own."""

from __future__ import annotations

import threading

from syncer.errors import ConfigurationError


class NoThread(ConfigurationError):
    """The pod may not have one more thread: each counts as a process (pids in cgroups(7), RLIMIT_NPROC)."""

    def __init__(self) -> None:
        super().__init__(
            "no thread may be started: the pod has all the processes that it may have",
            hint="raise the pod's limit of processes (pids), or let less run beside this one",
        )


def start(thread: threading.Thread) -> None:
    """Start `thread`; raises `NoThread` where the system gives none."""
    try:
        thread.start()
    except RuntimeError as error:
        if thread.ident is not None:
            raise  # it was started before, which is a mistake of ours
        raise NoThread from error
