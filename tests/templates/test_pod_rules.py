"""What each Job promises to the cluster that runs it: one test per rule."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from syncer.settings.network import MOUNTED_AUTHORITIES
from tests.support.manifests import TEMPLATES, container, documents, job, patched

JOBS = {
    "synchronize-model": job("synchronize-model.yaml"),
    "synchronize-model for IBM COS": job("synchronize-model-ibm-cos.yaml"),
    "synchronize-model on many pods": job("synchronize-model-indexed.yaml"),
    "mirror-to-pvc": job("mirror-to-pvc.yaml"),
    "wait-for-model": job("wait-for-model.yaml"),
    "synchronize-model from an ObjectBucketClaim": patched(
        job("synchronize-model.yaml"), documents(TEMPLATES / "patches" / "destination-objectbucketclaim.yaml")[0]
    ),
    "synchronize-model into an image": patched(
        patched(job("synchronize-model.yaml"), documents(TEMPLATES / "patches" / "destination-oci.yaml")[0]),
        documents(TEMPLATES / "patches" / "registry-login.yaml")[0],
    ),
    "synchronize-model from a volume": patched(
        job("synchronize-model.yaml"), documents(TEMPLATES / "patches" / "source-volume.yaml")[0]
    ),
}

Pod = dict[str, Any]


def named(items: list[dict[str, Any]], name: str) -> dict[str, Any]:
    [found] = [item for item in items if item["name"] == name]
    return found


@pytest.fixture(params=list(JOBS.values()), ids=list(JOBS))
def manifest(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


@pytest.fixture
def pod(manifest: dict[str, Any]) -> Pod:
    return dict(manifest["spec"]["template"]["spec"])


def test_pods_are_never_restarted_in_place(pod: Pod) -> None:
    assert pod["restartPolicy"] == "Never"


def test_no_deadline_runs_while_the_secret_is_awaited(manifest: dict[str, Any], pod: Pod) -> None:
    assert "activeDeadlineSeconds" not in manifest["spec"]
    assert "activeDeadlineSeconds" not in pod


def test_the_cluster_injects_no_variables(pod: Pod) -> None:
    assert pod["enableServiceLinks"] is False


def test_no_token_of_the_cluster(pod: Pod) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in pod


def test_grace_is_longer_than_a_stop_takes(pod: Pod) -> None:
    assert pod["terminationGracePeriodSeconds"] > 10


def test_restricted_pod_security(manifest: dict[str, Any], pod: Pod) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    inner = container(manifest)["securityContext"]
    assert inner["allowPrivilegeEscalation"] is False
    assert inner["capabilities"] == {"drop": ["ALL"]}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)


def test_no_fixed_user_or_group(manifest: dict[str, Any], pod: Pod) -> None:
    # OpenShift's restricted SCC refuses a pod that names an ID outside the namespace's range.
    for context in (pod["securityContext"], container(manifest)["securityContext"]):
        assert not {"runAsUser", "runAsGroup", "fsGroup", "supplementalGroups"} & set(context)


def test_nothing_is_written_on_the_node(manifest: dict[str, Any], pod: Pod) -> None:
    assert container(manifest)["securityContext"]["readOnlyRootFilesystem"] is True
    for volume in pod.get("volumes", []):
        assert not {"emptyDir", "hostPath", "ephemeral"} & set(volume)


def test_memory_is_limited_and_cpu_is_not(manifest: dict[str, Any]) -> None:
    resources = container(manifest)["resources"]
    assert resources["limits"] == {"memory": resources["requests"]["memory"]}
    assert set(resources["requests"]) == {"cpu", "memory"}


def test_a_killed_process_still_leaves_a_message(manifest: dict[str, Any]) -> None:
    spec = container(manifest)
    assert spec["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert spec.get("terminationMessagePath", "/dev/termination-log") == "/dev/termination-log"


def test_every_reference_is_awaited(manifest: dict[str, Any]) -> None:
    # An optional reference would let the pod start before its Secret is there.
    for source in container(manifest)["envFrom"]:
        [reference] = source.values()
        assert set(reference) == {"name"}


def test_the_entry_point_of_the_image_runs(manifest: dict[str, Any]) -> None:
    assert "command" not in container(manifest)


def test_mounted_authorities_are_where_the_code_looks(manifest: dict[str, Any], pod: Pod) -> None:
    mount = named(container(manifest)["volumeMounts"], "authorities")
    assert mount["readOnly"] is True
    sources = named(pod["volumes"], "authorities")["projected"]["sources"]
    paths = [Path(mount["mountPath"]) / item["path"] for source in sources for item in source["configMap"]["items"]]
    assert len(paths) == len(set(paths)) == 2
    assert set(paths) <= set(MOUNTED_AUTHORITIES)


def test_a_cluster_without_such_authorities_will_do(pod: Pod) -> None:
    for source in named(pod["volumes"], "authorities")["projected"]["sources"]:
        assert source["configMap"]["optional"] is True


def test_labels_are_on_job_and_pod(manifest: dict[str, Any]) -> None:
    labels = manifest["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == "model-syncer"
    assert labels["app.kubernetes.io/component"] == manifest["metadata"]["name"]
    assert manifest["spec"]["template"]["metadata"]["labels"] == labels


def test_the_namespace_is_left_to_who_applies_it(manifest: dict[str, Any]) -> None:
    assert "namespace" not in manifest["metadata"]


class TestSynchronizeModel:
    manifest = JOBS["synchronize-model"]

    def test_keeps_the_name_that_others_wait_for(self) -> None:
        assert self.manifest["metadata"]["name"] == "synchronize-model"

    def test_keeps_the_hook(self) -> None:
        assert self.manifest["metadata"]["annotations"] == {"argocd.argoproj.io/hook": "PostSync"}

    def test_stays_when_it_is_finished(self) -> None:
        assert "ttlSecondsAfterFinished" not in self.manifest["spec"]

    def test_waits_for_both_secrets_in_the_known_order(self) -> None:
        assert container(self.manifest)["envFrom"] == [
            {"secretRef": {"name": "demo-models"}},
            {"secretRef": {"name": "model-source"}},
        ]

    def test_keeps_the_arguments(self) -> None:
        assert container(self.manifest)["args"] == ["-vvvvv", "--no-dest-validate"]

    def test_tries_as_often_as_the_original(self) -> None:
        assert self.manifest["spec"]["backoffLimit"] == 8


class TestSynchronizeModelForIbmCos:
    """Its pod logs in with a passcode that works once: a second pod could not."""

    manifest = JOBS["synchronize-model for IBM COS"]

    def test_has_one_pod(self) -> None:
        assert self.manifest["spec"]["backoffLimit"] == 0

    def test_keeps_no_login_where_the_next_pod_would_not_find_it(self) -> None:
        assert "S3_SYNC_COS_TOKEN_CACHE" not in {entry["name"] for entry in container(self.manifest)["env"]}

    def test_is_the_original_in_everything_else(self) -> None:
        copy = deepcopy(self.manifest)
        copy["spec"]["backoffLimit"] = JOBS["synchronize-model"]["spec"]["backoffLimit"]
        [spec] = copy["spec"]["template"]["spec"]["containers"]
        [patience] = spec.pop("env")
        assert patience["name"] == "S3_SYNC_WAIT_FOR_DESTINATION"
        assert copy == JOBS["synchronize-model"]


class TestSynchronizeModelOnManyPods:
    manifest = JOBS["synchronize-model on many pods"]

    def test_every_index_has_a_pod_that_runs_at_once_and_knows_how_many_there_are(self) -> None:
        spec = self.manifest["spec"]
        assert spec["completionMode"] == "Indexed"
        [shares] = container(self.manifest)["env"]
        assert shares == {"name": "S3_SYNC_SHARES", "value": str(spec["completions"])}
        assert spec["parallelism"] == spec["completions"] > 1

    def test_each_share_is_tried_as_often_as_one_pod_would_and_one_lost_share_ends_the_job(self) -> None:
        # Without the latter index 0 would go on waiting in a Job that cannot succeed any more.
        assert self.manifest["spec"]["backoffLimitPerIndex"] == JOBS["synchronize-model"]["spec"]["backoffLimit"]
        assert self.manifest["spec"]["maxFailedIndexes"] == 0

    def test_pods_spread_over_the_nodes_that_there_are(self) -> None:
        template = self.manifest["spec"]["template"]
        [rule] = template["spec"]["topologySpreadConstraints"]
        assert rule["topologyKey"] == "kubernetes.io/hostname"
        assert rule["whenUnsatisfiable"] == "ScheduleAnyway"
        assert rule["labelSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()

    def test_is_the_original_in_everything_else(self) -> None:
        copy = deepcopy(self.manifest)
        for name in ("completionMode", "completions", "parallelism", "backoffLimitPerIndex", "maxFailedIndexes"):
            del copy["spec"][name]
        copy["spec"]["backoffLimit"] = JOBS["synchronize-model"]["spec"]["backoffLimit"]
        pod = copy["spec"]["template"]["spec"]
        del pod["topologySpreadConstraints"], pod["containers"][0]["env"]
        assert copy == JOBS["synchronize-model"]


class TestMirrorToPvc:
    manifest = JOBS["mirror-to-pvc"]

    def test_writes_to_the_claim_beside_it(self) -> None:
        [claim] = [
            document
            for document in documents(TEMPLATES / "mirror-to-pvc.yaml")
            if document["kind"] == "PersistentVolumeClaim"
        ]
        volume = named(self.manifest["spec"]["template"]["spec"]["volumes"], "models")
        assert volume["persistentVolumeClaim"] == {"claimName": claim["metadata"]["name"]}
        mount = named(container(self.manifest)["volumeMounts"], "models")
        assert mount == {"name": "models", "mountPath": "/mnt/models"}

    def test_is_not_run_by_argo_cd(self) -> None:
        assert "annotations" not in self.manifest["metadata"]


class TestWaitForModel:
    manifest = JOBS["wait-for-model"]

    def test_comes_before_the_last_phase(self) -> None:
        assert self.manifest["metadata"]["annotations"] == {"argocd.argoproj.io/hook": "PreSync"}

    def test_waits_with_a_deadline_of_its_own(self) -> None:
        arguments = container(self.manifest)["args"]
        assert arguments[0] == "wait"
        assert any(argument.startswith("--deadline=") for argument in arguments)

    def test_does_not_need_the_source(self) -> None:
        assert container(self.manifest)["envFrom"] == [{"secretRef": {"name": "demo-models"}}]


def test_the_source_volume_is_read_only() -> None:
    spec = JOBS["synchronize-model from a volume"]["spec"]["template"]["spec"]
    volume = named(spec["volumes"], "source")
    mount = named(spec["containers"][0]["volumeMounts"], "source")
    assert volume["persistentVolumeClaim"]["readOnly"] is True
    assert mount["readOnly"] is True
