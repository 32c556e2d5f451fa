"""llmcompressor and torch: the only module that knows either.  It runs in the worker alone.

The weights lie in memory; what is under way moves to an accelerator where there is one, layer by layer
(llmcompressor's sequential pipeline), so that one device is enough for a model of any size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from syncer.compressing import samples
from syncer.compressing.task import Refused, Task
from syncer.redaction import quoted

SHARD: Final = "5GB"
"""Size of one file of the result: some side by side are copied faster than one of the library's own 20 GB."""

Tell = Callable[..., None]


def compress(task: Task, tell: Tell) -> None:
    """Do the task.  `Refused` for everything that somebody can do something about."""
    import torch  # only in the image that compresses
    from llmcompressor import oneshot

    torch.manual_seed(0)
    _look_at_devices(torch, task, tell)
    tokenizer = _tokenizer(task) if task.has_data else None
    data = None if tokenizer is None else _calibration(torch, task, tokenizer, tell)
    tell("stage", stage="load")
    model = _model(task)
    if task.has_data:
        _count_layers(model, tell)
    tell("stage", stage="compress")
    try:
        oneshot(model=model, processor=tokenizer, recipe=_modifier(task), dataset=data)
    except torch.OutOfMemoryError as error:
        raise Refused("memory", f"the device has too little memory: {_first_line(error)}") from error
    except ValueError as error:
        raise Refused("model", _few_lines(error)) from error
    tell("stage", stage="save")
    model.save_pretrained(task.result, save_compressed=True, max_shard_size=SHARD)


def _look_at_devices(torch: Any, task: Task, tell: Tell) -> None:
    """Say what there is; refuse a device that cannot hold one layer with what GPTQ needs beside it."""
    if not torch.cuda.is_available():
        tell("device", name="cpu", count=0, free_bytes=0)
        return
    free, total = torch.cuda.mem_get_info()
    tell("device", name=torch.cuda.get_device_name(), count=torch.cuda.device_count(), free_bytes=free)
    if task.device_bytes > free:
        raise Refused(
            "memory",
            f"compressing this model needs about {task.device_bytes / 2**30:.1f} GiB on the GPU, which has "
            f"{free / 2**30:.1f} GiB free of {total / 2**30:.1f} GiB",
        )


def _calibration(torch: Any, task: Task, tokenizer: Any, tell: Tell) -> Any:
    tell("stage", stage="read_data")
    rows = (
        samples.local_rows(Path(task.dataset_path))
        if task.dataset_path
        else samples.hub_rows(task.dataset_name, task.dataset_token)
    )
    length = min(task.sequence_length, _longest(task) or task.sequence_length)
    found = samples.tokenized(rows, tokenizer, length=length, most=task.samples)
    tell("data", samples=len(found), tokens=sum(map(len, found)), wanted_samples=task.samples, sequence_length=length)
    as_rows = [{"input_ids": tokens, "attention_mask": [1] * len(tokens)} for tokens in found]
    return torch.utils.data.DataLoader(
        as_rows, batch_size=1, collate_fn=lambda batch: {name: torch.tensor([batch[0][name]]) for name in batch[0]}
    )


def _longest(task: Task) -> int | None:
    """How many tokens the model can take at once, where its config says so."""
    found = getattr(_config(task).get_text_config(), "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def _config(task: Task) -> Any:
    from transformers import AutoConfig  # comes with llmcompressor

    try:
        return AutoConfig.from_pretrained(task.original, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise Refused("model", f"config.json is not understood: {_few_lines(error)}") from error


def _tokenizer(task: Task) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(task.original, trust_remote_code=False)
    except Exception as error:  # whatever the files hold; the library has no class of its own for this
        raise Refused("model", f"the tokenizer cannot be loaded: {_first_line(error)}") from error


def _model(task: Task) -> Any:
    from llmcompressor.modeling.moe.linearize import load_quantizable_moe
    from transformers import AutoModelForCausalLM

    _config(task)
    try:
        with load_quantizable_moe():
            return AutoModelForCausalLM.from_pretrained(
                task.original, dtype="auto", trust_remote_code=False, use_safetensors=True, local_files_only=True
            )
    except (OSError, ValueError, KeyError) as error:
        raise Refused("model", f"the model cannot be loaded: {_few_lines(error)}") from error


def _modifier(task: Task) -> Any:
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier

    what = {"config_groups": {"group_0": _scheme(task)}, "ignore": list(task.ignore)}
    return GPTQModifier(**what) if task.algorithm == "gptq" else QuantizationModifier(**what)


def _scheme(task: Task) -> Any:
    """The preset, with the group size that was asked for."""
    from compressed_tensors.quantization import (  # comes with llmcompressor
        QuantizationArgs,
        preset_name_to_scheme,
    )

    scheme = preset_name_to_scheme(task.scheme, ["Linear"])
    if task.group_size:
        shape: Mapping[str, Any] = (
            {"strategy": "channel", "group_size": None}
            if task.group_size < 0
            else {"strategy": "group", "group_size": task.group_size}
        )
        scheme.weights = QuantizationArgs(**{**scheme.weights.model_dump(exclude_unset=True), **shape})
    return scheme


def _count_layers(model: Any, tell: Tell) -> None:
    """Tell each layer that is through: the library calls back at its end, and has no hook of its own for others."""
    from llmcompressor.core import LifecycleCallbacks

    total = int(getattr(model.config.get_text_config(), "num_hidden_layers", 0)) + 1
    done = 0
    original = LifecycleCallbacks.sequential_epoch_end

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal done
        result = original(*args, **kwargs)
        done += 1
        tell("layer", done=min(done, total), total=total)
        return result

    LifecycleCallbacks.sequential_epoch_end = counted


def _first_line(error: BaseException) -> str:
    return quoted((str(error).splitlines() or [type(error).__name__])[0], 300)


def _few_lines(error: BaseException) -> str:
    return quoted(str(error), 600) or type(error).__name__
