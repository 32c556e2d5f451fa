"""Which files of a repository are the model: pure.

Patterns have the Hub's own semantics (`*` crosses slashes, `folder/` is all below it).  Without allow patterns the
default takes everything but git's own `.gitattributes` and weights that are there twice.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from syncer.manifest import ModelFile

GIT_S_OWN: Final = "only git needs it"
THERE_AS_SAFETENSORS: Final = "the same weights are there as safetensors"
ORIGINAL: Final = "original/ has the same weights in their first format"
BY_PATTERN: Final = "the patterns leave it out"

_WEIGHTS: Final = re.compile(
    r"(?P<stem>.+)\.(?:bin|pth|pt|h5|msgpack)(?:\.index(?P<variant>\.[\w-]+)?\.json)?", re.ASCII
)
_SAFETENSORS: Final = re.compile(r"(?P<stem>.+)\.safetensors")
_SHARD: Final = re.compile(r"-(\d{5})-of-(\d{5})")
_NUMBERED: Final = re.compile(r"(?<=consolidated)\.\d\d$")
_SAME_MODEL: Final = {
    "pytorch_model": "model",
    "tf_model": "model",
    "flax_model": "model",
    "consolidated": "model",
    "diffusion_flax_model": "diffusion_pytorch_model",
    "open_clip_pytorch_model": "open_clip_model",
}
"""What frameworks call the weights that are `model.safetensors` (or the value here) as safetensors."""


@dataclass(frozen=True)
class Selection:
    """What is taken, and what is not, by reason."""

    taken: tuple[ModelFile, ...]
    left_out: Mapping[str, tuple[ModelFile, ...]]


def choose(files: Sequence[ModelFile], *, allow: Collection[str] = (), ignore: Collection[str] = ()) -> Selection:
    """Apply the patterns: `allow` replaces the default, `ignore` comes on top of either."""
    left: dict[str, list[ModelFile]] = defaultdict(list)
    reasons = {} if allow else _there_twice(files)
    for file in files:
        if file.path in reasons:
            left[reasons[file.path]].append(file)
    candidates = [file for file in files if file.path not in reasons]
    taken = _filter(candidates, allow, ignore)
    kept = {file.path for file in taken}
    if len(taken) != len(candidates):
        left[BY_PATTERN] = [file for file in candidates if file.path not in kept]
    return Selection(tuple(taken), {reason: tuple(those) for reason, those in left.items()})


def _filter(files: Iterable[ModelFile], allow: Collection[str], ignore: Collection[str]) -> list[ModelFile]:
    from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]  # exported, but not for type checkers

    return list(
        filter_repo_objects(
            files,
            allow_patterns=list(allow) or None,
            ignore_patterns=list(ignore) or None,
            key=lambda file: file.path,
        )
    )


def _there_twice(files: Sequence[ModelFile]) -> dict[str, str]:
    """By path why a file is not taken.

    Weights of another framework are left out only where the safetensors of the same folder are the same model, by name
    and variant (`fp16`) and with all their shards: `controlnet_depth.pth` beside `controlnet_canny.safetensors` is
    another model, `openvino_model.bin` is half of a pair, and `training_args.bin` is no model at all.
    """
    safetensors = _complete_safetensors(files)
    has_original = any(not path.startswith("original/") for path in _safetensors_paths(files))
    reasons = {}
    for file in files:
        folder, _, name = file.path.rpartition("/")
        if name == ".gitattributes":
            reasons[file.path] = GIT_S_OWN
        elif has_original and file.path.startswith("original/"):
            reasons[file.path] = ORIGINAL
        elif (found := _WEIGHTS.fullmatch(name)) and (
            (folder, _family(found["stem"] + (found["variant"] or ""))) in safetensors
        ):
            reasons[file.path] = THERE_AS_SAFETENSORS
    return reasons


def _safetensors_paths(files: Iterable[ModelFile]) -> list[str]:
    return [file.path for file in files if file.path.endswith(".safetensors")]


def _complete_safetensors(files: Iterable[ModelFile]) -> set[tuple[str, str]]:
    """Folder and family of all safetensors that are there with each of their shards."""
    shards: dict[tuple[str, str], int] = defaultdict(int)
    wanted: dict[tuple[str, str], int] = {}
    for path in _safetensors_paths(files):
        folder, _, name = path.rpartition("/")
        stem = name.removesuffix(".safetensors")
        key = (folder, _family(stem))
        if shard := _SHARD.search(stem):
            shards[key] += 1
            wanted[key] = int(shard[2])
        else:
            wanted[key] = 0
    return {key for key, count in wanted.items() if shards[key] >= count}


def _family(stem: str) -> str:
    """What is one model under different names: shards joined, framework names as one, variants (`.fp16`) kept."""
    whole = _NUMBERED.sub("", _SHARD.sub("", stem))
    name, dot, variant = whole.partition(".")
    return _SAME_MODEL.get(name, name) + dot + variant
