"""The tools that people use instead, as they come: s5cmd, rclone, the AWS CLI, s3cmd, and stock boto3.

`make bench` puts current ones into `.bench`; Debian's packages of rclone (old: 1.60, built with Go 1.19) and s3cmd take
part where they are installed.  s3-sync is on no package index: boto3's `upload_fileobj`, which it is made of, stands
for it.  None of them computes a digest of a whole file.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.clients import BENCH, STOCK, Leg, base_environment, stock
from benchmarks.compare import Client
from benchmarks.server import ACCESS_KEY, REGION, SECRET_KEY

S5CMD, S5CMD_FILES, S5CMD_PIPES = "s5cmd", "s5cmd by files", "s5cmd by pipes"
RCLONE, RCLONE_TUNED = "rclone", "rclone tuned"
OLD_RCLONE, AWS, S3CMD, HUB_CLIENT = "Debian's rclone", "aws s3", "s3cmd", "huggingface_hub, s5cmd"
UNNAMED = frozenset({OLD_RCLONE, AWS, S3CMD})
"""Slow, and in no target: one round over http is enough of them."""
ONCE = UNNAMED | {S5CMD_PIPES, RCLONE_TUNED}
"""Those, and the second way of a peer whose first one has been cheaper wherever both were measured."""
_MOST_PIPES = 64
_TUNED = ("--s3-chunk-size", "64M", "--s3-upload-concurrency", "4", "--transfers", "4", "--s3-disable-checksum")


def tool(name: str) -> str | None:
    """Where a peer of `make bench` is, None when it was not installed."""
    return shutil.which(name, path=str(BENCH))


def versions() -> dict[str, str]:
    """What every peer calls itself; those that are missing say so."""
    asked = {
        S5CMD: (tool("s5cmd"), "version"),
        RCLONE: (tool("rclone"), "version"),
        AWS: (tool("aws"), "--version"),
        OLD_RCLONE: (shutil.which("rclone"), "version"),
        S3CMD: (shutil.which("s3cmd"), "--version"),
    }
    found = {name: _first_line([path, word]) if path else "not installed" for name, (path, word) in asked.items()}
    code = "import boto3, botocore; print('boto3', boto3.__version__, 'botocore', botocore.__version__)"
    found[STOCK] = _first_line([sys.executable, "-c", code])
    if found[OLD_RCLONE] != "not installed":
        found[OLD_RCLONE] += " (old)"
    found["s3-sync"] = "not measured: on no package index; stock boto3, which it is made of, stands for it"
    return found


def _first_line(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    lines = (done.stdout or done.stderr).splitlines()
    return lines[0] if lines else f"exit {done.returncode}"


def peers(leg: Leg, *, names: Sequence[str], work: Path) -> list[Client]:
    """All peers that can go this way and are installed; `names` are the files, `work` is an empty folder.

    Over https none of the `UNNAMED`.
    """
    made = [stock(leg, files=min(len(names), 5))]
    if s5cmd := tool("s5cmd"):
        made += _s5cmd(leg, s5cmd, names, work)
    if rclone := tool("rclone"):
        made.append(_rclone(RCLONE, rclone, leg))
        if leg.src_endpoint and leg.dest_endpoint:
            made.append(_rclone(RCLONE_TUNED, rclone, leg, more=_TUNED))
    if not leg.authority and (old := shutil.which("rclone")):
        made.append(_rclone(OLD_RCLONE, old, leg))
    if not leg.authority and not (leg.src_endpoint and leg.dest_endpoint):
        if aws := tool("aws"):
            made.append(_aws(leg, aws))
        if s3cmd := shutil.which("s3cmd"):
            made.append(_s3cmd(leg, s3cmd))
    return made


def hub_peers(leg: Leg, *, endpoint: str, repository: str, work: Path) -> list[Client]:
    """From the Hub: its own client into a folder, and s5cmd from there.  None of the others knows the Hub."""
    s5cmd = tool("s5cmd")
    if not s5cmd:
        return []
    code = f"from huggingface_hub import snapshot_download as get; get({repository!r}, local_dir={str(work)!r})"
    steps = [
        shlex.join([sys.executable, "-c", code]),
        shlex.join(["rm", "-rf", f"{work}/.cache"]),
        shlex.join([s5cmd, "--endpoint-url", leg.dest_endpoint, "cp", f"{work}/", leg.target]),
    ]
    environment = _amazon(leg) | {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", "HOME": str(work.parent)}
    if leg.authority:
        environment["SSL_CERT_FILE"] = str(leg.authority)
    return [Client(HUB_CLIENT, ("bash", "-c", " && ".join(steps)), environment)]


def _amazon(leg: Leg) -> dict[str, str]:
    return base_environment(leg) | {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
    }


def _s5cmd(leg: Leg, program: str, names: Sequence[str], work: Path) -> list[Client]:
    """Between two endpoints it can only be a pipe of two for every file, or go by files."""
    environment = _amazon(leg)
    reading, writing = ([program, "--endpoint-url", end] for end in (leg.src_endpoint, leg.dest_endpoint))
    if leg.src_endpoint and leg.dest_endpoint:
        down = shlex.join([*reading, "cp", f"{leg.source}*", f"{work}/"])
        up = shlex.join([*writing, "cp", f"{work}/", leg.target])
        made = [Client(S5CMD_FILES, ("bash", "-c", f"{down} && {up}"), environment)]
        if len(names) <= _MOST_PIPES:
            ends = [([*reading, "cat", leg.source + name], [*writing, "pipe", leg.target + name]) for name in names]
            pipes = [f"{shlex.join(out)} | {shlex.join(into)} &" for out, into in ends]
            made.append(Client(S5CMD_PIPES, ("bash", "-c", "\n".join([*pipes, "wait"])), environment))
        return made
    if leg.src_endpoint:
        return [Client(S5CMD, (*reading, "cp", f"{leg.source}*", f"{leg.target}/"), environment)]
    return [Client(S5CMD, (*writing, "cp", f"{leg.source}/", leg.target), environment)]


def _rclone(name: str, program: str, leg: Leg, *, more: Sequence[str] = ()) -> Client:
    environment = base_environment(leg)
    environment.pop("AWS_CA_BUNDLE", None)  # version 1.60 fails outright with it
    for remote, endpoint in (("SRC", leg.src_endpoint), ("DST", leg.dest_endpoint)):
        environment |= {
            f"RCLONE_CONFIG_{remote}_TYPE": "s3",
            f"RCLONE_CONFIG_{remote}_PROVIDER": "Other",
            f"RCLONE_CONFIG_{remote}_ENDPOINT": endpoint,
            f"RCLONE_CONFIG_{remote}_ACCESS_KEY_ID": ACCESS_KEY,
            f"RCLONE_CONFIG_{remote}_SECRET_ACCESS_KEY": SECRET_KEY,
            f"RCLONE_CONFIG_{remote}_REGION": REGION,
        }
    source = leg.source.replace("s3://", "src:") if leg.src_endpoint else leg.source
    target = leg.target.replace("s3://", "dst:") if leg.dest_endpoint else leg.target
    trust = ["--ca-cert", str(leg.authority)] if leg.authority else []
    return Client(name, (program, "--config", "", "copy", source, target, *trust, *more), environment)


def _aws(leg: Leg, program: str) -> Client:
    endpoint = leg.src_endpoint or leg.dest_endpoint
    command = (program, "s3", "cp", "--recursive", "--only-show-errors", "--endpoint-url", endpoint)
    return Client(AWS, (*command, leg.source, leg.target), _amazon(leg))


def _s3cmd(leg: Leg, program: str) -> Client:
    host = (leg.src_endpoint or leg.dest_endpoint).partition("//")[2]
    trust = ["--ssl", f"--ca-certs={leg.authority}"] if leg.authority else ["--no-ssl"]
    command = [program, "--config=/dev/null", f"--host={host}", f"--host-bucket={host}", *trust, "--quiet"]
    command += [f"--access_key={ACCESS_KEY}", f"--secret_key={SECRET_KEY}", f"--region={REGION}", "--recursive"]
    way = ["get", leg.source, f"{leg.target}/"] if leg.src_endpoint else ["put", f"{leg.source}/", leg.target]
    return Client(S3CMD, (*command, *way), base_environment(leg))
