"""The commands of docs/upload-by-hand.md do what the chapter says: run from it, with the real tools, against Ceph.

Only `oc` is played, since there is no cluster: it answers what the chapter asks it.  `mc` cannot be had everywhere.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.manifests import ROOT, secret
from tests.support.processes import Pod
from tests.support.rados_gateway import RadosGateway

pytestmark = pytest.mark.real

CHAPTER = ROOT / "docs" / "upload-by-hand.md"
PREPARE = "The bucket, from outside"
TOOLS = ["aws", "rclone", "s3cmd", "mc"]
MODEL = {
    "config.json": b"{}",
    "model-00001-of-00001.safetensors": bytes(range(256)) * (80 << 10),  # 20 MiB: several parts, whatever the tool
    "odd name +ü.txt": b"odd",
    "empty.txt": b"",
    "sub/config.json": b'{"sub": true}',
    "linked.json": b"{}",
}

_OC = """\
#!/bin/sh
case "$*" in
"-n demo get secret demo-models -o jsonpath={.data.AWS_S3_BUCKET}") printf %s "$PLAYED_BUCKET" | base64 ;;
"-n demo get secret demo-models -o jsonpath={.data.AWS_ACCESS_KEY_ID}") printf %s "$PLAYED_ACCESS_KEY" | base64 ;;
"-n demo get secret demo-models -o jsonpath={.data.AWS_SECRET_ACCESS_KEY}") printf %s "$PLAYED_SECRET_KEY" | base64 ;;
"-n openshift-storage get route s3 -o jsonpath={.spec.host}") printf %s "$PLAYED_HOST" ;;
"-n openshift-config-managed get configmap default-ingress-cert -o jsonpath={.data.ca-bundle"*) cat "$PLAYED_CA" ;;
*) echo "oc: not played: $*" >&2; exit 64 ;;
esac
"""


def commands(heading: str) -> list[str]:
    """The shell blocks below one heading of the chapter, up to the next one."""
    text = CHAPTER.read_text(encoding="utf-8")
    [section] = re.findall(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    blocks = re.findall(r"^( *)```sh\n(.*?)^ *```$", section, re.MULTILINE | re.DOTALL)
    assert blocks, heading
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in blocks]


class Workstation:
    """A folder with a space in its name that holds `my-model`, and a shell with the tools."""

    def __init__(self, folder: Path, rgw: RadosGateway) -> None:
        self._rgw = rgw
        self.bucket = rgw.new_bucket()
        self._folder = folder / "my downloads"
        for path, data in MODEL.items():
            file = self._folder / "my-model" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        linked = self._folder / "my-model" / "linked.json"
        linked.unlink()
        linked.symlink_to("config.json")
        self._played = folder / "bin"
        self._played.mkdir()
        (self._played / "oc").write_text(_OC)
        (self._played / "oc").chmod(0o755)
        self._home = folder / "home"
        self._home.mkdir()

    def run(self, *blocks: str) -> str:
        """Everything that the blocks print; fails where one of their commands does."""
        environment = {
            "PATH": f"{self._played}:{Path(shutil.which('aws') or '/usr/bin/aws').parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self._home),
            "LC_ALL": "C.UTF-8",
            "PLAYED_BUCKET": self.bucket,
            "PLAYED_ACCESS_KEY": self._rgw.access_key,
            "PLAYED_SECRET_KEY": self._rgw.secret_key,
            "PLAYED_HOST": self._rgw.https_endpoint.removeprefix("https://"),
            "PLAYED_CA": str(self._rgw.ca_file),
        }
        done = subprocess.run(
            ["bash", "-euc", "\n".join([*commands(PREPARE), *blocks])],
            cwd=self._folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def objects(self) -> dict[str, bytes]:
        client = self._rgw.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
        return {key: client.get_object(Bucket=self.bucket, Key=key)["Body"].read() for key in keys}

    def secret_of_the_cluster(self) -> dict[str, str]:
        return {
            "AWS_S3_ENDPOINT": self._rgw.http_endpoint,
            "AWS_S3_BUCKET": self.bucket,
            "AWS_ACCESS_KEY_ID": self._rgw.access_key,
            "AWS_SECRET_ACCESS_KEY": self._rgw.secret_key,
        }


@pytest.fixture
def workstation(rgw: RadosGateway, tmp_path: Path) -> Workstation:
    return Workstation(tmp_path, rgw)


@pytest.fixture(params=TOOLS)
def tool(request: pytest.FixtureRequest) -> str:
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    if request.param == "mc":  # many a machine knows another program of that name
        version = subprocess.run(["mc", "--version"], capture_output=True, text=True, check=False).stdout
        if "RELEASE" not in version:
            pytest.skip(f"mc is not MinIO's: {version}")
    return str(request.param)


def test_the_model_arrives_and_the_job_seals_it(tool: str, workstation: Workstation, pod: Pod) -> None:
    workstation.run(*commands(tool))
    assert workstation.objects() == {f"models/{path}": data for path, data in MODEL.items()}
    ended = pod.run(workstation.secret_of_the_cluster() | secret("model-source-uploaded.yaml"))
    assert ended.code == 0, str(ended)
    assert ended.termination["files"] == len(MODEL)
    objects = workstation.objects()
    assert "models/.syncer/complete.json" in objects
    files = json.loads(objects["models/.syncer/manifest.json"])["files"]
    assert {file["proved_by"] for file in files} == {"listing"}


def test_a_second_upload_is_no_problem(tool: str, workstation: Workstation) -> None:
    workstation.run(*commands(tool), *commands(tool))
    assert workstation.objects() == {f"models/{path}": data for path, data in MODEL.items()}


@pytest.mark.parametrize(
    ("tool", "folder"), [("aws", ""), ("rclone", ""), ("s3cmd", "my-model/"), ("mc", "")], indirect=["tool"]
)
def test_without_the_slash(tool: str, folder: str, workstation: Workstation) -> None:
    workstation.run(*[block.replace(" my-model/ ", " my-model ") for block in commands(tool)])
    assert workstation.objects() == {f"models/{folder}{path}": data for path, data in MODEL.items()}


@pytest.mark.parametrize("tool", ["aws", "rclone", "s3cmd"], indirect=True)
def test_a_look_shows_every_file(tool: str, workstation: Workstation) -> None:
    [look] = [block for block in commands("Look") if block.startswith(tool) and "check" not in block]
    shown = workstation.run(*commands(tool), look)
    assert all(path in shown for path in MODEL)


@pytest.mark.parametrize("tool", ["rclone"], indirect=True)
def test_reading_back_finds_what_differs(tool: str, workstation: Workstation) -> None:
    [check] = [block for block in commands("Look") if "check" in block]
    workstation.run(*commands(tool), check)
    with pytest.raises(AssertionError, match="1 differences found"):
        workstation.run(*commands(tool), "printf '[]' > my-model/sub/config.json", check)


@pytest.mark.parametrize("tool", ["aws"], indirect=True)
def test_the_checksums_of_a_new_aws_are_the_trap_that_the_chapter_names(tool: str, workstation: Workstation) -> None:
    version = workstation.run("aws --version")
    if not re.search(r"aws-cli/(1\.(3[7-9]|[4-9]\d)|2\.(2[3-9]|[3-9]\d))\.", version):
        pytest.skip(f"an aws from before the trap: {version}")
    with_the_trap = [block.replace("when_required", "when_supported") for block in commands(tool)]
    with pytest.raises(AssertionError, match=r"NoneType' is not iterable|MissingContentLength"):
        workstation.run(*with_the_trap)


def test_the_secret_without_the_file_is_the_same() -> None:
    text = CHAPTER.read_text(encoding="utf-8")
    [literal] = re.findall(r"`oc create secret generic model-source -n demo --from-literal=(\S+)`", text)
    name, value = literal.split("=")
    assert {name: value} == secret("model-source-uploaded.yaml")
    [file] = re.findall(r"^oc apply -f (job-templates/\S+)$", text, re.MULTILINE)
    assert yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))["metadata"]["namespace"] == "demo"
