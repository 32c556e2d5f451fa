"""All parsers of what strangers say."""

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

TARGETS: Final[dict[str, Target]] = {
    target.name: target
    for target in (*S3, *HUB, *REGISTRY, *SERVICES, *IMAGES, *LEFT, *MODELS, *SETTINGS, *CLUSTER, *TEXTS)
}
