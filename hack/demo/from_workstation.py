"""From a folder of this machine, whose name has a space, into the bucket of a cluster that one is logged in to.

The cluster's API is played by the server of the tests: a data connection that is there late and names an endpoint
inside of the cluster, and the route that leads to it from outside.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from hack.demo import proof
from hack.demo.jobs import LIMIT_SECONDS, Job, load_job, run
from hack.demo.model import digests, size_of
from hack.demo.places import CLUSTER, LEFT, REPOSITORY
from hack.demo.servers import Services
from hack.demo.telling import Wrong, say, step
from tests.support.fake_kubernetes import FakeKubernetes, running_kubernetes
from tests.support.podman import Unavailable, build, prepare, snapshot

NAMESPACE, CONNECTION, FINISHING = "demo", "demo-models", "model-source"
INSIDE = "http://s3.openshift-storage.svc"
FOLDER, MODEL, OTHER = "my downloads", "my model", "other-models"
IMAGE = "localhost/syncer-demo:latest"


def story(model: Path, services: Services) -> None:
    """Upload, once more with `--finish`, and the Job that waited for it."""
    with running_kubernetes(tls=True) as kubernetes:
        _story(model, services, kubernetes)


def _story(model: Path, services: Services, kubernetes: FakeKubernetes) -> None:
    expected = digests(model)
    size = size_of(model, expected)
    totals = {"files": len(expected), "bytes": size}

    step("A folder with a real model, and a cluster")
    folder = LEFT / FOLDER
    shutil.copytree(model, folder / MODEL)
    cluster = services.client(services.cluster)
    cluster.create_bucket(Bucket=CLUSTER)
    kubernetes.put_secret(NAMESPACE, CONNECTION, services.connection | {"AWS_S3_ENDPOINT": INSIDE}, late=1)
    kubernetes.put_route("openshift-storage", "s3", service="s3", host=urlsplit(services.cluster).netloc)
    login = kubernetes.kubeconfig(LEFT / "kubeconfig")
    say(f"{folder}: {MODEL}/ with {len(expected)} files, {size} bytes")
    say(f"{kubernetes.server}: the API of a cluster; {NAMESPACE}/{CONNECTION} is not there yet")

    step("syncer upload, as hack/upload.sh runs it in a container")
    workstation = Job((f"{MODEL}/",), {"KUBECONFIG": str(login)})
    answer = run("upload", workstation, "upload", folder=folder)
    proof.reported(answer, copied_bytes=size, uri=f"s3://{CLUSTER}/models/", **totals)
    say(f"it has waited for {NAMESPACE}/{CONNECTION}, and gone by the route to {INSIDE}")
    proof.in_bucket(cluster, expected)
    if any(method != "GET" for method, _ in kubernetes.asked):
        raise Wrong("the upload changed something in the cluster, and nobody asked it to")

    step("Once more, with --finish: nothing is copied, and the Secret is created that the Job waits for")
    proof.reported(run("finish", workstation, "upload", "--finish", folder=folder), copied_bytes=0, **totals)
    finishing = kubernetes.secret(NAMESPACE, FINISHING)
    say(f"{NAMESPACE}/{FINISHING}: {finishing}")

    step("The Job of job-templates/synchronize-model.yaml with that Secret")
    secrets = {FINISHING: finishing, CONNECTION: services.connection}
    proof.reported(run("job", load_job("synchronize-model.yaml", secrets)), copied_bytes=0, **totals)
    proof.in_bucket(cluster, expected)

    step("hack/upload.sh: the same in a container, into another bucket")
    cluster.create_bucket(Bucket=OTHER)
    other = services.connection | {"AWS_S3_ENDPOINT": INSIDE, "AWS_S3_BUCKET": OTHER}
    kubernetes.put_secret(NAMESPACE, OTHER, other, late=1)
    if missing := _in_a_container(folder, login):
        say(f"SKIPPED: {missing}")
    else:
        proof.in_bucket(cluster, expected, bucket=OTHER)

    login.unlink()
    proof.no_secret_left([kubernetes.token, services.connection["AWS_SECRET_ACCESS_KEY"]])


def _in_a_container(folder: Path, login: Path) -> str:
    """Run `hack/upload.sh`; what this machine lacks for it, or empty."""
    with tempfile.TemporaryDirectory(prefix="syncer-demo-") as scratch:
        say("building the image (some minutes the first time)")
        try:
            podman, base = prepare(Path(scratch))
            (context := Path(scratch, "context")).mkdir()
            build(podman, base, snapshot(context), IMAGE)
        except (Unavailable, RuntimeError, subprocess.TimeoutExpired) as missing:
            return str(missing).splitlines()[0]
        command = [str(REPOSITORY / "hack" / "upload.sh"), f"{MODEL}/", "--secret", OTHER]
        say(f"$ SYNCER_IMAGE={IMAGE} {shlex.join(['upload.sh', *command[1:]])}")
        settings = {"CONTAINER_ENGINE": "podman", "SYNCER_IMAGE": IMAGE, "KUBECONFIG": str(login)}
        with (LEFT / "upload-sh.log").open("w") as output:
            done = subprocess.run(
                command,
                env={**podman.environment, **settings},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=LIMIT_SECONDS,
                check=False,
            )
    if done.returncode:
        tail = "\n".join((LEFT / "upload-sh.log").read_text().splitlines()[-15:])
        raise Wrong(f"upload.sh: exit {done.returncode}\n{tail}")
    say("exit 0")
    return ""
