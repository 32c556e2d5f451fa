"""The registry is what we take it for: where it differs from the specification, or from others, is told here."""

import base64
import hashlib
import http.client
import json
import uuid
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from syncer.errors import WrongBytes
from syncer.settings.locations import Network
from syncer.stores.oci.destination import OciDestination
from syncer.stores.protocols import Cut, UploadLost
from tests.contract.checks import as_file, part_of, send_part, some_bytes
from tests.support.docker_registry import PASSWORD, USER, DockerRegistry

Ask = Callable[..., http.client.HTTPResponse]
OF_AN_IMAGE = "application/vnd.oci.image.manifest.v1+json"
EMPTY = b"{}"


@pytest.fixture
def repository() -> str:
    return f"real/{uuid.uuid4().hex[:12]}"


@pytest.fixture
def ask(basic_registry: DockerRegistry) -> Ask:
    """One request with our login; the answer, its body read."""
    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    def once(method: str, url: str, body: bytes = b"", **headers: str) -> http.client.HTTPResponse:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(basic_registry.authority, timeout=60)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, body, {"Authorization": f"Basic {login}"} | named)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer

    return once


def begun(ask: Ask, repository: str, query: str = "") -> str:
    answer = ask("POST", f"/v2/{repository}/blobs/uploads/{query}")
    assert answer.status == 202
    return str(answer.getheader("Location"))


def pushed(ask: Ask, repository: str, content: bytes) -> str:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    answer = ask("PUT", f"{begun(ask, repository)}&digest={digest}", content, Content_Type="application/octet-stream")
    assert answer.status == 201
    return digest


def tagged(ask: Ask, repository: str, tag: str, **more: object) -> str:
    """Push an image without layers; its digest."""
    config = {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2, "digest": pushed(ask, repository, EMPTY)}
    manifest = {"schemaVersion": 2, "mediaType": OF_AN_IMAGE, "config": config, "layers": []} | more
    answer = ask("PUT", f"/v2/{repository}/manifests/{tag}", json.dumps(manifest).encode(), Content_Type=OF_AN_IMAGE)
    assert answer.status == 201
    return str(answer.getheader("Docker-Content-Digest"))


def test_nobody_is_let_in_without_the_password(basic_registry: DockerRegistry) -> None:
    connection = http.client.HTTPConnection(basic_registry.authority, timeout=60)
    connection.request("GET", "/v2/")
    answer = connection.getresponse()
    assert answer.status == 401
    assert str(answer.getheader("WWW-Authenticate")).startswith("Basic ")
    connection.close()


def test_it_has_no_referrers(ask: Ask, repository: str) -> None:
    digest = tagged(ask, repository, "1")
    assert ask("GET", f"/v2/{repository}/referrers/{digest}").status == 404


def test_it_takes_artifacts(ask: Ask, repository: str) -> None:
    subject = {"mediaType": OF_AN_IMAGE, "size": 2, "digest": tagged(ask, repository, "1")}
    tagged(ask, repository, "artifact", artifactType="application/vnd.test", subject=subject)
    assert ask("GET", f"/v2/{repository}/manifests/artifact", Accept=OF_AN_IMAGE).status == 200


def test_a_tag_is_removed_with_its_manifest_and_not_alone(ask: Ask, repository: str) -> None:
    digest = tagged(ask, repository, "1")
    assert ask("DELETE", f"/v2/{repository}/manifests/1").status >= 400
    assert ask("HEAD", f"/v2/{repository}/manifests/1", Accept=OF_AN_IMAGE).status == 200
    assert ask("DELETE", f"/v2/{repository}/manifests/{digest}").status == 202
    assert ask("HEAD", f"/v2/{repository}/manifests/1", Accept=OF_AN_IMAGE).status == 404


def test_an_upload_that_is_given_up_can_be_removed(ask: Ask, repository: str, basic_registry: DockerRegistry) -> None:
    upload = begun(ask, repository)
    assert len(basic_registry.repository(repository).uploads()) == 1
    assert ask("DELETE", upload).status == 204
    assert basic_registry.repository(repository).uploads() == []


def test_an_empty_upload_and_one_of_a_byte_have_the_same_range(ask: Ask, repository: str) -> None:
    upload = begun(ask, repository)
    assert ask("GET", upload).getheader("Range") == "0-0"
    sent = ask("PATCH", upload, b"x", Content_Type="application/octet-stream", Content_Range="0-0")
    assert (sent.status, sent.getheader("Range")) == (202, "0-0")
    ask("DELETE", str(sent.getheader("Location")))


def test_a_layer_of_another_repository_is_linked(ask: Ask, repository: str) -> None:
    digest = pushed(ask, repository, b"weights")
    answer = ask("POST", f"/v2/{repository}-2/blobs/uploads/?mount={digest}&from={repository}")
    assert answer.status == 201
    assert ask("HEAD", f"/v2/{repository}-2/blobs/{digest}").status == 200


def test_it_looks_at_the_digest_of_what_it_gets(ask: Ask, repository: str) -> None:
    digest = f"sha256:{hashlib.sha256(b'other bytes').hexdigest()}"
    refused = ask("PUT", f"{begun(ask, repository)}&digest={digest}", b"weights", Content_Type="application/x")
    assert refused.status == 400


def test_half_a_chunk_costs_it_the_upload_and_us_the_file(basic_registry: DockerRegistry, repository: str) -> None:
    """Its state remembers where the chunk began: a file whose part broke is sent from its beginning."""
    content = some_bytes(3 * 1024)
    file, cut = as_file("file.bin", content), Cut(len(content), 1024)
    destination = OciDestination(basic_registry.location(repository), Network())
    upload = destination.begin(file, cut)
    sink = upload.open_part(0)
    sink.send(memoryview(part_of(content, cut, 0))[:100])
    sink.cancel()
    with pytest.raises((UploadLost, WrongBytes)):
        send_part(upload, 0, part_of(content, cut, 0))
    upload.abort()
    again = destination.begin(file, cut)
    for index in range(cut.count):
        send_part(again, index, part_of(content, cut, index))
    again.finish()
    destination.close()
