"""The Tekton pipeline, its steps as they are written: to a bucket, to an image registry, and registered.

Hub, image registry and Model Registry are played by the servers of the tests.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hack.demo import proof
from hack.demo.jobs import Job, run
from hack.demo.model import digests
from hack.demo.places import CLUSTER, LEFT
from hack.demo.servers import CLUSTER_SECRET, Services
from hack.demo.telling import Wrong, say, step
from tests.support import image_registry
from tests.support.fake_hub import FakeHub
from tests.support.fake_registry import FakeRegistry
from tests.support.image_registry import ImageRegistry
from tests.support.tekton import Run

NAME, VERSION, IMAGE = "all-minilm-l6-v2", "1.0.0", "demo/all-minilm-l6-v2"
FOLDER = f"model-data/{NAME}/{VERSION}/"
LEFT_OUT = {".gitattributes"}


def story(model: Path, services: Services) -> None:
    """The whole pipeline, and once more; then the image comes back as a source."""
    with (
        FakeHub() as hub,
        ImageRegistry(auth="bearer") as images,
        FakeRegistry() as registry,
        TemporaryDirectory() as mounted,
    ):
        secrets = _mount(Path(mounted), services.connection, images)
        _story(model, services, hub, images, registry, secrets)


def _story(
    model: Path,
    services: Services,
    hub: FakeHub,
    images: ImageRegistry,
    registry: FakeRegistry,
    secrets: Mapping[str, Path],
) -> None:
    step("A model on the Hub, a bucket, an image registry, a Model Registry")
    commit = hub.create(f"demo/{NAME}").commit({path: (model / path).read_bytes() for path in digests(model)})
    expected = {path: digest for path, digest in digests(model).items() if path not in LEFT_OUT}
    cluster = services.client(services.cluster)
    cluster.create_bucket(Bucket=CLUSTER)
    params = {
        "HUGGINGFACE_MODEL": f"demo/{NAME}",
        "HF_ENDPOINT": hub.endpoint,
        "MODEL_NAME": NAME,
        "S3_BUCKET": CLUSTER,
        "S3_ENDPOINT_URL": services.cluster,
        "OCI_IMAGE": f"{images.authority}/{IMAGE}",
        "MODEL_REGISTRY_URL": registry.url,
    }
    for name, value in params.items():
        say(f"{name:20} {value}")

    step("The pipeline of job-templates/tekton/pipeline.yaml")
    first = _go("first", params, secrets)
    uploaded = first.results["upload-model"]
    if uploaded["revision"] != commit:
        raise Wrong(f"the result revision is {uploaded['revision']}, the commit {commit}")
    proof.same(_in_bucket(cluster), expected)
    proof.same(_in_image(images), expected)
    say(f"the image {IMAGE}:{VERSION} has them below /models, each in a layer of its own")
    _registered(registry, commit)

    step("Again: nothing has changed, so nothing may be copied, pushed or registered")
    pushed, told = _layers_sent(images), len(registry.written)
    again = _go("again", params, secrets)
    if again.results["upload-model"]["digest"] != uploaded["digest"]:
        raise Wrong("the second run made another image")
    if _layers_sent(images) != pushed or len(registry.written) != told:
        raise Wrong("the second run pushed or registered something")
    say(f"one digest: {uploaded['digest'].rpartition(',')[2]}")

    step("The image as a source, into a folder")
    folder = LEFT / "from-image"
    source = {"S3_SYNC_SRC__PATH": f"oci://{images.authority}/{IMAGE}:{VERSION}", "S3_SYNC_DEST__PATH": str(folder)}
    proof.reported(
        run("from-image", Job(("-v",), _here(source | {"DOCKER_CONFIG": str(secrets["quay-auth"])}))),
        files=len(expected),
    )
    proof.same(digests(folder), expected)
    proof.no_secret_left([image_registry.PASSWORD, CLUSTER_SECRET])


def _mount(folder: Path, connection: Mapping[str, str], images: ImageRegistry) -> dict[str, Path]:
    """The two Secrets of the pipeline, a file for each key."""
    auth = base64.b64encode(f"{image_registry.USER}:{image_registry.PASSWORD}".encode()).decode()
    secrets = {
        "s3-credentials": {name: connection[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")},
        "quay-auth": {".dockerconfigjson": json.dumps({"auths": {images.authority: {"auth": auth}}})},
    }
    for name, keys in secrets.items():
        (folder / name).mkdir()
        for key, value in keys.items():
            (folder / name / key).write_text(value)
    return {name: folder / name for name in secrets}


def _go(name: str, params: Mapping[str, str], secrets: Mapping[str, Path]) -> Run:
    """One run of the pipeline, each step with the arguments and the environment that its YAML gives it."""
    volume = LEFT / "workspace"
    volume.mkdir(exist_ok=True)

    def carry_out(task: str, args: list[str], environ: dict[str, str]) -> int:
        answer = run(f"{name}-{task}", Job(tuple(args), _here(environ)))
        say(f"{task}: {answer['message']}")
        return 0

    ended = Run(params=params, workspaces={"shared-workspace": volume, **secrets}, folder=LEFT, carry_out=carry_out)
    ended.go()
    return ended


def _here(environ: Mapping[str, str]) -> dict[str, str]:
    """A step's environment on this machine, where all servers speak http."""
    return {**environ, "OCI_VALIDATE_TLS": "false", "S3_SYNC_ALLOW_PLAINTEXT_TOKENS": "true"}


def _in_bucket(s3: Any) -> dict[str, str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=CLUSTER, Prefix=FOLDER)
    keys = [item["Key"] for page in pages for item in page.get("Contents", ()) if "/.syncer/" not in item["Key"]]
    bodies = {key: s3.get_object(Bucket=CLUSTER, Key=key)["Body"].read() for key in keys}
    return {key.removeprefix(FOLDER): hashlib.sha256(body).hexdigest() for key, body in bodies.items()}


def _in_image(images: ImageRegistry) -> dict[str, str]:
    """What a runtime would unpack: SHA-256 of each file below /models."""
    found = {}
    for layer in images.document(VERSION, IMAGE)["layers"]:
        with tarfile.open(fileobj=io.BytesIO(images.repository(IMAGE).blobs[layer["digest"]])) as tar:
            for member in tar:
                content = tar.extractfile(member)
                if content is not None:
                    found[member.name.removeprefix("models/")] = hashlib.sha256(content.read()).hexdigest()
    return found


def _layers_sent(images: ImageRegistry) -> int:
    return sum(asked.received for asked in images.asked if asked.method in {"PATCH", "PUT"})


def _registered(registry: FakeRegistry, commit: str) -> None:
    artifact = registry.artifact
    if (artifact["state"], registry.text("revision")) != ("LIVE", commit):
        raise Wrong(f"the Model Registry has {artifact} of {registry.text('revision')}")
    say(f"registered: {registry.model['name']} {registry.version['name']}, {artifact['state']}, {artifact['uri']}")
