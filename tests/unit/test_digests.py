"""The digests of a file: in order, or part by part in any order."""

import hashlib
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncer.digests import FileHash, PartHash
from syncer.manifest import DigestName, ModelFile

CHECK = b"123456789"
CHECK_CRC = "ae8b14860a799888"
"""The check value in the catalogue of parametrised CRC algorithms."""


def crc(data: bytes) -> str:
    """CRC-64/NVME bit by bit, as the catalogue defines it: no word of the library's."""
    state = (1 << 64) - 1
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (0x9A6C9329AC4BC9B5 if state & 1 else 0)
    return f"{state ^ ((1 << 64) - 1):016x}"


def hashed(data: bytes) -> PartHash:
    part = PartHash()
    part.update(memoryview(data))
    return part


def test_the_checksum_is_the_one_that_everybody_means() -> None:
    assert crc(CHECK) == CHECK_CRC
    assert hashed(CHECK).hexdigest() == CHECK_CRC


@given(st.lists(st.binary(max_size=9), max_size=7).flatmap(lambda parts: st.permutations(list(enumerate(parts)))))
def test_parts_in_any_order_give_the_checksum_of_the_whole(shuffled: list[tuple[int, bytes]]) -> None:
    parts = [part for _, part in sorted(shuffled)]
    whole = FileHash(["crc64nvme"], sum(map(len, parts)))
    for index, part in shuffled:
        whole.join(sum(map(len, parts[:index])), hashed(part))
    assert whole.digests() == {"crc64nvme": crc(b"".join(parts))}


def test_parts_far_apart_are_joined_from_many_threads() -> None:
    ones = b"\x01" * 4096
    size = len(ones) * 64
    whole = FileHash(["crc64nvme"], size)
    threads = [threading.Thread(target=lambda at=at: whole.join(at, hashed(ones))) for at in range(0, size, len(ones))]
    for thread in reversed(threads):
        thread.start()
    for thread in threads:
        thread.join()
    assert whole.digests() == {"crc64nvme": hashed(ones * 64).hexdigest()}


@pytest.mark.parametrize(
    ("kind", "known", "names"),
    [
        ("sha256", (), {"sha256"}),
        ("sha256", ("git_sha1",), {"sha256", "git_sha1"}),
        ("sha256", ("crc64nvme",), {"sha256", "crc64nvme"}),
        ("crc64nvme", ("sha256", "git_sha1"), {"crc64nvme"}),
        (None, ("crc64nvme",), {"crc64nvme"}),
        (None, (), {"sha256"}),
    ],
)
def test_what_is_computed_follows_from_the_choice_and_the_listing(
    kind: DigestName | None, known: tuple[DigestName, ...], names: set[str]
) -> None:
    digest = FileHash.of(ModelFile("a", 3, "1", dict.fromkeys(known, "00")), kind)
    assert digest.in_order == (names != {"crc64nvme"})
    digest.update(memoryview(b"abc"))
    every = {
        "sha256": hashlib.sha256(b"abc").hexdigest(),
        "git_sha1": hashlib.sha1(b"blob 3\0abc").hexdigest(),
        "crc64nvme": crc(b"abc"),
    }
    assert digest.digests() == {name: every[name] for name in names}


@pytest.mark.parametrize("names", [["sha256", "git_sha1"], ["sha256", "crc64nvme"], ["crc64nvme"]])
def test_a_copied_state_goes_its_own_way(names: list[DigestName]) -> None:
    digest, whole = FileHash(names, 3), FileHash(names, 3)
    digest.update(memoryview(b"a"))
    twin = digest.copy()
    twin.update(memoryview(b"wrong"))
    digest.update(memoryview(b"bc"))
    whole.update(memoryview(b"abc"))
    assert digest.digests() == whole.digests() != twin.digests()
    assert twin.in_order == digest.in_order


def test_a_digest_that_nobody_can_compute_is_refused() -> None:
    with pytest.raises(ValueError, match="md5"):
        FileHash(["md5"], 1)  # type: ignore[list-item]
