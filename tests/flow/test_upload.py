"""Uploads from a workstation: paths in, sealed models out, by the data connection of a cluster or without one."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from syncer import cli, logs, redaction
from syncer.redaction import Redactor
from syncer.report import LastWords
from syncer.stop import StopSwitch
from syncer.uploading import target as waiting
from tests.support.buckets import S3Server, free_port
from tests.support.captured import forget_logs
from tests.support.fake_kubernetes import ROUTES, TOKEN, FakeKubernetes, running_kubernetes
from tests.support.models import pattern, read_model, write_model
from tests.support.processes import Pod
from tests.support.rados_gateway import RadosGateway
from tests.support.tripwire import relayed

MiB = 1 << 20
NAMESPACE, SECRET = "demo", "demo-models"
MODEL = {"config.json": b"{}", "nested/weights.bin": pattern(100_000), "empty.txt": b""}
INNER = "https://s3.openshift-storage.svc:443"


@dataclass
class Ended:
    code: int
    out: str
    err: str
    said: dict[str, Any]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.err.splitlines()]

    def told(self, event: str) -> str:
        return "\n".join(str(line.get("message", line)) for line in self.events if line["event"] == event)

    def __str__(self) -> str:
        return f"exit code {self.code}: {self.said}\n{self.err[-4000:]}"


@dataclass
class Workstation:
    """A person's machine: a folder with a space in its name, a kubeconfig, a cluster and its bucket."""

    here: Path
    kubernetes: FakeKubernetes
    s3: S3Server
    capsys: pytest.CaptureFixture[str]
    bucket: str = ""
    canaries: list[str] = field(default_factory=lambda: [TOKEN])
    patience: dict[str, str] = field(default_factory=lambda: {"S3_SYNC_WAIT_FOR_DESTINATION": "0s"})

    @property
    def environment(self) -> dict[str, str]:
        return {
            "KUBECONFIG": str(self.here.parent / "kubeconfig"),
            "TERMINATION_MESSAGE_PATH": str(self.here.parent / "termination-log"),
            **self.patience,
        }

    def connect(self, *, late: int = 0, **changes: str) -> None:
        """Put the data connection into the cluster."""
        connection = self.s3.connection_environment(self.bucket, endpoint=self.s3.endpoint) | changes
        self.kubernetes.put_secret(NAMESPACE, SECRET, connection, late=late)

    def __call__(self, *arguments: str, **environment: str) -> Ended:
        return self.run("upload", *arguments, **environment)

    def run(self, *arguments: str, **environment: str) -> Ended:
        words = LastWords()
        message = self.here.parent / "termination-log"
        message.write_text("")
        environ = self.environment | environment
        code = cli.run(arguments, environ=environ, stop=StopSwitch(), words=words)
        printed = self.capsys.readouterr()
        said = message.read_text()
        for canary in (*self.canaries, self.s3.secret_key, self.s3.access_key):
            assert canary not in printed.out + printed.err + said
        return Ended(code, printed.out, printed.err, json.loads(said))


@pytest.fixture(scope="module")
def server() -> Iterator[FakeKubernetes]:
    with running_kubernetes() as fake:
        yield fake


@pytest.fixture
def workstation(
    server: FakeKubernetes,
    s3: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Workstation]:
    vars(server).update(vars(FakeKubernetes(server=server.server)))
    here = tmp_path / "my models"
    here.mkdir()
    server.kubeconfig(tmp_path / "kubeconfig")
    monkeypatch.chdir(here)
    monkeypatch.setattr(waiting, "_INTERVAL", 0.01)
    monkeypatch.setattr(redaction, "_OF_THIS_PROCESS", Redactor())
    monkeypatch.setattr(logs, "catch_strays", lambda: None)
    yield Workstation(here, server, s3, capsys, s3.new_bucket("demo"))
    logs.configure(terminal=False)
    forget_logs()


@dataclass
class Volume:
    """A mounted volume as destination: where a bucket makes no difference, it is the cheaper one."""

    root: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"S3_SYNC_DEST__PATH": str(self.root)}

    def manifest(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.root / ".syncer/manifest.json").read_bytes())
        return document


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "volume")


# The way of the seed ------------------------------------------------------------------------------------------------


def test_the_content_of_a_folder_is_sealed_at_models(workstation: Workstation) -> None:
    s3, bucket = workstation.s3, workstation.bucket
    write_model(workstation.here / "aligned-model", MODEL)
    workstation.connect(late=2)
    workstation.kubernetes.faults.append((500, {}, b"{}"))
    ended = workstation("aligned-model/", "-vvvvv")
    assert ended.code == 0, ended
    assert s3.read(bucket, "models/") == MODEL
    assert sorted(s3.control(bucket, "models/")) == [".syncer/complete.json", ".syncer/manifest.json"]
    manifest = json.loads(s3.control(bucket, "models/")[".syncer/manifest.json"])
    assert {entry["proved_by"] for entry in manifest["files"]} == {"stream"}
    assert f"Connecting to cluster: {workstation.kubernetes.server}" in ended.told("cluster_asked")
    assert [line["data_connection"] for line in ended.events if "data_connection" in line][:1] == ["demo/demo-models"]
    assert f"s3://{bucket}/models/config.json" in ended.out
    assert ended.out.count("\n") == len(MODEL)
    assert (ended.said["status"], ended.said["files"]) == ("succeeded", len(MODEL))
    assert ended.said["destination"] == f"s3://{bucket}/models/"
    assert "oc -n demo create secret generic model-source" in ended.told("next_step_explained")
    assert [path for method, path in workstation.kubernetes.asked if method != "GET"] == []
    again = workstation("aligned-model/")
    assert (again.code, again.said["reason"], again.said["copied_bytes"]) == (0, "UpToDate", 0), again


def test_a_folder_without_a_slash_keeps_its_name_and_its_own_seal(workstation: Workstation) -> None:
    s3, bucket = workstation.s3, workstation.bucket
    write_model(workstation.here, {"granite/config.json": b"{}", "top/README.md": b"#"})
    workstation.connect()
    ended = workstation("top/", "granite")
    assert ended.code == 0, ended
    assert s3.read(bucket) == {
        "models/granite/config.json": b"{}",
        "models/README.md": b"#",
    }
    for folder in ("models/", "models/granite/"):
        assert ".syncer/complete.json" in s3.control(bucket, folder)
    assert ended.said["uris"] == [f"s3://{bucket}/models/{name}" for name in ("granite/", "")]
    assert (ended.said["files"], ended.said["copied_bytes"]) == (2, 3)
    # Each run says once what it uses; what the environment alone says goes nowhere, and is not told.
    loaded = [line["destination"]["uri"] for line in ended.events if line["event"] == "settings_loaded"]
    assert loaded == ended.said["uris"]


@pytest.mark.parametrize(("said", "seconds"), [({}, 60), ({"S3_SYNC_WAIT_FOR_DESTINATION": "5m"}, 300)])
def test_who_sits_there_waits_a_minute_for_a_destination(
    workstation: Workstation, volume: Volume, said: dict[str, str], seconds: int
) -> None:
    write_model(workstation.here, {"m/config.json": b"{}"})
    workstation.patience = said
    ended = workstation("m/", **volume.environment)
    (loaded,) = [line for line in ended.events if line["event"] == "settings_loaded"]
    assert (ended.code, loaded["wait_for_destination"]) == (0, seconds), ended


def test_a_part_of_a_model_does_not_become_one_of_its_own(workstation: Workstation, volume: Volume) -> None:
    write_model(workstation.here, {"m/config.json": b"{}", "m/1_Pooling/config.json": b"{}"})
    assert workstation("m/", **volume.environment).code == 0
    split = workstation("m/1_Pooling", **volume.environment)
    assert split.code == 78, split
    assert "m/1_Pooling is a part of the model" in split.said["message"]
    assert workstation.run("verify", **volume.environment).code == 0
    assert workstation("m", **volume.environment).code == 0


def test_single_files_join_the_model_that_is_there(workstation: Workstation, volume: Volume) -> None:
    write_model(workstation.here, {"m/config.json": b"{}", "m/old.txt": b"old", "chat_template.jinja": b"new"})
    assert workstation("m/", **volume.environment).code == 0
    ended = workstation("chat_template.jinja", **volume.environment)
    assert ended.code == 0, ended
    document = volume.manifest()
    assert [entry["path"] for entry in document["files"]] == ["chat_template.jinja", "config.json", "old.txt"]
    assert {entry["proved_by"] for entry in document["files"]} == {"stream"}
    assert document["source"] == str(workstation.here)
    (workstation.here / "m/old.txt").unlink()
    ended = workstation("m/", **volume.environment)
    assert (ended.code, ended.said["copied_bytes"]) == (0, 0), ended
    document = volume.manifest()
    assert [entry["path"] for entry in document["files"]] == ["config.json"]
    assert [entry["path"] for entry in document["left"]] == ["chat_template.jinja", "old.txt"]


def test_nothing_joins_a_model_that_is_half_written(workstation: Workstation, volume: Volume) -> None:
    write_model(workstation.here, {"a.bin": b"a", "m/config.json": b"{}"})
    plan = {"format": 1, "source": "hf://owner/model", "paths": ["config.json"]}
    write_model(volume.root, {".syncer/state/plan.json": json.dumps(plan).encode()})
    ended = workstation("a.bin", **volume.environment)
    assert (ended.code, read_model(volume.root)) == (78, {}), ended
    assert "config.json" in ended.said["message"]
    assert workstation("m/", **volume.environment).code == 0
    assert workstation("a.bin", **volume.environment).code == 0
    assert sorted(read_model(volume.root)) == ["a.bin", "config.json"]


def test_the_route_to_the_bucket_is_found(workstation: Workstation) -> None:
    write_model(workstation.here, {"m/config.json": b"{}"})
    host = workstation.s3.endpoint.removeprefix("http://")
    workstation.kubernetes.put_route("openshift-storage", "s3", service="s3", host=host)
    workstation.connect(AWS_S3_ENDPOINT=INNER)
    ended = workstation("m/")
    assert ended.code == 0, ended
    assert f"Using {workstation.s3.endpoint} for {INNER}" in ended.told("route_found")


@pytest.mark.parametrize("forbidden", [False, True])
def test_without_a_route_the_endpoint_stays_and_it_is_said(workstation: Workstation, forbidden: bool) -> None:
    write_model(workstation.here, {"m/config.json": b"{}"})
    if forbidden:
        workstation.kubernetes.forbidden.append(ROUTES)
    workstation.connect(AWS_S3_ENDPOINT="http://s3.storage.svc.cluster.test")
    ended = workstation("m/")
    assert ended.code == 69, ended
    (noted,) = [line for line in ended.events if line["event"] == "route_not_found"]
    assert ("403" in noted["reason"]) == forbidden
    assert "--dest-endpoint" in noted["hint"]
    assert noted["reason"] in ended.said["message"]
    assert "--dest-endpoint" in ended.said["hint"]
    if not forbidden:
        assert workstation("m/", "--dest-endpoint", workstation.s3.endpoint).code == 0


# Finishing ----------------------------------------------------------------------------------------------------------


def test_finish_creates_the_secret_and_never_replaces_one(workstation: Workstation) -> None:
    kubernetes = workstation.kubernetes
    write_model(workstation.here, {"m/config.json": b"{}"})
    workstation.connect()
    ended = workstation("m/", "--finish")
    assert ended.code == 0, ended
    assert kubernetes.secret("demo", "model-source") == {"S3_SYNC_LOCAL_UPLOAD_COMPLETE": "true"}
    assert "Created the Secret demo/model-source" in ended.told("next_step_explained")
    theirs = {"S3_SYNC_SRC__PATH": "s3://a/b/", "S3_SYNC_SRC__SECRET_KEY": "canary-of-their-source"}
    workstation.canaries.append("canary-of-their-source")
    kubernetes.put_secret("demo", "model-source", theirs)
    ended = workstation("m/", "--finish")
    assert ended.code == 0, ended
    assert kubernetes.secret("demo", "model-source") == theirs
    command = "oc -n demo create secret generic model-source --from-literal=S3_SYNC_LOCAL_UPLOAD_COMPLETE=true"
    assert f"{command} --dry-run=client -o yaml | oc -n demo replace -f -" in ended.told("next_step_explained")


def test_the_job_completes_by_that_secret_and_the_next_upload_knows_its_files(workstation: Workstation) -> None:
    write_model(workstation.here, {"granite/config.json": b"{}"})
    workstation.connect()
    assert workstation("granite", "--finish").code == 0
    of_job = workstation.s3.connection_environment(workstation.bucket)
    ended = workstation.run("sync", **of_job, **workstation.kubernetes.secret("demo", "model-source"))
    assert (ended.code, ended.said["files"], ended.said["copied_bytes"]) == (0, 1, 0), ended
    assert ended.said["destination"] == f"s3://{workstation.bucket}/models/granite/"
    write_model(workstation.here, {"granite/README.md": b"new"})
    ended = workstation("granite")
    assert (ended.code, ended.said["copied_bytes"]) == (0, 3), ended


def test_who_may_not_finish_is_told_that_all_is_uploaded(workstation: Workstation) -> None:
    write_model(workstation.here, {"m/config.json": b"{}"})
    workstation.connect()

    def forbid(_path: str) -> None:
        if ".syncer" in "".join(workstation.s3.keys(workstation.bucket)):
            workstation.kubernetes.forbidden.append("/api/v1/namespaces/demo/secrets")

    workstation.kubernetes.on_request = forbid
    ended = workstation("m/", "--finish")
    assert ended.code == 77, ended
    assert "everything is uploaded and sealed, but not finished" in ended.said["message"]
    assert "create secret generic model-source" in ended.said["hint"]


# Without a cluster, and what goes wrong -----------------------------------------------------------------------------


def test_the_environment_goes_before_any_cluster(workstation: Workstation) -> None:
    write_model(workstation.here, {"m/config.json": b"{}"})
    own = workstation.s3.connection_environment(workstation.bucket)
    ended = workstation("m/", **own)
    assert ended.code == 0, ended
    assert workstation.kubernetes.asked == []
    assert "--finish needs a cluster" in workstation("m/", "--finish", **own).said["message"]
    # Who names the data connection means the cluster, whatever the environment says.
    workstation.bucket = workstation.s3.new_bucket("demo")
    workstation.connect()
    ended = workstation("m/", "--namespace", NAMESPACE, **own)
    assert (ended.code, sorted(workstation.s3.read(workstation.bucket))) == (0, ["models/config.json"]), ended


def test_a_volume_can_be_the_destination_unless_it_holds_the_source(workstation: Workstation, volume: Volume) -> None:
    write_model(workstation.here, {"m/config.json": b"{}"})
    ended = workstation("m", **volume.environment)
    assert ended.code == 0, ended
    assert (volume.root / "m/config.json").read_bytes() == b"{}"
    assert f"{volume.root.as_uri()}/m/config.json" in ended.out
    ended = workstation("m/", S3_SYNC_DEST__PATH=str(workstation.here))
    assert ended.code == 78, ended


def test_each_mistake_has_its_exit_code_and_says_what_to_do(
    workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_UNREACHABLE_SECONDS", 0.0)
    write_model(workstation.here, {"m/config.json": b"{}", "n/config.json": b"{}"})
    (workstation.here / "empty").mkdir()
    workstation.connect()
    dead = FakeKubernetes(server=f"http://127.0.0.1:{free_port()}").kubeconfig(workstation.here.parent / "dead")
    wrong = FakeKubernetes(server=workstation.kubernetes.server, token="wrong")
    cases: list[tuple[int, str, list[str], dict[str, str]]] = [
        (66, "gone: no such file", ["gone"], {}),
        (66, "no file in", ["empty/"], {}),
        (78, "does not lie in the current directory", ["../x", "m/"], {}),
        (78, "n/config.json", ["m/", "n/config.json"], {}),
        (78, "KUBECONFIG", ["m/"], {"KUBECONFIG": "/nonexistent"}),
        (78, "--namespace", ["m/", "--namespace", "../x"], {}),
        (78, "which of these folders", ["m", "n", "--finish"], {}),
        (69, "nobody answers", ["m/"], {"KUBECONFIG": str(dead)}),
        (69, "demo/other", ["m/", "--secret", "other", "--wait", "0s"], {}),
        (77, "(401)", ["m/"], {"KUBECONFIG": str(wrong.kubeconfig(workstation.here.parent / "wrong"))}),
        (78, "S3_SYNC_TRANSFER_CONFIG__MAX_FILES", ["m/"], {"S3_SYNC_TRANSFER_CONFIG__MAX_FILE": "3"}),
    ]
    for code, words, arguments, environment in cases:
        ended = workstation(*arguments, **environment)
        assert ended.code == code, (arguments, str(ended))
        assert words in ended.said["message"], (arguments, str(ended))
        assert ended.said["hint"], arguments
        if code == 77:
            assert f"oc login {workstation.kubernetes.server}" in ended.said["hint"]
    assert workstation.s3.read(workstation.bucket) == {}


def test_a_run_that_fails_does_not_hide_what_is_done(workstation: Workstation) -> None:
    write_model(workstation.here, {"a/config.json": b"{}", "c/config.json": b"{}"})
    (workstation.here / "b").mkdir()
    workstation.connect()
    ended = workstation("a", "b", "c")
    assert ended.code == 66, ended
    assert "a is uploaded; c was not begun" in ended.said["message"]
    assert sorted(workstation.s3.read(workstation.bucket)) == ["models/a/config.json"]


def test_a_person_on_a_terminal_reads_lines_and_a_table(
    workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(workstation.here, {"m/config.json": b"{}"})
    workstation.connect()
    configure = logs.configure
    with monkeypatch.context() as patch:
        patch.setattr(logs, "configure", lambda *, verbosity: configure(verbosity=verbosity, terminal=True))
        ended = workstation("m/")
    assert ended.code == 0, ended
    assert f"Connecting to cluster: {workstation.kubernetes.server}\n" in ended.err
    assert "\n  kubectl -n demo create secret generic model-source" in ended.err
    assert "size" in ended.out
    assert "config.json" in ended.out


# As a process -------------------------------------------------------------------------------------------------------


@pytest.mark.real  # it needs no gateway, but the time of a ring that has more of it
def test_an_upload_that_is_killed_resumes(workstation: Workstation, pod: Pod) -> None:
    s3, bucket = workstation.s3, workstation.bucket
    weights = pattern(40 * MiB)
    write_model(workstation.here, {"m/model.safetensors": weights})
    environment = workstation.environment | {
        "S3_SYNC_TRANSFER_CONFIG__CHUNK_SIZE": "5MiB",
        "S3_SYNC_TRANSFER_CONFIG__MEMORY": "20MiB",
    }
    del environment["TERMINATION_MESSAGE_PATH"]
    with relayed(*s3.address) as relay:
        workstation.connect(AWS_S3_ENDPOINT=relay.endpoint)
        process = pod.start(environment, "upload", "m/")
        while relay.up_bytes < 25 * MiB:
            assert not relay.wire.caught.wait(0.01)
            assert process.poll() is None, pod.end(process)
        relay.wire.set_at("bytes", 1)
        assert relay.wire.caught.wait(60)
        process.kill()
        pod.end(process)
        assert "models/.syncer/complete.json" not in s3.keys(bucket)
        sent_before = relay.up_bytes
        relay.wire.release(late=False)
        ended = pod.run(environment, "upload", "m/")
        sent = relay.up_bytes - sent_before
    assert ended.code == 0, ended
    assert s3.read(bucket, "models/") == {"model.safetensors": weights}
    # The rest, and what was in flight when the run was killed.
    assert sent < (40 - 25 + 20 + 1) * MiB
    assert s3.open_uploads(bucket) == []
    assert TOKEN not in ended.output


def test_the_authorities_of_the_ingress_open_a_route_with_tls(workstation: Workstation, rgw: RadosGateway) -> None:
    with ExitStack() as stack:
        server = rgw.server(https=True)
        stack.callback(lambda: [client.close() for client in server._clients])
        workstation.s3, workstation.bucket = server, server.new_bucket("upload")
        write_model(workstation.here, {"m/config.json": b"{}"})
        host = server.endpoint.removeprefix("https://")
        workstation.kubernetes.put_route(
            "openshift-storage", "s3", service="s3", host=host, tls={"termination": "edge"}
        )
        workstation.connect(AWS_S3_ENDPOINT=INNER)
        ended = workstation("m/")
        assert (ended.code, "certificate" in ended.said["message"]) == (78, True), ended
        bundle = Path(str(rgw.ca_file)).read_text()
        workstation.kubernetes.put_config_map(
            "openshift-config-managed", "default-ingress-cert", {"ca-bundle.crt": bundle}
        )
        ended = workstation("m/")
        assert ended.code == 0, ended
        assert server.read(workstation.bucket, "models/") == {"config.json": b"{}"}


def test_a_cluster_whose_certificate_nobody_checks_is_told(workstation: Workstation) -> None:
    (workstation.here / "a").write_bytes(b"a")
    workstation.connect()
    file = workstation.here.parent / "kubeconfig"
    assert workstation("a").told("settings_noted") == ""
    document = yaml.safe_load(file.read_text())
    document["clusters"][0]["cluster"] |= {"insecure-skip-tls-verify": True}
    file.write_text(yaml.safe_dump(document))
    assert "insecure-skip-tls-verify" in workstation("a").told("settings_noted")
