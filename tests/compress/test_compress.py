"""The real llmcompressor on a small Llama with random weights, on the CPU and without a network."""

import contextlib
import importlib.util
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncer import cli
from syncer.compressing import child, library, samples
from syncer.compressing.task import Task
from syncer.report import LastWords
from syncer.settings.compression import SCHEMES
from syncer.stop import StopSwitch
from tests.support.buckets import S3Server, running_moto
from tests.support.docker_registry import COMMANDS, DockerRegistry, running_registry
from tests.support.fake_hub import FakeHub
from tests.support.fake_registry import FakeRegistry
from tests.support.image_registry import ImageRegistry
from tests.support.models import read_model, write_model

pytestmark = [
    pytest.mark.compress,
    pytest.mark.filterwarnings("ignore"),  # what the libraries say to each other
    pytest.mark.skipif(
        importlib.util.find_spec("llmcompressor") is None, reason="llmcompressor is not installed (make test-compress)"
    ),
]

TEMPLATE = "{% for m in messages %}<|{{ m['role'] }}|> {{ m['content'] }} {% endfor %}"
TEXTS = [f"model number {i} is small and brave and lives in a bucket near the sea of {i * i}" for i in range(40)]


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("original")
    letters = {"<unk>": 0, "<s>": 1, "</s>": 2} | {chr(number): number for number in range(32, 127)}
    tokenizer = Tokenizer(models.BPE(vocab=letters, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "isolated")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=128, hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    write_model(folder, {"LICENSE": b"of the model", "docs/card.md": b"a card", "pytorch_model.bin": b"old weights"})
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    talk = [{"role": "user", "content": TEXTS[0]}, {"role": "assistant", "content": TEXTS[1]}]
    rows: list[dict[str, Any]] = [{"messages": talk}, {"prompt": TEXTS[2], "completion": TEXTS[3]}]
    path.write_text("\n".join(map(json.dumps, rows + [{"text": text} for text in TEXTS])))
    return path


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    with running_moto() as server:
        yield server


def likeness(one: Path, other: Path) -> float:
    """The cosine between what two models say to the same tokens."""
    import torch
    from transformers import AutoModelForCausalLM

    tokens = torch.tensor([list(range(40, 104))])
    with torch.no_grad():
        said = [
            AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)(input_ids=tokens)
            .logits.float()
            .flatten()
            for folder in (one, other)
        ]
    return float(torch.nn.functional.cosine_similarity(said[0], said[1], dim=0))


def run(*arguments: str, environ: dict[str, str]) -> LastWords:
    words = LastWords()
    cli.run(list(arguments), environ=environ | {"RESULTS_DIR": "/nowhere"}, stop=StopSwitch(), words=words)
    assert words.outcome is not None
    assert words.outcome.exit_code == 0, words.outcome
    return words


@contextlib.contextmanager
def an_image_registry(folder: Path) -> Iterator[DockerRegistry | ImageRegistry]:
    """Docker's own, where this machine has it."""
    folder.mkdir()
    real = all(map(shutil.which, COMMANDS))
    with running_registry(folder) if real else ImageRegistry() as registry:
        yield registry


def pulled(registry: DockerRegistry | ImageRegistry, into: Path) -> dict[str, bytes]:
    """The files of the image below `/models`, read by anything but our own code."""
    if isinstance(registry, DockerRegistry):
        return read_model(registry.unpacked("team/granite:1.0.0", into))
    blobs = registry.repository("team/granite").blobs
    layers = [blobs[layer["digest"]] for layer in registry.document("1.0.0", "team/granite")["layers"]]
    for layer in layers:
        with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
            archive.extractall(into, filter="data")
    return read_model(into / "models")


def held(registry: FakeRegistry | DockerRegistry | ImageRegistry) -> object:
    """What changes by anything that is kept; an upload that is opened and given up only asks whether one may."""
    match registry:
        case FakeRegistry():
            return len(registry.written)
        case ImageRegistry():
            return sum(each.method == "PUT" for each in registry.written())
    files = [path for path in (registry.folder / "data").rglob("*") if path.is_file() and "_uploads" not in path.parts]
    return {(path, path.stat().st_mtime_ns) for path in files}


def test_from_the_hub_by_gptq_into_a_bucket_and_two_registries(
    original: Path, data: Path, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3.new_bucket()
    before = read_model(original)
    with (
        FakeHub() as hub,
        FakeRegistry() as registry,
        an_image_registry(tmp_path / "internal") as internal,
        ImageRegistry() as quay,
    ):
        commit = hub.create("team/granite").commit(before)
        environ = {
            "HUGGINGFACE_MODEL": "team/granite",
            "HF_ENDPOINT": hub.endpoint,
            "COMPRESS_MODEL": "true",
            "GROUP_SIZE": "64",
            "DATASET": str(data),
            "SEQUENCE_LENGTH": "64",
            "NUM_CALIBRATION_SAMPLES": "12",
            "S3_SYNC_SCRATCH_DIR": str(tmp_path / "scratch"),
            "S3_BUCKET": bucket,
            "S3_ENDPOINT_URL": s3.endpoint,
            "AWS_ACCESS_KEY_ID": s3.access_key,
            "AWS_SECRET_ACCESS_KEY": s3.secret_key,
            "OCI_IMAGE": f"{internal.authority}/team/granite:1.0.0,{quay.authority}/team/granite:1.0.0",
            "OCI_VALIDATE_TLS": "false",
            "MODEL_NAME": "granite",
            "MODEL_REGISTRY_URL": registry.url,
        }
        run(environ=environ)
        there = s3.read(bucket, "model-data/granite/1.0.0/")
        assert there.keys() == before.keys() - {"pytorch_model.bin"}
        assert there["LICENSE"] == b"of the model"
        assert there["tokenizer.json"] == before["tokenizer.json"]
        weights = json.loads(there["config.json"])["quantization_config"]["config_groups"]["group_0"]["weights"]
        assert (weights["num_bits"], weights["group_size"], weights["type"]) == (4, 64, "int")
        assert len(there["model.safetensors"]) < 0.4 * len(before["model.safetensors"])
        for each in (internal, quay):
            assert pulled(each, tmp_path / f"pulled-{each.authority}") == there
        copy = write_model(tmp_path / "there", there)
        assert likeness(original, copy) > 0.95  # random weights: another model has 0
        manifest = json.loads(s3.control(bucket, "model-data/granite/1.0.0/")[".syncer/manifest.json"])
        assert (manifest["source"], manifest["revision"]) == ("hf://team/granite", commit)
        assert manifest["origin"]["recipe"].startswith("W4A16 group 64 gptq rows.jsonl@")
        uris = registry.text("uris").split()
        assert [uri.partition("@")[0] for uri in uris[1:]] == [
            f"oci://{each.authority}/team/granite" for each in (internal, quay)
        ]
        assert len({uri.partition("@")[2] for uri in uris[1:]}) == 1
        assert registry.artifact["state"] == "LIVE"
        assert registry.artifact["uri"] == uris[0]
        assert uris[0].startswith(f"s3://{bucket}/model-data/granite/1.0.0?")
        assert not any((tmp_path / "scratch").iterdir())

        monkeypatch.setattr(child, "WORKER", ("/nobody/compresses/again",))
        ends = (registry, internal, quay)
        marks = [held(each) for each in ends]
        assert all(marks)
        control, served = s3.control(bucket, "model-data/granite/1.0.0/"), hub.bytes_served
        again = run(environ=environ).outcome
        assert again is not None
        assert (again.reason, again.copied_bytes) == ("UpToDate", 0)
        assert s3.read(bucket, "model-data/granite/1.0.0/") == there
        assert [held(each) for each in ends] == marks
        assert hub.bytes_served == served
        assert s3.control(bucket, "model-data/granite/1.0.0/") == control


def test_rounding_alone_without_data(original: Path, tmp_path: Path) -> None:
    result = tmp_path / "compressed"
    run("compress", str(original), str(result), environ={"COMPRESSION_SCHEME": "FP8_DYNAMIC", "HF_HUB_OFFLINE": "1"})
    assert read_model(result).keys() == read_model(original).keys() - {"pytorch_model.bin"}
    assert all(path.stat().st_mode & 0o060 == 0o060 for path in result.rglob("*"))
    assert likeness(original, result) > 0.995


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_every_scheme_can_be_loaded_again(scheme: str, original: Path, data: Path, tmp_path: Path) -> None:
    known = SCHEMES[scheme]
    task = Task(
        original=str(original), result=str(tmp_path), scheme=scheme, algorithm=known.algorithm,
        group_size=128 if known.grouped else 0, ignore=("lm_head",), sequence_length=64, samples=4,
        dataset_path=str(data) if known.needs_data else "",
    )  # fmt: skip
    library.compress(task, lambda *_, **__: None)
    config = json.loads((tmp_path / "config.json").read_text())["quantization_config"]
    assert config["quant_method"] == "compressed-tensors"
    assert config["config_groups"]["group_0"]["weights"]["num_bits"] == known.bits
    assert likeness(original, tmp_path) > (0.98 if known.bits == 8 else 0.9)


def test_rows_of_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"text": TEXTS}), tmp_path / "rows.parquet")
    assert [row.text for row in samples.local_rows(tmp_path)] == TEXTS
