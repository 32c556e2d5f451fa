"""All parsers of what strangers say."""

from dataclasses import replace
from typing import Final

from tests.fuzz.target import Target
from tests.fuzz.targets_cluster import TARGETS as CLUSTER
from tests.fuzz.targets_hub import TARGETS as HUB
from tests.fuzz.targets_images import TARGETS as IMAGES
from tests.fuzz.targets_left import TARGETS as LEFT
from tests.fuzz.targets_models import TARGETS as MODELS
from tests.fuzz.targets_registry import TARGETS as REGISTRY
from tests.fuzz.targets_s3 import TARGETS as S3
from tests.fuzz.targets_services import TARGETS as SERVICES
from tests.fuzz.targets_settings import TARGETS as SETTINGS
from tests.fuzz.targets_texts import TARGETS as TEXTS

_SLOW: Final = frozenset(
    (
        "s3-listing",
        "s3-sealed",
        "s3-writing",
        "s3-tidying",
        "s3-control",
        "hub-listing",
        "tar-layer",
        "tar-in-gzip",
        "settings",
        "mounted-secret",
        "registry-logins",
        "kubeconfig",
        "texts",
        "ca-files",
    )
)
_QUICK: Final = frozenset(
    (
        "parts-record",
        "oci-leftovers",
        "shard-index",
        "worker-lines",
        "cluster-ways",
        "token-cache",
        "safetensors",
        "control-files",
        "oci-documents",
        "hub-access",
        "s3-head",
        "hub-reading",
    )
)


def _with_share(target: Target) -> Target:
    return replace(target, share=1 if target.name in _SLOW else 6 if target.name in _QUICK else 2)


TARGETS: Final[dict[str, Target]] = {
    target.name: _with_share(target)
    for target in (*S3, *HUB, *REGISTRY, *SERVICES, *IMAGES, *LEFT, *MODELS, *SETTINGS, *CLUSTER, *TEXTS)
}
