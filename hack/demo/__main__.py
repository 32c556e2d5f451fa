"""Runs one story; exit 0 when all of it is as it should be, 1 at the first thing that is not."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import threading

from botocore.exceptions import BotoCoreError, ClientError

import hack.demo
from hack.demo import from_cos, from_hub, from_pipeline, from_s3, from_workstation
from hack.demo.model import MODEL, find_model
from hack.demo.places import CLUSTER, LEFT, REPOSITORY
from hack.demo.servers import Services, services
from hack.demo.telling import Wrong, say, step

STORIES = {
    "s3": from_s3.story,
    "cos": from_cos.story,
    "huggingface": from_hub.story,
    "pipeline": from_pipeline.story,
    "upload": from_workstation.story,
}


def where_to_look(services: Services, *, keep: bool) -> None:
    """Tell what is left, and with `keep` wait until somebody has looked at the servers."""
    step("All as it should be. Where to look")
    if (LEFT / "volume").exists():
        say("demo/volume/                     the model, as a pod that serves would mount it")
        say("demo/volume/.syncer/             manifest.json: SHA-256 of each file; complete.json: the seal")
    say("demo/*.log                       what each run logged")
    say("demo/*.termination.json          what each pod's status would show")
    if not keep:
        say("The S3 server ends with this script; make demo ARGS=--keep lets it run until Ctrl-C")
        return
    say(f"{services.cluster}  the cluster's bucket s3://{CLUSTER}/models/ for any S3 client (any keys)")
    say("Ctrl-C ends the server")
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def main() -> int:
    """Run one story; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m hack.demo",
        description=hack.demo.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--source", choices=sorted(STORIES), default="s3", help="what kind of source (default: s3)")
    parser.add_argument("--keep", action="store_true", help="leave the S3 server running at the end until Ctrl-C")
    given = parser.parse_args()
    shutil.rmtree(LEFT, ignore_errors=True)
    LEFT.mkdir()
    try:
        step("A real model")
        model = find_model()
        say(f"{MODEL}: {model}")
        with services() as running:
            STORIES[given.source](model, running)
            where_to_look(running, keep=given.keep)
    except (Wrong, BotoCoreError, ClientError, OSError, ValueError) as wrong:  # whatever it is, the promise is broken
        print(f"\n!! The demo failed: {type(wrong).__name__}: {wrong}", flush=True)
        print(f"!! Logs and messages: {LEFT.relative_to(REPOSITORY)}/", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
