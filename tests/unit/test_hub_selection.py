"""Which files of a repository are the model, on the listings of real ones."""

from itertools import chain

import pytest

from syncer.manifest import ModelFile
from syncer.stores.huggingface.selection import BY_PATTERN, GIT_S_OWN, ORIGINAL, THERE_AS_SAFETENSORS, choose

LLAMA = [
    ".gitattributes",
    "LICENSE",
    "README.md",
    "USE_POLICY.md",
    "config.json",
    "generation_config.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
    "original/consolidated.00.pth",
    "original/params.json",
    "original/tokenizer.model",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
]
BERT = [
    ".gitattributes",
    "README.md",
    "config.json",
    "coreml/fill-mask/float32_model.mlpackage/Data/com.apple.CoreML/weights/weight.bin",
    "flax_model.msgpack",
    "model.onnx",
    "model.safetensors",
    "pytorch_model.bin",
    "rust_model.ot",
    "tf_model.h5",
    "tokenizer.json",
    "vocab.txt",
]
SENTENCES = [
    ".gitattributes",
    "1_Pooling/config.json",
    "2_Dense/config.json",
    "2_Dense/model.safetensors",
    "2_Dense/pytorch_model.bin",
    "config.json",
    "config_sentence_transformers.json",
    "model.safetensors",
    "modules.json",
    "onnx/model.onnx",
    "onnx/model_qint8_avx512.onnx",
    "openvino/openvino_model.bin",
    "openvino/openvino_model.xml",
    "pytorch_model.bin",
    "sentence_bert_config.json",
    "train_script.py",
    "training_args.bin",
]
DIFFUSERS = [
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "text_encoder/model.fp16.safetensors",
    "text_encoder/pytorch_model.bin",
    "text_encoder/pytorch_model.fp16.bin",
    "unet/config.json",
    "unet/diffusion_flax_model.msgpack",
    "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
    "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
    "unet/diffusion_pytorch_model.safetensors.index.json",
    "unet/diffusion_pytorch_model-00001-of-00002.bin",
    "unet/diffusion_pytorch_model-00002-of-00002.bin",
    "unet/diffusion_pytorch_model.bin.index.json",
    "unet/diffusion_pytorch_model.non_ema.bin",
    "vae/diffusion_pytorch_model.bin",
    "v1-5-pruned.ckpt",
    "v1-5-pruned.safetensors",
]


def files(*paths: str) -> list[ModelFile]:
    return [ModelFile(path, 100, "1") for path in paths]


def left_out(paths: list[str], *, allow: tuple[str, ...] = (), ignore: tuple[str, ...] = ()) -> dict[str, list[str]]:
    selection = choose(files(*paths), allow=allow, ignore=ignore)
    told = {reason: [file.path for file in those] for reason, those in selection.left_out.items()}
    # Whatever is asked for: each file is either taken or told about, once.
    assert sorted([file.path for file in selection.taken] + list(chain.from_iterable(told.values()))) == sorted(paths)
    return told


def test_llama_comes_without_its_original() -> None:
    assert left_out(LLAMA) == {
        GIT_S_OWN: [".gitattributes"],
        ORIGINAL: ["original/consolidated.00.pth", "original/params.json", "original/tokenizer.model"],
    }


def test_bert_comes_without_the_other_frameworks() -> None:
    assert left_out(BERT) == {
        GIT_S_OWN: [".gitattributes"],
        THERE_AS_SAFETENSORS: ["flax_model.msgpack", "pytorch_model.bin", "tf_model.h5"],
    }


def test_sentence_transformers_keep_what_is_no_duplicate() -> None:
    assert left_out(SENTENCES) == {
        GIT_S_OWN: [".gitattributes"],
        THERE_AS_SAFETENSORS: ["2_Dense/pytorch_model.bin", "pytorch_model.bin"],
    }


def test_diffusers_are_looked_at_folder_by_folder_and_variant_by_variant() -> None:
    assert left_out(DIFFUSERS) == {
        THERE_AS_SAFETENSORS: [
            "text_encoder/pytorch_model.bin",
            "text_encoder/pytorch_model.fp16.bin",
            "unet/diffusion_flax_model.msgpack",
            "unet/diffusion_pytorch_model-00001-of-00002.bin",
            "unet/diffusion_pytorch_model-00002-of-00002.bin",
            "unet/diffusion_pytorch_model.bin.index.json",
        ]
    }


@pytest.mark.parametrize(
    "paths",
    [
        # quantized: nothing is there twice
        ["README.md", "model-Q4_K_M.gguf", "model-Q8_0.gguf", "mmproj/model.bin"],
        # no safetensors at all
        ["config.json", "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin", "tf_model.h5"],
        # first format alone
        ["original/consolidated.00.pth", "original/params.json"],
        ["original/model.safetensors", "original/config.json"],
        # two models, of which one has safetensors
        ["a/model.safetensors", "b/pytorch_model.bin"],
        ["control_canny.safetensors", "control_depth.pth"],
        ["adapter_model.safetensors", "pytorch_model.bin"],
        # parts of a model that are not its weights
        ["model.safetensors", "colbert_linear.pt", "sparse_linear.pt", "optimizer.pt", "rng_state.pth", "vocab.bin"],
        # half a conversion is none
        ["model-00001-of-00002.safetensors", "pytorch_model.bin"],
        # other precision
        ["diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.bin"],
        # a folder of this name further down is no `original/` of Meta's
        ["model.safetensors", "voices/original/voice.pt"],
        ["model.safetensors", "originals.txt"],
        ["gitattributes", "docs/.gitignore"],
    ],
)
def test_what_is_no_duplicate_stays(paths: list[str]) -> None:
    assert left_out(paths) == {}


@pytest.mark.parametrize(
    ("paths", "duplicates"),
    [
        (["adapter_model.bin", "adapter_model.safetensors"], ["adapter_model.bin"]),
        (
            ["consolidated.00.pth", "consolidated.01.pth", "model.safetensors"],
            ["consolidated.00.pth", "consolidated.01.pth"],
        ),
        (["vae.pt", "vae.safetensors"], ["vae.pt"]),
        (["open_clip_model.safetensors", "open_clip_pytorch_model.bin"], ["open_clip_pytorch_model.bin"]),
        (
            [
                "model.fp32-00001-of-00001.safetensors",
                "pytorch_model.bin.index.fp32.json",
                "pytorch_model.fp32-00001-of-00001.bin",
            ],
            ["pytorch_model.bin.index.fp32.json", "pytorch_model.fp32-00001-of-00001.bin"],
        ),
        (["m/.gitattributes"], ["m/.gitattributes"]),
    ],
)
def test_what_is_there_twice_is_left_out(paths: list[str], duplicates: list[str]) -> None:
    assert list(chain.from_iterable(left_out(paths).values())) == duplicates


def test_allow_patterns_replace_the_default() -> None:
    assert left_out(BERT, allow=("*",)) == {}
    told = left_out(LLAMA, allow=("original/", "*.md"))
    assert told == {
        BY_PATTERN: [path for path in LLAMA if not path.startswith("original/") and not path.endswith(".md")]
    }


def test_ignore_patterns_come_on_top() -> None:
    told = left_out(BERT, ignore=("*.onnx", "coreml/"))
    assert told[BY_PATTERN] == [path for path in BERT if path.startswith("coreml/") or path == "model.onnx"]
    assert told[THERE_AS_SAFETENSORS] == ["flax_model.msgpack", "pytorch_model.bin", "tf_model.h5"]
    assert left_out(["a.md", "b.md"], allow=("*.md",), ignore=("b*",)) == {BY_PATTERN: ["b.md"]}


def test_a_star_crosses_slashes_as_on_the_hub() -> None:
    assert left_out(["a/b/c.json", "d.json", "e.txt"], allow=("*.json",)) == {BY_PATTERN: ["e.txt"]}
