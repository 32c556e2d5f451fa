"""The files of six public models, as sizes: what the share rule and the model of its scale are tried on.

Those of the first two are exact, in bytes.  Those of the others are what published listings show, rounded there to a
tenth of a GiB: good for questions of balance, not for anything else.  Each model has a handful of small files beside
its weights (configuration, tokenizer, index), written here with about the sizes that they have.
"""

from __future__ import annotations

from typing import Final

_GiB: Final = 2**30


def _tenths(*runs: tuple[int, int]) -> tuple[int, ...]:
    """Sizes in tenths of a GiB, each so many times in a row."""
    return tuple(tenths * _GiB // 10 for times, tenths in runs for _ in range(times))


_SMALL_LLAMA: Final = (7_600, 41_000, 4_700, 850, 180, 60_000, 300, 9_085_000, 2_180_000, 50_500)
_SMALL_MISTRAL: Final = (600, 120, 25_000, 414, 1_795_000, 493_000, 1_000)
_SMALL_DEEPSEEK: Final = (1_700, 10_500, 171, 1_100, 76_000, 8_900_000, 19_500, 3_600, 7_850_000)

MODELS: Final[dict[str, tuple[int, ...]]] = {
    "Mistral-7B-v0.1": (9_942_981_696, 4_540_516_344, *_SMALL_MISTRAL),
    "Llama-3.1-8B": (4_976_698_672, 4_999_802_720, 4_915_916_176, 1_168_138_808, *_SMALL_LLAMA),
    "Llama-3.1-70B": (
        *_tenths((2, 43)),
        *(_tenths((1, 47), (1, 46), (3, 43)) * 5),
        *_tenths((1, 47), (1, 46), (1, 20)),
        *_SMALL_LLAMA,
    ),
    "Mixtral-8x22B-v0.1": (
        *_tenths((1, 47), (22, 45), (1, 46), (2, 47), (1, 46), (24, 45), (1, 46), (2, 47), (1, 46), (3, 45)),
        951 * 2**20,
        *_SMALL_MISTRAL,
    ),
    "Llama-3.1-405B": (
        *_tenths((1, 44), (1, 38)),
        *(_tenths((2, 44), (1, 33)) * 62),
        *_tenths((1, 44), (1, 33), (1, 39)),
        *_SMALL_LLAMA,
    ),
    "DeepSeek-R1": (  # 671B; DeepSeek-V3 is cut in the same way
        *_tenths((1, 49), (10, 41), (1, 13), (21, 41)),
        *(_tenths((1, 17), (21, 41)) * 4),
        *_tenths((1, 17), (18, 41), (1, 30), (18, 41), (1, 49), (2, 41), (1, 62)),
        *_SMALL_DEEPSEEK,
    ),
}
