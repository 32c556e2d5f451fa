"""Models for tests of compression: folders with the headers that matter, and a worker in place of the library."""

import json
import struct
import sys
from collections.abc import Mapping
from pathlib import Path

CONFIG = {"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "torch_dtype": "bfloat16"}
TENSORS = {
    "model.embed_tokens.weight": (16, 8),
    "model.layers.0.self_attn.q_proj.weight": (8, 8),
    "model.layers.0.mlp.down_proj.weight": (8, 16),
    "model.layers.0.input_layernorm.weight": (8,),
    "lm_head.weight": (16, 8),
}

FAKE_WORKER = """
import json, pathlib, sys
def tell(said, **fields):
    print(json.dumps({"said": said, **fields}), flush=True)
task = json.loads(sys.stdin.readline())
log = pathlib.Path(%(log)r)
log.write_text(log.read_text() + json.dumps(task) + "\\n" if log.exists() else json.dumps(task) + "\\n")
%(before)s
original, result = pathlib.Path(task["original"]), pathlib.Path(task["result"])
tell("device", name="cpu", count=0, free_bytes=0)
tell("layer", done=1, total=1)
config = json.loads((original / "config.json").read_text())
config["quantization_config"] = {"quant_method": "compressed-tensors"}
(result / "config.json").write_text(json.dumps(config))
(result / "recipe.yaml").write_text("a product of the library")
(result / "model.safetensors").write_bytes((original / "model.safetensors").read_bytes()[::2])
(result / "model.safetensors").chmod(0o600)
tell("done")
"""


def safetensors(tensors: Mapping[str, tuple[int, ...]], *, filling: int = 7) -> bytes:
    """A file of bfloat16 tensors of these shapes."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in tensors.items():
        size = 2
        for length in shape:
            size *= length
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes([filling]) * at


def write_llama(folder: Path, *, filling: int = 7) -> Path:
    """A folder as a small Llama has it: weights, config, tokenizer, licence, and something nested."""
    (folder / "docs").mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "model.safetensors").write_bytes(safetensors(TENSORS, filling=filling))
    (folder / "pytorch_model.bin").write_bytes(b"the same weights once more")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "LICENSE").write_text("of the model")
    (folder / "docs" / "card.md").write_text("a card")
    return folder


def fake_worker(folder: Path, *, before: str = "") -> tuple[tuple[str, ...], Path]:
    """The command of a worker that needs no library, and the file where it notes its tasks.

    `before` is what it does first; without anything the result is every other byte of the weights.
    """
    script, log = folder / "worker.py", folder / "tasks.jsonl"
    script.write_text(FAKE_WORKER % {"log": str(log), "before": before})
    return (sys.executable, "-I", "-S", str(script)), log
