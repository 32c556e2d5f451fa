"""What a run takes before it does anything: CPU from the start of the process to its first request, on each way.

    python -m benchmarks.startup

A socket that answers nobody stands for every server: when the first byte of a request comes in, the client's CPU time
is read and the client ended.  For a model that was uploaded by hand it is the whole run, against the stub.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from benchmarks.clients import REPOSITORY, Leg, ours
from benchmarks.compare import Client
from benchmarks.process import run
from benchmarks.server import Objects, Stub, build

ROUNDS = 5
BY_HAND = "uploaded by hand, whole run"
_PATIENCE_SECONDS = 60


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process until now, in nanoseconds' resolution (proc(5), schedstat)."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def to_first_request(client: Client, gate: socket.socket) -> float:
    """CPU seconds until the client has sent something to the gate.  `SystemExit` when it never does."""
    process = subprocess.Popen(
        client.command, env=dict(client.environment), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        peer, _ = gate.accept()
        with peer:
            peer.settimeout(_PATIENCE_SECONDS)
            peer.recv(1)
            return cpu_seconds(process.pid)
    except TimeoutError:
        raise SystemExit(f"{client.name} asks nobody anything: {' '.join(client.command)}") from None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        _drain(gate)


def _drain(gate: socket.socket) -> None:
    """Let go what the last client still asked for, or it would be taken for the next one."""
    patience = gate.gettimeout()
    gate.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            gate.accept()[0].close()
    gate.settimeout(patience)


def clients(endpoint: str, folder: Path) -> list[Client]:
    """One for each way."""
    model = folder / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    s3, out = "s3://src/model/", "s3://dst/models/"
    hub = {"HUGGINGFACE_MODEL": "team/model", "HF_ENDPOINT": endpoint, "S3_SYNC_ALLOW_PLAINTEXT_TOKENS": "true"}
    image = {"OCI_VALIDATE_TLS": "false"}
    authority = endpoint.removeprefix("http://")
    return [
        ours(Leg(s3, out, endpoint, endpoint), name="S3 to S3"),
        ours(Leg(s3, str(folder / "to"), endpoint), name="S3 to a directory"),
        ours(Leg(str(model), out, dest_endpoint=endpoint), name="directory to S3"),
        ours(Leg("", out, dest_endpoint=endpoint), name="Hugging Face to S3", settings=hub),
        ours(Leg(str(model), f"oci://{authority}/team/model"), name="directory to an image", settings=image),
    ]


def by_hand() -> float:
    """CPU seconds of a whole run for one small file that somebody else has uploaded."""
    model = Objects("dst/models/", 1, 1024)
    with Stub(build(REPOSITORY / "build"), objects=[model]) as server:
        leg = Leg("", "s3://dst/models/", dest_endpoint=server.url)
        client = ours(leg, settings={"S3_SYNC_LOCAL_UPLOAD_COMPLETE": "true"})
        costs = []
        for _ in range(ROUNDS):
            server.reset()
            cost = run(client.command, environment=client.environment)
            if cost.status:
                raise SystemExit(f"{BY_HAND}: exit {cost.status}: {cost.output}")
            costs.append(cost.cpu)
    return statistics.median(costs)


def measure() -> dict[str, float]:
    """CPU seconds by way, medians; the whole run for the one that is uploaded by hand."""
    found: dict[str, float] = {}
    with socket.create_server(("127.0.0.1", 0)) as gate, tempfile.TemporaryDirectory() as folder:
        gate.settimeout(_PATIENCE_SECONDS)
        for client in clients(f"http://127.0.0.1:{gate.getsockname()[1]}", Path(folder)):
            found[client.name] = statistics.median(to_first_request(client, gate) for _ in range(ROUNDS))
            shutil.rmtree(Path(folder) / "to", ignore_errors=True)
    return found | {BY_HAND: by_hand()}


def main() -> None:
    """Print the table."""
    print(f"CPU from the start of the process to its first request, median of {ROUNDS}, {os.cpu_count()} cores\n")
    print("| way | CPU s |\n|---|---|")
    for way, seconds in measure().items():
        print(f"| {way} | {seconds:.3f} |")


if __name__ == "__main__":
    main()
