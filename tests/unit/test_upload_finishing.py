"""The Secret that lets the Job complete: what it says, and that one which is there is never replaced."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from syncer.errors import ConfigurationError
from syncer.settings.locations import GatheredLocation
from syncer.uploading import finishing
from syncer.uploading.paths import Parcel

FLAG = {"S3_SYNC_LOCAL_UPLOAD_COMPLETE": "true"}


def parcels(*folders: str) -> list[Parcel]:
    source = GatheredLocation((Path("/here"),), told="/here")
    return [Parcel(source, folder, joins=False, told=folder) for folder in folders]


class Secrets:
    """A cluster, as far as its Secrets go."""

    def __init__(self, **there: dict[str, str]) -> None:
        self.there = there

    def secret(self, _: str, name: str) -> dict[str, str] | None:
        return self.there.get(name)

    def create_secret(self, _: str, name: str, values: Mapping[str, str]) -> bool:
        if name in self.there:
            return False
        self.there[name] = dict(values)
        return True


def finish(cluster: Secrets, values: Mapping[str, str]) -> str:
    return finishing.finish(cluster, "demo", "ready", values)  # type: ignore[arg-type]  # it answers as a cluster does


@pytest.mark.parametrize(
    ("folders", "prefix", "directory"),
    [
        ([""], "models/", ""),
        (["", "granite"], "models/", ""),
        (["granite"], "models/", "models/granite"),
        ([""], "served/here/", "served/here"),
        (["granite"], "", "granite"),
    ],
)
def test_it_says_where_the_model_is_unless_the_job_looks_there_anyway(
    folders: list[str], prefix: str, directory: str
) -> None:
    expected = FLAG | ({"S3_SYNC_DEST__DEFAULT_DIRECTORY": directory} if directory else {})
    assert finishing.content(parcels(*folders), prefix) == expected


def test_several_models_cannot_be_finished_at_once() -> None:
    with pytest.raises(ConfigurationError, match="--finish"):
        finishing.content(parcels("granite", "llama"), "models/")


def test_it_is_created_once_and_what_is_there_is_left_alone() -> None:
    cluster = Secrets()
    assert "Created the Secret demo/ready" in finish(cluster, FLAG)
    assert cluster.there == {"ready": FLAG}
    assert "nothing to do" in finish(cluster, FLAG)
    told = finish(cluster, FLAG | {"S3_SYNC_DEST__DEFAULT_DIRECTORY": "models/my model"})
    assert cluster.there == {"ready": FLAG}
    for tool in ("oc", "kubectl"):
        assert (
            f"{tool} -n demo create secret generic ready --from-literal=S3_SYNC_LOCAL_UPLOAD_COMPLETE=true "
            "--from-literal='S3_SYNC_DEST__DEFAULT_DIRECTORY=models/my model' "
            f"--dry-run=client -o yaml | {tool} -n demo replace -f -"
        ) in told


def test_the_next_step_is_a_command_for_each_tool() -> None:
    told = finishing.next_step("demo", "model-source", FLAG)
    for tool in ("oc", "kubectl"):
        assert f"\n  {tool} -n demo create secret generic model-source --from-literal=S3_SYNC" in told
    assert "--finish" in told
