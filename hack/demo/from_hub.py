"""From a repository of a Hugging Face Hub, gated and with a branch that moves, into a bucket and a directory.

The Hub and the storage that it redirects to are played by the servers of the tests; every file is proved against the
digest that the Hub has of it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hack.demo import proof
from hack.demo.jobs import Job, load_job, load_secret, run
from hack.demo.model import digests, size_of
from hack.demo.places import CLUSTER, LEFT, MANIFEST, SEAL
from hack.demo.servers import Services
from hack.demo.telling import Wrong, say, step
from tests.support.fake_hub import FakeHub, Fault, Repository

NAME = "demo/all-minilm-l6-v2"
TOKEN = "hf_token-of-the-demo"
WEIGHTS, TWICE = "model.safetensors", "pytorch_model.bin"
LEFT_OUT = {".gitattributes", TWICE}


def story(model: Path, services: Services) -> None:
    """One commit into a bucket, though a byte flips and the branch moves; then the next commit into a folder."""
    with FakeHub() as hub:
        _story(model, services, hub)


def _story(model: Path, services: Services, hub: FakeHub) -> None:
    step("A gated repository with a real model")
    repository = hub.create(NAME, gated=True)
    hub.tokens.add(TOKEN)
    repository.agreed.add(TOKEN)
    files = {path: (model / path).read_bytes() for path in digests(model)}
    first = repository.commit({**files, TWICE: b"the same weights in another format"})
    expected = {path: digest for path, digest in digests(model).items() if path not in LEFT_OUT}
    size = size_of(model, expected)
    cluster = services.client(services.cluster)
    cluster.create_bucket(Bucket=CLUSTER)
    say(f"{hub.endpoint}: {NAME}, main is {first[:12]}")
    say(f"   {', '.join(sorted(LEFT_OUT & repository.commits[first].keys()))} are there too, and must not come along")

    step("The Job of job-templates/synchronize-model.yaml, into the cluster's bucket")
    flip = Fault("flip", "/repos/", at=50_000_000)
    hub.fail(flip)
    moved = _move_once_reading_begins(hub, repository)
    say("on the way one bit of the weights will be wrong, once; and the branch moves while they are read")
    answer = run("bucket", _job(services.connection, hub, "main"))
    proof.reported(answer, revision=first, files=len(expected), bytes=size, uri=f"s3://{CLUSTER}/models/")
    if flip.times or not moved:
        raise Wrong("the bit was not flipped, or the branch did not move: this run proves nothing")
    proof.in_bucket(cluster, expected)
    say(f"all of it is commit {first[:12]}, though main is {repository.branches['main'][:12]} by now")
    _proved(cluster.get_object(Bucket=CLUSTER, Key=f"models/{MANIFEST}")["Body"].read(), expected)

    reads = _Reads(hub)
    pinned = _job(services.connection, hub, first)
    proof.nothing_copied("bucket", pinned, reads, revision=first, files=len(expected), bytes=size)

    step("The same Job with a volume as its destination: what the branch has now")
    volume = LEFT / "volume"
    volume.mkdir()
    job = _job({"S3_SYNC_DEST__PATH": str(volume)}, hub, "main")
    second = repository.branches["main"]
    proof.reported(run("volume", job), revision=second, files=len(expected))
    run("volume-verify", job, "verify")
    say("verified by the program: everything read again at the destination")
    changed = model / "README.md"
    found = digests(volume)
    if found.pop("README.md") == expected["README.md"]:
        raise Wrong("README.md is the one of the first commit")
    proof.same(found, {path: digest for path, digest in expected.items() if path != changed.name})
    proof.sealed((volume / SEAL).read_bytes())
    _proved((volume / MANIFEST).read_bytes(), digests(volume))

    step("The token went to the Hub alone")
    if told := [seen.path for seen in hub.requests("storage") if seen.authorized]:
        raise Wrong(f"the storage was sent the token: {told}")
    say(f"{len(hub.requests('storage'))} requests to the storage that the Hub redirects to, none with the token")
    proof.no_secret_left([TOKEN, services.connection["AWS_SECRET_ACCESS_KEY"]])


class _Reads:
    """What was read of the model's files since it was asked last."""

    def __init__(self, hub: FakeHub) -> None:
        self._hub = hub
        self._at = 0

    def __call__(self) -> list[str]:
        seen, self._at = self._hub.seen[self._at :], len(self._hub.seen)
        files = [each for each in seen if "/resolve/" in each.path or each.host == "storage"]
        return [each.path for each in files if each.method == "GET"]  # a HEAD asks whether we may, and reads nothing


def _move_once_reading_begins(hub: FakeHub, repository: Repository) -> list[str]:
    """Commit something else to main as soon as a megabyte was served; the commit is in the list then."""
    moved: list[str] = []

    def on_bytes(served: int) -> None:
        if served > 1 << 20 and not moved:
            moved.append(repository.commit({"README.md": b"# Something else\n"}))

    hub.on_bytes = on_bytes
    return moved


def _proved(manifest: bytes, expected: dict[str, str]) -> None:
    """The manifest says of each file that this process saw its bytes, and the digest that we have computed."""
    files: list[dict[str, Any]] = json.loads(manifest)["files"]
    for file in files:
        if file["proved_by"] != "stream" or file["digests"]["sha256"] != expected[file["path"]]:
            raise Wrong(f"the manifest proves {file['path']} otherwise: {file}")
    say(f"{MANIFEST}: {len(files)} files, each proved while it streamed")


def _job(connection: dict[str, str], hub: FakeHub, revision: str) -> Job:
    secret = load_secret(
        "model-source-huggingface.yaml",
        {"HUGGINGFACE_MODEL": NAME, "HUGGINGFACE_REVISION": revision},
        also={"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "S3_SYNC_ALLOW_PLAINTEXT_TOKENS": "true"},
    )
    return load_job("synchronize-model.yaml", {"model-source": secret, "demo-models": connection})
