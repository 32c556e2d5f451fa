"""The Hub as a source: which commit, which files, who may, and where the token goes."""

import importlib
from collections.abc import Iterator

import pytest
from huggingface_hub import errors
from pydantic import SecretStr

from syncer.errors import (
    ConfigurationError,
    CredentialsRefused,
    SourceMissing,
    SyncerError,
)
from syncer.redaction import redact
from syncer.settings.locations import HuggingFaceLocation
from syncer.stores.huggingface import HuggingFaceSource
from syncer.stores.huggingface.library import refusal_by_library
from syncer.stores.huggingface.refusals import Place
from tests.contract.checks import drain
from tests.support.fake_hub import FakeHub
from tests.support.fake_hub_sources import FILES, TOKEN, close_all, opened, source_of
from tests.support.scripted_server import Heard, ScriptedServer, reply


@pytest.fixture(autouse=True)
def all_closed() -> Iterator[None]:
    yield
    close_all()


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub(page_size=2) as hub:
        hub.tokens.add(TOKEN)
        yield hub


def refused(source: HuggingFaceSource) -> SyncerError:
    with pytest.raises(SyncerError) as caught:
        source.listing()
    error = caught.value
    assert error.hint, error
    assert error.store.startswith("hf://"), error
    assert TOKEN not in f"{error} {error.hint}"
    return error


# Which commit, which files -------------------------------------------------------------------------------------------


def test_a_listing_is_of_the_commit_that_the_branch_is_now(hub: FakeHub) -> None:
    repository = hub.create("team/model")
    first = repository.commit(FILES)
    source = source_of(hub)
    assert source.revision == ""
    listing = source.listing()
    assert source.revision == first
    assert {path: file.size for path, file in listing.files.items()} == {p: len(data) for p, data in FILES.items()}
    weights, readme = listing.files["model.safetensors"], listing.files["README.md"]
    entries = repository.commits[first]
    assert dict(weights.digests) == {"sha256": entries["model.safetensors"].sha256}
    assert dict(readme.digests) == {"git_sha1": entries["README.md"].oid}
    assert (weights.version, readme.version) == (entries["model.safetensors"].sha256, entries["README.md"].oid)
    assert source.look_again(readme) == readme


def test_a_moved_branch_changes_nothing(hub: FakeHub) -> None:
    repository = hub.create("team/model")
    first = repository.commit(FILES)
    source = source_of(hub)
    before = source.listing()
    second = repository.commit({"model.safetensors": b"other weights"}, remove=("README.md",))
    assert source.listing() == before
    assert source.revision == first
    for path, file in before.files.items():
        assert drain(source.read(file, 0, file.size), file.size) == FILES[path]
    again = source_of(hub)
    after = again.listing()
    assert again.revision == second
    assert after.files["config.json"].version == before.files["config.json"].version
    assert after.files["model.safetensors"].version != before.files["model.safetensors"].version


def test_a_branch_a_commit_and_a_name_with_a_slash_are_revisions(hub: FakeHub) -> None:
    repository = hub.create("team/model")
    first = repository.commit(FILES)
    other = repository.commit({"config.json": b"[]"}, branch="refs/pr/1")
    repository.commit({"config.json": b"[1]"})
    for revision, sha in (("refs/pr/1", other), (first, first)):
        source = source_of(hub, revision=revision)
        source.listing()
        assert (source.revision, source.name) == (sha, f"hf://team/model@{revision}")


def test_what_the_patterns_leave_is_listed_and_nothing_is_a_missing_source(hub: FakeHub) -> None:
    hub.create("team/model").commit(FILES)
    assert set(source_of(hub, allow=("*.json", "a/")).listing().files) == {"config.json", "a/b.txt"}
    assert set(source_of(hub, ignore=("*.safetensors",)).listing().files) == set(FILES) - {"model.safetensors"}
    error = refused(source_of(hub, allow=("*.gguf",), ignore=("a/*",)))
    assert isinstance(error, SourceMissing)
    assert "4 files" in error.message
    assert "HUGGINGFACE_ALLOW_PATTERNS *.gguf" in error.message
    assert "HUGGINGFACE_IGNORE_PATTERNS a/*" in error.message
    assert "HUGGINGFACE_ALLOW_PATTERNS=*" in error.hint
    error = refused(source_of(hub, ignore=("*",)))
    assert "ALLOW" not in error.hint
    assert "HUGGINGFACE_IGNORE_PATTERNS" in error.hint


def test_the_log_says_once_what_was_left_out_and_why(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.create("team/model").commit(FILES | {"pytorch_model.bin": b"twice", "tf_model.h5": b"thrice"})
    source = source_of(hub)
    source.listing()
    source.listing()
    said = "".join(capsys.readouterr())
    assert said.count("files_excluded") == 1
    assert "pytorch_model.bin" in said
    assert "safetensors" in said


def test_a_renamed_repository_is_read_under_its_new_name(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.create("team/old").commit(FILES)
    hub.rename("team/old", "team/new")
    source = source_of(hub, "team/old")
    file = source.listing().files["config.json"]
    source.listing()
    assert drain(source.read(file, 0, 2), 2) == b"{}"
    assert source.name == "hf://team/old"
    assert [seen.path.split("/")[2] for seen in hub.requests("hub", "/resolve/")] == ["new"]
    said = "".join(capsys.readouterr())
    assert said.count("source_renamed") == 1
    assert "team/new" in said


def test_a_repository_whose_pointer_lies_about_the_size_is_as_large_as_lfs_says() -> None:
    def hub(heard: Heard) -> None:
        if "/tree/" in heard.target:
            lfs = '"lfs": {"oid": "%s", "size": 4096, "pointerSize": 134}' % ("a" * 64)
            body = '[{"type": "file", "path": "w.bin", "oid": "' + "b" * 40 + f'", "size": 134, {lfs}}}]'
            heard.say(reply(200, body.encode()))
        else:
            heard.say(reply(200, b'{"id": "team/model", "sha": "%s"}' % (b"c" * 40)))

    with ScriptedServer(hub) as server:
        source = opened(HuggingFaceLocation("team/model", endpoint=server.url))
        file = source.listing().files["w.bin"]
    assert (file.size, file.version) == (4096, "a" * 64)


def test_a_mirror_below_a_path_is_asked_below_it() -> None:
    def mirror(heard: Heard) -> None:
        if "/tree/" in heard.target:
            entry = b'[{"type": "file", "path": "a", "oid": "%s", "size": 1}]' % (b"b" * 40)
            heard.say(reply(200, entry))
        elif "/resolve/" in heard.target:
            heard.say(reply(405) if heard.method == "HEAD" else reply(200, b"x"))
        else:
            heard.say(reply(200, b'{"id": "team/model", "sha": "%s", "gated": "auto"}' % (b"c" * 40)))

    with ScriptedServer(mirror) as server:
        source = opened(HuggingFaceLocation("team/model", endpoint=f"{server.url}/artifacts/hub/"))
        file = source.listing().files["a"]
        assert drain(source.read(file, 0, 1), 1) == b"x"
    assert all(heard.target.startswith("/artifacts/hub/") for heard in server.heard)
    assert "//" not in "".join(heard.target for heard in server.heard)


# Who may -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bare", [False, True], ids=["with-code", "bare-401"])
def test_a_private_or_missing_repository_without_a_token_asks_for_one(hub: FakeHub, bare: bool) -> None:
    hub.bare_401 = bare
    hub.create("team/private", private=True).commit(FILES)
    for name in ("team/private", "team/nobody"):
        error = refused(source_of(hub, name))
        assert isinstance(error, CredentialsRefused)
        assert "HF_TOKEN" in error.hint
        assert "HUGGINGFACE_MODEL" in error.hint
        assert f"{hub.endpoint}/{name}" in error.hint


def test_a_missing_repository_with_a_token_is_missing(hub: FakeHub) -> None:
    hub.create("team/private", private=True).commit(FILES)
    for name in ("team/private", "team/nobody"):
        error = refused(source_of(hub, name, token=TOKEN))
        assert isinstance(error, SourceMissing)
        assert "HUGGINGFACE_MODEL" in error.hint


def test_a_private_repository_is_read_with_its_token(hub: FakeHub) -> None:
    hub.create("team/private", private=True).readers.add(TOKEN)
    hub.find("team/private").commit(FILES)  # type: ignore[union-attr]  # it was created above
    source = source_of(hub, "team/private", token=TOKEN)
    for path, file in source.listing().files.items():
        assert drain(source.read(file, 0, file.size), file.size) == FILES[path]
    assert all(seen.authorized for seen in hub.requests("hub"))
    assert hub.requests("storage")
    assert not any(seen.authorized for seen in hub.requests("storage"))


def test_a_token_that_is_not_valid_is_refused(hub: FakeHub) -> None:
    hub.create("team/model").commit(FILES)
    error = refused(source_of(hub, token="hf_expired_long_ago"))
    assert isinstance(error, CredentialsRefused)
    assert "renew HF_TOKEN" in error.hint
    assert "hf_expired_long_ago" not in redact(f"{error} {error.hint}")


@pytest.mark.parametrize("token", ["", TOKEN])
def test_a_bare_401_is_about_the_token_where_there_is_one(token: str) -> None:
    # The library takes it for a missing repository, but only at https:// addresses.
    http = importlib.import_module(errors.HfHubHTTPError.__bases__[0].__module__)
    request = http.Request("GET", "https://huggingface.co/api/models/team/model")
    error = errors.RepositoryNotFoundError("missing", response=http.Response(401, request=request))
    place = Place("hf://team/model", "https://huggingface.co", "team/model", has_token=bool(token))
    meant = refusal_by_library(error).as_error(place, what="look")
    assert isinstance(meant, CredentialsRefused)
    assert ("renew HF_TOKEN" in meant.hint) == bool(token)


@pytest.mark.parametrize("token", ["", TOKEN])
def test_a_gated_repository_is_refused_before_anything_is_written(hub: FakeHub, token: str) -> None:
    repository = hub.create("team/gated", gated=True)
    repository.commit(FILES)
    error = refused(source_of(hub, "team/gated", token=token))
    assert isinstance(error, CredentialsRefused)
    assert f"{hub.endpoint}/team/gated" in error.hint
    assert "HF_TOKEN" in error.hint
    repository.agreed.add(token)
    assert source_of(hub, "team/gated", token=token).listing().files


def test_an_unknown_revision_is_missing_and_a_disabled_repository_too(hub: FakeHub) -> None:
    hub.create("team/model").commit(FILES)
    error = refused(source_of(hub, revision="v9"))
    assert isinstance(error, SourceMissing)
    assert "HUGGINGFACE_REVISION" in error.hint
    hub.create("team/disabled").disabled = True
    error = refused(source_of(hub, "team/disabled"))
    assert isinstance(error, SourceMissing)
    assert "disabled" in error.hint


def test_an_empty_repository_is_missing(hub: FakeHub) -> None:
    hub.create("team/model").commit({".gitattributes": b"*", ".syncer/complete.json": b"{}"})
    assert isinstance(refused(source_of(hub)), SourceMissing)


def test_a_name_that_is_none_is_a_mistake_in_the_settings(hub: FakeHub) -> None:
    with pytest.raises(ConfigurationError) as caught:
        source_of(hub, "team/model/too/long").listing()
    assert "HUGGINGFACE_MODEL" in caught.value.hint


def test_a_token_over_http_must_be_allowed(hub: FakeHub) -> None:
    location = HuggingFaceLocation("team/model", endpoint=hub.endpoint, token=SecretStr(TOKEN))
    with pytest.raises(ConfigurationError, match="plain text") as caught:
        opened(location)
    assert "S3_SYNC_ALLOW_PLAINTEXT_TOKENS" in caught.value.hint
    with pytest.raises(ConfigurationError, match="HF_ENDPOINT"):
        opened(HuggingFaceLocation("team/model", endpoint="hub.example"))
