"""The fake Hub is one: the real client works against it, byte for byte and error for error."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants, errors, hf_hub_download, snapshot_download
from huggingface_hub.hf_api import RepoFile

from tests.support.fake_hub import FakeHub
from tests.support.models import read_model

FILES = {
    ".gitattributes": b"*.safetensors filter=lfs",
    "README.md": b"# A model",
    "config.json": b"{}",
    "model.safetensors": bytes(range(256)) * 400,
    "1_Pooling/config.json": b'{"pooling": true}',
    "deep/er/with space+ü.txt": b"quoted",
    "empty.txt": b"",
}
TOKEN = "hf_the_token_of_a_test"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    with FakeHub(page_size=3) as hub:
        hub.tokens.add(TOKEN)
        yield hub


def test_a_snapshot_by_the_real_client_has_every_byte(hub: FakeHub, tmp_path: Path) -> None:
    hub.caches_plain = True
    sha = hub.create("team/model").commit(FILES)
    folder = snapshot_download(
        "team/model",
        endpoint=hub.endpoint,
        token=False,
        cache_dir=tmp_path / "cache",
        local_dir=tmp_path / "model",
        max_workers=1,
    )
    here = read_model(Path(folder))
    assert {path: data for path, data in here.items() if not path.startswith(".cache/")} == FILES
    assert {seen.path.split("/")[4] for seen in hub.requests("hub", "/resolve/")} == {sha}
    assert len(hub.requests("hub", f"/tree/{sha}")) > 1
    assert hub.requests("storage")


def test_the_tree_has_the_digests_that_git_and_lfs_have(hub: FakeHub) -> None:
    sha = hub.create("team/model").commit(FILES)
    api = HfApi(endpoint=hub.endpoint, token=False)
    assert api.model_info("team/model", revision="main").sha == sha
    entries = {it.path: it for it in api.list_repo_tree("team/model", recursive=True) if isinstance(it, RepoFile)}
    assert set(FILES) == set(entries)
    config, weights = entries["config.json"], entries["model.safetensors"]
    # `git hash-object` of {} and `sha256sum`.
    assert config.blob_id == "9e26dfeeb6e641a33dae4961196235bdb965b21b"
    assert config.lfs is None
    assert weights.lfs is not None
    assert weights.lfs.sha256 == "27783e87963a4efb6829b531c9ba57b44f45797f6770bd637fbf0d807cbdbae0"
    assert weights.size == 102_400


def test_each_refusal_is_the_error_that_the_real_one_is(hub: FakeHub, tmp_path: Path) -> None:
    hub.create("team/gated", gated=True).commit(FILES)
    hub.create("team/private", private=True).commit(FILES)
    hub.create("team/disabled").disabled = True
    hub.create("team/open").commit(FILES)
    api = HfApi(endpoint=hub.endpoint, token=False)
    download = partial(hf_hub_download, endpoint=hub.endpoint, cache_dir=tmp_path, token=False)
    with pytest.raises(errors.RepositoryNotFoundError):
        api.model_info("team/private")
    with pytest.raises(errors.RepositoryNotFoundError):
        api.model_info("team/nobody", token=TOKEN)
    with pytest.raises(errors.DisabledRepoError):
        api.model_info("team/disabled")
    with pytest.raises(errors.RevisionNotFoundError):
        api.model_info("team/open", revision="nobody")
    with pytest.raises(errors.HfHubHTTPError) as caught:
        api.model_info("team/open", token="hf_wrong")
    assert caught.value.response.status_code == 401
    with pytest.raises(errors.GatedRepoError):
        download("team/gated", "config.json")
    with pytest.raises(errors.RemoteEntryNotFoundError):
        download("team/open", "nothing.json")


def test_a_renamed_repository_is_found_by_its_old_name(hub: FakeHub) -> None:
    sha = hub.create("team/old").commit(FILES)
    hub.rename("team/old", "team/new")
    info = HfApi(endpoint=hub.endpoint, token=False).model_info("team/old")
    assert (info.id, info.sha) == ("team/new", sha)
