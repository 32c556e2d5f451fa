"""The Hub's own transfer: the real `hf_xet` against a store that is made up."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncer.errors import Transient
from syncer.manifest import ModelFile
from syncer.settings.locations import HuggingFaceLocation, Network
from syncer.stores.directory.fetched import begin_whole
from syncer.stores.directory.place import Place
from syncer.stores.huggingface import xet, xet_library
from syncer.stores.huggingface.hub import Hub
from syncer.stores.huggingface.library import Commit
from syncer.stores.huggingface.room import LEAST, MOST, room_for_library
from syncer.stores.huggingface.xet import FILES_AT_ONCE, XetFetcher
from tests.support.fake_xet import CHUNK, FakeXet, XetFile

MiB = 1 << 20
SMALLEST = MiB
COMMIT = Commit("owner/name", "c0ffee" * 6 + "beef", gated=False)
SECRET = "hf_not-for-anybodys-eyes"


@pytest.fixture(scope="module", autouse=True)
def untouched_environment() -> Iterator[None]:
    """The library is told a few things by the environment, which the next module shall not find there."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeXet]:
    monkeypatch.setattr(xet, "SMALLEST", SMALLEST)
    with FakeXet(files=[XetFile(SMALLEST + 3 * CHUNK + 17)], hub_token=SECRET) as fake:
        yield fake


@pytest.fixture
def fetcher(store: FakeXet) -> Iterator[XetFetcher]:
    fetcher, hub = fetcher_for(store)
    yield fetcher
    fetcher.interrupt()
    hub.close()


def fetcher_for(store: FakeXet, *, room: int = MOST) -> tuple[XetFetcher, Hub]:
    from pydantic import SecretStr

    location = HuggingFaceLocation(
        "owner/name", token=SecretStr(SECRET), endpoint=store.url, xet=True, plaintext_tokens=True
    )
    hub = Hub(location, Network())
    return XetFetcher(hub, Network(), room=lambda: room), hub


def listed(file: XetFile) -> ModelFile:
    return ModelFile(file.path, file.size, file.hash)


def test_a_file_arrives_whole_and_is_counted(store: FakeXet, fetcher: XetFetcher, tmp_path: Path) -> None:
    file = store.files[0]
    told: list[int] = []
    assert fetcher.fetch(COMMIT, listed(file), tmp_path / "file", moved=told.append)
    assert (tmp_path / "file").read_bytes() == file.content()
    assert sum(told) == file.size


def test_the_hubs_token_goes_to_the_hub_alone(store: FakeXet, fetcher: XetFetcher, tmp_path: Path) -> None:
    for _ in range(2):
        assert fetcher.fetch(COMMIT, listed(store.files[0]), tmp_path / "file", moved=lambda _: None)
    assert set(store.authorizations) == {f"Bearer {store.tokens[0]}"}
    assert len(store.tokens) == 1, "one token serves all files"
    assert store.count("POST") == 0, "no telemetry"


def test_a_token_that_ends_is_renewed(store: FakeXet, fetcher: XetFetcher, tmp_path: Path) -> None:
    store.token_life = 10
    assert fetcher.fetch(COMMIT, listed(store.files[0]), tmp_path / "file", moved=lambda _: None)
    assert len(store.tokens) >= 2, "the library asks itself when its token is about to end"


@pytest.mark.parametrize("size", [0, SMALLEST - 1])
def test_small_files_go_the_common_way(store: FakeXet, fetcher: XetFetcher, tmp_path: Path, size: int) -> None:
    assert not fetcher.fetch(COMMIT, ModelFile("a", size, "v"), tmp_path / "file", moved=lambda _: None)
    assert store.seen == []


def test_a_file_that_is_kept_elsewhere_goes_the_common_way(store: FakeXet, fetcher: XetFetcher, tmp_path: Path) -> None:
    assert not fetcher.fetch(COMMIT, ModelFile("else", SMALLEST, "v"), tmp_path / "file", moved=lambda _: None)
    assert store.tokens == []


@pytest.mark.parametrize("status", [401, 403, 404, 416, 429, 503])
def test_whatever_the_store_refuses_is_transient(
    store: FakeXet, fetcher: XetFetcher, tmp_path: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    store.refused, store.refusal = 99, status
    with pytest.raises(Transient, match=r"model\.safetensors cannot be fetched by xet") as caught:
        fetcher.fetch(COMMIT, listed(store.files[0]), tmp_path / "file", moved=lambda _: None)
    assert not any(secret in str(caught.value) for secret in (SECRET, *store.tokens))


def test_after_a_refusal_the_next_file_arrives(store: FakeXet, fetcher: XetFetcher, tmp_path: Path) -> None:
    store.refused = 1
    with pytest.raises(Transient):
        fetcher.fetch(COMMIT, listed(store.files[0]), tmp_path / "file", moved=lambda _: None)
    assert fetcher.fetch(COMMIT, listed(store.files[0]), tmp_path / "file", moved=lambda _: None)


def test_a_stream_that_breaks_is_read_again(store: FakeXet, fetcher: XetFetcher, tmp_path: Path) -> None:
    store.broken = 1
    assert fetcher.fetch(COMMIT, listed(store.files[0]), tmp_path / "file", moved=lambda _: None)
    assert (tmp_path / "file").read_bytes() == store.files[0].content()


def test_no_address_is_told_with_its_signature(
    store: FakeXet, fetcher: XetFetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("Task error: error sending request for url (https://store/xorb?Key=k&Signed=ABC): broken")

    monkeypatch.setattr(xet, "start_download", refuse)
    with pytest.raises(Transient, match=r"\(https://store/xorb\?\*\*\*\): broken"):
        fetcher.fetch(COMMIT, listed(store.files[0]), tmp_path / "file", moved=lambda _: None)


def test_wrong_bytes_pass_unnoticed_so_somebody_has_to_read_back(
    store: FakeXet, fetcher: XetFetcher, tmp_path: Path
) -> None:
    """If this fails one day, the library has learned to compare, and the reading back may be dropped."""
    store.files[0].flipped_at = 5 * CHUNK + 1
    assert fetcher.fetch(COMMIT, listed(store.files[0]), tmp_path / "file", moved=lambda _: None)
    assert (tmp_path / "file").read_bytes() != store.files[0].content()


def test_an_interrupt_ends_who_downloads_and_who_waits_for_a_turn(
    store: FakeXet, fetcher: XetFetcher, tmp_path: Path
) -> None:
    store.gate.clear()
    ended: list[BaseException | bool] = []

    def work(number: int) -> None:
        try:
            ended.append(fetcher.fetch(COMMIT, listed(store.files[0]), tmp_path / str(number), moved=lambda _: None))
        except Transient as error:
            ended.append(error)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(FILES_AT_ONCE + 2)]
    for thread in threads:
        thread.start()
    assert store.reached.wait(5), "a download is under way"
    began = time.monotonic()
    fetcher.interrupt()
    for thread in threads:
        thread.join(20)
    assert [type(what) for what in ended] == [Transient] * len(threads)
    assert time.monotonic() - began < 5
    assert store.count("HEAD") <= FILES_AT_ONCE


def test_while_a_download_waits_other_threads_go_on(store: FakeXet, fetcher: XetFetcher, tmp_path: Path) -> None:
    store.gate.clear()
    thread = threading.Thread(
        target=lambda: fetcher.fetch(COMMIT, listed(store.files[0]), tmp_path / "file", moved=lambda _: None),
        daemon=True,
    )
    thread.start()
    assert store.reached.wait(5), "this very thread would not get here if the library held Python's lock"
    store.gate.set()
    thread.join(20)
    assert not thread.is_alive()


def test_without_room_nothing_is_fetched(store: FakeXet, tmp_path: Path) -> None:
    fetcher, hub = fetcher_for(store, room=0)
    with pytest.raises(Transient, match="memory limit leaves too little"):
        fetcher.fetch(COMMIT, listed(store.files[0]), tmp_path / "file", moved=lambda _: None)
    hub.close()


def test_without_the_library_nothing_is_fetched(
    store: FakeXet, fetcher: XetFetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "hf_xet", None)
    with pytest.raises(Transient, match="hf_xet is not installed"):
        fetcher.fetch(COMMIT, listed(store.files[0]), tmp_path / "file", moved=lambda _: None)


def test_without_a_folder_in_memory_nothing_is_fetched(
    store: FakeXet, fetcher: XetFetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xet_library, "_MEMORY_FOLDER", tmp_path / "nowhere")
    with pytest.raises(Transient, match=r"no writable .*nowhere"):
        fetcher.fetch(COMMIT, listed(store.files[0]), tmp_path / "file", moved=lambda _: None)


def test_nothing_is_left_in_memory(
    store: FakeXet, fetcher: XetFetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shm").mkdir()
    monkeypatch.setattr(xet_library, "_MEMORY_FOLDER", tmp_path / "shm")
    assert fetcher.fetch(COMMIT, listed(store.files[0]), tmp_path / "file", moved=lambda _: None)
    assert list((tmp_path / "shm").iterdir()) == []


def test_the_library_knows_each_setting_that_bounds_its_memory() -> None:
    import hf_xet  # type: ignore[import-untyped]  # the wheel brings no type hints

    bounds = {name for name in xet_library._configuration(MOST) if name.startswith("reconstruction.")}
    assert len(bounds) == 6
    assert bounds <= set(hf_xet.XetConfig().keys()), "a renamed setting would be left out in silence"


# A volume ----------------------------------------------------------------------------------------------------------


def test_a_fetched_file_is_put_in_its_place(store: FakeXet, fetcher: XetFetcher, tmp_path: Path) -> None:
    file = listed(store.files[0])
    upload = begin_whole(Place(tmp_path / "mnt", variable="X"), file, vacant=set())
    assert fetcher.fetch(COMMIT, file, upload.path, moved=lambda _: None)
    assert not (tmp_path / "mnt" / file.path).exists(), "nothing is visible before the end"
    version = upload.finish()
    there = tmp_path / "mnt" / file.path
    assert there.read_bytes() == store.files[0].content()
    assert version
    assert there.stat().st_mode & 0o777 == 0o664
    assert list((tmp_path / "mnt" / ".syncer" / "state").iterdir()) == []


def test_a_file_of_another_size_is_not_put_anywhere(tmp_path: Path) -> None:
    upload = begin_whole(Place(tmp_path / "mnt", variable="X"), ModelFile("a/b", 3, "v"), vacant=set())
    upload.path.write_bytes(b"four")
    with pytest.raises(Transient, match="4 bytes instead of 3"):
        upload.finish()
    upload.abort()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_was_fetched_is_not_left_for_a_resume(tmp_path: Path) -> None:
    upload = begin_whole(Place(tmp_path / "mnt", variable="X"), ModelFile("n" * 200, 3, "v"), vacant=set())
    upload.path.write_bytes(b"one")
    upload.suspend()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


# Room --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/status").write_text("Name:\tpython\nVmRSS:\t   65536 kB\n")
    return tmp_path


def limit(machine: Path, name: str, value: str) -> None:
    path = machine / "sys/fs/cgroup" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{value}\n")


def test_the_room_is_half_of_what_a_pod_has_left(machine: Path) -> None:
    (machine / "proc/self/cgroup").write_text("0::/\n")
    limit(machine, "memory.max", str(256 * MiB))
    assert room_for_library(root=machine) == (256 - 64) // 2 * MiB


@pytest.mark.parametrize(("pod", "room"), [(64 * MiB, 0), (64 * MiB + 2 * LEAST, LEAST), (8192 * MiB, MOST)])
def test_the_room_has_a_floor_and_a_ceiling(machine: Path, pod: int, room: int) -> None:
    (machine / "proc/self/cgroup").write_text("0::/\n")
    limit(machine, "memory.max", str(pod))
    assert room_for_library(root=machine) == room


def test_without_control_groups_the_ceiling_counts(tmp_path: Path) -> None:
    assert room_for_library(root=tmp_path) == MOST


# What the library reads from the environment -------------------------------------------------------------------------


def test_the_library_goes_the_way_that_the_settings_say() -> None:
    network = Network(proxies={"https": "http://proxy:3128"}, no_proxy=".cluster.local")
    values = xet_library._environment(network, bundle="/proc/self/fd/9", folder="/dev/shm/x")
    assert values["HTTPS_PROXY"] == values["https_proxy"] == "http://proxy:3128"
    assert values["HTTP_PROXY"] == values["http_proxy"] == values["ALL_PROXY"] == ""
    assert values["NO_PROXY"].startswith(".cluster.local,")
    assert (values["SSL_CERT_FILE"], values["HF_XET_LOG_DEST"]) == ("/proc/self/fd/9", os.devnull)


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = xet_library._configuration
    monkeypatch.setattr(xet_library, "_configuration", lambda memory: {**slow(memory), "client.retry_max_attempts": 1})
