"""From a publisher's bucket into the cluster's bucket, then into a directory."""

from __future__ import annotations

from pathlib import Path

from hack.demo import proof
from hack.demo.jobs import load_job, load_secret, run
from hack.demo.model import digests, size_of
from hack.demo.places import CLUSTER, LEFT, PREFIX, PUBLISHED, SEAL, SIBLING
from hack.demo.servers import Services, publish
from hack.demo.telling import say, step


def story(model: Path, services: Services) -> None:
    """The Job of the templates, twice into a bucket, and twice into a directory."""
    expected = digests(model)
    size = size_of(model, expected)
    totals = {"files": len(expected), "bytes": size}

    step("A publisher's bucket with a real model")
    publish(services.client(services.published), model)
    cluster = services.client(services.cluster)
    cluster.create_bucket(Bucket=CLUSTER)
    say(f"{services.published}: s3://{PUBLISHED}/{PREFIX} with {len(expected)} files, {size} bytes")
    say(f"   beside it s3://{PUBLISHED}/{SIBLING}, which must not come along")
    say(f"{services.cluster}: s3://{CLUSTER}/, empty")

    source = load_secret(
        "model-source-s3.yaml",
        {
            "S3_SYNC_SRC__ENDPOINT": services.published,
            "S3_SYNC_SRC__PATH": f"s3://{PUBLISHED}/{PREFIX}",
            "S3_SYNC_SRC__ACCESS_KEY": "publisher",
            "S3_SYNC_SRC__SECRET_KEY": "publisher-secret-of-the-demo",
        },
    )
    job = load_job("synchronize-model.yaml", {"model-source": source, "demo-models": services.connection})

    step("The Job of job-templates/synchronize-model.yaml, into the cluster's bucket")
    proof.reported(run("bucket", job), copied_bytes=size, uri=f"s3://{CLUSTER}/models/", **totals)
    run("bucket-verify", job, "verify")
    say("verified by the program: everything read again at the destination")
    proof.in_bucket(cluster, expected)
    proof.nothing_copied("bucket", job, services.access.model_reads, **totals)

    step("The same Job with a volume as its destination")
    volume = LEFT / "volume"
    job = load_job(
        "synchronize-model.yaml", {"model-source": source, "demo-models": {"S3_SYNC_DEST__PATH": str(volume)}}
    )
    volume.mkdir()
    proof.reported(run("volume", job), copied_bytes=size, **totals)
    run("volume-verify", job, "verify")
    say("verified by the program: everything read again at the destination")
    proof.same(digests(volume), expected)
    proof.sealed((volume / SEAL).read_bytes())
    proof.nothing_copied("volume", job, services.access.model_reads, **totals)
    proof.no_secret_left(
        [source["S3_SYNC_SRC__SECRET_KEY"], services.connection["AWS_SECRET_ACCESS_KEY"]],
    )
