"""The Kubernetes API by its real client: which cluster, what it says, and what it means when it says no."""

import base64
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from syncer import redaction
from syncer.cluster import Cluster, Door, door_to, find_access, login
from syncer.cluster.doors import ingress_to, inner_service, route_to
from syncer.cluster.login import Plugin
from syncer.errors import ConfigurationError, CredentialsRefused, EndpointUnreachable, SyncerError, Transient
from syncer.redaction import Redactor
from tests.support.buckets import free_port
from tests.support.fake_kubernetes import INGRESSES, ROUTES, TOKEN, FakeKubernetes, running_kubernetes

INNER = "https://s3.openshift-storage.svc:443"


@pytest.fixture(autouse=True)
def fresh_redaction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_OF_THIS_PROCESS", Redactor())


@pytest.fixture(scope="module")
def server() -> Iterator[FakeKubernetes]:
    with running_kubernetes() as fake:
        yield fake


@pytest.fixture
def kubernetes(server: FakeKubernetes) -> FakeKubernetes:
    """The server as new."""
    fresh = FakeKubernetes(server=server.server)
    vars(server).update(vars(fresh))
    return server


@pytest.fixture
def cluster(kubernetes: FakeKubernetes, tmp_path: Path) -> Iterator[Cluster]:
    with closing(Cluster(find_access({"KUBECONFIG": str(kubernetes.kubeconfig(tmp_path / "config"))}))) as connected:
        yield connected


def write(path: Path, **document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config"} | document))
    return path


def named(kind: str, **entries: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, kind: entry} for name, entry in entries.items()]


def context(cluster: str = "c", user: str = "u") -> list[dict[str, Any]]:
    return named("context", here={"cluster": cluster, "user": user})


# Which cluster, and as whom -----------------------------------------------------------------------------------------


def test_several_files_are_one_and_the_first_wins(tmp_path: Path) -> None:
    (tmp_path / "b/certificates").mkdir(parents=True)
    (tmp_path / "b/certificates/ca.crt").touch()
    first = write(
        tmp_path / "a/config", contexts=context(), users=named("user", u={"token": "first", "tokenFile": None})
    )
    second = write(
        tmp_path / "b/config",
        **{"current-context": "here"},
        clusters=named("cluster", c={"server": "https://api:6443", "certificate-authority": "certificates/ca.crt"}),
        users=named("user", u={"token": "second"}),
    )
    access = find_access({"KUBECONFIG": f"{tmp_path / 'gone'}:{first}::{second}"})
    assert (access.server, access.inside) == ("https://api:6443", False)
    assert access.config.user is not None
    assert access.config.user.token == "first"
    assert access.config.cluster.certificate_auth == str(tmp_path / "b/certificates/ca.crt")


def test_without_kubeconfig_it_is_the_one_of_the_home_then_the_pods_own(tmp_path: Path) -> None:
    account = tmp_path / "account"
    account.mkdir()
    (account / "token").write_text("canary-of-the-pod\n")
    pod = {"HOME": str(tmp_path / "home"), "KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    access = find_access(pod, service_account=account)
    assert (access.server, access.inside) == ("https://[fd00::1]:443", True)
    user = access.logged_in().user
    assert user is not None
    assert user.token == "canary-of-the-pod"
    assert redaction.redact("canary-of-the-pod") == "***"
    write(
        tmp_path / "home/.kube/config",
        **{"current-context": "here"},
        clusters=named("cluster", c={"server": "https://api:6443", "proxy-url": "http://proxy:3128"}),
        contexts=named("context", here={"cluster": "c"}),
    )
    access = find_access(pod, service_account=account)
    assert (access.server, access.proxy) == ("https://api:6443", "http://proxy:3128")


@pytest.mark.parametrize("environ", [{}, {"HOME": "/nonexistent"}, {"KUBECONFIG": "/nonexistent/config"}])
def test_no_kubeconfig_names_the_variable_and_the_way_without(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        find_access(environ)
    assert "KUBECONFIG" in caught.value.message + caught.value.hint
    assert "AWS_S3_BUCKET" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("token: [canary-secret\n  x: y", "is not YAML (line 2)"),
        ("- canary-secret", "is not a kubeconfig"),
        ("{}", "no current context"),
        ("current-context: x", "'x' not found"),
        ("{current-context: x, contexts: [{name: x, context: {cluster: lost}}]}", "lost"),
        ("{current-context: x, clusters: 3, users: [x, {}], contexts: [{name: x, context: {user: u}}]}", "cluster"),
        ("\xff", "it is not text"),
    ],
)
def test_a_damaged_kubeconfig_is_named_and_not_shown(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "config"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigurationError) as caught:
        find_access({"KUBECONFIG": str(path)})
    assert str(path) in caught.value.message
    assert words in caught.value.message
    assert "canary" not in caught.value.message + str(caught.value.__cause__)


def test_every_secret_of_a_kubeconfig_is_hidden(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("canary-token-file\n")
    path = write(
        tmp_path / "config",
        **{"current-context": "here"},
        clusters=named("cluster", c={"server": "https://api"}),
        contexts=context(),
        users=named(
            "user",
            u={"tokenFile": "token"},
            other={"token": "canary-token", "password": "canary-password", "client-key-data": "canary-key-data"},
            gone={"tokenFile": "no-such-file", "exec": {"command": "no version"}},
        ),
    )
    find_access({"KUBECONFIG": str(path)}).logged_in()
    for secret in ("canary-token-file", "canary-token", "canary-password", "canary-key-data"):
        assert secret not in redaction.redact(f"it said {secret}!")


@pytest.mark.skipif(sys.platform != "linux", reason="files in memory are the Linux kernel's")
def test_keys_that_stand_in_a_kubeconfig_touch_no_disk(tmp_path: Path) -> None:
    authority = trustme.CA()
    key = authority.issue_cert("me.example").private_key_and_cert_chain_pem.bytes()
    data = base64.b64encode(key).decode()
    path = write(
        tmp_path / "config",
        **{"current-context": "here"},
        clusters=named("cluster", c={"server": "https://api"}),
        contexts=context(),
        users=named("user", u={"client-certificate-data": data, "client-key-data": data}),
    )
    access = find_access({"KUBECONFIG": str(path)})
    user = access.config.user
    assert user is not None
    assert user.client_key_data is None
    assert str(user.client_key).startswith("/proc/self/fd/")
    assert Path(str(user.client_key)).read_bytes() == key
    Cluster(access).close()


def test_a_credential_plugin_is_asked_for_the_token(kubernetes: FakeKubernetes, tmp_path: Path) -> None:
    plugin = tmp_path / "get-token"
    answer = json.dumps({"kind": "ExecCredential", "status": {"token": TOKEN}})
    plugin.write_text(f'#!/bin/sh\necho "$KUBERNETES_EXEC_INFO" > "$0.told"\ncat <<E\n{answer}\nE\n')
    plugin.chmod(0o755)
    program = {"apiVersion": "client.authentication.k8s.io/v1", "command": "./get-token"}
    path = write(
        tmp_path / "config",
        **{"current-context": "here"},
        clusters=named("cluster", c={"server": kubernetes.server}),
        contexts=context(),
        users=named("user", u={"exec": program}),
    )
    kubernetes.put_secret("demo", "x", {"a": "b"})
    with closing(Cluster(find_access({"KUBECONFIG": str(path)}))) as cluster:
        assert cluster.secret("demo", "x") == {"a": "b"}
        assert json.loads((tmp_path / "get-token.told").read_text())["apiVersion"] == program["apiVersion"]
        assert redaction.redact(f"it said {TOKEN}") == "it said ***"
        # A token lives for minutes, an upload for hours.
        kubernetes.token = "canary-renewed-token"
        plugin.write_text(plugin.read_text().replace(TOKEN, kubernetes.token))
        assert cluster.secret("demo", "x") == {"a": "b"}
        assert redaction.redact("canary-renewed-token") == "***"
        kubernetes.token = "another"
        with pytest.raises(CredentialsRefused):
            cluster.secret("demo", "x")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("", "it gives no token"),
        ('echo \'{"status": {"clientKeyData": "canary"}}\'', "it gives no token"),
        ("echo canary; echo 'session over' >&2; exit 3", "it ended with 3: session over"),
        ("read line && echo $line", "it ended with 1"),
        ("exec sleep 60", "it said nothing"),
    ],
)
def test_a_credential_plugin_that_fails_is_named_with_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    monkeypatch.setattr(login, "_SECONDS", 0.2 if "sleep" in script else 10)
    plugin = Plugin(("/bin/sh", "-c", script), "client.authentication.k8s.io/v1", {})
    with pytest.raises(ConfigurationError, match="gets its token from /bin/sh") as caught:
        plugin.token()
    assert words in caught.value.message
    assert "canary" not in caught.value.message
    assert "oc login --token" in caught.value.hint


def test_a_stop_ends_a_plugin_that_still_waits() -> None:
    plugin = Plugin(("/bin/sh", "-c", "exec sleep 60"), "client.authentication.k8s.io/v1", {})
    timer = threading.Timer(0.05, plugin.interrupt)
    timer.start()
    with pytest.raises(ConfigurationError, match="it ended with -9"):
        plugin.token()
    timer.join()


@pytest.mark.parametrize("cluster", [{"proxy-url": "socks5://localhost:1080"}, {"proxy-url": "foo://x"}])
def test_a_proxy_of_an_unknown_kind_is_a_mistake_and_no_crash(tmp_path: Path, cluster: dict[str, str]) -> None:
    path = write(
        tmp_path / "config",
        **{"current-context": "here"},
        clusters=named("cluster", c={"server": "https://api"} | cluster),
        contexts=named("context", here={"cluster": "c"}),
    )
    with pytest.raises(ConfigurationError, match="https://api does not work"):
        Cluster(find_access({"KUBECONFIG": str(path)}))


# What the API says --------------------------------------------------------------------------------------------------


def test_a_secret_is_read_decoded_and_hidden(cluster: Cluster, kubernetes: FakeKubernetes) -> None:
    assert cluster.secret("demo", "demo-models") is None
    kubernetes.put_secret("demo", "demo-models", {"AWS_SECRET_ACCESS_KEY": "canary+key", "AWS_S3_BUCKET": "bücket"})
    found = cluster.secret("demo", "demo-models")
    assert found == {"AWS_SECRET_ACCESS_KEY": "canary+key", "AWS_S3_BUCKET": "bücket"}
    assert redaction.redact("canary+key bücket") == "*** bücket"


def test_a_secret_that_is_no_text_is_refused(cluster: Cluster, kubernetes: FakeKubernetes) -> None:
    kubernetes.put_secret("demo", "x", {})
    kubernetes.objects["/api/v1/namespaces/demo/secrets/x"]["data"] = {"A": base64.b64encode(b"\xff").decode()}
    with pytest.raises(ConfigurationError, match="demo/x"):
        cluster.secret("demo", "x")


def test_a_secret_is_created_once_and_never_replaced(cluster: Cluster, kubernetes: FakeKubernetes) -> None:
    assert cluster.create_secret("demo", "model-source", {"A": "1"})
    assert not cluster.create_secret("demo", "model-source", {"A": "2"})
    assert kubernetes.secret("demo", "model-source") == {"A": "1"}
    assert {method for method, _ in kubernetes.asked} == {"POST"}


@pytest.mark.parametrize(
    ("status", "headers", "body", "kind"),
    [
        (401, {}, b"{}", CredentialsRefused),
        (403, {}, b"not even json", CredentialsRefused),
        (500, {}, b'{"message": "etcd is busy"}', Transient),
        (503, {"Content-Type": "text/html"}, b"<html>", Transient),
        (503, {"Content-Type": ""}, b"", Transient),
        (429, {"Retry-After": "7"}, b"{}", Transient),
        (422, {}, b'{"message": "name is odd"}', ConfigurationError),
        (200, {"Content-Type": "text/html"}, b"<html>log in</html>", Transient),
        (200, {}, b'{"data": 7}', Transient),
    ],
)
def test_each_refusal_has_its_class(
    cluster: Cluster,
    kubernetes: FakeKubernetes,
    status: int,
    headers: dict[str, str],
    body: bytes,
    kind: type[SyncerError],
) -> None:
    kubernetes.faults.append((status, headers, body))
    with pytest.raises(SyncerError) as caught:
        cluster.secret("demo", "x")
    assert type(caught.value) is kind
    assert caught.value.message
    if isinstance(caught.value, Transient):
        assert caught.value.retry_after == (7.0 if headers.get("Retry-After") else None)
    else:
        assert caught.value.hint
    if isinstance(caught.value, CredentialsRefused):
        assert "oc login" in caught.value.hint
        assert TOKEN not in str(caught.value.__cause__)


def test_a_wrong_token_is_refused_and_named_nowhere(kubernetes: FakeKubernetes, tmp_path: Path) -> None:
    path = kubernetes.kubeconfig(tmp_path / "config")
    kubernetes.token = "another"
    with closing(Cluster(find_access({"KUBECONFIG": str(path)}))) as cluster, pytest.raises(CredentialsRefused):
        cluster.secret("demo", "x")


@pytest.mark.parametrize("server", ["http://127.0.0.1:{port}", "https://api.cluster.invalid:6443", "ftp://x"])
def test_nobody_there_is_unreachable(tmp_path: Path, server: str) -> None:
    path = FakeKubernetes(server=server.format(port=free_port())).kubeconfig(tmp_path / "config")
    with closing(Cluster(find_access({"KUBECONFIG": str(path)}))) as cluster:
        with pytest.raises(EndpointUnreachable) as caught:
            cluster.secret("demo", "x")
        assert cluster.server in caught.value.message


def test_the_clusters_own_authority_is_believed_and_no_other(tmp_path: Path) -> None:
    with running_kubernetes(tls=True) as fake:
        fake.put_secret("demo", "x", {"a": "b"})
        for ca, trusted in ((fake.ca, True), (trustme.CA().cert_pem.bytes(), False)):
            fake.ca = ca
            access = find_access({"KUBECONFIG": str(fake.kubeconfig(tmp_path / "config"))})
            with closing(Cluster(access)) as cluster:
                if trusted:
                    assert cluster.secret("demo", "x") == {"a": "b"}
                    continue
                with pytest.raises(ConfigurationError, match="not to be trusted"):
                    cluster.secret("demo", "x")


def test_a_certificate_file_that_is_gone_is_named(tmp_path: Path) -> None:
    path = write(
        tmp_path / "config",
        **{"current-context": "here"},
        clusters=named("cluster", c={"server": "https://api", "certificate-authority": "gone.crt"}),
        contexts=context(),
        users=named("user", u={"token": TOKEN}),
    )
    with pytest.raises(ConfigurationError, match=r"gone\.crt, which is not there"):
        find_access({"KUBECONFIG": str(path)})


# From outside to a service inside -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "service"),
    [
        ("https://s3.openshift-storage.svc:443", ("openshift-storage", "s3")),
        ("https://s3.openshift-storage.svc.cluster.local", ("openshift-storage", "s3")),
        ("http://minio.demo.svc:9000/", ("demo", "minio")),
        ("minio.demo.svc.cluster.local.:9000", ("demo", "minio")),
        ("https://s3.amazonaws.com", None),
        ("https://s3.svc.example.com", None),
        ("https://svc", None),
        ("https://[broken", None),
        ("", None),
    ],
)
def test_services_are_known_by_their_name(endpoint: str, service: tuple[str, str] | None) -> None:
    assert inner_service(endpoint) == service


def route(name: str = "s3", host: str = "s3.apps", *, kind: str = "Service", admitted: str = "", **spec: Any) -> Any:
    conditions = [{"type": "Admitted", "status": admitted}] if admitted else []
    status = {"ingress": [{"conditions": conditions}]}
    return {"spec": {"host": host, "to": {"kind": kind, "name": name}, **spec}, "status": status}


def test_the_route_of_the_service_is_taken_the_safe_one_first() -> None:
    secure = route(host="secure.apps", tls={"termination": "reencrypt"}, admitted="True")
    plain = route(host="plain.apps")
    assert route_to([plain, secure], "s3") == "https://secure.apps"
    assert route_to([plain], "s3") == "http://plain.apps"
    unfit = [
        route("mgmt"),
        route(kind="DeploymentConfig"),
        route(host=""),
        route(path="/console"),
        route(admitted="False"),
        {},
        {"spec": "?", "status": []},
    ]
    assert route_to(unfit, "s3") == ""


def test_an_ingress_of_its_own_host_is_a_way_too() -> None:
    backend = {"service": {"name": "minio", "port": {"number": 9000}}}
    rule = {"host": "minio.example", "http": {"paths": [{"path": "/", "backend": backend}]}}
    assert ingress_to([{"spec": {"rules": [rule]}}], "minio") == "http://minio.example"
    assert ingress_to([{"spec": {"rules": [rule], "tls": [{"hosts": ["minio.example"]}]}}], "minio") == (
        "https://minio.example"
    )
    below = {"host": "x.example", "http": {"paths": [{"path": "/minio", "backend": backend}]}}
    assert ingress_to([{"spec": {"rules": [below, {"host": "*.example", "http": rule["http"]}]}}, {}], "minio") == ""


def test_the_route_is_found_with_the_authorities_of_the_ingress(cluster: Cluster, kubernetes: FakeKubernetes) -> None:
    kubernetes.put_route("openshift-storage", "s3", service="s3", host="s3.apps.example", tls={})
    kubernetes.put_route(
        "openshift-storage", "s3-tls", service="s3", host="t.apps.example", tls={"termination": "edge"}
    )
    kubernetes.put_config_map("openshift-config-managed", "default-ingress-cert", {"ca-bundle.crt": "PEM"})
    assert door_to(cluster, INNER) == Door("https://t.apps.example", authorities=b"PEM")
    kubernetes.forbidden.append("/api/v1/namespaces/openshift-config-managed")
    assert door_to(cluster, INNER) == Door("https://t.apps.example")


@pytest.mark.parametrize("called", ["api", "server", 9000])
def test_a_way_to_the_store_goes_before_one_to_its_console(
    cluster: Cluster, kubernetes: FakeKubernetes, called: str | int
) -> None:
    ports = {"name": "api", "port": 9000, "targetPort": "server"}, {"name": "ui", "port": 9090, "targetPort": 9090}
    kubernetes.put_service("minio", "minio", *ports)
    secured = {"termination": "edge"}
    kubernetes.put_route("minio", "ui", service="minio", host="a.example", port={"targetPort": "ui"}, tls=secured)
    other_port_is_better_than_none = Door("https://a.example")
    assert door_to(cluster, "http://minio.minio.svc:9000") == other_port_is_better_than_none
    kubernetes.put_route("minio", "store", service="minio", host="z.example", port={"targetPort": called})
    assert door_to(cluster, "http://minio.minio.svc:9000") == Door("http://z.example")
    assert door_to(cluster, "http://minio.minio.svc:9090") == Door("https://a.example")
    kubernetes.forbidden.append("/api/v1/namespaces/minio/services")
    assert door_to(cluster, "http://minio.minio.svc:9000") == Door("https://a.example")


def test_an_ingress_calls_the_port_by_name_or_number() -> None:
    def rule(host: str, **port: str | int) -> dict[str, Any]:
        return {"host": host, "http": {"paths": [{"backend": {"service": {"name": "minio", "port": port}}}]}}

    console, store = rule("a.example", number=9090), rule("z.example", name="api")
    ingress = {"spec": {"rules": [console, store]}}
    assert ingress_to([ingress], "minio", frozenset({"9000", "api"})) == "http://z.example"
    assert ingress_to([ingress], "minio", frozenset({"9090", "ui"})) == "http://a.example"


def test_without_a_way_the_endpoint_stays_and_it_is_said_why(cluster: Cluster, kubernetes: FakeKubernetes) -> None:
    assert door_to(cluster, INNER).endpoint == INNER
    assert "no Route and no Ingress of openshift-storage" in door_to(cluster, INNER).note
    kubernetes.forbidden.append(f"{ROUTES}/namespaces/openshift-storage")
    assert "(403)" in door_to(cluster, INNER).note
    kubernetes.groups.discard(ROUTES)
    kubernetes.forbidden.clear()
    assert "has no Routes" in door_to(cluster, INNER).note


def test_a_plain_cluster_has_ingresses(cluster: Cluster, kubernetes: FakeKubernetes) -> None:
    kubernetes.groups.discard(ROUTES)
    backend = {"service": {"name": "minio", "port": {"number": 9000}}}
    kubernetes.objects[f"{INGRESSES}/namespaces/demo/ingresses/minio"] = {
        "metadata": {"name": "minio"},
        "spec": {"rules": [{"host": "minio.example", "http": {"paths": [{"path": "/", "backend": backend}]}}]},
    }
    assert door_to(cluster, "http://minio.demo.svc:9000") == Door("http://minio.example")


def test_an_endpoint_outside_is_left_alone_and_nobody_asked(cluster: Cluster, kubernetes: FakeKubernetes) -> None:
    assert door_to(cluster, "https://s3.example.com") == Door("https://s3.example.com")
    cluster.inside = True
    assert door_to(cluster, INNER) == Door(INNER)
    assert kubernetes.asked == []
