"""What a run has imported by the time it first asks somebody something.

How long that takes is for `benchmarks/startup.py`; here is what must not be part of it.
"""

import subprocess
import sys

import pytest

PROGRAM = """
import gc, importlib.abc, importlib.machinery, os, sys, threading
from syncer import entrypoint
from syncer.report import LastWords
from syncer.stop import StopSwitch

HEAVY = {"typer", "rich", "boto3", "botocore", "asyncio", "prometheus_client", "http.server", "kubernetes", "yaml",
         "httpx", "httpx2", "hf_xet", "zstandard"}
OURS = {"syncer.flags", "syncer.uploading", "syncer.examining", "syncer.compressing", "syncer.cluster", "syncer.bridge",
        "syncer.partaking", "syncer.metrics", "syncer.stores.oci.registry", "syncer.stores.cos",
        "syncer.stores.s3.chain"}
HUB = {"huggingface_hub", "syncer.stores.huggingface"}

class Held(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    # The import that takes a quarter of a second never ends here: the first request has to come beside it.
    def find_spec(self, name, path, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name == "huggingface_hub" else None

    def exec_module(self, module):
        threading.Event().wait(30)

def hear(event, _):
    if event == "socket.connect":
        os.write(1, " ".join(sorted((HEAVY | OURS | HUB) & sys.modules.keys() | {f"gc={gc.isenabled()}"})).encode())
        os._exit(0)

sys.meta_path.insert(0, Held())
sys.addaudithook(hear)
entrypoint.run([], StopSwitch(), LastWords())
"""


def bucket(side: str) -> dict[str, str]:
    return {
        f"S3_SYNC_{side}__PATH": f"s3://{side.lower()}/model/",
        f"S3_SYNC_{side}__ENDPOINT": "http://127.0.0.1:9",
        f"S3_SYNC_{side}__ACCESS_KEY": "made-up",
        f"S3_SYNC_{side}__SECRET_KEY": "made-up-too",
    }


HUB_SOURCE = {"HUGGINGFACE_MODEL": "team/model", "HF_ENDPOINT": "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    ("source", "needed"),
    [(bucket("SRC"), set()), (HUB_SOURCE, {"syncer.stores.huggingface", "huggingface_hub"})],
    ids=["S3", "Hugging Face"],
)
def test_nothing_is_imported_before_the_first_request_that_is_not_needed_for_it(
    source: dict[str, str], needed: set[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=bucket("DEST") | source,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert set(done.stdout.split()) - needed == {"gc=True"}, done.stderr
