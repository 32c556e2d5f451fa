"""What breaks between us and a registry of images: answers that get lost, pages that are no answers, uploads that stay.

Whole runs against Docker's own registry are in `tests/faults`.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

import pytest

from syncer.errors import EndpointUnreachable, Transient, WrongBytes
from syncer.retry import Patience
from syncer.settings.locations import ImageLocation, Network
from syncer.stores.oci.destination import OciDestination
from syncer.stores.oci.documents import identified
from syncer.stores.oci.registry import Registry
from syncer.wire import Timeouts
from tests.contract.checks import drain
from tests.support.cos_places import own_redactor
from tests.support.fault_proxy import FaultProxy, Incident, Reply, Seen
from tests.support.http_faults import FAULTS
from tests.support.image_registry import ImageRegistry, digest_of
from tests.support.scripted_server import Heard, ScriptedServer, reply
from tests.unit.test_oci_registry import CONTENT, FILE, arrived, push, whole

AT_ONCE = Patience(seconds=8.0, sleep=lambda _: None)
KIND = "application/vnd.oci.image.manifest.v1+json"
LOST = FAULTS["done, but the answer is lost"].act
RESET = FAULTS["reset before the answer"].act
_OPEN = ExitStack()


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    with own_redactor(), _OPEN:
        yield


@pytest.fixture
def registry() -> Iterator[ImageRegistry]:
    with ImageRegistry() as there:
        yield there


@pytest.fixture
def proxy(registry: ImageRegistry) -> Iterator[FaultProxy]:
    with FaultProxy("localhost", int(registry.authority.rpartition(":")[2])) as before:
        yield before


def behind(proxy: FaultProxy) -> ImageLocation:
    return ImageLocation(f"localhost:{proxy.port}", "team/model", "latest", validate_tls=False)


def opened(location: ImageLocation) -> OciDestination:
    return _OPEN.enter_context(closing(OciDestination(location, Network(), patience=AT_ONCE)))


def opened_registry(location: ImageLocation, timeouts: Timeouts | None = None) -> Registry:
    return _OPEN.enter_context(closing(Registry(location, Network(), writes=True, patience=AT_ONCE, timeouts=timeouts)))


def page(status: int = 200) -> Callable[[Incident], None]:
    """What a proxy says instead of the registry."""

    def act(incident: Incident) -> None:
        body = b"<html>Please log in to the network</html>"
        incident.answer(Reply(status, headers=[("Content-Type", "text/html; charset=utf-8")], body=body))

    return act


def asked(proxy: FaultProxy, method: str) -> list[Seen]:
    return [seen for seen in proxy.requests if seen.method == method]


# Uploads that stay --------------------------------------------------------------------------------------------------


def test_giving_up_an_upload_needs_the_right_to_delete_and_has_it() -> None:
    with ImageRegistry(auth="bearer") as registry:
        opened(registry.location()).prepare()
        assert registry.uploads == {}


def test_where_no_token_has_that_right_the_one_to_push_is_tried() -> None:
    with ImageRegistry(auth="bearer") as registry:
        registry.refuses = lambda method, _: method == "DELETE"
        destination = opened(registry.location())
        destination.prepare()
        shown = [asked.authorization for asked in registry.asked if asked.method == "DELETE"]
        tokens = [registry.tokens[one.removeprefix("Bearer ")] for one in shown]
        assert [len(scopes) for scopes in tokens] == [2, 1, 1]  # the first was new, the second had been of use before
        version = push(destination)
        destination.commit(whole(version))
        assert arrived(registry, version)


@pytest.mark.parametrize("fault", [RESET, FAULTS["503"].act])
def test_a_small_layer_that_fails_leaves_no_upload(registry: ImageRegistry, proxy: FaultProxy, fault: Any) -> None:
    proxy.inject(fault, r"^PUT .*digest=")
    store = opened_registry(behind(proxy))
    store.push_small(b"{}", digest_of(b"{}"))
    assert registry.uploads == {}
    assert registry.repository().blobs == {digest_of(b"{}"): b"{}"}
    assert len(asked(proxy, "POST")) <= 2


def test_one_upload_that_cannot_be_removed_at_once_is_removed_a_little_later(
    registry: ImageRegistry, proxy: FaultProxy
) -> None:
    proxy.inject(FAULTS["503"].act, r"^DELETE ")
    opened(behind(proxy)).prepare()
    assert registry.uploads == {}


# Answers that get lost ----------------------------------------------------------------------------------------------


def test_a_small_layer_whose_answer_is_lost_is_there(registry: ImageRegistry, proxy: FaultProxy) -> None:
    proxy.inject(LOST, r"^PUT .*digest=")
    opened_registry(behind(proxy)).push_small(b"{}", digest_of(b"{}"))
    assert registry.uploads == {}
    assert registry.repository().blobs == {digest_of(b"{}"): b"{}"}
    assert len(asked(proxy, "POST")) == 1


def test_a_layer_whose_answer_is_lost_is_there(registry: ImageRegistry, proxy: FaultProxy) -> None:
    proxy.inject(LOST, r"^PUT .*digest=")
    version = push(opened(behind(proxy)))
    assert arrived(registry, version)
    assert len(asked(proxy, "POST")) == 1


def test_a_registry_that_is_down_while_it_is_asked_for_a_layer_has_lost_nothing(
    registry: ImageRegistry, proxy: FaultProxy
) -> None:
    destination = opened(behind(proxy))
    upload = destination._registry.upload()
    assert upload is not None
    proxy.inject(FAULTS["503"].act, r"^HEAD ")
    with pytest.raises(Transient) as caught:
        upload.exists(digest_of(b""))
    assert caught.value.retryable


# Pages that are no answers ------------------------------------------------------------------------------------------


def test_a_page_instead_of_a_manifest_is_no_image(registry: ImageRegistry, proxy: FaultProxy) -> None:
    """It was taken for somebody else's image, which the run then refused to replace."""
    proxy.inject(page(), r"^GET .*/manifests/", for_ever=True)
    with pytest.raises(Transient, match="a page for people") as caught:
        opened(behind(proxy)).listing()
    assert "NO_PROXY" in caught.value.hint
    assert registry.uploads == {}


def test_a_manifest_counts_as_pushed_when_it_is_there(registry: ImageRegistry, proxy: FaultProxy) -> None:
    destination = opened(behind(proxy))
    version = push(destination)
    proxy.inject(page(), r"^PUT .*/manifests/")
    destination.commit(whole(version))
    assert destination.digest == registry.repository().tags["latest"]
    registry.repository().tags.clear()
    proxy.inject(page(), r"^PUT .*/manifests/", for_ever=True)
    with pytest.raises(Transient, match="is not there"):
        destination.commit(whole(version))


def test_a_layer_counts_as_pushed_when_it_is_there(registry: ImageRegistry, proxy: FaultProxy) -> None:
    proxy.inject(page(), r"^PUT .*digest=", for_ever=True)
    destination = opened(behind(proxy))
    with pytest.raises(Transient, match="is not there"):
        push(destination)
    proxy.inject(page(), r"^PUT .*digest=")
    upload = destination._registry.upload()
    assert upload is not None
    with pytest.raises(Transient, match="is not there"):
        upload.close(digest_of(CONTENT), CONTENT)
    upload.close(digest_of(CONTENT), CONTENT)
    assert registry.repository().blobs[digest_of(CONTENT)] == CONTENT


def test_a_page_where_a_small_layer_is_looked_for_is_not_that_layer(registry: ImageRegistry, proxy: FaultProxy) -> None:
    proxy.inject(page(), r"^HEAD ")
    opened_registry(behind(proxy)).push_small(b"{}", digest_of(b"{}"))
    assert registry.repository().blobs == {digest_of(b"{}"): b"{}"}


@pytest.mark.parametrize("act", [page(), FAULTS["200 with an error inside"].act], ids=["page", "errors"])
def test_an_upload_that_is_begun_with_another_answer_is_begun_again(
    registry: ImageRegistry, proxy: FaultProxy, act: Any
) -> None:
    """A Job that may not try again was told to check its settings."""
    proxy.inject(act, r"^POST ")
    opened(behind(proxy)).prepare()
    assert proxy.hits == 1
    assert registry.uploads == {}


def test_errors_with_status_200_are_no_image(registry: ImageRegistry, proxy: FaultProxy) -> None:
    def act(incident: Incident) -> None:
        incident.answer(Reply(200, headers=[("Content-Type", "application/json")], body=b'{"errors":[]}'))

    proxy.inject(act, r"^GET .*/manifests/")
    assert opened_registry(behind(proxy)).manifest("latest") is None
    proxy.inject(act, r"^GET .*/manifests/", for_ever=True)
    with pytest.raises(Transient, match="errors came"):
        opened_registry(behind(proxy)).manifest("latest")


def test_a_page_instead_of_a_layer_is_read_again(registry: ImageRegistry, proxy: FaultProxy) -> None:
    destination = opened(behind(proxy))
    there = replace(FILE, version=push(destination))
    proxy.inject(page(), r"^GET .*/blobs/")
    with pytest.raises(Transient) as caught:
        destination.read(there, 0, 1000)
    assert caught.value.hint
    assert drain(destination.read(there, 1000, 1000), 1000) == CONTENT[1000:2000]


# What is tidied -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", [FAULTS["500"].act, page(), RESET, LOST], ids=["500", "page", "reset", "lost"])
def test_a_tag_that_is_not_removed_at_once_is_removed_a_little_later(
    registry: ImageRegistry, proxy: FaultProxy, act: Any
) -> None:
    there = registry.repository()
    there.manifests[digest_of(b"{}")], there.tags["old"] = (KIND, b"{}"), digest_of(b"{}")
    proxy.inject(act, r"^DELETE .*sha256")
    assert opened_registry(behind(proxy)).forget("old", digest_of(b"{}"))
    assert there.tags == {}
    assert proxy.hits == 1


def test_a_tag_that_a_broken_registry_keeps_is_no_tag_that_is_gone(registry: ImageRegistry, proxy: FaultProxy) -> None:
    proxy.inject(FAULTS["500"].act, r"^DELETE ", for_ever=True)
    with pytest.raises(Transient):
        opened_registry(behind(proxy)).forget("old", digest_of(b"{}"))


# Bytes that changed on the way --------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["digest", "tag"])
def test_a_manifest_that_was_damaged_on_the_way_is_read_once_more(
    registry: ImageRegistry, proxy: FaultProxy, by: str
) -> None:
    """Of a tag the registry itself says what it should be."""
    content = b'{"layers": []}'
    registry.repository().manifests[digest_of(content)] = (KIND, content)
    registry.repository().tags["latest"] = digest_of(content)
    store, reference = opened_registry(behind(proxy)), digest_of(content) if by == "digest" else "latest"

    def damaged(incident: Incident) -> None:
        sound = incident.pass_on().having("Docker-Content-Digest", digest_of(content))
        incident.answer(replace(sound, body=content.replace(b"l", b"m")))

    proxy.inject(damaged, r"^GET .*/manifests/")
    assert store.manifest(reference) == identified(content, KIND)
    proxy.inject(damaged, r"^GET .*/manifests/", for_ever=True)
    with pytest.raises(WrongBytes, match="is another one"):
        store.manifest(reference)
    assert proxy.hits == 2


# Other hosts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403, 404])
def test_an_address_of_a_layer_that_has_ended_is_asked_for_again(registry: ImageRegistry, status: int) -> None:
    """Storage refuses a signature that has ended; the registry gives a new one, and nobody's login is wrong."""
    destination = opened(registry.location())
    version = push(destination)
    with ScriptedServer(lambda heard: heard.say(reply(status, b"<Error/>"))) as storage:
        registry.redirects_to = storage.url
        with pytest.raises(Transient) as caught:
            destination.read(replace(FILE, version=version), 0, 1000)
        assert storage.url in caught.value.hint
        assert "Authorization" not in str(storage.heard[0].headers)
    registry.redirects_to = ""
    assert drain(destination.read(replace(FILE, version=version), 1000, 1000), 1000) == CONTENT[1000:2000]


@pytest.mark.parametrize("status", [400, 301])
def test_a_fault_of_tls_does_not_make_a_registry_one_without(status: int) -> None:
    """It was spoken to in plain text for the rest of the run, and said 400 to everything."""

    def script(heard: Heard) -> None:
        heard.say(reply(status))

    with ScriptedServer(script) as server:
        location = ImageLocation(server.url.partition("://")[2], "team/model", "latest", validate_tls=False)
        with pytest.raises(EndpointUnreachable):
            _ = opened_registry(location, timeouts=Timeouts(connect=0.3)).session.origin
        assert {heard.method for heard in server.heard} <= {"GET"}


def test_a_token_that_is_a_page_names_the_token_server() -> None:
    with ImageRegistry(auth="bearer") as registry:
        registry.lives = "soon"  # type: ignore[assignment]  # no number
        with pytest.raises(Transient) as caught:
            opened(registry.location()).prepare()
        assert registry.url in caught.value.hint
