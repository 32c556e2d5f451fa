"""The arithmetic and the refusals of the comparison; nothing here measures time."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import peers
from benchmarks.clients import Leg
from benchmarks.compare import Client, compare, files_problem, objects_problem
from benchmarks.process import run
from benchmarks.relay import Place, Shape, copy_parts, listing
from syncer.digests import PartHash


class Empty:
    def __init__(self, problem: str = "") -> None:
        self.words = problem
        self.cleared = 0

    def clear(self) -> None:
        self.cleared += 1

    def problem(self) -> str:
        return self.words

    def server_seconds(self) -> float:
        return 0.0


def client(name: str, code: str = "pass") -> Client:
    return Client(name, (sys.executable, "-c", code), {})


def test_clients_take_turns_and_every_second_round_runs_backwards(tmp_path: Path) -> None:
    order = tmp_path / "order"
    clients = [client(name, f"open({str(order)!r}, 'a').write('{name}')") for name in "abc"]
    scene = Empty()
    results = compare(clients, scene, rounds=2)
    assert order.read_text() == "abccba"
    assert scene.cleared == 6
    assert [len(results.good[name]) for name in "abc"] == [2, 2, 2]


def test_slow_clients_take_part_in_the_first_round_alone() -> None:
    results = compare([client("slow"), client("fast")], Empty(), rounds=3, once=frozenset({"slow"}))
    assert {name: len(samples) for name, samples in results.good.items()} == {"slow": 1, "fast": 3}


def test_client_that_copied_nothing_has_no_result() -> None:
    results = compare([client("a")], Empty("nothing there"), rounds=1)
    assert results.good == {}
    assert results.bad == {"a": ["nothing there"]}


def test_client_that_failed_has_no_result_even_when_the_bytes_are_there() -> None:
    results = compare([client("a", "import sys; sys.exit('broken')")], Empty(), rounds=1)
    assert results.good == {}
    assert "broken" in results.bad["a"][0]


def test_objects_must_be_exactly_the_expected_ones() -> None:
    right = {"name": "dst/m/a", "size": 3, "right": True}
    seal = {"name": "dst/m/.syncer/complete.json", "size": 9, "right": False}
    assert objects_problem([right, seal], {"m/a": 3}) == ""
    assert "expected" in objects_problem([right], {"m/a": 4})
    assert "expected" in objects_problem([right], {"m/a": 3, "m/b": 1})
    assert "expected" in objects_problem([right, right | {"name": "dst/m/b"}], {"m/a": 3})
    assert "several buckets" in objects_problem([right, right | {"name": "other/m/a"}], {"m/a": 3})
    assert objects_problem([right | {"right": False}], {"m/a": 3}) == "wrong bytes in m/a"


def test_files_must_be_exactly_the_expected_ones(tmp_path: Path) -> None:
    (tmp_path / ".syncer").mkdir()
    (tmp_path / ".syncer" / "complete.json").write_text("{}")
    (tmp_path / "a").write_bytes(b"abc")
    assert files_problem(tmp_path, {"a": 3}) == ""
    assert "expected" in files_problem(tmp_path, {"a": 4})
    assert "expected" in files_problem(tmp_path, {})


def test_relay_refuses_an_empty_source(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="nothing in"):
        listing(Place.parse(str(tmp_path), ""))


def test_run_reports_memory_status_and_words() -> None:
    code = "import time; held = bytearray(64 << 20); print('words'); time.sleep(0.2); raise SystemExit(3)"
    done = run([sys.executable, "-c", code], environment={})
    assert done.status == 3
    assert done.output == "words\n"
    assert done.peak_rss > 64 << 20
    assert done.high_water > 64 << 20


def test_run_kills_a_client_that_hangs() -> None:
    done = run([sys.executable, "-c", "import threading; threading.Event().wait()"], environment={}, limit=0.2)
    assert done.status < 0


def test_run_pins_the_client_and_not_itself() -> None:
    mine = os.sched_getaffinity(0)
    one = frozenset([min(mine)])
    code = "import os; print(sorted(os.sched_getaffinity(0)))"
    assert run([sys.executable, "-c", code], environment={}, cores=one).output == f"{sorted(one)}\n"
    assert os.sched_getaffinity(0) == mine


def test_relay_proves_parts_in_any_order(tmp_path: Path) -> None:
    source, target = Place.parse(str(tmp_path / "from"), ""), Place.parse(str(tmp_path / "to"), "")
    Path(source.root).mkdir()
    contents = {"a": os.urandom(Shape().part + 5), "b": b"short"}
    for name, content in contents.items():
        (tmp_path / "from" / name).write_bytes(content)
    found = listing(source)
    digests = copy_parts(source, target, found, lanes=3)
    for (name, _), digest in zip(found, digests, strict=True):
        whole = PartHash()
        whole.update(memoryview(contents[name]))
        assert digest == whole.hexdigest()
        assert (tmp_path / "to" / name).read_bytes() == contents[name]


@pytest.mark.parametrize(
    "leg",
    [
        Leg("s3://src/m/", "s3://dst/m/", "https://a", "https://b", Path("authority")),
        Leg("s3://src/m/", "/to", "https://a", "", Path("authority")),
        Leg("/from", "s3://dst/m/", "", "https://b", Path("authority")),
    ],
)
def test_over_https_only_peers_that_a_target_names_take_part(leg: Leg, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "tool", lambda name: f"/bin/{name}")
    monkeypatch.setattr(shutil, "which", lambda name, **_: f"/usr/bin/{name}")
    over_tls = {client.name for client in peers.peers(leg, names=["a"], work=Path("/work"))}
    assert not over_tls & peers.UNNAMED
    plain = {client.name for client in peers.peers(replace(leg, authority=None), names=["a"], work=Path("/work"))}
    assert plain - over_tls <= peers.UNNAMED
    assert plain > over_tls
