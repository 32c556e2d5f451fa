"""The process that compresses: `python -m syncer.compressing.worker`, a task on its input, lines on its output.

A process of its own keeps torch's memory and its crashes away from the run, can be ended at any moment, and tells a
model that is too large for the pod from everything else: the kernel ends the worker alone.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import traceback
from typing import Any, TextIO

from syncer.compressing.task import Refused, Task
from syncer.redaction import quoted, register_secrets


def main() -> None:
    """Do one task; how it went is the last line."""
    wire = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # whatever a library prints is for the log, not for our parent
    lock = threading.Lock()

    def tell(said: str, **fields: Any) -> None:
        with lock:
            wire.write(json.dumps({"said": said, **fields}) + "\n")

    line = sys.stdin.readline()
    if not line:
        return
    threading.Thread(target=_end_with_parent, args=(sys.stdin,), name="parent", daemon=True).start()
    try:
        task = Task.from_line(line)
        register_secrets([task.dataset_token])  # or the words of a library would be cut within it
        _be_quiet(tell)
        from syncer.compressing import library

        library.compress(task, tell)
    except Refused as refusal:
        tell("refused", kind=refusal.kind, message=refusal.message)
    except ImportError as error:
        tell("refused", kind="library", message=f"{error.name or error} is not installed")
    except MemoryError:
        tell("refused", kind="memory", message="the process has no memory left")
    except OSError as error:
        tell("failed", number=error.errno or 0, message=str(error))
    except Exception as error:  # noqa: BLE001 - the last frame of a process: its parent says what becomes of it
        tell("failed", number=0, message=f"{type(error).__name__}: {error}", trace=traceback.format_exc())
    else:
        tell("done")


def _end_with_parent(stdin: TextIO) -> None:
    """A parent that is gone has closed its end; nobody wants the result any more."""
    stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)


def _be_quiet(tell: Any) -> None:
    """Turn the libraries' loggers into lines of ours."""
    logging.captureWarnings(capture=True)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    try:
        import llmcompressor  # noqa: F401 - it sets its logger up when imported
        from loguru import logger
    except ImportError as error:
        raise Refused("library", f"{error.name or error} is not installed") from error

    def sink(message: Any) -> None:
        record = message.record
        tell("log", level=record["level"].no, message=quoted(str(record["message"]), 1000))

    logger.remove()
    logger.add(sink, level="INFO")


if __name__ == "__main__":
    main()
