"""How a model is compressed on its way: which scheme, by which algorithm, calibrated with what, and where.

The names are those of the pipelines of the field, which hand all of them on whether anybody compresses or not: so what
they say is looked at only when somebody does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from syncer.settings.addresses import parse_endpoint
from syncer.settings.hub import choose_token, forbidden_by
from syncer.settings.locations import (
    Algorithm,
    Compression,
    DestinationLocation,
    DirectoryLocation,
    HubDataset,
    SourceLocation,
    UploadedByHand,
)
from syncer.settings.reading import Reading
from syncer.settings.values import absolute_path, patterns

DEFAULT_DATASET: Final = "c4"

_ON: Final = "COMPRESS_MODEL"
_BITS: Final = "BITS"
_GROUP: Final = "GROUP_SIZE"
_SCHEME: Final = "COMPRESSION_SCHEME"
_IGNORE: Final = "COMPRESSION_IGNORE"
_DATASET: Final = "DATASET"
_LENGTH: Final = "SEQUENCE_LENGTH"
_SAMPLES: Final = "NUM_CALIBRATION_SAMPLES"
_SCRATCH: Final = "S3_SYNC_SCRATCH_DIR"

GROUP_SIZES: Final = (32, 64, 128)
"""What vLLM has kernels for (Marlin, Machete); -1 stands beside them for one scale per row of a weight."""

_HUB_NAME: Final = re.compile(r"[\w-][\w.-]{0,95}(?:/[\w-][\w.-]{0,95})?", re.ASCII)


@dataclass(frozen=True)
class Scheme:
    """What we know of one of llmcompressor's presets.

    `algorithm` is what is used where `DATASET` is not set; `with_data` where it is.  `grouped` says that `GROUP_SIZE`
    applies, `needs_data` that there is nothing to be had without samples, `bits` how many a weight has.
    """

    algorithm: Algorithm
    with_data: Algorithm
    bits: int
    needs_data: bool = False
    grouped: bool = False


_BY_GPTQ: Final = Scheme("gptq", "gptq", 4, needs_data=True, grouped=True)
_ROUNDED: Final = Scheme("rtn", "rtn", 8)
_ROUNDED_TO_4: Final = Scheme("rtn", "rtn", 4)

SCHEMES: Final = {
    "W4A16": _BY_GPTQ,
    "W4A16_ASYM": _BY_GPTQ,
    "W4A8": _BY_GPTQ,
    "W4AFP8": _BY_GPTQ,
    # Eight bits lose little by rounding, so that no data is asked for where nobody named any.
    "W8A16": Scheme("rtn", "gptq", 8, grouped=True),
    "W8A8": Scheme("rtn", "gptq", 8),
    "FP8": Scheme("calibrated", "calibrated", 8, needs_data=True),
    "FP8_DYNAMIC": _ROUNDED,
    "FP8_BLOCK": _ROUNDED,
    "MXFP8": _ROUNDED,
    "MXFP8A16": _ROUNDED,
    "MXFP4": _ROUNDED_TO_4,
    "MXFP4A16": _ROUNDED_TO_4,
    "NVFP4A16": _ROUNDED_TO_4,
    "NVFP4": Scheme("calibrated", "calibrated", 4, needs_data=True),
}
"""The presets of compressed-tensors 0.19 that a server of today has kernels for."""

_ALIASES: Final = {"INT8": "W8A8"}


def read_compression(
    reading: Reading,
    source: SourceLocation | None,
    destinations: tuple[DestinationLocation, ...],
    *,
    alone: bool = False,
) -> Compression | None:
    """What is to be done to the model; None when nothing is, or when there are problems, which are left in `reading`.

    `alone` is `syncer compress`, which goes from one folder to another, unless `COMPRESS_MODEL` is false.
    """
    variables = reading.variables
    if not variables.compress and (not alone or reading.is_set(_ON)):
        return None
    before = len(reading.problems)
    name, algorithm = _scheme(reading)
    needs_data = algorithm != "rtn"
    dataset = _dataset(reading) if needs_data else None
    # Pipelines hand their defaults on: only what somebody has chosen is worth a word.
    if not needs_data and variables.dataset not in {"", DEFAULT_DATASET}:
        reading.notes.append(f"{reading.layers.place(_DATASET)} has no effect: {name} needs no data")
    settings = Compression(
        scheme=name,
        algorithm=algorithm,
        bits=SCHEMES[name].bits,
        group_size=_group_size(reading, name),
        dataset=dataset,
        sequence_length=reading.attempt(_LENGTH, _between(16, 1_048_576), variables.sequence_length) or 0,
        samples=reading.attempt(_SAMPLES, _between(1, 100_000), variables.samples) or 0,
        ignore=reading.attempt(_IGNORE, patterns, variables.compression_ignore) or (),
        scratch=variables.scratch,
    )
    _check_places(reading, source, destinations, alone=alone)
    return settings if len(reading.problems) == before else None


def _scheme(reading: Reading) -> tuple[str, Algorithm]:
    """The scheme's name and the algorithm; the default's where that has a problem."""
    variables = reading.variables
    named = bool(variables.dataset)
    if variables.scheme:
        name = reading.attempt(_SCHEME, _known_scheme, variables.scheme)
        if name is not None and variables.bits not in {"4", str(SCHEMES[name].bits)}:
            reading.notes.append(f"{reading.layers.place(_BITS)} has no effect: {_SCHEME} says {name}")
        name = name or "W4A16"
        scheme = SCHEMES[name]
        return name, scheme.with_data if named else scheme.algorithm
    # Whoever asks for bits asks for what the pipelines do with them, and that is GPTQ.
    return reading.attempt(_BITS, _scheme_of_bits, variables.bits) or "W4A16", "gptq"


def _known_scheme(text: str) -> str:
    name = text.upper()
    name = _ALIASES.get(name, name)
    if name not in SCHEMES:
        raise ValueError(f"must be one of {', '.join(SCHEMES)}")
    return name


def _scheme_of_bits(text: str) -> str:
    if text not in {"4", "8"}:
        raise ValueError("must be 4 or 8: for other weights servers have no kernels (COMPRESSION_SCHEME has more)")
    return f"W{text}A16"


def _group_size(reading: Reading, scheme: str) -> int:
    size = reading.attempt(_GROUP, _known_group_size, reading.variables.group_size)
    if SCHEMES[scheme].grouped:
        return size or 0
    if reading.variables.group_size != "128":
        reading.notes.append(f"{reading.layers.place(_GROUP)} has no effect: {scheme} has groups of its own")
    return 0


def _known_group_size(text: str) -> int:
    sizes = {str(size): size for size in (*GROUP_SIZES, -1)}
    if text not in sizes:
        raise ValueError("must be 32, 64 or 128, or -1 for one scale per row")
    return sizes[text]


def _dataset(reading: Reading) -> Path | HubDataset | None:
    text = reading.variables.dataset or DEFAULT_DATASET
    if text.startswith(("/", "file:", ".", "~")):
        return reading.attempt(_DATASET, _local, text)
    if reading.attempt(_DATASET, _hub_name, text) is None:
        return None
    place = reading.layers.place(_DATASET)
    if forbidden := forbidden_by(reading):
        reading.problems.append(
            f"{place} is {text}, a data set of the Hugging Face Hub, which {forbidden} forbids to ask: set {_DATASET} "
            f"to the path of a file or folder with samples, or {_SCHEME} to one that needs no data, such as FP8_DYNAMIC"
        )
        return None
    endpoint = reading.attempt("HF_ENDPOINT", parse_endpoint, reading.variables.hf_endpoint)
    token = choose_token(reading)
    if token is not None:
        reading.check_plaintext("HF_ENDPOINT", endpoint or "")
    return HubDataset(text, endpoint=endpoint or "", token=token)


def _hub_name(text: str) -> str:
    if _HUB_NAME.fullmatch(text) is None or ".." in text:
        raise ValueError("must be a data set of the Hub such as c4 or owner/name, or an absolute path")
    return text


def _local(text: str) -> Path:
    path = absolute_path(unquote(urlsplit(text).path) if text.startswith("file:") else text)
    try:
        there = path.exists()
    except OSError:
        there = False
    if not there:
        raise ValueError("names a file or folder that does not exist")
    return path


def _between(least: int, most: int) -> Any:
    def understand(text: str) -> int:
        if re.fullmatch(r"[0-9]{1,9}", text) is None or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(text)

    return understand


def _check_places(
    reading: Reading, source: SourceLocation | None, destinations: tuple[DestinationLocation, ...], *, alone: bool
) -> None:
    """Report where the model cannot be compressed between these two ends."""
    scratch = reading.variables.scratch
    if alone:
        folders = (source, *destinations)
        if not all(isinstance(each, DirectoryLocation) for each in folders if each is not None):
            reading.problems.append(
                "syncer compress goes from one directory to another: S3_SYNC_SRC__PATH and S3_SYNC_DEST__PATH must "
                "both be paths"
            )
        return
    place = reading.layers.place(_ON)
    if isinstance(source, UploadedByHand):
        reading.problems.append(
            f"{place} is set, but a model that was uploaded by hand stays as it is: unset one of the two"
        )
    if scratch is None and not reading.is_set(_SCRATCH):
        reading.problems.append(
            f"{place} is set but {_SCRATCH} is missing: a folder on a volume with room for the original and the result"
        )
    for folder in (source, *destinations):
        if scratch is not None and isinstance(folder, DirectoryLocation) and _overlap(scratch, folder.path):
            reading.problems.append(
                f"{reading.layers.place(_SCRATCH)} and {folder.uri} lie one inside the other: scratch needs its own"
            )


def _overlap(one: Path, other: Path) -> bool:
    one, other = one.resolve(), other.resolve()
    return one == other or one in other.parents or other in one.parents
