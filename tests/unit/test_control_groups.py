"""Limits of the pod, as its control groups tell them in folders that are made up."""

import os
from pathlib import Path

import pytest

from syncer.control_groups import memory_limit, processor_limit, processors
from syncer.memory import MiB


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def group(root: Path, name: str, text: str) -> None:
    write(root, f"sys/fs/cgroup/{name}", text)


def test_the_tightest_limit_on_the_way_counts(machine: Path) -> None:
    write(machine, "proc/self/cgroup", "0::/kubepods/pod/container")
    group(machine, "kubepods/pod/container/memory.max", "max")
    group(machine, "kubepods/pod/memory.max", str(300 * MiB))
    group(machine, "kubepods/memory.max", str(900 * MiB))
    assert memory_limit(root=machine) == 300 * MiB


def test_version_one_of_control_groups_is_read(machine: Path) -> None:
    write(machine, "proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/")
    group(machine, "memory/memory.limit_in_bytes", str(400 * MiB))
    assert memory_limit(root=machine) == 400 * MiB
    group(machine, "memory/memory.limit_in_bytes", "9223372036854771712")
    assert memory_limit(root=machine) is None


def test_without_control_groups_there_is_no_limit(machine: Path) -> None:
    assert memory_limit(root=machine) is None
    assert processor_limit(root=machine) is None


@pytest.mark.parametrize(("text", "limit"), [("50000 100000", 0.5), ("max 100000", None), ("rubbish", None)])
def test_the_limit_of_processors_is_read_from_the_control_group(machine: Path, text: str, limit: float | None) -> None:
    write(machine, "proc/self/cgroup", "0::/")
    group(machine, "cpu.max", text)
    assert processor_limit(root=machine) == limit


def test_version_one_has_the_limit_of_processors_in_two_files(machine: Path) -> None:
    write(machine, "proc/self/cgroup", "3:cpu,cpuacct:/a")
    group(machine, "cpu/cpu.cfs_quota_us", "150000")
    group(machine, "cpu/cpu.cfs_period_us", "100000")
    assert processor_limit(root=machine) == 1.5


def test_a_pod_has_no_more_processors_than_its_limit_and_no_more_than_it_may_run_on(machine: Path) -> None:
    assert processors(root=machine) == len(os.sched_getaffinity(0))
    write(machine, "proc/self/cgroup", "0::/")
    group(machine, "cpu.max", "50000 100000")
    assert processors(root=machine) == 0.5
    group(machine, "cpu.max", "1000000000 100000")
    assert processors(root=machine) == len(os.sched_getaffinity(0))


def test_a_workstation_that_tells_no_cores_of_a_process_has_those_of_the_machine(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")  # which is Linux's
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    assert processors(root=machine) == 10
