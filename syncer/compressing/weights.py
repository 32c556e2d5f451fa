"""What a model's folder holds: its weights, as the headers of its safetensors tell them, and everything else.

No tensor is read.  The format: eight bytes with the header's length, little-endian, then JSON that gives dtype, shape
and place of each tensor (https://huggingface.co/docs/safetensors).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Final

from syncer.claims import from_json, is_size
from syncer.errors import ConfigurationError, one_line

CONFIG: Final = "config.json"

_LARGEST_HIDDEN: Final = 2**31
_LARGEST_HEADER: Final = 100_000_000
"""What the format itself allows."""
_OLD_WEIGHTS: Final = re.compile(
    r"[^/]+\.safetensors|(?:[^/]+/)*(?:(?:pytorch_model|consolidated|tf_model|flax_model)[^/]*\.(?:bin|pth|pt|h5|msgpack|safetensors)"
    r"|[^/]+\.gguf)|[^/]+\.(?:safetensors|bin)\.index\.json",
    re.IGNORECASE,
)
_LAYER: Final = re.compile(r"(.*?\.\d+)\.")
_NOT_LINEAR: Final = re.compile(r"embed|norm|lm_head|\.wte\.|\.wpe\.|conv", re.IGNORECASE)


@dataclass(frozen=True)
class Tensor:
    """One tensor: `size` in bytes."""

    name: str
    shape: tuple[int, ...]
    size: int


@dataclass(frozen=True)
class Weights:
    """The tensors of a model, and what its config says; sizes in bytes."""

    tensors: tuple[Tensor, ...]
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """All tensors together."""
        return sum(tensor.size for tensor in self.tensors)

    @property
    def linear(self) -> tuple[Tensor, ...]:
        """The weights that a scheme shrinks: those of linear layers, experts that are kept in one tensor among them."""
        return tuple(
            tensor for tensor in self.tensors if len(tensor.shape) in {2, 3} and not _NOT_LINEAR.search(tensor.name)
        )

    @property
    def largest_tensor(self) -> int:
        """The largest one."""
        return max((tensor.size for tensor in self.tensors), default=0)

    @property
    def largest_layer(self) -> tuple[Tensor, ...]:
        """The tensors of the decoder layer that has the most bytes."""
        layers: dict[str, list[Tensor]] = defaultdict(list)
        for tensor in self.tensors:
            if found := _LAYER.match(tensor.name):
                layers[found[1]].append(tensor)
        return tuple(max(layers.values(), key=lambda layer: sum(tensor.size for tensor in layer), default=[]))

    @property
    def hidden_size(self) -> int:
        """Numbers that stand for one token between two layers; 0 where the config does not say."""
        for config in (self.config, self.config.get("text_config")):
            found = config.get("hidden_size") if isinstance(config, Mapping) else None
            if is_size(found) and found <= _LARGEST_HIDDEN:
                return found
        return 0


def is_replaced(path: str) -> bool:
    """Whether the file at `path` is the config, or holds weights that the new ones replace."""
    return path == CONFIG or _OLD_WEIGHTS.fullmatch(path) is not None


def read_weights(folder: Path, paths: Iterable[str]) -> Weights:
    """The weights of the model in `folder`, whose files are `paths`; `ConfigurationError` for what cannot be done."""
    config = _config(folder)
    names = sorted(path for path in paths if "/" not in path and path.endswith(".safetensors"))
    loaded = [name for name in names if not name.startswith("consolidated")] or names
    if not loaded:
        raise _refused(folder, "there are no weights as *.safetensors in it, and no others are compressed")
    return Weights(tuple(tensor for name in loaded for tensor in _tensors(folder / name)), config)


def _config(folder: Path) -> Mapping[str, Any]:
    try:
        config = from_json((folder / CONFIG).read_bytes())
    except FileNotFoundError:
        raise _refused(folder, f"there is no {CONFIG} in it") from None
    except (OSError, ValueError) as error:
        raise _refused(folder, f"its {CONFIG} cannot be read") from error
    if not isinstance(config, dict):
        raise _refused(folder, f"its {CONFIG} is no JSON object")
    done = config.get("quantization_config")
    if isinstance(done, dict):
        raise _refused(
            folder, f"it is compressed already, by {one_line(str(done.get('quant_method', 'somebody')))[:60]}"
        )
    return config


def _tensors(path: Path) -> list[Tensor]:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = from_json(file.read(length)) if length <= _LARGEST_HEADER else None
        if not isinstance(header, dict):
            raise _refused(path.parent, f"{path.name} is no safetensors file")
        return [_tensor(name, entry) for name, entry in header.items() if name != "__metadata__"]
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise _refused(path.parent, f"{path.name} is no safetensors file") from error


def _tensor(name: str, entry: Mapping[str, Any]) -> Tensor:
    shape, (start, end) = tuple(entry["shape"]), entry["data_offsets"]
    if not all(map(is_size, (*shape, start, end))) or start > end or not is_size(prod(shape)):
        raise ValueError("a tensor of a size that none can have")
    return Tensor(name, shape, end - start)


def elements(tensors: Iterable[Tensor]) -> int:
    """How many numbers they hold."""
    return sum(prod(tensor.shape) for tensor in tensors)


def _refused(folder: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"the model in {folder} cannot be compressed: {why}",
        hint="take a model of unquantized safetensors, or unset COMPRESS_MODEL (or add compress-model to SKIP_TASKS)",
        path=str(folder),
    )
