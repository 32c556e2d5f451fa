"""What a registry may ask of us, and what it may do to us: logins, chunks, redirects, faults."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from syncer.errors import (
    ConfigurationError,
    CredentialsRefused,
    EndpointUnreachable,
    NotThereYet,
    OutOfSpace,
    SyncerError,
    Transient,
    WrongBytes,
)
from syncer.manifest import FileRecord, Manifest, ModelFile
from syncer.redaction import redact
from syncer.retry import Patience
from syncer.settings.locations import ImageLocation, Network, RegistryLogin
from syncer.stores.oci.destination import OciDestination
from syncer.stores.oci.login import is_loopback
from syncer.stores.oci.registry import Registry
from syncer.stores.protocols import Cut, UploadLost
from syncer.wire import Answer, Wire
from tests.contract.checks import drain, part_of, send_part, some_bytes
from tests.support.cos_places import own_redactor
from tests.support.image_registry import PASSWORD, USER, ImageRegistry, digest_of

CONTENT = some_bytes(3000)
CUT = Cut(3000, 1000, in_order=True)
ONCE = Patience(seconds=0.0)
FILE = ModelFile("a/w.bin", 3000, "v1")


@pytest.fixture(autouse=True)
def _redactor() -> Iterator[None]:
    with own_redactor():
        yield


@pytest.fixture
def registry() -> Iterator[ImageRegistry]:
    with ImageRegistry() as there:
        yield there


@pytest.fixture
def guarded() -> Iterator[ImageRegistry]:
    with ImageRegistry(auth="bearer") as there:
        yield there


_OPEN = ExitStack()


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    with _OPEN:
        yield


def opened(location: ImageLocation) -> OciDestination:
    return _OPEN.enter_context(closing(OciDestination(location, Network(), patience=ONCE)))


def push(destination: OciDestination, *, before: Callable[[int], None] = lambda _: None) -> str:
    """Send the file, as the engine does: a part that breaks comes once more."""
    upload = destination.begin(FILE, CUT)
    for index in range(CUT.count):
        before(index)
        for attempt in range(2):
            try:
                send_part(upload, index, part_of(CONTENT, CUT, index))
                break
            except Transient as error:
                if attempt or not error.retryable:
                    raise
    return upload.finish()


def whole(version: str) -> Manifest:
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    record = FileRecord(FILE.path, FILE.size, {"sha256": sha256}, "stream", FILE.version, version)
    return Manifest("hf://team/model", "abc", {FILE.path: record})


def arrived(registry: ImageRegistry, version: str) -> bool:
    blob = registry.repository().blobs[version]
    return digest_of(blob) == version and blob[-1024 - 3000 - 72 :][:3000] == CONTENT


# Logins -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", ["", "basic", "bearer"])
def test_every_kind_of_login_pushes(auth: Any) -> None:
    with ImageRegistry(auth=auth) as registry:
        destination = opened(registry.location())
        destination.prepare()
        version = push(destination)
        destination.commit(whole(version))
        assert arrived(registry, version)
        assert destination.digest == registry.repository().tags["latest"]
        assert destination.uri == f"oci://{registry.authority}/team/model@{destination.digest}"
        # To give up an upload is a right of its own, and so is its token.
        assert registry.token_requests == (2 if auth == "bearer" else 0)


def test_an_identity_token_is_exchanged(guarded: ImageRegistry) -> None:
    login = RegistryLogin(guarded.authority, identity_token=SecretStr(PASSWORD))
    assert arrived(guarded, push(opened(guarded.location(logins=(login,)))))
    assert guarded.asked[1].method == "POST"


@pytest.mark.parametrize("auth", ["basic", "bearer"])
@pytest.mark.parametrize("known", [True, False], ids=["wrong", "none"])
def test_a_login_that_is_refused_is_final_and_says_where_it_comes_from(auth: Any, known: bool) -> None:
    with ImageRegistry(auth=auth) as registry:
        logins = (RegistryLogin(registry.authority, USER, SecretStr("not-the-password")),) if known else ()
        with pytest.raises(CredentialsRefused, match="login") as caught:
            opened(registry.location(logins=logins)).prepare()
        assert "REGISTRY_AUTH_FILE" in caught.value.hint
        assert "not-the-password" not in repr(caught.value) + caught.value.message
        assert len(registry.asked) <= 3


def test_the_login_with_the_longest_scope_is_used(guarded: ImageRegistry) -> None:
    wrong = SecretStr("not-this-one")
    logins = (
        RegistryLogin(guarded.authority, USER, wrong),
        RegistryLogin(f"{guarded.authority}/team", USER, SecretStr(PASSWORD)),
        RegistryLogin(f"{guarded.authority}/tea", USER, wrong),
        RegistryLogin("localhost", USER, wrong),
    )
    opened(guarded.location(logins=logins)).prepare()


def test_a_token_that_ends_in_the_middle_of_a_push_is_renewed_once(guarded: ImageRegistry) -> None:
    destination = opened(guarded.location())
    version = push(destination, before=lambda index: guarded.end_tokens() if index == 1 else None)
    assert arrived(guarded, version)
    assert guarded.token_requests == 2


def test_a_registry_that_refuses_every_new_token_is_believed(guarded: ImageRegistry) -> None:
    destination = opened(guarded.location())
    upload = destination.begin(FILE, CUT)

    def attempt() -> None:
        guarded.end_tokens()
        send_part(upload, 0, part_of(CONTENT, CUT, 0))

    with pytest.raises(Transient):
        attempt()
    with pytest.raises(CredentialsRefused):
        attempt()


@pytest.mark.parametrize("auth", ["basic", "bearer"])
@pytest.mark.parametrize("method", ["POST", "GET", "PATCH", "PUT"])
def test_a_registry_that_answers_401_for_ever_gets_one_renewal(auth: Any, method: str) -> None:
    """What goes in between, or is proved by other requests, begins nothing anew: tokens are fresh each time."""
    with ImageRegistry(auth=auth) as registry:
        destination = opened(registry.location())
        destination.prepare()
        registry.asked.clear()
        before = registry.token_requests
        registry.refuses = lambda asked, _: asked == method
        with pytest.raises(CredentialsRefused) as caught:
            patiently(destination)
        assert "REGISTRY_AUTH_FILE" in caught.value.hint
        asked = [asked.status for asked in registry.asked if asked.method == method and "/v2/" in asked.path]
        assert asked == [401, 401]
        assert registry.token_requests - before <= 1


def patiently(destination: OciDestination) -> None:
    """Everything that a run asks for, each part until it arrives or is refused for good."""
    destination.listing()
    upload = destination.begin(FILE, CUT)
    for index in range(CUT.count):
        for _ in range(10):
            try:
                send_part(upload, index, part_of(CONTENT, CUT, index))
                break
            except Transient:
                continue
    upload.finish()


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_passes_that_others_prove_or_renew_meanwhile_keep_no_request_going(auth: Any) -> None:
    with ImageRegistry(auth=auth) as registry:
        store = _OPEN.enter_context(closing(Registry(registry.location(), Network(), writes=False)))
        beside = _OPEN.enter_context(closing(Registry(registry.location(), Network(), writes=False)))
        beside.session = store.session
        proves = registry.repository()
        proves.manifests[digest_of(b"{}")] = ("application/vnd.oci.image.manifest.v1+json", b"{}")
        proves.tags["latest"] = digest_of(b"{}")
        store.manifest("latest")
        registry.asked.clear()

        def refuses(_method: str, path: str) -> bool:
            if not path.endswith("/refused"):
                return False
            if len(registry.asked) < 20:
                beside.manifest("latest")
            return True

        registry.refuses = refuses
        with pytest.raises(CredentialsRefused):
            store.manifest("refused")
        assert [asked.status for asked in registry.asked if asked.path.endswith("/refused")] == [401, 401]


def test_a_token_that_ends_at_once_is_asked_for_once_more_and_no_oftener(guarded: ImageRegistry) -> None:
    guarded.lives = -1
    store = _OPEN.enter_context(closing(Registry(guarded.location(), Network(), writes=False)))
    guarded.refuses = lambda _method, _path: True
    with pytest.raises(CredentialsRefused):
        store.manifest("latest")
    assert guarded.token_requests <= 3


def test_a_token_whose_life_is_no_number_of_this_world_is_a_passing_fault(guarded: ImageRegistry) -> None:
    guarded.lives = 10**400
    with pytest.raises(Transient, match="makes sense"):
        opened(guarded.location()).prepare()


@pytest.mark.parametrize("kind", ["Basic", "Bearer"])
def test_another_host_that_takes_the_chunks_gets_no_login(guarded: ImageRegistry, kind: str) -> None:
    """Its 401 names a token server of its own."""
    with ImageRegistry() as elsewhere:
        theirs = f"{elsewhere.url}/v2/theirs/blobs/uploads/1"
        guarded.answers["POST", "/v2/team/model/blobs/uploads"] = [(202, {"Location": theirs}, {})]
        told = {"WWW-Authenticate": f'{kind} realm="{elsewhere.url}/token"'}
        elsewhere.answers["PATCH", "/v2/theirs/blobs/uploads"] = [(401, told, {})] * 9
        with pytest.raises(CredentialsRefused):
            push(opened(guarded.location()))
        assert [(asked.method, asked.authorization) for asked in elsewhere.asked] == [("PATCH", "")]


def test_tokens_never_show(guarded: ImageRegistry) -> None:
    opened(guarded.location()).prepare()
    token = next(iter(guarded.tokens))
    assert token not in redact(f"something with {token} in it")
    assert PASSWORD not in redact(f"something with {PASSWORD} in it")


@pytest.mark.parametrize(("allowed", "error"), [(False, ConfigurationError), (True, EndpointUnreachable)])
def test_a_login_travels_without_encryption_only_where_that_is_allowed(
    guarded: ImageRegistry, allowed: bool, error: type[SyncerError]
) -> None:
    def elsewhere(status: int) -> tuple[int, dict[str, str], Any]:
        return (status, {"WWW-Authenticate": 'Bearer realm="http://nowhere.invalid/token",service="x"'}, {})

    guarded.answers["POST", "/v2/team/model/blobs/uploads"] = [elsewhere(401)]
    with pytest.raises(error) as caught:
        opened(guarded.location(plaintext_tokens=allowed)).prepare()
    if not allowed:
        assert "S3_SYNC_ALLOW_PLAINTEXT_TOKENS" in caught.value.hint


def test_loopback_is_loopback() -> None:
    assert is_loopback("127.0.0.1")
    assert is_loopback("::1")
    assert is_loopback("localhost")
    assert not is_loopback("localhost.example.com")
    assert not is_loopback("10.0.0.1")


def test_without_tls_only_where_the_check_is_off(registry: ImageRegistry) -> None:
    with pytest.raises(EndpointUnreachable) as caught:
        opened(registry.location(validate_tls=True)).prepare()
    assert "OCI_VALIDATE_TLS=false" in caught.value.hint


# Chunks -------------------------------------------------------------------------------------------------------------


def test_chunks_are_as_large_as_the_registry_wants_them(registry: ImageRegistry) -> None:
    registry.smallest_chunk = 1500
    destination = opened(registry.location())
    assert destination.limits.smallest_part == 1
    destination.prepare()
    assert destination.limits.smallest_part == 1500
    assert registry.uploads == {}


@pytest.mark.parametrize("arrives", [0, 1, 999, 5000])
def test_a_part_that_breaks_goes_on_where_the_registry_is(registry: ImageRegistry, arrives: int) -> None:
    breaks = [None, arrives]
    registry.break_off = lambda first: breaks.pop() if first and breaks else None
    version = push(opened(registry.location()))
    assert arrived(registry, version)
    sent = [asked.received for asked in registry.asked if asked.method == "PATCH"]
    assert sum(sent) == len(registry.repository().blobs[version]) - min(arrives, 1000)


def test_an_upload_that_the_registry_lost_starts_again(registry: ImageRegistry) -> None:
    upload = opened(registry.location()).begin(FILE, CUT)
    send_part(upload, 0, part_of(CONTENT, CUT, 0))
    registry.uploads.clear()
    with pytest.raises(UploadLost):
        send_part(upload, 1, part_of(CONTENT, CUT, 1))


def test_bytes_that_changed_on_the_way_are_wrong(registry: ImageRegistry) -> None:
    upload = opened(registry.location()).begin(FILE, CUT)
    for index in range(CUT.count):
        send_part(upload, index, part_of(CONTENT, CUT, index))
    next(iter(registry.uploads.values()))[2000] ^= 1
    with pytest.raises(WrongBytes):
        upload.finish()


def test_a_registry_may_take_its_time_to_close_a_layer(
    registry: ImageRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time that it copies the layer in its own storage: whoever gave up would send all of it again, for nothing."""
    borne: list[tuple[str, float]] = []
    original = Wire.ask

    def noted(self: Wire, method: str, *given: Any, idle: float = 0.0, **more: Any) -> Answer:
        borne.append((method, idle))
        return original(self, method, *given, idle=idle, **more)

    monkeypatch.setattr(Wire, "ask", noted)
    destination = opened(registry.location())
    destination.commit(whole(push(destination)))
    assert [idle for method, idle in borne if method == "PUT"] == [600.0, 0.0, 0.0]  # layer, config, manifest


def test_addresses_may_be_absolute(registry: ImageRegistry) -> None:
    registry.absolute = True
    assert arrived(registry, push(opened(registry.location())))


@pytest.mark.parametrize("location", ["http://[", "ftp://elsewhere/x", "file:///etc/passwd"])
def test_an_address_that_leads_nowhere_is_a_fault(registry: ImageRegistry, location: str) -> None:
    registry.answers["POST", "/v2/team/model/blobs/uploads"] = [(202, {"Location": location}, {})]
    with pytest.raises(Transient):
        opened(registry.location()).prepare()


# Reading ------------------------------------------------------------------------------------------------------------


def test_redirects_to_another_host_carry_no_login(guarded: ImageRegistry) -> None:
    destination = opened(guarded.location())
    version = push(destination)
    guarded.redirects_to = guarded.url.replace("localhost", "127.0.0.1")
    there = replace(FILE, version=version)
    assert drain(destination.read(there, 1000, 1000), 1000) == CONTENT[1000:2000]
    assert [asked.authorization for asked in guarded.asked if "/elsewhere/" in asked.path] == [""]


def test_a_registry_without_ranges_is_read_all_the_same(registry: ImageRegistry) -> None:
    registry.serves_ranges = False
    destination = opened(registry.location())
    there = replace(FILE, version=push(destination))
    assert drain(destination.read(there, 1000, 1000), 1000) == CONTENT[1000:2000]


def test_a_manifest_that_is_another_one_is_refused(registry: ImageRegistry) -> None:
    wrong = "sha256:" + 64 * "0"
    registry.repository().manifests[wrong] = ("application/vnd.oci.image.manifest.v1+json", b"{}")
    with pytest.raises(WrongBytes):
        _OPEN.enter_context(closing(Registry(registry.location(), Network(), writes=False))).manifest(wrong)


# Refusals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "DENIED", CredentialsRefused),
        (403, "QUOTA_EXCEEDED", OutOfSpace),
        (404, "NAME_UNKNOWN", NotThereYet),
        (405, "UNSUPPORTED", ConfigurationError),
        (413, "", ConfigurationError),
        (429, "TOOMANYREQUESTS", Transient),
        (500, "UNKNOWN", Transient),
        (503, "", Transient),
        (507, "", OutOfSpace),
    ],
)
def test_what_a_registry_refuses_is_told_by_its_remedy(
    registry: ImageRegistry, status: int, code: str, kind: type[SyncerError]
) -> None:
    said = {"errors": [{"code": code, "message": "because\nof this"}]} if code else []
    registry.answers["POST", "/v2/team/model/blobs/uploads"] = [(status, {"Retry-After": "7"}, said)]
    with pytest.raises(kind) as caught:
        opened(registry.location()).prepare()
    assert type(caught.value) is kind
    assert str(status) in caught.value.message
    assert "\n" not in caught.value.message
    assert isinstance(caught.value, Transient) == (getattr(caught.value, "retry_after", None) == 7)


def test_a_layer_that_is_too_large_says_so(registry: ImageRegistry) -> None:
    registry.answers["PATCH", "/v2/team/model/blobs/uploads"] = [(413, {}, {})]
    with pytest.raises(ConfigurationError) as caught:
        push(opened(registry.location()))
    assert "CHUNK_SIZE" in caught.value.hint


def test_documents_are_valid_json(registry: ImageRegistry) -> None:
    destination = opened(registry.location())
    destination.commit(whole(push(destination)))
    for _, content in registry.repository().manifests.values():
        assert json.loads(content)["schemaVersion"] == 2
