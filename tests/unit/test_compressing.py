"""What is decided about a compression before anything is loaded: samples, room, recipe, files; no torch anywhere."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from syncer.compressing import child, recipe, room, samples, weights
from syncer.compressing.samples import Row
from syncer.compressing.task import Refused, Task, parse
from syncer.errors import ConfigurationError, OutOfSpace
from syncer.manifest import Listing, ModelFile
from syncer.settings.locations import Compression, HubDataset, Network
from tests.support.small_llama import TENSORS, safetensors, write_llama

GiB = 1 << 30


@dataclass
class Letters:
    """A tokenizer whose tokens are the letters."""

    chat_template: Any = None
    eos_token_id: int | None = 0

    def __call__(self, text: str, *, add_special_tokens: bool) -> Mapping[str, list[int]]:
        return {"input_ids": [1] * add_special_tokens + [ord(letter) for letter in text]}

    def apply_chat_template(self, conversation: list[dict[str, str]], *, tokenize: bool) -> Any:
        assert not tokenize
        return "".join(f"<{each['role']}>{each['content']}" for each in conversation)


def as_text(tokens: list[int]) -> str:
    return "".join(map(chr, tokens))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", '{"text": "one"}\n\n{"text": "two"}\n'),
        ("rows.json", '[{"text": "one"}, {"text": "two"}]'),
        ("rows.json", '{"data": [{"text": "one"}, {"text": "two"}]}'),
        ("lines.json", '{"text": "one"}\n{"text": "two"}\n'),
        ("bom.jsonl", '\ufeff{"text": "one"}\n{"text": "two"}'),
    ],
)
def test_rows_of_texts(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert list(samples.local_rows(tmp_path / name)) == [Row("one"), Row("two")]


def test_a_folder_is_all_its_files_by_name(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("two\nlines\n\n\nthree\n")
    (tmp_path / "a.jsonl").write_text('{"prompt": "p", "completion": "c"}')
    (tmp_path / "README.md").write_text("no rows")
    assert list(samples.local_rows(tmp_path)) == [
        Row(messages=(("user", "p"), ("assistant", "c"))),
        Row("two\nlines\n"),
        Row("three\n"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.jsonl", '{"text": 5}', r"row 1 of .*x\.jsonl has the columns text; what is needed is text, messages"),
        ("x.jsonl", '{"question": "a", "answer": "b"}', "has the columns answer, question"),
        ("x.jsonl", '{"messages": [{"role": "user"}]}', "without the texts role and content"),
        ("x.jsonl", "[1]", "no object with columns"),
        ("x.jsonl", "{", "line 1 of .* is no JSON"),
        ("x.json", "5", "no list of rows"),
        ("x.csv", "a,b", "no file with samples"),
    ],
)
def test_rows_that_make_no_sense_are_refused(name: str, content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(Refused, match=words) as caught:
        list(samples.local_rows(tmp_path / name))
    assert caught.value.kind == "data"


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="holds no file with samples"):
        list(samples.local_rows(tmp_path))


def test_texts_fill_samples_and_no_row_more_is_read_than_needed() -> None:
    read = []

    def rows() -> Any:
        for text in ("abcde", "fghij", "klmno", "pqrst"):
            read.append(text)
            yield Row(text)

    found = samples.tokenized(rows(), Letters(), length=6, most=2)
    assert list(map(as_text, found)) == ["\1abcde", "\0\1fghi"]
    assert read == ["abcde", "fghij", "klmno"]


def test_the_rest_is_a_sample_where_there_are_too_few() -> None:
    assert list(map(as_text, samples.tokenized([Row("abc")], Letters(), length=9, most=2))) == ["\1abc\0"]
    with pytest.raises(Refused, match="no text"):
        samples.tokenized([Row(" ")], Letters(), length=9, most=2)


def test_a_conversation_is_a_sample_in_the_models_template() -> None:
    row = Row(messages=(("user", "hi"), ("assistant", "ho")))
    assert as_text(samples.tokenized([row], Letters("yes"), length=99, most=1)[0]) == "<user>hi<assistant>ho"
    assert as_text(samples.tokenized([row], Letters(), length=99, most=1)[0]) == "\1hi\nho"
    assert len(samples.tokenized([row], Letters("yes"), length=5, most=1)[0]) == 5


def test_recipes_are_the_same_for_the_same_outcome(tmp_path: Path) -> None:
    hub = Compression(dataset=HubDataset("c4"), scratch=tmp_path)
    assert recipe.recipe_of(hub) == "W4A16 group 128 gptq c4 512x2048 ignore lm_head"
    assert recipe.recipe_of(replace(hub, scratch=None)) == recipe.recipe_of(hub)
    assert recipe.recipe_of(replace(hub, group_size=-1)).startswith("W4A16 per channel gptq")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("1")
    first = recipe.recipe_of(replace(hub, dataset=rows))
    rows.write_text("2")
    assert recipe.recipe_of(replace(hub, dataset=rows)) != first
    assert first.startswith("W4A16 group 128 gptq rows.jsonl@")


def test_inputs_change_with_every_name_size_and_version() -> None:
    def of(*files: ModelFile) -> str:
        return recipe.inputs_of(Listing.of(files))

    one = ModelFile("a", 1, "v")
    assert len({of(one), of(ModelFile("b", 1, "v")), of(ModelFile("a", 2, "v")), of(ModelFile("a", 1, "w"))}) == 4
    assert of(one, ModelFile("b", 1, "v")) == of(ModelFile("b", 1, "v"), one)


def test_the_headers_tell_the_weights(tmp_path: Path) -> None:
    found = weights.read_weights(write_llama(tmp_path), ["model.safetensors", "docs/x.safetensors"])
    assert found.size == 2 * (16 * 8 * 2 + 8 * 8 + 8 * 16 + 8)
    assert {tensor.name for tensor in found.linear} == {
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.mlp.down_proj.weight",
    }
    assert found.hidden_size == 8
    assert sum(tensor.size for tensor in found.largest_layer) == 2 * (8 * 8 + 8 * 16 + 8)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0{", b"\x02\0\0\0\0\0\0\0[]", b'\x0f\0\0\0\0\0\0\0{"a": {"x": 1}}'],
)
def test_what_is_no_safetensors_file_is_said(content: bytes, tmp_path: Path) -> None:
    (write_llama(tmp_path) / "model.safetensors").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"model\.safetensors is no safetensors file"):
        weights.read_weights(tmp_path, ["model.safetensors"])


@pytest.mark.parametrize(
    ("path", "replaced"),
    [
        ("config.json", True),
        ("model-00001-of-00002.safetensors", True),
        ("model.safetensors.index.json", True),
        ("pytorch_model.bin", True),
        ("pytorch_model.bin.index.json", True),
        ("original/consolidated.00.pth", True),
        ("granite.Q4.gguf", True),
        ("2_Dense/model.safetensors", False),
        ("training_args.bin", False),
        ("tokenizer.model", False),
        ("original/params.json", False),
        ("generation_config.json", False),
    ],
)
def test_what_the_new_weights_replace(path: str, replaced: bool) -> None:
    assert weights.is_replaced(path) == replaced


def eight_billion() -> weights.Weights:
    """The shapes of Llama 3.1 8B."""
    layer = {"q_proj": (4096, 4096), "k_proj": (1024, 4096), "v_proj": (1024, 4096), "o_proj": (4096, 4096),
             "gate_proj": (14336, 4096), "up_proj": (14336, 4096), "down_proj": (4096, 14336)}  # fmt: skip
    tensors = [weights.Tensor("model.embed_tokens.weight", (128256, 4096), 128256 * 4096 * 2),
               weights.Tensor("lm_head.weight", (128256, 4096), 128256 * 4096 * 2)]  # fmt: skip
    for number in range(32):
        for name, (out, into) in layer.items():
            tensors.append(weights.Tensor(f"model.layers.{number}.{name}.weight", (out, into), out * into * 2))
    return weights.Weights(tuple(tensors), {"hidden_size": 4096})


def test_the_needs_of_a_model_of_8_billion() -> None:
    model = eight_billion()
    by_gptq = room.needs(model, Compression(dataset=HubDataset("c4")))
    assert 24 * GiB < by_gptq.memory < 40 * GiB
    assert 5 * GiB < by_gptq.result < 6.5 * GiB
    assert 2 * GiB < by_gptq.device < 8 * GiB
    rounded = room.needs(model, Compression(scheme="FP8_DYNAMIC", algorithm="rtn", bits=8, group_size=0), kept_bytes=7)
    assert rounded.memory == model.size + room.LIBRARIES
    assert 8 * GiB < rounded.result < 10 * GiB


def test_too_little_room_is_said_with_both_figures() -> None:
    needs = room.Needs(memory=30 * GiB, result=6 * GiB, device=0)
    with pytest.raises(ConfigurationError, match=r"needs about 30\.0 GiB of memory, and 16\.0 GiB") as caught:
        room.refuse_small_memory(needs, 16 * GiB, samples=True)
    assert "33.0 GiB" in caught.value.hint
    assert "NUM_CALIBRATION_SAMPLES" in caught.value.hint
    room.refuse_small_memory(needs, None, samples=True)
    room.refuse_small_memory(needs, 30 * GiB, samples=True)
    with pytest.raises(OutOfSpace, match=r"needs about 6\.0 GiB at /s, where 5\.0 GiB are free"):
        room.refuse_small_volume(6 * GiB, 5 * GiB, at=Path("/s"), variable="S3_SYNC_SCRATCH_DIR")
    room.refuse_small_volume(6 * GiB, None, at=Path("/s"), variable="S3_SYNC_SCRATCH_DIR")


def test_memory_is_what_the_pod_may_have(tmp_path: Path) -> None:
    def write(path: str, text: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    write("proc/meminfo", "MemTotal: 99 kB\nMemAvailable:   8388608 kB\n")
    assert room.memory_to_be_had(root=tmp_path) == 8 * GiB
    write("proc/self/cgroup", "0::/\n")
    write("sys/fs/cgroup/memory.max", str(4 * GiB))
    write("proc/self/status", "VmRSS:\t1048576 kB\n")
    assert room.memory_to_be_had(root=tmp_path) == 3 * GiB
    assert room.memory_to_be_had(root=tmp_path / "nowhere") is None


def test_a_task_goes_through_the_pipe_with_its_token_and_shows_it_to_nobody() -> None:
    wanted = Compression(dataset=HubDataset("c4", token=SecretStr("canary")))
    task = child.task_of(wanted, original=Path("/a"), result=Path("/b"), device_bytes=5)
    assert Task.from_line(task.to_line()) == task
    assert task.dataset_token == "canary"
    assert "canary" not in repr(task)
    assert task.has_data


def test_the_worker_is_offline_unless_a_data_set_is_to_be_fetched(tmp_path: Path) -> None:
    alone = child.environment(Compression(dataset=None), Network(), tmp_path)
    assert (alone["HF_HUB_OFFLINE"], alone["HF_HUB_DISABLE_TELEMETRY"], alone["HOME"]) == ("1", "1", str(tmp_path))
    data = HubDataset("c4", endpoint="https://hub", token=SecretStr("canary"))
    online = child.environment(Compression(dataset=data), Network(proxies={"https": "http://p"}), tmp_path)
    assert (online["HF_HUB_OFFLINE"], online["HF_ENDPOINT"], online["https_proxy"]) == ("0", "https://hub", "http://p")
    assert "BEGIN CERTIFICATE" in Path(online["SSL_CERT_FILE"]).read_text()
    assert "canary" not in str(online)


@pytest.mark.parametrize("line", ["", "Loading weights", "[1]", '{"a": 1}', "1" * 5000])
def test_lines_of_others_are_no_words_of_the_worker(line: str) -> None:
    assert parse(line) == {}


def test_the_files_of_these_tests_are_as_the_format_says() -> None:
    content = safetensors(TENSORS)
    length = int.from_bytes(content[:8], "little")
    assert json.loads(content[8 : 8 + length])["lm_head.weight"]["dtype"] == "BF16"
