"""What is in a model: its card, its weights, its index, its samples."""

import json
from typing import Any, Final

from syncer.compressing.room import needs
from syncer.compressing.samples import local_rows
from syncer.compressing.task import Refused, parse
from syncer.compressing.weights import read_weights
from syncer.logs import redact
from syncer.manifest import Listing, ModelFile
from syncer.redaction import redact_value
from syncer.registration.card import read_card
from syncer.settings.locations import Compression
from syncer.stores.uploaded import UploadedSource
from tests.fuzz.target import Target, Violated, scratch
from tests.support.foreign_images import (
    Cut as Piecemeal,
)


def _card(data: bytes) -> None:
    readme, _, config = data.partition(b"\n====\n")
    card = read_card(readme, config)
    for text in (*card.texts().values(), card.description, *card.tags):
        if not text.replace("\u2028", "").isprintable() and any(ord(letter) < 32 for letter in text):
            raise Violated(f"a card with control characters: {text[:200]!r}")
        text.encode()
    json.dumps(card.texts())


def _weights(data: bytes) -> None:
    folder = scratch() / "model"
    folder.mkdir(exist_ok=True)
    header, _, config = data.partition(b"\n====\n")
    (folder / "model.safetensors").write_bytes(header)
    (folder / "config.json").write_bytes(config)
    needs(read_weights(folder, ["model.safetensors", "config.json"]), Compression())


class _OneIndex:
    """A destination with nothing but the index of a model's shards."""

    name = uri = "memory://model/"

    def __init__(self, data: bytes) -> None:
        self._data = data

    def listing(self) -> Listing:
        path = "model.safetensors.index.json"
        return Listing({path: ModelFile(path, len(self._data), "v")})

    def read(self, file: ModelFile, start: int, length: int) -> Any:
        return Piecemeal(memoryview(self._data), largest=1 << 20)


def _shards(data: bytes) -> None:
    source: Any = UploadedSource(_OneIndex(data))  # type: ignore[arg-type]  # as much of a destination as it asks
    source.listing()


def _samples(data: bytes) -> None:
    folder = scratch() / "samples"
    folder.mkdir(exist_ok=True)
    for suffix in (".jsonl", ".json", ".txt"):
        path = folder / f"rows{suffix}"
        path.write_bytes(data)
        try:
            for _ in local_rows(path):
                pass
        except Refused as refused:
            redact(refused.message)
        path.unlink()


def _worker_lines(data: bytes) -> None:
    said = parse(data.decode(errors="replace"))
    redact_value(dict(said))


_TENSORS: Final = {
    "__metadata__": {"format": "pt"},
    "model.layers.0.mlp.down_proj.weight": {"dtype": "BF16", "shape": [4, 4], "data_offsets": [0, 32]},
    "model.embed_tokens.weight": {"dtype": "BF16", "shape": [8, 4], "data_offsets": [32, 96]},
}


def _safetensors() -> bytes:
    header = json.dumps(_TENSORS).encode()
    config = json.dumps({"hidden_size": 4, "model_type": "llama", "text_config": {"hidden_size": 4}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(96) + b"\n====\n" + config


_CARD: Final = (
    b"---\nlicense: apache-2.0\nlanguage:\n- en\n- no\ntags: [text-generation, pytorch]\nbase_model: &b owner/base\n"
    b"library_name: transformers\npipeline_tag: text-generation\nmodel-index:\n- name: x\n  results: []\n---\n\n"
    b"# Title\n"
    b"\nA paragraph of prose.\n\n```\ncode\n```\n\n- a list\n"
    b'\n====\n{"quantization_config": {"quant_method": "gptq", "bits": 4}}'
)
_YAML_BOMB: Final = (
    b"---\ntags: &a [x, x]\nlanguage: &b [*a, *a, *a, *a]\nlicense: &c [*b, *b, *b, *b]\nbase_model: &d [*c, *c]\n"
    b"library_name: {<<: {<<: *a}}\n---\ntext\n====\n{}"
)


TARGETS: Final = (
    Target("model-card", _card, (_CARD, _YAML_BOMB)),
    Target("safetensors", _weights, (_safetensors(),)),
    Target("shard-index", _shards, (b'{"metadata": {"total_size": 5}, "weight_map": {"a": "b-1.safetensors"}}',)),
    Target(
        "samples",
        _samples,
        (
            b'{"text": "a"}\n{"messages": [{"role": "user", "content": "x"}]}\n{"prompt": "p", "completion": "c"}\n',
            b'[{"text": "a"}, {"text": "b"}]',
            b"a paragraph\n\nanother\n",
        ),
    ),
    Target("worker-lines", _worker_lines, (b'{"said": "log", "level": 20, "message": "m"}',)),
)
