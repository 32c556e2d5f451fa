"""The Hub as a source: which commit, which files, who may, and where the token goes."""

import importlib
import logging
import subprocess
import sys
from collections.abc import Iterator
from itertools import count

import pytest
from huggingface_hub import close_session, constants, errors, get_session
from pydantic import SecretStr

from syncer.errors import (
    ConfigurationError,
    CredentialsRefused,
    EndpointUnreachable,
    SourceMissing,
    SyncerError,
    Transient,
)
from syncer.redaction import redact
from syncer.retry import Patience
from syncer.settings.locations import HuggingFaceLocation, Network
from syncer.stores.huggingface import HuggingFaceSource
from syncer.stores.huggingface.library import refusal_by_library
from syncer.stores.huggingface.refusals import Place
from tests.contract.checks import drain
from tests.support.buckets import free_port
from tests.support.fake_hub import FakeHub, Fault
from tests.support.scripted_server import Heard, ScriptedServer, reply

TOKEN = "hf_canary_of_the_hub_0123456789"
FILES = {"README.md": b"# A model", "config.json": b"{}", "model.safetensors": b"weights" * 1000, "a/b.txt": b"nested"}
AT_ONCE = Patience(seconds=0.0)


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub(page_size=2) as hub:
        hub.tokens.add(TOKEN)
        yield hub


_open: list[HuggingFaceSource] = []


@pytest.fixture(autouse=True)
def all_closed() -> Iterator[None]:
    yield
    while _open:
        _open.pop().close()


def opened(location: HuggingFaceLocation, *, patience: Patience = AT_ONCE) -> HuggingFaceSource:
    _open.append(HuggingFaceSource(location, Network(), patience=patience))
    return _open[-1]


def source_of(hub: FakeHub, repository: str = "team/model", *, token: str = "", **more: object) -> HuggingFaceSource:
    location = HuggingFaceLocation(
        repository,
        endpoint=hub.endpoint,
        token=SecretStr(token) if token else None,
        plaintext_tokens=True,
        **more,  # type: ignore[arg-type]  # what a test says about the location
    )
    return opened(location)


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


def test_the_log_says_once_what_was_left_out_and_why(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.create("team/model").commit(FILES | {"pytorch_model.bin": b"twice", "tf_model.h5": b"thrice"})
    source = source_of(hub)
    source.listing()
    source.listing()
    said = "".join(capsys.readouterr())
    assert said.count("files_left_out") == 1
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


# The way there -------------------------------------------------------------------------------------------------------


def test_the_library_asks_nobody_else_and_nothing_of_the_environment(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.create("team/model").commit(FILES)
    dead = f"http://127.0.0.1:{free_port()}"
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HF_ENDPOINT"):
        monkeypatch.setenv(name, dead)
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    monkeypatch.setattr(constants, "ENDPOINT", dead)
    monkeypatch.setattr("huggingface_hub.utils._headers.get_token", lambda: pytest.fail("it looked for a token"))
    source_of(hub).listing()
    assert {seen.path.rpartition("/")[0] for seen in hub.seen} == {"/api/models/team", "/api/models/team/model/tree"}
    for seen in hub.seen:
        assert not seen.authorized
        assert seen.headers["user-agent"].startswith("model-syncer/")
        assert seen.headers["accept-encoding"] == "identity"


def test_the_library_is_imported_when_it_is_asked_and_not_before() -> None:
    program = (
        "import sys; import syncer.entrypoint, syncer.job, syncer.stores.huggingface; "
        "sys.exit(bool({'huggingface_hub', 'httpx', 'httpx2'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_library_has_its_own_way_again_behind_a_listing(hub: FakeHub) -> None:
    hub.create("team/model").commit(FILES)
    telemetry = constants.HF_HUB_DISABLE_TELEMETRY
    source = source_of(hub)
    source.listing()
    source.close()
    assert telemetry == constants.HF_HUB_DISABLE_TELEMETRY
    assert get_session().get(f"{hub.endpoint}/api/models/team/model").json()["id"] == "team/model"
    close_session()
    assert "model-syncer" not in hub.seen[-1].headers["user-agent"]


def test_the_next_page_at_another_host_is_asked_without_the_token(hub: FakeHub) -> None:
    with ScriptedServer(lambda heard: heard.say(reply(200, b"[]"))) as other:

        def mirror(heard: Heard) -> None:
            if "/tree/" in heard.target:
                entry = b'[{"type": "file", "path": "a", "oid": "%s", "size": 1}]' % (b"b" * 40)
                heard.say(reply(200, entry, link=f'<{other.url}/more>; rel="next"'))
            else:
                heard.say(reply(200, b'{"id": "team/model", "sha": "%s"}' % (b"c" * 40)))

        with ScriptedServer(mirror) as server:
            location = HuggingFaceLocation(
                "team/model", endpoint=server.url, token=SecretStr(TOKEN), plaintext_tokens=True
            )
            source = opened(location)
            assert set(source.listing().files) == {"a"}
        assert all("authorization" in heard.headers for heard in server.heard)
        assert ["authorization" in heard.headers for heard in other.heard] == [False]


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({"Retry-After": "17"}, 17.0),
        ({"RateLimit": '"api";r=0;t=55', "Retry-After": "1"}, 55.0),
        ({"RateLimit": '"api";r=12;t=55'}, None),
        ({}, None),
    ],
)
def test_a_rate_limit_is_ours_to_wait_for(hub: FakeHub, headers: dict[str, str], pause: float | None) -> None:
    hub.create("team/model").commit(FILES)
    hub.fail(Fault("status", "/tree/", status=429, headers=headers))
    source = source_of(hub)
    with pytest.raises(Transient) as caught:
        source.listing()
    assert caught.value.retry_after == pause
    assert source.listing().files


def test_a_pause_that_was_asked_for_is_kept_on_the_clock(hub: FakeHub) -> None:
    hub.create("team/model").commit(FILES)
    hub.fail(Fault("status", "/tree/", times=2, status=429, headers={"Retry-After": "40"}))
    pauses: list[float] = []
    patience = Patience(seconds=100.0, clock=lambda: sum(pauses), sleep=pauses.append)
    location = HuggingFaceLocation("team/model", endpoint=hub.endpoint)
    assert opened(location, patience=patience).listing().files
    assert pauses == [40.0, 40.0]


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_hub_that_is_down_is_passing(hub: FakeHub, status: int) -> None:
    hub.create("team/model").commit(FILES)
    hub.fail(Fault("status", "/api/models/", status=status))
    with pytest.raises(Transient):
        source_of(hub).listing()


def test_nobody_there_is_unreachable_and_names_the_variable() -> None:
    location = HuggingFaceLocation("team/model", endpoint=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(EndpointUnreachable) as caught:
        opened(location).listing()
    assert "HF_ENDPOINT" in caught.value.hint


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b"{}", b'{"id": "team/model"}', b'{"id": "a/b", "sha": "../x"}'])
def test_an_answer_that_is_none_of_a_hub_says_so(answer: bytes) -> None:
    with ScriptedServer(lambda heard: heard.say(reply(200, answer))) as server:
        source = opened(HuggingFaceLocation("team/model", endpoint=server.url))
        with pytest.raises(Transient, match="makes no sense") as caught:
            source.listing()
    assert "HF_ENDPOINT" in caught.value.hint


@pytest.mark.parametrize(("location", "why"), [("/api/models/team/model", "redirects"), ("//[x", "nowhere")])
def test_a_redirect_that_leads_nowhere_is_given_up_at_once(location: str, why: str) -> None:
    with ScriptedServer(lambda heard: heard.say(reply(307, location=location))) as server:
        source = opened(HuggingFaceLocation("team/model", endpoint=server.url))
        with pytest.raises(Transient, match=why):
            source.listing()
    assert len(server.heard) <= 6


def test_no_sign_of_the_token_in_what_the_library_logs(hub: FakeHub, caplog: pytest.LogCaptureFixture) -> None:
    hub.create("team/model").commit(FILES)
    with caplog.at_level(logging.DEBUG):
        source = source_of(hub, token=TOKEN)
        source.listing()
        refused(source_of(hub, "team/nobody", token=TOKEN))
    assert caplog.records
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(source)


def test_an_interrupt_ends_a_listing_that_waits(hub: FakeHub) -> None:
    with ScriptedServer(lambda _: HuggingFaceSource.interrupt(waiting)) as server:
        waiting = opened(HuggingFaceLocation("team/model", endpoint=server.url))
        with pytest.raises(Transient):
            waiting.listing()


def test_a_stop_ends_the_pause_between_two_requests(hub: FakeHub) -> None:
    hub.create("team/model").commit(FILES)
    hub.fail(Fault("status", "/api/models/", times=-1, status=503))
    asked = count()

    def clock() -> float:
        if next(asked) == 1:  # after the first refusal, before the pause
            source.interrupt()
        return 0.0

    patience = Patience(seconds=3600.0, first_pause=3600.0, longest_pause=3600.0, clock=clock)
    source = opened(HuggingFaceLocation("team/model", endpoint=hub.endpoint), patience=patience)
    with pytest.raises(Transient):
        source.listing()
