"""Whether there is room: memory, scratch and GPU against what a model needs, before anything is loaded.  Pure.

The figures are bounds that were measured, not guesses; docs/compression.md has them with examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from syncer.compressing.weights import Tensor, Weights, elements
from syncer.control_groups import in_use, memory_limit
from syncer.errors import ConfigurationError, OutOfSpace
from syncer.settings.locations import Compression

GiB: Final = 1 << 30

LIBRARIES: Final = 2 * GiB
"""What the worker takes with torch and its fellows loaded, and the allocator's slack."""
_ON_DEVICE: Final = 1 * GiB
"""What CUDA, its kernels and one sample's activations take."""
_SCALES: Final = 1.07
"""Scales, zero points and padding beside the new weights, for the smallest group."""
_SYSTEM: Final = Path("/")


@dataclass(frozen=True)
class Needs:
    """Bytes: in the pod's memory, on the volume for the result, and on a GPU where there is one."""

    memory: int
    result: int
    device: int


def needs(weights: Weights, wanted: Compression, *, kept_bytes: int = 0) -> Needs:
    """What compressing takes; `kept_bytes` are the files that go along as they are."""
    linear = sum(tensor.size for tensor in weights.linear)
    shrunk = int(elements(weights.linear) * wanted.bits / 8 * _SCALES)
    # Between two layers every sample lies in memory: bfloat16, before and after the layer.
    samples = wanted.samples * wanted.sequence_length * weights.hidden_size * 2 * 2 if wanted.dataset else 0
    layer = weights.largest_layer
    beside = _hessians(layer) if wanted.algorithm == "gptq" else 0
    whole_layer = 2 * sum(tensor.size for tensor in layer) if wanted.dataset else 0
    return Needs(
        memory=weights.size + samples + LIBRARIES,
        result=weights.size - linear + min(shrunk, linear) + kept_bytes,
        device=max(whole_layer + beside, 4 * weights.largest_tensor) + _ON_DEVICE,
    )


def refuse_small_memory(wanted: Needs, have: int | None, *, samples: bool) -> None:
    """Raise `ConfigurationError` where the pod's memory cannot hold the model; None means that nobody can tell."""
    if have is None or wanted.memory <= have:
        return
    fewer = ", or take fewer samples (NUM_CALIBRATION_SAMPLES, SEQUENCE_LENGTH)" if samples else ""
    raise ConfigurationError(
        f"compressing this model needs about {_gib(wanted.memory)} of memory, and {_gib(have)} are to be had",
        hint=f"raise the memory limit of the pod to {_gib(wanted.memory * 11 // 10)}{fewer}",
    )


def refuse_small_volume(wanted: int, free: int | None, *, at: Path, variable: str) -> None:
    """Raise `OutOfSpace` where `wanted` bytes do not fit."""
    if free is not None and wanted > free:
        raise OutOfSpace(
            f"compressing this model needs about {_gib(wanted)} at {at}, where {_gib(free)} are free",
            hint=f"make the volume bigger, or point {variable} to another one",
            stage="compress",
            path=str(at),
        )


def memory_to_be_had(*, root: Path = _SYSTEM) -> int | None:
    """Bytes that a process of this pod may still take: what the limit leaves, and no more than the node has."""
    limit = memory_limit(root=root)
    available = _available(root)
    left = None if limit is None else max(0, limit - in_use(root=root))
    return min((each for each in (left, available) if each is not None), default=None)


def _hessians(layer: tuple[Tensor, ...]) -> int:
    """GPTQ keeps a square of float32 for each weight of the layer, as wide as its input (experts have one each)."""
    total = 0
    for tensor in layer:
        if len(tensor.shape) == 2:
            total += 4 * tensor.shape[1] ** 2
        elif len(tensor.shape) == 3:
            total += 4 * tensor.shape[0] * max(tensor.shape[1:]) ** 2
    return total


def _available(root: Path) -> int | None:
    """`MemAvailable` of proc(5)."""
    try:
        for line in (root / "proc/meminfo").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return int(value.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None


def _gib(count: int) -> str:
    return f"{count / GiB:.1f} GiB"
