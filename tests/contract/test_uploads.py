"""The contract of `Upload` and `PartSink`: nothing is visible before the end, everything after it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from syncer.errors import SyncerError
from syncer.manifest import ModelFile
from syncer.stores.protocols import Cut, Destination, ForeignFile, OpenUpload, SparesForeign
from tests.contract.benches import Bench, needs
from tests.contract.checks import as_file, part_of, send_part, some_bytes, store


def content_of(far_end: dict[str, bytes]) -> dict[str, bytes]:
    return {path: data for path, data in far_end.items() if not path.startswith(".syncer/")}


def three_parts(bench: Bench) -> tuple[bytes, Cut]:
    content = some_bytes(2 * bench.part_size + 17)
    return content, Cut(len(content), bench.part_size)


def uploads_at(destination: Destination, path: str) -> list[OpenUpload]:
    return [upload for upload in destination.open_uploads() if upload.path == path]


def whole_but_unfinished(bench: Bench, content: bytes, cut: Cut) -> tuple[ModelFile, str]:
    """`file.bin`, all parts of which a process has sent before it ended, and the token of its upload."""
    file = as_file("file.bin", content)
    upload = bench.destination().begin(file, cut)
    for index in range(cut.count):
        send_part(upload, index, part_of(content, cut, index))
    upload.suspend()
    return file, upload.token


def test_nothing_is_visible_before_the_end(writable: Bench) -> None:
    destination = writable.destination()
    content, cut = three_parts(writable)
    upload = destination.begin(as_file("a/file.bin", content), cut)
    for index in range(cut.count):
        send_part(upload, index, part_of(content, cut, index))
        assert destination.listing().files == {}
        assert content_of(writable.far_end()) == {}
    version = upload.finish()
    assert content_of(writable.far_end()) == {"a/file.bin": content}
    listed = destination.listing().files["a/file.bin"]
    assert listed.size == len(content)
    assert version in {"", listed.version}


def test_what_was_there_stays_until_the_end(writable: Bench) -> None:
    writable.put({"file.bin": b"the old one"})
    destination = writable.destination()
    content, cut = three_parts(writable)
    upload = destination.begin(as_file("file.bin", content), cut)
    for index in range(cut.count):
        send_part(upload, index, part_of(content, cut, index))
    assert content_of(writable.far_end()) == {"file.bin": b"the old one"}
    upload.finish()
    assert content_of(writable.far_end()) == {"file.bin": content}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_parts_come_in_any_order(writable: Bench, order: tuple[int, ...]) -> None:
    if order != (0, 1, 2):
        needs(writable, "parts_in_any_order")
    destination = writable.destination()
    content, cut = three_parts(writable)
    upload = destination.begin(as_file("file.bin", content), cut)
    for index in order:
        send_part(upload, index, part_of(content, cut, index))
    upload.finish()
    assert content_of(writable.far_end()) == {"file.bin": content}


def test_parts_and_files_come_side_by_side(writable: Bench) -> None:
    needs(writable, "parts_in_any_order")
    destination = writable.destination()
    content, cut = three_parts(writable)
    together = threading.Barrier(2 * cut.count)
    uploads = {path: destination.begin(as_file(path, content), cut) for path in ("a/one.bin", "a/two.bin")}

    def send(path: str, index: int) -> None:
        sink = uploads[path].open_part(index)
        part = memoryview(part_of(content, cut, index))
        sink.send(part[:10])
        together.wait(30)
        sink.send(part[10:])
        sink.finish()

    with ThreadPoolExecutor(2 * cut.count) as pool:
        for done in [pool.submit(send, path, index) for path in uploads for index in range(cut.count)]:
            done.result()
    for upload in uploads.values():
        upload.finish()
    assert content_of(writable.far_end()) == {"a/one.bin": content, "a/two.bin": content}


def test_an_empty_file_is_a_file(writable: Bench) -> None:
    destination = writable.destination()
    store(destination, "a/empty.bin", b"", part_size=writable.part_size)
    assert content_of(writable.far_end()) == {"a/empty.bin": b""}
    assert destination.listing().files["a/empty.bin"].size == 0


def test_a_file_of_one_part_is_a_file(writable: Bench) -> None:
    destination = writable.destination()
    content = some_bytes(33)
    version = store(destination, "file.bin", content, part_size=writable.part_size)
    assert content_of(writable.far_end()) == {"file.bin": content}
    assert version in {"", destination.listing().files["file.bin"].version}
    assert destination.open_uploads() == []


def test_parts_that_divide_evenly_have_no_empty_one_behind(writable: Bench) -> None:
    destination = writable.destination()
    content = some_bytes(2 * writable.part_size)
    store(destination, "file.bin", content, part_size=writable.part_size)
    assert content_of(writable.far_end()) == {"file.bin": content}


def test_finish_may_be_repeated(writable: Bench) -> None:
    destination = writable.destination()
    content, cut = three_parts(writable)
    upload = destination.begin(as_file("file.bin", content), cut)
    for index in range(cut.count):
        send_part(upload, index, part_of(content, cut, index))
    versions = {upload.finish(), upload.finish()}
    assert versions <= {"", destination.listing().files["file.bin"].version}
    assert content_of(writable.far_end()) == {"file.bin": content}


def test_a_part_may_be_given_up_and_sent_again(writable: Bench) -> None:
    needs(writable, "outlives_a_cut")
    destination = writable.destination()
    content, cut = three_parts(writable)
    upload = destination.begin(as_file("file.bin", content), cut)
    sink = upload.open_part(0)
    sink.send(memoryview(b"wrong bytes"))
    sink.cancel()
    sink.cancel()
    for index in range(cut.count):
        send_part(upload, index, part_of(content, cut, index))
    upload.finish()
    assert content_of(writable.far_end()) == {"file.bin": content}


def test_a_finished_part_may_be_sent_again(writable: Bench) -> None:
    needs(writable, "rewinds")
    destination = writable.destination()
    content, cut = three_parts(writable)
    upload = destination.begin(as_file("file.bin", content), cut)
    send_part(upload, 0, some_bytes(cut.length(0), seed="wrong"))
    for index in range(cut.count):
        send_part(upload, index, part_of(content, cut, index))
    upload.finish()
    assert content_of(writable.far_end()) == {"file.bin": content}


def test_a_short_part_is_never_whole(writable: Bench) -> None:
    destination = writable.destination()
    content, cut = three_parts(writable)
    upload = destination.begin(as_file("file.bin", content), cut)
    sink = upload.open_part(0)
    sink.send(memoryview(content)[: cut.length(0) - 1])
    with pytest.raises(SyncerError):
        sink.finish()
    sink.cancel()
    upload.abort()
    assert content_of(writable.far_end()) == {}


def test_abort_leaves_nothing(writable: Bench) -> None:
    destination = writable.destination()
    content, cut = three_parts(writable)
    upload = destination.begin(as_file("a/file.bin", content), cut)
    send_part(upload, 0, part_of(content, cut, 0))
    sink = upload.open_part(1)
    sink.send(memoryview(b"half a part"))
    sink.cancel()
    upload.abort()
    upload.abort()
    assert writable.far_end() == {}
    assert destination.open_uploads() == []


def test_abort_after_the_end_takes_nothing_back(writable: Bench) -> None:
    destination = writable.destination()
    content, cut = three_parts(writable)
    upload = destination.begin(as_file("file.bin", content), cut)
    for index in range(cut.count):
        send_part(upload, index, part_of(content, cut, index))
    upload.finish()
    upload.abort()
    upload.suspend()
    assert content_of(writable.far_end()) == {"file.bin": content}


@pytest.mark.parametrize("politely", [True, False], ids=["suspended", "killed"])
def test_another_process_goes_on_with_an_upload(writable: Bench, politely: bool) -> None:
    needs(writable, "resumes_within_files")
    content, cut = three_parts(writable)
    file = as_file("a/file.bin", content)
    first = writable.destination().begin(file, cut)
    token = first.token
    assert token
    for index in (0, 2):
        send_part(first, index, part_of(content, cut, index))
    if politely:
        first.suspend()
        first.suspend()

    destination = writable.destination()
    second = destination.begin(file, cut, resume=token)
    assert second.done <= {0, 2}
    if politely:
        assert second.done == {0, 2}
        assert second.token == token
    for index in range(cut.count):
        if index not in second.done:
            send_part(second, index, part_of(content, cut, index))
    second.finish()
    assert content_of(writable.far_end()) == {"a/file.bin": content}
    assert destination.open_uploads() == []


def test_all_parts_done_is_ready_to_finish(writable: Bench) -> None:
    needs(writable, "resumes_within_files")
    content, cut = three_parts(writable)
    file, token = whole_but_unfinished(writable, content, cut)
    second = writable.destination().begin(file, cut, resume=token)
    assert second.done == set(range(cut.count))
    second.finish()
    assert content_of(writable.far_end()) == {"file.bin": content}


@pytest.mark.parametrize("token", ["unknown", "../../../etc/passwd", "/etc/passwd", "partial-", "ü" * 300])
def test_an_unknown_token_starts_anew(writable: Bench, token: str) -> None:
    content, cut = three_parts(writable)
    upload = writable.destination().begin(as_file("file.bin", content), cut, resume=token)
    assert upload.done == frozenset()
    for index in range(cut.count):
        send_part(upload, index, part_of(content, cut, index))
    upload.finish()
    assert content_of(writable.far_end()) == {"file.bin": content}


def test_an_aborted_upload_starts_anew(writable: Bench) -> None:
    content, cut = three_parts(writable)
    file = as_file("file.bin", content)
    first = writable.destination().begin(file, cut)
    send_part(first, 0, part_of(content, cut, 0))
    first.abort()
    second = writable.destination().begin(file, cut, resume=first.token)
    assert second.done == frozenset()
    for index in range(cut.count):
        send_part(second, index, part_of(content, cut, index))
    second.finish()
    assert content_of(writable.far_end()) == {"file.bin": content}


def test_open_uploads_are_shown_and_can_be_removed(writable: Bench) -> None:
    needs(writable, "resumes_within_files")
    content, cut = three_parts(writable)
    upload = writable.destination().begin(as_file("a b/file ü.bin", content), cut)
    send_part(upload, 0, part_of(content, cut, 0))
    upload.suspend()

    destination = writable.destination()
    assert uploads_at(destination, "a b/file ü.bin") == [OpenUpload("a b/file ü.bin", upload.token)]
    destination.abort_upload(OpenUpload("a b/file ü.bin", upload.token))
    destination.abort_upload(OpenUpload("a b/file ü.bin", upload.token))
    assert destination.open_uploads() == []
    assert writable.far_end() == {}


def test_removing_an_open_upload_takes_no_other(writable: Bench) -> None:
    needs(writable, "resumes_within_files")
    content, cut = three_parts(writable)
    destination = writable.destination()
    uploads = [destination.begin(as_file(path, content), cut) for path in ("one.bin", "two.bin")]
    for upload in uploads:
        send_part(upload, 0, part_of(content, cut, 0))
        upload.suspend()
    destination.abort_upload(OpenUpload("one.bin", uploads[0].token))
    assert [upload.path for upload in destination.open_uploads()] == ["two.bin"]


def test_a_hostile_open_upload_removes_nothing(writable: Bench) -> None:
    needs(writable, "keeps_control_files")
    writable.put({"victim.bin": b"stays", ".syncer/complete.json": b"{}"})
    destination = writable.destination()
    for token in ("../../victim.bin", "../complete.json", "victim.bin", ""):
        destination.abort_upload(OpenUpload("victim.bin", token))
    assert writable.far_end() == {"victim.bin": b"stays", ".syncer/complete.json": b"{}"}


def in_a_vacant_place(bench: Bench) -> Destination:
    """A destination that was told of `file.bin` as of a path where nothing is."""
    destination = bench.destination()
    if not isinstance(destination, SparesForeign):
        pytest.skip("the last one to write has the place: an image is whole, whoever made it")
    destination.spare(["file.bin"])
    return destination


def test_a_large_file_does_not_replace_what_has_appeared_meanwhile(writable: Bench) -> None:
    destination = in_a_vacant_place(writable)
    content, cut = three_parts(writable)
    upload = destination.begin(as_file("file.bin", content), cut)
    for index in range(cut.count):
        send_part(upload, index, part_of(content, cut, index))
    writable.put({"file.bin": b"theirs"})
    with pytest.raises(ForeignFile) as caught:
        upload.finish()
    assert "FORCE" in caught.value.hint
    with pytest.raises(ForeignFile):
        upload.finish()
    upload.abort()
    assert content_of(writable.far_end()) == {"file.bin": b"theirs"}
    assert destination.open_uploads() == []


@pytest.mark.parametrize("content", [b"", some_bytes(33)], ids=["empty", "small"])
def test_a_small_file_does_not_replace_what_has_appeared_meanwhile(writable: Bench, content: bytes) -> None:
    destination = in_a_vacant_place(writable)
    writable.put({"file.bin": b"theirs, of another size"})
    with pytest.raises(ForeignFile):
        store(destination, "file.bin", content, part_size=writable.part_size)
    writable.put({"file.bin": b"\0" * len(content) or b"0"})
    with pytest.raises(ForeignFile):
        store(destination, "file.bin", content, part_size=writable.part_size)
    assert content_of(writable.far_end()) == {"file.bin": b"\0" * len(content) or b"0"}


def test_a_vacant_place_takes_a_file_and_then_its_replacement(writable: Bench) -> None:
    destination = in_a_vacant_place(writable)
    content, _ = three_parts(writable)
    for data in (some_bytes(33), content, some_bytes(33, seed="again")):
        store(destination, "file.bin", data, part_size=writable.part_size)
        assert content_of(writable.far_end()) == {"file.bin": data}
    assert destination.open_uploads() == []


def test_a_resumed_file_does_not_replace_what_has_appeared_meanwhile(writable: Bench) -> None:
    needs(writable, "resumes_within_files")
    content, cut = three_parts(writable)
    file, token = whole_but_unfinished(writable, content, cut)
    upload = in_a_vacant_place(writable).begin(file, cut, resume=token)
    writable.put({"file.bin": b"theirs"})
    with pytest.raises(ForeignFile):
        upload.finish()
    upload.abort()
    assert content_of(writable.far_end()) == {"file.bin": b"theirs"}


def test_what_is_not_vacant_is_replaced(writable: Bench) -> None:
    destination = in_a_vacant_place(writable)
    writable.put({"other.bin": b"the old one"})
    store(destination, "other.bin", b"the new one", part_size=writable.part_size)
    assert content_of(writable.far_end()) == {"other.bin": b"the new one"}
