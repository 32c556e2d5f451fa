"""The Hugging Face Hub, or a mirror of it, as a source.

The library `huggingface_hub` resolves the revision, lists the tree and tells one refusal from another; the bytes are
ranged GETs of our own.  Both travel over one `Wire`.  `source.py` is the store, `hub.py` the repository and the way to
it, `library.py` what the library is asked and `carrier.py` how its requests are carried, `ranges.py` the bytes,
`selection.py` which files, `refusals.py` what a refusal means.  See `docs/decisions/hugging-face.md`.
"""

from syncer.stores.huggingface.source import HuggingFaceSource

__all__ = ["HuggingFaceSource"]
