"""The worker from outside: started, fed, listened to, and ended with the run.

What it reports as refused becomes an error by remedy here, in one place; what it does not report is told from its exit:
a kill that was not ours is the kernel's, for want of memory.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

from pydantic import SecretStr

import syncer
from syncer.compressing.task import Task, parse
from syncer.errors import (
    ConfigurationError,
    CredentialsRefused,
    EndpointUnreachable,
    InternalError,
    OutOfSpace,
    SyncerError,
    Transient,
    one_line,
)
from syncer.logs import Log
from syncer.redaction import quoted
from syncer.settings.child import inherited
from syncer.settings.locations import Compression, HubDataset, Network
from syncer.stop import StopSwitch
from syncer.threads import NoThread, start
from syncer.trust import Trust

WORKER: Final = (sys.executable, "-m", "syncer.compressing.worker")
_REMEMBERED: Final = 20
_LONGEST_LINE: Final = 1000
_WARNING: Final = 30
_METRIC: Final = 38
"""llmcompressor's own level, of figures for whoever tunes it; above loguru's warnings."""
_NO_SPACE: Final = frozenset({28, 122})
"""ENOSPC and EDQUOT."""

_HINTS: Final = {
    "data": "correct DATASET: a data set of the Hub, or a path with rows of text, messages, or prompt and completion; "
    "COMPRESSION_SCHEME=FP8_DYNAMIC needs no data",
    "model": "take another COMPRESSION_SCHEME, name layers to leave in COMPRESSION_IGNORE, or unset COMPRESS_MODEL",
    "memory": "give the pod a GPU or a memory limit that fits, or lower SEQUENCE_LENGTH and NUM_CALIBRATION_SAMPLES",
    "library": "use the image with compression in it (target compress of the Containerfile), or unset COMPRESS_MODEL",
}


def refuse_without_library() -> None:
    """Raise `ConfigurationError` where this installation has nothing to compress with, before a byte is fetched."""
    for name in ("torch", "llmcompressor"):
        if importlib.util.find_spec(name) is None:
            raise _refusal("library", f"{name} is not installed")


def task_of(wanted: Compression, *, original: Path, result: Path, device_bytes: int) -> Task:
    """The task that `wanted` is for these two folders; `device_bytes` is what a GPU must have free."""
    data = wanted.dataset
    token = data.token if isinstance(data, HubDataset) else None
    return Task(
        original=str(original),
        result=str(result),
        scheme=wanted.scheme,
        algorithm=wanted.algorithm,
        group_size=wanted.group_size,
        ignore=wanted.ignore,
        sequence_length=wanted.sequence_length,
        samples=wanted.samples,
        dataset_path=str(data) if isinstance(data, Path) else "",
        dataset_name=data.name if isinstance(data, HubDataset) else "",
        dataset_token=token.get_secret_value() if isinstance(token, SecretStr) else "",
        device_bytes=device_bytes,
    )


def environment(wanted: Compression, network: Network, cache: Path) -> dict[str, str]:
    """What the worker is told by its environment: places to write, no telemetry, and the Hub only for a data set."""
    data = wanted.dataset
    offline = "0" if isinstance(data, HubDataset) else "1"
    told = {
        "HOME": str(cache),
        "TMPDIR": str(cache),
        "XDG_CACHE_HOME": str(cache),
        "HF_HOME": str(cache / "huggingface"),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
        "HF_HUB_OFFLINE": offline,
        "HF_DATASETS_OFFLINE": offline,
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TQDM_DISABLE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }
    if isinstance(data, HubDataset):
        bundle = cache / "authorities.pem"
        trust = Trust(network.ca_files)  # its file is there as long as it is
        bundle.write_bytes(Path(trust.bundle()).read_bytes())
        told |= {name: str(bundle) for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")}
        told |= {f"{scheme}_proxy": url for scheme, url in network.proxies.items()}
        told |= {"no_proxy": network.no_proxy} if network.no_proxy else {}
        told |= {"HF_ENDPOINT": data.endpoint} if data.endpoint else {}
    return inherited(told)


def work(task: Task, environ: Mapping[str, str], stop: StopSwitch, log: Log) -> None:
    """Have `task` done.  Raises what the worker refused, as an error by remedy, and the stop's own error."""
    stop.check()
    try:
        process = subprocess.Popen(
            list(WORKER),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environ),
            cwd=Path(syncer.__file__).parents[1],
            start_new_session=True,
            text=True,
            errors="replace",
        )
    except BlockingIOError as none:  # a process counts as much as a thread: fork(2), EAGAIN
        raise NoThread from none
    with process, stop.waking(lambda: _kill(process)):
        heard = _Heard(log)
        errors = threading.Thread(target=heard.listen_to_errors, args=(process.stderr,), name="worker", daemon=True)
        try:
            start(errors)
            with suppress(BrokenPipeError):  # it says why, or its exit does
                process.stdin.write(task.to_line())  # type: ignore[union-attr]  # both are pipes
                process.stdin.flush()  # type: ignore[union-attr]
            for line in process.stdout or ():
                heard.note(parse(line))
            code = process.wait()
            errors.join()
        finally:
            _kill(process)
    stop.check()
    if (error := heard.error(code)) is not None:
        raise error


def _kill(process: subprocess.Popen[str]) -> None:
    """End it and whatever it has started, now: nothing of it is of use."""
    if process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


class _Heard:
    """What the worker has said so far."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._last: deque[str] = deque(maxlen=_REMEMBERED)
        self._told: set[str] = set()
        self._end: Mapping[str, Any] = {}

    def listen_to_errors(self, stream: IO[str] | None) -> None:
        """What libraries print: details, and the last words of a crash."""
        for line in stream or ():
            if text := quoted(line, _LONGEST_LINE):
                self._last.append(text)
                self._log.debug("worker_spoke", message=text)

    def note(self, said: Mapping[str, Any]) -> None:
        """One line of the worker's."""
        fields = {name: value for name, value in said.items() if name != "said"}
        match said.get("said"):
            case "stage":
                self._log.info("stage_begun", stage=fields.get("stage"))
            case "layer":
                self._log.info("layer_compressed", **fields)
            case "device":
                self._log.info("device_found", **fields)
            case "data":
                tell = (
                    self._log.warning if fields.get("samples", 0) < fields.get("wanted_samples", 0) else self._log.info
                )
                tell("samples_read", **fields)
            case "log":
                self._pass_on(int(fields.get("level", 0)), one_line(str(fields.get("message", ""))))
            case "done" | "refused" | "failed":
                self._end = said

    def _pass_on(self, level: int, message: str) -> None:
        """What the library's own logger says; the same warning once."""
        warns = _WARNING <= level != _METRIC and message not in self._told
        self._told.add(message)
        (self._log.warning if warns else self._log.debug)("worker_spoke", message=message)

    def error(self, code: int) -> SyncerError | None:
        """Why it failed, or None when it is done."""
        end = self._end
        message = str(end.get("message", ""))
        match end.get("said"):
            case "done" if code == 0:
                return None
            case "refused":
                return _refusal(str(end.get("kind")), message)
            case "failed" if end.get("number") in _NO_SPACE:
                return OutOfSpace(
                    f"no space left while compressing: {message}",
                    hint="make the volume bigger, or point S3_SYNC_SCRATCH_DIR to another one",
                    stage="compress",
                )
            case "failed" if end.get("number"):
                return Transient(f"compressing failed: {message}", hint="look at the volume's health", stage="compress")
            case "failed":
                self._log.error("worker_spoke", message=str(end.get("trace", message)))
                return InternalError(f"compressing failed: {message}", stage="compress")
        if code == -signal.SIGKILL:
            return _refusal(
                "memory", "the process that compresses was killed, which the kernel does where memory is short"
            )
        last = "; ".join(list(self._last)[-3:])
        return InternalError(f"the process that compresses ended with {code}: {last}", stage="compress")


def _refusal(kind: str, message: str) -> SyncerError:
    match kind:
        case "unreachable":
            return EndpointUnreachable(
                message,
                hint="check HF_ENDPOINT and the way to it, or name samples of your own: DATASET=/path",
                stage="compress",
            )
        case "refused":
            return CredentialsRefused(
                message,
                hint="set HF_TOKEN to a token that may read it, and accept the data set's terms; or DATASET=/path",
                stage="compress",
            )
        case _:
            return ConfigurationError(f"the model cannot be compressed: {message}", hint=_HINTS.get(kind, ""))
