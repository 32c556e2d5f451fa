"""Made-up models: what a test copies, and the means to compare it at the far end."""

import hashlib
import random
from collections.abc import Mapping
from pathlib import Path


def write_model(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write `files` below `folder`."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def read_model(folder: Path) -> dict[str, bytes]:
    """All files below `folder` but our own control files."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".syncer" not in path.relative_to(folder).parts
    }


def pattern(size: int, seed: int = 0) -> bytes:
    """`size` bytes in which no two places look alike, the same for the same seed."""
    numbers = random.Random(seed)
    piece = 1 << 26
    return b"".join(numbers.randbytes(min(piece, size - at)) for at in range(0, size, piece))


def small_model(seed: int = 0) -> dict[str, bytes]:
    """A model in miniature: weights of several parts, small files, a nested one, and an empty one."""
    return {
        "config.json": b'{"model_type": "bert"}',
        "model.safetensors": pattern(9_000_003, seed),
        "tokenizer/vocab.txt": pattern(5_000, seed + 1),
        "1_Pooling/config.json": b"{}",
        "empty.txt": b"",
    }


def oddly_named(*, shards: int) -> dict[str, bytes]:
    """Files whose keys must be quoted, each in its own way, and many more; ten of them beside the `shards`."""
    return {f"shards/part {n:04}+é%2F.bin": b"%d" % n for n in range(shards)} | {
        "a b.txt": b"1",
        "a+b.txt": b"2",
        "a%20b.txt": b"3",
        "ünïcode/模型.json": b"4",
        "x//y.bin": b"5",
        "zero.bin": b"",
        "~tilde/(1)*'!.txt": b"6",
        "q?a=b&c#d.txt": b"7",
        "back\\slash": b"8",
        "semi;colon": b"9",
    }


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
