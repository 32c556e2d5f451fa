"""In the memory that the Jobs have, whatever is copied: a huge file, a volume, thousands of files, an image.

What the control group counts has the pages of files in it, too, so a run that left too many dirty would be killed here.
`SYNCER_IMAGE_GIB=20 SYNCER_IMAGE_FILES=20000` makes them as big as the promise is; `-s` shows the figures.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.compare import objects_problem
from benchmarks.server import ACCESS_KEY, REGION, SECRET_KEY, Objects, Stub, build, compiler
from tests.image.pods import NOWHERE_TO_WRITE, Ended, Pod, Start
from tests.support.docker_registry import COMMANDS, running_registry
from tests.support.manifests import container, job

pytestmark = [
    pytest.mark.image,
    pytest.mark.timeout(900),
    pytest.mark.skipif(compiler() is None, reason="no C compiler here: the cheap S3 server cannot be built"),
]

MiB = 1 << 20
LIMIT = container(job("synchronize-model.yaml"))["resources"]["limits"]["memory"]
MOST_MEMORY = 200 * MiB
HUGE = Objects("src/huge/", 1, int(float(os.environ.get("SYNCER_IMAGE_GIB", "1")) * 1024) * MiB)
REAL = Objects("src/real/", 1, 400 * MiB + 13)
"""Where bytes are on a disk: more than the limit."""
MANY = Objects("src/many/", int(os.environ.get("SYNCER_IMAGE_FILES", "2000")), 700)
STATE = 64 * MiB
"""What a folder in memory may take of it."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("stub"))


@pytest.fixture
def stub(program: Path) -> Iterator[Stub]:
    """Sources by a formula, and a bucket where every byte is compared with it."""
    with Stub(program, buckets=["demo"], objects=[HUGE, REAL, MANY], flags=["-V"]) as server:
        yield server


def keys(stub: Stub, side: str) -> dict[str, str]:
    names = {"ENDPOINT": stub.url, "ACCESS_KEY": ACCESS_KEY, "SECRET_KEY": SECRET_KEY, "REGION": REGION}
    return {f"S3_SYNC_{side}__{name}": value for name, value in names.items()}


def into_bucket(stub: Stub, source: str) -> Start:
    paths = {"S3_SYNC_SRC__PATH": source, "S3_SYNC_DEST__PATH": "s3://demo/models/"}
    return Start(keys(stub, "SRC") | keys(stub, "DEST") | paths, [], LIMIT)


def assert_there(stub: Stub, objects: Objects) -> None:
    names = {f"models/{name.rpartition('/')[2]}": objects.size for name in objects.names}
    listed = stub.stats()["objects"]
    assert objects_problem(listed, names) == ""
    assert all(item["right"] for item in listed if ".syncer" not in item["name"])


def assert_same(stub: Stub, name: str, file: Path) -> None:
    """The stub's object and a file, compared in pieces."""
    with stub.opener().open(f"{stub.url}/{name}") as answer, file.open("rb") as copy:
        while piece := answer.read(MiB):
            assert copy.read(len(piece)) == piece
        assert not copy.read(1)


def assert_modest(ended: Ended, what: str) -> None:
    """Done with less memory than promised, however much of the limit was filled with pages of files."""
    print(f"{what}: {ended.peak / MiB:.0f} MiB at most, control group {ended.group / MiB:.0f} of {LIMIT}")
    assert ended.code == 0, ended.output
    assert 0 < ended.peak < MOST_MEMORY


def test_a_huge_file_between_buckets(pod: Pod, stub: Stub) -> None:
    sized = f"--tmpfs=/tmp:rw,noexec,nosuid,size={STATE}"
    ended = pod.watch(into_bucket(stub, f"s3://{HUGE.prefix}"), sized)
    assert_modest(ended, f"{HUGE.size / 1024 / MiB:g} GiB between buckets")
    assert_there(stub, HUGE)
    assert ended.written <= 1 * MiB


def test_thousands_of_small_files(pod: Pod, stub: Stub) -> None:
    ended = pod.watch(into_bucket(stub, f"s3://{MANY.prefix}"), *NOWHERE_TO_WRITE)
    assert_modest(ended, f"{MANY.count} files")
    assert_there(stub, MANY)


def test_a_volume_as_the_destination(pod: Pod, stub: Stub, volume: Path) -> None:
    start = into_bucket(stub, f"s3://{REAL.prefix}").with_variables(S3_SYNC_DEST__PATH="/mnt/models")
    ended = pod.watch(start, *NOWHERE_TO_WRITE, f"--volume={volume}:/mnt/models")
    assert_modest(ended, "to a volume")
    assert (volume / ".syncer/complete.json").exists()
    assert_same(stub, REAL.names[0], volume / "000.safetensors")


def test_a_directory_as_the_source(pod: Pod, stub: Stub, volume: Path) -> None:
    with stub.opener().open(f"{stub.url}/{REAL.names[0]}") as answer, (volume / "000.safetensors").open("wb") as file:
        shutil.copyfileobj(answer, file, MiB)
    ended = pod.watch(into_bucket(stub, "/mnt/source"), *NOWHERE_TO_WRITE, f"--volume={volume}:/mnt/source:ro")
    assert_modest(ended, "from a directory")
    assert_there(stub, REAL)


@pytest.mark.skipif(
    not all(map(shutil.which, COMMANDS)), reason=f"needs {', '.join(COMMANDS)} from the distribution's packages"
)
def test_an_image_as_the_destination(pod: Pod, stub: Stub, tmp_path: Path) -> None:
    folder = tmp_path / "registry"
    folder.mkdir()
    with running_registry(folder) as registry:
        start = into_bucket(stub, f"s3://{REAL.prefix}").with_variables(
            S3_SYNC_DEST__PATH=f"oci://{registry.authority}/team/model:1", OCI_VALIDATE_TLS="false"
        )
        ended = pod.watch(start, *NOWHERE_TO_WRITE)
        assert_modest(ended, "to an image")
        subprocess.run(
            [
                "skopeo",
                "copy",
                "--src-tls-verify=false",
                f"docker://{registry.authority}/team/model:1",
                f"dir:{tmp_path}/layers",
            ],
            check=True,
            capture_output=True,
            timeout=300,
        )
    [layer] = [path for path in (tmp_path / "layers").iterdir() if path.stat().st_size > REAL.size]
    subprocess.run(["tar", "-xf", str(layer), "-C", str(tmp_path / "layers")], check=True, timeout=300)
    assert_same(stub, REAL.names[0], tmp_path / "layers/models/000.safetensors")
