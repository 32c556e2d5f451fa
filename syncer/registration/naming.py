"""Names of versions by one convention: one name for the model, versions such as `full-fp16-2511`.

The month is that of the model's seal and not today's: registering again names the same version.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, Final

from syncer.errors import ConfigurationError
from syncer.registration.card import configuration

AUTO: Final = "auto"
_KIND: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
_SHORT: Final = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32", "float64": "fp64"}


def version_name(kind: str, *, completed_at: str, config: bytes = b"") -> str:
    """`kind` with year and month of the seal; `auto` takes the kind from the model's `config.json`.

    Raises `ConfigurationError` for what is no name, for a seal without a time, and where `auto` finds nothing to go by.
    """
    if not completed_at:
        raise ConfigurationError(
            "--version-from needs the month of the model's seal, and an image has none",
            hint="call the version by MODEL_VERSION",
        )
    if kind == AUTO:
        kind = _kind_of(config)
    if _KIND.fullmatch(kind) is None:
        raise ConfigurationError(
            "--version-from must be a word such as full-fp16 or quantized-w4a16, or auto",
            hint="for example: syncer register --version-from quantized-w4a16",
        )
    return f"{kind}-{dt.datetime.fromisoformat(completed_at):%y%m}"


def _kind_of(config: bytes) -> str:
    document = configuration(config)
    quantization = document.get("quantization_config")
    if isinstance(quantization, dict):
        return f"quantized-{_scheme(quantization)}"
    kind = document.get("torch_dtype") or document.get("dtype")
    if isinstance(kind, str) and kind:
        kind = kind.removeprefix("torch.")
        return f"full-{_SHORT.get(kind, kind)}"
    raise ConfigurationError(
        "--version-from auto finds neither a data type nor a quantization in the model's config.json",
        hint="name the kind, for example: syncer register --version-from full-fp16",
    )


def _scheme(quantization: dict[str, Any]) -> str:
    """`w4a16` where the bits are known, else the method's name."""
    groups = quantization.get("config_groups")
    group = next(iter(groups.values()), None) if isinstance(groups, dict) else None
    if isinstance(group, dict) and isinstance(weights := group.get("weights"), dict):
        activations = group.get("input_activations")
        width = activations.get("num_bits") if isinstance(activations, dict) else 16
        bits = weights.get("num_bits")
        if weights.get("type") == "float" and bits == width:
            return f"fp{bits}"
        return f"w{bits}a{width}"
    if isinstance(bits := quantization.get("bits"), int):
        return f"w{bits}a16"
    return str(quantization.get("quant_method") or "unknown").lower()
