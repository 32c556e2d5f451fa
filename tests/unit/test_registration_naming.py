"""Names of versions by the convention."""

import json
from typing import Any

import pytest

from syncer.errors import ConfigurationError
from syncer.registration.naming import version_name

SEALED = "2025-11-03T10:00:00+00:00"


@pytest.mark.parametrize("kind", ["full-fp16", "quantized-w4a16"])
def test_the_month_is_the_seals(kind: str) -> None:
    assert version_name(kind, completed_at=SEALED) == f"{kind}-2511"


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"torch_dtype": "float16"}, "full-fp16"),
        ({"dtype": "torch.bfloat16"}, "full-bf16"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}, "torch_dtype": "float16"}, "quantized-w4a16"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantized-fp8"),
        (
            {"quantization_config": {"config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int"}}}}},
            "quantized-w4a16",
        ),
        (
            {
                "quantization_config": {
                    "config_groups": {"g": {"weights": {"num_bits": 8}, "input_activations": {"num_bits": 8}}}
                }
            },
            "quantized-w8a8",
        ),
        (
            {
                "quantization_config": {
                    "config_groups": {
                        "g": {"weights": {"num_bits": 8, "type": "float"}, "input_activations": {"num_bits": 8}}
                    }
                }
            },
            "quantized-fp8",
        ),
    ],
)
def test_the_configuration_names_the_kind(config: dict[str, Any], kind: str) -> None:
    assert version_name("auto", completed_at=SEALED, config=json.dumps(config).encode()) == f"{kind}-2511"


@pytest.mark.parametrize("config", [b"", b"{}", b"[]", b"{no json", b'{"torch_dtype": "a b"}'])
def test_nothing_to_go_by(config: bytes) -> None:
    with pytest.raises(ConfigurationError, match="--version-from"):
        version_name("auto", completed_at=SEALED, config=config)


@pytest.mark.parametrize("kind", ["", "a b", "-x", "ä", "x" * 61, "a\n"])
def test_what_is_no_name(kind: str) -> None:
    with pytest.raises(ConfigurationError, match="must be a word"):
        version_name(kind, completed_at=SEALED)
