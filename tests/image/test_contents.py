"""What is in the image, and what is not."""

import json
import re
from typing import Any

import pytest

from syncer import __version__
from tests.image.pods import TAG, Image
from tests.support.podman import ROOT, build, way_to_packages

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]

# What the image may add to its base.  A third of it is botocore's description of AWS, a fifth the Hub's libraries.
CEILING_MIB = 108

# Runs inside the image, as root, so that no folder is closed to it.
LOOK = """
import json, os, shutil, stat
lends_rights, loose, caches, ours, everything = [], [], [], [], []
for top, folders, names in os.walk("/"):
    if top == "/":
        folders[:] = [name for name in folders if name not in ("proc", "sys", "dev")]
    for name in folders + names:
        path = os.path.join(top, name)
        mode = os.lstat(path).st_mode
        everything.append(path)
        if stat.S_ISREG(mode) and mode & 0o6000:
            lends_rights.append(path)
        if path.startswith("/opt/"):
            ours.append(path)
            if not stat.S_ISLNK(mode) and (mode & 0o022 or mode & 0o044 != 0o044):
                loose.append(path)
    if top.endswith("/.cache") or top.endswith("/pip/http"):
        caches.append(top)
print(json.dumps({
    "lends_rights": lends_rights,
    "loose": loose,
    "caches": caches,
    "ours": ours,
    "everything": everything,
    "compilers": [name for name in ("cc", "gcc", "g++", "clang", "ld", "make", "rustc") if shutil.which(name)],
}))
"""


def look(image: Image, name: str) -> dict[str, list[str]]:
    done = image.podman.ask("run", "--rm", "--network=none", "--user=0", "--entrypoint=python3", name, "-c", LOOK)
    found: dict[str, list[str]] = json.loads(done)
    return found


@pytest.fixture(scope="module")
def inside(image: Image) -> dict[str, list[str]]:
    return look(image, TAG)


@pytest.fixture(scope="module")
def settings(image: Image) -> dict[str, Any]:
    [inspected] = json.loads(image.podman.ask("image", "inspect", TAG))
    found: dict[str, Any] = inspected["Config"]
    return found


def test_no_program_lends_rights(inside: dict[str, list[str]]) -> None:
    assert inside["lends_rights"] == []


def test_no_compiler(inside: dict[str, list[str]]) -> None:
    assert inside["compilers"] == []


def test_no_download_cache(inside: dict[str, list[str]]) -> None:
    assert inside["caches"] == []


def test_everybody_reads_and_only_root_writes_the_code(inside: dict[str, list[str]]) -> None:
    assert inside["loose"] == []


def test_nothing_but_code_and_its_dependencies(inside: dict[str, list[str]]) -> None:
    assert "/opt/app/entrypoint.py" in inside["ours"]
    assert "/opt/app/syncer/__init__.py" in inside["ours"]
    beside = {path.split("/")[3] for path in inside["ours"] if path.startswith("/opt/app/")}
    assert beside == {"entrypoint.py", "syncer", "__pycache__"}
    packages = {found[1] for path in inside["ours"] if (found := re.search(r"/site-packages/([^/]+)$", path))}
    assert {"botocore", "huggingface_hub", "hf_xet", "lightkube"} <= packages
    tools = {"pip", "setuptools", "wheel", "pytest", "moto", "boto3", "hatchling", "mypy", "ibm_cloud_sdk_core"}
    assert not tools & packages


def test_the_build_leaves_nothing_else_behind(image: Image, inside: dict[str, list[str]]) -> None:
    added = set(inside["everything"]) - set(look(image, image.base)["everything"])
    assert {
        path for path in added if not re.match(r"/(opt|opt/(syncer|app)(/.*)?|licenses(/LICENSE)?)$", path)
    } == set()
    tests = {path for path in inside["ours"] if re.search(r"/(tests?|testing|conftest\.py|_pytest)$", path)}
    assert tests == set()


def test_nothing_tells_how_this_machine_reaches_its_packages(image: Image, settings: dict[str, Any]) -> None:
    told = image.podman.ask("history", "--no-trunc", "--format={{.CreatedBy}} {{.Comment}}", TAG) + json.dumps(settings)
    assert "PIP_" not in told
    assert not [option for option in way_to_packages() if "://" in option and option.partition("=")[2] in told]


def test_bytecode_is_there_for_every_module(inside: dict[str, list[str]]) -> None:
    modules = [path for path in inside["ours"] if path.startswith("/opt/app/syncer/") and path.endswith(".py")]
    compiled = {path for path in inside["ours"] if path.endswith(".pyc")}
    assert modules
    for path in modules:
        folder, name = path.rsplit("/", 1)
        assert any(found.startswith(f"{folder}/__pycache__/{name[:-3]}.") for found in compiled), path


def test_the_licence_goes_along(image: Image) -> None:
    text = image.podman.ask("run", "--rm", "--network=none", "--entrypoint=cat", TAG, "/licenses/LICENSE")
    assert text == (ROOT / "LICENSE").read_text(encoding="utf-8").rstrip("\n")


def test_size_stays_under_its_ceiling(image: Image) -> None:
    size, base = (
        int(image.podman.ask("image", "inspect", "--format", "{{.Size}}", name)) for name in (TAG, image.base)
    )
    print(f"{(size - base) / 2**20:.1f} MiB over the base")
    assert (size - base) / 2**20 < CEILING_MIB
    assert f"less than {CEILING_MIB} MiB" in (ROOT / "docs/pod.md").read_text(encoding="utf-8")


def test_labels(settings: dict[str, Any]) -> None:
    labels = settings["Labels"]
    assert labels["org.opencontainers.image.title"] == labels["name"] == "model-syncer"
    assert labels["org.opencontainers.image.version"] == labels["version"] == __version__
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert all(labels[name] for name in ("summary", "description", "io.k8s.display-name", "io.k8s.description"))


def test_python_is_started_directly_as_a_numeric_user(settings: dict[str, Any]) -> None:
    assert settings["Entrypoint"] == ["/opt/syncer/bin/python", "/opt/app/entrypoint.py"]
    assert not settings.get("Cmd")
    assert settings["User"] == "1001:0"


def test_same_inputs_give_the_same_bytes(image: Image) -> None:
    # The layers; podman writes the name of the base and the IDs of its own steps beside them.
    again = f"{TAG}-again"
    layers = build(image.podman, image.base, image.context, again, "--no-cache")
    image.podman("rmi", again)
    assert layers == image.layers
