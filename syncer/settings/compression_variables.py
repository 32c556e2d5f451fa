"""The variables of compression; what they mean together is `compression.py`.

Their names are those of the pipelines of the field, which hand all of them on whether anybody compresses or not: so
most are text here, and looked at only when somebody does.
"""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict

from syncer.settings.defining import variable
from syncer.settings.values import AbsolutePath, Flag, Text, Words

SECTION: Final = "Compression"


class CompressionVariables(BaseModel):
    """The variables of this chapter."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, defer_build=True)

    compress: Flag = variable("COMPRESS_MODEL", False, SECTION, "Compress the model on its way")
    bits: Text = variable("BITS", "4", SECTION, "Bits of a weight, 4 or 8: the scheme is `W4A16` or `W8A16`")
    group_size: Text = variable(
        "GROUP_SIZE", "128", SECTION, "Weights that share a scale: 32, 64, 128, or -1 for one scale per row"
    )
    scheme: Text = variable(
        "COMPRESSION_SCHEME",
        "",
        SECTION,
        "A scheme by its name, instead of `BITS`: `W8A8`, `FP8_DYNAMIC`, …",
    )
    compression_ignore: Words = variable(
        "COMPRESSION_IGNORE",
        "lm_head",
        SECTION,
        "Layers to leave as they are, separated by spaces or commas, or a JSON list; `re:` begins a regular expression",
    )
    dataset: Text = variable(
        "DATASET",
        "",
        SECTION,
        "What calibrates: `c4` (the default where a scheme needs data), `wikitext`, `ultrachat_200k`, another data "
        "set of the Hub, or the absolute path of a file or folder",
    )
    sequence_length: Text = variable("SEQUENCE_LENGTH", "2048", SECTION, "Tokens of one sample, at most")
    samples: Text = variable("NUM_CALIBRATION_SAMPLES", "512", SECTION, "Samples that calibrate")
    compressed: AbsolutePath = variable(
        "S3_SYNC_COMPRESSED_PATH",
        None,
        SECTION,
        "Folder where an earlier step of a pipeline has left the compressed model: where `COMPRESS_MODEL` is true it "
        "is the source instead of the folder in `S3_SYNC_SRC__PATH`, and nothing is compressed in this step",
    )
    scratch: AbsolutePath = variable(
        "S3_SYNC_SCRATCH_DIR", None, SECTION, "Folder for original and result meanwhile; compression alone needs one"
    )
