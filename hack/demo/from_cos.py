"""From IBM Cloud Object Storage, with a passcode that works once, into the cluster's bucket.

IBM's IAM and its object storage are played by the servers of the tests: one-time passcodes, tokens that end, and a door
in front of the publisher's bucket that opens to a valid token alone.
"""

from __future__ import annotations

import os
from pathlib import Path

from hack.demo import proof
from hack.demo.jobs import Job, load_job, load_secret, run
from hack.demo.model import digests, size_of
from hack.demo.places import CLUSTER, PREFIX, PUBLISHED
from hack.demo.servers import Services, publish
from hack.demo.telling import Wrong, say, step
from tests.support.fake_cos import FakeCos
from tests.support.fake_iam import PASSCODE, REFRESH, FakeIam

CRN = f"crn:v1:bluemix:public:cloud-object-storage:global:a/account:instance:bucket:{PUBLISHED}"
TOKEN_SECONDS = 0.5


def story(model: Path, services: Services) -> None:
    """A login, a copy that outlives its tokens, a spent passcode, and a new one."""
    with FakeIam() as iam, FakeCos(iam, services.published) as cos:
        _story(model, services, iam, cos)


def _story(model: Path, services: Services, iam: FakeIam, cos: FakeCos) -> None:
    expected = digests(model)
    size = size_of(model, expected)
    totals = {"files": len(expected), "bytes": size}

    step("IBM COS with a real model, and a login")
    publish(services.client(services.published), model)
    cluster = services.client(services.cluster)
    cluster.create_bucket(Bucket=CLUSTER)
    iam.token_life = TOKEN_SECONDS
    say(f"{cos.url}: cos://{PUBLISHED}/{PREFIX} with {len(expected)} files, {size} bytes; opens to a token alone")
    say(f"{iam.url}: IBM's IAM; a passcode works once, and a token lives for {TOKEN_SECONDS} s (IBM's: an hour)")

    passcode = iam.new_passcode()
    job = _job(services, iam, cos, passcode)
    step("The Job of job-templates/synchronize-model-ibm-cos.yaml")
    proof.reported(run("bucket", job), copied_bytes=size, uri=f"s3://{CLUSTER}/models/", **totals)
    if len(iam.grants(PASSCODE)) != 1:
        raise Wrong(f"the passcode was sent {len(iam.grants(PASSCODE))} times")
    renewed = len(iam.grants(REFRESH))
    if not renewed:
        raise Wrong("no token was renewed, though the copy took longer than one lives")
    late = sum(not seen.valid for seen in cos.seen)  # on a busy machine half a second is little
    say(f"the passcode was sent once, the token was renewed {renewed} times")
    say(f"{len(cos.seen)} requests to COS with {len(cos.by_token)} tokens; {late} came too late and were repeated")
    proof.in_bucket(cluster, expected)

    step("A second pod with the same passcode: it is spent, so the Job fails at once")
    answer = run("spent", job, code=os.EX_NOPERM)
    say(f"termination message: {answer.get('message')}")
    say(f"   {answer.get('hint')}")
    if "BXNIM" not in str(answer.get("message")) or "passcode" not in str(answer.get("hint")):
        raise Wrong("the message lacks IBM's code, or the hint what to do")
    proof.in_bucket(cluster, expected)

    services.access.model_reads()
    step("A new Job with a new passcode: what is there is kept")
    proof.reported(run("new-passcode", _job(services, iam, cos, iam.new_passcode())), copied_bytes=0, **totals)
    if reads := services.access.model_reads():
        raise Wrong(f"it read model files: {reads}")
    say("the source's access log agrees: no model file was read")
    proof.no_secret_left([*iam.issued, services.connection["AWS_SECRET_ACCESS_KEY"]])


def _job(services: Services, iam: FakeIam, cos: FakeCos, passcode: str) -> Job:
    """The Job with the Secret of the field, nothing changed but values, and where IBM is on this machine."""
    secret = load_secret(
        "model-source-ibm-cos.yaml",
        {
            "S3_SYNC_COS_BUCKET": PUBLISHED,
            "S3_SYNC_COS_INSTANCE_CRN": CRN,
            "S3_SYNC_COS_MODEL_PREFIX": PREFIX.rstrip("/"),
            "S3_SYNC_COS_TEMPORARY_PASSCODE": passcode,
        },
        also={
            "S3_SYNC_COS_ENDPOINT": cos.url,
            "S3_SYNC_COS_IAM_ENDPOINT": iam.url,
            "S3_SYNC_ALLOW_PLAINTEXT_TOKENS": "true",
        },
    )
    return load_job("synchronize-model-ibm-cos.yaml", {"model-source": secret, "demo-models": services.connection})
